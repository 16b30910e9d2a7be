"""Reading what a container has used: the files of v1 and v2, parsed into the values of stats.py."""

from __future__ import annotations

import errno
import os

from masu.errors import DataLoss, KernelError
from masu.linux.cgroups.files import open_directory, read
from masu.linux.cgroups.freezer import GONE
from masu.linux.cgroups.stats import (
    CPUSET_FLAGS,
    UINT64_MAX,
    Counter,
    Cpu,
    Hugetlb,
    Io,
    IoEntry,
    Memory,
    Pids,
    Pressure,
    Stats,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.cgroups.group import Cgroup

USEC_NS = 1000


class _Files:
    """The files of one directory; what is not there reads as None."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.fd = open_directory(path)
        except OSError as e:
            if e.errno not in GONE:
                raise KernelError("open", path, e.errno or 0) from e
            self.fd = -1

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def text(self, file: str) -> str | None:
        if self.fd < 0:
            return None
        try:
            return read(self.fd, file)
        except OSError as e:
            # EOPNOTSUPP: pressure files with psi=0, memory.numa_stat and others on odd kernels.
            if e.errno in GONE or e.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return None
            raise KernelError("read", f"{self.path}/{file}", e.errno or 0) from e

    def number(self, file: str) -> int | None:
        text = self.text(file)
        if text is None:
            return None
        text = text.strip()
        if text == "max":
            return UINT64_MAX
        try:
            # Some v1 counters go below 0 for moments (memory.usage of a racing charge).
            return max(int(text), 0)
        except ValueError as e:
            raise DataLoss("cgroup file", f"{self.path}/{file}", detail=f"not a number: {text[:40]!r}") from e

    def table(self, file: str) -> dict[str, int] | None:
        text = self.text(file)
        if text is None:
            return None
        found = {}
        for line in text.splitlines():
            key, _, value = line.partition(" ")
            if value.strip().isdecimal():
                found[key] = int(value)
        return found

    def pressure(self, file: str) -> Pressure | None:
        text = self.text(file)
        if text is None:
            return None
        found: dict[str, tuple[float, float, float, int]] = {}
        for line in text.splitlines():
            name, *fields = line.split()
            pairs = dict(field.split("=", 1) for field in fields)
            found[name] = (float(pairs["avg10"]), float(pairs["avg60"]), float(pairs["avg300"]), int(pairs["total"]))
        return Pressure(found.get("some"), found.get("full"))


def collect(group: Cgroup) -> Stats:
    """Everything there is; see Cgroup.stats."""
    return _collect_v2(group) if group.mode == "v2" else _collect_v1(group)


def _collect_v1(group: Cgroup) -> Stats:
    stats = Stats()
    path = group.path
    if (directory := path("cpuacct")) is not None:
        with _Files(directory) as files:
            stats.cpu = _cpuacct(files)
    if (directory := path("cpu")) is not None:
        with _Files(directory) as files:
            table = files.table("cpu.stat")
            if table is not None:
                stats.cpu = stats.cpu or Cpu()
                stats.cpu.periods = table.get("nr_periods", 0)
                stats.cpu.throttled_periods = table.get("nr_throttled", 0)
                stats.cpu.throttled_ns = table.get("throttled_time", 0)
                stats.cpu.bursts = table.get("nr_bursts", 0)
                stats.cpu.burst_ns = table.get("burst_time", 0)
    if (directory := path("cpuset")) is not None:
        with _Files(directory) as files:
            stats.cpuset = _cpuset(files)
    if (directory := path("memory")) is not None:
        with _Files(directory) as files:
            stats.memory = _memory_v1(files)
    if (directory := path("pids")) is not None:
        with _Files(directory) as files:
            stats.pids = _pids(files)
    if (directory := path("blkio")) is not None:
        with _Files(directory) as files:
            stats.io = _blkio(files)
    if (directory := path("hugetlb")) is not None:
        with _Files(directory) as files:
            stats.hugetlb = _hugetlb(directory, files, v2=False)
    elif (directory := path("")) is not None and os.path.exists(f"{directory}/cgroup.controllers"):
        with _Files(directory) as files:
            stats.hugetlb = _hugetlb(directory, files, v2=True)
    if (directory := path("rdma")) is not None:
        with _Files(directory) as files:
            stats.rdma = _rdma(files)
    return stats


def _collect_v2(group: Cgroup) -> Stats:
    stats = Stats()
    directory = group.path() or ""
    with _Files(directory) as files:
        table = files.table("cpu.stat")
        if table is not None:
            cpu = stats.cpu = Cpu()
            cpu.total_ns = table.get("usage_usec", 0) * USEC_NS
            cpu.user_ns = table.get("user_usec", 0) * USEC_NS
            cpu.system_ns = table.get("system_usec", 0) * USEC_NS
            cpu.periods = table.get("nr_periods", 0)
            cpu.throttled_periods = table.get("nr_throttled", 0)
            cpu.throttled_ns = table.get("throttled_usec", 0) * USEC_NS
            cpu.bursts = table.get("nr_bursts", 0)
            cpu.burst_ns = table.get("burst_usec", 0) * USEC_NS
            cpu.pressure = files.pressure("cpu.pressure")
        stats.memory = _memory_v2(files)
        stats.pids = _pids(files)
        if stats.pids is None and files.fd >= 0:
            # Without the controller processes can still be counted.
            stats.pids = Pids(len(group.pids()), 0)
        stats.io = _io(files)
        stats.hugetlb = _hugetlb(directory, files, v2=True)
        stats.rdma = _rdma(files)
    return stats


def _cpuacct(files: _Files) -> Cpu | None:
    total = files.number("cpuacct.usage")
    if total is None:
        return None
    cpu = Cpu()
    cpu.total_ns = total
    ticks = files.table("cpuacct.stat") or {}
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    cpu.user_ns = ticks.get("user", 0) * tick_ns
    cpu.system_ns = ticks.get("system", 0) * tick_ns
    cpu.percpu_ns = [int(word) for word in (files.text("cpuacct.usage_percpu") or "").split()]
    # Lines of "cpu user system" below a heading, since Linux 4.9.
    for line in (files.text("cpuacct.usage_all") or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) == 3:
            cpu.percpu_user_ns.append(int(fields[1]))
            cpu.percpu_kernel_ns.append(int(fields[2]))
    return cpu


def _cpuset(files: _Files) -> dict[str, int | list[int]] | None:
    cpus = files.text("cpuset.cpus")
    if cpus is None:
        return None
    found: dict[str, int | list[int]] = {
        "cpus": _number_list(cpus),
        "mems": _number_list(files.text("cpuset.mems") or ""),
    }
    for flag in CPUSET_FLAGS:
        text = files.text(f"cpuset.{flag}")
        if text is not None:
            found[flag] = int(text)  # sched_relax_domain_level may be -1
    return found


def _number_list(text: str) -> list[int]:
    """A list as the kernel writes it: `0-3,7`."""
    found: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            found.extend(range(int(first), int(last or first) + 1))
    return found


def _memory_v1(files: _Files) -> Memory | None:
    usage = _counter_v1(files, "memory")
    if usage is None:
        return None
    memory = Memory(usage)
    memory.raw = files.table("memory.stat") or {}
    memory.cache = memory.raw.get("cache", 0)
    memory.swap = _counter_v1(files, "memory.memsw")
    if memory.swap is not None:
        memory.swap_only = Counter(
            max(memory.swap.usage - usage.usage, 0), None, max(memory.swap.failures - usage.failures, 0), 0
        )
    memory.kernel = _counter_v1(files, "memory.kmem")
    memory.kernel_tcp = _counter_v1(files, "memory.kmem.tcp")
    memory.oom_kills = (files.table("memory.oom_control") or {}).get("oom_kill", 0)
    return memory


def _counter_v1(files: _Files, prefix: str) -> Counter | None:
    usage = files.number(f"{prefix}.usage_in_bytes")
    if usage is None:
        return None
    return Counter(
        usage,
        files.number(f"{prefix}.max_usage_in_bytes") or 0,
        files.number(f"{prefix}.failcnt") or 0,
        files.number(f"{prefix}.limit_in_bytes") or 0,  # memory.kmem's is gone since Linux 6.1
    )


def _memory_v2(files: _Files) -> Memory | None:
    usage = _counter_v2(files, "memory")
    if usage is None:
        return None
    memory = Memory(usage)
    memory.raw = files.table("memory.stat") or {}
    memory.cache = memory.raw.get("file", 0)
    events = files.table("memory.events") or {}
    usage.failures = events.get("max", 0)
    memory.oom_kills = events.get("oom_kill", 0)
    memory.swap_only = _counter_v2(files, "memory.swap")
    if memory.swap_only is not None:
        only = memory.swap_only
        both = UINT64_MAX if UINT64_MAX in (only.limit, usage.limit) else only.limit + usage.limit
        memory.swap = Counter(only.usage + usage.usage, None, 0, both)
    if "kernel" in memory.raw:
        memory.kernel = Counter(memory.raw["kernel"], None, 0, 0)
    memory.pressure = files.pressure("memory.pressure")
    return memory


def _counter_v2(files: _Files, prefix: str) -> Counter | None:
    usage = files.number(f"{prefix}.current")
    if usage is None:
        return None
    # memory.peak since Linux 5.19, memory.swap.peak since 6.5.
    return Counter(usage, files.number(f"{prefix}.peak"), 0, files.number(f"{prefix}.max") or 0)


def _pids(files: _Files) -> Pids | None:
    current = files.number("pids.current")
    if current is None:
        return None
    limit = files.number("pids.max") or 0
    return Pids(current, 0 if limit == UINT64_MAX else limit)


# Which files tell, best first: a group counts if its first file has something to say. bfq has the long list only with
# CONFIG_BFQ_CGROUP_DEBUG; cfq was there before Linux 5.0; the throttling layer's are always there.
BLKIO_FILES = (
    ("blkio.bfq.", "_recursive", ("sectors", "io_service_time", "io_wait_time", "io_merged", "io_queued", "time")),
    ("blkio.bfq.", "_recursive", ()),
    ("blkio.", "_recursive", ("sectors", "io_service_time", "io_wait_time", "io_merged", "io_queued", "time")),
    ("blkio.throttle.", "_recursive", ()),
    ("blkio.throttle.", "", ()),
)


def _blkio(files: _Files) -> Io | None:
    if files.fd < 0:
        return None
    io = Io()
    for prefix, suffix, more in BLKIO_FILES:
        serviced = _blkio_entries(files, f"{prefix}io_serviced{suffix}")
        if not serviced or (more and files.text(f"{prefix}{more[0]}{suffix}") is None):
            continue
        io.io_serviced = serviced
        io.io_service_bytes = _blkio_entries(files, f"{prefix}io_service_bytes{suffix}")
        if more:
            io.sectors = _blkio_entries(files, f"{prefix}sectors{suffix}")
            io.io_service_time = _blkio_entries(files, f"{prefix}io_service_time{suffix}")
            io.io_wait_time = _blkio_entries(files, f"{prefix}io_wait_time{suffix}")
            io.io_merged = _blkio_entries(files, f"{prefix}io_merged{suffix}")
            io.io_queued = _blkio_entries(files, f"{prefix}io_queued{suffix}")
            io.io_time = _blkio_entries(files, f"{prefix}time{suffix}")
        break
    return io


def _blkio_entries(files: _Files, file: str) -> list[IoEntry]:
    """Lines like `8:0 Read 1282048`, `8:0 6792`; the sum at the end, `Total 3477504`, is left out."""
    entries: list[IoEntry] = []
    for line in (files.text(file) or "").splitlines():
        device, *rest = line.split()
        major, colon, minor = device.partition(":")
        if colon and rest and rest[-1].isdecimal():
            entries.append(IoEntry(int(major), int(minor), rest[0] if len(rest) == 2 else "", int(rest[-1])))
    return entries


def _io(files: _Files) -> Io | None:
    text = files.text("io.stat")
    if text is None:
        return None
    io = Io()
    for line in text.splitlines():
        device, *fields = line.split()
        major, colon, minor = device.partition(":")
        if not colon:
            continue
        for field in fields:
            key, _, value = field.partition("=")
            if key in ("rbytes", "wbytes"):
                target, op = io.io_service_bytes, key
            elif key in ("rios", "wios"):
                target, op = io.io_serviced, key
            else:
                continue
            target.append(IoEntry(int(major), int(minor), "Read" if op[0] == "r" else "Write", int(value)))
    io.pressure = files.pressure("io.pressure")
    return io


def _hugetlb(directory: str, files: _Files, *, v2: bool) -> dict[str, Hugetlb] | None:
    """Reservations where the kernel counts them (5.7), else usage, as runc."""
    current = ".current" if v2 else ".usage_in_bytes"
    try:
        names = os.listdir(directory) if files.fd >= 0 else []
    except OSError:
        return None
    found: dict[str, Hugetlb] = {}
    for name in names:
        if not name.startswith("hugetlb.") or not name.endswith(current) or ".rsvd." in name:
            continue
        size = name[len("hugetlb.") : -len(current)]
        prefix = f"hugetlb.{size}.rsvd"
        usage = files.number(f"{prefix}{current}")
        if usage is None:
            prefix = f"hugetlb.{size}"
            usage = files.number(f"{prefix}{current}") or 0
        if v2:
            failures = (files.table(f"hugetlb.{size}.events") or {}).get("max", 0)
            found[size] = Hugetlb(usage, 0, failures)
        else:
            found[size] = Hugetlb(
                usage, files.number(f"{prefix}.max_usage_in_bytes") or 0, files.number(f"{prefix}.failcnt") or 0
            )
    return found or None


def _rdma(files: _Files) -> dict[str, str] | None:
    current = files.text("rdma.current")
    if current is None:
        return None
    return {"rdma.current": current, "rdma.max": files.text("rdma.max") or ""}
