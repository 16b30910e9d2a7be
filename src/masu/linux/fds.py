"""Descriptors between processes, files that appear whole, locks.

Everything is close-on-exec from birth.
"""

from __future__ import annotations

import errno
import posix as os

from masu.errors import KernelError, ResourceExhausted, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket

# unix(7), socket(7); the values are the kernel's and the same on all architectures masu runs on.
_SOL_SOCKET = 1
_SO_PEERCRED = 17
_SCM_RIGHTS = 1
_MSG_CTRUNC = 0x08
_MSG_TRUNC = 0x20
_MSG_NOSIGNAL = 0x4000
_MSG_CMSG_CLOEXEC = 0x40000000
# SCM_MAX_FD
_MAX_FDS = 253

# memfd_create(2); MFD_NOEXEC_SEAL and MFD_EXEC are of Linux 6.3.
MFD_CLOEXEC = 0x1
MFD_ALLOW_SEALING = 0x2
MFD_NOEXEC_SEAL = 0x8
MFD_EXEC = 0x10

# fcntl(2), "File Sealing"
_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE


def send_fds(sock: Socket, data: bytes, fds: tuple[int, ...] | list[int] = ()) -> None:
    """One message with descriptors; on a stream socket `data` must not be empty. Raises KernelError."""
    ancillary = [(_SOL_SOCKET, _SCM_RIGHTS, _pack(fds))] if fds else []
    try:
        sock.sendmsg([data], ancillary, _MSG_NOSIGNAL)
    except OSError as e:
        raise KernelError("sendmsg", "", e.errno or 0) from e


def receive_fds(sock: Socket, size: int, max_fds: int) -> tuple[bytes, list[int]]:
    """(data, descriptors) of one message; the descriptors are the caller's to close. b"" is the end.

    A message longer than `size` or with more than `max_fds` descriptors is refused whole: KernelError EMSGSIZE, and
    what had arrived is closed.
    """
    space = 16 + (4 * min(max_fds, _MAX_FDS) + 7) // 8 * 8 if max_fds else 0
    try:
        data, ancillary, flags, _ = sock.recvmsg(size, space, _MSG_CMSG_CLOEXEC)
    except OSError as e:
        raise KernelError("recvmsg", "", e.errno or 0) from e
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
            fds += _unpack(payload)
    # CMSG_SPACE rounds up, so that one more than asked for may fit.
    if flags & (_MSG_TRUNC | _MSG_CTRUNC) or len(fds) > max_fds:
        for fd in fds:
            os.close(fd)
        what = "descriptors" if not flags & _MSG_TRUNC else "bytes"
        raise KernelError("recvmsg", "", errno.EMSGSIZE, detail=f"more {what} than expected")
    return data, fds


def _pack(fds: tuple[int, ...] | list[int]) -> bytes:
    from sys import byteorder

    return b"".join(fd.to_bytes(4, byteorder) for fd in fds)


def _unpack(payload: bytes) -> list[int]:
    from sys import byteorder

    return [int.from_bytes(payload[at : at + 4], byteorder) for at in range(0, len(payload) - 3, 4)]


def write_all(fd: int, data: bytes | memoryview) -> None:
    """write(2) until all is written. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def memfd(name: str, data: bytes, *, sealed: bool = True) -> int:
    """A memory file with `data`, its offset at 0, not executable, and sealed: nobody who is handed it can change it.

    Raises KernelError.
    """
    flags = MFD_CLOEXEC | MFD_ALLOW_SEALING
    try:
        try:
            fd = os.memfd_create(name, flags | MFD_NOEXEC_SEAL)
        except OSError as e:
            if e.errno != errno.EINVAL:  # before Linux 6.3
                raise
            fd = os.memfd_create(name, flags)
    except OSError as e:
        raise KernelError("memfd_create", name, e.errno or 0) from e
    try:
        write_all(fd, data)
        os.lseek(fd, 0, 0)
        if sealed:
            seal(fd)
    except OSError as e:
        os.close(fd)
        raise KernelError("memfd_create", name, e.errno or 0) from e
    return fd


def moved(fd: int, least: int) -> int:
    """The same file at a number that is at least `least`, close-on-exec; `fd` is closed. Raises OSError."""
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    other: int = fcntl(fd, F_DUPFD_CLOEXEC, least)
    os.close(fd)
    return other


def is_readable(fd: int) -> bool:
    """Whether a read, an accept or the end is there at once."""
    from select import poll

    poller = poll()
    poller.register(fd, 1)  # POLLIN
    return bool(poller.poll(0))


def seal(fd: int) -> None:
    """No more writing, growing, shrinking or unsealing (fcntl(2), F_ADD_SEALS). Raises OSError; EBUSY: a writable
    mapping is left."""
    from fcntl import fcntl

    fcntl(fd, _F_ADD_SEALS, _SEALS)


def read_bounded(path: str, limit_bytes: int) -> bytes:
    """The content of a file of the host.

    Raises FileNotFoundError, ResourceExhausted beyond the limit, KernelError for any other failure.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e
    try:
        return read_all(fd, limit_bytes, path)
    finally:
        os.close(fd)


