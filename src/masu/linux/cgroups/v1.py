"""cgroup v1: which files say what a config asks for.

`settings` is pure; the order is the order of writing. The names and their meaning:
Documentation/admin-guide/cgroup-v1/*.rst, Documentation/scheduler/sched-bwc.rst. The rules where a field maps onto
files less than directly are runc's, which callers count on.
"""

from __future__ import annotations

import errno
import os

from masu.errors import InvalidArgument
from masu.linux.cgroups import values
from masu.linux.cgroups.files import Setting, open_directory, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import LinuxBlockIO, LinuxCPU, LinuxMemory, Resources


def settings(resources: Resources, *, where: str) -> list[Setting]:
    """Everything but devices. Raises InvalidArgument for what no kernel would take."""
    if resources.unified:
        raise InvalidArgument(
            "unified resources",
            where=f"{where}.unified",
            detail="invalid configuration: cannot use unified on cgroup v1",
            hint="these are names of cgroup v2 files; this machine runs cgroup v1",
        )
    out: list[Setting] = []
    if resources.cpu is not None:
        _cpuset(out, resources.cpu, f"{where}.cpu")
        _cpu(out, resources.cpu, f"{where}.cpu")
    if resources.memory is not None:
        _memory(out, resources.memory, f"{where}.memory")
    if resources.pids is not None and resources.pids.limit is not None:
        out.append(Setting("pids", "pids.max", values.pids_max(resources.pids.limit), f"{where}.pids.limit"))
    if resources.block_io is not None:
        _blkio(out, resources.block_io, f"{where}.blockIO")
    for index, huge in enumerate(resources.hugepage_limits):
        place = f"{where}.hugepageLimits[{index}]"
        size = values.page_size(huge.page_size, f"{place}.pageSize")
        limit = str(huge.limit)
        out.append(Setting("hugetlb", f"hugetlb.{size}.limit_in_bytes", limit, f"{place}.limit"))
        # Reservations are limited apart from usage since Linux 5.7.
        out.append(Setting("hugetlb", f"hugetlb.{size}.rsvd.limit_in_bytes", limit, f"{place}.limit", optional=True))
    if resources.network is not None:
        network = resources.network
        if network.class_id:
            out.append(Setting("net_cls", "net_cls.classid", str(network.class_id), f"{where}.network.classID"))
        for index, priority in enumerate(network.priorities):
            place = f"{where}.network.priorities[{index}]"
            name = values.word(priority.name, "network interface", f"{place}.name")
            out.append(Setting("net_prio", "net_prio.ifpriomap", f"{name} {priority.priority}", place))
    values.rdma(out, resources.rdma, f"{where}.rdma")
    return out


def _cpuset(out: list[Setting], cpu: LinuxCPU, where: str) -> None:
    if cpu.cpus:
        out.append(Setting("cpuset", "cpuset.cpus", cpu.cpus, f"{where}.cpus"))
    if cpu.mems:
        out.append(Setting("cpuset", "cpuset.mems", cpu.mems, f"{where}.mems"))


def _cpu(out: list[Setting], cpu: LinuxCPU, where: str) -> None:
    if cpu.shares:
        # The kernel clamps silently; whoever asked for less or more is told, in runc's words.
        values.shares(cpu.shares, f"{where}.shares")
        out.append(Setting("cpu", "cpu.shares", str(cpu.shares), f"{where}.shares", pair="shares"))
    if cpu.idle is not None:
        # Shares cannot be set while idle is 1, hence the pair. Since Linux 5.15.
        out.append(Setting("cpu", "cpu.idle", str(cpu.idle), f"{where}.idle", pair="shares"))
    if cpu.period:
        out.append(Setting("cpu", "cpu.cfs_period_us", str(cpu.period), f"{where}.period", pair="cfs"))
    if cpu.burst is not None:
        # Since Linux 5.14.
        out.append(
            Setting("cpu", "cpu.cfs_burst_us", str(cpu.burst), f"{where}.burst", pair="cfs", optional=True),
        )
    if cpu.quota:
        out.append(Setting("cpu", "cpu.cfs_quota_us", str(cpu.quota), f"{where}.quota", pair="cfs"))
    if cpu.realtime_period:
        out.append(
            Setting("cpu", "cpu.rt_period_us", str(cpu.realtime_period), f"{where}.realtimePeriod", pair="rt"),
        )
    if cpu.realtime_runtime:
        out.append(
            Setting("cpu", "cpu.rt_runtime_us", str(cpu.realtime_runtime), f"{where}.realtimeRuntime", pair="rt"),
        )


