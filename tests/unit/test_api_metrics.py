"""What a task uses, as messages: read back with the classes that protoc makes, as clients do."""

from __future__ import annotations

from masu.api import metrics
from masu.api.proto import metrics_v1_pb2, metrics_v2_pb2
from masu.linux.cgroups.stats import UINT64_MAX, Counter, Cpu, Hugetlb, Io, IoEntry, Memory, Pids, Pressure, Stats


def used(*, swap_only: bool) -> Stats:
    stats = Stats()
    stats.cpu = Cpu()
    stats.cpu.total_ns, stats.cpu.user_ns, stats.cpu.system_ns = 5_000_000, 3_000_000, 2_000_000
    stats.cpu.percpu_ns = [4_000_000, 1_000_000]
    stats.cpu.periods, stats.cpu.throttled_periods, stats.cpu.throttled_ns = 7, 2, 9_000
    stats.cpu.pressure = Pressure((0.5, 0.25, 0.125, 99), None)
    stats.memory = Memory(Counter(1000, 2000, 3, UINT64_MAX))
    stats.memory.raw = {
        "total_inactive_file": 10,
        "pgfault": 11,
        "pgpgin": 12,
        "anon": 13,
        "workingset_refault_anon": 14,
    }
    stats.memory.oom_kills = 4
    if swap_only:
        stats.memory.swap_only = Counter(50, None, 0, 60)
    else:
        stats.memory.swap = Counter(1050, 0, 0, 2000)
    stats.pids = Pids(5, 0)
    stats.io = Io()
    stats.io.io_service_bytes = [IoEntry(8, 0, "Read", 100), IoEntry(8, 0, "Write", 200)]
    stats.io.io_serviced = [IoEntry(8, 0, "Read", 1), IoEntry(8, 16, "Write", 2)]
    stats.hugetlb = {"2MB": Hugetlb(1, 2, 3)}
    return stats


def test_of_cgroup_v1() -> None:
    url, data = metrics.packed(used(swap_only=False), "hybrid")
    assert url == "io.containerd.cgroups.v1.Metrics" == metrics_v1_pb2.Metrics.DESCRIPTOR.full_name
    found = metrics_v1_pb2.Metrics.FromString(data)
    usage = found.cpu.usage
    assert (usage.total, usage.user, usage.kernel, list(usage.per_cpu)) == (
        5000000,
        3000000,
        2000000,
        [4000000, 1000000],
    )
    assert (found.cpu.throttling.periods, found.cpu.throttling.throttled_time) == (7, 9000)
    memory = found.memory
    assert (memory.usage.usage, memory.usage.max, memory.usage.failcnt, memory.usage.limit) == (
        1000,
        2000,
        3,
        UINT64_MAX,
    )
    assert (memory.swap.usage, memory.swap.limit) == (1050, 2000)
    assert (memory.total_inactive_file, memory.pg_fault, memory.pg_pg_in) == (10, 11, 12)
    assert found.memory_oom_control.oom_kill == 4
    assert (found.pids.current, found.pids.limit) == (5, 0)
    assert [(e.op, e.major, e.minor, e.value) for e in found.blkio.io_service_bytes_recursive] == [
        ("Read", 8, 0, 100), ("Write", 8, 0, 200),
    ]  # fmt: skip
    assert [(each.pagesize, each.usage, each.max, each.failcnt) for each in found.hugetlb] == [("2MB", 1, 2, 3)]


def test_of_cgroup_v2() -> None:
    url, data = metrics.packed(used(swap_only=True), "v2")
    assert url == "io.containerd.cgroups.v2.Metrics" == metrics_v2_pb2.Metrics.DESCRIPTOR.full_name
    found = metrics_v2_pb2.Metrics.FromString(data)
    assert (found.cpu.usage_usec, found.cpu.user_usec, found.cpu.system_usec) == (5000, 3000, 2000)
    assert (found.cpu.nr_periods, found.cpu.nr_throttled, found.cpu.throttled_usec) == (7, 2, 9)
    assert (found.cpu.psi.some.avg10, found.cpu.psi.some.total, found.cpu.psi.HasField("full")) == (0.5, 99, False)
    memory = found.memory
    assert (memory.usage, memory.max_usage, memory.usage_limit) == (1000, 2000, UINT64_MAX)
    assert (memory.swap_usage, memory.swap_limit) == (50, 60)
    assert (memory.anon, memory.pgfault, memory.workingset_refault) == (13, 11, 14)
    assert found.memory_events.oom_kill == 4
    assert [(e.major, e.minor, e.rbytes, e.wbytes, e.rios, e.wios) for e in found.io.usage] == [
        (8, 0, 100, 200, 1, 0), (8, 16, 0, 0, 0, 2),
    ]  # fmt: skip


def test_of_nothing() -> None:
    for mode, message in (("v1", metrics_v1_pb2.Metrics), ("v2", metrics_v2_pb2.Metrics)):
        assert not message.FromString(metrics.packed(Stats(), mode)[1]).ListFields()
