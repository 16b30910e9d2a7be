"""The native front (native/front): the process that a caller knows as this command, while the work is done here.

A cold start has none: then the caller's process is this very one. With one, the processes that the command needs are
the front's children (`masu.linux.spawn` sees to that), and what /proc says of the caller is found under its pid.

Messages are packets on a unix socket; native/front/front.h draws their order. Each begins with four u32: the type and
three numbers. Those of the front's side are encoded and understood in `masu.cli.brain.call`.
"""

from __future__ import annotations

import os
from _socket import MSG_NOSIGNAL, SCM_RIGHTS, SOL_SOCKET
from _struct import pack, unpack
from _thread import allocate_lock

from masu.errors import DataLoss, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence
    from typing import Protocol

    class Early(Protocol):
        """Signals that have been noted (masu.cli.signals); `fd` is readable when there are some."""

        fd: int

        def take(self) -> list[int]: ...

# native/front/protocol.h; a test compares.
PROTOCOL_VERSION = 2
HEADER_LENGTH = 16
MESSAGE_LIMIT = 65536
FDS_LIMIT = 253
SECRET_LENGTH = 16
SAY_HELLO, SAY_GO, SAY_COLD, SAY_SPAWN, SAY_WAIT, SAY_SUBREAPER, SAY_EXIT, SAY_ATTEND = range(1, 9)
ATTEND_STDIN, ATTEND_TERMINAL, ATTEND_RAW, ATTEND_SIGNALS = 1, 2, 4, 8
ENDED, ENDED_DETACHED, ENDED_ALONE = range(2, 5)
ASK_CALL, ASK_ANSWER, ASK_STATUS, ASK_LEAVE = range(16, 20)

_NEW_SESSION = 1
_SIGCHLD = 17
_NOT_THERE = -1


class Front:
    """The connection to one front. Its methods may be called by several threads."""

    __slots__ = ("_lock", "_sock", "began_ns", "pid", "taken_ns")

    def __init__(self, sock: socket, pid: int, began_ns: int = 0, taken_ns: int = 0) -> None:
        """When the front began, and when we took its call, by CLOCK_MONOTONIC."""
        self.pid = pid
        self.began_ns = began_ns
        self.taken_ns = taken_ns
        self._sock = sock
        self._lock = allocate_lock()

    def spawn(
        self,
        executable: str | int,
        argv: Sequence[str],
        env: Sequence[str],
        keep: Sequence[int],
        stdio: tuple[int, int, int],
        cwd: str | None,
        new_session: bool,
    ) -> int:
        """As `_sys.spawn`, but the process is the front's child. Raises OSError, Unavailable."""
        fds = [*keep]
        places = []
        for fd in (executable if isinstance(executable, int) else _NOT_THERE, *stdio):
            places.append(len(fds) if fd >= 0 else _NOT_THERE)
            if fd >= 0:
                fds.append(fd)
        path = "" if isinstance(executable, int) else executable
        strings = b"".join(os.fsencode(text) + b"\0" for text in (path, cwd or "", *argv, *env))
        if strings.count(b"\0") != len(argv) + len(env) + 2:
            raise ValueError("embedded null character")
        head = pack("<IIII", SAY_SPAWN, _NEW_SESSION if new_session else 0, len(argv), len(env))
        kept = pack(f"<I{len(keep)}I", len(keep), *keep)
        file = _NOT_THERE
        try:
            if len(strings) > MESSAGE_LIMIT // 2:
                file = os.memfd_create("masu-spawn", os.MFD_CLOEXEC)
                os.write(file, strings)
                strings = b""
                places.append(len(fds))
                fds.append(file)
            else:
                places.append(_NOT_THERE)
            return self._ask(head + pack("<5i", *places) + kept + strings, fds)[0]
        finally:
            if file >= 0:
                os.close(file)

    def wait(self, pid: int, options: int) -> tuple[int, int]:
        """waitpid(2) of the front's children."""
        return self._ask(pack("<IiII", SAY_WAIT, pid, options, 0))

    def wait_any(self, early: Early, pass_on: Callable[[int], object]) -> tuple[int, int]:
        """wait(2) of the front's children; meanwhile `pass_on` gets the signals that come."""
        return self._ask(pack("<IiII", SAY_WAIT, -1, 0, 0), meanwhile=lambda: self._listen(early, pass_on))

    def become_subreaper(self) -> None:
        self._ask(pack("<IIII", SAY_SUBREAPER, 0, 0, 0))

    def attend_monitor(self, connection: int, flags: int, keys: bytes, early: Early) -> int | None:
        """The foreground by an attached monitor's `connection`; `flags` are ATTEND_*, `keys` those that detach.
        What `early` has noted of signals is the front's from now on.

        The exit status, None after the keys. Raises Unavailable when the monitor hangs up without one, OSError when
        nobody reads what comes out.
        """
        def give_back(number: int) -> None:
            """It has passed the signal on to us before it knew better."""
            os.kill(self.pid, number)

        message = pack("<IIII", SAY_ATTEND, flags, 0, 0) + keys
        how, status = self._ask(message, [connection], meanwhile=lambda: self._listen(early, give_back))
        if how == ENDED_ALONE:
            raise Unavailable("monitor", detail="it ended without telling how the container did")
        return None if how == ENDED_DETACHED else status

    def _listen(self, early: Early, pass_on: Callable[[int], object]) -> None:
        """Until the front answers."""
        from select import POLLIN, poll

        waiting = poll()
        waiting.register(self._sock, POLLIN)
        waiting.register(early.fd, POLLIN)
        while self._sock.fileno() not in [fd for fd, _ in waiting.poll()]:
            for number in early.take():
                if number != _SIGCHLD:
                    pass_on(number)

    def _ask(
        self, message: bytes, fds: Sequence[int] = (), *, meanwhile: Callable[[], None] | None = None
    ) -> tuple[int, int]:
        with self._lock:
            send(self._sock, message, fds)
            if meanwhile is not None:
                meanwhile()
            answer = self._sock.recv(MESSAGE_LIMIT)
        if not answer:
            raise Unavailable("caller", detail="it has gone")
        if len(answer) != HEADER_LENGTH:
            raise DataLoss("front", detail=f"an answer of {len(answer)} bytes")
        kind, result, status, _ = unpack("<IiII", answer)
        if kind != ASK_ANSWER:
            raise DataLoss("front", detail=f"an answer of type {kind}")
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result, status


def send(sock: socket, message: bytes, fds: Sequence[int] = ()) -> None:
    """One packet. Raises OSError."""
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, pack(f"={len(fds)}i", *fds))] if fds else []
    sock.sendmsg([message], ancillary, MSG_NOSIGNAL)
