"""Cgroups of v1, and of the hybrid layout where there is a cgroup2 tree, on the real kernel."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

import pytest
from harness.engine import wait_until
from kernel.cgroupfixture import MIB, Box, box, resources  # noqa: F401

from masu.errors import FailedPrecondition, KernelError, MasuError
from masu.linux.cgroups import Cgroup, detect
from masu.linux.cgroups.layout import MOUNTINFO_MAX, _read, from_mountinfo

pytestmark = pytest.mark.root


def read(group: Cgroup, controller: str, file: str) -> str:
    path = group.path(controller)
    assert path is not None
    return Path(path, file).read_text().strip()


def without_unified(group: Cgroup) -> Cgroup:
    """The same container as plain v1 sees it."""
    return Cgroup({name: path for name, path in group.paths().items() if name})


def test_the_quick_look_finds_what_mountinfo_says() -> None:
    quick = detect()
    slow = from_mountinfo(_read("/proc/self/mountinfo", MOUNTINFO_MAX), quick.own)
    assert (quick.mode, dict(quick.mounts), quick.unified) == (slow.mode, dict(slow.mounts), slow.unified)


def test_from_birth_to_end(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(None)
    assert set(group.paths()) == set(box.layout.hierarchies())
    assert group.exists()
    process = box.start(group)
    again = Cgroup(group.paths())
    assert again.pids() == [process.pid]
    where = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    assert {line.split(":", 2)[2] for line in where if line.split(":")[1] in (*box.layout.mounts, "")} == {
        f"{box.top}/box"
    }
    assert not again.wait_empty(0)
    process.communicate()
    assert again.wait_empty(5)
    again.delete(parents=1)
    assert not again.exists()
    assert box.directories() == []
    again.delete()


def test_limits_are_what_was_asked_for(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(
        resources(
            cpu={"shares": 512, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "0", "mems": "0", "idle": 0},
            memory={
                "limit": 64 * MIB,
                "reservation": 32 * MIB,
                "swap": 96 * MIB,
                "swappiness": 10,
                "disableOOMKiller": True,
            },
            pids={"limit": 100},
        )
    )
    found = {
        file: read(group, file.partition(".")[0], file)
        for file in (
            "cpu.shares",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
            "cpu.cfs_burst_us",
            "cpuset.cpus",
            "cpuset.mems",
            "memory.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.swappiness",
            "pids.max",
        )
    }
    assert found == {
        "cpu.shares": "512",
        "cpu.cfs_quota_us": "50000",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_burst_us": "10000",
        "cpuset.cpus": "0",
        "cpuset.mems": "0",
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.soft_limit_in_bytes": str(32 * MIB),
        "memory.memsw.limit_in_bytes": str(96 * MIB),
        "memory.swappiness": "10",
        "pids.max": "100",
    }
    assert "oom_kill_disable 1" in read(group, "memory", "memory.oom_control")


@pytest.mark.parametrize(
    ("limit", "swap"),
    [(200, 400), (50, 60), (300, 300), (100, 150), (-1, None), (64, -1), (-1, -1), (160, 320)],
)
def test_memory_and_swap_in_whichever_order_works(box: Box, limit: int, swap: int | None) -> None:  # noqa: F811
    group = box.make()
    group.apply(resources(memory={"limit": 100 * MIB, "swap": 150 * MIB}), devices=False)
    memory = {"limit": limit * MIB if limit > 0 else limit}
    if swap is not None:
        memory["swap"] = swap * MIB if swap > 0 else swap
    group.update(resources(memory=memory))
    unlimited = 0x7FFFFFFFFFFFF000
    assert int(read(group, "memory", "memory.limit_in_bytes")) == (limit * MIB if limit > 0 else unlimited)
    wanted = limit if swap is None else swap
    assert int(read(group, "memory", "memory.memsw.limit_in_bytes")) == (wanted * MIB if wanted > 0 else unlimited)


@pytest.mark.parametrize(("quota", "period"), [(100000, 200000), (25000, 50000), (20000, 1000000), (1000, 2000)])
def test_quota_and_period_below_a_limited_parent(box: Box, quota: int, period: int) -> None:  # noqa: F811
    box.make("parent").apply(resources(cpu={"quota": 50000, "period": 100000}), devices=False)
    group = box.make("parent/child")
    group.apply(resources(cpu={"quota": 50000, "period": 100000}), devices=False)
    group.update(resources(cpu={"quota": quota, "period": period}))
    assert (read(group, "cpu", "cpu.cfs_quota_us"), read(group, "cpu", "cpu.cfs_period_us")) == (
        str(quota),
        str(period),
    )


def test_idle_and_back_with_shares(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(resources(cpu={"shares": 500, "idle": 1}), devices=False)
    assert read(group, "cpu", "cpu.idle") == "1"
    group.update(resources(cpu={"shares": 700, "idle": 0}))
    assert (read(group, "cpu", "cpu.idle"), read(group, "cpu", "cpu.shares")) == ("0", "700")


def refusal(group: Cgroup, **sections: object) -> MasuError:
    with pytest.raises((KernelError, FailedPrecondition)) as caught:
        group.apply(resources(**sections))
    return caught.value


def test_refusals_name_place_file_value_and_way_out(box: Box) -> None:  # noqa: F811
    box.make("parent").apply(resources(cpu={"quota": 50000, "period": 100000, "cpus": "0"}), devices=False)
    group = box.make("parent/child")
    error = refusal(group, cpu={"quota": 100})
    assert (error.errno, error.where) == (errno.EINVAL, "linux.resources.cpu.quota")
    assert error.obj == f"{group.path('cpu')}/cpu.cfs_quota_us"
    assert "value '100'" in error.detail
    assert "at least 1000 us" in error.hint
    error = refusal(group, cpu={"quota": 60000, "period": 100000})
    assert "no ancestor may have less" in error.hint
    error = refusal(group, cpu={"cpus": "4095"})
    assert error.where == "linux.resources.cpu.cpus"
    assert "the parent cgroup offers CPUs 0" in error.hint
    error = refusal(group, cpu={"mems": "77"})
    assert "memory nodes 0" in error.hint
    error = refusal(group, blockIO={"throttleReadBpsDevice": [{"major": 4000, "minor": 7, "rate": 5}]})
    assert error.where == "linux.resources.blockIO.throttleReadBpsDevice[0]"
    assert "no block device 4000:7" in error.hint
    error = refusal(group, blockIO={"leafWeight": 100})
    assert "no I/O scheduler with weights" in error.hint


def test_controller_that_is_not_there(box: Box) -> None:  # noqa: F811
    group = box.make()
    missing = [name for name in ("net_prio", "net_cls", "rdma") if group.path(name) is None]
    if not missing:
        pytest.skip("every controller is mounted")
    sections: dict[str, object] = {
        "net_prio": {"network": {"priorities": [{"name": "lo", "priority": 1}]}},
        "net_cls": {"network": {"classID": 5}},
        "rdma": {"rdma": {"mlx": {"hcaHandles": 1}}},
    }
    section = sections[missing[0]]
    assert isinstance(section, dict)
    error = refusal(group, **section)
    assert f"cannot set {missing[0]} limit: container could not join or create cgroup" in str(error)
    assert "there are: " in error.hint
    assert "memory" in error.hint


def test_hugetlb_where_the_machine_has_it(box: Box) -> None:  # noqa: F811
    group = box.make()
    unified = group.paths().get("")
    here = group.path("hugetlb")
    tree = box.layout.unified
    if here is None and (
        unified is None or tree is None or "hugetlb" not in Path(tree.path, "cgroup.controllers").read_text()
    ):
        pytest.skip("no hugetlb controller")
    control = Path(box.layout.unified.path, "cgroup.subtree_control") if here is None else None  # type: ignore[union-attr]
    before = control.read_text() if control else ""
    group.apply(resources(hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}]))
    file = "hugetlb.2MB.limit_in_bytes" if here else "hugetlb.2MB.max"
    assert Path(here or str(unified), file).read_text().strip() == str(4 * MIB)
    error = refusal(group, hugepageLimits=[{"pageSize": "3MB", "limit": 0}])
    assert error.where == "linux.resources.hugepageLimits[0].limit"
    assert "huge pages have" in error.hint
    assert "2MB" in error.hint
    stats = group.stats()
    assert stats.hugetlb is not None
    assert stats.hugetlb["2MB"].usage == 0
    if control and "hugetlb" not in before:
        group.delete()
        for directory in (Path(str(unified)).parent, Path(str(control)).parent):
            Path(directory, "cgroup.subtree_control").write_text("-hugetlb")


def test_limit_below_usage(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(resources(memory={"limit": 256 * MIB, "swap": 256 * MIB}))
    script = "import mmap; m = mmap.mmap(-1, 64 << 20); m.write(b'x' * (64 << 20)); print('full', flush=True); input()"
    process = box.start(group, script=script)
    assert process.stdout is not None
    assert process.stdout.readline() == "full\n"
    old = int(read(group, "memory", "memory.limit_in_bytes"))
    with pytest.raises(KernelError) as caught:
        group.update(resources(memory={"limit": 8 * MIB, "swap": 8 * MIB}), where="resources")
    error = caught.value
    assert error.errno == errno.EBUSY
    assert error.where.startswith("resources.memory.")
    assert "unable to set memory limit to 8388608 (current usage: " in error.detail
    assert int(read(group, "memory", "memory.limit_in_bytes")) == old
    process.communicate("\n")


def test_too_many_processes(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(resources(pids={"limit": 3}))
    script = """
