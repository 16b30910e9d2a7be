"""The host's side of the launch protocol.

    host (this process)          masu-launch, stage          container's first process
      spawn ─────────────────────► runs the H operations
      ◄── SYNC "cgroup", pid ───── waits                       (only where systemd has to move it)
      ◄── SYNC "map", pid ──────── waits                       (only with a new user namespace)
      writes uid_map, gid_map
      ─── GO ────────────────────►
                                   clone3 ───────────────────► runs the C operations
      ◄── PID + pidfd ──────────── exits 0
      ◄── SYNC "network" ────────────────────────────────────── waits          (net devices to move)
      ◄── SYNC "createRuntime" ──────────────────────────────── waits          (hooks of the host)
      ─── GO + state ──────────────────────────────────────────►
      ◄── READY ────────────────────────────────────────────── waits
      writes state.json
      ─── GO ──────────────────────────────────────────────────► waits at the FIFO, or runs the program
      ◄── end of file: the program runs (the socket is close-on-exec)
      ◄── ERROR index errno detail, from either, at any point

With a monitor the stage's parent is the monitor, which says MONITOR + its pid first. A child that meets the end of
file where it waits goes away by itself: killing the host at any point leaves nothing waiting.
"""

from __future__ import annotations

import os
from _socket import (
    AF_UNIX,
    MSG_CMSG_CLOEXEC,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socketpair,
)
from _struct import pack, unpack_from
from time import monotonic_ns

