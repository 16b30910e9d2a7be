"""Where the cgroup hierarchies are mounted, and where the caller stands in them.

Three layouts exist (cgroups(7)):

    v1      one mount a controller (or a few together) below a tmpfs at /sys/fs/cgroup
    hybrid  v1, and a cgroup2 tree beside it at /sys/fs/cgroup/unified
    v2      one cgroup2 tree, at /sys/fs/cgroup

The usual places are tried first, with one stat(2) each: /proc/self/mountinfo grows with every container on the
machine and would make each start cost more than the one before. It is read only where something is not where it
usually is. What was found is believed for a moment, since one command asks several times.
"""

from __future__ import annotations

import os
from time import monotonic

from masu.errors import DataLoss, FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CGROUP_ROOT = "/sys/fs/cgroup"

# The largest /proc/self/cgroup and mountinfo that are believed; a machine with ten thousand mounts has about 3 MB.
PROC_CGROUP_MAX = 1 << 16
MOUNTINFO_MAX = 64 << 20

# How long what was found is believed.
FRESH_S = 0.1

# The inode number of the first cgroup namespace (PROC_CGROUP_INIT_INO, include/linux/proc_ns.h). In another one
# /proc/self/cgroup counts from elsewhere than the mounts may.
FIRST_NAMESPACE = 0xEFFFFFFB

# What a container joins on v1. Other named hierarchies belong to whoever mounted them.
V1_CONTROLLERS = (
    "cpuset",
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "pids",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "freezer",
    "rdma",
    "misc",
    "name=systemd",
)


class Mount:
    """One mounted hierarchy: `path` is the mount point, `root` the cgroup shown there ("/" outside containers)."""

    __slots__ = ("path", "root")

    def __init__(self, path: str, root: str = "/") -> None:
        self.path = path
        self.root = root

    def __repr__(self) -> str:
        return f"Mount({self.path!r}, {self.root!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mount) and (self.path, self.root) == (other.path, other.root)

    __hash__ = None  # type: ignore[assignment]


class Layout:
    """How cgroups look to the caller.

    `mode` is "v1", "hybrid", "v2" or "none". `mounts` maps v1 controllers to their hierarchy, `unified` is the
    cgroup2 tree or None. `own` maps each controller ("" for the cgroup2 tree) to the caller's path as
    /proc/self/cgroup shows it.
    """

    __slots__ = ("mode", "mounts", "own", "unified")

    def __init__(self, mode: str, mounts: Mapping[str, Mount], unified: Mount | None, own: Mapping[str, str]) -> None:
        self.mode = mode
        self.mounts = mounts
        self.unified = unified
        self.own = own

    def of(self, own: Mapping[str, str]) -> Layout:
        """The same hierarchies, as one sees them whose places in them are `own`."""
        return Layout(self.mode, self.mounts, self.unified, own)

    def hierarchies(self) -> dict[str, Mount]:
        """Every hierarchy a container joins: v1 controllers by name, the cgroup2 tree as ""."""
        found = dict(self.mounts)
        if self.unified is not None:
            found[""] = self.unified
        return found

    def own_directory(self, controller: str) -> str:
        """The absolute directory of the caller's own cgroup, "" where it is out of sight.

        A bind mount of a part of the hierarchy, as containers see without a cgroup namespace, shows `root` at the
        mount point while /proc/self/cgroup counts from the top of the hierarchy.
        """
        mount = self.unified if controller == "" else self.mounts.get(controller)
        path = self.own.get(controller)
        if mount is None or path is None:
            return ""
        if mount.root != "/":
            if path != mount.root and not path.startswith(mount.root + "/"):
                return ""
            path = path[len(mount.root) :]
        if path == "/.." or path.startswith("/../"):  # outside of our cgroup namespace: cgroup_namespaces(7)
            return ""
        return mount.path if path in ("", "/") else mount.path + path


def detect(*, root: str = CGROUP_ROOT, proc: str = "") -> Layout:
    """Look at the machine, as the caller sees it. `root` and `proc` are where to look; tests have places of theirs.

    Raises DataLoss when /proc/self/cgroup cannot be understood, FailedPrecondition when it cannot be read.
    """
    if not proc:
        from masu.linux import spawn  # who only uses cgroups that are there never comes here

        proc = spawn.caller_proc()
    own = parse_proc_cgroup(_read(f"{proc}/cgroup", PROC_CGROUP_MAX))
    if _in_first_namespace(proc):
        found = _usual_places(root, own) if root != CGROUP_ROOT else _looked_up(own)
        if found is not None:
            return found
    return from_mountinfo(_read(f"{proc}/mountinfo", MOUNTINFO_MAX), own)


