"""config -> values for files: pure, so every field is looked at here, for v1 and for v2."""

from __future__ import annotations

import pytest

from masu.errors import InvalidArgument
from masu.linux.cgroups import v1, v2, values
from masu.linux.cgroups.files import Setting
from masu.spec.runtime import parse_resources

MIB = 1 << 20


def written(settings: list[Setting]) -> list[str]:
    return [setting.describe() for setting in settings]


def on_v1(resources: object) -> list[str]:
    return written(v1.settings(parse_resources(resources), where="linux.resources"))


def on_v2(resources: object, warnings: list[str] | None = None) -> list[str]:
    return written(v2.settings(parse_resources(resources), where="linux.resources", warnings=warnings))


EVERYTHING = {
    "cpu": {
        "shares": 512,
        "quota": 50000,
        "period": 100000,
        "burst": 10000,
        "realtimeRuntime": 950000,
        "realtimePeriod": 1000000,
        "cpus": "0-1",
        "mems": "0",
        "idle": 0,
    },
    "memory": {
        "limit": 64 * MIB,
        "reservation": 32 * MIB,
        "swap": 96 * MIB,
        "kernel": MIB,
        "swappiness": 10,
        "disableOOMKiller": True,
        "useHierarchy": True,
    },
    "pids": {"limit": 100},
    "blockIO": {
        "weight": 500,
        "leafWeight": 300,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 100, "leafWeight": 50}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2000}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 3}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
    "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
}


def test_everything_on_v1() -> None:
    assert on_v1(EVERYTHING) == [
        "cpuset.cpus <- 0-1",
        "cpuset.mems <- 0",
        "cpu.shares <- 512",
        "cpu.idle <- 0",
        "cpu.cfs_period_us <- 100000",
        "cpu.cfs_burst_us <- 10000",
        "cpu.cfs_quota_us <- 50000",
        "cpu.rt_period_us <- 1000000",
        "cpu.rt_runtime_us <- 950000",
        "memory.limit_in_bytes <- 67108864",
        "memory.memsw.limit_in_bytes <- 100663296",
        "memory.soft_limit_in_bytes <- 33554432",
        "memory.oom_control <- 1",
        "memory.swappiness <- 10",
        "pids.max <- 100",
        "blkio.weight <- 500",
        "blkio.leaf_weight <- 300",
        "blkio.weight_device <- 8:0 100",
        "blkio.leaf_weight_device <- 8:0 50",
        "blkio.throttle.read_bps_device <- 8:0 1000",
        "blkio.throttle.write_bps_device <- 8:0 2000",
        "blkio.throttle.read_iops_device <- 8:16 3",
        "blkio.throttle.write_iops_device <- 8:16 0",
        "hugetlb.2MB.limit_in_bytes <- 4194304",
        "hugetlb.2MB.rsvd.limit_in_bytes <- 4194304",
        "net_cls.classid <- 1048577",
        "net_prio.ifpriomap <- eth0 5",
        "rdma.max <- mlx5_1 hca_handle=3 hca_object=10000",
    ]


def test_everything_on_v2() -> None:
    warnings: list[str] = []
    assert on_v2({**EVERYTHING, "unified": {"memory.high": "60000000"}}, warnings) == [
        "pids.max <- 100",
        "memory.swap.max <- 33554432",
        "memory.max <- 67108864",
        "memory.low <- 33554432",
        "io.bfq.weight <- 500",
        "io.bfq.weight <- 8:0 100",
        "io.max <- 8:0 rbps=1000",
        "io.max <- 8:0 wbps=2000",
        "io.max <- 8:16 riops=3",
        "io.max <- 8:16 wiops=max",
        "cpu.weight <- 59",
        "cpu.idle <- 0",
        "cpu.max.burst <- 10000",
        "cpu.max <- 50000 100000",
        "cpuset.cpus <- 0-1",
        "cpuset.mems <- 0",
        "hugetlb.2MB.max <- 4194304",
        "hugetlb.2MB.rsvd.max <- 4194304",
        "rdma.max <- mlx5_1 hca_handle=3 hca_object=10000",
        "memory.high <- 60000000",
    ]
    # What has no file here and is sent by habit: one warning each, as the places are named.
    assert [line.partition(":")[0] for line in warnings] == [
        "linux.resources.memory.disableOOMKiller",
        "linux.resources.memory.swappiness",
        "linux.resources.blockIO.leafWeight",
        "linux.resources.cpu.realtimeRuntime",
        "linux.resources.network",
    ]