from masu.errors import DataLoss, Unavailable
from masu.linux import executable, spawn
from masu.plan.build import SYNC_CGROUP, SYNC_CRIU, SYNC_MAP
from masu.plan.encode import encode
from masu.plan.ops import (
    MSG_ERROR,
    MSG_GO,
    MSG_LISTENER,
    MSG_MONITOR,
    MSG_PID,
    MSG_READY,
    MSG_SYNC,
    MSG_WARNING,
    Op,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

# What launches have taken: masu-launch, and the kernel for it (--timings).
spent_ns = 0

INHERIT = (spawn.INHERIT, spawn.INHERIT, spawn.INHERIT)

_BEFORE_THE_PID = ((MSG_SYNC, SYNC_CGROUP), (MSG_SYNC, SYNC_MAP), (MSG_SYNC, SYNC_CRIU))

_HEADER = 16
_MAX_MESSAGE = 16384
_MAX_FDS = 8


class Answers:
    """What the host does when the container's birth waits for it. Each returns the payload of GO.

    `sync` gets the name of the wait and a pid as the host sees it: of the stage for "cgroup" and "map", of CRIU for
    "criu", else of the container's first process, as `ready` does. An exception from any of them ends the birth: the
    processes are killed and the exception is passed on. `warnings` gets the steps that failed without harm.
    """

    def __init__(self, warnings: list[str]) -> None:
        self.warnings = warnings

    def sync(self, name: str, pid: int) -> bytes:
        raise DataLoss("launch protocol", name, detail="a wait that nobody planned")

    def ready(self, pid: int, pidfd: int) -> bytes:
        return b""

    def listener(self, fd: int) -> None:
        os.close(fd)
        raise DataLoss("launch protocol", "listener", detail="a seccomp listener that nobody planned")

    def warning(self, op: Op, text: str) -> None:
        """A step that failed without harm."""
        self.warnings.append(f"{op.where or op.name}: {text}")

    def step(self, text: str) -> None:
        """How far it has come, for who debugs it."""


class Launched:
    """A process that has come as far as `ready`. The owner closes `pidfd` and `socket`."""

    __slots__ = ("_ops", "monitor", "pid", "pidfd", "socket")

    def __init__(self, socket: socket, ops: list[Op]) -> None:
        self.pid = 0
        self.pidfd = -1
        self.monitor = 0
        self.socket = socket
        self._ops = ops

    def close(self) -> None:
        self.socket.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def reap(self) -> int:
        """Kills what may still run, waits for it, closes; returns the wait status, 0 where it is not our child."""
        try:
            return _end(self)
        finally:
            self.close()

    def wait_running(self) -> None:
        """Returns when the program runs. Raises what kept it from running."""
        kind, index, errno, _, detail, fds = receive(self.socket)
        for fd in fds:
            os.close(fd)
        if kind == MSG_ERROR:
            from masu.runtime.failure import explain  # most launches need no explanation

            raise explain(self._ops, index, errno, detail)


def launch(
    ops: list[Op],
    answers: Answers,
    *,
    keep: tuple[int, ...] = (),
    stdio: tuple[int, int, int] = INHERIT,
    launcher: str | None = None,
) -> Launched:
    """Carries out a plan up to and including `ready`.

    `keep` are fds that the plan or the program refers to, at their own numbers; `stdio` replaces 0, 1 and 2.
    Raises what the failing operation means (`masu.runtime.failure`); then nothing of the container is left running.
    """
    global spent_ns
    begun = monotonic_ns()
    host, child = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
    launched = Launched(host, ops)
    stage = 0
    try:
        plan = executable.sealed_memfd("masu-plan", encode(ops))
        try:
            binary = executable.protected(launcher or executable.launcher_path())
            try:
                arguments = ["masu-launch", str(child.fileno()), str(plan)]
                stage = spawn.spawn(
                    binary.path, arguments, {}, keep=(child.fileno(), plan, *keep, *binary.keep), stdio=stdio
                )
            finally:
                binary.close()
        finally:
            os.close(plan)
            child.close()
        _converse(launched, ops, answers)
    except BaseException:
        launched.reap()
        raise
    finally:
        if stage:
            spawn.wait(stage)
        spent_ns += monotonic_ns() - begun
    return launched


def _converse(launched: Launched, ops: list[Op], answers: Answers) -> None:
    # The pid comes from the stage, a wait from the first process: either may arrive first. A wait is answered when
    # the pid is known; only those for cgroup and id mapping come from the stage itself, before there is a pid.
    waiting: tuple[int, str, int] | None = None
    while True:
        kind, index, errno, value, detail, fds = receive(launched.socket)
        try:
            _check(launched, kind, value, fds)
            if kind in (MSG_SYNC, MSG_READY):
                waiting = kind, detail, value
            elif kind == MSG_PID:
                launched.pid, launched.pidfd = value, fds.pop()
                answers.step(f"child process in init(): pid {value}")
            elif kind == MSG_ERROR:
                from masu.runtime.failure import explain

                raise explain(ops, index, errno, detail)
            elif kind == MSG_MONITOR:
                launched.monitor = value
            elif kind == MSG_LISTENER:
                answers.listener(fds.pop())
            elif kind == MSG_WARNING:
                answers.warning(ops[min(index, len(ops) - 1)], detail)
            elif kind == 0:
                from masu.runtime.failure import unexpected_end

                raise unexpected_end(launched.pid, ops)
            else:
                raise DataLoss("launch protocol", f"message {kind}", detail="unknown type")
        finally:
            for fd in fds:
                os.close(fd)
        if waiting is None or not (launched.pid or waiting[:2] in _BEFORE_THE_PID):
            continue
        kind, detail, value = waiting
        waiting = None
        if kind == MSG_READY:
            send_go(launched.socket, answers.ready(launched.pid, launched.pidfd))
            return
        pid = launched.pid or value
        answers.step(f"pid {pid} waits for the host: {detail}")
        send_go(launched.socket, answers.sync(detail, pid))


def _check(launched: Launched, kind: int, value: int, fds: list[int]) -> None:
    """That a message has what belongs to it: a pid is one, told once; a descriptor where one is told of, no others."""
    wrong = ""
    if kind in (MSG_PID, MSG_SYNC, MSG_READY, MSG_MONITOR) and value <= 0:
        wrong = f"{value} is no pid"
    elif kind == MSG_PID and launched.pid:
        wrong = "a second pid"
    elif len(fds) != (kind in (MSG_PID, MSG_LISTENER)):
        wrong = f"{len(fds)} descriptors"
    if wrong:
        raise DataLoss("launch protocol", f"message {kind}", detail=wrong)


def _end(launched: Launched) -> int:
    """Kills what was started and waits for its end."""
    if launched.pidfd < 0:
        return 0
    from masu.linux import pidfd

    try:
        pidfd.send_signal(launched.pidfd, 9)
    except ProcessLookupError:
        pass
    if not launched.monitor:
        try:
            return spawn.wait(launched.pid)[1]
        except ChildProcessError:
            # Cloned by a launcher that could not make it our child: it is reaped there.
            pass
    pidfd.wait_exited(launched.pidfd, 10.0)
    return 0


def receive(sock: socket) -> tuple[int, int, int, int, str, list[int]]:
    """One message: (type, index, errno, value, detail, fds); type 0 is the end of file."""
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(_MAX_MESSAGE, 12 + 4 * _MAX_FDS + 16, MSG_CMSG_CLOEXEC)
            break
        except ConnectionResetError:
            # It went away with an answer of ours unread, which is told once, before what it still said (unix(7)).
            continue
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fds += [int.from_bytes(payload[i : i + 4], "little") for i in range(0, len(payload) // 4 * 4, 4)]
    if not data:
        return 0, 0, 0, 0, "", fds
    if len(data) < _HEADER:
        for fd in fds:
            os.close(fd)
        raise DataLoss("launch protocol", detail=f"a message of {len(data)} bytes")
    kind, index, errno, value = unpack_from("<IIii", data)
    return kind, index, errno, value, data[_HEADER:].decode("utf-8", "replace"), fds


def send_go(sock: socket, payload: bytes) -> None:
    try:
        sock.sendmsg([pack("<IIii", MSG_GO, 0, 0, 0) + payload], [], MSG_NOSIGNAL)
    except BrokenPipeError as error:
        raise Unavailable("masu-launch", detail="it ended while waiting for the host") from error
