"""What a container has used, as values; and as the `data` of runc's `events --stats`.

Units are the kernel's where it has them (bytes, counts); all times are nanoseconds. None means that the controller, or
the file on this kernel, is not there; 0 was read.
"""

from __future__ import annotations

UINT64_MAX = (1 << 64) - 1


class Pressure:
    """One *.pressure file (PSI): `some` and `full` as (avg10, avg60, avg300 in per cent, total in microseconds)."""

    __slots__ = ("full", "some")

    def __init__(
        self, some: tuple[float, float, float, int] | None, full: tuple[float, float, float, int] | None
    ) -> None:
        self.some = some
        self.full = full


class Cpu:
    """`throttled_ns`: time that tasks were kept from running by the quota; lists are per CPU and only v1's."""

    __slots__ = (
        "burst_ns",
        "bursts",
        "percpu_kernel_ns",
        "percpu_ns",
        "percpu_user_ns",
        "periods",
        "pressure",
        "system_ns",
        "throttled_ns",
        "throttled_periods",
        "total_ns",
        "user_ns",
    )

    def __init__(self) -> None:
        self.total_ns = 0
        self.user_ns = 0
        self.system_ns = 0
        self.percpu_ns: list[int] = []
        self.percpu_user_ns: list[int] = []
        self.percpu_kernel_ns: list[int] = []
        self.periods = 0
        self.throttled_periods = 0
        self.throttled_ns = 0
        self.bursts = 0
        self.burst_ns = 0
        self.pressure: Pressure | None = None


class Counter:
    """Usage of one kind of memory in bytes; `limit` is UINT64_MAX for none, `peak` None where not recorded."""

    __slots__ = ("failures", "limit", "peak", "usage")

    def __init__(self, usage: int, peak: int | None, failures: int, limit: int) -> None:
        self.usage = usage
        self.peak = peak
        self.failures = failures
        self.limit = limit


class Memory:
    """`swap` counts memory and swap together, as v1 does (on v2 it is added up); `cache` is file pages."""

    __slots__ = ("cache", "kernel", "kernel_tcp", "oom_kills", "pressure", "raw", "swap", "swap_only", "usage")

    def __init__(self, usage: Counter) -> None:
        self.usage = usage
        self.cache = 0
        self.swap: Counter | None = None
        self.swap_only: Counter | None = None
        self.kernel: Counter | None = None
        self.kernel_tcp: Counter | None = None
        self.raw: dict[str, int] = {}
        self.oom_kills = 0
        self.pressure: Pressure | None = None


class Pids:
    """`limit` is 0 for none."""

    __slots__ = ("current", "limit")

    def __init__(self, current: int, limit: int) -> None:
        self.current = current
        self.limit = limit


class IoEntry:
    """`op` is Read, Write, Sync, Async, Discard, Total (v1) or Read, Write (v2)."""

    __slots__ = ("major", "minor", "op", "value")

    def __init__(self, major: int, minor: int, op: str, value: int) -> None:
        self.major = major
        self.minor = minor
        self.op = op
        self.value = value

    def __repr__(self) -> str:
        return f"IoEntry({self.major}:{self.minor} {self.op} {self.value})"


class Io:
    __slots__ = (
        "io_merged",
        "io_queued",
        "io_service_bytes",
        "io_service_time",
        "io_serviced",
        "io_time",
        "io_wait_time",
        "pressure",
        "sectors",
    )

    def __init__(self) -> None:
        self.io_service_bytes: list[IoEntry] = []
        self.io_serviced: list[IoEntry] = []
        self.io_queued: list[IoEntry] = []
        self.io_service_time: list[IoEntry] = []
        self.io_wait_time: list[IoEntry] = []
        self.io_merged: list[IoEntry] = []
        self.io_time: list[IoEntry] = []
        self.sectors: list[IoEntry] = []
        self.pressure: Pressure | None = None


class Hugetlb:
    __slots__ = ("failures", "peak", "usage")

    def __init__(self, usage: int, peak: int, failures: int) -> None:
        self.usage = usage
        self.peak = peak
        self.failures = failures


