"""One call: who it is from, taking the caller's place, doing what was asked for.

A request (ASK_CALL; native/front/request.c writes it)

    u32 type, words, environment strings, program (one of _PROGRAMS)
    secret; i64 the caller's start, CLOCK_MONOTONIC ns; u32 number of further fds, then their numbers
    fds: file of the strings, lifeline, the three standard ones, the further ones

What else there is to know of a caller /proc says: its powers, working directory, umask, the signals that it ignores.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import posix
import select
import stat
import sys
import time
from _socket import (
    AF_UNIX,
    SCM_RIGHTS,
    SO_PASSCRED,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
)
from struct import error as struct_error
from struct import pack, unpack, unpack_from

import masu
from masu.cli.brain.shared import FDS_BEGIN, hello, high
from masu.linux import fds, pidfd, powers, process, spawn
from masu.linux.front import (
    ASK_CALL,
    ASK_LEAVE,
    ASK_STATUS,
    FDS_LIMIT,
    HEADER_LENGTH,
    MESSAGE_LIMIT,
    SAY_COLD,
    SAY_EXIT,
    SAY_GO,
    SECRET_LENGTH,
    Front,
    send,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.cli.brain.shared import Shared

_SCM_CREDENTIALS = 2
_PROGRAMS = ("masu", "masu-oci", "containerd-shim-masu-v2")
# What a caller may take to write down what it wants.
_PATIENCE_MS = 5000
# The most that the kernel takes for words and environment is a quarter of the stack's limit, 6 MB (execve(2)).
_STRINGS_MAX = 16 << 20
# fcntl(2)
_F_SETSIG = 10


class Refused(Exception):
    """No call for us: the caller goes cold, for the reason given."""


class Request:
    """What came from a front, understood. The fds are the owner's to close."""

    __slots__ = ("argv", "began_ns", "env", "further", "lifeline", "program", "secret", "standard")

    def __init__(self, message: bytes, fds: list[int]) -> None:
        """Raises Refused for what is no request."""
        try:
            kind, words, variables, program = unpack_from("<IIII", message)
            at = HEADER_LENGTH + SECRET_LENGTH
            self.secret = message[HEADER_LENGTH:at]
            self.began_ns, count = unpack_from("<qI", message, at)
            numbers: tuple[int, ...] = unpack(f"<{count}I", message[at + 12 :])
            self.program = _PROGRAMS[program]
        except (struct_error, IndexError, MemoryError, OverflowError) as error:
            raise Refused("not a request") from error
        if kind != ASK_CALL or len(fds) != 5 + count:
            raise Refused("not a request")
        self.lifeline = fds[1]
        self.standard = fds[2:5]
        self.further = dict(zip(numbers, fds[5:], strict=True))
        if len(self.further) != count or any(number < 3 or number >= 1 << 20 for number in numbers):
            raise Refused("impossible numbers of descriptors")
        texts = _strings(fds[0], words, variables)
        self.argv = [os.fsdecode(text) for text in texts[:words]]
        self.env = texts[words:]


def _strings(fd: int, words: int, variables: int) -> list[bytes]:
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode) or about.st_size > _STRINGS_MAX or words < 1:
        raise Refused("no strings")
    texts = os.pread(fd, about.st_size, 0).split(b"\0")
    if texts.pop() != b"" or len(texts) != words + variables:
        raise Refused("no such number of strings")
    return texts