def test_every_setting_knows_its_place() -> None:
    resources = parse_resources(EVERYTHING)
    places = {s.file: s.where for s in v1.settings(resources, where="linux.resources")}
    assert places["memory.memsw.limit_in_bytes"] == "linux.resources.memory.swap"
    assert places["blkio.throttle.read_iops_device"] == "linux.resources.blockIO.throttleReadIOPSDevice[0]"
    assert places["hugetlb.2MB.limit_in_bytes"] == "linux.resources.hugepageLimits[0].limit"
    assert places["net_prio.ifpriomap"] == "linux.resources.network.priorities[0]"
    assert places["rdma.max"] == "linux.resources.rdma.mlx5_1"
    places = {s.file: s.where for s in v2.settings(resources, where="r")}
    assert places["cpu.max"] == "r.cpu.quota"
    assert places["cpu.weight"] == "r.cpu.shares"


def test_nothing() -> None:
    assert on_v1({}) == []
    assert on_v2({}) == []
    assert on_v1({"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "network": {}}) == []


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ({"limit": -1}, ["memory.swap.max <- max", "memory.max <- max"]),
        ({"limit": MIB}, ["memory.max <- 1048576"]),
        ({"limit": MIB, "swap": MIB}, ["memory.swap.max <- 0", "memory.max <- 1048576"]),
        ({"limit": MIB, "swap": -1}, ["memory.swap.max <- max", "memory.max <- 1048576"]),
        ({"limit": -1, "swap": MIB}, ["memory.swap.max <- 1048576", "memory.max <- max"]),
        ({"limit": MIB, "swap": 3 * MIB}, ["memory.swap.max <- 2097152", "memory.max <- 1048576"]),
        ({"swap": -1}, ["memory.swap.max <- max"]),
        ({"reservation": -1}, ["memory.low <- max"]),
    ],
)
def test_memory_and_swap_on_v2(memory: dict[str, int], expected: list[str]) -> None:
    assert on_v2({"memory": memory}) == expected


def test_no_memory_limit_takes_the_one_on_swap_away_on_v1() -> None:
    settings = v1.settings(parse_resources({"memory": {"limit": -1}}), where="r")
    assert written(settings) == ["memory.limit_in_bytes <- -1", "memory.memsw.limit_in_bytes <- -1"]
    assert settings[1].optional  # there may be no swap accounting


def test_swap_without_memory() -> None:
    with pytest.raises(InvalidArgument) as caught:
        on_v2({"memory": {"swap": MIB}})
    assert caught.value.where == "linux.resources.memory.swap"
    assert "unable to set swap limit without memory limit" in str(caught.value)


def test_swap_below_memory() -> None:
    for settings in (v1.settings, v2.settings):
        resources = parse_resources({"memory": {"swap": 2 * MIB, "limit": MIB}})
        assert resources.memory is not None
        broken = resources.replace(memory=resources.memory.replace(swap=1))
        with pytest.raises(InvalidArgument, match=r"memory\+swap limit should be >= memory limit"):
            settings(broken, where="r")


def test_swap_is_not_always_counted() -> None:
    # Nothing to limit is what these two ask for; a real limit must not be dropped in silence.
    for memory, optional in (
        ({"limit": -1}, True),
        ({"limit": MIB, "swap": MIB}, True),
        ({"limit": MIB, "swap": 2 * MIB}, False),
    ):
        first = v2.settings(parse_resources({"memory": memory}), where="r")[0]
        assert (first.file, first.optional) == ("memory.swap.max", optional)


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(1, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (262143, 10000), (262144, 10000), (10**9, 10000)],
)
def test_shares_to_weight(shares: int, weight: int) -> None:
    assert values.shares_to_weight(shares) == weight


