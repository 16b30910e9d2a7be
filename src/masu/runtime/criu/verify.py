"""What CRIU has raised is what config.json says.

The images decide nearly all that a restored process is: in which namespaces it lives, what is mounted there, what it
may do. Whoever wrote them could ask for the host's. CRIU tells us twice while nothing of it runs yet: when processes,
namespaces and mounts are there ("post-restore"), and when they have their credentials, too ("pre-resume"). Each time
all processes are looked at through procfs, and one that is more than a container of this configuration could have
become by itself ends the restore.

Not looked at: the rules in a seccomp filter (that there is one, is), and what the processes have in memory and open.
"""

from __future__ import annotations

import os

from masu.errors import FailedPrecondition
from masu.linux import capabilities, idmap, namespaces, paths, procfs
from masu.linux import mount as m
from masu.plan.mounts import clean
from masu.runtime.criu import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.cgroups import Cgroup
    from masu.linux.mountinfo import MountInfo
    from masu.spec.process import Process
    from masu.spec.runtime import Config, LinuxIDMapping

# What a container with CAP_SYS_ADMIN can mount by itself, and without harm to the host.
_OWN_TYPES = frozenset(("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"))
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


class Verifier:
    """Of one restore. Raises FailedPrecondition with the process and the place in config.json that it goes beyond."""

    def __init__(
        self,
        config: Config,
        cgroup: Cgroup,
        staging: mounts.Staging,
        *,
        left_out: frozenset[str] = frozenset(),
        lsm_profile: str = "",
    ) -> None:
        """`left_out` are the namespaces that CRIU was asked not to make: without managing cgroups it makes none.
        `lsm_profile` is the caller's own choice, "apparmor:NAME" or "selinux:LABEL"."""
        self._config = config
        self._left_out = left_out
        self._lsm_profile = lsm_profile
        self._sources = staging.sources
        self._root = staging.root
        self._devices = [path for path in staging.names.values() if path.startswith("/dev/")]
        self._cgroup_roots = [mounts.root_of(path) for path in set(cgroup.paths().values())]
        self._mask = _capability_mask(config)
        self._sees_all = cgroup.mode == "v2" and not mounts.has_cgroup_namespace(config)
        self._admin = bool(self._mask & 1 << capabilities.NUMBERS["CAP_SYS_ADMIN"])

    # ---- namespaces and mounts ----

    def check_places(self, init: int) -> None:
        """At "post-restore", of `init` and all below it."""
        seen: set[tuple[int, int]] = set()
        for pid in _processes(init):
            self._check_namespaces(pid, init)
            space = namespaces.identity(pid, "mount")
            if space not in seen and space != namespaces.identity("self", "mount"):
                seen.add(space)
                self._check_mounts(pid)
        if namespaces.identity(init, "mount") in seen and not self._admin:
            self._check_hidden(init)

    def _check_namespaces(self, pid: int, init: int) -> None:
        for index, space in enumerate(self._config.linux.namespaces):
            where = f"linux.namespaces[{index}]"
            its = namespaces.identity(pid, space.type)
            if space.path and pid == init and its != _identity_of(space.path):
                raise _refused(pid, where, f"it is not in the {space.type} namespace {space.path}")
            may_be_ours = namespaces.is_own(space.path, space.type) if space.path else space.type in self._left_out
            if not may_be_ours and its == namespaces.identity("self", space.type):
                raise _refused(pid, where, f"it is in the host's {space.type} namespace")
            if space.type == "user" and not space.path:
                linux = self._config.linux
                for kind, allowed in (("uid", linux.uid_mappings), ("gid", linux.gid_mappings)):
                    if not _within(idmap.of_process(pid, kind), allowed):
                        raise _refused(pid, f"linux.{kind}Mappings", f"its {kind} map has ids that are not there")

    def _check_mounts(self, pid: int) -> None:
        # An empty tmpfs lies over masked directories, and below the hierarchies of cgroup v1.
        types = {"tmpfs", *(entry.type or "" for entry in self._config.mounts)}
        if "cgroup" in types:
            types.add("cgroup2")
        if self._admin:
            types |= _OWN_TYPES
        for entry in m.mountinfo(pid):
            self._check_mount(pid, entry, types)

    def _check_mount(self, pid: int, entry: MountInfo, types: set[str]) -> None:
        sources = [source for source in self._sources if _is_of(entry, source)]
        if sources:
            if not self._admin and not _is_readonly(entry) and all(self._must_be_readonly(item) for item in sources):
                raise _refused(pid, "mounts", f"{entry.mount_point} is writable, in config.json it is read-only")
        elif entry.fstype in ("cgroup", "cgroup2"):
            own = any(_is_below(entry.root, root) for root in self._cgroup_roots)
            if entry.fstype not in types or not (own or self._may_show_all(entry)):
                what = f"shows a cgroup that is not the container's: {entry.root}"
                raise _refused(pid, "mounts", f"{entry.mount_point} {what}")
        elif entry.fstype not in types and not self._is_device(entry):
            raise _refused(pid, "mounts", f"{entry.mount_point} is a mount ({entry.fstype}) that config.json has not")

    def _may_show_all(self, entry: MountInfo) -> bool:
        if self._sees_all:  # as in a create (plan.cgroup_mounts)
            writable = [mount for mount in self._config.mounts if mount.type == "cgroup" and "ro" not in mount.options]
            return bool(writable) or _is_readonly(entry)
        # Without its namespace CRIU mounts the whole tree anew. To be written to, that would be the host's.
        return "cgroup" in self._left_out and _is_readonly(entry) and not self._admin

    def _must_be_readonly(self, source: MountInfo) -> bool:
        root = self._config.root
        if source.mount_point == self._root:
            return root is not None and root.readonly
        return _is_readonly(source)

    def _is_device(self, entry: MountInfo) -> bool:
        # A node of the host's devtmpfs bound into the container: /dev/null over a masked file, devices where the
        # container may not make its own.
        for path in self._devices:
            device = os.stat(path).st_dev
            same = entry.device == (os.major(device), os.minor(device))
            if same and entry.root.rpartition("/")[2] == path.rpartition("/")[2]:
                return True
        return False

    def _check_hidden(self, init: int) -> None:
        points = {entry.mount_point: entry for entry in m.mountinfo(init)}  # of several the one on top
        root = paths.open_root(f"/proc/{init}/root")
        try:
            for kind, hidden in (("maskedPaths", False), ("readonlyPaths", True)):
                given = self._config.linux.readonly_paths if hidden else self._config.linux.masked_paths
                for index, path in enumerate(given):
                    entry = points.get(clean(path))
                    covered = entry is not None and (_is_readonly(entry) or not hidden)
                    if not covered and paths.exists_in_root(root, path):
                        raise _refused(init, f"linux.{kind}[{index}]", f"{path} is not so in the checkpoint")
        finally:
            os.close(root)

    # ---- credentials ----

    def check_credentials(self, init: int) -> None:
        """At "pre-resume", of every thread."""
        process = self._config.process
        section = self._config.linux.seccomp
        filtered = section is not None and (section.default_action != "SCMP_ACT_ALLOW" or bool(section.syscalls))
        for pid in _processes(init):
            for thread in os.listdir(f"/proc/{pid}/task"):
                status = procfs.status(f"{pid}/task/{thread}")
                self._check_capabilities(pid, status)
                if process is not None and process.no_new_privileges and status.get("NoNewPrivs") != "1":
                    raise _refused(pid, "process.noNewPrivileges", "it may gain privileges")
                if filtered and status.get("Seccomp") != "2":
                    raise _refused(pid, "linux.seccomp", "it has no filter")
                if process is not None:
                    self._check_labels(pid, f"/proc/{pid}/task/{thread}/attr", process)

    def _check_labels(self, pid: int, attributes: str, process: Process) -> None:
        module, _, chosen = self._lsm_profile.partition(":")
        if process.apparmor_profile:
            # "NAME (enforce)"; below NAME are the profiles that it goes on to by itself.
            seen = _read_label(attributes + "/apparmor/current").rpartition(" (")[0]
            profile = chosen if module == "apparmor" else process.apparmor_profile
            if seen != profile and not seen.startswith(profile + "//"):
                raise _refused(pid, "process.apparmorProfile", f"it is under {seen or 'no profile'}")
        if process.selinux_label:
            seen = _read_label(attributes + "/current")
            if seen != (chosen if module == "selinux" else process.selinux_label):
                raise _refused(pid, "process.selinuxLabel", f"its label is {seen or 'none'}")

    def _check_capabilities(self, pid: int, status: dict[str, str]) -> None:
        for name in _SETS:
            more = int(status.get(name, "0"), 16) & ~self._mask
            if more:
                what = ", ".join(capabilities.names(more))
                raise _refused(pid, "process.capabilities", f"in {name} it has {what}, which config.json does not give")


