"""nerdctl on masud: containers with published ports by CNI, logs, exec, cp, commit, volumes, networks, compose.

Daemon and client are in a network namespace of their own, which is the host to them: bridges, addresses and rules of
iptables are made there and go with it; so is what the plugins note about them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.callers.archives import archive
from harness.engine import wait_until
from harness.masud import COLLECT_WHEN_ASKED, Masud

from peers import gomodules

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

IMAGE = "docker.io/library/busybox:latest"
CNI = Path("/usr/lib/cni")
FETCH = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
RESTART = '[plugins."io.containerd.monitor.container.v1.restart"]\ninterval = "200ms"\n'
WEB = "mkdir /w; echo hi > /w/index.html; exec httpd -f -p 80 -h /w"
COMPOSE = f"""
services:
  one:
    image: {IMAGE}
    command: sh -c "mkdir /w; echo from-one > /w/index.html; exec httpd -f -p 80 -h /w"
    stop_grace_period: 0s
  two:
    image: {IMAGE}
    command: sh -c "until wget -q -O - http://one/; do sleep 0.2; done; exec sleep 1000"
    stop_grace_period: 0s
"""


class Host:
    """A network namespace with a masud in it, and nerdctl there."""

    def __init__(self, folder: Path) -> None:
        if not (CNI / "bridge").exists():
            pytest.skip("containernetworking-plugins is not installed")
        program = gomodules.nerdctl()
        self.folder = folder
        # nerdctl and the CNI plugins keep what they know in fixed places, which are not the machine's.
        places = ("/var/lib/cni", "/run/nerdctl")
        self._made = [place for place in map(Path, places) if not place.exists()]
        for place in self._made:
            place.mkdir()
        mounts = "".join(f"mount -t tmpfs none {place}; " for place in places)
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-ec", f"{mounts} ip link set lo up; echo up; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        self.inside = ["nsenter", "-t", str(self._holder.pid), "--net", "--mount"]
        self.masud = Masud(folder, "version = 3\n" + COLLECT_WHEN_ASKED + RESTART)
        self.masud.prefix = self.inside
        self.masud.start()
        self.masud("images", "import", "--base-name", "docker.io/library/busybox", str(archive("busybox", folder)))
        self.words = [
            *self.inside, str(program), "--address", str(self.masud.socket), "--namespace", "default",
            "--data-root", str(folder / "nerdctl"), "--cgroup-manager", "cgroupfs",
            "--cni-path", str(CNI), "--cni-netconfpath", str(folder / "cni"),
        ]  # fmt: skip
        self.environment = {**os.environ, "NERDCTL_TOML": "/nonexistent", "HOME": str(folder)}

    def try_(self, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        command = [*self.words, *words]
        return subprocess.run(
            command, input=input, capture_output=True, text=True, check=False, timeout=120, env=self.environment
        )

    def __call__(self, *words: str, input: str = "") -> str:
        done = self.try_(*words, input=input)
        assert done.returncode == 0, f"nerdctl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def fetch(self, url: str) -> str:
        done = subprocess.run(
            [*self.inside, sys.executable, "-c", FETCH, url], capture_output=True, text=True, check=False
        )
        return done.stdout

    def close(self) -> None:
        for id in self("ps", "-aq").split():
            self("rm", "-f", id)
        self.masud.stop()
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        for place in self._made:
            place.rmdir()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    it = Host(tmp_path_factory.mktemp("nerdctl"))
    try:
        yield it
    finally:
        it.close()


def test_started_again(host: Host) -> None:
    host("run", "-d", "--name", "again", "--restart", "always", "--net", "none", IMAGE, "sh", "-c", "echo once more")
    wait_until(lambda: host("logs", "again").count("once more") >= 3)
    assert int(host("inspect", "--format", "{{.RestartCount}}", "again")) >= 2
    host("rm", "-f", "again")


def test_a_life(host: Host, tmp_path: Path) -> None:
    assert host("run", "--rm", "--net", "none", IMAGE, "echo", "hello") == "hello\n"
    assert host.try_("run", "--rm", "--net", "none", IMAGE, "sh", "-c", "exit 7").returncode == 7
    host("run", "-d", "--name", "bg", "--net", "none", IMAGE, "sh", "-c", "echo logged; exec sleep 1000")
    assert re.search(r"busybox:latest .* Up .* bg$", host("ps").strip(), re.MULTILINE)
    wait_until(lambda: host("logs", "bg") == "logged\n")
    assert host("exec", "bg", "echo", "inside") == "inside\n"
    assert re.search(r"bg +0\.\d+% ", host("stats", "--no-stream", "bg"))
    assert host("inspect", "--format", "{{.State.Status}}", "bg") == "running\n"
    (tmp_path / "file").write_text("copied\n")
    host("cp", str(tmp_path / "file"), "bg:/tmp/file")
    assert host("exec", "bg", "cat", "/tmp/file") == "copied\n"
    host("commit", "bg", "mine:1")
    assert host("run", "--rm", "--net", "none", "mine:1", "cat", "/tmp/file") == "copied\n"
    command = ("run", "--rm", "-i", "--net", "none", IMAGE, "cat")
    for _ in range(3):
        assert host(*command, input="through") == "through"
    host("pause", "bg")
    assert host("inspect", "--format", "{{.State.Status}}", "bg") == "paused\n"
    host("unpause", "bg")
    assert "sleep 1000" in host("top", "bg")
    host("stop", "-t", "1", "bg")
    assert "Exited (137)" in host("ps", "-a")
    host("start", "bg")
    host("kill", "bg")
    host("rm", "-f", "bg")
    host("save", "-o", str(tmp_path / "mine.tar"), "mine:1")
    host("rmi", "mine:1")
    assert "mine:1" in host("load", "-i", str(tmp_path / "mine.tar"))


def test_volumes(host: Host) -> None:
    host("volume", "create", "kept")
    host("run", "--rm", "--net", "none", "-v", "kept:/v", IMAGE, "touch", "/v/x")
    assert host("run", "--rm", "--net", "none", "-v", "kept:/v", IMAGE, "ls", "/v") == "x\n"
    host("volume", "rm", "kept")


def test_a_published_port(host: Host) -> None:
    host("run", "-d", "--name", "web", "-p", "127.0.0.1:18080:80", IMAGE, "sh", "-c", WEB)
    assert "127.0.0.1:18080->80/tcp" in host("ps")
    wait_until(lambda: host.fetch("http://127.0.0.1:18080/index.html") == "hi\n")
    assert "web" in host("exec", "web", "cat", "/etc/hosts")
    host("network", "create", "another")
    assert "another" in host("network", "ls")
    host("network", "rm", "another")
    host("rm", "-f", "web")
    assert host.fetch("http://127.0.0.1:18080/index.html") == ""


def test_two_services(host: Host) -> None:
    file = host.folder / "compose.yaml"
    file.write_text(COMPOSE)
    host("compose", "-f", str(file), "up", "-d")
    try:
        assert host("compose", "-f", str(file), "ps").count("running") == 2
        wait_until(lambda: host("compose", "-f", str(file), "logs", "--no-log-prefix", "two") == "from-one\n", 60)
    finally:
        host("compose", "-f", str(file), "down")
    assert host("ps", "-aq") == ""
