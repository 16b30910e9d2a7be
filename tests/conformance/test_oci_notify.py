"""NOTIFY_SOCKET: the container says that it is ready, the service manager hears it (sd_notify(3))."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, wait_exited
from harness.servicemanager import Manager

pytestmark = pytest.mark.root

READY = ["notify", "STATUS=soon", "--", "notify", "STATUS=now\nREADY=1\nERRNO=0", "--", "notify", "READY=1"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: runc has its own socket below it, and a socket's address ends after 107 bytes (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="masu-") as folder:
        yield Path(folder)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    with Manager(str(tmp_path / "m") if request.param == "path" else f"\0masu-test-{os.urandom(6).hex()}") as it:
        yield it


@pytest.fixture
def called() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts runtimes that wait; ends those that still do."""
    running: list[subprocess.Popen[bytes]] = []

    def call(runtime: Runtime, manager: Manager, *words: str) -> subprocess.Popen[bytes]:
        nothing = subprocess.DEVNULL
        with (runtime.folder / "told").open("wb") as told:
            running.append(
                subprocess.Popen([*runtime.command, *words], env=manager.env, stdin=nothing, stdout=told, stderr=told)
            )
        return running[-1]

    yield call
    for process in running:
        process.kill()
        process.wait()


def probing(*args: str, **more: Any) -> Any:
    return lambda config: config["process"].update(args=["/bin/probe", *args], **more)


def test_start_waits_until_the_manager_knows(
    runtime: Runtime, own_probe_rootfs: Path, manager: Manager, called: Callable[..., subprocess.Popen[bytes]]
) -> None:
    id = runtime.id()
    # runc passes the READY=1 of a message on only when it begins with it.
    words = READY[3:] if runtime.name == "masu-oci" else READY[6:]
    bundle = runtime.bundle(own_probe_rootfs, probing(*words, "--", "sleep"))
    runtime("create", "--bundle", str(bundle), id, env=manager.env)
    pid = runtime.state(id)["pid"]
    assert manager.heard_nothing()
    starting = called(runtime, manager, "start", id)
    assert manager.take_ready() == str(pid)
    if runtime.name == "masu-oci":  # runc since 1.2
        barrier = manager.take_barrier()
        assert starting.poll() is None
        os.close(barrier)
    assert starting.wait(30) == 0
    assert runtime.state(id)["status"] == "running"
    runtime("delete", "--force", id)
    assert list(runtime.root.iterdir()) == []


def test_run_detached(
    runtime: Runtime, own_probe_rootfs: Path, manager: Manager, called: Callable[..., subprocess.Popen[bytes]]
) -> None:
    id = runtime.id()
    bundle = runtime.bundle(own_probe_rootfs, probing("notify", "READY=1", "--", "sleep"))
    running = called(runtime, manager, "run", "-d", "--bundle", str(bundle), id)
    main = manager.take_ready()
    if runtime.name == "masu-oci":
        os.close(manager.take_barrier())
    assert running.wait(30) == 0
    assert main == str(runtime.state(id)["pid"])


def test_one_that_is_never_ready(
    runtime: Runtime, own_probe_rootfs: Path, manager: Manager, called: Callable[..., subprocess.Popen[bytes]]
) -> None:
    id = runtime.id()
    bundle = runtime.bundle(own_probe_rootfs, probing("notify", "READY=0", "--", "notify", "STATUS=READY=1"))
    running = called(runtime, manager, "run", "-d", "--bundle", str(bundle), id)
    if runtime.name == "masu-oci":
        assert running.wait(30) == 0
        assert manager.heard_nothing()
        runtime("delete", id)
    else:  # runc passes every value on
        assert manager.take()[0] == "READY=0\n"
        assert running.wait(30) == 0


