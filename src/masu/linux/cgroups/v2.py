"""cgroup v2: which files say what a config asks for, and how controllers get down to them.

Documentation/admin-guide/cgroup-v2.rst. The fields of a config are cgroup v1's; where they convert, they convert as
in runc and crun, which callers count on.
"""

from __future__ import annotations

import errno
import os

from masu.errors import FailedPrecondition, InvalidArgument, KernelError
from masu.linux.cgroups import values
from masu.linux.cgroups.files import Setting, open_directory, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.spec.runtime import LinuxBlockIO, LinuxCPU, LinuxMemory, Resources

CPU_PERIOD_DEFAULT_US = 100_000


def settings(resources: Resources, *, where: str, warnings: list[str] | None = None) -> list[Setting]:
    """Everything but devices. Raises InvalidArgument for what no kernel would take."""
    out: list[Setting] = []
    if resources.pids is not None and resources.pids.limit is not None:
        out.append(_own("pids.max", values.pids_max(resources.pids.limit), f"{where}.pids.limit"))
    if resources.memory is not None:
        _memory(out, resources.memory, f"{where}.memory", warnings)
    if resources.block_io is not None:
        _io(out, resources.block_io, f"{where}.blockIO", warnings)
    if resources.cpu is not None:
        _cpu(out, resources.cpu, f"{where}.cpu", warnings)
    hugetlb(out, resources, where)
    values.rdma(out, resources.rdma, f"{where}.rdma")
    for setting in out:
        setting.controller = ""
    if resources.network is not None and warnings is not None:
        warnings.append(f"{where}.network: cgroup v2 has no network controller: ignored")
    _unified(out, resources.unified, f"{where}.unified")
    return out


def _own(file: str, value: str, where: str, *, pair: str = "", optional: bool = False) -> Setting:
    return Setting("", file, value, where, pair=pair, optional=optional)


def _memory(out: list[Setting], memory: LinuxMemory, where: str, warnings: list[str] | None) -> None:
    limit, swap = memory.limit or 0, memory.swap or 0
    values.memory_and_swap(limit, swap, where)
    swap_max = values.swap_max(limit, swap, where)
    if swap_max:
        # Without swap accounting there is nothing to limit, and nothing is what "max" and "0" ask for.
        place = f"{where}.swap" if swap else f"{where}.limit"
        out.append(_own("memory.swap.max", swap_max, place, optional=swap_max in ("max", "0")))
    if limit:
        out.append(_own("memory.max", _number(limit), f"{where}.limit"))
    if memory.reservation:
        out.append(_own("memory.low", _number(memory.reservation), f"{where}.reservation"))
    if warnings is None:
        return
    if memory.disable_oom_killer:
        warnings.append(f"{where}.disableOOMKiller: cgroup v2 cannot disable the OOM killer: ignored")
    if values.swappiness(memory.swappiness, where) is not None:
        warnings.append(f"{where}.swappiness: cgroup v2 has no swappiness: ignored")


def _number(value: int) -> str:
    return "max" if value == -1 else str(value)


def _cpu(out: list[Setting], cpu: LinuxCPU, where: str, warnings: list[str] | None) -> None:
    if cpu.shares:
        # Out of v1's range is the least or the most, not an error: the scale is another anyway.
        weight = str(values.shares_to_weight(cpu.shares))
        # The weight cannot be set while idle is 1, hence the pair.
        out.append(_own("cpu.weight", weight, f"{where}.shares", pair="shares"))
    if cpu.idle is not None:
        out.append(_own("cpu.idle", str(cpu.idle), f"{where}.idle", pair="shares"))
    if cpu.burst is not None:
        out.append(_own("cpu.max.burst", str(cpu.burst), f"{where}.burst", pair="max"))
    if cpu.quota or cpu.period:
        quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
        place = f"{where}.quota" if cpu.quota else f"{where}.period"
        out.append(_own("cpu.max", f"{quota} {cpu.period or CPU_PERIOD_DEFAULT_US}", place, pair="max"))
    if cpu.cpus:
        out.append(_own("cpuset.cpus", cpu.cpus, f"{where}.cpus"))
    if cpu.mems:
        out.append(_own("cpuset.mems", cpu.mems, f"{where}.mems"))
    if (cpu.realtime_runtime or cpu.realtime_period) and warnings is not None:
        warnings.append(f"{where}.realtimeRuntime: cgroup v2 cannot share out realtime: ignored")


