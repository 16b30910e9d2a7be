"""Cgroup without a kernel: paths, and on directories with files of cgroup v2's names what gets into them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from masu.errors import FailedPrecondition, InvalidArgument, KernelError, MasuError, NotFound
from masu.linux.cgroups import Cgroup, Layout, Mount, predict
from masu.linux.cgroups.files import Setting, _present_value
from masu.linux.cgroups.making import clean_path
from masu.spec.runtime import parse_resources

MIB = 1 << 20


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ("box", False)),
        ("", ("box", False)),
        ("/masu/box", ("masu/box", True)),
        ("masu/box", ("masu/box", False)),
        ("//masu///box/", ("masu/box", True)),
        ("/a/./b/../c", ("a/c", True)),
        ("kubepods/burstable/pod1:x", ("kubepods/burstable/pod1:x", False)),
    ],
)
def test_clean_path(given: str | None, expected: tuple[str, bool]) -> None:
    assert clean_path(given, "box", "linux.cgroupsPath") == expected


@pytest.mark.parametrize(
    "bad",
    ["/..", "../x", "/a/../../b", "/", "//", ".", "/a/..", "/a\nb", "/a\0b", "/" + "x/" * 3000],
)
def test_paths_that_lead_out_or_nowhere(bad: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        clean_path(bad, "box", "linux.cgroupsPath")
    assert caught.value.where == "linux.cgroupsPath"


@pytest.mark.parametrize("bad", ["relative", "/a/../b", "/a//b", "/", "/a/", ""])
def test_stored_paths_must_be_plain(bad: str) -> None:
    with pytest.raises(InvalidArgument):
        Cgroup({"memory": bad})


def test_value() -> None:
    paths = {"memory": "/cg/memory/x", "devices": "/cg/devices/x", "": "/cg/unified/x"}
    group = Cgroup(paths)
    assert group == Cgroup(group.paths())
    assert group.mode == "hybrid"
    assert Cgroup({"": "/cg/x"}).mode == "v2"
    assert Cgroup({"memory": "/cg/x"}).mode == "v1"
    assert Cgroup({}).mode == "none"


def test_predict() -> None:
    mounts = {
        "memory": Mount("/cg/memory"),
        "devices": Mount("/cg/devices", "/docker/x"),
        "cpu": Mount("/cg/cpu", "/other"),
    }
    own = {"memory": "/deep/er", "devices": "/docker/x/y", "cpu": "/", "": "/slice/me"}
    hybrid = Layout("hybrid", mounts, Mount("/cg/unified"), own)
    assert predict("/a/b", "id", layout=hybrid) == {
        "memory": "/cg/memory/a/b",
        "devices": "/cg/devices/a/b",
        "cpu": "/cg/cpu/a/b",
        "": "/cg/unified/a/b",
    }
    # Relative: from our own place in each; a controller whose place is out of sight is left out.
    assert predict("a", "id", layout=hybrid) == {
        "memory": "/cg/memory/deep/er/a",
        "devices": "/cg/devices/y/a",
        "": "/cg/unified/slice/me/a",
    }
    v2 = Layout("v2", {}, Mount("/cg"), own)
    # Not asked for: as a relative one, so that limits on us hold for it; at the top only where we do not see our place.
    assert predict(None, "id", layout=v2) == {"": "/cg/slice/id"}
    assert predict(None, "id", layout=Layout("v2", {}, Mount("/cg"), {"": "/../x"})) == {"": "/cg/id"}
    assert predict(None, "id", layout=hybrid) == {
        "memory": "/cg/memory/deep/er/id",
        "devices": "/cg/devices/y/id",
        "cpu": "/cg/cpu/id",
        "": "/cg/unified/slice/me/id",
    }
    assert predict("a", "id", layout=v2) == {"": "/cg/slice/a"}  # beside us, not below
    assert predict("a", "id", layout=Layout("v2", {}, Mount("/cg"), {"": "/"})) == {"": "/cg/a"}
    with pytest.raises(FailedPrecondition, match="cannot be seen"):
        predict("a", "id", layout=Layout("v2", {}, Mount("/cg"), {"": "/../x"}))


def test_where_cgroups_are_delegated(tmp_path: Path) -> None:
    """Without root and without a path that was asked for: beside our own cgroup, else below it, else nowhere."""
    session = tmp_path / "slice/session"
    session.mkdir(parents=True)
    layout = Layout("v2", {}, Mount(str(tmp_path)), {"": "/slice/session"})
    assert predict(None, "id", layout=layout, rootless=True) == {}
    (session / "cgroup.procs").touch()
    assert predict(None, "id", layout=layout, rootless=True) == {"": f"{session}/id"}
    (session.parent / "cgroup.procs").touch()
    assert predict(None, "id", layout=layout, rootless=True) == {"": f"{session.parent}/id"}
    assert predict("/asked/for", "id", layout=layout, rootless=True) == {"": f"{tmp_path}/asked/for"}
    mounts = {"pids": Mount(str(tmp_path)), "cpu": Mount("/masu-nowhere")}
    v1 = Layout("v1", mounts, None, {"pids": "/slice", "cpu": "/"})
    assert predict(None, "id", layout=v1, rootless=True) == {"pids": f"{tmp_path}/slice/id"}


def test_the_devices_controller_is_not_optional() -> None:
    layout = Layout("v1", {"memory": Mount("/cg/memory")}, None, {"memory": "/"})
    with pytest.raises(FailedPrecondition, match="the container would have every device"):
        Cgroup.create("/x", "x", layout=layout)
    with pytest.raises(FailedPrecondition, match="no cgroup mount found in mountinfo"):
        Cgroup.create("/x", "x", layout=Layout("none", {}, None, {}))


def test_join_files() -> None:
    group = Cgroup(
        {"cpu": "/cg/cpu,cpuacct/x", "cpuacct": "/cg/cpu,cpuacct/x", "memory": "/cg/memory/x", "": "/cg/unified/x"}
    )
    tasks = ["/cg/cpu,cpuacct/x/tasks", "/cg/memory/x/tasks"]
    assert group.join_files() == [*tasks, "/cg/unified/x/cgroup.procs"]
    assert group.join_files(cloned_into=True) == tasks
    assert Cgroup({"": "/cg/x"}).join_files() == ["/cg/x/cgroup.procs"]


def test_vanished(tmp_path: Path) -> None:
    for paths in ({"": str(tmp_path / "gone")}, {"memory": str(tmp_path / "a"), "freezer": str(tmp_path / "b")}):
        group = Cgroup(paths)
        assert not group.exists()
        assert group.pids() == []
        assert not group.frozen()
        assert group.wait_empty(0.1)
        group.kill()
        group.delete()
        stats = group.stats()
        assert stats.memory is None
        assert stats.pids is None
        assert group.oom_kills() is None
        stats.to_events()
    with pytest.raises(KernelError) as caught:
        Cgroup({"": str(tmp_path / "gone")}).open_for_clone()
    assert caught.value.errno == errno.ENOENT


def test_nothing_to_freeze() -> None:
    group = Cgroup({"memory": "/cg/memory/x"})
    for toggle in (group.freeze, group.thaw):
        with pytest.raises(FailedPrecondition, match="cannot toggle freezer: cgroups not configured for container"):
            toggle()


# --- cgroup v2's files ---


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """A directory with the files of a v2 cgroup, and a parent; text is written at the beginning of each."""
    parent = tmp_path / "cg"
    path = parent / "x"
    path.mkdir(parents=True)
    (parent / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (parent / "cgroup.subtree_control").write_text("cpu pids memory io\n")
    (parent / "cgroup.procs").write_text("1\n2\n")
    (path / "cgroup.controllers").write_text("cpu io memory pids\n")
    for name in (
        "cgroup.procs",
        "memory.max",
        "memory.low",
        "memory.swap.max",
        "cpu.weight",
        "cpu.max",
        "pids.max",
        "io.weight",
        "io.max",
    ):
        (path / name).write_text("")
    return path


def apply(path: Path, resources: object, warnings: list[str] | None = None) -> None:
    Cgroup({"": str(path)}).apply(parse_resources(resources), devices=False, warnings=warnings)


def test_written_to_the_files(v2: Path) -> None:
    apply(
        v2,
        {
            "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 128 * MIB},
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000},
            "pids": {"limit": 20},
            "blockIO": {"weight": 500},  # there is no io.bfq.weight
        },
    )
    found = {
        name: (v2 / name).read_text()
        for name in ("memory.max", "memory.low", "memory.swap.max", "cpu.weight", "cpu.max", "pids.max", "io.weight")
    }
    assert found == {
        "memory.max": "67108864",
        "memory.low": "33554432",
        "memory.swap.max": "67108864",
        "cpu.weight": "100",
        "cpu.max": "50000 100000",
        "pids.max": "20",
        "io.weight": "4950",
    }


def refusal(path: Path, resources: object) -> MasuError:
    with pytest.raises(MasuError) as caught:
        apply(path, resources)
    return caught.value


def test_controller_not_passed_on_by_a_parent_with_processes(v2: Path) -> None:
    error = refusal(v2, {"cpu": {"cpus": "0"}})
    assert isinstance(error, KernelError)
    assert (error.errno, error.where) == (errno.ENOENT, "linux.resources.cpu.cpus")
    assert error.obj == f"{v2}/cpuset.cpus"
    assert "controller 'cpuset' not available" in error.detail
    assert "2 process(es) live in it" in error.hint
    assert "there are: cpu io memory pids" in error.hint


def test_controller_not_passed_on_by_a_parent_without(v2: Path) -> None:
    (v2.parent / "cgroup.procs").write_text("")
    assert f"echo +cpuset > {v2.parent}/cgroup.subtree_control" in refusal(v2, {"cpu": {"cpus": "0"}}).hint


def test_controller_that_nobody_has(v2: Path) -> None:
    error = refusal(v2, {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]})
    assert error.where == "linux.resources.hugepageLimits[0].limit"
    assert "no hugetlb controller here" in error.hint


def test_swap_not_counted(v2: Path) -> None:
    (v2 / "memory.swap.max").unlink()
    apply(v2, {"memory": {"limit": MIB, "swap": MIB}})
    assert (v2 / "memory.max").read_text() == "1048576"
    assert "counts no swap" in refusal(v2, {"memory": {"limit": MIB, "swap": 2 * MIB}}).hint


def test_file_that_this_kernel_lacks(v2: Path) -> None:
    assert "no such file" in refusal(v2, {"unified": {"memory.zswap.max": "1"}}).hint


def test_check_before_update(v2: Path) -> None:
    (v2 / "memory.current").write_text(f"{8 * MIB}\n")
    resources = {"memory": {"limit": 4 * MIB, "checkBeforeUpdate": True}}
    error = refusal(v2, resources)
    assert isinstance(error, FailedPrecondition)
    assert f"rejecting memory limit {4 * MIB} <= usage {8 * MIB}" in str(error)
    assert error.where == "linux.resources.memory.limit"
    error = refusal(v2, {"memory": {"swap": 4 * MIB, "limit": 4 * MIB, "checkBeforeUpdate": True}})
    assert f"rejecting memory+swap limit {4 * MIB} <= usage {8 * MIB}" in str(error)
    assert (v2 / "memory.max").read_text() == ""
    apply(v2, {"memory": {"limit": 16 * MIB, "checkBeforeUpdate": True}})
    apply(v2, {"memory": {"limit": -1, "checkBeforeUpdate": True}})


def test_update_sets_back_what_it_changed(v2: Path) -> None:
    before = {
        "pids.max": "20\n",
        "memory.max": "max\n",
        "cpu.max": "max 100000\n",
        "io.max": "8:0 rbps=max wbps=7 riops=max wiops=max\n8:16 rbps=5 wbps=max riops=max wiops=max\n",
    }
    for name, text in before.items():
        (v2 / name).write_text(text)
    wanted = {
        "pids": {"limit": 30},
        "memory": {"limit": 8 * MIB},
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]},
        "cpu": {"quota": 5000, "cpus": "9"},
    }
    with pytest.raises(KernelError):
        Cgroup({"": str(v2)}).update(parse_resources(wanted))
    # What was written last stands at the beginning of these files: they are not a cgroup's, which take a command.
    for name, text in before.items():
        assert (v2 / name).read_text().startswith(text.splitlines()[0])


def test_what_leaves_a_file_as_it_says_it_is() -> None:
    def value(file: str, value: str, text: str) -> str | None:
        return _present_value(Setting("", file, value, ""), text)

    assert value("blkio.throttle.read_bps_device", "8:0 5", "") == "8:0 0"
    assert value("blkio.throttle.read_bps_device", "8:0 5", "8:16 1\n8:0 7\n") == "8:0 7"
    assert value("io.max", "8:0 rbps=5", "") == "8:0 rbps=max wbps=max riops=max wiops=max"
    assert value("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n") == "0"
    assert value("cpuset.cpus", "0", "\n") == "\n"
    assert value("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 2\n") == "eth0 2"
    assert value("misc.max", "sev 5", "sgx 1\nsevx 2\n") is None


def test_symlinks_are_not_followed(v2: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("")
    (v2 / "pids.max").unlink()
    (v2 / "pids.max").symlink_to(target)
    assert refusal(v2, {"pids": {"limit": 5}}).errno == errno.ELOOP
    link = tmp_path / "link"
    link.symlink_to(v2)
    assert refusal(link, {"pids": {"limit": 5}}).errno in (errno.ELOOP, errno.ENOTDIR)
    assert target.read_text() == ""


def test_cpus_held_exclusively_by_a_neighbour(tmp_path: Path) -> None:
    # What a v1 cpuset is left with when its parent's CPUs could not be its own. (To provoke it for real, every CPU of
    # the machine's top cpuset would have to become exclusive.)
    (tmp_path / "cpuset.cpus").write_text("\n")
    (tmp_path / "cpuset.mems").write_text("0\n")
    group = Cgroup({"cpuset": str(tmp_path)})
    group._cpuset_error = OSError(errno.EINVAL, "")
    with pytest.raises(KernelError, match="another cgroup holds them exclusively") as caught:
        group.apply(None)
    assert (caught.value.where, caught.value.errno) == ("linux.resources.cpu.cpus", errno.EINVAL)
    group.apply(parse_resources({"cpu": {"cpus": "1"}}))
    assert (tmp_path / "cpuset.cpus").read_text() == "1"


# --- sub-cgroups ---


def test_sub_on_v2(v2: Path) -> None:
    group = Cgroup({"": str(v2)})
    (v2 / "inner").mkdir()
    assert group.sub(["inner"]).paths() == {"": f"{v2}/inner"}
    assert group.sub(["/"]) == group
    with pytest.raises(InvalidArgument, match="bad sub cgroup path"):
        group.sub([".."])
    with pytest.raises(InvalidArgument, match="bad sub cgroup path"):
        group.sub(["inner/../../y"])
    with pytest.raises(InvalidArgument, match="no controllers to name"):
        group.sub(["memory:inner"])
    with pytest.raises(NotFound, match=r"adding pid .* to cgroups: .*no such file or directory"):
        group.sub(["nonexistent"])


def test_sub_on_v1(tmp_path: Path) -> None:
    for name in ("memory", "cpu", "systemd"):
        (tmp_path / name / "inner").mkdir(parents=True)
    group = Cgroup({"memory": f"{tmp_path}/memory", "cpu": f"{tmp_path}/cpu", "name=systemd": f"{tmp_path}/systemd"})
    assert group.sub(["memory:inner"]).paths() == {**group.paths(), "memory": f"{tmp_path}/memory/inner"}
    assert group.sub(["memory,cpu:inner", "systemd:inner"]).paths() == group.sub(["inner"]).paths()
    with pytest.raises(InvalidArgument, match="unknown controller whaaat"):
        group.sub(["whaaat:/"])


# --- stats ---


def test_stats_of_v2(v2: Path) -> None:
    files = {
        "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n"
        "nr_periods 4\nnr_throttled 2\nthrottled_usec 7\n",
        "cpu.pressure": "some avg10=1.50 avg60=0.25 avg300=0.00 total=99\n",
        "memory.current": "4096\n",
        "memory.max": "max\n",
        "memory.peak": "8192\n",
        "memory.swap.current": "100\n",
        "memory.swap.max": "200\n",
        "memory.stat": "anon 1\nfile 2048\n",
        "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
        "pids.current": "5\n",
        "pids.max": "max\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
        "hugetlb.2MB.current": "0\n",
        "hugetlb.2MB.rsvd.current": "2097152\n",
        "hugetlb.2MB.events": "max 4\n",
        "rdma.current": "mlx hca_handle=2 hca_object=3\n",
        "rdma.max": "mlx hca_handle=max hca_object=3\n",
    }
    for name, text in files.items():
        (v2 / name).write_text(text)
    stats = Cgroup({"": str(v2)}).stats()
    assert stats.cpu is not None
    assert (stats.cpu.total_ns, stats.cpu.throttled_ns, stats.cpu.throttled_periods) == (1_500_000, 7000, 2)
    assert stats.memory is not None
    assert stats.memory.swap is not None
    assert (stats.memory.usage.usage, stats.memory.usage.peak, stats.memory.cache) == (4096, 8192, 2048)
    assert (stats.memory.swap.usage, stats.memory.oom_kills) == (4196, 1)
    assert stats.pids is not None
    assert (stats.pids.current, stats.pids.limit) == (5, 0)
    assert stats.hugetlb is not None
    assert (stats.hugetlb["2MB"].usage, stats.hugetlb["2MB"].failures) == (2 * MIB, 4)
    assert stats.rdma is not None
    events = stats.to_events()
    assert events["cpu"] == {
        "usage": {"total": 1_500_000, "kernel": 500_000, "user": 1_000_000},
        "throttling": {"periods": 4, "throttledPeriods": 2, "throttledTime": 7000},
        "psi": {"some": {"avg10": 1.5, "avg60": 0.25, "avg300": 0.0, "total": 99}},
    }
    assert events["pids"] == {"current": 5}
    assert events["blkio"] == {
        "ioServiceBytesRecursive": [
            {"major": 8, "op": "Read", "value": 10},
            {"major": 8, "op": "Write", "value": 20},
        ],
        "ioServicedRecursive": [{"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write", "value": 2}],
    }
    assert events["hugetlb"] == {"2MB": {"usage": 2 * MIB, "failcnt": 4}}


def test_stats_without_controllers(v2: Path) -> None:
    (v2 / "memory.max").unlink()
    (v2 / "cgroup.procs").write_text("10\n11\n")
    stats = Cgroup({"": str(v2)}).stats()
    assert stats.memory is None
    assert stats.pids is not None
    assert stats.pids.current == 2  # counted, as the controller does not


def test_blkio_of_v1(tmp_path: Path) -> None:
    (tmp_path / "blkio.throttle.io_serviced").write_text("8:0 Read 1\n8:0 Total 1\nTotal 1\n")
    (tmp_path / "blkio.throttle.io_service_bytes").write_text("8:0 Read 512\n8:0 Total 512\nTotal 512\n")
    (tmp_path / "blkio.bfq.io_serviced_recursive").write_text("Total 0\n")
    stats = Cgroup({"blkio": str(tmp_path)}).stats()
    assert stats.io is not None
    assert [(e.op, e.value) for e in stats.io.io_serviced] == [("Read", 1), ("Total", 1)]
    assert [(e.op, e.value) for e in stats.io.io_service_bytes] == [("Read", 512), ("Total", 512)]
