"""masu-launch: terminal, hooks, seccomp."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import time
from pathlib import Path

import pytest
from kernel.launchclient import DEADLINE_S, Launch, contained, failure, index_of, op, output, wait_gone

from masu.plan import ops as o
from masu.plan.ops import Op

pytestmark = pytest.mark.root


# -- terminal ---------------------------------------------------------------------------------------------------------


def console(root: Path, fd: int, *probe: str, inside: list[Op] | None = None, **fields: int) -> list[Op]:
    plan = contained(root, inside or [], *probe, host=[op("adopt", slot=0, fd=fd)])
    at = index_of(plan, "pivot_root") + 1
    flags = o.CONSOLE_BIND | o.CONSOLE_CTTY
    plan.insert(at, op("console", **{"slot": 0, "flags": flags, "rows": 33, "columns": 111, **fields}))
    return plan


def receive_master(ours: socket.socket) -> tuple[str, int]:
    ours.settimeout(DEADLINE_S)
    name, fds, _, _ = socket.recv_fds(ours, 4096, 1)
    return name.decode(), fds[0]


def read_all(master: int) -> str:
    said = b""
    while True:
        ready, _, _ = select.select([master], [], [], DEADLINE_S)
        assert ready, said
        try:
            data = os.read(master, 4096)
        except OSError as error:
            if error.errno != errno.EIO:  # that is how the end of a terminal looks
                raise
            return said.decode().replace("\r\n", "\n")
        said += data


def test_a_terminal_goes_to_the_console_socket(probe_rootfs: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.set_inheritable(theirs.fileno(), True)
        plan = console(
            probe_rootfs, theirs.fileno(), "isatty", "--", "winsize", "--", "mode", "/dev/console", "/dev/pts/0", "--",
            "readlink", "/proc/self/fd/0", "--", "open", "/dev/tty", "rw", "--", "write", "/dev/console", "direct\n",
            inside=[op("mknod", path="/dev/tty", mode=0o020666, rdev=os.makedev(5, 0))],
        )  # fmt: skip
        at = index_of(plan, "find_program")
        plan[at:at] = [op("stdio_owner", uid=1000, gid=1000), op("setuser", uid=1000, gid=1000)]
        with Launch(plan, pass_fds=(theirs.fileno(),)) as launch:
            theirs.close()
            launch.expect(o.MSG_READY)
            name, master = receive_master(ours)
            assert name == "/dev/pts/0"
            assert ours.recv(1) == b"", "the socket is closed once the terminal was sent"
            launch.go()
            assert launch.receive() is None
            said = read_all(master)
            os.close(master)
            assert launch.wait() == 0
    assert said.startswith("tty tty tty\n33 111\nc 0620 1000:0 136:0\nc 0620 1000:0 136:0\n/dev/pts/0\nok\n")
    assert "direct" in said


def test_ctrl_c_and_resizing(probe_rootfs: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.set_inheritable(theirs.fileno(), True)
        with Launch(console(probe_rootfs, theirs.fileno(), "wait", "2", "28"), pass_fds=(theirs.fileno(),)) as launch:
            launch.expect(o.MSG_READY)
            _, master = receive_master(ours)
            launch.go()
            assert launch.receive() is None
            assert os.read(master, 100).strip() == b"ready"
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
            assert b"caught 28" in os.read(master, 100)
            assert launch.wait() == 0
            os.close(master)


def test_no_devpts_no_terminal(own_probe_rootfs: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.set_inheritable(theirs.fileno(), True)
        plan = console(own_probe_rootfs, theirs.fileno(), "exit", "0")
        without = [item for item in plan if item.fields.get("target") != "/dev/pts"]
        message = failure(without, pass_fds=(theirs.fileno(),))
        assert message.errno == errno.ENOENT
        assert "devpts" in message.detail
        # A device of the right numbers that is not on a devpts
        fake = [op("mkdir", path="/dev/pts", mode=0o755),
                op("mknod", path="/dev/pts/ptmx", mode=0o020666, rdev=os.makedev(5, 2))]  # fmt: skip
        at = index_of(without, "pivot_root")
        message = failure([*without[:at], *fake, *without[at:]], pass_fds=(theirs.fileno(),))
        assert message.errno in (errno.ENODEV, errno.ENOENT)


@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
def test_cve_2026_88264_dev_console_must_be_a_file_or_device(own_probe_rootfs: Path, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.set_inheritable(theirs.fileno(), True)
        prepare = {
            "symlink": op("symlink", target=str(victim), path="/dev/console"),
            "directory": op("mkdir", path="/dev/console", mode=0o755),
            "fifo": op("mknod", path="/dev/console", mode=0o010600),
        }[kind]
        plan = console(own_probe_rootfs, theirs.fileno(), "exit", "0", inside=[prepare])
        message = failure(plan, pass_fds=(theirs.fileno(),))
    assert (message.errno, "/dev/console is neither" in message.detail) == (errno.EINVAL, True)
    assert not victim.exists()


def test_without_anybody_to_take_it(probe_rootfs: Path) -> None:
    plan = contained(probe_rootfs, [op("console", slot=o.NONE)], "exit", "0")
    message = failure(plan)
    assert (message.errno, "neither a console socket nor a monitor" in message.detail) == (errno.EBADF, True)


# -- hooks ------------------------------------------------------------------------------------------------------------


def hook(script: str, timeout_ms: int = 0, env: tuple[str, ...] = ("PATH=/usr/bin:/bin",)) -> Op:
    return op("hook", path="/bin/sh", args=("sh", "-c", script), env=env, timeout_ms=timeout_ms)


def test_hooks_get_the_state_and_their_environment(probe_rootfs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f'{{ cat; echo; echo "$A"; ls -l /proc/self/fd | wc -l; readlink /proc/self/ns/net; }} > {out}'
    inside = [op("sync", name="hooks"), hook(script, env=("A=b", "PATH=/bin:/usr/bin"))]
    state = b'{"id":"x"}' + b" " * 150_000
    with Launch(contained(probe_rootfs, inside, "exit", "0")) as launch:
        launch.expect(o.MSG_SYNC)
        launch.go(state)
        launch.expect(o.MSG_READY)
        launch.go()
        assert launch.receive() is None
        assert launch.wait() == 0
    lines = out.read_text().splitlines()
    assert lines[0].encode() == state
    assert lines[1] == "b"
    assert lines[2] == "5"  # "total", 0, 1, 2, and the one that ls reads the directory with
    assert lines[3] != os.readlink("/proc/self/ns/net")


@pytest.mark.parametrize(
    ("script", "number", "detail"),
    [
        ("echo to stdout; echo why >&2; exit 3", errno.EIO, "the hook exited with status 3: to stdout\nwhy"),
        ("exit 1", errno.EIO, "the hook exited with status 1"),
        ("kill -9 $$", errno.EIO, "the hook was killed by signal 9"),
        ("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 1", errno.EIO, "line 2999"),
    ],
)
def test_failing_hooks(probe_rootfs: Path, script: str, number: int, detail: str) -> None:
    plan = contained(probe_rootfs, [hook(script)], "exit", "0")
    message = failure(plan)
    assert (message.index, message.errno) == (index_of(plan, "hook"), number)
    assert detail in message.detail
    assert len(message.detail) < 1200


def test_a_hook_that_is_not_there(probe_rootfs: Path) -> None:
    message = failure(contained(probe_rootfs, [op("hook", path="/absent", args=("absent",))], "exit", "0"))
    assert (message.errno, message.detail) == (errno.ENOENT, "execve of the hook /absent")


def test_a_hook_beyond_its_time_is_killed_with_its_children(probe_rootfs: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # The child of the hook holds the FIFO open: its end shows that it is gone.
    plan = contained(probe_rootfs, [hook(f"exec 9> {fifo}; echo x >&9; sleep 1000 & sleep 1000", timeout_ms=200)],
                     "exit", "0")  # fmt: skip
    began = time.monotonic()
    with Launch(plan) as launch:
        with open(fifo, "rb") as held:
            assert held.readline() == b"x\n"
            message = launch.failure()
            assert held.read() == b""
        assert (message.errno, message.detail) == (errno.ETIMEDOUT, "the hook did not end within 200 ms")
        assert 0.2 <= time.monotonic() - began < DEADLINE_S
        assert launch.wait() == 1


def test_a_hook_may_leave_something_running(probe_rootfs: Path) -> None:
    inside = [hook("sleep 1000 > /dev/null 2>&1 & exit 0")]
    said = output(contained(probe_rootfs, inside, "exit", "0"))
    assert said == ""


def test_hooks_on_the_host_side(probe_rootfs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = contained(probe_rootfs, [], "exit", "0", host=[hook(f"readlink /proc/self/ns/net > {out}")])
    assert output(plan) == ""
    assert out.read_text().strip() == os.readlink("/proc/self/ns/net")


def test_a_hook_after_start_reports_through_the_fifo(probe_rootfs: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    host = [op("open", slot=0, path=str(fifo), flags=os.O_RDWR)]
    plan = contained(probe_rootfs, [], "exit", "0", host=host)
    at = index_of(plan, "exec")
    plan[at:at] = [op("wait_start", slot=0),
                   op("hook", path="/bin/probe", args=("probe", "stderr", "no", "--", "exit", "6"))]  # fmt: skip
    with Launch(plan) as launch:
        status, said = launch.start(fifo)
    assert said is not None
    assert (status, said.type, said.index, said.errno) == (1, o.MSG_ERROR, at + 1, errno.EIO)
    assert said.detail == "the hook exited with status 6: no"


# -- seccomp ----------------------------------------------------------------------------------------------------------

ALLOW, ERRNO, NOTIFY, KILL = 0x7FFF0000, 0x00050000, 0x7FC00000, 0x80000000
X86 = os.uname().machine == "x86_64"
GETPPID = 110 if X86 else 173
SENDMSG, WRITE, MKDIRAT, MKDIR = (46, 1, 258, 83) if X86 else (211, 64, 34, 34)


def bpf(actions: dict[int, int]) -> bytes:
    """A filter: an action for some system calls, the others are allowed. It does not look at the architecture."""
    code = [struct.pack("<HBBI", 0x20, 0, 0, 0)]  # load the number
    for number, action in actions.items():
        code += [struct.pack("<HBBI", 0x15, 0, 1, number), struct.pack("<HBBI", 0x06, 0, 0, action)]
    return b"".join([*code, struct.pack("<HBBI", 0x06, 0, 0, ALLOW)])


def filtered(root: Path, actions: dict[int, int], *probe: str, notify: int = 0, flags: int = 0) -> list[Op]:
    plan = contained(root, [], *probe)
    at = index_of(plan, "find_program")
    plan[at:at] = [op("no_new_privs"), op("seccomp", program=bpf(actions), notify=notify, flags=flags)]
    return plan


def test_a_filter(probe_rootfs: Path) -> None:
    said = output(filtered(probe_rootfs, {MKDIR: ERRNO | errno.EXDEV, MKDIRAT: ERRNO | errno.EXDEV}, "mkdir", "/tmp/x",
                           "--", "caps"))  # fmt: skip
    assert said.startswith("ERROR EXDEV\n")
    assert "seccomp=2" in said
    with Launch(filtered(probe_rootfs, {GETPPID: KILL}, "syscall", str(GETPPID))) as launch:
        assert launch.run() == -signal.SIGSYS


def test_filters_that_are_refused(probe_rootfs: Path) -> None:
    plan = filtered(probe_rootfs, {}, "exit", "0")
    at = index_of(plan, "seccomp")
    for program in (b"", b"1234567", bytes(8 * 4097), struct.pack("<HBBI", 0x15, 9, 9, 0)):
        plan[at] = op("seccomp", program=program)
        message = failure(plan)
        assert (message.index, message.errno) == (at, errno.EINVAL)
    plan[at] = op("seccomp", program=bpf({}), flags=1 << 31)
    assert failure(plan).errno == errno.EINVAL


@pytest.mark.parametrize("trapped", [GETPPID, SENDMSG])
def test_a_listener_is_handed_over_even_when_sendmsg_is_trapped(probe_rootfs: Path, trapped: int) -> None:
    plan = filtered(probe_rootfs, {GETPPID: NOTIFY, trapped: NOTIFY}, "syscall", str(GETPPID), notify=1, flags=1)
    with Launch(plan) as launch:
        message = launch.expect(o.MSG_LISTENER)
        listener = message.fds[0]
        launch.expect(o.MSG_READY)
        assert len(os.listdir(f"/proc/{launch.pid}/task")) == 1, "the helper thread has ended"
        launch.go()
        assert launch.receive() is None
        # struct seccomp_notif: id, pid, flags, data; the answer: id, val, error, flags
        notification = bytearray(80)
        fcntl.ioctl(listener, 0xC0502100, notification)
        identity, pid = struct.unpack_from("<QI", notification)
        assert pid == launch.pid
        assert struct.unpack_from("<i", notification, 16)[0] == GETPPID
        fcntl.ioctl(listener, 0xC0182101, struct.pack("<QqiI", identity, 4242, 0, 0))
        assert launch.wait() == 0
        assert launch.stdout() == b"4242\n"
    wait_gone(launch.pid)


def test_a_refused_filter_with_a_listener(probe_rootfs: Path) -> None:
    plan = filtered(probe_rootfs, {}, "exit", "0", notify=1)
    at = index_of(plan, "seccomp")
    plan[at] = op("seccomp", program=struct.pack("<HBBI", 0x15, 9, 9, 0), notify=1)
    message = failure(plan)
    assert (message.index, message.errno, message.detail) == (at, errno.EINVAL, "seccomp with a listener")