def _io(out: list[Setting], block_io: LinuxBlockIO, where: str, warnings: list[str] | None) -> None:
    if block_io.weight:
        values.weight(block_io.weight, f"{where}.weight")
        out.append(_weight("", block_io.weight, f"{where}.weight"))
    for index, device in enumerate(block_io.weight_device):
        place = f"{where}.weightDevice[{index}].weight"
        if device.weight:
            values.weight(device.weight, place)
            out.append(_weight(f"{device.major}:{device.minor} ", device.weight, place))
    if warnings is not None and (block_io.leaf_weight or any(d.leaf_weight for d in block_io.weight_device)):
        warnings.append(f"{where}.leafWeight: cgroup v2 has no leaf weight: ignored")
    for name, key, limits in (
        ("throttleReadBpsDevice", "rbps", block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "wbps", block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "riops", block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "wiops", block_io.throttle_write_iops_device),
    ):
        for index, limit in enumerate(limits):
            # 0 is how v1 takes a limit away.
            value = f"{limit.major}:{limit.minor} {key}={limit.rate or 'max'}"
            out.append(_own("io.max", value, f"{where}.{name}[{index}]"))


def _weight(device: str, weight: int, where: str) -> Setting:
    """bfq takes the value as it is; io.weight (the io.cost controller) has another scale."""
    bfq = _own("io.bfq.weight", f"{device}{weight}", where)
    bfq.otherwise = _own("io.weight", f"{device}{values.weight_to_io_weight(weight)}", where)
    return bfq


def hugetlb(out: list[Setting], resources: Resources, where: str) -> None:
    """Also what a hybrid machine uses whose hugetlb controller sits in the cgroup2 tree."""
    for index, huge in enumerate(resources.hugepage_limits):
        place = f"{where}.hugepageLimits[{index}]"
        size = values.page_size(huge.page_size, f"{place}.pageSize")
        out.append(_own(f"hugetlb.{size}.max", str(huge.limit), f"{place}.limit"))
        # Reservations are limited apart from usage since Linux 5.7.
        out.append(_own(f"hugetlb.{size}.rsvd.max", str(huge.limit), f"{place}.limit", optional=True))


def _unified(out: list[Setting], unified: Mapping[str, str], where: str) -> None:
    for key, value in unified.items():
        place = f"{where}.{key}"
        if "/" in key or "\0" in key:
            raise InvalidArgument(
                "unified resource",
                key,
                where=place,
                detail=f"unified resource {key!r} must be a file name (no slashes)",
            )
        if "." not in key.strip("."):
            raise InvalidArgument(
                "unified resource",
                key,
                where=place,
                detail=f"unified resource {key!r} must be in the form CONTROLLER.PARAMETER",
            )
        # One write is one command: files that hold a line for each device want each line by itself.
        for line in value.splitlines() or [""]:
            out.append(_own(key, line, place))


def needs_domain(settings_to_write: list[Setting]) -> bool:
    """Whether a controller is asked for that works on whole processes only (threaded cgroups lack it): of those
    here, cpu, cpuset, pids and perf_event work on threads (cgroups(7))."""
    return any(
        setting.file.partition(".")[0] in ("memory", "io", "hugetlb", "rdma", "misc") for setting in settings_to_write
    )


