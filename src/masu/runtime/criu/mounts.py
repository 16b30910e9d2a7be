"""The container's mounts that come from the host.

CRIU writes down what a mount namespace holds, but of a bind from outside only that it is one: at the dump each is told
by its mount point with a name, at the restore each name is given a path of the host. The names are the mount points
themselves, "/dev/null" for masked files, as runc has them, so that either runtime restores what the other has dumped.

Where a destination leads is looked up at both ends in the root file system, which the container may have changed
meanwhile, and the names in the images are anybody's. So at the restore sources come from config.json alone, and what
came of it is checked before anything runs (`verify`).

    in a mount namespace that CRIU alone lives in, over the container's state directory:
      root/     the root file system; CRIU wants a mount point
      0, 1, …   one for each bind: its source
      full/     the root file system with the binds in their places, while mount points are looked up and made;
                taken away again
"""

from __future__ import annotations

import errno
import os
import stat as _stat

from masu.errors import FailedPrecondition, InvalidArgument, KernelError, Unimplemented
from masu.linux import mount as m
from masu.linux import namespaces, paths
from masu.plan.mounts import clean, inside_root, source_inside
from masu.runtime.criu import rpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.cgroups import Cgroup
    from masu.linux.mountinfo import MountInfo
    from masu.runtime.criu.images import Directory
    from masu.spec.runtime import Config, Mount

_NULL = "/dev/null"


# ---- the dump ----


def tell_dumped(options: rpc.Options, pid: int, config: Config, rootfs: str) -> None:
    """Adds to a dump's options the mounts of process `pid` that come from the host."""
    points = {entry.mount_point: entry for entry in m.mountinfo(pid)}
    root = paths.open_root(f"/proc/{pid}/root")
    names: dict[str, str] = {}
    try:
        for destination in _destinations(config, rootfs, points):
            point = _lookup(root, destination, "")
            if point in points:
                names[point] = point
    finally:
        os.close(root)
    null = os.stat(_NULL).st_dev
    null_device = os.major(null), os.minor(null)
    for path in config.linux.masked_paths:
        entry = points.get(clean(path))
        if entry is not None and entry.device == null_device and entry.root.rpartition("/")[2] == "null":
            names[entry.mount_point] = _NULL
    for point, name in names.items():
        options.add("ext_mnt", point, name)


def _destinations(config: Config, rootfs: str, points: dict[str, MountInfo]) -> list[str]:
    found = [inside_root(entry.destination, rootfs) for _, entry, _ in binds(config, rootfs)]
    for entry in config.mounts:
        # With a cgroup namespace, and on v2, these are file systems of the container's own, which CRIU mounts itself.
        if entry.type == "cgroup" and not has_cgroup_namespace(config):
            below = inside_root(entry.destination, rootfs) + "/"
            found += [point for point, seen in points.items() if point.startswith(below) and seen.fstype == "cgroup"]
    # In a user namespace devices are binds of the host's nodes; elsewhere these are no mount points.
    found += [device.path for device in config.linux.devices]
    return [*found, *DEVICES] if _is_mapped(config) else found


# config-linux.md, "Default Devices"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom")


def binds(config: Config, rootfs: str) -> list[tuple[int, Mount, m.MountOptions]]:
    """The binds among `mounts` whose source is the host's, with their indices. One whose source is on a mount of the
    container's own is that: CRIU raises it with the mount."""
    found = []
    made: list[str] = []
    for index, entry in enumerate(config.mounts):
        options = m.parse_options(entry.options, f"mounts[{index}].options")
        if options.bind and not source_inside(entry.source or "", rootfs, made):
            found.append((index, entry, options))
        made.append(inside_root(entry.destination, rootfs))
    return found


def has_cgroup_namespace(config: Config) -> bool:
    return any(space.type == "cgroup" for space in config.linux.namespaces)


def _is_mapped(config: Config) -> bool:
    return any(space.type == "user" for space in config.linux.namespaces)


def _lookup(root: int, path: str, prefix: str) -> str:
    """Where `path` leads inside `root`, which the kernel calls `prefix`; "" when to nothing."""
    try:
        fd = paths.open_in_root(root, path, os.O_PATH)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return ""
        raise
    try:
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(prefix) or "/"
    finally:
        os.close(fd)


# ---- the restore ----


