"""Folders that come and go: made under a lock that says somebody is filling them, removed whatever is in them."""

from __future__ import annotations

import errno
import os
import stat

from masu.store.db import from_os_error

_OPEN_DIRECTORIES = 64
_REFILLED = 16


def fsync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_locked(prefix: str) -> tuple[str, int]:
    """Makes a folder `<prefix><random>` (0700); returns its path and the descriptor that holds its lock.

    While the lock is held, which ends with the descriptor or the process, the garbage collector leaves the folder
    alone; afterwards it is abandoned. Raises OSError.
    """
    import fcntl  # an extension of its own; only who makes a snapshot comes here

    while True:
        path = prefix + os.urandom(8).hex()
        os.mkdir(path, 0o700)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # swept before it was locked
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink > 0 and os.path.exists(path):
            return path, fd
        os.close(fd)


def remove_tree(path: str) -> None:
    """Removes `path` and all below it. What is gone already is no error; a mount below it is not entered.

    Works relative to open directories with O_NOFOLLOW, so a symbolic link put in place of a directory meanwhile is
    unlinked, not followed. Raises KernelError and its kin for the first name that would not go.
    """
    parent, name = os.path.split(path)
    try:
        top = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as e:
        raise from_os_error(e, parent) from e
    try:
        device = os.stat(name, dir_fd=top, follow_symlinks=False).st_dev
        _remove(top, name, device)
    except FileNotFoundError:
        pass
    except OSError as e:
        raise from_os_error(e, path) from e
    finally:
        os.close(top)


def _remove(top: int, name: str, device: int) -> None:
    if not _unlink(top, name):
        return
    # A stack of open directories, deepest last, each with the directories in it that are still to be done. Its depth
    # is bounded by descriptors: what lies deeper is moved up into the first directory, and comes up there again.
    base = _enter(top, name, device)
    stack = [(base, name, _clear(base))]
    moved = refilled = 0
    try:
        while stack:
            fd, own_name, folders = stack[-1]
            if folders:
                child = folders.pop()
                try:
                    if len(stack) < _OPEN_DIRECTORIES:
                        entered = _enter(fd, child, device)
                        stack.append((entered, child, []))
                        stack[-1][2].extend(_clear(entered))
                    else:
                        moved += 1
                        os.rename(child, f".masu-rm-{moved}", src_dir_fd=fd, dst_dir_fd=base)
                        stack[0][2].append(f".masu-rm-{moved}")
                except FileNotFoundError:
                    pass  # somebody else removes the same
                continue
            try:
                os.rmdir(own_name, dir_fd=stack[-2][0] if len(stack) > 1 else top)
            except FileNotFoundError:
                pass
            except OSError as e:
                # Whoever filled it has been killed, but had one more call to finish.
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST) or refilled == _REFILLED:
                    raise
                refilled += 1
                folders.extend(_clear(fd))
                continue
            stack.pop()
            os.close(fd)
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _clear(fd: int) -> list[str]:
    """Unlinks what is no directory, removes empty ones; returns the names of the others."""
    folders = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                try:
                    os.unlink(entry.name, dir_fd=fd)
                except FileNotFoundError:
                    pass
    return [name for name in folders if _unlink(fd, name)]


def _unlink(fd: int, name: str) -> bool:
    """Whether `name` is a directory with something in it, still there."""
    try:
        os.rmdir(name, dir_fd=fd)
    except NotADirectoryError:
        os.unlink(name, dir_fd=fd)
    except OSError as e:
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return True
        if e.errno != errno.ENOENT:
            raise
    return False


def _enter(fd: int, name: str, device: int) -> int:
    entered = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    facts = os.fstat(entered)
    if facts.st_dev != device:
        os.close(entered)
        raise OSError(errno.EXDEV, "a file system is mounted there", name)
    if not facts.st_mode & stat.S_IWUSR:
        os.fchmod(entered, 0o700)  # rootless: our own directory, made read-only by the layer
    return entered
