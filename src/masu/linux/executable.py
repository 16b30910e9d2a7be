"""masu-launch as containers may see it: readable, but never writable through /proc/PID/exe.

A process inside a container can open the executable of whoever enters it through /proc/PID/exe. If that file lies
on the host, root in the container can wait until it is no longer running and write into it: the next container's
birth runs the attacker's code as root of the host (CVE-2019-5736). So masu-launch runs from

1. a read-only overlay mount that is attached nowhere and whose lower layers are its directory and another one.
   The memory is shared with every other copy of it; writing is EROFS, and no chmod or remount helps, for the
   mount is in no namespace of the container's.
2. where that cannot be made (in a user namespace, on an odd file system): a sealed copy in a memfd, whose pages
   each container pays for anew; writing is EPERM.
"""

from __future__ import annotations

import errno
import os

from masu.errors import FailedPrecondition, KernelError, NotFound
from masu.linux import fds, mount

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Two lower layers are the least that a read-only overlay takes; they must not lie in each other (ELOOP). Only the
# first is looked into.
_SECOND_LAYERS = (os.path.dirname(os.path.abspath(__file__)), "/etc", "/usr/share")
_F_SEAL_EXEC = 0x20
_F_ADD_SEALS = 1033


class Protected:
    """An open executable. `path` goes to `masu.linux.spawn.spawn` (it is a descriptor); `keep` are descriptors that
    must cross the exec with it: none, execveat(2) needs none. `kind` is "overlay" or "memfd". Closed by the owner
    after the spawn."""

    __slots__ = ("keep", "kind", "path")

    def __init__(self, fd: int, kind: str) -> None:
        self.path = fd
        self.kind = kind
        self.keep: tuple[int, ...] = ()

    def close(self) -> None:
        if self.path >= 0:
            os.close(self.path)
            self.path = -1


def launcher_path() -> str:
    """Where masu-launch was built or installed. Raises NotFound with what to do."""
    path = _PACKAGE + "/libexec/masu-launch"
    if not os.access(path, os.X_OK):
        raise NotFound("program", path, detail="masu-launch has not been built", hint="in a checkout, run ./masu once")
    return path


# What `keep_ready` has opened, by path.
_ready: dict[str, int] = {}


def keep_ready(path: str, number: int) -> None:
    """For a process that lives longer: opens `path` now, at a descriptor that is at least `number`, so that `protected`
    need not mount anything."""
    try:
        _ready[path] = fds.moved(overlay(path), number)
    except KernelError:
        pass  # the other way is gone anew each time


def protected(path: str) -> Protected:
    """Open an ELF executable so that nobody it is shown to can write it.

    Raises NotFound, KernelError, and FailedPrecondition where neither way is open (vm.memfd_noexec=2 in a
    user namespace).
    """
    if path in _ready:
        return Protected(os.dup(_ready[path]), "overlay")
    try:
        return Protected(overlay(path), "overlay")
    except KernelError:
        # Whatever the reason, the second way is as safe; and its errors are the ones to tell.
        return Protected(sealed_copy(path), "memfd")


def overlay(path: str) -> int:
    """A descriptor of the executable in a detached read-only overlay. Raises KernelError."""
    directory, _, name = path.rpartition("/")
    directory = os.path.realpath(directory or "/" * path.startswith("/") or ".")
    last: KernelError | None = None
    for second in _SECOND_LAYERS:
        if _nested(directory, second):
            continue
        try:
            mounted = mount.new_mount(
                "overlay",
                "masu-launch",
                (f"lowerdir={_escape(directory)}:{_escape(second)}",),
                attr=mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV,
            )
        except KernelError as e:
            last = e
            if e.errno not in (errno.ELOOP, errno.ENOENT):
                break
            continue
        try:
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=mounted)
        except OSError as e:
            raise KernelError("open", path, e.errno or 0) from e
        finally:
            os.close(mounted)
    raise last or KernelError("fsopen", "overlay", errno.ELOOP)


def _nested(a: str, b: str) -> bool:
    return (a + "/").startswith(b + "/") or (b + "/").startswith(a + "/")


def _escape(directory: str) -> str:
    return directory.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def sealed_copy(path: str) -> int:
    """A descriptor of a sealed copy in memory, opened for reading. Raises NotFound, KernelError,
    FailedPrecondition when the sysctl vm.memfd_noexec forbids executable memory files."""
    from fcntl import fcntl

    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as e:
        raise NotFound("program", path) from e
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e
    try:
        copy = _executable_memfd(path.rpartition("/")[2])
        try:
            left = os.fstat(source).st_size
            while left > 0 and (sent := os.sendfile(copy, source, None, left)):
                left -= sent
            os.fchmod(copy, 0o555)
            try:
                fcntl(copy, _F_ADD_SEALS, _F_SEAL_EXEC)
            except OSError:
                pass  # before Linux 6.3; the mode alone stays open to chmod(2)
            fds.seal(copy)
            # Anew and for reading: a descriptor open for writing would make the exec fail with ETXTBSY.
            return os.open(f"/proc/self/fd/{copy}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise KernelError("memfd_create", path, e.errno or 0) from e
        finally:
            os.close(copy)
    finally:
        os.close(source)


def _executable_memfd(name: str) -> int:
    flags = fds.MFD_CLOEXEC | fds.MFD_ALLOW_SEALING
    try:
        try:
            return os.memfd_create(name, flags | fds.MFD_EXEC)
        except OSError as e:
            if e.errno != errno.EINVAL:  # before Linux 6.3
                raise
            return os.memfd_create(name, flags)
    except OSError as e:
        if e.errno == errno.EACCES:
            raise FailedPrecondition(
                "memfd_create",
                name,
                e.errno,
                detail="vm.memfd_noexec=2 forbids executable memory files, and an overlay could not be mounted",
                hint="sysctl vm.memfd_noexec=1, or run as root",
            ) from e
        raise KernelError("memfd_create", name, e.errno or 0) from e


def sealed_memfd(name: str, data: bytes) -> int:
    """See `masu.linux.fds.memfd`."""
    return fds.memfd(name, data)