class Staging:
    """The calling thread's own mount namespace with the sources laid out, for `with`: CRIU is started inside, or enters
    it by `space`, and stays there; the thread goes back. `root` is the path for CRIU's --root, `names` the paths of the
    host by the names of the dump, `sources` what the mounts of the restored container may be of: the mounts below here
    as mountinfo has them. CRIU mounts things in the directory it works in, so that must be opened inside: `open`."""

    __slots__ = ("_cwd", "_host", "directory", "names", "root", "sources")

    def __init__(self, directory: str, rootfs: str, config: Config, cgroup: Cgroup, *, tree: int = -1) -> None:
        """Covers `directory`. Makes mount points that are missing in the root file system, as a create does. That one
        is the detached mount `tree` if there is one, and `rootfs` only its name.

        Raises InvalidArgument, Unimplemented and KernelError with the place in config.json.
        """
        self.directory = os.path.realpath(directory)
        self.root = self.directory + "/root"
        self.names: dict[str, str] = {}
        self.sources: list[MountInfo] = []
        self._host = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._cwd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            namespaces.unshare(namespaces.CLONE_NEWNS)
            try:
                self._lay_out(rootfs, config, cgroup, tree)
            except BaseException:
                self._leave()
                raise
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._leave()
        finally:
            self._close()

    def space(self) -> int:
        """A descriptor of the namespace; the caller's to close."""
        return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def open(self, directory: Directory) -> int:
        """A descriptor of the same directory in this namespace; the caller's to close."""
        m.set_propagation(_mount_point_of(directory.path), m.MS_PRIVATE)
        here = os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not os.path.samestat(os.fstat(here), os.fstat(directory.fd)):
            os.close(here)
            raise FailedPrecondition("directory", directory.path, detail="somebody has replaced it meanwhile")
        return here

    def _leave(self) -> None:
        try:
            namespaces.join(self._host, namespaces.CLONE_NEWNS)
        except KernelError:
            # Whoever removes the directory now must not come upon the root file system and the host's sources in it.
            m.unmount(self.directory, detach=True)
            raise
        os.fchdir(self._cwd)  # setns(2) has put us into the root

    def _close(self) -> None:
        os.close(self._host)
        os.close(self._cwd)

    def _lay_out(self, rootfs: str, config: Config, cgroup: Cgroup, tree: int) -> None:
        trees: dict[str, int] = {}
        try:
            trees["root"] = os.dup(tree) if tree >= 0 else m.clone_tree(rootfs, recursive=True)
            for index, entry, options in binds(config, rootfs):
                trees[str(index)] = _clone_source(index, entry, options)
            # Our copy of the mount that the directory is on may be a peer of the host's: nothing put onto it may go
            # there. The rest stays as it is, and so are the clones, for binds that are to be shared with the host.
            m.set_propagation(_mount_point_of(self.directory), m.MS_PRIVATE)
            _attach(m.new_mount("tmpfs", "masu-restore", ("mode=700",)), self.directory)
            m.set_propagation(self.directory, m.MS_PRIVATE)
            for name, source in trees.items():
                self._place(source, name)
            full = m.clone_tree(self.root, recursive=True)  # only what is mounted somewhere can be cloned
            trees["full"] = full
            self._place(full, "full")
            if config.root is not None and config.root.readonly:
                m.set_attributes(trees["root"], set=m.MOUNT_ATTR_RDONLY)  # CRIU 3.17 forgets it
        finally:
            for source in trees.values():
                os.close(source)
        self._put_in_places(config, rootfs)
        m.unmount(self.directory + "/full", detach=True)
        below = self.directory + "/"
        self.sources = [entry for entry in m.mountinfo("thread-self") if entry.mount_point.startswith(below)]
        if config.linux.masked_paths:
            self.names[_NULL] = _NULL
        for device in config.linux.devices:
            self.names.setdefault(clean(device.path), clean(device.path))
        if _is_mapped(config):
            for path in DEVICES:
                self.names.setdefault(path, path)
        self._name_cgroups(config, rootfs, cgroup)

    def _place(self, tree: int, name: str) -> None:
        path = f"{self.directory}/{name}"
        if _stat.S_ISDIR(os.fstat(tree).st_mode):
            os.mkdir(path, 0o700)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        m.attach(tree, path, follow=False)

    def _put_in_places(self, config: Config, rootfs: str) -> None:
        full = self.directory + "/full"
        root = paths.open_root(full)
        given = {index: entry for index, entry, _ in binds(config, rootfs)}
        raised = [inside_root(entry.destination, rootfs) for i, entry in enumerate(config.mounts) if i not in given]
        owners: dict[str, int] = {}
        try:
            for index, entry in enumerate(config.mounts):
                where = f"mounts[{index}].destination"
                destination = inside_root(entry.destination, rootfs)
                bind = index in given
                # What is on a file system that CRIU mounts needs nothing in the root: a tmpfs comes back with its
                # content, a procfs has what it has. Of cgroups the directories are there when they are mounted.
                on_raised = any(destination.startswith(path + "/") for path in raised)
                if entry.type in ("cgroup", "cgroup2") or on_raised:
                    if bind:
                        self._name(destination, index, owners, given, where)
                    continue
                source = f"{self.directory}/{index}" if bind else ""
                point = _mount_point(root, destination, where, directory=not bind or os.path.isdir(source))
                try:
                    if bind:
                        at = os.readlink(f"/proc/self/fd/{point}").removeprefix(full) or "/"
                        self._name(at, index, owners, given, where)
                        _attach(m.clone_tree(source, recursive=True), "", point=point)
                finally:
                    os.close(point)
        finally:
            os.close(root)

    def _name(self, point: str, index: int, owners: dict[str, int], given: dict[int, Mount], where: str) -> None:
        other = owners.setdefault(point, index)
        if given[other].source != given[index].source:
            raise InvalidArgument(
                "mount destination",
                point,
                where=where,
                detail=f"mounts[{other}] leads there too: which is which cannot be told at a restore",
            )
        self.names[point] = f"{self.directory}/{other}"

    def _name_cgroups(self, config: Config, rootfs: str, cgroup: Cgroup) -> None:
        if has_cgroup_namespace(config):
            return
        for entry in config.mounts:
            if entry.type == "cgroup":
                for controller, path in cgroup.paths().items():
                    if controller:
                        mount = _mount_point_of(path).rpartition("/")[2]
                        self.names[f"{inside_root(entry.destination, rootfs)}/{mount}"] = path


