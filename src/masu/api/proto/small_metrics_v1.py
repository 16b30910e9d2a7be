"""Messages for `wire`, made from the .proto files beside it (tools/protoc)."""

from __future__ import annotations

from masu.api.proto import wire as _

TYPE_CHECKING = False

class HugetlbStat(_.Message):
    __slots__ = ("failcnt", "max", "pagesize", "usage")
    FIELDS = {
        1: ("usage", _.UINT64, _.ONE, None),
        2: ("max", _.UINT64, _.ONE, None),
        3: ("failcnt", _.UINT64, _.ONE, None),
        4: ("pagesize", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        usage: int
        max: int
        failcnt: int
        pagesize: str

        def __init__(
            self,
            *,
            usage: int | None = None,
            max: int | None = None,
            failcnt: int | None = None,
            pagesize: str | None = None,
        ) -> None: ...

class PidsStat(_.Message):
    __slots__ = ("current", "limit")
    FIELDS = {
        1: ("current", _.UINT64, _.ONE, None),
        2: ("limit", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        current: int
        limit: int

        def __init__(
            self,
            *,
            current: int | None = None,
            limit: int | None = None,
        ) -> None: ...

class CPUUsage(_.Message):
    __slots__ = ("kernel", "per_cpu", "total", "user")
    FIELDS = {
        1: ("total", _.UINT64, _.ONE, None),
        2: ("kernel", _.UINT64, _.ONE, None),
        3: ("user", _.UINT64, _.ONE, None),
        4: ("per_cpu", _.UINT64, _.MANY, None),
    }
    if TYPE_CHECKING:
        total: int
        kernel: int
        user: int
        per_cpu: list[int]

        def __init__(
            self,
            *,
            total: int | None = None,
            kernel: int | None = None,
            user: int | None = None,
            per_cpu: list[int] | None = None,
        ) -> None: ...

class Throttle(_.Message):
    __slots__ = ("periods", "throttled_periods", "throttled_time")
    FIELDS = {
        1: ("periods", _.UINT64, _.ONE, None),
        2: ("throttled_periods", _.UINT64, _.ONE, None),
        3: ("throttled_time", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        periods: int
        throttled_periods: int
        throttled_time: int

        def __init__(
            self,
            *,
            periods: int | None = None,
            throttled_periods: int | None = None,
            throttled_time: int | None = None,
        ) -> None: ...

class CPUStat(_.Message):
    __slots__ = ("throttling", "usage")
    FIELDS = {
        1: ("usage", _.MESSAGE, _.ONE, CPUUsage),
        2: ("throttling", _.MESSAGE, _.ONE, Throttle),
    }
    if TYPE_CHECKING:
        usage: CPUUsage | None
        throttling: Throttle | None

        def __init__(
            self,
            *,
            usage: CPUUsage | None = None,
            throttling: Throttle | None = None,
        ) -> None: ...

class MemoryEntry(_.Message):
    __slots__ = ("failcnt", "limit", "max", "usage")
    FIELDS = {
        1: ("limit", _.UINT64, _.ONE, None),
        2: ("usage", _.UINT64, _.ONE, None),
        3: ("max", _.UINT64, _.ONE, None),
        4: ("failcnt", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        limit: int
        usage: int
        max: int
        failcnt: int

        def __init__(
            self,
            *,
            limit: int | None = None,
            usage: int | None = None,
            max: int | None = None,
            failcnt: int | None = None,
        ) -> None: ...

class MemoryStat(_.Message):
    __slots__ = ("active_anon", "active_file", "cache", "dirty", "hierarchical_memory_limit", "hierarchical_swap_limit", "inactive_anon", "inactive_file", "kernel", "kernel_tcp", "mapped_file", "pg_fault", "pg_maj_fault", "pg_pg_in", "pg_pg_out", "rss", "rss_huge", "swap", "total_active_anon", "total_active_file", "total_cache", "total_dirty", "total_inactive_anon", "total_inactive_file", "total_mapped_file", "total_pg_fault", "total_pg_maj_fault", "total_pg_pg_in", "total_pg_pg_out", "total_rss", "total_rss_huge", "total_unevictable", "total_writeback", "unevictable", "usage", "writeback")
    FIELDS = {
        1: ("cache", _.UINT64, _.ONE, None),
        2: ("rss", _.UINT64, _.ONE, None),
        3: ("rss_huge", _.UINT64, _.ONE, None),
        4: ("mapped_file", _.UINT64, _.ONE, None),
        5: ("dirty", _.UINT64, _.ONE, None),
        6: ("writeback", _.UINT64, _.ONE, None),
        7: ("pg_pg_in", _.UINT64, _.ONE, None),
        8: ("pg_pg_out", _.UINT64, _.ONE, None),
        9: ("pg_fault", _.UINT64, _.ONE, None),
        10: ("pg_maj_fault", _.UINT64, _.ONE, None),
        11: ("inactive_anon", _.UINT64, _.ONE, None),
        12: ("active_anon", _.UINT64, _.ONE, None),
        13: ("inactive_file", _.UINT64, _.ONE, None),
        14: ("active_file", _.UINT64, _.ONE, None),
        15: ("unevictable", _.UINT64, _.ONE, None),
        16: ("hierarchical_memory_limit", _.UINT64, _.ONE, None),
        17: ("hierarchical_swap_limit", _.UINT64, _.ONE, None),
        18: ("total_cache", _.UINT64, _.ONE, None),
        19: ("total_rss", _.UINT64, _.ONE, None),
        20: ("total_rss_huge", _.UINT64, _.ONE, None),
        21: ("total_mapped_file", _.UINT64, _.ONE, None),
        22: ("total_dirty", _.UINT64, _.ONE, None),
        23: ("total_writeback", _.UINT64, _.ONE, None),
        24: ("total_pg_pg_in", _.UINT64, _.ONE, None),
        25: ("total_pg_pg_out", _.UINT64, _.ONE, None),
        26: ("total_pg_fault", _.UINT64, _.ONE, None),
        27: ("total_pg_maj_fault", _.UINT64, _.ONE, None),
        28: ("total_inactive_anon", _.UINT64, _.ONE, None),
        29: ("total_active_anon", _.UINT64, _.ONE, None),
        30: ("total_inactive_file", _.UINT64, _.ONE, None),
        31: ("total_active_file", _.UINT64, _.ONE, None),
        32: ("total_unevictable", _.UINT64, _.ONE, None),
        33: ("usage", _.MESSAGE, _.ONE, MemoryEntry),
        34: ("swap", _.MESSAGE, _.ONE, MemoryEntry),
        35: ("kernel", _.MESSAGE, _.ONE, MemoryEntry),
        36: ("kernel_tcp", _.MESSAGE, _.ONE, MemoryEntry),
    }
    if TYPE_CHECKING:
        cache: int
        rss: int
        rss_huge: int
        mapped_file: int
        dirty: int
        writeback: int
        pg_pg_in: int
        pg_pg_out: int
        pg_fault: int
        pg_maj_fault: int
        inactive_anon: int
        active_anon: int
        inactive_file: int
        active_file: int
        unevictable: int
        hierarchical_memory_limit: int
        hierarchical_swap_limit: int
        total_cache: int
        total_rss: int
        total_rss_huge: int
        total_mapped_file: int
        total_dirty: int
        total_writeback: int
        total_pg_pg_in: int
        total_pg_pg_out: int
        total_pg_fault: int
        total_pg_maj_fault: int
        total_inactive_anon: int
        total_active_anon: int
        total_inactive_file: int
        total_active_file: int
        total_unevictable: int
        usage: MemoryEntry | None
        swap: MemoryEntry | None
        kernel: MemoryEntry | None
        kernel_tcp: MemoryEntry | None

        def __init__(
            self,
            *,
            cache: int | None = None,
            rss: int | None = None,
            rss_huge: int | None = None,
            mapped_file: int | None = None,
            dirty: int | None = None,
            writeback: int | None = None,
            pg_pg_in: int | None = None,
            pg_pg_out: int | None = None,
            pg_fault: int | None = None,
            pg_maj_fault: int | None = None,
            inactive_anon: int | None = None,
            active_anon: int | None = None,
            inactive_file: int | None = None,
            active_file: int | None = None,
            unevictable: int | None = None,
            hierarchical_memory_limit: int | None = None,
            hierarchical_swap_limit: int | None = None,
            total_cache: int | None = None,
            total_rss: int | None = None,
            total_rss_huge: int | None = None,
            total_mapped_file: int | None = None,
            total_dirty: int | None = None,
            total_writeback: int | None = None,
            total_pg_pg_in: int | None = None,
            total_pg_pg_out: int | None = None,
            total_pg_fault: int | None = None,
            total_pg_maj_fault: int | None = None,
            total_inactive_anon: int | None = None,
            total_active_anon: int | None = None,
            total_inactive_file: int | None = None,
            total_active_file: int | None = None,
            total_unevictable: int | None = None,
            usage: MemoryEntry | None = None,
            swap: MemoryEntry | None = None,
            kernel: MemoryEntry | None = None,
            kernel_tcp: MemoryEntry | None = None,
        ) -> None: ...

class BlkIOEntry(_.Message):
    __slots__ = ("device", "major", "minor", "op", "value")
    FIELDS = {
        1: ("op", _.STRING, _.ONE, None),
        2: ("device", _.STRING, _.ONE, None),
        3: ("major", _.UINT64, _.ONE, None),
        4: ("minor", _.UINT64, _.ONE, None),
        5: ("value", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        op: str
        device: str
        major: int
        minor: int
        value: int

        def __init__(
            self,
            *,
            op: str | None = None,
            device: str | None = None,
            major: int | None = None,
            minor: int | None = None,
            value: int | None = None,
        ) -> None: ...

class BlkIOStat(_.Message):
    __slots__ = ("io_merged_recursive", "io_queued_recursive", "io_service_bytes_recursive", "io_service_time_recursive", "io_serviced_recursive", "io_time_recursive", "io_wait_time_recursive", "sectors_recursive")
    FIELDS = {
        1: ("io_service_bytes_recursive", _.MESSAGE, _.MANY, BlkIOEntry),
        2: ("io_serviced_recursive", _.MESSAGE, _.MANY, BlkIOEntry),
        3: ("io_queued_recursive", _.MESSAGE, _.MANY, BlkIOEntry),
        4: ("io_service_time_recursive", _.MESSAGE, _.MANY, BlkIOEntry),
        5: ("io_wait_time_recursive", _.MESSAGE, _.MANY, BlkIOEntry),
        6: ("io_merged_recursive", _.MESSAGE, _.MANY, BlkIOEntry),
        7: ("io_time_recursive", _.MESSAGE, _.MANY, BlkIOEntry),
        8: ("sectors_recursive", _.MESSAGE, _.MANY, BlkIOEntry),
    }
    if TYPE_CHECKING:
        io_service_bytes_recursive: list[BlkIOEntry]
        io_serviced_recursive: list[BlkIOEntry]
        io_queued_recursive: list[BlkIOEntry]
        io_service_time_recursive: list[BlkIOEntry]
        io_wait_time_recursive: list[BlkIOEntry]
        io_merged_recursive: list[BlkIOEntry]
        io_time_recursive: list[BlkIOEntry]
        sectors_recursive: list[BlkIOEntry]

        def __init__(
            self,
            *,
            io_service_bytes_recursive: list[BlkIOEntry] | None = None,
            io_serviced_recursive: list[BlkIOEntry] | None = None,
            io_queued_recursive: list[BlkIOEntry] | None = None,
            io_service_time_recursive: list[BlkIOEntry] | None = None,
            io_wait_time_recursive: list[BlkIOEntry] | None = None,
            io_merged_recursive: list[BlkIOEntry] | None = None,
            io_time_recursive: list[BlkIOEntry] | None = None,
            sectors_recursive: list[BlkIOEntry] | None = None,
        ) -> None: ...

class RdmaEntry(_.Message):
    __slots__ = ("device", "hca_handles", "hca_objects")
    FIELDS = {
        1: ("device", _.STRING, _.ONE, None),
        2: ("hca_handles", _.UINT32, _.ONE, None),
        3: ("hca_objects", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        device: str
        hca_handles: int
        hca_objects: int

        def __init__(
            self,
            *,
            device: str | None = None,
            hca_handles: int | None = None,
            hca_objects: int | None = None,
        ) -> None: ...

class RdmaStat(_.Message):
    __slots__ = ("current", "limit")
    FIELDS = {
        1: ("current", _.MESSAGE, _.MANY, RdmaEntry),
        2: ("limit", _.MESSAGE, _.MANY, RdmaEntry),
    }
    if TYPE_CHECKING:
        current: list[RdmaEntry]
        limit: list[RdmaEntry]

        def __init__(
            self,
            *,
            current: list[RdmaEntry] | None = None,
            limit: list[RdmaEntry] | None = None,
        ) -> None: ...

class NetworkStat(_.Message):
    __slots__ = ("name", "rx_bytes", "rx_dropped", "rx_errors", "rx_packets", "tx_bytes", "tx_dropped", "tx_errors", "tx_packets")
    FIELDS = {
        1: ("name", _.STRING, _.ONE, None),
        2: ("rx_bytes", _.UINT64, _.ONE, None),
        3: ("rx_packets", _.UINT64, _.ONE, None),
        4: ("rx_errors", _.UINT64, _.ONE, None),
        5: ("rx_dropped", _.UINT64, _.ONE, None),
        6: ("tx_bytes", _.UINT64, _.ONE, None),
        7: ("tx_packets", _.UINT64, _.ONE, None),
        8: ("tx_errors", _.UINT64, _.ONE, None),
        9: ("tx_dropped", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        name: str
        rx_bytes: int
        rx_packets: int
        rx_errors: int
        rx_dropped: int
        tx_bytes: int
        tx_packets: int
        tx_errors: int
        tx_dropped: int

        def __init__(
            self,
            *,
            name: str | None = None,
            rx_bytes: int | None = None,
            rx_packets: int | None = None,
            rx_errors: int | None = None,
            rx_dropped: int | None = None,
            tx_bytes: int | None = None,
            tx_packets: int | None = None,
            tx_errors: int | None = None,
            tx_dropped: int | None = None,
        ) -> None: ...

class CgroupStats(_.Message):
    __slots__ = ("nr_io_wait", "nr_running", "nr_sleeping", "nr_stopped", "nr_uninterruptible")
    FIELDS = {
        1: ("nr_sleeping", _.UINT64, _.ONE, None),
        2: ("nr_running", _.UINT64, _.ONE, None),
        3: ("nr_stopped", _.UINT64, _.ONE, None),
        4: ("nr_uninterruptible", _.UINT64, _.ONE, None),
        5: ("nr_io_wait", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        nr_sleeping: int
        nr_running: int
        nr_stopped: int
        nr_uninterruptible: int
        nr_io_wait: int

        def __init__(
            self,
            *,
            nr_sleeping: int | None = None,
            nr_running: int | None = None,
            nr_stopped: int | None = None,
            nr_uninterruptible: int | None = None,
            nr_io_wait: int | None = None,
        ) -> None: ...

class MemoryOomControl(_.Message):
    __slots__ = ("oom_kill", "oom_kill_disable", "under_oom")
    FIELDS = {
        1: ("oom_kill_disable", _.UINT64, _.ONE, None),
        2: ("under_oom", _.UINT64, _.ONE, None),
        3: ("oom_kill", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        oom_kill_disable: int
        under_oom: int
        oom_kill: int

        def __init__(
            self,
            *,
            oom_kill_disable: int | None = None,
            under_oom: int | None = None,
            oom_kill: int | None = None,
        ) -> None: ...

class Metrics(_.Message):
    __slots__ = ("blkio", "cgroup_stats", "cpu", "hugetlb", "memory", "memory_oom_control", "network", "pids", "rdma")
    FIELDS = {
        1: ("hugetlb", _.MESSAGE, _.MANY, HugetlbStat),
        2: ("pids", _.MESSAGE, _.ONE, PidsStat),
        3: ("cpu", _.MESSAGE, _.ONE, CPUStat),
        4: ("memory", _.MESSAGE, _.ONE, MemoryStat),
        5: ("blkio", _.MESSAGE, _.ONE, BlkIOStat),
        6: ("rdma", _.MESSAGE, _.ONE, RdmaStat),
        7: ("network", _.MESSAGE, _.MANY, NetworkStat),
        8: ("cgroup_stats", _.MESSAGE, _.ONE, CgroupStats),
        9: ("memory_oom_control", _.MESSAGE, _.ONE, MemoryOomControl),
    }
    if TYPE_CHECKING:
        hugetlb: list[HugetlbStat]
        pids: PidsStat | None
        cpu: CPUStat | None
        memory: MemoryStat | None
        blkio: BlkIOStat | None
        rdma: RdmaStat | None
        network: list[NetworkStat]
        cgroup_stats: CgroupStats | None
        memory_oom_control: MemoryOomControl | None

        def __init__(
            self,
            *,
            hugetlb: list[HugetlbStat] | None = None,
            pids: PidsStat | None = None,
            cpu: CPUStat | None = None,
            memory: MemoryStat | None = None,
            blkio: BlkIOStat | None = None,
            rdma: RdmaStat | None = None,
            network: list[NetworkStat] | None = None,
            cgroup_stats: CgroupStats | None = None,
            memory_oom_control: MemoryOomControl | None = None,
        ) -> None: ...

NAMES: dict[str, type[_.Message]] = {
    "io.containerd.cgroups.v1.Metrics": Metrics,
    "io.containerd.cgroups.v1.HugetlbStat": HugetlbStat,
    "io.containerd.cgroups.v1.PidsStat": PidsStat,
    "io.containerd.cgroups.v1.CPUStat": CPUStat,
    "io.containerd.cgroups.v1.CPUUsage": CPUUsage,
    "io.containerd.cgroups.v1.Throttle": Throttle,
    "io.containerd.cgroups.v1.MemoryStat": MemoryStat,
    "io.containerd.cgroups.v1.MemoryEntry": MemoryEntry,
    "io.containerd.cgroups.v1.BlkIOStat": BlkIOStat,
    "io.containerd.cgroups.v1.BlkIOEntry": BlkIOEntry,
    "io.containerd.cgroups.v1.RdmaStat": RdmaStat,
    "io.containerd.cgroups.v1.RdmaEntry": RdmaEntry,
    "io.containerd.cgroups.v1.NetworkStat": NetworkStat,
    "io.containerd.cgroups.v1.CgroupStats": CgroupStats,
    "io.containerd.cgroups.v1.MemoryOomControl": MemoryOomControl,
}