class Tree:
    """Making a cgroup in a cgroup2 tree: directories, and controllers on the way down to them."""

    __slots__ = ("made", "mount")

    def __init__(self, mount: str) -> None:
        self.mount = mount
        self.made: list[str] = []  # outermost first

    def create(self, relative: str, *, controllers: bool = True, domain: bool = False) -> bool:
        """Make mount/relative; True if the last directory was not there before.

        `controllers`: pass down all that each parent has. A parent that has processes of its own cannot (EBUSY, the
        "no internal processes" rule); that is no error here but when a file is missed. `domain`: controllers
        will be used that a threaded cgroup cannot have.

        Raises KernelError, FailedPrecondition. Directories made before a failure are listed in `made`.
        """
        for _ in range(8):
            try:
                return self._create(relative.split("/"), controllers=controllers, domain=domain)
            except KernelError as e:
                # Somebody who removes empty parents may be at work at the same time.
                if e.errno != errno.ENOENT or not os.path.isdir(self.mount):
                    raise
        raise KernelError("mkdir", f"{self.mount}/{relative}", errno.ENOENT)

    def _create(self, parts: list[str], *, controllers: bool, domain: bool) -> bool:
        path = self.mount
        new = False
        available = _words(path, "cgroup.controllers") if controllers else []
        for part in parts:
            if available:
                enable(path, available)
            path = f"{path}/{part}"
            new = self._make(path)
            self._check_type(path, domain=domain)
        return new

    def _make(self, path: str) -> bool:
        try:
            os.mkdir(path, 0o755)
        except FileExistsError as e:
            if os.path.isdir(path):
                return False
            raise KernelError("mkdir", path, e.errno or 0, hint="a control file of the cgroup has this name") from e
        except OSError as e:
            raise KernelError("mkdir", path, e.errno or 0, hint=_mkdir_hint(path, e)) from e
        self.made.append(path)
        return True

    def _check_type(self, path: str, *, domain: bool) -> None:
        try:
            fd = open_directory(path)
        except OSError as e:
            raise KernelError("open", path, e.errno or 0) from e
        try:
            kind = read(fd, "cgroup.type").strip()
            if kind == "domain":
                return
            if domain:
                state = "in an invalid state" if kind == "domain invalid" else f"in {kind} mode"
                raise FailedPrecondition(
                    "cgroup",
                    path,
                    detail=f"cannot enter cgroupv2 {path!r} with domain controllers -- it is {state}",
                    hint="memory, io and hugetlb limits need a cgroup whose ancestors hold no processes or threads",
                )
            if kind == "domain invalid":
                # Below a threaded cgroup: only as another threaded one can it take processes. Not a delegation as
                # it should be, but better than none (runc does the same).
                write(fd, "cgroup.type", "threaded")
        except FileNotFoundError:
            return  # before Linux 4.14, and in the top of a hierarchy
        except OSError as e:
            raise KernelError("write", f"{path}/cgroup.type", e.errno or 0) from e
        finally:
            os.close(fd)


def enable(path: str, wanted: list[str]) -> None:
    """Pass controllers on to the children of `path`: what is there already is not written again (each write
    takes the kernel's cgroup lock)."""
    try:
        fd = open_directory(path)
    except OSError:
        return
    try:
        have = set(read(fd, "cgroup.controllers").split())
        on = set(read(fd, "cgroup.subtree_control").split())
        missing = [name for name in wanted if name in have and name not in on]
        if not missing:
            return
        try:
            write(fd, "cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
            return
        except OSError as e:
            if len(missing) == 1 or e.errno == errno.EROFS:
                return
        # One that cannot be passed on (cpu while realtime processes run, any while processes live here) must
        # not keep the others back.
        for name in missing:
            try:
                write(fd, "cgroup.subtree_control", f"+{name}")
            except OSError:
                continue
    except OSError:
        return  # a file that is missed will be named when it is to be written
    finally:
        os.close(fd)


def _words(path: str, file: str) -> list[str]:
    try:
        return read(None, f"{path}/{file}").split()
    except OSError:
        return []


def _mkdir_hint(path: str, e: OSError) -> str:
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{os.path.dirname(path)} is not delegated to uid {os.geteuid()}"
    if e.errno == errno.EAGAIN:
        return "cgroup.max.depth or cgroup.max.descendants of an ancestor is reached"
    return ""