def _mount_point(root: int, path: str, where: str, *, directory: bool) -> int:
    """An O_PATH descriptor of the mount point inside the root, which is made when it is missing."""
    try:
        return paths.open_in_root(root, path, os.O_PATH)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            error.where = where
            raise
    try:
        if directory:
            os.close(paths.mkdir_in_root(root, path))
        else:
            os.close(paths.mkdir_in_root(root, os.path.dirname(path)))
            paths.write_in_root(root, path, b"", 0o755)
        return paths.open_in_root(root, path, os.O_PATH)
    except KernelError as error:
        error.where = where
        raise


def _clone_source(index: int, entry: Mount, options: m.MountOptions) -> int:
    where = f"mounts[{index}]"
    if options.idmap or entry.uid_mappings:
        raise Unimplemented("restoring an idmapped mount", entry.destination, where=where)
    try:
        tree = m.clone_tree(entry.source or "", recursive=options.recursive, follow=not options.src_nofollow)
    except KernelError as error:
        error.where = where + ".source"
        raise
    attributes = options.attr_set & ~m.MOUNT_ATTR__ATIME
    if attributes:
        m.set_attributes(tree, set=attributes)
    return tree


def _attach(tree: int, target: str, *, point: int = m.AT_FDCWD) -> None:
    """Onto `target`, or onto `point` when that is "". The tree is closed."""
    try:
        m.attach(tree, target, dirfd=point, follow=False)
    finally:
        os.close(tree)


def root_of(path: str) -> str:
    """A directory of the host as mountinfo tells of a mount of it: its path in its file system."""
    point = _mount_point_of(path)
    root = next((entry.root for entry in reversed(m.mountinfo("thread-self")) if entry.mount_point == point), "/")
    return root.rstrip("/") + path[len(point.rstrip("/")) :] or "/"


def _mount_point_of(path: str) -> str:
    """The mount point that `path` is below."""
    at = os.path.realpath(path)
    while at != "/" and not os.path.ismount(at):
        at = os.path.dirname(at)
    return at