import os
born = 0
r, w = os.pipe()
try:
    for _ in range(10):
        if os.fork() == 0:
            os.close(w); os.read(r, 1); os._exit(0)
        born += 1
except BlockingIOError as e:
    print(born, e.errno)
os.close(w)
for _ in range(born):
    os.wait()
"""
    assert box.output(group, script) == f"2 {errno.EAGAIN}\n"


OPENS = """
import errno, os
for path in {paths!r}:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)); print('ok')
    except OSError as e:
        print(errno.errorcode[e.errno])
"""


def test_devices(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(None)
    paths = ["/dev/null", "/dev/zero", "/dev/ptmx", "/dev/kmsg"]
    assert box.output(group, OPENS.format(paths=paths)).split() == ["ok", "ok", "ok", "EPERM"]
    listed = read(group, "devices", "devices.list").splitlines()
    assert "a *:* rwm" not in listed
    assert "c *:* m" in listed
    major, minor = (lambda n: (os.major(n), os.minor(n)))(os.stat("/dev/kmsg").st_rdev)
    allowed = {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rw"}
    group.apply(resources(devices=[{"allow": False, "access": "rwm"}, allowed]))
    assert box.output(group, OPENS.format(paths=paths)).split() == ["ok", "ok", "ok", "ok"]
    # And all of them: privileged.
    group.apply(resources(devices=[{"allow": True, "access": "rwm"}]))
    assert read(group, "devices", "devices.list") == "a *:* rwm"
    # A change of limits leaves them alone.
    group.update(resources(pids={"limit": 5}))
    assert read(group, "devices", "devices.list") == "a *:* rwm"


def test_device_that_the_parent_denies(box: Box) -> None:  # noqa: F811
    box.make("parent").apply(None)
    group = box.make("parent/child")
    error = refusal(group, devices=[{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}])
    assert (error.errno, error.where) == (errno.EPERM, "linux.resources.devices")
    assert "c 10:229 rwm" in error.detail
    assert "parent cgroup does not allow" in error.hint


def test_freeze_and_thaw(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(None)
    process = box.start(group)
    assert process.stdin is not None
    assert process.stdout is not None
    group.freeze()
    assert group.frozen()
    assert not box_of(group).frozen()
    process.stdin.write("hello\n")
    process.stdin.flush()
    assert Path(f"/proc/{process.pid}/status").read_text().split("State:")[1].split()[0] in ("D", "S", "T")
    group.thaw()
    assert not group.frozen()
    assert process.stdout.readline() == "hello\n"


def box_of(group: Cgroup) -> Cgroup:
    """The parent: freezing below it does not make it frozen."""
    return Cgroup({name: os.path.dirname(path) for name, path in group.paths().items()})


@pytest.mark.parametrize("plain", [False, True])
def test_kill_takes_frozen_ones_and_those_below(box: Box, plain: bool) -> None:  # noqa: F811
    whole = box.make()
    whole.apply(None)
    group = without_unified(whole) if plain else whole
    below = box.make("box/below")
    processes = [box.start(whole), box.start(below)]
    assert sorted(group.pids()) == sorted(p.pid for p in processes)
    assert group.pids(all=False) == [processes[0].pid]
    group.freeze()
    group.kill()
    assert group.wait_empty(10)
    assert [p.wait(10) for p in processes] == [-9, -9]
    assert not group.frozen()
    group.delete(5)
    assert not group.exists()
    whole.delete(5)


@pytest.mark.parametrize("plain", [False, True])
def test_kill_takes_those_that_keep_forking(box: Box, plain: bool) -> None:  # noqa: F811
    whole = box.make()
    whole.apply(resources(pids={"limit": 30}))
    group = without_unified(whole) if plain else whole
    # Not a shell: that ends when it may not fork.
    script = "import os\nwhile True:\n    try:\n        os.fork()\n    except BlockingIOError:\n        pass"
    process = box.start(whole, sys.executable, "-SIc", script)
    wait_until(lambda: len(whole.pids()) > 20)
    group.kill()
    assert process.wait(10) == -9
    assert group.wait_empty(10)
    group.delete(5)


def test_other_signals_reach_everybody_once(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(None)
    script = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [10])
print('ready', flush=True)
print(int(signal.sigwait([10])), int(10 in signal.sigpending()))
"""
    processes = [box.start(group, script=script) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    group.kill(10)
    assert [p.communicate(timeout=10)[0] for p in processes] == ["10 0\n"] * 3
    assert not group.frozen()


@pytest.mark.parametrize("plain", [False, True])
def test_waiting_ends_with_the_last_process(box: Box, plain: bool) -> None:  # noqa: F811
    whole = box.make()
    whole.apply(None)
    group = without_unified(whole) if plain else whole
    process = box.start(whole)
    start = time.monotonic()
    assert not group.wait_empty(0.05)
    assert time.monotonic() - start >= 0.05
    child = os.fork()
    if child == 0:
        # Somebody else ends it while we wait.
        assert process.stdin is not None
        os.close(process.stdin.fileno())
        os._exit(0)
    assert process.stdin is not None
    process.stdin.close()
    assert group.wait_empty(10)
    os.waitpid(child, 0)
    process.wait()


def test_delete_waits_for_the_dying_and_names_the_living(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(None)
    process = box.start(group)
    with pytest.raises(FailedPrecondition) as caught:
        group.delete(0.05)
    assert caught.value.errno == errno.EBUSY
    assert f"1 process(es) left: {process.pid}" in str(caught.value)
    process.kill()
    group.delete(5)
    assert not group.exists()


def test_delete_removes_what_the_container_made_below(box: Box) -> None:  # noqa: F811
    group = box.make()
    for path in group.paths().values():
        os.makedirs(f"{path}/a/b")
    group.delete()
    assert not group.exists()


def test_in_use(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(None)
    # Only one hierarchy is in use, and not the first one: those made before must go again.
    other = Cgroup({"pids": f"{box.layout.mounts['pids'].path}{box.top}/other"})
    os.mkdir(other.paths()["pids"])
    process = box.start(other)
    with pytest.raises(FailedPrecondition, match=r"container's cgroup is not empty: 1 process\(es\) found") as caught:
        box.make("other")
    assert caught.value.where == "linux.cgroupsPath"
    left = [m.path for m in box.layout.hierarchies().values() if os.path.isdir(f"{m.path}{box.top}/other")]
    assert left == [box.layout.mounts["pids"].path]
    process.communicate()
    # Empty now: taken.
    assert other.wait_empty(5)
    box.make("other").apply(None)


def test_frozen_from_before(box: Box) -> None:  # noqa: F811
    freezer = Path(f"{box.layout.mounts['freezer'].path}{box.top}/box")
    freezer.mkdir(parents=True)
    Path(freezer, "freezer.state").write_text("FROZEN")
    with pytest.raises(FailedPrecondition, match="container's cgroup unexpectedly frozen"):
        box.make()
    assert box.directories() == [str(freezer.parent)]


def test_relative_paths_count_from_where_we_are(box: Box) -> None:  # noqa: F811
    mine = box.make("caller")
    mine.apply(None)
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / "src")!r})
from masu.linux.cgroups import Cgroup
group = Cgroup.create("inner/x", "x")
group.apply(None)
print(group.paths() == {{name: path + "/inner/x" for name, path in {mine.paths()!r}.items()}})
group.delete(parents=1)
"""
    assert box.output(mine, script) == "True\n"


def test_out_of_memory(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(resources(memory={"limit": 24 * MIB, "swap": 24 * MIB}))
    with group.oom_watch() as watch:
        assert watch.version == 1
        assert group.oom_kills() == 0
        process = box.start(group, script="x = bytearray(200 << 20)")
        assert process.wait(20) == -9
        assert watch.wait(10)
        assert watch.news() == 1
        assert watch.news() == 0
    assert group.oom_kills() == 1
    stats = group.stats()
    assert stats.memory is not None
    assert stats.memory.oom_kills == 1
    assert stats.memory.usage.limit == 24 * MIB
    assert stats.memory.usage.failures == int(read(group, "memory", "memory.failcnt"))


def test_stats(box: Box) -> None:  # noqa: F811
    group = box.make()
    # A twentieth of a CPU: less than a busy machine gives by itself, so that it is throttled there too.
    group.apply(resources(pids={"limit": 50}, cpu={"quota": 5000, "period": 100000}))
    process = box.start_busy(group)
    stats = group.stats()
    assert stats.cpu is not None
    assert stats.cpu.total_ns > 1_000_000
    assert len(stats.cpu.percpu_ns) >= (os.cpu_count() or 1)
    assert stats.cpu.periods > 0
    assert stats.cpu.throttled_ns > 0
    assert stats.memory is not None
    assert stats.memory.usage.usage > MIB
    assert "rss" in stats.memory.raw
    assert stats.pids is not None
    assert (stats.pids.current, stats.pids.limit) == (1, 50)
    assert stats.cpuset is not None
    assert stats.cpuset["mems"] == [0]
    events = stats.to_events()
    assert set(events) == {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"}
    process.communicate("\n")


def test_threads_are_one_process(box: Box) -> None:  # noqa: F811
    group = box.make()
    group.apply(None)
    script = """
