"""`linux.resources`: the limits of a cgroup. Bytes, microseconds and device numbers as the kernel takes them."""

from __future__ import annotations

from masu.spec.fields import (
    I64,
    Value,
    boolean,
    decimal,
    i64,
    invalid,
    key_path,
    line,
    many,
    missing,
    named,
    number,
    one,
    slots,
    string,
    string_map,
    text,
    u32,
    u64,
    word,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from masu.spec.fields import Fields

# dev_t is 12 bits of major and 20 of minor number (MINORBITS, include/linux/kdev_t.h).
MAX_MAJOR = (1 << 12) - 1
MAX_MINOR = (1 << 20) - 1

_limit = number(-1, I64)  # -1 is unlimited
_weight = number(0, 1000)  # 0 is unset


def _access(value: object, where: str, warnings: list[str]) -> str | None:
    result = string(value, where, warnings)
    known = "".join(letter for letter in result if letter in "rwm")
    if not known:
        raise invalid("device access", result, where, "a combination of r, w and m is wanted, it cannot be empty")
    if known != result:
        # Where one letter is right, runc and crun overlook the wrong ones.
        warnings.append(f"{where}: {result!r}: only r, w and m mean something")
    return known


class LinuxDeviceCgroup(Value):
    """A rule of the device list. `type` None or "a" is every device; a number None or -1 is every number."""

    FIELDS: ClassVar[Fields] = {
        "allow": ("allow", boolean, False),
        "type": ("type", word("device type", ("a", "b", "c")), None),
        "major": ("major", number(-1, MAX_MAJOR), None),
        "minor": ("minor", number(-1, MAX_MINOR), None),
        "access": ("access", _access, None),
    }
    REQUIRED = ("allow", "access")
    __slots__ = slots(FIELDS)
    allow: bool
    type: str | None
    major: int | None
    minor: int | None
    access: str


class LinuxMemory(Value):
    """Bytes, -1 for unlimited; `swap` is memory plus swap, as in cgroup v1."""

    FIELDS: ClassVar[Fields] = {
        "limit": ("limit", _limit, None),
        "reservation": ("reservation", _limit, None),
        "swap": ("swap", _limit, None),
        "kernel": ("kernel", _limit, None),
        "kernelTCP": ("kernel_tcp", _limit, None),
        "swappiness": ("swappiness", number(0, 100), None),
        "disableOOMKiller": ("disable_oom_killer", boolean, None),
        "useHierarchy": ("use_hierarchy", boolean, None),
        "checkBeforeUpdate": ("check_before_update", boolean, None),
    }
    __slots__ = slots(FIELDS)
    limit: int | None
    reservation: int | None
    swap: int | None
    kernel: int | None
    kernel_tcp: int | None
    swappiness: int | None
    disable_oom_killer: bool | None
    use_hierarchy: bool | None
    check_before_update: bool | None

    def check(self, where: str, warnings: list[str]) -> None:
        limit, swap = self.limit or 0, self.swap or 0
        if limit > 0 and 0 < swap < limit:
            raise invalid("memory", swap, f"{where}.swap", f"memory+swap limit should be >= memory limit {limit}")
        if self.kernel is not None or self.kernel_tcp is not None:
            warnings.append(f"{where}: kernel memory settings are ignored and will be removed")


def _cpuset(value: object, where: str, warnings: list[str]) -> str | None:
    # The kernel knows more forms than "0-3,7" (bitmap_parselist: "0-31:1/4", "all"): only what can be none is refused.
    result = line(value, where, warnings)
    if result and result.replace("all", "").replace("N", "").strip("0123456789-,:/ \t"):
        raise invalid("list", result, where, 'wanted is the form "0-3,7"')
    return result


class LinuxCPU(Value):
    """Microseconds; `shares` is cgroup v1's scale (1024 is one CPU's worth); `cpus`, `mems` are lists ("0-3,7")."""

    FIELDS: ClassVar[Fields] = {
        "shares": ("shares", u64, None),
        "quota": ("quota", i64, None),
        "burst": ("burst", u64, None),
        "period": ("period", u64, None),
        "realtimeRuntime": ("realtime_runtime", i64, None),
        "realtimePeriod": ("realtime_period", u64, None),
        "cpus": ("cpus", _cpuset, None),
        "mems": ("mems", _cpuset, None),
        "idle": ("idle", number(0, 1), None),
    }
    __slots__ = slots(FIELDS)
    shares: int | None
    quota: int | None
    burst: int | None
    period: int | None
    realtime_runtime: int | None
    realtime_period: int | None
    cpus: str | None
    mems: str | None
    idle: int | None

    def check(self, where: str, warnings: list[str]) -> None:
        quota = self.quota or 0
        if self.burst is not None and 0 < quota < self.burst:
            raise invalid("burst", self.burst, f"{where}.burst", f"larger than the quota {quota}")


class LinuxPids(Value):
    """Most tasks at once; below 0 is unlimited, 0 is a limit like any other."""

    FIELDS: ClassVar[Fields] = {"limit": ("limit", i64, None)}
    __slots__ = slots(FIELDS)
    limit: int | None


class LinuxWeightDevice(Value):
    FIELDS: ClassVar[Fields] = {
        "major": ("major", number(0, MAX_MAJOR), None),
        "minor": ("minor", number(0, MAX_MINOR), None),
        "weight": ("weight", _weight, None),
        "leafWeight": ("leaf_weight", _weight, None),
    }
    REQUIRED = ("major", "minor")
    __slots__ = slots(FIELDS)
    major: int
    minor: int
    weight: int | None
    leaf_weight: int | None

    def check(self, where: str, warnings: list[str]) -> None:
        if self.weight is None and self.leaf_weight is None:
            raise missing(f"{where}.weight", "weight or leafWeight must be given")


class LinuxThrottleDevice(Value):
    """`rate` is bytes or operations a second."""

    FIELDS: ClassVar[Fields] = {
        "major": ("major", number(0, MAX_MAJOR), None),
        "minor": ("minor", number(0, MAX_MINOR), None),
        "rate": ("rate", u64, None),
    }
    REQUIRED = ("major", "minor", "rate")
    __slots__ = slots(FIELDS)
    major: int
    minor: int
    rate: int


_throttles = many(LinuxThrottleDevice)


class LinuxBlockIO(Value):
    FIELDS: ClassVar[Fields] = {
        "weight": ("weight", _weight, None),
        "leafWeight": ("leaf_weight", _weight, None),
        "weightDevice": ("weight_device", many(LinuxWeightDevice), ()),
        "throttleReadBpsDevice": ("throttle_read_bps_device", _throttles, ()),
        "throttleWriteBpsDevice": ("throttle_write_bps_device", _throttles, ()),
        "throttleReadIOPSDevice": ("throttle_read_iops_device", _throttles, ()),
        "throttleWriteIOPSDevice": ("throttle_write_iops_device", _throttles, ()),
    }
    # Until 1.0.0-rc6.
    RENAMED: ClassVar[dict[str, str]] = {
        "blkioWeight": "weight",
        "blkioLeafWeight": "leafWeight",
        "blkioWeightDevice": "weightDevice",
        "blkioThrottleReadBpsDevice": "throttleReadBpsDevice",
        "blkioThrottleWriteBpsDevice": "throttleWriteBpsDevice",
        "blkioThrottleReadIOPSDevice": "throttleReadIOPSDevice",
        "blkioThrottleWriteIOPSDevice": "throttleWriteIOPSDevice",
    }
    __slots__ = slots(FIELDS)
    weight: int | None
    leaf_weight: int | None
    weight_device: tuple[LinuxWeightDevice, ...]
    throttle_read_bps_device: tuple[LinuxThrottleDevice, ...]
    throttle_write_bps_device: tuple[LinuxThrottleDevice, ...]
    throttle_read_iops_device: tuple[LinuxThrottleDevice, ...]
    throttle_write_iops_device: tuple[LinuxThrottleDevice, ...]


def _page_size(value: object, where: str, warnings: list[str]) -> str | None:
    result = string(value, where, warnings)
    if not (result[-2:] in ("KB", "MB", "GB") and decimal(result[:-2]) and result[0] != "0"):
        raise invalid("page size", result, where, "wanted is the form 64KB, 2MB or 1GB")
    return result


class LinuxHugepageLimit(Value):
    """`page_size` as in the file names of the hugetlb controller ("2MB"), `limit` in bytes."""

    FIELDS: ClassVar[Fields] = {"pageSize": ("page_size", _page_size, None), "limit": ("limit", u64, None)}
    REQUIRED = ("pageSize", "limit")
    __slots__ = slots(FIELDS)
    page_size: str
    limit: int


class LinuxInterfacePriority(Value):
    FIELDS: ClassVar[Fields] = {"name": ("name", text, None), "priority": ("priority", u32, None)}
    REQUIRED = ("name", "priority")
    __slots__ = slots(FIELDS)
    name: str
    priority: int


class LinuxNetwork(Value):
    """net_cls and net_prio of cgroup v1."""

    FIELDS: ClassVar[Fields] = {
        "classID": ("class_id", u32, None),
        "priorities": ("priorities", many(LinuxInterfacePriority), ()),
    }
    __slots__ = slots(FIELDS)
    class_id: int | None
    priorities: tuple[LinuxInterfacePriority, ...]


class LinuxRdma(Value):
    FIELDS: ClassVar[Fields] = {"hcaHandles": ("hca_handles", u32, None), "hcaObjects": ("hca_objects", u32, None)}
    __slots__ = slots(FIELDS)
    hca_handles: int | None
    hca_objects: int | None

    def check(self, where: str, warnings: list[str]) -> None:
        if self.hca_handles is None and self.hca_objects is None:
            raise missing(f"{where}.hcaHandles", "hcaHandles or hcaObjects must be given")


def _unified(value: object, where: str, warnings: list[str]) -> dict[str, str]:
    result = string_map(value, where, warnings)
    for key in result:
        if "/" in key or key in ("", ".", ".."):
            raise invalid("unified resource", key, key_path(where, key), "must be a file name (no slashes)")
    return result


class LinuxResources(Value):
    """Limits of the container's cgroup; `unified` is written to the files of cgroup v2 as it stands."""

    FIELDS: ClassVar[Fields] = {
        "devices": ("devices", many(LinuxDeviceCgroup), ()),
        "memory": ("memory", one(LinuxMemory), None),
        "cpu": ("cpu", one(LinuxCPU), None),
        "pids": ("pids", one(LinuxPids), None),
        "blockIO": ("block_io", one(LinuxBlockIO), None),
        "hugepageLimits": ("hugepage_limits", many(LinuxHugepageLimit), ()),
        "network": ("network", one(LinuxNetwork), None),
        "rdma": ("rdma", named(LinuxRdma), {}),
        "unified": ("unified", _unified, {}),
    }
    __slots__ = slots(FIELDS)
    devices: tuple[LinuxDeviceCgroup, ...]
    memory: LinuxMemory | None
    cpu: LinuxCPU | None
    pids: LinuxPids | None
    block_io: LinuxBlockIO | None
    hugepage_limits: tuple[LinuxHugepageLimit, ...]
    network: LinuxNetwork | None
    rdma: dict[str, LinuxRdma]
    unified: dict[str, str]

    def read_old(self, name: str, value: object, where: str, warnings: list[str]) -> bool:
        if name == "disableOOMKiller":
            # In `memory` since 1.0.0 (#896 of the specification).
            warnings.append(f'{where}: old place, now "memory.disableOOMKiller"')
            memory = self.memory or LinuxMemory()
            if memory.disable_oom_killer is None:
                memory = memory.replace(disable_oom_killer=boolean(value, where, warnings))
            object.__setattr__(self, "memory", memory)
            return True
        # `oomScoreAdj` went to `process` with 1.0.0; masu.spec.runtime moves it.
        return name == "oomScoreAdj"
