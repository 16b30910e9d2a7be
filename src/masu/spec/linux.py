"""`linux`: namespaces, devices, and all that only this kernel has."""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.spec.fields import (
    Value,
    absolute_path,
    absolute_paths,
    boolean,
    cpu_list,
    i64,
    invalid,
    key_path,
    line,
    many,
    missing,
    named,
    not_allowed,
    number,
    numeric_id,
    one,
    shown,
    slots,
    string_map,
    strings,
    text,
    u32,
    word,
    words,
)
from masu.spec.mounts import id_mappings
from masu.spec.resources import MAX_MAJOR, MAX_MINOR, LinuxResources
from masu.spec.seccomp import seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from masu.spec.fields import Fields
    from masu.spec.mounts import LinuxIDMapping
    from masu.spec.seccomp import LinuxSeccomp

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
PROPAGATIONS = ("shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable")
MEMORY_POLICY_MODES = (
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
)
MEMORY_POLICY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")
# CONFIG_NODES_SHIFT is at most 10.
MAX_NODES = 1024


class LinuxNamespace(Value):
    """A namespace to make, or with `path` one to join."""

    FIELDS: ClassVar[Fields] = {
        "type": ("type", word("namespace type", NAMESPACES), None),
        "path": ("path", absolute_path, None),
    }
    REQUIRED = ("type",)
    __slots__ = slots(FIELDS)
    type: str
    path: str | None


_read_namespaces = many(LinuxNamespace)


def _namespaces(value: object, where: str, warnings: list[str]) -> tuple[LinuxNamespace, ...]:
    namespaces: tuple[LinuxNamespace, ...] = _read_namespaces(value, where, warnings)  # type: ignore[assignment]
    seen: dict[str, int] = {}
    for index, namespace in enumerate(namespaces):
        if namespace.type in seen:
            raise invalid(
                "namespace",
                namespace.type,
                f"{where}[{index}].type",
                f"malformed spec file: duplicated ns, first in {where}[{seen[namespace.type]}]",
            )
        seen[namespace.type] = index
    return namespaces


def _file_mode(value: object, where: str, warnings: list[str]) -> int:
    # File type bits (an old st_mode, Go's os.FileMode) are tolerated and dropped, as in runc.
    u32(value, where, warnings)
    return int(value) & 0o7777  # type: ignore[call-overload, no-any-return]


class LinuxDevice(Value):
    """A device node; `type` is c, b, u (as c) or p, which has no numbers. `file_mode` holds the permission bits."""

    FIELDS: ClassVar[Fields] = {
        "path": ("path", absolute_path, None),
        "type": ("type", word("device type", ("c", "b", "u", "p")), None),
        "major": ("major", number(0, MAX_MAJOR), None),
        "minor": ("minor", number(0, MAX_MINOR), None),
        "fileMode": ("file_mode", _file_mode, None),
        "uid": ("uid", numeric_id, None),
        "gid": ("gid", numeric_id, None),
    }
    REQUIRED = ("path", "type")
    __slots__ = slots(FIELDS)
    path: str
    type: str
    major: int | None
    minor: int | None
    file_mode: int | None
    uid: int | None
    gid: int | None

    def check(self, where: str, warnings: list[str]) -> None:
        if self.type != "p":
            for name in ("major", "minor"):
                if getattr(self, name) is None:
                    raise missing(f"{where}.{name}", f"must be given for a device of type {self.type}")


class LinuxNetDevice(Value):
    """A network device to move in; `name` is its name there, None keeps it."""

    FIELDS: ClassVar[Fields] = {"name": ("name", text, None)}
    __slots__ = slots(FIELDS)
    name: str | None


class LinuxIntelRdt(Value):
    """Resource Director Technology: the resctrl group and what is written to its `schemata`."""

    FIELDS: ClassVar[Fields] = {
        "closID": ("clos_id", line, None),
        "schemata": ("schemata", strings, ()),
        "l3CacheSchema": ("l3_cache_schema", line, None),
        "memBwSchema": ("mem_bw_schema", line, None),
        "enableMonitoring": ("enable_monitoring", boolean, False),
    }
    __slots__ = slots(FIELDS)
    clos_id: str | None
    schemata: tuple[str, ...]
    l3_cache_schema: str | None
    mem_bw_schema: str | None
    enable_monitoring: bool

    def check(self, where: str, warnings: list[str]) -> None:
        clos = self.clos_id or ""
        if clos in (".", "..") or (len(clos) > 1 and "/" in clos):
            raise invalid("intelRdt.ClosID", clos, f"{where}.closID", "must be a directory name, or /")
        if self.mem_bw_schema is not None and not self.mem_bw_schema.startswith("MB:"):
            raise invalid("schema", self.mem_bw_schema, f"{where}.memBwSchema", 'must start with "MB:"')
        for index, entry in enumerate(self.schemata):
            if "\n" in entry:
                raise invalid("schema", entry, f"{where}.schemata[{index}]", "contains a line break")