import threading
gate = threading.Event()
threads = [threading.Thread(target=gate.wait) for _ in range(3)]
[t.start() for t in threads]
print('up', flush=True); input(); gate.set()
"""
    process = box.start(group, script=script)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert group.pids() == [process.pid]
    stats = group.stats()
    assert stats.pids is not None
    assert stats.pids.current == 4
    process.communicate("\n")


def test_kill_finds_those_that_left_the_cgroup2_directory(box: Box) -> None:  # noqa: F811
    group = box.make()
    if group.mode != "hybrid":
        pytest.skip("no cgroup2 tree beside v1")
    group.apply(None)
    stayed, left = box.start(group), box.start(group)
    assert box.layout.unified is not None
    Path(box.layout.unified.path, "cgroup.procs").write_text(str(left.pid))
    assert sorted(group.pids()) == sorted([stayed.pid, left.pid])
    group.kill()
    assert [stayed.wait(10), left.wait(10)] == [-9, -9]
    assert group.wait_empty(10)


def test_realtime(box: Box) -> None:  # noqa: F811
    top = box.make("a")
    if not Path(str(top.path("cpu")), "cpu.rt_runtime_us").exists():
        pytest.skip("the kernel has no CONFIG_RT_GROUP_SCHED")
    error = refusal(top, cpu={"realtimeRuntime": 1000, "realtimePeriod": 100000})
    assert error.where == "linux.resources.cpu.realtimeRuntime"
    assert "the parent cgroup has no realtime to give" in error.hint
    # Where there is some to give: parents first, in either order of growing.
    folder = Path(str(top.path("cpu"))).parent
    if int(Path(folder.parent, "cpu.rt_runtime_us").read_text()) < 20000:
        pytest.skip("no realtime left on this machine")
    Path(folder, "cpu.rt_runtime_us").write_text("20000")
    top.apply(resources(cpu={"realtimeRuntime": 10000, "realtimePeriod": 1000000}))
    top.update(resources(cpu={"realtimeRuntime": 1000, "realtimePeriod": 100000}))
    assert (read(top, "cpu", "cpu.rt_runtime_us"), read(top, "cpu", "cpu.rt_period_us")) == ("1000", "100000")
