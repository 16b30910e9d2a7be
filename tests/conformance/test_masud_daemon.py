"""masud as a program: its start, its sockets, its signals, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any
from harness.engine import Masu, wait_until
from harness.masud import MASUD, Masud

import masu
from masu.api.proto import small
from masu.api.ttrpc.client import Client as TtrpcClient

pytestmark = pytest.mark.root

EVENTS_BY_TTRPC = "containerd.services.events.ttrpc.v1.Events"


def envelope() -> small.Envelope:
    return small.Envelope(
        timestamp=small.Timestamp(seconds=1_700_000_000, nanos=5),
        namespace="x",
        topic="/tasks/oom",
        event=small.Any(type_url="containerd.events.TaskOOM", value=b"\n\x03abc"),
    )


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


def test_two_state_directories_for_one_root(masud: Masud, tmp_path: Path) -> None:
    """The second would take what runs by the first for what a reboot has ended."""
    words = [MASUD, "--root", str(masud.root), "--state", str(tmp_path / "other")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{masud.root} belongs to {masud.state}" in done.stderr
    assert f"--state {masud.state}" in done.stderr
    second = Masud(tmp_path)
    second.socket = tmp_path / "second.sock"
    second.start("--address", str(second.socket))
    second("namespaces", "create", "by-the-second")
    assert "by-the-second" in masud("namespaces", "ls")
    second.stop()
    masud.stop()
    # Nothing runs: it may move.
    masud.state = tmp_path / "other"
    masud.socket = masud.state / "containerd.sock"
    masud.start()


@pytest.mark.parametrize("option", ["--state", "--address"])
def test_places_that_cannot_be(tmp_path: Path, option: str) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file/x", tmp_path / ("x" * 300) / "x"):
        words = [MASUD, "--root", str(tmp_path / "root"), "--state", str(tmp_path / "run"), option, str(place)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("masud: ")
        assert len(done.stderr.splitlines()) == 1


def test_many_start_at_once(tmp_path: Path) -> None:
    """One of them serves, whoever was killed before."""
    it = Masud(tmp_path)
    it.start()
    it.kill()
    words = [MASUD, "--config", str(it.config), "--root", str(it.root), "--state", str(it.state)]
    started = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    wait_until(lambda: sum(each.poll() is None for each in started) == 1)
    assert "masu" in it("version")
    for each in started:
        if each.poll() is None:
            each.terminate()
            assert each.wait(30) == 0
        else:
            assert each.stderr is not None
            assert "a daemon listens there" in each.stderr.read()
        each.communicate()
    assert not it.socket.exists()


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


def test_few_descriptors(tmp_path: Path) -> None:
    words = ["prlimit", "--nofile=64", MASUD, "--root", str(tmp_path / "root"), "--state", str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "limit of open files 64: masud needs 256" in done.stderr


def test_more_clients_than_descriptors(tmp_path: Path) -> None:
    """They wait, or are sent away; who is there is served, and who comes when they have gone."""
    it = Masud(tmp_path)
    it.prefix = ["prlimit", "--nofile=256"]
    with it, TtrpcClient(f"{it.socket}.ttrpc") as early, ExitStack() as clients:

        def come(address: str) -> None:
            clients.enter_context(socket.socket(socket.AF_UNIX)).connect(address)

        for _ in range(200):
            come(str(it.socket))
        wait_until(lambda: "clients wait" in it.log())
        for _ in range(100):
            come(f"{it.socket}.ttrpc")
        early.call(EVENTS_BY_TTRPC, "Forward", small.ForwardRequest(envelope=envelope()), small.Empty)
        assert len(os.listdir(f"/proc/{it.process.pid}/fd")) < 256
        clients.close()
        assert "masu" in it("version")
        assert it.log().count("clients wait") == 1


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
        assert "task exits:" in said
        assert "thread MainThread:" in said
        assert "exits.py" in said
    assert not place.exists()


def test_socket_activation(tmp_path: Path) -> None:
    """The service manager's socket serves; who came before the daemon is served, too; it stays when the daemon ends."""
    it = Masud(tmp_path)
    it.socket = tmp_path / "activated.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(it.socket))
        listening.listen()
        early = subprocess.Popen(it.words("version"), stdout=subprocess.PIPE, text=True)
        it.start(inherit=listening.fileno())
        assert "+masu." in early.communicate(timeout=30)[0]
        assert early.returncode == 0
        it("namespaces", "create", "activated")
        assert "activated" in it("namespaces", "ls")
        assert not (it.state / "containerd.sock").exists()
        it.process.terminate()
        assert it.process.wait(30) == 0
    assert it.socket.exists()
    assert "Traceback" not in it.log()