def test_shares_to_weight_is_monotonic() -> None:
    weights = [values.shares_to_weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1] <= 10000) == (1, True)


@pytest.mark.parametrize(
    ("shares", "said"), [(1, "minimum allowed cpu-shares is 2"), (262145, "maximum allowed cpu-shares is 262144")]
)
def test_shares_out_of_range(shares: int, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        on_v1({"cpu": {"shares": shares}})
    assert on_v2({"cpu": {"shares": shares}}) == [f"cpu.weight <- {1 if shares == 1 else 10000}"]


@pytest.mark.parametrize(("limit", "value"), [(-1, "max"), (-5, "max"), (0, "1"), (1, "1"), (4000, "4000")])
def test_pids(limit: int, value: str) -> None:
    resources = {"pids": {"limit": limit}}
    assert on_v1(resources) == on_v2(resources) == [f"pids.max <- {value}"]


def test_cpu_max_on_v2() -> None:
    assert on_v2({"cpu": {"quota": -1}}) == ["cpu.max <- max 100000"]
    assert on_v2({"cpu": {"quota": 2000}}) == ["cpu.max <- 2000 100000"]
    assert on_v2({"cpu": {"period": 50000}}) == ["cpu.max <- max 50000"]
    assert on_v2({"cpu": {"quota": 0, "period": 0}}) == []


def test_block_io_weights() -> None:
    (setting,) = v2.settings(parse_resources({"blockIO": {"weight": 10}}), where="r")
    assert setting.otherwise is not None
    assert setting.otherwise.describe() == "io.weight <- 1"
    (setting,) = v2.settings(parse_resources({"blockIO": {"weight": 1000}}), where="r")
    assert setting.otherwise is not None
    assert setting.otherwise.describe() == "io.weight <- 10000"
    (setting,) = v1.settings(parse_resources({"blockIO": {"weight": 10}}), where="r")
    assert setting.otherwise is not None
    assert setting.otherwise.describe() == "blkio.bfq.weight <- 10"
    with pytest.raises(InvalidArgument, match=r"allowed: 10\.\.1000"):
        on_v1({"blockIO": {"weight": 9}})


def test_unified() -> None:
    with pytest.raises(InvalidArgument, match="cannot use unified on cgroup v1"):
        on_v1({"unified": {"memory.high": "1"}})
    # One line, one write: io.max holds a line for each device.
    assert on_v2({"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n", "pids.max": "5"}}) == [
        "io.max <- 8:0 rbps=1",
        "io.max <- 8:16 rbps=2",
        "pids.max <- 5",
    ]
    with pytest.raises(InvalidArgument, match=r"CONTROLLER\.PARAMETER"):
        on_v2({"unified": {"nodot": "1"}})
    broken = parse_resources({}).replace(unified={"../memory.max": "1"})
    with pytest.raises(InvalidArgument, match="no slashes"):
        v2.settings(broken, where="r")


def test_names_that_would_forge_a_line() -> None:
    broken = parse_resources({"rdma": {"mlx": {"hcaHandles": 1}}})
    broken = broken.replace(rdma={"mlx hca_handle=9": broken.rdma["mlx"]})
    for settings in (v1.settings, v2.settings):
        with pytest.raises(InvalidArgument, match="must be one word"):
            settings(broken, where="r")
    with pytest.raises(InvalidArgument, match="KB, MB or GB"):
        values.page_size("../x2MB", "r")


def test_what_threaded_cgroups_cannot_have() -> None:
    def domain(resources: object) -> bool:
        return v2.needs_domain(v2.settings(parse_resources(resources), where="r"))

    assert domain({"memory": {"limit": MIB}})
    assert domain({"unified": {"io.weight": "5"}})
    assert not domain({"cpu": {"shares": 5}, "pids": {"limit": 4}})
