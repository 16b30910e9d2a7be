"""`cp`: files between a container, running or not, and this machine.

The container's side is reached through the descriptor of its root alone, with openat2(RESOLVE_IN_ROOT): the container
may change its tree while it is copied and still cannot lead the copy outside (CVE-2018-15664, CVE-2019-14271).
Nothing of the container is executed, and its own view of /etc is not asked for anything.

Where things go follows docker cp: a file goes to the name given, or into a directory that is there; a directory is
copied as a new one, into one that is there, or with `/.` at the end of the source only what is in it.
"""

from __future__ import annotations

import errno
import os
import stat

from masu.engine import births, roots, states, treecopy
from masu.engine.compose import all_mounts
from masu.engine.treecopy import Rules
from masu.errors import FailedPrecondition, InvalidArgument, KernelError, NotFound, ResourceExhausted
from masu.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tarfile import TarFile, TarInfo

    from masu.engine.engine import Engine
    from masu.engine.records import Record

_MAX_ENTRIES = 10_000_000


class Side:
    """One of the two trees: the machine's (`fd` -1, paths as the caller's) or a container's.

    `skip` are directories, (device, inode) each, that are copied empty: what the kernel shows in a running container.
    """

    __slots__ = ("_mounts", "fd", "skip")

    def __init__(
        self, fd: int = -1, mounts: dict[str, str] | None = None, skip: frozenset[tuple[int, int]] = frozenset()
    ) -> None:
        self.fd = fd
        self.skip = skip
        self._mounts = mounts or {}

    def open(self, path: str, flags: int) -> int:
        """Raises KernelError with the path."""
        if self.fd < 0:
            try:
                return os.open(path or ".", flags | os.O_CLOEXEC)
            except OSError as error:
                raise KernelError("open", path, error.errno or 0) from error
        clean = "/" + os.path.normpath("/" + path).lstrip("/")
        for target in sorted(self._mounts, key=len, reverse=True):
            if clean == target or clean.startswith(target + "/"):
                # not running: what is mounted there is not, so its source is looked into
                root = paths.open_root(self._mounts[target])
                try:
                    return paths.open_in_root(root, clean[len(target) :] or "/", flags)
                finally:
                    os.close(root)
        return paths.open_in_root(self.fd, clean, flags)

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """None when nothing is there."""
        try:
            fd = self.open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def parent(self, path: str) -> tuple[int, str]:
        """The directory that holds the last component of `path`, and that component."""
        head, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise InvalidArgument("path", path, detail="it does not end in a name")
        where = head or ("/" if path.startswith("/") or self.fd >= 0 else ".")
        return self.open(where, os.O_RDONLY | os.O_DIRECTORY), name

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def container_side(engine: Engine, record: Record) -> Side:
    """The container's tree: of its first process when it runs, else its root mounted detached."""
    state = states.look(engine, record)
    if state.is_up and state.container is not None:
        fd = paths.open_root(f"/proc/{state.pid}/root")
        if state.container.is_alive():
            side = Side(fd)
            shown = [side.stat(path) for path in ("/proc", "/sys", "/dev")]
            side.skip = frozenset((status.st_dev, status.st_ino) for status in shown if status is not None)
            return side
        os.close(fd)  # the number may belong to another process by now
    volumes = {str(item["target"]): engine.volumes.get(str(item["name"])).path for item in record.volumes}
    mounts = {
        mount.target: mount.source if mount.kind == "bind" else volumes[mount.target]
        for mount in all_mounts(record.image.defaults, record.request)
        if mount.kind != "tmpfs"
    }
    return Side(roots.OpenRoot(births.rootfs_of(engine, record)).fd, mounts)


