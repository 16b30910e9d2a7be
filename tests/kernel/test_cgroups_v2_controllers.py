"""cgroup v2 with its controllers, on a machine (or in a guest) whose cgroup2 tree has them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from kernel.cgroupfixture import MIB, Box, box2, resources  # noqa: F401

from masu.errors import FailedPrecondition, KernelError
from masu.linux.cgroups import Cgroup, detect

pytestmark = pytest.mark.root


def need(*controllers: str) -> None:
    layout = detect()
    have = Path(layout.unified.path, "cgroup.controllers").read_text().split() if layout.unified else []
    missing = set(controllers) - set(have)
    if missing:
        pytest.skip(f"the cgroup2 tree has no {', '.join(sorted(missing))}")


def read(group: Cgroup, file: str) -> str:
    return Path(group.paths()[""], file).read_text().strip()


def test_limits_are_what_was_asked_for(box2: Box) -> None:  # noqa: F811
    need("memory", "pids", "cpu")
    group = box2.make("a/box")
    group.apply(
        resources(
            memory={"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
            cpu={"shares": 512, "quota": 20000, "period": 100000, "burst": 10000},
            pids={"limit": 99},
        )
    )
    files = ("memory.max", "memory.low", "memory.swap.max", "cpu.weight", "cpu.max", "cpu.max.burst", "pids.max")
    found = {file: read(group, file) for file in files if Path(group.paths()[""], file).exists()}
    wanted = dict(
        zip(files, (str(64 * MIB), str(32 * MIB), str(32 * MIB), "59", "20000 100000", "10000", "99"), strict=True)
    )
    assert found == {file: wanted[file] for file in found}
    assert {"memory.max", "cpu.max", "pids.max"} <= set(found)
    group.update(resources(memory={"limit": -1}, cpu={"quota": -1}, pids={"limit": -1}))
    assert (read(group, "memory.max"), read(group, "cpu.max"), read(group, "pids.max")) == ("max", "max 100000", "max")


def test_idle_and_back(box2: Box) -> None:  # noqa: F811
    need("cpu")
    group = box2.make()
    group.apply(resources(cpu={"shares": 500, "idle": 1}))
    assert read(group, "cpu.idle") == "1"
    group.update(resources(cpu={"shares": 1024, "idle": 0}))
    assert (read(group, "cpu.idle"), read(group, "cpu.weight")) == ("0", "100")


@pytest.mark.parametrize(("quota", "burst"), [(50000, 40000), (5000, 4000)])
def test_quota_and_burst_in_whichever_order_works(box2: Box, quota: int, burst: int) -> None:  # noqa: F811
    need("cpu")
    group = box2.make()
    group.apply(resources(cpu={"quota": 20000, "period": 100000, "burst": 10000}))
    group.update(resources(cpu={"quota": quota, "period": 100000, "burst": burst}))
    assert (read(group, "cpu.max"), read(group, "cpu.max.burst")) == (f"{quota} 100000", str(burst))


def test_out_of_memory(box2: Box) -> None:  # noqa: F811
    need("memory")
    group = box2.make()
    group.apply(resources(memory={"limit": 24 * MIB, "swap": 24 * MIB}))
    with group.oom_watch() as watch:
        assert watch.version == 2
        process = box2.start(group, script="x = bytearray(200 << 20)")
        assert process.wait(60) == -9
        assert watch.wait(10)
        assert watch.news() == 1
        assert watch.news() == 0
    assert group.oom_kills() == 1
    stats = group.stats()
    assert stats.memory is not None
    assert (stats.memory.oom_kills, stats.memory.usage.limit) == (1, 24 * MIB)
    assert stats.memory.usage.failures > 0


def test_check_before_update(box2: Box) -> None:  # noqa: F811
    need("memory")
    group = box2.make()
    group.apply(resources(memory={"limit": 128 * MIB}))
    script = "import mmap; m = mmap.mmap(-1, 32 << 20); m.write(b'x' * (32 << 20)); print('full', flush=True); input()"
    process = box2.start(group, script=script)
    assert process.stdout is not None
    assert process.stdout.readline() == "full\n"
    with pytest.raises(FailedPrecondition, match="rejecting memory limit"):
        group.update(resources(memory={"limit": 8 * MIB, "checkBeforeUpdate": True}))
    assert read(group, "memory.max") == str(128 * MIB)
    process.communicate("\n")


def test_too_many_processes(box2: Box) -> None:  # noqa: F811
    need("pids")
    group = box2.make()
    group.apply(resources(pids={"limit": 1}))
    script = """
import os
try:
    os.fork()
except BlockingIOError as e:
    print(e.errno)
"""
    assert box2.output(group, script) == f"{errno.EAGAIN}\n"


def test_refusals(box2: Box) -> None:  # noqa: F811
    need("cpu")
    group = box2.make()
    with pytest.raises(KernelError) as caught:
        group.apply(resources(cpu={"quota": 100}))
    error = caught.value
    assert (error.errno, error.where) == (errno.EINVAL, "linux.resources.cpu.quota")
    assert "value '100 100000'" in error.detail
    assert "at least 1000 us" in error.hint


def test_block_io(box2: Box) -> None:  # noqa: F811
    need("io")
    group = box2.make()
    with pytest.raises(KernelError) as caught:
        group.apply(resources(blockIO={"throttleReadBpsDevice": [{"major": 4000, "minor": 7, "rate": 5}]}))
    assert caught.value.where == "linux.resources.blockIO.throttleReadBpsDevice[0]"
    assert "no block device 4000:7" in caught.value.hint


def test_cpuset(box2: Box) -> None:  # noqa: F811
    need("cpuset")
    group = box2.make()
    group.apply(resources(cpu={"cpus": "0", "mems": "0"}))
    assert (read(group, "cpuset.cpus"), read(group, "cpuset.cpus.effective")) == ("0", "0")
    box2.start(group).communicate()


def test_stats(box2: Box) -> None:  # noqa: F811
    need("memory", "pids", "cpu")
    group = box2.make()
    group.apply(resources(pids={"limit": 50}, cpu={"quota": 50000, "period": 100000}))
    process = box2.start_busy(group)
    stats = group.stats()
    assert stats.cpu is not None
    assert stats.cpu.total_ns > 100_000_000
    assert stats.cpu.periods > 0
    assert stats.memory is not None
    assert stats.memory.usage.usage > MIB
    assert "anon" in stats.memory.raw
    assert stats.pids is not None
    assert (stats.pids.current, stats.pids.limit) == (1, 50)
    stats.to_events()
    process.communicate("\n")