def test_ready_with_the_last_words(
    masu_oci: Runtime, own_probe_rootfs: Path, manager: Manager, called: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """The message and the end of the process may be seen at once."""
    bundle = str(masu_oci.bundle(own_probe_rootfs, probing("notify", "READY=1")))
    for words in (["run", "-d"], ["run"]):
        running = called(masu_oci, manager, *words, "--bundle", bundle, masu_oci.id())
        assert manager.take_ready()
        os.close(manager.take_barrier())
        assert running.wait(30) == 0


def test_run_in_the_foreground_is_watched_itself(
    masu_oci: Runtime, own_probe_rootfs: Path, manager: Manager, called: Callable[..., subprocess.Popen[bytes]]
) -> None:
    id = masu_oci.id()
    bundle = masu_oci.bundle(own_probe_rootfs, probing(*READY, "--", "wait", "15"))
    running = called(masu_oci, manager, "run", "--bundle", str(bundle), id)
    assert manager.take_ready() == str(running.pid)
    os.close(manager.take_barrier())
    while "ready" not in (masu_oci.folder / "told").read_text():
        assert running.poll() is None
    assert manager.heard_nothing()  # once is enough
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0
    assert list(masu_oci.root.iterdir()) == []


def test_what_the_container_sees(masu_oci: Runtime, own_probe_rootfs: Path, manager: Manager) -> None:
    """A directory that it cannot change, and the variable; an exec gets neither socket nor variable of its own."""
    id = masu_oci.id()
    bundle = masu_oci.bundle(own_probe_rootfs, probing("sleep"))
    masu_oci("create", "--bundle", str(bundle), id, env=manager.env)
    pid = masu_oci.state(id)["pid"]
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    options = next(line[5] for line in mounts if line[4] == "/run/notify").split(",")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options)
    assert masu_oci("exec", id, "/bin/probe", "create", "/run/notify/x", "x").stdout == "ERROR EROFS\n"
    assert masu_oci("exec", id, "/bin/probe", "env", "NOTIFY_SOCKET").stdout == "(unset)\n"


def test_without_rights(
    masu_oci: Runtime, own_probe_rootfs: Path, manager: Manager, called: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Any user of a user namespace reaches the socket, below a path that is longer than a socket's may be."""
    masu_oci.root = masu_oci.folder / ("long" * 20) / "root"
    masu_oci.command[-1] = str(masu_oci.root)

    def mapped(config: dict[str, Any]) -> None:
        config["process"].update(args=["/bin/probe", "notify", "READY=1", "--", "sleep"], user={"uid": 5, "gid": 5})
        config["linux"]["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 100000, "size": 1000}]
        config["linux"].update(uidMappings=mapping, gidMappings=mapping)

    for folder in (own_probe_rootfs, *own_probe_rootfs.rglob("*")):
        os.chown(folder, 100000, 100000)
    for folder in own_probe_rootfs.resolve().parents[:3]:
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    running = called(masu_oci, manager, "run", "-d", "--bundle", str(masu_oci.bundle(own_probe_rootfs, mapped)),
                     masu_oci.id())  # fmt: skip
    assert manager.take_ready()
    os.close(manager.take_barrier())
    assert running.wait(30) == 0


def test_nobody_listens(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path) -> None:
    """The program runs all the same."""
    for address in (str(tmp_path / "nobody"), "@masu-test-nobody", "x" * 200):
        id = masu_oci.id()
        bundle = masu_oci.bundle(own_probe_rootfs, probing("sleep"))
        done = masu_oci("run", "-d", "--bundle", str(bundle), id, env={**os.environ, "NOTIFY_SOCKET": address})
        assert "NOTIFY_SOCKET: tell the service manager" in done.stderr
        assert masu_oci.state(id)["status"] == "running"


def test_a_start_without_a_create(masu_oci: Runtime, own_probe_rootfs: Path, manager: Manager) -> None:
    """A container that was made without a socket is started at once."""
    id = masu_oci.id()
    masu_oci("create", "--bundle", str(masu_oci.bundle(own_probe_rootfs, probing("sleep"))), id)
    masu_oci("start", id, env=manager.env)
    assert masu_oci.state(id)["status"] == "running"
    assert manager.heard_nothing()


def test_killed_while_it_waits(
    masu_oci: Runtime, own_probe_rootfs: Path, manager: Manager, called: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """What it leaves is found by `delete`; the container's words are refused, not queued for ever."""
    id = masu_oci.id()
    bundle = masu_oci.bundle(own_probe_rootfs, probing("echo", "ready", "--", "wait", "10", "--", "notify", "READY=1"))
    masu_oci("create", "--bundle", str(bundle), id, env=manager.env)
    pid = masu_oci.state(id)["pid"]
    starting = called(masu_oci, manager, "start", id)
    while masu_oci.state(id)["status"] != "running":
        assert starting.poll() is None
    starting.kill()
    starting.wait()
    while b"SigCgt:\t0000000000000000" in Path(f"/proc/{pid}/status").read_bytes():
        pass  # not before it waits for the signal
    os.kill(pid, signal.SIGUSR1)
    wait_exited(pid)
    assert manager.heard_nothing()
    masu_oci("delete", id)
    assert list(masu_oci.root.iterdir()) == []
