"""Copies trees between open directories, fd by fd: owners, modes, times, extended attributes, hard links.

Either side may belong to an image or a container, so no path is resolved twice and no symlink is followed
(CVE-2022-23648, CVE-2018-15664): every directory is opened by name with O_NOFOLLOW in its parent's descriptor. Device
nodes are not copied: an image's word must not make them appear in a directory of the host.
"""

from __future__ import annotations

import errno
import os
import stat

from masu.errors import FailedPrecondition, KernelError, ResourceExhausted

_CHUNK = 1 << 20
_MAX_DEPTH = 256
_MAX_LINKED = 128
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Rules:
    """How entries are written. `owner` None keeps the source's, (-1, -1) leaves what the kernel gives.

    `replace` writes over what is there, as cp does: directories are merged, other things replaced, but never a
    directory by something else or the other way round. Directories in `skip`, (device, inode) each, stay empty.
    """

    __slots__ = ("owner", "replace", "skip", "xattrs")

    def __init__(
        self,
        *,
        owner: tuple[int, int] | None = None,
        replace: bool = False,
        xattrs: bool = True,
        skip: frozenset[tuple[int, int]] = frozenset(),
    ) -> None:
        self.owner = owner
        self.replace = replace
        self.xattrs = xattrs
        self.skip = skip


def copy_contents(source: int, target: int, rules: Rules | None = None) -> None:
    """All that is in the directory `source` into the directory `target`; both are open for reading.

    Raises KernelError with the path below `source`, FailedPrecondition where a directory meets something else.
    """
    copier = _Copier(rules or Rules())
    try:
        copier.contents(source, target, "", 0)
    finally:
        copier.close()


def copy_entry(source: int, name: str, target: int, new_name: str, rules: Rules | None = None) -> None:
    """What is called `name` in the directory `source` to `new_name` in `target`, with all below it."""
    copier = _Copier(rules or Rules())
    try:
        copier.entry(source, name, target, new_name, new_name, 0)
    finally:
        copier.close()


def copy_metadata(source: int, target: int, rules: Rules | None = None) -> None:
    """Owner, mode, times and extended attributes of an open file or directory onto another."""
    rules = rules or Rules()
    status = os.fstat(source)
    owner = (status.st_uid, status.st_gid) if rules.owner is None else rules.owner
    if owner != (-1, -1):
        os.fchown(target, *owner)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    if rules.xattrs:
        _copy_xattrs(source, target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_file(source: int, target: int, size: int) -> None:
    """The bytes of a regular file, shared or copied in the kernel where that can be (copy_file_range(2))."""
    while size > 0:
        try:
            count = os.copy_file_range(source, target, min(size, 1 << 30))
        except OSError as error:
            # another file system before Linux 5.19, or one that cannot
            if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            break
        if not count:
            return
        size -= count
    while chunk := os.read(source, _CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]


def make_way(target: int, name: str, path: str, *, directory: bool) -> bool:
    """Removes what a copy replaces. True when a directory is there that is to be merged with.

    Raises FailedPrecondition when a directory meets something else.
    """
    try:
        status = os.stat(name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        return False
    there = stat.S_ISDIR(status.st_mode)
    if there and directory:
        return True
    if there or directory:
        kind = "a directory" if there else "not a directory"
        raise FailedPrecondition("cannot overwrite", path, detail=f"what is there is {kind}")
    os.unlink(name, dir_fd=target)
    return False


class _Copier:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        # (device, inode) of files with several names -> an O_PATH descriptor of the first copy
        self.linked: dict[tuple[int, int], int] = {}

    def close(self) -> None:
        for fd in self.linked.values():
            os.close(fd)
        self.linked.clear()

    def contents(self, source: int, target: int, path: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ResourceExhausted("directory", path, detail=f"deeper than {_MAX_DEPTH} levels")
        if self.rules.skip:
            status = os.fstat(source)
            if (status.st_dev, status.st_ino) in self.rules.skip:
                return
        for name in sorted(os.listdir(source)):
            self.entry(source, name, target, name, f"{path}/{name}", depth)

    def entry(self, source: int, name: str, target: int, new_name: str, path: str, depth: int) -> None:
        try:
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            kind = stat.S_IFMT(status.st_mode)
            if kind not in (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO):
                return  # a socket or a device
            merge = self.rules.replace and make_way(target, new_name, path, directory=kind == stat.S_IFDIR)
            if kind == stat.S_IFDIR:
                self.directory(source, name, target, new_name, path, depth, merge=merge)
            elif kind == stat.S_IFREG:
                self.regular(source, name, target, new_name, status)
            else:
                if kind == stat.S_IFLNK:
                    os.symlink(os.readlink(name, dir_fd=source), new_name, dir_fd=target)
                else:
                    os.mkfifo(new_name, stat.S_IMODE(status.st_mode), dir_fd=target)
                self.node(target, new_name, status)
        except OSError as error:
            raise KernelError("copy", path, error.errno or 0) from error

    def node(self, target: int, name: str, status: os.stat_result) -> None:
        owner = (status.st_uid, status.st_gid) if self.rules.owner is None else self.rules.owner
        if owner != (-1, -1):
            os.chown(name, *owner, dir_fd=target, follow_symlinks=False)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)

    def directory(
        self, source: int, name: str, target: int, new_name: str, path: str, depth: int, *, merge: bool
    ) -> None:
        inner = os.open(name, _OPEN_DIRECTORY, dir_fd=source)
        try:
            if not merge:
                os.mkdir(new_name, 0o700, dir_fd=target)
            copy = os.open(new_name, _OPEN_DIRECTORY, dir_fd=target)
            try:
                self.contents(inner, copy, path, depth + 1)
                copy_metadata(inner, copy, self.rules)
            finally:
                os.close(copy)
        finally:
            os.close(inner)

    def regular(self, source: int, name: str, target: int, new_name: str, status: os.stat_result) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self.linked:
            os.link(f"/proc/self/fd/{self.linked[key]}", new_name, dst_dir_fd=target, follow_symlinks=True)
            return
        # O_NONBLOCK: if a FIFO has taken its place meanwhile, the open must not wait; it is looked at again below
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        inner = os.open(name, flags, dir_fd=source)
        try:
            if not stat.S_ISREG(os.fstat(inner).st_mode):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            copy = os.open(new_name, flags, 0o600, dir_fd=target)
            try:
                copy_file(inner, copy, status.st_size)
                copy_metadata(inner, copy, self.rules)
            finally:
                os.close(copy)
        finally:
            os.close(inner)
        if status.st_nlink > 1 and len(self.linked) < _MAX_LINKED:
            self.linked[key] = os.open(new_name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)


def _copy_xattrs(source: int, target: int) -> None:
    try:
        names = os.listxattr(source)
    except OSError:
        return
    for name in names:
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue  # the bookkeeping of overlayfs, not the file's own
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENODATA, errno.EPERM):
                raise
