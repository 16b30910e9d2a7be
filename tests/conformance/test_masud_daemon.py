"""masud as a program: its start, its sockets, its signals, its end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.engine import Masu, wait_until
from harness.masud import MASUD, Masud

import masu

pytestmark = pytest.mark.root


@pytest.fixture
def masud(tmp_path: Path) -> Iterator[Masud]:
    with Masud(tmp_path) as it:
        yield it


def test_version(masud: Masud) -> None:
    said = masud("version")
    assert f"+masu.{masu.__version__}" in said
    told = subprocess.run([MASUD, "--version"], capture_output=True, text=True, check=True).stdout
    assert told == f"masud version {masu.__version__}\n"


def test_the_socket_is_roots(masud: Masud) -> None:
    assert stat.S_IMODE(masud.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(masud.state.stat().st_mode) == 0o700


def test_a_socket_for_a_group(tmp_path: Path) -> None:
    place = tmp_path / "shared/containerd.sock"
    it = Masud(tmp_path, f'version = 3\n[grpc]\naddress = "{place}"\ngid = 4711\n')
    it.socket = place
    with it:
        assert "masu" in it("version")
        assert (place.stat().st_gid, stat.S_IMODE(place.stat().st_mode)) == (4711, 0o660)
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o711


def test_a_long_path(tmp_path: Path) -> None:
    it = Masud(tmp_path)
    it.socket = tmp_path / ("long-" * 20) / "containerd.sock"
    it.start("--address", str(it.socket))
    # ctr cannot name it; through a link it can.
    (tmp_path / "short").symlink_to(it.socket.parent)
    short, it.socket = it.socket, tmp_path / "short/containerd.sock"
    assert "masu" in it("version")
    it.socket = short
    it.stop()


def test_two_at_one_address(masud: Masud, tmp_path: Path) -> None:
    words = [MASUD, "--root", str(tmp_path / "other"), "--state", str(masud.state)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "already exists: a daemon listens there" in done.stderr
    assert "masu" in masud("version")


def test_killed_and_started_again(masud: Masud) -> None:
    masud.kill()
    assert masud.socket.exists()
    masud.start()
    assert "masu" in masud("version")


def test_reload(masud: Masud) -> None:
    masud.config.write_text('version = 3\n[debug]\nformat = "json"\n[grpc]\nadress = ""\n')
    masud.process.send_signal(signal.SIGHUP)
    wait_until(lambda: '"msg": "read the configuration again"' in masud.log())
    assert 'did you mean \\"address\\"?' in masud.log()
    masud.config.write_text("version = 1\n")
    masud.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the configuration stays as it was" in masud.log())
    assert "masu" in masud("version")


def test_stacks_on_a_signal(masud: Masud) -> None:
    masud.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: "most recent call first" in masud.log())
    assert "masu" in masud("version")


def test_nobody_answers_to_garbage(masud: Masud) -> None:
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(str(masud.socket))
        talk.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(1000))
        while talk.recv(4096):
            pass
    assert "masu" in masud("version")


def test_config_verbs(tmp_path: Path) -> None:
    def config(*words: str) -> dict[str, object]:
        done = subprocess.run([MASUD, *words], capture_output=True, text=True, check=True)
        return tomllib.loads(done.stdout)

    old = tmp_path / "config.toml"
    old.write_text('version = 2\nroot = "/x"\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/y"\n')
    assert config("config", "default")["version"] == 3
    for verb in ("dump", "migrate"):
        found = config("--config", str(old), "--state", "/z", "config", verb)
        assert (found["version"], found["root"], found["state"]) == (3, "/x", "/z")
        assert found["plugins"]["io.containerd.cri.v1.images"]["registry"]["config_path"] == "/y"  # type: ignore[index]


def test_metrics(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    with Masud(tmp_path, f'version = 3\n[metrics]\naddress = "{address}"\n') as it:
        masu = Masu(tmp_path)
        it("namespaces", "create", "counted")
        it.fails("namespaces", "create", "counted")
        masu("run", "-d", "--name", "measured", masu.image("busybox"), "sleep", "1000")
        with urllib.request.urlopen(f"http://{address}/v1/metrics") as answer:
            page = answer.read().decode()
        masu.close()
    found = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    method = 'grpc_type="unary",grpc_service="containerd.services.namespaces.v1.Namespaces",grpc_method="Create"'
    assert found[f"grpc_server_started_total{{{method}}}"] == "2"
    assert found[f'grpc_server_handled_total{{grpc_code="OK",{method}}}'] == "1"
    assert found[f'grpc_server_handled_total{{grpc_code="AlreadyExists",{method}}}'] == "1"
    assert int(found["process_resident_memory_bytes"]) > 10 << 20
    assert found["masud_event_subscribers"] == "1"  # its own
    (pids,) = [value for name, value in found.items() if name.startswith("container_pids_current{")]
    assert pids == "1"
    assert any(name.startswith("container_memory_usage") for name in found)


def test_debug_socket(tmp_path: Path) -> None:
    place = tmp_path / "debug/debug.sock"
    with Masud(tmp_path, f'version = 3\n[debug]\naddress = "{place}"\n') as it:
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        said = it("pprof", "--debug-socket", str(place), "goroutines")
        assert "task events:" in said
        assert "thread MainThread:" in said
        assert "feed.py" in said
    assert not place.exists()
