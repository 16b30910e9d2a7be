"""A layer from what changed: the upper directory of an overlay, or two whole trees side by side.

    write_diff(lower_mounts, upper_mounts, out)

Both ways give the same layer for the same change, byte for byte the same each time: names in byte order, a directory
before what is in it, numeric owners only, times in whole seconds, no access times. What is gone becomes a whiteout,
a directory that was replaced gets an opaque marker (image-spec, layer.md), files with several names are linked to the
first. Unchanged copies (an overlay copies a file up when it is opened for writing) are left out. Sockets are not kept.

The trees are those of containers: paths are walked by descriptors without following links, and a file that changes
while it is read fills the size its header announced.
"""

from __future__ import annotations

import errno
import os
import stat

from masu.errors import InvalidArgument, ResourceExhausted
from masu.snapshots.mounted import detached
from masu.snapshots.mounts import Mount
from masu.snapshots.tarwriter import TarWriter
from masu.store.db import from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Sink(Protocol):
        """What a layer is written to: a file object, a content writer."""

        def write(self, data: bytes, /) -> object: ...


_OPAQUE_MARKER = ".wh..wh..opq"
_WHITEOUT = ".wh."
# Descriptors held at once: one for each level, of each tree.
_MAX_DEPTH = 400
_READ = 1 << 20


class Diff:
    """The layer that was written: its diff id, its length in bytes, how many entries."""

    __slots__ = ("diff_id", "entries", "size")

    def __init__(self, diff_id: str, size: int, entries: int) -> None:
        self.diff_id = diff_id
        self.size = size
        self.entries = entries


def write_diff(lower: Sequence[Mount], upper: Sequence[Mount], out: Sink) -> Diff:
    """Writes the uncompressed layer that makes `upper` from `lower` (no mounts: from nothing) to `out`.

    Both are mounts as a snapshotter gives them: a view of the parent, and the snapshot itself. When `upper` is an
    overlay only its upper directory is walked. Raises ResourceExhausted for directories nested beyond 400, and what
    `out.write` raises.
    """
    below = above = -1
    try:
        if lower:
            below = _readable(detached(lower))
        directory = upper[0].option("upperdir") if len(upper) == 1 else ""
        if directory and upper[0].type == "overlay" and below >= 0:
            from masu.linux.mount import split_lowerdir

            above = _readable(detached([Mount("bind", split_lowerdir(directory)[0], ("ro",))]))
            user = "userxattr" in upper[0].options
            return _Walk(below, above, out, "user.overlay." if user else "trusted.overlay.").run()
        above = _readable(detached(upper))
        return _Walk(below, above, out, "").run()
    except OSError as e:
        raise from_os_error(e, "layer") from e
    finally:
        for fd in (below, above):
            if fd >= 0:
                os.close(fd)


def _readable(tree: int) -> int:
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    finally:
        os.close(tree)