def _processes(init: int) -> list[int]:
    return [pid for pid in (init, *procfs.descendants(init)) if not procfs.is_zombie(pid)]


def _read_label(path: str) -> str:
    """What a security module says of a process; "" where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).rstrip(b"\0\n").decode(errors="replace")
    except OSError:
        return ""


def _identity_of(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _within(found: list[idmap.Mapping], allowed: tuple[LinuxIDMapping, ...]) -> bool:
    return all(
        any(
            outer.host_id <= item.host_id and item.host_id + item.size <= outer.host_id + outer.size
            for outer in allowed
        )
        for item in found
    )


def _capability_mask(config: Config) -> int:
    """All that the configuration gives; nothing without a section, as in a create."""
    if config.process is None or config.process.capabilities is None:
        return 0
    given = config.process.capabilities
    mask = 0
    for names in (given.bounding, given.effective, given.permitted, given.inheritable, given.ambient):
        mask |= capabilities.bits(names, "process.capabilities", [])
    return mask


def _is_of(entry: MountInfo, source: MountInfo) -> bool:
    return entry.device == source.device and _is_below(entry.root, source.root)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _is_readonly(entry: MountInfo) -> bool:
    return "ro" in entry.options.split(",") or "ro" in entry.super_options.split(",")


def _refused(pid: int, where: str, detail: str) -> FailedPrecondition:
    return FailedPrecondition(
        "the checkpoint does not fit config.json",
        where=where,
        detail=f"process {pid}: {detail}",
        hint="restore it with the configuration it was made with; is the checkpoint what you think it is?",
    )
