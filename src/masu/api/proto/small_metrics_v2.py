"""Messages for `wire`, made from the .proto files beside it (tools/protoc)."""

from __future__ import annotations

from masu.api.proto import wire as _

TYPE_CHECKING = False

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

class PSIData(_.Message):
    __slots__ = ("avg10", "avg300", "avg60", "total")
    FIELDS = {
        1: ("avg10", _.DOUBLE, _.ONE, None),
        2: ("avg60", _.DOUBLE, _.ONE, None),
        3: ("avg300", _.DOUBLE, _.ONE, None),
        4: ("total", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        avg10: float
        avg60: float
        avg300: float
        total: int

        def __init__(
            self,
            *,
            avg10: float | None = None,
            avg60: float | None = None,
            avg300: float | None = None,
            total: int | None = None,
        ) -> None: ...

class PSIStats(_.Message):
    __slots__ = ("full", "some")
    FIELDS = {
        1: ("some", _.MESSAGE, _.ONE, PSIData),
        2: ("full", _.MESSAGE, _.ONE, PSIData),
    }
    if TYPE_CHECKING:
        some: PSIData | None
        full: PSIData | None

        def __init__(
            self,
            *,
            some: PSIData | None = None,
            full: PSIData | None = None,
        ) -> None: ...

class CPUStat(_.Message):
    __slots__ = ("burst_usec", "nr_bursts", "nr_periods", "nr_throttled", "psi", "system_usec", "throttled_usec", "usage_usec", "user_usec")
    FIELDS = {
        1: ("usage_usec", _.UINT64, _.ONE, None),
        2: ("user_usec", _.UINT64, _.ONE, None),
        3: ("system_usec", _.UINT64, _.ONE, None),
        4: ("nr_periods", _.UINT64, _.ONE, None),
        5: ("nr_throttled", _.UINT64, _.ONE, None),
        6: ("throttled_usec", _.UINT64, _.ONE, None),
        7: ("psi", _.MESSAGE, _.ONE, PSIStats),
        8: ("nr_bursts", _.UINT64, _.ONE, None),
        9: ("burst_usec", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        usage_usec: int
        user_usec: int
        system_usec: int
        nr_periods: int
        nr_throttled: int
        throttled_usec: int
        psi: PSIStats | None
        nr_bursts: int
        burst_usec: int

        def __init__(
            self,
            *,
            usage_usec: int | None = None,
            user_usec: int | None = None,
            system_usec: int | None = None,
            nr_periods: int | None = None,
            nr_throttled: int | None = None,
            throttled_usec: int | None = None,
            psi: PSIStats | None = None,
            nr_bursts: int | None = None,
            burst_usec: int | None = None,
        ) -> None: ...

class MemoryStat(_.Message):
    __slots__ = ("active_anon", "active_file", "anon", "anon_thp", "file", "file_dirty", "file_mapped", "file_writeback", "inactive_anon", "inactive_file", "kernel_stack", "max_usage", "pgactivate", "pgdeactivate", "pgfault", "pglazyfree", "pglazyfreed", "pgmajfault", "pgrefill", "pgscan", "pgsteal", "psi", "shmem", "slab", "slab_reclaimable", "slab_unreclaimable", "sock", "swap_limit", "swap_max_usage", "swap_usage", "thp_collapse_alloc", "thp_fault_alloc", "unevictable", "usage", "usage_limit", "workingset_activate", "workingset_nodereclaim", "workingset_refault")
    FIELDS = {
        1: ("anon", _.UINT64, _.ONE, None),
        2: ("file", _.UINT64, _.ONE, None),
        3: ("kernel_stack", _.UINT64, _.ONE, None),
        4: ("slab", _.UINT64, _.ONE, None),
        5: ("sock", _.UINT64, _.ONE, None),
        6: ("shmem", _.UINT64, _.ONE, None),
        7: ("file_mapped", _.UINT64, _.ONE, None),
        8: ("file_dirty", _.UINT64, _.ONE, None),
        9: ("file_writeback", _.UINT64, _.ONE, None),
        10: ("anon_thp", _.UINT64, _.ONE, None),
        11: ("inactive_anon", _.UINT64, _.ONE, None),
        12: ("active_anon", _.UINT64, _.ONE, None),
        13: ("inactive_file", _.UINT64, _.ONE, None),
        14: ("active_file", _.UINT64, _.ONE, None),
        15: ("unevictable", _.UINT64, _.ONE, None),
        16: ("slab_reclaimable", _.UINT64, _.ONE, None),
        17: ("slab_unreclaimable", _.UINT64, _.ONE, None),
        18: ("pgfault", _.UINT64, _.ONE, None),
        19: ("pgmajfault", _.UINT64, _.ONE, None),
        20: ("workingset_refault", _.UINT64, _.ONE, None),
        21: ("workingset_activate", _.UINT64, _.ONE, None),
        22: ("workingset_nodereclaim", _.UINT64, _.ONE, None),
        23: ("pgrefill", _.UINT64, _.ONE, None),
        24: ("pgscan", _.UINT64, _.ONE, None),
        25: ("pgsteal", _.UINT64, _.ONE, None),
        26: ("pgactivate", _.UINT64, _.ONE, None),
        27: ("pgdeactivate", _.UINT64, _.ONE, None),
        28: ("pglazyfree", _.UINT64, _.ONE, None),
        29: ("pglazyfreed", _.UINT64, _.ONE, None),
        30: ("thp_fault_alloc", _.UINT64, _.ONE, None),
        31: ("thp_collapse_alloc", _.UINT64, _.ONE, None),
        32: ("usage", _.UINT64, _.ONE, None),
        33: ("usage_limit", _.UINT64, _.ONE, None),
        34: ("swap_usage", _.UINT64, _.ONE, None),
        35: ("swap_limit", _.UINT64, _.ONE, None),
        36: ("max_usage", _.UINT64, _.ONE, None),
        37: ("swap_max_usage", _.UINT64, _.ONE, None),
        38: ("psi", _.MESSAGE, _.ONE, PSIStats),
    }
    if TYPE_CHECKING:
        anon: int
        file: int
        kernel_stack: int
        slab: int
        sock: int
        shmem: int
        file_mapped: int
        file_dirty: int
        file_writeback: int
        anon_thp: int
        inactive_anon: int
        active_anon: int
        inactive_file: int
        active_file: int
        unevictable: int
        slab_reclaimable: int
        slab_unreclaimable: int
        pgfault: int
        pgmajfault: int
        workingset_refault: int
        workingset_activate: int
        workingset_nodereclaim: int
        pgrefill: int
        pgscan: int
        pgsteal: int
        pgactivate: int
        pgdeactivate: int
        pglazyfree: int
        pglazyfreed: int
        thp_fault_alloc: int
        thp_collapse_alloc: int
        usage: int
        usage_limit: int
        swap_usage: int
        swap_limit: int
        max_usage: int
        swap_max_usage: int
        psi: PSIStats | None

        def __init__(
            self,
            *,
            anon: int | None = None,
            file: int | None = None,
            kernel_stack: int | None = None,
            slab: int | None = None,
            sock: int | None = None,
            shmem: int | None = None,
            file_mapped: int | None = None,
            file_dirty: int | None = None,
            file_writeback: int | None = None,
            anon_thp: int | None = None,
            inactive_anon: int | None = None,
            active_anon: int | None = None,
            inactive_file: int | None = None,
            active_file: int | None = None,
            unevictable: int | None = None,
            slab_reclaimable: int | None = None,
            slab_unreclaimable: int | None = None,
            pgfault: int | None = None,
            pgmajfault: int | None = None,
            workingset_refault: int | None = None,
            workingset_activate: int | None = None,
            workingset_nodereclaim: int | None = None,
            pgrefill: int | None = None,
            pgscan: int | None = None,
            pgsteal: int | None = None,
            pgactivate: int | None = None,
            pgdeactivate: int | None = None,
            pglazyfree: int | None = None,
            pglazyfreed: int | None = None,
            thp_fault_alloc: int | None = None,
            thp_collapse_alloc: int | None = None,
            usage: int | None = None,
            usage_limit: int | None = None,
            swap_usage: int | None = None,
            swap_limit: int | None = None,
            max_usage: int | None = None,
            swap_max_usage: int | None = None,
            psi: PSIStats | None = None,
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

class IOEntry(_.Message):
    __slots__ = ("major", "minor", "rbytes", "rios", "wbytes", "wios")
    FIELDS = {
        1: ("major", _.UINT64, _.ONE, None),
        2: ("minor", _.UINT64, _.ONE, None),
        3: ("rbytes", _.UINT64, _.ONE, None),
        4: ("wbytes", _.UINT64, _.ONE, None),
        5: ("rios", _.UINT64, _.ONE, None),
        6: ("wios", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        major: int
        minor: int
        rbytes: int
        wbytes: int
        rios: int
        wios: int

        def __init__(
            self,
            *,
            major: int | None = None,
            minor: int | None = None,
            rbytes: int | None = None,
            wbytes: int | None = None,
            rios: int | None = None,
            wios: int | None = None,
        ) -> None: ...

class IOStat(_.Message):
    __slots__ = ("psi", "usage")
    FIELDS = {
        1: ("usage", _.MESSAGE, _.MANY, IOEntry),
        2: ("psi", _.MESSAGE, _.ONE, PSIStats),
    }
    if TYPE_CHECKING:
        usage: list[IOEntry]
        psi: PSIStats | None

        def __init__(
            self,
            *,
            usage: list[IOEntry] | None = None,
            psi: PSIStats | None = None,
        ) -> None: ...

class HugeTlbStat(_.Message):
    __slots__ = ("current", "failcnt", "max", "pagesize")
    FIELDS = {
        1: ("current", _.UINT64, _.ONE, None),
        2: ("max", _.UINT64, _.ONE, None),
        3: ("pagesize", _.STRING, _.ONE, None),
        4: ("failcnt", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        current: int
        max: int
        pagesize: str
        failcnt: int

        def __init__(
            self,
            *,
            current: int | None = None,
            max: int | None = None,
            pagesize: str | None = None,
            failcnt: int | None = None,
        ) -> None: ...

class MemoryEvents(_.Message):
    __slots__ = ("high", "low", "max", "oom", "oom_group_kill", "oom_kill")
    FIELDS = {
        1: ("low", _.UINT64, _.ONE, None),
        2: ("high", _.UINT64, _.ONE, None),
        3: ("max", _.UINT64, _.ONE, None),
        4: ("oom", _.UINT64, _.ONE, None),
        5: ("oom_kill", _.UINT64, _.ONE, None),
        6: ("oom_group_kill", _.UINT64, _.ONE, None),
    }
    if TYPE_CHECKING:
        low: int
        high: int
        max: int
        oom: int
        oom_kill: int
        oom_group_kill: int

        def __init__(
            self,
            *,
            low: int | None = None,
            high: int | None = None,
            max: int | None = None,
            oom: int | None = None,
            oom_kill: int | None = None,
            oom_group_kill: int | None = None,
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

class Metrics(_.Message):
    __slots__ = ("cpu", "hugetlb", "io", "memory", "memory_events", "network", "pids", "rdma")
    FIELDS = {
        1: ("pids", _.MESSAGE, _.ONE, PidsStat),
        2: ("cpu", _.MESSAGE, _.ONE, CPUStat),
        4: ("memory", _.MESSAGE, _.ONE, MemoryStat),
        5: ("rdma", _.MESSAGE, _.ONE, RdmaStat),
        6: ("io", _.MESSAGE, _.ONE, IOStat),
        7: ("hugetlb", _.MESSAGE, _.MANY, HugeTlbStat),
        8: ("memory_events", _.MESSAGE, _.ONE, MemoryEvents),
        9: ("network", _.MESSAGE, _.MANY, NetworkStat),
    }
    if TYPE_CHECKING:
        pids: PidsStat | None
        cpu: CPUStat | None
        memory: MemoryStat | None
        rdma: RdmaStat | None
        io: IOStat | None
        hugetlb: list[HugeTlbStat]
        memory_events: MemoryEvents | None
        network: list[NetworkStat]

        def __init__(
            self,
            *,
            pids: PidsStat | None = None,
            cpu: CPUStat | None = None,
            memory: MemoryStat | None = None,
            rdma: RdmaStat | None = None,
            io: IOStat | None = None,
            hugetlb: list[HugeTlbStat] | None = None,
            memory_events: MemoryEvents | None = None,
            network: list[NetworkStat] | None = None,
        ) -> None: ...

NAMES: dict[str, type[_.Message]] = {
    "io.containerd.cgroups.v2.Metrics": Metrics,
    "io.containerd.cgroups.v2.PidsStat": PidsStat,
    "io.containerd.cgroups.v2.CPUStat": CPUStat,
    "io.containerd.cgroups.v2.PSIStats": PSIStats,
    "io.containerd.cgroups.v2.PSIData": PSIData,
    "io.containerd.cgroups.v2.MemoryStat": MemoryStat,
    "io.containerd.cgroups.v2.RdmaStat": RdmaStat,
    "io.containerd.cgroups.v2.RdmaEntry": RdmaEntry,
    "io.containerd.cgroups.v2.IOStat": IOStat,
    "io.containerd.cgroups.v2.IOEntry": IOEntry,
    "io.containerd.cgroups.v2.HugeTlbStat": HugeTlbStat,
    "io.containerd.cgroups.v2.MemoryEvents": MemoryEvents,
    "io.containerd.cgroups.v2.NetworkStat": NetworkStat,
}
