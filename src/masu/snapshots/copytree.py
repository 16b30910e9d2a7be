"""A tree as it is: owners, modes, times, xattrs, hard links, holes, devices, fifos."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from masu.store.db import from_os_error

_FICLONE = 0x40049409


def copy_tree(source: str, target: str) -> None:
    """Copies what is in `source` into the empty directory `target`; both are ours, nobody changes `source`.

    Raises ResourceExhausted on a full disk, KernelError and its kin.
    """
    links: dict[int, str] = {}
    directories: list[tuple[str, os.stat_result]] = []
    todo = [""]
    try:
        while todo:
            folder = todo.pop()
            with os.scandir(source + folder) as entries:
                found = sorted(entries, key=lambda e: e.name)
            for entry in found:
                path = f"{folder}/{entry.name}"
                facts = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(facts.st_mode) and facts.st_nlink > 1:
                    known = links.setdefault(facts.st_ino, path)
                    if known != path:
                        os.link(target + known, target + path, follow_symlinks=False)
                        continue
                _copy(source + path, target + path, facts)
                if stat.S_ISDIR(facts.st_mode):
                    todo.append(path)
                    directories.append((target + path, facts))
        for path, facts in reversed(directories):
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    except OSError as e:
        raise from_os_error(e, target) from e


def _copy(source: str, target: str, facts: os.stat_result) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if stat.S_ISREG(facts.st_mode):
        _copy_file(source, target, facts)
    elif stat.S_ISDIR(facts.st_mode):
        os.mkdir(target, 0o700)
    elif stat.S_ISLNK(facts.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISSOCK(facts.st_mode):
        # A name that a server bound; bound anew by the next one.
        os.mknod(target, stat.S_IFSOCK | 0o600)
    else:
        os.mknod(target, stat.S_IFMT(facts.st_mode) | 0o600, facts.st_rdev)
    os.chown(target, facts.st_uid, facts.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(facts.st_mode):
        os.chmod(target, mode)
    for name in os.listxattr(source, follow_symlinks=False):
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        except OSError as e:
            if e.errno not in (errno.ENOTSUP, errno.ENODATA):
                raise
    if not stat.S_ISDIR(facts.st_mode):
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns), follow_symlinks=False)


def _copy_file(source: str, target: str, facts: os.stat_result) -> None:
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if facts.st_size == 0:
                return
            try:
                fcntl.ioctl(write, _FICLONE, read)
                return
            except OSError as e:
                if e.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
            copy_data(read, write, facts.st_size)
        finally:
            os.close(write)
    finally:
        os.close(read)


def copy_data(read: int, write: int, size: int) -> None:
    """The data of a file, its holes left out."""
    at = 0
    while at < size:
        try:
            begin = os.lseek(read, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                break  # only a hole is left
            raise
        end = os.lseek(read, begin, os.SEEK_HOLE)
        while begin < end:
            n = _copy_range(read, write, begin, end - begin)
            if n == 0:
                break
            begin += n
        at = end
    os.ftruncate(write, size)


def _copy_range(read: int, write: int, offset: int, count: int) -> int:
    try:
        return os.copy_file_range(read, write, min(count, 1 << 30), offset, offset)
    except OSError as e:
        if e.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
            raise
    data = os.pread(read, min(count, 1 << 20), offset)
    done = 0
    while done < len(data):
        done += os.pwrite(write, data[done:], offset + done)
    return len(data)
