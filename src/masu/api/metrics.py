"""What a task uses, as containerd's typed messages: one for cgroup v1, one for v2."""

from __future__ import annotations

from masu.api.proto import small_metrics_v1 as v1
from masu.api.proto import small_metrics_v2 as v2
from masu.api.proto.wire import FLOAT
from masu.linux.cgroups.stats import UINT64_MAX, Counter, IoEntry, Pressure, Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from masu.api.proto.wire import Message

_USEC_NS = 1000
# memory.stat of v1: the kernel's words, where the message has others.
_V1_WORDS = {
    "pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault", "pgmajfault": "pg_maj_fault",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
}  # fmt: skip
# memory.stat of v2.
_V2_WORDS = {"workingset_refault_anon": "workingset_refault", "workingset_activate_anon": "workingset_activate"}


def packed(stats: Stats, mode: str) -> tuple[str, bytes]:
    """As the two halves of an `Any`, whose type URL is the bare name, as containerd writes it. `mode` is "v1", "hybrid"
    or "v2"."""
    if mode == "v2":
        return "io.containerd.cgroups.v2.Metrics", of_v2(stats).encode()
    return "io.containerd.cgroups.v1.Metrics", of_v1(stats).encode()


def of_v1(stats: Stats) -> v1.Metrics:
    found = v1.Metrics(
        hugetlb=[
            v1.HugetlbStat(usage=each.usage, max=each.peak, failcnt=each.failures, pagesize=size)
            for size, each in (stats.hugetlb or {}).items()
        ]
    )
    if stats.pids is not None:
        found.pids = v1.PidsStat(current=stats.pids.current, limit=stats.pids.limit)
    if (cpu := stats.cpu) is not None:
        usage = v1.CPUUsage(total=cpu.total_ns, kernel=cpu.system_ns, user=cpu.user_ns, per_cpu=cpu.percpu_ns)
        throttling = v1.Throttle(
            periods=cpu.periods, throttled_periods=cpu.throttled_periods, throttled_time=cpu.throttled_ns
        )
        found.cpu = v1.CPUStat(usage=usage, throttling=throttling)
    if (memory := stats.memory) is not None:
        into = v1.MemoryStat(
            usage=_entry(memory.usage),
            swap=_entry(memory.swap),
            kernel=_entry(memory.kernel),
            kernel_tcp=_entry(memory.kernel_tcp),
        )
        _fill(into, memory.raw, _V1_WORDS)
        found.memory = into
        found.memory_oom_control = v1.MemoryOomControl(oom_kill=memory.oom_kills)
    if (io := stats.io) is not None:
        found.blkio = v1.BlkIOStat(
            io_service_bytes_recursive=_blkio(io.io_service_bytes),
            io_serviced_recursive=_blkio(io.io_serviced),
            io_queued_recursive=_blkio(io.io_queued),
            io_service_time_recursive=_blkio(io.io_service_time),
            io_wait_time_recursive=_blkio(io.io_wait_time),
            io_merged_recursive=_blkio(io.io_merged),
            io_time_recursive=_blkio(io.io_time),
            sectors_recursive=_blkio(io.sectors),
        )
    return found


def of_v2(stats: Stats) -> v2.Metrics:
    found = v2.Metrics(
        hugetlb=[
            v2.HugeTlbStat(current=each.usage, max=each.peak, failcnt=each.failures, pagesize=size)
            for size, each in (stats.hugetlb or {}).items()
        ]
    )
    if stats.pids is not None:
        found.pids = v2.PidsStat(current=stats.pids.current, limit=stats.pids.limit)
    if (cpu := stats.cpu) is not None:
        found.cpu = v2.CPUStat(
            usage_usec=cpu.total_ns // _USEC_NS,
            user_usec=cpu.user_ns // _USEC_NS,
            system_usec=cpu.system_ns // _USEC_NS,
            nr_periods=cpu.periods,
            nr_throttled=cpu.throttled_periods,
            throttled_usec=cpu.throttled_ns // _USEC_NS,
            nr_bursts=cpu.bursts,
            burst_usec=cpu.burst_ns // _USEC_NS,
            psi=_psi(cpu.pressure),
        )
    if (memory := stats.memory) is not None:
        into = v2.MemoryStat(
            usage=memory.usage.usage,
            usage_limit=memory.usage.limit,
            max_usage=memory.usage.peak or 0,
            psi=_psi(memory.pressure),
        )
        if memory.swap_only is not None:
            into.swap_usage, into.swap_limit = memory.swap_only.usage, memory.swap_only.limit
            into.swap_max_usage = memory.swap_only.peak or 0
        _fill(into, memory.raw, _V2_WORDS)
        found.memory = into
        found.memory_events = v2.MemoryEvents(oom_kill=memory.oom_kills)
    if (io := stats.io) is not None:
        found.io = v2.IOStat(usage=_io(io.io_service_bytes, io.io_serviced), psi=_psi(io.pressure))
    return found


def _entry(counter: Counter | None) -> v1.MemoryEntry | None:
    if counter is None:
        return None
    return v1.MemoryEntry(
        limit=min(counter.limit, UINT64_MAX), usage=counter.usage, max=counter.peak or 0, failcnt=counter.failures
    )


def _fill(into: Message, raw: dict[str, int], words: dict[str, str]) -> None:
    """The lines of memory.stat that the message has a number for."""
    known = {name for name, kind, *_ in into.FIELDS.values() if kind < FLOAT}
    for word, value in raw.items():
        prefix = "total_" if word.startswith("total_") else ""
        bare = word.removeprefix(prefix)
        name = prefix + words.get(bare, bare)
        if name in known:
            setattr(into, name, getattr(into, name) + value)


def _blkio(entries: Iterable[IoEntry]) -> list[v1.BlkIOEntry]:
    return [v1.BlkIOEntry(op=e.op, major=e.major, minor=e.minor, value=e.value) for e in entries]


def _io(sizes: Iterable[IoEntry], counts: Iterable[IoEntry]) -> list[v2.IOEntry]:
    found: dict[tuple[int, int], v2.IOEntry] = {}
    for entries, fields in (
        (sizes, {"read": "rbytes", "write": "wbytes"}),
        (counts, {"read": "rios", "write": "wios"}),
    ):
        for e in entries:
            each = found.setdefault((e.major, e.minor), v2.IOEntry(major=e.major, minor=e.minor))
            if (name := fields.get(e.op.lower())) is not None:
                setattr(each, name, e.value)
    return list(found.values())


def _psi(pressure: Pressure | None) -> v2.PSIStats | None:
    if pressure is None:
        return None
    found = v2.PSIStats()
    for name in ("some", "full"):
        values = getattr(pressure, name)
        if values is not None:
            avg10, avg60, avg300, total = values
            setattr(found, name, v2.PSIData(avg10=avg10, avg60=avg60, avg300=avg300, total=total))
    return found