def parse_proc_cgroup(text: str) -> dict[str, str]:
    """/proc/PID/cgroup as {controller: path}; named hierarchies as "name=x", the cgroup2 tree as ""."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            raise DataLoss("/proc/self/cgroup", detail=f"line {line!r} is not ID:CONTROLLERS:PATH, cgroups(7)")
        for name in parts[1].split(","):
            own[name] = parts[2]
    return own


_last: tuple[float, Layout | None] = 0.0, None


def _looked_up(own: Mapping[str, str]) -> Layout | None:
    global _last
    now = monotonic()
    seen, found = _last
    if found is None or now - seen > FRESH_S or found.own.keys() != own.keys():
        found = _usual_places(CGROUP_ROOT, own)
        _last = now, found
    return found and found.of(own)


def _usual_places(root: str, own: Mapping[str, str]) -> Layout | None:
    """The layout if everything is where nearly every distribution has it, else None."""
    unified = _is_hierarchy_root(root, "cgroup.controllers")
    if unified:
        return Layout("v2", {}, Mount(root), own)
    mounts: dict[str, Mount] = {}
    seen: dict[str, Mount] = {}
    for name in V1_CONTROLLERS:
        if name not in own:
            continue
        # Controllers mounted together are reached by a symlink for each of them (cpu -> cpu,cpuacct).
        path = os.path.join(root, name.removeprefix("name="))
        try:
            if os.path.islink(path):
                path = os.path.join(root, os.readlink(path))
        except OSError:
            return None
        if path not in seen:
            if os.path.dirname(path) != root or not _is_hierarchy_root(path, "cgroup.procs"):
                return None
            seen[path] = Mount(path)
        mounts[name] = seen[path]
    if not mounts:
        return None
    second = Mount(f"{root}/unified") if _is_hierarchy_root(f"{root}/unified", "cgroup.controllers") else None
    return Layout("hybrid" if second else "v1", mounts, second, own)


def _in_first_namespace(proc: str) -> bool:
    try:
        return os.stat(f"{proc}/ns/cgroup").st_ino == FIRST_NAMESPACE
    except OSError:
        return False


def _is_hierarchy_root(path: str, marker: str) -> bool:
    """Whether `path` is the mount point of a whole cgroup hierarchy.

    kernfs numbers the top of a hierarchy 1; a bind mount of a part of it, or a cgroup namespace's own view, has
    another inode number and needs mountinfo to be understood. `marker` tells v1 from v2.
    """
    try:
        return os.stat(path).st_ino == 1 and os.path.exists(f"{path}/{marker}")
    except OSError:
        return False


def from_mountinfo(text: str, own: Mapping[str, str]) -> Layout:
    """The layout as /proc/self/mountinfo tells it (proc_pid_mountinfo(5)); of several mounts the first counts,
    but one that shows the caller's own cgroup is preferred."""
    mounts: dict[str, Mount] = {}
    unified: Mount | None = None
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        if not separator or not right.startswith("cgroup"):
            continue
        fields = left.split(" ")
        kind, _, options = right.split(" ", 2)
        mount = Mount(_unescape(fields[4]), _unescape(fields[3]))
        if kind == "cgroup2":
            # A whole tree at /sys/fs/cgroup wins over one somewhere else.
            if unified is None or mount.path == CGROUP_ROOT:
                unified = mount
        elif kind == "cgroup":
            for option in options.split(","):
                if option in V1_CONTROLLERS and (option not in mounts or _hides(mounts[option], own, option)):
                    mounts[option] = mount
    if mounts:
        return Layout("hybrid" if unified else "v1", mounts, unified, own)
    if unified:
        return Layout("v2", {}, unified, own)
    return Layout("none", {}, None, own)


def _hides(mount: Mount, own: Mapping[str, str], controller: str) -> bool:
    path = own.get(controller, "/")
    return mount.root != "/" and path != mount.root and not path.startswith(mount.root + "/")


def _unescape(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal."""
    if "\\" not in field:
        return field
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def _read(path: str, limit: int) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise FailedPrecondition("cgroups", path, e.errno or 0, syscall="open", hint="is /proc mounted?") from e
    try:
        parts = []
        size = 0
        while chunk := os.read(fd, 1 << 16):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise DataLoss("cgroups", path, detail=f"more than {limit} bytes")
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "surrogateescape")