class Stats:
    """`hugetlb` maps a page size ("2MB") to its use; `cpuset` and `rdma` map file names to what they say."""

    __slots__ = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma")

    def __init__(self) -> None:
        self.cpu: Cpu | None = None
        self.cpuset: dict[str, int | list[int]] | None = None
        self.memory: Memory | None = None
        self.pids: Pids | None = None
        self.io: Io | None = None
        self.hugetlb: dict[str, Hugetlb] | None = None
        self.rdma: dict[str, str] | None = None

    def to_events(self) -> dict[str, object]:
        """The `data` of an event of type "stats" as runc writes it; what runc omits when it is 0 is left out."""
        cpu = self.cpu or Cpu()
        usage = _filled(total=cpu.total_ns, percpu=cpu.percpu_ns)
        if cpu.percpu_kernel_ns:
            usage["percpu_kernel"] = cpu.percpu_kernel_ns
            usage["percpu_user"] = cpu.percpu_user_ns
        usage["kernel"], usage["user"] = cpu.system_ns, cpu.user_ns
        throttling = _filled(
            periods=cpu.periods, throttledPeriods=cpu.throttled_periods, throttledTime=cpu.throttled_ns
        )
        memory: dict[str, object] = {"usage": {}, "swap": {}, "kernel": {}, "kernelTCP": {}}
        if self.memory is not None:
            memory = _filled(cache=self.memory.cache)
            memory["usage"] = _counter(self.memory.usage)
            memory["swap"] = _counter(self.memory.swap)
            memory["kernel"] = _counter(self.memory.kernel)
            memory["kernelTCP"] = _counter(self.memory.kernel_tcp)
            if self.memory.raw:
                memory["raw"] = self.memory.raw
            _add_pressure(memory, self.memory.pressure)
        processor: dict[str, object] = {"usage": usage, "throttling": throttling}
        _add_pressure(processor, cpu.pressure)
        blkio: dict[str, object] = {}
        if self.io is not None:
            for key, entries in (
                ("ioServiceBytesRecursive", self.io.io_service_bytes),
                ("ioServicedRecursive", self.io.io_serviced),
                ("ioQueueRecursive", self.io.io_queued),
                ("ioServiceTimeRecursive", self.io.io_service_time),
                ("ioWaitTimeRecursive", self.io.io_wait_time),
                ("ioMergedRecursive", self.io.io_merged),
                ("ioTimeRecursive", self.io.io_time),
                ("sectorsRecursive", self.io.sectors),
            ):
                if entries:
                    blkio[key] = [_filled(major=e.major, minor=e.minor, op=e.op, value=e.value) for e in entries]
            _add_pressure(blkio, self.io.pressure)
        cpuset = self.cpuset or {}
        return {
            "cpu": processor,
            "cpuset": {key: cpuset[key] for key in ("cpus", "mems") if cpuset.get(key)}
            | {key: cpuset.get(key, 0) for key in CPUSET_FLAGS},
            "memory": memory,
            "pids": _filled(current=self.pids.current, limit=self.pids.limit) if self.pids else {},
            "blkio": blkio,
            "hugetlb": {
                size: _filled(usage=each.usage, max=each.peak) | {"failcnt": each.failures}
                for size, each in (self.hugetlb or {}).items()
            },
            "intel_rdt": {},
            "network_interfaces": None,
        }


CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)


def _filled(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value}


def _counter(counter: Counter | None) -> dict[str, object]:
    if counter is None:
        return {"limit": 0, "failcnt": 0}
    return {"limit": counter.limit} | _filled(usage=counter.usage, max=counter.peak) | {"failcnt": counter.failures}


def _add_pressure(into: dict[str, object], pressure: Pressure | None) -> None:
    if pressure is None:
        return
    into["psi"] = {
        name: {"avg10": each[0], "avg60": each[1], "avg300": each[2], "total": each[3]}
        for name, each in (("some", pressure.some), ("full", pressure.full))
        if each is not None
    }
