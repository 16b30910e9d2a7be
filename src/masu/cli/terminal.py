"""The user's own terminal: raw mode, its size, and a pump between it and a container's pty."""

from __future__ import annotations

import errno
import fcntl
import os
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 65536


class Raw:
    """Raw mode while inside `with`; nothing happens when `fd` is not a terminal. `output`: what is written to it is
    processed as before, a carriage return added to each newline, since the container's pty leaves that to us."""

    def __init__(self, fd: int, *, output: bool = False) -> None:
        self.fd = fd
        self._output = output
        self._saved: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Raw:
        if os.isatty(self.fd):
            self._saved = termios.tcgetattr(self.fd)
            raw = _raw(self._saved)
            if self._output:
                raw[1] = self._saved[1]
            termios.tcsetattr(self.fd, termios.TCSADRAIN, raw)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._saved is not None:
            try:
                termios.tcsetattr(self.fd, termios.TCSADRAIN, self._saved)
            except termios.error:
                pass  # its window was closed


def _raw(attributes: list[int | list[bytes | int]]) -> list[int | list[bytes | int]]:
    """cfmakeraw(3)."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = attributes
    assert isinstance(iflag, int)
    assert isinstance(oflag, int)
    assert isinstance(cflag, int)
    assert isinstance(lflag, int)
    iflag &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
        | termios.ICRNL | termios.IXON
    )  # fmt: skip
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, cc]


def is_gone() -> bool:
    """Whether one of the standard fds is a terminal whose other side has been closed."""
    for fd in (0, 1, 2):
        try:
            termios.tcgetattr(fd)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                return True
    return False


def size(fd: int) -> tuple[int, int]:
    """(rows, columns), (0, 0) when `fd` is not a terminal."""
    try:
        data = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return 0, 0
    return int.from_bytes(data[0:2], "little"), int.from_bytes(data[2:4], "little")


def set_size(fd: int, rows: int, columns: int) -> None:
    if rows or columns:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4))


def clear_onlcr(master: int) -> None:
    """The container's "\n" comes out as it is: our own terminal adds the carriage return, once is enough."""
    attributes = termios.tcgetattr(master)
    assert isinstance(attributes[1], int)
    attributes[1] &= ~termios.ONLCR
    termios.tcsetattr(master, termios.TCSANOW, attributes)


def read_master(fd: int) -> bytes:
    """What the pty has to say, b"" at its end: a pty tells the end of the other side by EIO."""
    try:
        return os.read(fd, _CHUNK)
    except OSError:
        return b""