def copy(
    source: Side, source_path: str, target: Side, target_path: str, *, archive: bool = False, follow: bool = False
) -> None:
    """Copies as docker cp does. `archive` keeps owners, `follow` takes what a source that is a symlink leads to.

    Raises NotFound for the source, FailedPrecondition where a directory meets something else, KernelError.
    """
    bare, contents_only = _split(source_path)
    status = source.stat(bare, follow=follow or contents_only)
    if status is None:
        raise NotFound("path", source_path, detail="no such file or directory")
    owner = None if archive else ((0, 0) if target.fd >= 0 else (-1, -1))
    rules = Rules(owner=owner, replace=True, xattrs=archive, skip=source.skip)
    there = target.stat(target_path)
    if stat.S_ISDIR(status.st_mode):
        _copy_directory(source, bare, target, target_path, there, rules, contents_only=contents_only)
        return
    if contents_only:
        raise FailedPrecondition("path", source_path, detail="not a directory")
    if there is not None and stat.S_ISDIR(there.st_mode):
        target_path = target_path.rstrip("/") + "/" + os.path.basename(bare.rstrip("/"))
    elif target_path.endswith("/"):
        raise NotFound("directory", target_path, detail="no such directory")
    if follow and stat.S_ISLNK((source.stat(bare, follow=False) or status).st_mode):
        _copy_followed(source, bare, target, target_path, status, rules)
        return
    with_source, name = source.parent(bare)
    try:
        into, new_name = _target_parent(target, target_path)
        try:
            treecopy.copy_entry(with_source, name, into, new_name, rules)
        finally:
            os.close(into)
    finally:
        os.close(with_source)


def _split(path: str) -> tuple[str, bool]:
    if path in (".", "/."):
        return path[:-1] or ".", True
    return (path[:-2] or "/", True) if path.endswith("/.") else (path, False)


def _target_parent(target: Side, path: str) -> tuple[int, str]:
    try:
        return target.parent(path)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            raise NotFound("directory", os.path.dirname(path.rstrip("/")), detail="no such directory") from error
        raise


def _copy_directory(
    source: Side, path: str, target: Side, target_path: str, there: os.stat_result | None, rules: Rules,
    *, contents_only: bool,
) -> None:  # fmt: skip
    if there is not None and not stat.S_ISDIR(there.st_mode):
        raise FailedPrecondition("cannot copy", path, detail=f"a directory onto {target_path}, which is a file")
    name = os.path.basename(os.path.normpath(path))
    if there is not None and not contents_only and name not in ("", "/", ".", ".."):
        target_path = target_path.rstrip("/") + "/" + name
        there = target.stat(target_path)
        if there is not None and not stat.S_ISDIR(there.st_mode):
            raise FailedPrecondition("cannot overwrite", target_path, detail="a file with a directory")
    inner = source.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if there is None:
            into, new_name = _target_parent(target, target_path)
            try:
                os.mkdir(new_name, 0o755, dir_fd=into)
                copy = os.open(new_name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=into)
            except OSError as error:
                raise KernelError("mkdir", target_path, error.errno or 0) from error
            finally:
                os.close(into)
        else:
            copy = target.open(target_path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            treecopy.copy_contents(inner, copy, rules)
            if there is None:
                treecopy.copy_metadata(inner, copy, rules)
        finally:
            os.close(copy)
    finally:
        os.close(inner)


def _copy_followed(
    source: Side, path: str, target: Side, target_path: str, status: os.stat_result, rules: Rules
) -> None:
    """A file by way of a symlink: the name is the link's, the content what it leads to inside its own tree."""
    if not stat.S_ISREG(status.st_mode):
        raise FailedPrecondition("path", path, detail="it leads to neither a file nor a directory")
    inner = source.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        into, name = _target_parent(target, target_path)
        try:
            treecopy.make_way(into, name, target_path, directory=False)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            copy = os.open(name, flags, 0o600, dir_fd=into)
            try:
                treecopy.copy_file(inner, copy, status.st_size)
                treecopy.copy_metadata(inner, copy, rules)
            finally:
                os.close(copy)
        except OSError as error:
            raise KernelError("copy", target_path, error.errno or 0) from error
        finally:
            os.close(into)
    finally:
        os.close(inner)


# --- tar streams, for `-` ---


def write_tar(source: Side, path: str, tar: TarFile, *, follow: bool = False) -> None:
    """Adds what is at `path`, under its own name. Raises NotFound, KernelError."""
    bare, contents_only = _split(path)
    status = source.stat(bare, follow=follow or contents_only)
    if status is None:
        raise NotFound("path", path, detail="no such file or directory")
    name = "." if contents_only else os.path.basename(os.path.normpath(bare)) or "."
    if name == "." or follow:
        flags = os.O_RDONLY | (os.O_DIRECTORY if stat.S_ISDIR(status.st_mode) else os.O_NONBLOCK)
        fd = source.open(bare, flags)
        try:
            _add_open(tar, fd, name.strip("/") or ".", 0, source.skip)
        finally:
            os.close(fd)
        return
    parent, entry = source.parent(bare)
    try:
        _add(tar, parent, entry, entry, 0, source.skip)
    finally:
        os.close(parent)


def _info(name: str, status: os.stat_result) -> TarInfo:
    from tarfile import TarInfo

    info = TarInfo(name)
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid = status.st_uid, status.st_gid
    info.mtime = int(status.st_mtime)
    return info


def _add(tar: TarFile, parent: int, entry: str, name: str, depth: int, skip: frozenset[tuple[int, int]]) -> None:
    import tarfile

    try:
        status = os.stat(entry, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return  # removed since it was listed
    info = _info(name, status)
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry, dir_fd=parent)
        tar.addfile(info)
    elif stat.S_ISFIFO(status.st_mode):
        info.type = tarfile.FIFOTYPE
        tar.addfile(info)
    elif stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        kind = os.O_DIRECTORY if stat.S_ISDIR(status.st_mode) else os.O_NONBLOCK
        fd = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=parent)
        try:
            _add_open(tar, fd, name, depth, skip)
        finally:
            os.close(fd)


