"""What the keeper of a brain and its spares have in common, inherited over fork(2)."""

from __future__ import annotations

import mmap
import os
from _struct import pack

from masu.linux import fds, powers
from masu.linux.front import PROTOCOL_VERSION, SAY_HELLO, SECRET_LENGTH
from masu.linux.watch import Watch
from masu.spec import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

# Above what a caller's own descriptors are likely to be: a spare gives those their numbers.
FDS_BEGIN = 400

_STALE = 8  # place in the shared memory


class Shared:
    """`path` is where the socket lies, `program` runs a command line; the rest is made here."""

    __slots__ = ("listener", "memory", "path", "powers", "program", "secret", "secret_fd", "started", "taken", "watch")

    def __init__(self, path: str, program: Callable[[str, list[str]], int]) -> None:
        self.path = path
        self.program = program
        self.started = times.now()
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)  # number of calls; a byte: the keeper has seen a change
        self.secret = os.urandom(SECRET_LENGTH)
        self.secret_fd = high(fds.memfd("masu-secret", self.secret))
        self.watch = Watch(ignored=frozenset(("__pycache__",)))
        self.watch.move(FDS_BEGIN)
        proc = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.powers = powers.of(proc, powers.status(proc))
        os.close(proc)
        self.listener: socket
        self.taken = -1

    @property
    def stale(self) -> bool:
        """Whether a file that we are made of has changed, be it that the keeper has not noticed yet."""
        return bool(self.memory[_STALE]) or fds.is_readable(self.watch.fileno())

    def look(self) -> bool:
        """The keeper's way to ask. What it reads of changes nobody else will see: so it says first that it looks."""
        before = self.memory[_STALE]
        self.memory[_STALE] = 1
        changed = self.watch.changed() or bool(before)
        self.memory[_STALE] = changed
        return changed

    @property
    def calls(self) -> int:
        """How many there were, as the keeper counts them."""
        return int.from_bytes(self.memory[:_STALE], "little")

    def count(self, calls: int) -> None:
        self.memory[:_STALE] = (self.calls + calls).to_bytes(_STALE, "little")


def high(fd: int) -> int:
    """The same file at a number out of the way."""
    return fds.moved(fd, FDS_BEGIN)


def hello(shared: Shared, *, busy: bool = False) -> bytes:
    return pack("<IIII", SAY_HELLO, PROTOCOL_VERSION, busy, shared.secret_fd)