def test_publish(masud: Masud) -> None:
    event = Any(type_url="containerd.events.ContainerDelete", value=b"\n\x03abc").SerializeToString()
    with masud.popen("events") as listening:
        assert listening.stdout is not None
        words = [MASUD, "--address", str(masud.socket), "publish", "--namespace", "x", "--topic", "/containers/delete"]
        # Until the listener is there; then the first that it says is ours.
        said = b""
        os.set_blocking(listening.stdout.fileno(), False)
        while b"/containers/delete" not in said:
            subprocess.run(words, input=event, check=True)
            said += listening.stdout.read() or b""
        assert b'x /containers/delete {"id":"abc"}' in said
        listening.terminate()
    wrong = subprocess.run(words, input=b"\xff", capture_output=True, text=False, check=False)
    assert (wrong.returncode, b"no protobuf Any" in wrong.stderr) == (1, True)
    words[2] = str(masud.folder / "nobody.sock")
    assert b"unavailable" in subprocess.run(words, input=event, capture_output=True, check=False).stderr


def test_oci_hook(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"root": {"path": "rootfs"}}')
    state = {"id": "c1", "bundle": str(tmp_path), "pid": 7, "status": "created", "annotations": {"a b": "c"}}

    def hook(*words: str) -> subprocess.CompletedProcess[str]:
        command = [MASUD, "oci-hook", "--", *words]
        environment = {**os.environ, "HOOK_ID": "id={{id}}"}
        return subprocess.run(
            command, input=json.dumps(state), capture_output=True, text=True, check=False, env=environment
        )

    said = hook("/bin/echo", "{{id}}", "{{ pid }}", "{{rootfs}}/etc", '{{annotation "a b"}}', "{{status}}")
    assert said.stdout == f"c1 7 {tmp_path}/rootfs/etc c created\n"
    assert hook("/bin/sh", "-c", "echo $HOOK_ID").stdout == "id=c1\n"
    assert "known are id, bundle" in hook("/bin/echo", "{{nothing}}").stderr
    assert "more than these words" in hook("/bin/echo", "{{if x}}").stderr
    assert "ENOENT" in hook("/nothing").stderr


def test_plugins_that_are_disabled_or_required(tmp_path: Path) -> None:
    config = 'version = 3\ndisabled_plugins = ["io.containerd.grpc.v1.leases"]\n'
    with Masud(tmp_path, config + 'required_plugins = ["io.containerd.snapshotter.v1.native"]\n') as it:
        assert "leases" not in it("plugins", "ls")
        assert "not implemented" in it.fails("leases", "ls")
    it.config.write_text(config + 'required_plugins = ["io.containerd.grpc.v1.lease"]\n')
    words = [MASUD, "--config", str(it.config), "--root", str(it.root), "--state", str(it.state)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "required plugin io.containerd.grpc.v1.lease: there is none" in done.stderr
    assert not it.socket.exists()


def test_shims_send_events_by_ttrpc(masud: Masud) -> None:
    place = Path(f"{masud.socket}.ttrpc")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    with masud.popen("events") as listening, TtrpcClient(str(place)) as client:
        assert listening.stdout is not None
        said = b""
        os.set_blocking(listening.stdout.fileno(), False)
        while b"/tasks/oom" not in said:
            client.call(EVENTS_BY_TTRPC, "Forward", small.ForwardRequest(envelope=envelope()), small.Empty)
            said += listening.stdout.read() or b""
        assert b'x /tasks/oom {"container_id":"abc"}' in said
        listening.terminate()
