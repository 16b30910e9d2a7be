"""Talking to a monitor: a container's stdio, its terminal's size, its end.

A SOCK_SEQPACKET connection; each message is one type byte and a payload.

    to the monitor      a flags   first of all: ATTACH_* bits, which streams are wanted
                        i data    for stdin          c  close stdin
                        r rows columns (u16 each)    s  signal (u32), sent to the first process
                        h         hold stdin open: it does not end with the writer of its FIFO (answered by A)
                        k         "I clean up": the monitor then leaves its exit command alone
    from the monitor    A         attached; what the container writes from now on will come
                        o data, e data               x  exit status (u32), wait status (u32)
                        m  memory ran short: a process was killed for it, or is about to be (only with EVENTS)
"""

from __future__ import annotations

import errno
import os
from _socket import AF_UNIX, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_SEQPACKET, socket
from _struct import pack, unpack

from masu.errors import KernelError, NotFound, Unavailable

STDOUT = 1
STDERR = 2
STDIN = 4
EVENTS = 8

_MAX_MESSAGE = 65536
# A message to the monitor stays below the socket's buffer, so that a send never fails for its size.
_MAX_INPUT = 32768
# What says nothing of the monitor.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


class Attachment:
    """One connection. `fd` is to be polled; close it, or use `with`."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket) -> None:
        self._sock = sock

    @classmethod
    def connect(cls, path: str, flags: int) -> Attachment:
        """Raises NotFound when no monitor listens at `path`, Unavailable when it hangs up, KernelError when that cannot
        be found out: it may be there."""
        sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        try:
            _connect(sock, path)
            attachment = cls(sock)
            attachment._send(b"a" + bytes([flags]))
            return attachment
        except OSError as error:
            sock.close()
            if error.errno in _OURS:
                raise KernelError("connect", path, error.errno or 0) from error
            raise NotFound("monitor", path, error.errno or 0, detail="nobody listens there") from error

    def wait_attached(self) -> None:
        """Returns when the monitor has taken note; nothing that is written later is missed."""
        kind, _ = self.receive()
        if kind != "A":
            raise Unavailable("monitor", detail=f'it answered "{kind}" to attach')

    @property
    def fd(self) -> int:
        return self._sock.fileno()

    def receive(self) -> tuple[str, bytes]:
        """The next message as (type, payload); ("", b"") when the monitor hung up."""
        try:
            data = self._sock.recv(_MAX_MESSAGE)
        except ConnectionResetError:
            data = b""
        return (chr(data[0]), data[1:]) if data else ("", b"")

    def wait_told(self, deadline_s: float | None) -> tuple[bool, int | None]:
        """(True, the exit status that the monitor tells, None when it hangs up instead); (False, None) when it says
        nothing for `deadline_s`."""
        import select

        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while True:
            if not poll.poll(None if deadline_s is None else deadline_s * 1000):
                return False, None
            kind, payload = self.receive()
            if kind == "x":
                return True, exit_status(payload)
            if not kind:
                return True, None

    def write_stdin(self, data: bytes) -> None:
        for start in range(0, len(data), _MAX_INPUT):
            self._send(b"i" + data[start : start + _MAX_INPUT])

    def close_stdin(self) -> None:
        self._send(b"c")

    def hold_stdin(self) -> None:
        """Returns when it is so. Raises Unavailable."""
        self._send(b"h")
        self.wait_attached()

    def resize(self, rows: int, columns: int) -> None:
        self._send(b"r" + pack("<HH", rows, columns))

    def signal(self, number: int) -> None:
        self._send(b"s" + pack("<I", number))

    def promise_cleanup(self) -> None:
        self._send(b"k")

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, data: bytes) -> None:
        try:
            self._sock.send(data, MSG_NOSIGNAL)
        except BrokenPipeError as error:
            raise Unavailable("monitor", detail="it has ended") from error


def exit_status(payload: bytes) -> int:
    """The status in an `x` message: the program's own, or 128 + n for signal n."""
    status: int = unpack("<I", payload[:4])[0]
    return status


def listen(path: str, kind: int = SOCK_SEQPACKET) -> socket:
    """A listening socket for a monitor, 0600; a stale one at `path` is replaced."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket(AF_UNIX, kind | SOCK_CLOEXEC)
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # bind(2) makes the file with the umask's mode: fchmod before it decides the mode for unix sockets.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        sock.listen(16)
    except OSError:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock


def _connect(sock: socket, path: str) -> None:
    # sun_path holds 107 bytes; state directories may be deeper than that.
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)