def read_all(fd: int, limit_bytes: int, name: str) -> bytes:
    """Read to the end; `name` is for messages. Raises ResourceExhausted beyond the limit, KernelError."""
    chunks = []
    left = limit_bytes + 1
    try:
        while left > 0 and (chunk := os.read(fd, min(left, 1 << 18))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as e:
        raise KernelError("read", name, e.errno or 0) from e
    if left <= 0:
        raise ResourceExhausted("file", name, detail=f"longer than {limit_bytes} bytes")
    return b"".join(chunks)


def atomic_write(path: str, data: bytes, mode: int = 0o600, *, dirfd: int | None = None, sync: bool = True) -> None:
    """Write a file so that everybody sees the old content or the new, whole, also after a power cut: a temporary
    file beside it, fsync, rename, fsync of the directory.

    Without `sync` the fsyncs are left out, for files in a memory file system or ones that need not outlive a power
    cut. `path` is relative to `dirfd` when that is given. The mode is exact whatever the umask. Raises KernelError; the
    old file is then as it was, and the temporary one gone.
    """
    head, _, name = path.rpartition("/")
    directory = head or ("/" if path.startswith("/") else ".")
    try:
        parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dirfd)
    except OSError as e:
        raise KernelError("open", directory, e.errno or 0) from e
    temporary = f".{name[:200]}.{os.urandom(6).hex()}.tmp"
    step = "open"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, 0o600, dir_fd=parent)
        try:
            step = "write"
            write_all(fd, data)
            step = "fchmod"
            os.fchmod(fd, mode)
            if sync:
                step = "fsync"
                os.fsync(fd)
        finally:
            os.close(fd)
        step = "rename"
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        if sync:
            step = "fsync"
            os.fsync(parent)
    except OSError as e:
        error = KernelError(step, path, e.errno or 0)
        try:
            os.unlink(temporary, dir_fd=parent)
        except FileNotFoundError:
            pass
        except OSError as cleanup:
            error.cleanup.append(cleanup)
        raise error from e
    finally:
        os.close(parent)


def private_directory(path: str) -> bool:
    """Makes `path` and whatever is missing above it, all of it 0700; what is there stays as it is. True if it was made.

    os.makedirs gives its mode to the last one alone, and one open directory among those of our state shows others
    the setuid programs of containers below it (CVE-2021-41103, CVE-2024-25621). Raises KernelError.
    """
    from posixpath import dirname, isdir

    missing = []
    at = path.rstrip("/") or "/"
    while at and not isdir(at):
        missing.append(at)
        at = dirname(at)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            if not isdir(directory):
                raise KernelError("mkdir", directory, errno.ENOTDIR) from None
        except OSError as e:
            raise KernelError("mkdir", directory, e.errno or 0) from e
    return bool(missing)


def syncfs(fd: int, name: str = "") -> None:
    """All that was written to the file system of `fd` is on disk (syncfs(2)). `name` is for messages. KernelError."""
    from masu.linux import _sys  # an extension is opened, which few need

    try:
        _sys.syncfs(fd)
    except OSError as e:
        raise KernelError("syncfs", name, e.errno or 0) from e


def peer_of(sock: Socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of who is at the other end of a unix socket: has connected to it, or has called listen(2)
    (SO_PEERCRED, unix(7))."""
    from _struct import unpack

    pid, uid, gid = unpack("=iII", sock.getsockopt(_SOL_SOCKET, _SO_PEERCRED, 12))
    return pid, uid, gid


def lock_file(path: str, *, shared: bool = False, wait: bool = True, create: bool = True) -> int:
    """Take the flock(2) on a file and return its descriptor; closing that gives the lock back, as does death.

    The lock counts for the file that has the name when the lock is got: who waited for one that was removed or
    replaced meanwhile starts again with the new one. So the holder may unlink the file.

    Raises FileNotFoundError when its directory is gone (or the file, without `create`), Unavailable when `wait` is
    False and somebody else holds it, KernelError.
    """
    import fcntl

    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            raise
        except OSError as e:
            raise KernelError("open", path, e.errno or 0) from e
        try:
            fcntl.flock(fd, operation)
            mine = os.fstat(fd)
            named = os.stat(path, follow_symlinks=False)
            if (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino):
                return fd
        except FileNotFoundError:
            pass
        except BlockingIOError as e:
            os.close(fd)
            raise Unavailable("lock", path, detail="held by another process") from e
        except BaseException as e:
            os.close(fd)
            if isinstance(e, OSError):
                raise KernelError("flock", path, e.errno or 0) from e
            raise
        os.close(fd)


class Lock:
    """`lock_file` for `with`; taken when made."""

    __slots__ = ("_fd",)

    def __init__(self, path: str, *, shared: bool = False, wait: bool = True) -> None:
        self._fd = lock_file(path, shared=shared, wait=wait)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give it back; once more does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
