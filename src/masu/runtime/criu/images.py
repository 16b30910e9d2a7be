"""The directory of a checkpoint, and CRIU's log.

    <image-path>/
      inventory.img …      CRIU's own
      descriptors.json     what the first process was born with as 0, 1 and 2; runc's file, by its name and form
      parent               symlink to the images of the pre-dump before, when there was one

At a restore all of it is somebody else's word: it may have come over a network or out of a registry. CRIU runs as root
and opens images by name, so a symlink among them would make it read, or with its log write, files of the host
(CVE-2026-119101 and its kin). Nothing but regular files is let through, and `parent` leads no further than beside; and
nobody else may write there, for what is looked at here CRIU opens anew.
"""

from __future__ import annotations

import os
import stat as _stat

from masu.errors import (
    DataLoss,
    InvalidArgument,
    KernelError,
    MasuError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from masu.linux import fds, paths
from masu.spec import jsontext

DUMP_LOG = "dump.log"
RESTORE_LOG = "restore.log"
RESTORE_STATS = "stats-restore"
_DESCRIPTORS = "descriptors.json"
_PARENT = "parent"
_LAZY_SOCKET = "lazy-pages.socket"
_MAX_DESCRIPTORS_BYTES = 64 << 10
_MAX_ENTRIES = 100_000
_MAX_PARENTS = 64
_LOG_TAIL_BYTES = 256 << 10
_QUOTED_LINES = 4


class Directory:
    """A directory held open, for `with`; CRIU is given the number of `fd`."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str, where: str, *, make: bool) -> None:
        """Raises NotFound when it is not there and not to be made, KernelError."""
        self.path = os.path.abspath(path)
        if make:
            fds.private_directory(self.path)
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound("directory", self.path, where=where) from None
        except OSError as error:
            raise KernelError("open", self.path, error.errno or 0, where=where) from error

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def check_parent(images: Directory, parent: str) -> None:
    """What --parent-path may be: a directory by a path relative to the images. Raises InvalidArgument, runc's words."""
    if os.path.isabs(parent):
        raise InvalidArgument("--parent-path must be relative", detail=f"{parent} is absolute")
    if not os.path.isdir(f"{images.path}/{parent}"):
        raise InvalidArgument("invalid --parent-path", parent, detail=f"{images.path}/{parent} is no directory")


def write_descriptors(images: Directory, stdio: list[str]) -> None:
    """What the first process was born with as 0, 1 and 2 (`procfs.stdio`), for the restore to put the new ones in their
    places."""
    fds.atomic_write(_DESCRIPTORS, jsontext.dumps(stdio).encode(), 0o600, dirfd=images.fd, sync=False)


def read_descriptors(images: Directory) -> list[str]:
    """What `write_descriptors`, or runc, wrote. Raises NotFound, DataLoss, ResourceExhausted."""
    where = f"{images.path}/{_DESCRIPTORS}"
    try:
        text = paths.read_in_root(images.fd, _DESCRIPTORS, _MAX_DESCRIPTORS_BYTES)
    except KernelError as error:
        detail = f"no {_DESCRIPTORS} that can be read"
        raise NotFound("checkpoint", images.path, error.errno, detail=detail, where="--image-path") from error
    try:
        found = jsontext.loads(text, name=where, max_bytes=_MAX_DESCRIPTORS_BYTES)
    except InvalidArgument as error:
        raise DataLoss("checkpoint", where, detail=str(error)) from error
    if not isinstance(found, list) or len(found) > 3 or not all(isinstance(name, str) for name in found):
        raise DataLoss("checkpoint", where, detail="a list of at most three names is wanted")
    return found


def outside(descriptors: list[str]) -> list[tuple[int, str]]:
    """(0, 1 or 2, name) of the descriptors that are pipes to the outside or files there, which the restored process is
    to find anew. Names of any other form are left to CRIU."""
    return [(number, name) for number, name in enumerate(descriptors) if _is_outside(name)]


def _is_outside(name: str) -> bool:
    kind, _, rest = name.partition("[")
    if not rest.endswith("]") or len(name) > 64:
        return False
    if kind == "pipe:":
        return all(char in "0123456789" for char in rest[:-1])
    mount_id, colon, inode = rest[:-1].partition(":")
    return kind == "file" and bool(colon) and all(char in "0123456789abcdef" for char in mount_id + inode)


def check(images: Directory, *, lazy: bool = False) -> None:
    """That CRIU, reading this directory as root, stays in it. With `lazy` the socket of `criu lazy-pages` may be there.
    Raises DataLoss, ResourceExhausted."""
    base, name = os.path.split(os.path.realpath(images.path))
    base_fd = paths.open_root(base)
    try:
        fd = os.dup(images.fd)
        shown = name
        for _ in range(_MAX_PARENTS):
            try:
                parent = _check_one(fd, f"{base}/{shown}", lazy=lazy)
            finally:
                os.close(fd)
            if not parent:
                return
            shown = parent if parent.startswith("/") else os.path.normpath(f"{shown}/{parent}")
            fd = _open_beside(base_fd, f"{base}/{shown}", shown)
        raise ResourceExhausted("checkpoint", images.path, detail=f"more than {_MAX_PARENTS} parents on each other")
    finally:
        os.close(base_fd)


def _check_one(fd: int, shown: str, *, lazy: bool) -> str:
    """Checks the entries of one directory; what its link to a parent says, or ""."""
    about = os.fstat(fd)
    if about.st_mode & 0o022 or about.st_uid not in (0, os.geteuid()):
        raise PermissionDenied(
            "checkpoint",
            shown,
            detail=f"others may write there (uid {about.st_uid}, mode {_stat.S_IMODE(about.st_mode):o}): "
            "CRIU opens by name what has been looked at",
            where="--image-path",
            hint="chown root, chmod go-w",
        )
    parent = ""
    with os.scandir(fd) as entries:
        for number, entry in enumerate(entries):
            if number >= _MAX_ENTRIES:
                raise ResourceExhausted("checkpoint", shown, detail=f"more than {_MAX_ENTRIES} entries")
            facts = entry.stat(follow_symlinks=False)
            if entry.name == _PARENT and _stat.S_ISLNK(facts.st_mode):
                parent = os.readlink(entry.name, dir_fd=fd)
            elif lazy and entry.name == _LAZY_SOCKET and _stat.S_ISSOCK(facts.st_mode):
                continue
            elif not _stat.S_ISREG(facts.st_mode):
                raise DataLoss(
                    "checkpoint",
                    f"{shown}/{entry.name}",
                    detail=f"no regular file (mode {facts.st_mode:o}): CRIU, as root, would follow it",
                    where="--image-path",
                )
    return parent


def _open_beside(base_fd: int, path: str, relative: str) -> int:
    # Through nothing but directories, so that what is checked here is what the link leads CRIU to.
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        if relative.startswith(("/", "..")) or relative == ".":
            raise KernelError("openat2", relative, 18)  # EXDEV, as RESOLVE_BENEATH says it
        return paths.open_in_root(base_fd, relative, flags, resolve=paths.RESOLVE_NO_SYMLINKS)
    except KernelError as error:
        raise DataLoss(
            "checkpoint",
            path,
            error.errno,
            detail="the link to the pre-dump before leads elsewhere than to a directory beside this one",
            where="--image-path",
        ) from error


def remove_written(directory: Directory, *names: str) -> None:
    """What CRIU will write there it shall make anew: it truncates what has the name, and that may be a hard link."""
    for name in names:
        try:
            os.unlink(name, dir_fd=directory.fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise KernelError("unlink", f"{directory.path}/{name}", error.errno or 0) from error


def quote_log(error: MasuError, directory: Directory, name: str) -> None:
    """Adds to a failure what CRIU's log says of it, and where the log is."""
    try:
        fd = paths.open_in_root(directory.fd, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except KernelError:
        return  # CRIU did not come that far, or its configuration names another file
    try:
        size = os.fstat(fd).st_size
        text = os.pread(fd, _LOG_TAIL_BYTES, max(0, size - _LOG_TAIL_BYTES)).decode("utf-8", "replace")
    finally:
        os.close(fd)
    lines = [_printable(line.partition("Error ")[2]) for line in text.splitlines() if "Error (" in line]
    if lines:
        error.detail = "; ".join(lines[-_QUOTED_LINES:])
    error.hint = f"CRIU's log: {directory.path}/{name}"


def _printable(line: str) -> str:
    # "(criu/mount.c:1234): mnt: Can't …" -> "mnt: Can't …"
    words = line.partition("): ")[2] or line
    return "".join(char if char.isprintable() else "?" for char in words)[:400]
