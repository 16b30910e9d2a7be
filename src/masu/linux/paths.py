"""Paths inside a root that somebody else fills: images, containers, volumes.

Once the root is open, everything goes through its descriptor: openat2(2) resolves each path as if the root were
"/" (RESOLVE_IN_ROOT), symlinks and ".." included, and refuses the magic links of procfs. A path is resolved once;
what comes after works on the descriptor. No function here returns a path to be opened later
(CVE-2021-30465, CVE-2024-45310, CVE-2019-14271, CVE-2025-24965).

Errors are KernelError with openat2's errno and the path as it was given; a caller that expects absence looks for
ENOENT or ENOTDIR.
"""

from __future__ import annotations

import errno
import os
import stat as _stat

from masu.errors import KernelError
from masu.linux import _sys, fds

# openat2(2)
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS

# The kernel gives EAGAIN when a rename anywhere raced with ".."; a busy or a hostile machine can do that for long.
_TRIES = 128

_CREATES = os.O_CREAT | (os.O_TMPFILE & ~os.O_DIRECTORY)


def open_root(path: str) -> int:
    """An O_PATH descriptor of a directory of the host, the `rootfd` of all other functions. Raises KernelError."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e


def open_in_root(rootfd: int, path: str, flags: int, mode: int = 0, *, resolve: int = 0) -> int:
    """openat2(2) of `path` with `rootfd` as "/". O_CLOEXEC is added; `resolve` adds RESOLVE_* rules.

    `mode` counts only with O_CREAT or O_TMPFILE. An open for reading or writing may block on a FIFO or act on a
    device: add O_NONBLOCK, or open O_PATH and look first, when an image chose what lies there.
    """
    flags |= os.O_CLOEXEC
    if not flags & _CREATES:
        mode = 0
    tries = _TRIES
    while True:
        try:
            return _sys.openat2(rootfd, path or ".", flags, mode, IN_ROOT | resolve)
        except OSError as e:
            tries -= 1
            if e.errno == errno.EAGAIN and tries > 0:
                continue
            raise KernelError("openat2", path, e.errno or 0) from e


def exists_in_root(rootfd: int, path: str) -> bool:
    """Whether `path` leads to something. Other errors than absence are raised."""
    try:
        os.close(open_in_root(rootfd, path, os.O_PATH))
    except KernelError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True


def stat_in_root(rootfd: int, path: str, *, follow: bool = True) -> os.stat_result:
    """fstat(2) of what `path` leads to; without `follow` of the last component itself."""
    fd = open_in_root(rootfd, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def readlink_in_root(rootfd: int, path: str) -> str:
    """The text of the symlink at `path`; it means something only inside the root. KernelError EINVAL: no symlink."""
    fd = open_in_root(rootfd, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink("", dir_fd=fd)
    except OSError as e:
        # readlinkat(fd, "") of anything but a symlink is ENOENT (readlinkat(2), Linux 2.6.39).
        raise KernelError("readlinkat", path, errno.EINVAL if e.errno == errno.ENOENT else e.errno or 0) from e
    finally:
        os.close(fd)


def read_in_root(rootfd: int, path: str, limit_bytes: int) -> bytes:
    """The content of a regular file in the root.

    Raises ResourceExhausted when it is longer than `limit_bytes` (CVE-2025-4437: an image's /etc/passwd of any
    size), KernelError EINVAL when it is no regular file: a FIFO would block, a device would be touched.
    """
    fd = open_in_root(rootfd, path, os.O_PATH)
    try:
        _require_regular(fd, path)
        file = reopen(fd, os.O_RDONLY | os.O_NOCTTY)
    finally:
        os.close(fd)
    try:
        return fds.read_all(file, limit_bytes, path)
    finally:
        os.close(file)


def write_in_root(rootfd: int, path: str, data: bytes, mode: int = 0o644, *, uid: int = -1, gid: int = -1) -> None:
    """Replace the content of a regular file in the root, which is made when missing (its directory must be there).

    A file that is there is truncated and keeps its owner and mode, since it may be the target of a bind mount; a
    new one gets `mode`, whatever the umask, and the owner given. Anything but a regular file is KernelError
    EINVAL, a dangling symlink ELOOP.
    """
    try:
        fd = open_in_root(rootfd, path, os.O_PATH)
    except KernelError as e:
        if e.errno != errno.ENOENT:
            raise
        file = _create_in_root(rootfd, path, mode, uid, gid)
    else:
        try:
            _require_regular(fd, path)
            file = reopen(fd, os.O_WRONLY | os.O_TRUNC)
        finally:
            os.close(fd)
    try:
        fds.write_all(file, data)
    except OSError as e:
        raise KernelError("write", path, e.errno or 0) from e
    finally:
        os.close(file)


def _create_in_root(rootfd: int, path: str, mode: int, uid: int, gid: int) -> int:
    parent, name = parent_in_root(rootfd, path)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            fd = open_in_root(parent, name, flags, 0o600)
        except KernelError as e:
            # O_EXCL meets a symlink that leads nowhere (the earlier open said ENOENT).
            raise KernelError("openat2", path, errno.ELOOP if e.errno == errno.EEXIST else e.errno) from e
    finally:
        os.close(parent)
    return _given(fd, path, mode, uid, gid)


def _given(fd: int, path: str, mode: int, uid: int, gid: int) -> int:
    """The file of `fd`, given its owner and mode; closed when that cannot be. Raises KernelError."""
    try:
        if uid >= 0 or gid >= 0:
            os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    except OSError as e:
        os.close(fd)
        raise KernelError("fchown", path, e.errno or 0) from e
    return fd


def parent_in_root(rootfd: int, path: str) -> tuple[int, str]:
    """(an O_PATH descriptor of the directory that holds the last component, that component).

    For the calls that take a directory and a name: unlinkat, mknodat, symlinkat. The name is never "", "." or ".."
    (KernelError EINVAL: such a path has no name of its own).
    """
    head, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise KernelError("openat2", path, errno.EINVAL, detail="the path does not end in a name")
    return open_in_root(rootfd, head or "/", os.O_PATH | os.O_DIRECTORY), name


def mkdir_in_root(rootfd: int, path: str, mode: int = 0o755, *, uid: int = -1, gid: int = -1) -> int:
    """`mkdir -p` inside the root; a descriptor (O_RDONLY, a directory) of the last one.

    What is there is resolved in the root, symlinks included, and left as it is. Each missing directory is made in
    the descriptor of its parent, with `mode` whatever the umask and the owner given, and opened without following
    anything. Beyond the first missing directory ".." is refused (KernelError ENOENT, as the kernel would); a
    dangling symlink is ELOOP or EEXIST, a file in the way ENOTDIR.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    directory, index = _longest_there(rootfd, parts, path)
    try:
        for part in parts[index:]:
            if part == "..":
                raise KernelError("mkdirat", path, errno.ENOENT, detail='".." after a missing directory')
            child = _mkdir(directory, part, path, mode, uid, gid)
            os.close(directory)
            directory = child
        return reopen(directory, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(directory)


def _longest_there(rootfd: int, parts: list[str], path: str) -> tuple[int, int]:
    # The whole path first, as it is there more often than not; then from the front. (Not by halves: a prefix that
    # is there says nothing about a shorter one when ".." is in it.)
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return open_in_root(rootfd, path, flags), len(parts)
    except KernelError as e:
        if e.errno != errno.ENOENT:
            raise
    there = open_in_root(rootfd, "/", flags)
    for count in range(1, len(parts) + 1):
        try:
            # From the root each time: a ".." must see where a symlink before it went.
            longer = open_in_root(rootfd, "/".join(parts[:count]), flags)
        except KernelError as e:
            if e.errno == errno.ENOENT:
                return there, count - 1
            os.close(there)
            raise
        os.close(there)
        there = longer
    return there, len(parts)


def _mkdir(directory: int, name: str, path: str, mode: int, uid: int, gid: int) -> int:
    made = True
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        # Somebody was faster, or it is a dangling symlink; the open below tells.
        made = False
    except OSError as e:
        raise KernelError("mkdirat", path, e.errno or 0) from e
    child = open_in_root(
        directory, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=RESOLVE_NO_SYMLINKS
    )
    return _given(child, path, mode, uid, gid) if made else child


def reopen(fd: int, flags: int) -> int:
    """The object behind an O_PATH descriptor, opened anew with `flags`; nothing is resolved again but our own
    descriptor. Not for symlinks. Raises KernelError."""
    try:
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
    except OSError as e:
        raise KernelError("open", f"/proc/self/fd/{fd}", e.errno or 0) from e


def _require_regular(fd: int, path: str) -> None:
    if not _stat.S_ISREG(os.fstat(fd).st_mode):
        raise KernelError("openat2", path, errno.EINVAL, detail="not a regular file")