def _add_open(tar: TarFile, fd: int, name: str, depth: int, skip: frozenset[tuple[int, int]]) -> None:
    import tarfile

    status = os.fstat(fd)
    info = _info(name, status)
    if stat.S_ISDIR(status.st_mode):
        if depth > 256:
            raise ResourceExhausted("directory", name, detail="too deep")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        if (status.st_dev, status.st_ino) not in skip:
            for entry in sorted(os.listdir(fd)):
                _add(tar, fd, entry, f"{name}/{entry}", depth + 1, skip)
        return
    info.size = status.st_size
    with open(fd, "rb", closefd=False) as file:
        tar.addfile(info, file)


def read_tar(tar: TarFile, target: Side, path: str, *, archive: bool = False) -> None:
    """Unpacks into the directory `path` of a container. Raises InvalidArgument for a hostile member, KernelError."""
    base = target.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for count, member in enumerate(tar):
            if count > _MAX_ENTRIES:
                raise ResourceExhausted("archive", detail=f"more than {_MAX_ENTRIES} entries")
            _extract(tar, member, base, archive=archive)
    finally:
        os.close(base)


def _extract(tar: TarFile, member: TarInfo, base: int, *, archive: bool) -> None:
    name = os.path.normpath("/" + member.name).lstrip("/")
    owner = (member.uid, member.gid) if archive else (0, 0)
    if not name:
        return
    if member.isdir():
        os.close(paths.mkdir_in_root(base, name, member.mode & 0o7777, uid=owner[0], gid=owner[1]))
        return
    parent, entry = _make_parent(base, name)
    try:
        treecopy.make_way(parent, entry, name, directory=False)
        if member.issym():
            os.symlink(member.linkname, entry, dir_fd=parent)
            os.chown(entry, *owner, dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            first = paths.open_in_root(base, "/" + member.linkname, os.O_PATH | os.O_NOFOLLOW)
            try:
                os.link(f"/proc/self/fd/{first}", entry, dst_dir_fd=parent, follow_symlinks=True)
            finally:
                os.close(first)
        elif member.isreg():
            _extract_file(tar, member, parent, entry, owner)
        elif member.isfifo():
            os.mkfifo(entry, member.mode & 0o7777, dir_fd=parent)
        else:
            raise InvalidArgument("archive member", member.name, detail="devices are not unpacked")
    except OSError as error:
        raise KernelError("extract", member.name, error.errno or 0) from error
    finally:
        os.close(parent)


def _make_parent(base: int, name: str) -> tuple[int, str]:
    head, _, entry = name.rpartition("/")
    return paths.mkdir_in_root(base, head or "/", 0o755, uid=0, gid=0), entry


def _extract_file(tar: TarFile, member: TarInfo, parent: int, entry: str, owner: tuple[int, int]) -> None:
    content = tar.extractfile(member)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(entry, flags, 0o600, dir_fd=parent)
    try:
        while content is not None and (chunk := content.read(1 << 20)):
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
        os.fchown(fd, *owner)
        os.fchmod(fd, member.mode & 0o7777)
        os.utime(fd, (member.mtime, member.mtime))
    finally:
        os.close(fd)
