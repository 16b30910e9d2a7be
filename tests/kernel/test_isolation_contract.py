"""What the engine asks of whatever runs a container, on every back-end: ours, runc, masu-oci as another's binary."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.checkpoints import below_cgroups
from harness.engine import wait_until
from harness.programs import MASU_OCI, peer
from kernel.launchclient import wait_readable

from masu.errors import FailedPrecondition, MasuError, NotFound, Unavailable
from masu.isolation import backend, namespaces
from masu.isolation.attach import Attachment
from masu.isolation.backend import Namespaces
from masu.isolation.oci import Oci
from masu.isolation.stdio import Stdio
from masu.linux import mount as mount_api
from masu.linux import pidfd
from masu.plan.host import Rootfs
from masu.runtime import lifecycle
from masu.runtime.container import Container
from masu.runtime.criu.options import CriuOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.isolation.backend import Isolation

pytestmark = pytest.mark.root

SPACES = [{"type": name} for name in ("pid", "mount", "uts", "ipc", "network")]
ENV = ["PATH=/bin:/usr/bin"]


class Home:
    """One back-end, a folder for it, and what was made there."""

    def __init__(self, isolation: Isolation, folder: Path, rootfs: Path) -> None:
        self.isolation = isolation
        self.folder = folder
        self.rootfs = rootfs
        self.program = "/bin/probe"
        self.run = str(folder / "run")
        self.made: list[Container] = []
        for name in ("in", "out", "err", "exec-out"):
            os.mkfifo(folder / name)
        self.out = os.open(folder / "out", os.O_RDONLY | os.O_NONBLOCK)
        self.exec_out = os.open(folder / "exec-out", os.O_RDONLY | os.O_NONBLOCK)

    def create(self, *probe: str, terminal: bool = False, mount: bool = True) -> Container:
        container, _ = self.isolation.run(self.run, self.request(*probe, terminal=terminal, mount=mount))
        self.made.append(container)
        return container

    def request(self, *probe: str, terminal: bool = False, mount: bool = True) -> namespaces.Request:
        id = f"contract-{os.getpid()}-{len(self.made)}"
        config: dict[str, object] = {
            "ociVersion": "1.0.2",
            "root": {"path": str(self.rootfs)},
            "process": {**self.process(*probe), "terminal": terminal},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["newinstance", "ptmxmode=0666"]},
            ],
            "linux": {"cgroupsPath": f"/masu-test/{id}", "namespaces": SPACES},
        }  # fmt: skip
        stdio = Stdio(
            terminal=terminal,
            log_path=str(self.folder / "log"),
            stdin=str(self.folder / "in"),
            stdout=str(self.folder / "out"),
            stderr="" if terminal else str(self.folder / "err"),
        )
        shown = Rootfs(str(self.rootfs), ("bind", str(self.rootfs), ("bind", "rw")) if mount else None)
        return namespaces.Request(
            id,
            config=config,
            detached=lambda: mount_api.clone_tree(str(self.rootfs)),
            rootfs=shown,
            stdio=stdio,
            exit_path=str(self.folder / f"{id}.exit"),
            gate=True,
        )

    def process(self, *probe: str) -> dict[str, object]:
        return {"args": [self.program, *probe], "env": ENV, "cwd": "/", "user": {"uid": 0, "gid": 0}}

    def exec(self, container: Container, *probe: str, name: str = "exec") -> Path:
        directory = self.folder / name
        directory.mkdir()
        stdio = Stdio(stdout=str(self.folder / "exec-out"), ephemeral=True)
        self.isolation.exec(container, self.process(*probe), stdio, directory=str(directory))
        return directory

    def until(self, text: bytes, fd: int = -1) -> bytes:
        fd = self.out if fd < 0 else fd
        said = b""
        while text not in said:
            wait_readable(fd)
            said += os.read(fd, 65536)
        return said

    def exit(self, container: Container) -> namespaces.Exit:
        found = namespaces.read_exit(str(self.folder / f"{container.id}.exit"))
        assert found is not None
        return found

    def close(self) -> None:
        for container in self.made:
            if os.path.isdir(container.directory):
                self.isolation.delete(container)
        for fd in (self.out, self.exec_out):
            os.close(fd)
        for group in below_cgroups("masu-test"):
            group.rmdir()


@pytest.fixture(params=["ours", "runc", "masu-oci"])
def home(request: pytest.FixtureRequest, tmp_path: Path, probe_rootfs: Path) -> Iterator[Home]:
    programs = {"runc": lambda: peer("runc"), "masu-oci": lambda: MASU_OCI}
    isolation: Isolation = Namespaces()
    if request.param != "ours":
        isolation = Oci(programs[request.param](), str(tmp_path / "root"))
    it = Home(isolation, tmp_path, probe_rootfs)
    try:
        yield it
    finally:
        it.close()


def watch(container: Container) -> Attachment:
    monitor = Attachment.connect(namespaces.socket_path(container), 0)
    monitor.wait_attached()
    return monitor


def ended(monitor: Attachment) -> int:
    with monitor:
        kind, payload = monitor.receive()
    assert kind == "x"
    return int.from_bytes(payload[:4], "little")


@pytest.mark.parametrize("mount", [True, False])
def test_a_life(home: Home, mount: bool) -> None:
    container = home.create("stdin", "--", "exit", "3", mount=mount)
    assert container.status() == lifecycle.CREATED
    assert Container.open(home.run, container.id).facts.pid == container.facts.pid
    assert type(backend.of(container)) is type(home.isolation)
    assert container.cgroup.pids() == [container.facts.pid]
    monitor = watch(container)
    home.isolation.start(container)
    assert container.status() == lifecycle.RUNNING
    with open(home.folder / "in", "wb") as writer:
        writer.write(b"hello")
    home.until(b"hello")
    with Attachment.connect(namespaces.socket_path(container), 4) as closer:
        closer.wait_attached()
        closer.close_stdin()
        assert ended(monitor) == 3
    assert home.exit(container).status == 3
    assert container.status() == lifecycle.STOPPED
    assert b"stdout P hello" in (home.folder / "log").read_bytes()
    home.isolation.delete(container)
    assert not os.path.exists(container.directory)
    assert not container.cgroup.exists()


def test_killed_before_the_start(home: Home) -> None:
    container = home.create("exit", "0")
    monitor = watch(container)
    home.isolation.kill(container, 9)
    assert ended(monitor) == 137
    with pytest.raises(FailedPrecondition):
        home.isolation.start(container)


def test_signals(home: Home) -> None:
    container = home.create("wait", "15")
    monitor = watch(container)
    home.isolation.start(container)
    home.until(b"ready")
    home.isolation.kill(container, 15)
    home.until(b"caught 15")
    assert ended(monitor) == 0
    with pytest.raises(FailedPrecondition):
        home.isolation.kill(container, 15)


def test_paused(home: Home) -> None:
    container = home.create("pause")
    home.isolation.start(container)
    home.isolation.pause(container)
    assert container.status() == lifecycle.PAUSED
    with pytest.raises(FailedPrecondition):
        home.isolation.pause(container)
    home.isolation.resume(container)
    assert container.status() == lifecycle.RUNNING
    with pytest.raises(FailedPrecondition):
        home.isolation.resume(container)


def test_new_limits(home: Home) -> None:
    container = home.create("pause")
    home.isolation.start(container)
    home.isolation.update(container, {"pids": {"limit": 77}})
    place = container.cgroup.path("pids")
    assert place is not None
    assert Path(place, "pids.max").read_text() == "77\n"


def test_one_more_process(home: Home) -> None:
    container = home.create("pause")
    home.isolation.start(container)
    directory = home.exec(container, "echo", "inside", "--", "exit", "12")
    assert home.until(b"inside\n", home.exec_out) == b"inside\n"
    try:
        with Attachment.connect(str(directory / "attach.sock"), 0) as monitor:
            while monitor.receive()[0] not in ("x", ""):
                pass
    except (NotFound, Unavailable):
        pass  # over already, or just now
    found = namespaces.read_exit(str(directory / "exit"))
    assert found is not None
    assert found.status == 12
    home.program = "nosuch"
    with pytest.raises(MasuError, match="nosuch"):
        home.exec(container, name="second")


def test_its_processes_end_with_it(home: Home) -> None:
    container = home.create("pause")
    home.isolation.start(container)
    directory = home.exec(container, "echo", "up", "--", "pause")
    home.until(b"up", home.exec_out)
    with Attachment.connect(str(directory / "attach.sock"), 0) as monitor:
        monitor.wait_attached()
        home.isolation.delete(container)
        kind, payload = monitor.receive()
        assert (kind, int.from_bytes(payload[:4], "little")) == ("x", 137)
    assert not os.path.exists(container.directory)


def size_of(container: Container) -> os.terminal_size:
    """Columns and rows of its terminal."""
    fd = os.open(f"/proc/{container.facts.pid}/fd/0", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return os.get_terminal_size(fd)
    finally:
        os.close(fd)


def test_a_terminal(home: Home) -> None:
    container = home.create("isatty", "--", "winsize", terminal=True)
    with Attachment.connect(namespaces.socket_path(container), 0) as monitor:
        monitor.wait_attached()
        monitor.resize(31, 97)
        wait_until(lambda: size_of(container) == (97, 31))
        home.isolation.start(container)
        said = home.until(b"31 97")
        assert said.startswith(b"tty tty tty\r\n")


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("mount", [True, False])
def test_restored(home: Home, criu: str, mount: bool, terminal: bool) -> None:
    """It goes on where it was, as the child of a new monitor with stdio of its own."""
    images = CriuOptions(image_path=str(home.folder / "images"), work_path=str(home.folder / "work"))
    words = ("echo", "begun", "--", "stdin", "--", "exit", "3")
    container = home.create(*words, terminal=terminal, mount=mount)
    home.isolation.start(container)
    home.until(b"begun")
    home.isolation.checkpoint(container, images, leave_running=True)
    assert container.status() == lifecycle.RUNNING
    images.image_path += "-2"
    monitor = watch(container)
    home.isolation.checkpoint(container, images, leave_running=False)
    assert ended(monitor) == 137
    assert not os.path.exists(container.directory)
    ready: list[int] = []
    request = home.request(*words, terminal=terminal, mount=mount)
    request.on_ready = lambda container: ready.append(container.facts.pid)
    container, _ = home.isolation.restore(home.run, request, images)
    home.made.append(container)
    assert ready == [container.facts.pid]
    assert container.status() == lifecycle.RUNNING
    assert container.cgroup.pids() == [container.facts.pid]
    assert type(backend.of(container)) is type(home.isolation)
    monitor = watch(container)
    with open(home.folder / "in", "wb") as writer:
        writer.write(b"on and on\n")
    assert b"begun" not in home.until(b"on and on")
    (noted, (monitor_pid, _)) = namespaces.read_noted(container.directory)
    assert noted[0] == container.facts.pid
    held = [os.readlink(f"/proc/{monitor_pid}/fd/{fd}") for fd in os.listdir(f"/proc/{monitor_pid}/fd")]
    assert not any(name.startswith("mnt:") for name in held)
    home.isolation.kill(container, 9)
    assert ended(monitor) == 137
    assert home.exit(container).status == 137


def test_restored_and_without_its_monitor(home: Home, criu: str) -> None:
    """It ends with its monitor, as one that was created does. (With another runtime nobody sees to that.)"""
    images = CriuOptions(image_path=str(home.folder / "images"))
    container = home.create("echo", "begun", "--", "stdin")
    home.isolation.start(container)
    home.until(b"begun")
    home.isolation.checkpoint(container, images, leave_running=False)
    container, _ = home.isolation.restore(home.run, home.request("stdin"), images)
    home.made.append(container)
    init = container.open_pidfd()
    assert init is not None
    try:
        wait_until(lambda: len(namespaces.read_noted(container.directory)) == 2)
        os.kill(namespaces.read_noted(container.directory)[1][0], 9)
        if not isinstance(home.isolation, Namespaces):
            namespaces.end_orphan(container)
        assert pidfd.wait_exited(init, 10)
    finally:
        os.close(init)


def test_a_checkpoint_that_is_none(home: Home, criu: str) -> None:
    folder = home.folder / "images"
    with pytest.raises(MasuError):
        home.isolation.restore(home.run, home.request("stdin"), CriuOptions(image_path=str(folder)))
    container = home.create("echo", "begun", "--", "stdin")
    home.isolation.start(container)
    home.until(b"begun")
    home.isolation.checkpoint(container, CriuOptions(image_path=str(folder)), leave_running=False)
    (folder / "pstree.img").write_bytes(b"garbage")
    with pytest.raises(MasuError, match=r"criu failed|CRIU"):
        home.isolation.restore(home.run, home.request("stdin"), CriuOptions(image_path=str(folder)))
    assert os.listdir(home.run) == []
    assert [found for group in below_cgroups("masu-test") for found in group.iterdir() if found.is_dir()] == []


def test_a_program_that_is_not_there(home: Home) -> None:
    home.program = "nosuch"
    with pytest.raises(MasuError, match="nosuch"):
        home.create()
    assert os.listdir(home.run) == []
