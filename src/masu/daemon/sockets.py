"""Unix sockets: where they are, who may use them, who listens there already.

root's are 0600. One for a group lies in a directory of its own, 0711, and is 0660 (design, "State"): the state
directory stays shut. A path too long for sockaddr_un (108 bytes, unix(7)) is bound through /proc/self/fd.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat

from masu.errors import AlreadyExists, FailedPrecondition, KernelError

_SUN_PATH = 107
BACKLOG = 4096


class Place:
    """A path to bind: `address` is its short form, good until `close`. Raises AlreadyExists when somebody listens
    there, FailedPrecondition when something else lies there, KernelError.

    Its directory is locked from the look until there is a socket that listens: of several daemons that find what a
    killed one has left, each would take away the other's.
    """

    def __init__(self, path: str, uid: int = 0, gid: int = 0) -> None:
        self.path = os.path.abspath(path)
        self._uid, self._gid = uid, gid
        folder, name = os.path.split(self.path)
        try:
            os.makedirs(folder, 0o711, exist_ok=True)
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("socket", self.path, error.errno or 0) from error
        short = len(os.fsencode(self.path)) <= _SUN_PATH
        self.address = self.path if short else f"/proc/self/fd/{self._folder}/{name}"
        self._made: tuple[int, int] | None = None
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX)
            self._make_way()
        except BaseException:
            os.close(self._folder)
            raise

    def _make_way(self) -> None:
        try:
            there = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(there.st_mode):
            raise FailedPrecondition("socket", self.path, detail="something that is no socket lies there")
        if somebody_listens(self.address):
            raise AlreadyExists("socket", self.path, detail="a daemon listens there")
        os.unlink(self.path)

    def bind(self) -> socket.socket:
        """A socket that listens and does not block; nobody's but its owner's until it is open to those that it is for.
        The umask is the process's: nothing else may make files meanwhile. Raises KernelError."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            bound.bind(self.address)
            if self._uid or self._gid:
                os.chown(self.address, self._uid, self._gid)
                os.chmod(self.address, 0o660)
            bound.listen(BACKLOG)
        except OSError as error:
            bound.close()
            raise KernelError("bind", self.path, error.errno or 0) from error
        finally:
            os.umask(before)
            fcntl.flock(self._folder, fcntl.LOCK_UN)
        self._made = _identity(self.address)
        return bound

    def close(self) -> None:
        """The socket goes, unless it is another's by now."""
        if self._made is not None and _identity(self.address) == self._made:
            os.unlink(self.address)
        os.close(self._folder)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def somebody_listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as talk:
        talk.setblocking(False)
        try:
            talk.connect(address)
        except BlockingIOError:
            return True  # somebody whose queue is full
        except OSError:
            return False
        return True
