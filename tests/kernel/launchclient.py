"""Drives masu-launch by hand: encodes a plan, starts the program, speaks the control protocol.

The runtime has its own client; this one lets a test stop at any message, refuse to answer, or die.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from masu.plan import ops as o
from masu.plan.encode import encode
from masu.plan.ops import NONE, TABLE, Op

LAUNCH = os.environ.get("MASU_LAUNCH") or str(Path(__file__).parents[2] / "src/masu/libexec/masu-launch")
DEADLINE_S = 20.0

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
FIVE = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET

OPEN_TREE_CLONE = 1
AT_RECURSIVE = 0x8000
MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x4000, 1 << 18, 1 << 19, 1 << 20

_EMPTY: dict[str, int | str | bytes | tuple[str, ...]] = {"u": 0, "s": "", "b": b"", "l": ()}
_NONE_FIELDS = {
    "userns", "cgroup", "stdout_slot", "stderr_slot", "listen_fd", "stdin_fd", "stdout_fd", "stderr_fd",
    "oom_fd", "oom_watch_fd", "stdin_keep_fd",
}  # fmt: skip


def op(name: str, /, **given: int | str | bytes | tuple[str, ...]) -> Op:
    """An operation whose missing fields are zero or empty (NONE where "nothing" is spelt so)."""
    fields: dict[str, int | str | bytes | tuple[str, ...]] = {}
    for field in TABLE[name][2].split():
        key, _, kind = field.partition(":")
        fields[key] = given.pop(key, NONE if key in _NONE_FIELDS else _EMPTY[kind])
    assert not given, f"{name} has no fields {sorted(given)}"
    return Op(name, **fields)


class Message:
    def __init__(self, data: bytes, fds: list[int]) -> None:
        self.type, self.index, self.errno, self.value = struct.unpack("<IIii", data[:16])
        self.detail = data[16:].decode("utf-8", "replace")
        self.fds = fds

    def __repr__(self) -> str:
        return f"Message(type={self.type} index={self.index} errno={self.errno} value={self.value} {self.detail!r})"


class LaunchFailed(AssertionError):
    """MSG_ERROR, or the socket closed where a message was expected."""

    def __init__(self, message: Message | None) -> None:
        super().__init__(repr(message))
        self.message = message


class Launch:
    """One masu-launch under way. Use as a context manager: what is left is killed and reaped."""

    def __init__(
        self,
        plan: list[Op] | bytes,
        *,
        pass_fds: tuple[int, ...] = (),
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        program: str = LAUNCH,
        prefix: tuple[str, ...] = (),
        cwd: str | None = None,
        user: int | None = None,
    ) -> None:
        self.ops = [] if isinstance(plan, bytes) else plan
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(DEADLINE_S)
        self.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        memfd = os.memfd_create("plan", 0)
        with os.fdopen(memfd, "wb", closefd=False) as file:
            file.write(plan if isinstance(plan, bytes) else encode(plan))
        self.pid = 0  # of the container's first process
        self.pidfd = -1
        self.started = False
        self.messages: list[Message] = []
        self.process = subprocess.Popen(
            [*prefix, program, str(theirs.fileno()), str(memfd)],
            pass_fds=(theirs.fileno(), memfd, *pass_fds),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            user=user,
            restore_signals=False,
        )
        theirs.close()
        os.close(memfd)

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.control.close()
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.reap()
            os.close(self.pidfd)
            self.pidfd = -1
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        for message in self.messages:
            for fd in message.fds:
                os.close(fd)
            message.fds = []

    # -- messages ---------------------------------------------------------------------------------------------

    def receive(self) -> Message | None:
        """The next message, or None at the end."""
        data, control, _flags, _ = self.control.recvmsg(8192, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, payload in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        if not data:
            return None
        message = Message(data, list(fds))
        self.messages.append(message)
        if message.type == o.MSG_PID:
            self.pid = message.value
            self.pidfd = os.dup(message.fds[0])
        return message

    def expect(self, kind: int) -> Message:
        """The next message but PID, which is taken note of, must be of this kind."""
        while True:
            message = self.receive()
            if message is not None and message.type == kind:
                return message
            if message is None or message.type not in (o.MSG_PID, o.MSG_MONITOR, o.MSG_WARNING):
                raise LaunchFailed(message)

    def go(self, payload: bytes = b"") -> None:
        self.control.send(struct.pack("<IIii", o.MSG_GO, 0, 0, 0) + payload)

    def abort(self) -> None:
        self.control.send(struct.pack("<IIii", o.MSG_ABORT, 0, 0, 0))

    def failure(self) -> Message:
        """Runs until the error; its message."""
        while True:
            message = self.receive()
            assert message is not None, "the socket closed without an error"
            if message.type == o.MSG_ERROR:
                return message
            if message.type in (o.MSG_SYNC, o.MSG_READY):
                self.go()

    def map_ids(self) -> None:
        """Answers the next message, a sync of who has a user namespace, by mapping all ids onto themselves."""
        message = self.receive()
        assert message is not None
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{message.value}/{name}").write_text("0 0 65536\n")
        self.go()

    def run(self) -> int:
        """Answers everything with GO; returns the exit status of the container's first process."""
        while True:
            message = self.receive()
            if message is None:
                break
            if message.type == o.MSG_ERROR:
                raise LaunchFailed(message)
            if message.type in (o.MSG_SYNC, o.MSG_READY):
                self.go()
        return self.wait()

    # -- processes --------------------------------------------------------------------------------------------

    def wait(self) -> int:
        """Waits for init: its exit status, or minus the signal."""
        assert self.pidfd >= 0
        wait_readable(self.pidfd)
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        assert result is not None
        status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        self.reap()
        return status

    def start(self, fifo: Path) -> tuple[int, Message | None]:
        """Runs to `wait_start`, releases init and waits for it: its exit status, and what it wrote into the FIFO."""
        self.expect(o.MSG_READY)
        self.go()
        assert self.receive() is None  # it waits, and has closed the socket
        self.control.close()
        fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        try:
            os.write(fd, b"\0")
            status = self.wait()
            try:
                return status, Message(os.read(fd, 4096), [])
            except BlockingIOError:
                return status, None
        finally:
            os.close(fd)

    def reap(self) -> None:
        wait_readable(self.pidfd)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass

    def stdout(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def stderr(self) -> bytes:
        assert self.process.stderr is not None
        return self.process.stderr.read()


def wait_readable(fd: int, timeout_s: float = DEADLINE_S) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(timeout_s * 1000), f"fd {fd} did not become readable within {timeout_s} s"


def wait_gone(pid: int, timeout_s: float = DEADLINE_S) -> None:
    """Waits until no process (a zombie counts as none) has this pid."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        wait_readable(fd, timeout_s)
    finally:
        os.close(fd)


def monotonic_deadline(timeout_s: float = DEADLINE_S) -> float:
    return time.monotonic() + timeout_s


# -- plans ------------------------------------------------------------------------------------------------------


def base(root: str, *, flags: int = FIVE, host: list[Op] | None = None) -> list[Op]:
    """Up to and with root_attach: namespaces, and `root` (a directory) as the root."""
    return [
        *(host or []),
        op("open_tree", slot=1000, path=root, flags=OPEN_TREE_CLONE | AT_RECURSIVE),
        op("mount_attr", slot=1000, propagation=MS_PRIVATE, recursive=1),
        op("clone", flags=flags),
        op("setsid"),
        op("root_propagation", flags=MS_SLAVE | MS_REC),
        op("root_attach", slot=1000, path=""),
    ]


def usual_mounts() -> list[Op]:
    return [
        op("mount", fstype="proc", source="proc", target="/proc", flags=o.TARGET_MUST_BE_DIRECTORY),
        op("mount", fstype="tmpfs", source="tmpfs", options=("mode=755", "size=64k"), target="/dev"),
        op("mount", fstype="devpts", source="devpts", options=("newinstance", "ptmxmode=0666", "mode=0620"),
           target="/dev/pts"),
        op("mknod", path="/dev/null", mode=0o020666, rdev=os.makedev(1, 3)),
    ]  # fmt: skip


def finish(*args: str, env: tuple[str, ...] = ("PATH=/bin:/usr/bin",), keep: int = 0) -> list[Op]:
    """From the lookup of the program to the exec."""
    return [
        op("close_fds", keep=keep),
        op("find_program", program=args[0], path="/bin:/usr/bin"),
        op("ready"),
        op("exec", args=args, env=env),
    ]


def contained(root: str | Path, inside: list[Op], *probe: str, host: list[Op] | None = None,
              flags: int = FIVE) -> list[Op]:  # fmt: skip
    """A whole plan: `inside` happens between the usual mounts and pivot_root; then the probe runs."""
    plan = base(str(root), flags=flags, host=host)
    return [*plan, *usual_mounts(), *inside, op("pivot_root"), *finish("probe", *probe)]


def output(plan: list[Op], **arguments: object) -> str:
    """Runs a plan to its end and gives what the program wrote; the program must succeed."""
    with Launch(plan, **arguments) as launch:  # type: ignore[arg-type]
        status = launch.run()
        said = launch.stdout().decode()
        assert status == 0, (status, said, launch.stderr())
        return said


def failure(plan: list[Op], **arguments: object) -> Message:
    """Runs a plan that must fail; checks that masu-launch and the container's process are gone; the message."""
    with Launch(plan, **arguments) as launch:  # type: ignore[arg-type]
        message = launch.failure()
        if launch.pidfd >= 0:
            assert launch.wait() == 1
            assert launch.process.wait(DEADLINE_S) == 0
        else:
            assert launch.process.wait(DEADLINE_S) == 1
        return message


def index_of(plan: list[Op], name: str, nth: int = 0) -> int:
    return [index for index, item in enumerate(plan) if item.name == name][nth]