class LinuxMemoryPolicy(Value):
    """set_mempolicy(2); `nodes` is a list ("0-3,7")."""

    FIELDS: ClassVar[Fields] = {
        "mode": ("mode", word("mode", MEMORY_POLICY_MODES, "invalid memory policy mode"), None),
        "nodes": ("nodes", text, None),
        "flags": ("flags", words("flag", MEMORY_POLICY_FLAGS, "invalid memory policy flag"), ()),
    }
    __slots__ = slots(FIELDS)
    mode: str
    nodes: str | None
    flags: tuple[str, ...]

    def check(self, where: str, warnings: list[str]) -> None:
        if self.mode is None:
            raise missing(f"{where}.mode", "invalid memory policy mode: must be given")
        nodes = self.node_set(where)
        if self.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
            if nodes:
                raise invalid(
                    "nodes",
                    self.nodes,
                    f"{where}.nodes",
                    f"memory policy {self.mode}: mode requires 0 nodes but got {len(nodes)}",
                )
        elif self.mode != "MPOL_PREFERRED" and not nodes:
            raise missing(f"{where}.nodes", f"memory policy {self.mode}: mode requires at least one node but got 0")

    def node_set(self, where: str = "linux.memoryPolicy") -> frozenset[int]:
        """The numbers in `nodes`."""
        if not self.nodes:
            return frozenset()
        try:
            return cpu_list(self.nodes, f"{where}.nodes", "nodes", MAX_NODES)
        except InvalidArgument as e:
            e.detail = f"invalid memory policy nodes: {e.detail}"
            raise


class LinuxPersonality(Value):
    """personality(2): the domain; no flags are defined yet."""

    FIELDS: ClassVar[Fields] = {
        "domain": ("domain", word("personality domain", ("LINUX", "LINUX32")), None),
        "flags": ("flags", strings, ()),
    }
    REQUIRED = ("domain",)
    __slots__ = slots(FIELDS)
    domain: str
    flags: tuple[str, ...]

    def check(self, where: str, warnings: list[str]) -> None:
        if self.flags:
            warnings.append(
                f"{where}.flags: ignoring unsupported personality flags: {', '.join(map(shown, self.flags[:8]))}"
            )


class LinuxTimeOffset(Value):
    """What is added to a clock (time_namespaces(7))."""

    FIELDS: ClassVar[Fields] = {"secs": ("secs", i64, 0), "nanosecs": ("nanosecs", number(0, 999_999_999), 0)}
    __slots__ = slots(FIELDS)
    secs: int
    nanosecs: int


_read_offsets = named(LinuxTimeOffset)


def _time_offsets(value: object, where: str, warnings: list[str]) -> dict[str, LinuxTimeOffset]:
    offsets: dict[str, LinuxTimeOffset] = _read_offsets(value, where, warnings)  # type: ignore[assignment]
    for clock in offsets:
        if clock not in ("monotonic", "boottime"):
            raise not_allowed("clock", clock, key_path(where, clock), ("monotonic", "boottime"))
    return offsets


class Linux(Value):
    """The `linux` section."""

    FIELDS: ClassVar[Fields] = {
        "uidMappings": ("uid_mappings", id_mappings, ()),
        "gidMappings": ("gid_mappings", id_mappings, ()),
        "sysctl": ("sysctl", string_map, {}),
        "resources": ("resources", one(LinuxResources), None),
        "cgroupsPath": ("cgroups_path", line, None),
        "namespaces": ("namespaces", _namespaces, ()),
        "devices": ("devices", many(LinuxDevice), ()),
        "netDevices": ("net_devices", named(LinuxNetDevice), {}),
        "seccomp": ("seccomp", seccomp, None),
        "rootfsPropagation": ("rootfs_propagation", word("rootfsPropagation", PROPAGATIONS), None),
        "maskedPaths": ("masked_paths", absolute_paths, ()),
        "readonlyPaths": ("readonly_paths", absolute_paths, ()),
        "mountLabel": ("mount_label", line, None),
        "intelRdt": ("intel_rdt", one(LinuxIntelRdt), None),
        "memoryPolicy": ("memory_policy", one(LinuxMemoryPolicy), None),
        "personality": ("personality", one(LinuxPersonality), None),
        "timeOffsets": ("time_offsets", _time_offsets, {}),
    }
    __slots__ = slots(FIELDS)
    uid_mappings: tuple[LinuxIDMapping, ...]
    gid_mappings: tuple[LinuxIDMapping, ...]
    sysctl: dict[str, str]
    resources: LinuxResources | None
    cgroups_path: str | None
    namespaces: tuple[LinuxNamespace, ...]
    devices: tuple[LinuxDevice, ...]
    net_devices: dict[str, LinuxNetDevice]
    seccomp: LinuxSeccomp | None
    rootfs_propagation: str | None
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    mount_label: str | None
    intel_rdt: LinuxIntelRdt | None
    memory_policy: LinuxMemoryPolicy | None
    personality: LinuxPersonality | None
    time_offsets: dict[str, LinuxTimeOffset]

    def namespace(self, type: str) -> LinuxNamespace | None:
        """The entry of that type, None when the container shares the runtime's."""
        for namespace in self.namespaces:
            if namespace.type == type:
                return namespace
        return None
