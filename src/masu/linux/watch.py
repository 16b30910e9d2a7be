"""Whether files have changed since somebody looked: inotify(7)."""

from __future__ import annotations

import os
from _struct import unpack_from

from masu.errors import KernelError
from masu.linux import _sys, fds

_MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE = 0x2, 0x4, 0x40, 0x80, 0x100
_DELETE, _DELETE_SELF, _MOVE_SELF = 0x200, 0x400, 0x800
_IN_DIRECTORY = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
# A file that is replaced by rename(2) loses a link: that is IN_ATTRIB.
_ON_FILE = _MODIFY | _ATTRIB | _DELETE_SELF | _MOVE_SELF


class Watch:
    """`fileno` becomes readable with the first change; a process forked later sees the same."""

    __slots__ = ("_fd", "_ignored")

    def __init__(self, *, ignored: frozenset[str] = frozenset()) -> None:
        """`ignored` are names that may come and go. Raises KernelError (the user's instances are used up)."""
        self._ignored = frozenset(os.fsencode(name) for name in ignored)
        try:
            self._fd = _sys.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise KernelError("inotify_init1", "", error.errno or 0) from error

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def move(self, number: int) -> None:
        """To a descriptor that is at least `number`."""
        self._fd = fds.moved(self._fd, number)

    def add(self, path: str) -> None:
        """A file, or a directory with the files that lie directly in it. Raises KernelError."""
        try:
            _sys.inotify_add_watch(self._fd, path, _IN_DIRECTORY if os.path.isdir(path) else _ON_FILE)
        except OSError as error:
            raise KernelError("inotify_add_watch", path, error.errno or 0) from error

    def add_tree(self, directory: str) -> None:
        """A directory and those below it. Raises KernelError."""
        self.add(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and os.fsencode(entry.name) not in self._ignored:
                    self.add_tree(entry.path)

    def changed(self) -> bool:
        """Whether something has changed, ignored names apart; what was read is not told again."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return False
        at = 0
        while at + 16 <= len(data):
            length = unpack_from("=I", data, at + 12)[0]
            name = data[at + 16 : at + 16 + length].rstrip(b"\0")
            if name not in self._ignored:
                return True
            at += 16 + length
        return False