def _memory(out: list[Setting], memory: LinuxMemory, where: str) -> None:
    limit, swap = memory.limit or 0, memory.swap or 0
    values.memory_and_swap(limit, swap, where)
    if limit:
        out.append(Setting("memory", "memory.limit_in_bytes", str(limit), f"{where}.limit", pair="memory"))
    if swap:
        # The kernel wants memory <= memory+swap after every single write: which one goes first depends on
        # the old values, so both are tried.
        out.append(Setting("memory", "memory.memsw.limit_in_bytes", str(swap), f"{where}.swap", pair="memory"))
    elif limit == -1:
        # No limit on memory means none on memory+swap either; there may be no swap accounting.
        out.append(
            Setting("memory", "memory.memsw.limit_in_bytes", "-1", f"{where}.limit", pair="memory", optional=True),
        )
    if memory.reservation:
        out.append(
            Setting("memory", "memory.soft_limit_in_bytes", str(memory.reservation), f"{where}.reservation"),
        )
    if memory.disable_oom_killer:
        out.append(Setting("memory", "memory.oom_control", "1", f"{where}.disableOOMKiller"))
    swappiness = values.swappiness(memory.swappiness, where)
    if swappiness is not None:
        out.append(Setting("memory", "memory.swappiness", str(swappiness), f"{where}.swappiness"))
    # kernel and kernelTCP are ignored, as by runc (masu.spec has warned). useHierarchy is always so since Linux 5.11.


def _blkio(out: list[Setting], block_io: LinuxBlockIO, where: str) -> None:
    # With the bfq scheduler as a module of its own the files carry its name (Linux 5.4 and newer lack the others).
    if block_io.weight:
        values.weight(block_io.weight, f"{where}.weight")
        out.append(_weight("blkio", str(block_io.weight), f"{where}.weight", ""))
    if block_io.leaf_weight:
        out.append(Setting("blkio", "blkio.leaf_weight", str(block_io.leaf_weight), f"{where}.leafWeight"))
    for index, device in enumerate(block_io.weight_device):
        place = f"{where}.weightDevice[{index}]"
        number = f"{device.major}:{device.minor}"
        if device.weight:
            values.weight(device.weight, f"{place}.weight")
            out.append(_weight("blkio", f"{number} {device.weight}", f"{place}.weight", "_device"))
        if device.leaf_weight:
            out.append(
                Setting("blkio", "blkio.leaf_weight_device", f"{number} {device.leaf_weight}", f"{place}.leafWeight")
            )
    for name, file, limits in (
        ("throttleReadBpsDevice", "read_bps_device", block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "write_bps_device", block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "read_iops_device", block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "write_iops_device", block_io.throttle_write_iops_device),
    ):
        for index, limit in enumerate(limits):
            value = f"{limit.major}:{limit.minor} {limit.rate}"
            out.append(Setting("blkio", f"blkio.throttle.{file}", value, f"{where}.{name}[{index}]"))


def _weight(controller: str, value: str, where: str, suffix: str) -> Setting:
    return Setting(
        controller,
        f"blkio.weight{suffix}",
        value,
        where,
        otherwise=Setting(controller, f"blkio.bfq.weight{suffix}", value, where),
    )


def fill_cpuset(directory: str, mount: str) -> OSError | None:
    """Give a cpuset and its ancestors the CPUs and memory nodes of their parents where they have none.

    A new v1 cpuset is empty and takes no task (ENOSPC) until both are set (cpuset(7)). Returns the error for the
    leaf itself, which may be mended by what the config asks for (its parent may hold CPUs exclusively for
    someone else); raises OSError for an ancestor.
    """
    chain = [directory]
    while chain[-1] != mount and len(chain[-1]) > len(mount):
        chain.append(os.path.dirname(chain[-1]))
    chain.reverse()
    parent_fd = open_directory(chain[0])
    try:
        for path in chain[1:]:
            fd = open_directory(path)
            try:
                _copy_cpuset(parent_fd, fd)
            except OSError as e:
                if path == directory and e.errno in (errno.EINVAL, errno.EBUSY, errno.EACCES, errno.ENOSPC):
                    os.close(fd)
                    return e
                os.close(fd)
                raise
            os.close(parent_fd)
            parent_fd = fd
    finally:
        os.close(parent_fd)
    return None


def _copy_cpuset(parent_fd: int, fd: int) -> None:
    first: OSError | None = None
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not read(fd, file).strip():
            try:
                write(fd, file, read(parent_fd, file).strip())
            except OSError as e:
                first = first or e
    if first is not None:
        raise first


def apply_devices(directory_fd: int, steps: list[tuple[bool, str]]) -> tuple[str, str, OSError] | None:
    """Write the steps of devices.Table.changes_from; returns (file, value, error) of the one that was refused.

    One write is one rule, and each file is opened once.
    """
    fds: dict[bool, int] = {}
    try:
        for allow, text in steps:
            file = "devices.allow" if allow else "devices.deny"
            try:
                fd = fds.get(allow)
                if fd is None:
                    fd = fds[allow] = os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory_fd)
                os.write(fd, text.encode())
            except OSError as e:
                return file, text, e
    finally:
        for fd in fds.values():
            os.close(fd)
    return None
