"""containerd's own clients of today on masud: a Go program with the client of 1.7 and of 2.x, and ctr 2.x."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from harness.masud import COLLECT_WHEN_ASKED, Masud
from registryfixture import DockerRegistry, docker_registry

from peers import gomodules

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if docker_registry() is None:
        pytest.skip("docker-registry is not installed")
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as it:
        for name in ("busybox", "redis"):
            images.push(name, it.host)
        yield it.host


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masud]:
    with Masud(tmp_path_factory.mktemp("masud"), "version = 3\n" + COLLECT_WHEN_ASKED) as it:
        yield it


@pytest.mark.parametrize("version", gomodules.CLIENTS)
def test_a_go_program(masud: Masud, registry: str, version: str) -> None:
    program = gomodules.client(version)
    for _ in range(2):  # the second time nothing is pulled
        command = [str(program), str(masud.socket), f"{registry}/library/redis:latest"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "redis-server exited with status: 0" in done.stdout
        assert "Ready to accept connections" in done.stdout
        assert "bye bye" in done.stdout
    assert masud("containers", "ls", "-q", namespace="example") == ""
    assert masud("tasks", "ls", "-q", namespace="example") == ""
    assert "redis-server-snapshot" not in masud("snapshots", "ls", namespace="example")


class NewCtr:
    """ctr 2.x at masud's socket."""

    def __init__(self, masud: Masud) -> None:
        self._words = [str(gomodules.ctr()), "--address", str(masud.socket), "--namespace", "new"]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [*self._words, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"ctr {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout


def test_images_of_ctr(masud: Masud, registry: str, tmp_path: Path) -> None:
    ctr, name = NewCtr(masud), f"{registry}/library/busybox:latest"
    assert "+masu." in ctr("version")
    assert re.search(r"io\.containerd\.transfer\.v1 +local .* ok", ctr("plugins", "ls"))
    assert "saved" in ctr("images", "pull", "--plain-http", name)
    ctr("images", "pull", "--plain-http", name)
    assert "complete" in ctr("images", "check")
    ctr("images", "tag", name, "two:2")
    assert "pushed content" in ctr("images", "push", "--plain-http", f"{registry}/pushed/by-ctr:2", "two:2")
    ctr("images", "export", str(tmp_path / "two.tar"), "two:2")
    ctr("images", "rm", "two:2")
    ctr("images", "import", str(tmp_path / "two.tar"))
    ctr("images", "import", "--base-name", "foo", "--digests", str(tmp_path / "two.tar"))
    ctr("images", "tag", name, "three:3")
    ctr("images", "export", str(tmp_path / "both.tar"), name, "three:3")
    ctr("images", "import", "--index-name", "both:1", str(tmp_path / "both.tar"))
    assert re.search(r"^both:1 ", ctr("images", "ls"), re.MULTILINE)
    ctr("images", "convert", "--uncompress", name, "plain:1")
    names = ctr("images", "ls", "-q").split()
    assert {name, "two:2", "plain:1"} <= set(names)
    (tmp_path / "mounted").mkdir()
    ctr("images", "mount", name, str(tmp_path / "mounted"))
    try:
        assert (tmp_path / "mounted/bin/busybox").exists()
    finally:
        ctr("images", "unmount", "--rm", str(tmp_path / "mounted"))
    assert ctr("deprecations", "list") == ""
    assert '"ociVersionMax": "1.3.0"' in ctr("plugins", "inspect-runtime")


def test_containers_of_ctr(masud: Masud, registry: str) -> None:
    ctr, name = NewCtr(masud), f"{registry}/library/busybox:latest"
    ctr("images", "pull", "--plain-http", name)
    assert ctr("run", "--rm", name, "once", "echo", "hello") == "hello\n"
    ctr("run", "-d", name, "stays", "sleep", "1000")
    assert re.search(r"^stays +\d+ +RUNNING", ctr("tasks", "ls"), re.MULTILINE)
    assert ctr("tasks", "exec", "--exec-id", "one", "stays", "echo", "inside") == "inside\n"
    assert "pids.current" in ctr("tasks", "metrics", "stays")
    ctr("tasks", "pause", "stays")
    ctr("tasks", "resume", "stays")
    ctr("tasks", "rm", "-f", "stays")
    ctr("containers", "rm", "stays")
    maps = ("--uidmap", "0:70000:1000", "--gidmap", "0:80000:1000", "--remap-labels")
    script = "stat -c '%u %g' / /bin/busybox; cat /proc/self/uid_map"
    said = ctr("run", "--rm", *maps, name, "mapped", "sh", "-c", script).split()
    assert said == ["0"] * 5 + ["70000", "1000"]
    assert ctr("containers", "ls", "-q") == ""


def test_sandboxes_of_ctr(masud: Masud, tmp_path: Path) -> None:
    ctr = NewCtr(masud)
    (tmp_path / "pod.json").write_text('{"metadata": {"name": "p", "uid": "u", "namespace": "n"}}')
    ctr("sandboxes", "run", str(tmp_path / "pod.json"), "box")
    assert "box" in ctr("sandboxes", "ls")
    assert '"Sandboxer": "shim"' in ctr("sandboxes", "info", "box")
    ctr("sandboxes", "rm", "box")
    assert "box" not in ctr("sandboxes", "ls")