def accept(listener: socket) -> socket:
    """Waits for a caller; its connection, at a number out of the way. Raises OSError when the socket is shut."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.socket.accept is made of
    return socket(AF_UNIX, SOCK_SEQPACKET, 0, fileno=high(fd))


def wait_and_serve(shared: Shared, keeper: int) -> int:
    """A spare's life; the exit status of its process."""
    process.die_with_parent(_signal.SIGKILL)
    if os.getppid() != keeper:
        return 0
    process.own_memory(lambda: fds.is_readable(shared.listener.fileno()))  # until somebody waits
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        connection = accept(shared.listener)
    except OSError:
        return 0  # shut: the keeper leaves
    process.die_with_parent(0)
    os.write(shared.taken, os.getpid().to_bytes(4, "little"))
    peer = fds.peer_of(connection)[0]
    try:
        # Opened before it is asked anything, and the answer tells by whom it was sent: as long as both are the same
        # process, nobody can have been given its pid.
        proc = os.open(f"/proc/{peer}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        connection.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        send(connection, hello(shared, busy=shared.stale))
        message, received, sender = _receive(connection)
    except (OSError, Refused):
        return 0
    if sender != peer or not message:
        return 0
    kind = int.from_bytes(message[:4], "little")
    if kind in (ASK_STATUS, ASK_LEAVE):
        return _control(shared, keeper, kind, connection)
    try:
        request, said = Request(message, received), powers.status(proc)
        _admit(shared, request, proc, said)
        cwd = os.open("cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    except (Refused, OSError) as error:
        send(connection, pack("<IIII", SAY_COLD, 0, 0, 0) + str(error).encode("utf-8", "replace"))
        return 0
    os.close(proc)
    os.close(received[0])
    shared.listener.close()
    _take_place(request, said, cwd)
    spawn.front = Front(connection, peer, request.began_ns, time.monotonic_ns())
    own = pidfd.open(os.getpid())
    send(connection, pack("<IIII", SAY_GO, 0, 0, 0), [own])
    os.close(own)
    status = _status(shared)
    send(connection, pack("<IiII", SAY_EXIT, status, 0, 0))
    return 0


def _status(shared: Shared) -> int:
    """Runs the command; what nobody has caught ends it as it would end an interpreter."""
    try:
        return shared.program(sys.argv[1], sys.argv[2:])
    except SystemExit as end:
        if isinstance(end.code, int):
            return end.code
        print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    return 1


def _receive(connection: socket) -> tuple[bytes, list[int], int]:
    """(message, its fds, the sender's pid); nothing at the end of file. Raises Refused after too long a silence."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(_PATIENCE_MS):
        raise Refused("silence")
    space = 32 + 16 + 4 * FDS_LIMIT + 4
    message, ancillary, _, _ = connection.recvmsg(MESSAGE_LIMIT, space)
    received: list[int] = []
    sender = 0
    for level, kind, payload in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            received += unpack(f"={len(payload) // 4}i", payload[: len(payload) // 4 * 4])
        elif level == SOL_SOCKET and kind == _SCM_CREDENTIALS:
            sender = unpack_from("=i", payload)[0]
    return message, received, sender


def _admit(shared: Shared, request: Request, proc: int, said: dict[bytes, bytes]) -> None:
    """Raises Refused when we may not stand in for who sent the request, OSError."""
    if request.secret != shared.secret:
        raise Refused("the secret is another")
    other = powers.difference(shared.powers, powers.of(proc, said))
    if other:
        raise Refused(f"{other} is another than ours")


def _take_place(request: Request, said: dict[bytes, bytes], cwd: int) -> None:
    """Makes what the caller has our own; `said` is the status of its process."""
    # From here on the end of the caller is ours: the kernel sends SIGKILL when its end of the pipe is closed.
    fcntl.fcntl(request.lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(request.lifeline, _F_SETSIG, _signal.SIGKILL)
    fcntl.fcntl(request.lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if fds.is_readable(request.lifeline):
        os._exit(0)
    os.fchdir(cwd)
    os.close(cwd)
    os.umask(int(said[b"Umask"], 8))
    ignored = int(said[b"SigIgn"], 16) << 1  # the first bit is signal 1
    for number in range(1, 32):
        if ignored >> number & 1:
            _signal.signal(number, _signal.SIG_IGN)
    _place_fds(request)
    for name in posix.environ:
        posix.unsetenv(name)
    posix.environ.clear()  # what os.environ lies on
    for text in request.env:
        name, _, value = text.partition(b"=")
        if name not in posix.environ and name:  # of two the interpreter takes the first, too
            posix.environ[name] = value
            posix.putenv(name, value)
    sys.argv[1:] = [request.program, *request.argv[1:]]
    _new_streams()


def _place_fds(request: Request) -> None:
    """The caller's descriptors get the numbers that they have there; above 2 nothing else lies among them."""
    request.lifeline = high(request.lifeline)
    # What came lies on numbers that others of it may want.
    above = max((FDS_BEGIN, *request.further)) + 1
    moved = [(number, fds.moved(fd, above)) for number, fd in request.further.items()]
    for number, fd in (*enumerate(request.standard), *moved):
        os.dup2(fd, number)
        os.close(fd)


def _new_streams() -> None:
    """As the interpreter makes them at its start, in UTF-8 mode (PEP 540)."""
    for fd, name, mode, errors in (
        (0, "stdin", "r", "surrogateescape"),
        (1, "stdout", "w", "surrogateescape"),
        (2, "stderr", "w", "backslashreplace"),
    ):
        stream = open(fd, mode, 1 if fd == 2 else -1, encoding="utf-8", errors=errors, closefd=False)
        setattr(sys, name, stream)


def _control(shared: Shared, keeper: int, kind: int, connection: socket) -> int:
    if kind == ASK_LEAVE:
        os.kill(keeper, _signal.SIGTERM)
    from masu.spec import jsontext

    about = {
        "pid": keeper,
        "version": masu.__version__,
        "package": os.path.dirname(masu.__file__),
        "started": shared.started,
        "calls": shared.calls,
    }
    send(connection, jsontext.dumps(about).encode())
    return 0