class _Walk:
    """One pass over both trees. `overlay` is the prefix of overlayfs' xattrs when `above` is an upper directory."""

    def __init__(self, below: int, above: int, out: Sink, overlay: str) -> None:
        self._below = below
        self._above = above
        self._tar = TarWriter(out)
        self._overlay = overlay
        self._links: dict[tuple[int, int], str] = {}
        self._entries = 0

    def run(self) -> Diff:
        here = os.fstat(self._above)
        if self._below < 0 or not _same_attributes(os.fstat(self._below), here):
            # The root itself, when its owner or mode says something.
            self._entry("./", self._above, ".", here)
        self._directory("", self._below, self._above, 0)
        self._tar.end()
        return Diff(self._tar.digest(), self._tar.size, self._entries)

    def _directory(self, path: str, below: int, above: int, depth: int) -> None:
        """What is in the directory open as `above`; `below` is the same one before, -1 when there was none."""
        if depth > _MAX_DEPTH:
            raise ResourceExhausted("directory", path[:256], detail=f"nested deeper than {_MAX_DEPTH}")
        names = os.listdir(above)
        if below >= 0 and not self._overlay:
            names = list({*names, *os.listdir(below)})
        # Bytes, not characters: the same order whatever the names' encoding.
        for name in sorted(names, key=os.fsencode):
            self._name(path, name, below, above, depth)

    def _name(self, path: str, name: str, below: int, above: int, depth: int) -> None:
        full = path + name
        now, before = _stat(name, above), _stat(name, below)
        if now is None or (self._overlay and stat.S_ISCHR(now.st_mode) and now.st_rdev == 0):
            if before is not None:
                self._marker(path + _WHITEOUT + name)
            return
        if name.startswith(_WHITEOUT):
            raise InvalidArgument("file name", full, detail="a layer cannot hold names that begin with .wh.")
        if stat.S_ISSOCK(now.st_mode):
            return
        if not stat.S_ISDIR(now.st_mode):
            if before is None or not self._unchanged(name, below, before, above, now):
                self._entry(full, above, name, now)
            return
        was_directory = before is not None and stat.S_ISDIR(before.st_mode)
        opaque = bool(self._overlay) and was_directory and self._is_opaque(above, name)
        inner = _enter(above, name)
        if inner < 0:
            return  # replaced meanwhile
        outer = _enter(below, name) if was_directory and not opaque else -1
        try:
            if before is None or opaque or not self._same(name, below, before, above, now) or _moved(before, now):
                self._entry(full + "/", above, name, now)
            if opaque:
                self._marker(f"{full}/{_OPAQUE_MARKER}")
            self._directory(full + "/", outer, inner, depth + 1)
        finally:
            os.close(inner)
            if outer >= 0:
                os.close(outer)

    def _marker(self, path: str) -> None:
        self._entries += 1
        self._tar.header(path, b"0", 0o600, 0, 0, 0, 0)

    def _entry(self, path: str, directory: int, name: str, facts: os.stat_result) -> None:
        self._entries += 1
        mode, uid, gid, mtime = stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid, int(facts.st_mtime // 1)
        xattrs = _xattrs(directory, name, facts)
        if stat.S_ISREG(facts.st_mode):
            if facts.st_nlink > 1:
                first = self._links.setdefault((facts.st_dev, facts.st_ino), path)
                if first != path:
                    self._tar.header(path, b"1", mode, uid, gid, mtime, 0, link=first)
                    return
            self._file(path, directory, name, facts, xattrs)
        elif stat.S_ISDIR(facts.st_mode):
            self._tar.header(path, b"5", mode, uid, gid, mtime, 0, xattrs=xattrs)
        elif stat.S_ISLNK(facts.st_mode):
            target = os.readlink(name, dir_fd=directory)
            self._tar.header(path, b"2", 0o777, uid, gid, mtime, 0, link=target, xattrs=xattrs)
        elif stat.S_ISFIFO(facts.st_mode):
            self._tar.header(path, b"6", mode, uid, gid, mtime, 0, xattrs=xattrs)
        else:
            kind = b"3" if stat.S_ISCHR(facts.st_mode) else b"4"
            device = (os.major(facts.st_rdev), os.minor(facts.st_rdev))
            self._tar.header(path, kind, mode, uid, gid, mtime, 0, device=device, xattrs=xattrs)

    def _file(self, path: str, directory: int, name: str, facts: os.stat_result, xattrs: dict[str, bytes]) -> None:
        fd = _open_file(directory, name)
        if fd < 0:
            self._entries -= 1
            return  # gone meanwhile, or no file any more
        try:
            size = os.fstat(fd).st_size
            mode, mtime = stat.S_IMODE(facts.st_mode), int(facts.st_mtime // 1)
            self._tar.header(path, b"0", mode, facts.st_uid, facts.st_gid, mtime, size, xattrs=xattrs)
            left = size
            while left > 0:
                data = os.read(fd, min(left, _READ))
                if not data:
                    # It shrank. The header is written: zeros, as GNU tar does.
                    data = bytes(min(left, _READ))
                self._tar.data(data)
                left -= len(data)
            self._tar.pad()
        finally:
            os.close(fd)

    def _is_opaque(self, directory: int, name: str) -> bool:
        return _xattr(directory, name, self._overlay + "opaque") == b"y"

    def _unchanged(self, name: str, below: int, before: os.stat_result, above: int, now: os.stat_result) -> bool:
        if not self._same(name, below, before, above, now) or before.st_size != now.st_size or _moved(before, now):
            return False
        if stat.S_ISLNK(now.st_mode):
            return os.readlink(name, dir_fd=below) == os.readlink(name, dir_fd=above)
        if stat.S_ISREG(now.st_mode):
            if (before.st_dev, before.st_ino) == (now.st_dev, now.st_ino):
                return True
            return _same_content(below, above, name)
        return before.st_rdev == now.st_rdev

    def _same(self, name: str, below: int, before: os.stat_result, above: int, now: os.stat_result) -> bool:
        return _same_attributes(before, now) and _xattrs(below, name, before) == _xattrs(above, name, now)


def _same_attributes(a: os.stat_result, b: os.stat_result) -> bool:
    return (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)


def _moved(before: os.stat_result, now: os.stat_result) -> bool:
    # A time from a layer has whole seconds; compare what both can know.
    if before.st_mtime_ns % 1_000_000_000 == 0 or now.st_mtime_ns % 1_000_000_000 == 0:
        return before.st_mtime_ns // 1_000_000_000 != now.st_mtime_ns // 1_000_000_000
    return before.st_mtime_ns != now.st_mtime_ns


def _same_content(below: int, above: int, name: str) -> bool:
    a, b = _open_file(below, name), _open_file(above, name)
    try:
        if a < 0 or b < 0:
            return False
        while True:
            one, other = os.read(a, _READ), os.read(b, _READ)
            if one != other:
                return False
            if not one:
                return True
    finally:
        for fd in (a, b):
            if fd >= 0:
                os.close(fd)


def _stat(name: str, directory: int) -> os.stat_result | None:
    if directory < 0:
        return None
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _enter(directory: int, name: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _open_file(directory: int, name: str) -> int:
    # O_NONBLOCK: it may have become a fifo since it was looked at.
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return -1
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return -1
    return fd


def is_kept(name: str) -> bool:
    """Whether layers carry this xattr; the rule of masu-unpack (native/unpack/tree.c, may_set)."""
    if name in ("security.capability", "system.posix_acl_access", "system.posix_acl_default"):
        return True
    return name.startswith("user.") and not name.startswith("user.overlay.")


def _xattrs(directory: int, name: str, facts: os.stat_result) -> dict[str, bytes]:
    # There is no listxattrat(2); /proc/self/fd names the directory, and its last component is not followed.
    path = f"/proc/self/fd/{directory}/{name}"
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as e:
        if e.errno in (errno.ENOTSUP, errno.ENOENT):
            return {}
        raise
    found = {}
    for key in sorted(filter(is_kept, names)):
        value = _xattr(directory, name, key)
        if value is not None:
            found[key] = value
    return found


def _xattr(directory: int, name: str, key: str) -> bytes | None:
    try:
        return os.getxattr(f"/proc/self/fd/{directory}/{name}", key, follow_symlinks=False)
    except OSError as e:
        if e.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT):
            return None
        raise
