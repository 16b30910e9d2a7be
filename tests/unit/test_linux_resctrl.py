"""resctrl groups, on a tree laid out as the kernel's. What only the kernel does, filling a new group with files, is
left to tests/kernel/test_resctrl_real.py."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from masu.errors import FailedPrecondition, InvalidArgument, KernelError, MasuError, NotFound
from masu.linux import resctrl
from masu.linux.resctrl import Group
from masu.plan.ops import Op
from masu.runtime.container import Container, Facts
from masu.runtime.placing import resctrl_ways_in
from masu.runtime.update import update
from masu.spec import jsontext
from masu.spec.runtime import LinuxIntelRdt

TOP = "    MB:0=100;1=100\n    L3:0=fffff;1=fffff\n"
CLASS = "    MB:0=20;1=70\n    L3:0=007f0;1=0001f\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of two caches, with a class that somebody has made."""
    root = tmp_path / "resctrl"
    info = {
        "info/L3/cbm_mask": "fffff\n",
        "info/L3/min_cbm_bits": "1\n",
        "info/L3/num_closids": "16\n",
        "info/MB/bandwidth_gran": "10\n",
        "info/MB/delay_linear": "1\n",
        "info/MB/min_bandwidth": "10\n",
        "info/MB/num_closids": "8\n",
        "info/L3_MON/mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\nmbm_local_bytes_config\n",
        "info/L3_MON/num_rmids": "144\n",
        "info/last_cmd_status": "ok\n",
    }
    write(root, info)
    for folder, schemata in ((root, TOP), (root / "gold", CLASS)):
        write(folder, {"schemata": schemata, "tasks": "", "mon_groups/other/tasks": "", **monitored(10)})
    return root


def monitored(base: int) -> dict[str, str]:
    """mon_data; the first cache's bandwidth has not been read yet."""
    return {
        "mon_data/mon_L3_00/llc_occupancy": f"{base}\n",
        "mon_data/mon_L3_00/mbm_total_bytes": "Unavailable\n",
        "mon_data/mon_L3_00/mbm_local_bytes": f"{base + 1}\n",
        "mon_data/mon_L3_01/llc_occupancy": f"{base + 2}\n",
        "mon_data/mon_L3_01/mbm_total_bytes": f"{base + 3}\n",
        "mon_data/mon_L3_01/mbm_local_bytes": f"{base + 4}\n",
    }


def rdt(**fields: Any) -> LinuxIntelRdt:
    return LinuxIntelRdt(**fields)


def test_a_class_of_the_containers_own(root: Path) -> None:
    wanted = rdt()
    group = Group.of(str(root), "box", wanted)
    group.make(wanted)
    assert (root / "box").is_dir()
    assert group.join_files() == [f"{root}/box/tasks"]
    # By another process, from what state.json keeps.
    Group(group.paths()).remove()
    assert not (root / "box").exists()
    Group(group.paths()).remove()


def test_a_class_of_the_containers_name_that_was_there(root: Path) -> None:
    wanted = rdt(schemata=("L3:0=f",))
    write(root / "box", {"schemata": TOP, "tasks": "77\n"})
    group = Group.of(str(root), "box", wanted)
    group.make(wanted)
    assert (root / "box/schemata").read_text() == "L3:0=f\n"
    group.remove()
    group.undo()
    assert (root / "box").is_dir()


def test_the_order_of_what_is_written(root: Path) -> None:
    wanted = rdt(
        mem_bw_schema="MB:0=20", l3_cache_schema="L3:0=7f0", schemata=("L2:0=f", "", "MB:0=30"), clos_id="gold"
    )
    group = Group.of(str(root), "box", wanted)
    group.make(wanted)
    assert (root / "gold/schemata").read_text() == "L3:0=7f0\nMB:0=20\nL2:0=f\nMB:0=30\n"


@pytest.mark.parametrize("clos", ["gold", "/"])
def test_without_shares_nothing_is_written(root: Path, clos: str) -> None:
    wanted = rdt(clos_id=clos, enable_monitoring=True)
    group = Group.of(str(root), "box", wanted)
    group.make(wanted)
    folder = root if clos == "/" else root / "gold"
    assert (folder / "schemata").read_text() == (TOP if clos == "/" else CLASS)
    assert group.join_files() == [f"{folder}/tasks", f"{folder}/mon_groups/box/tasks"]
    assert (folder / "mon_groups/box").is_dir()
    group.remove()
    assert not (folder / "mon_groups/box").exists()
    assert (folder / "tasks").exists()


def test_a_named_class_without_shares_has_to_be_there(root: Path) -> None:
    wanted = rdt(clos_id="silver")
    with pytest.raises(NotFound, match="clos dir not accessible") as caught:
        Group.of(str(root), "box", wanted).make(wanted)
    assert caught.value.where == "linux.intelRdt.closID"
    assert not (root / "silver").exists()


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"l3_cache_schema": "L3:1=1f;0=7f0"}, ""),
        ({"l3_cache_schema": "L3:0=0x7f0"}, ""),
        ({"l3_cache_schema": "L3:0=7f1"}, "l3CacheSchema"),
        ({"l3_cache_schema": "L3:0=7f0;1=7f0"}, "l3CacheSchema"),
        # Bandwidth goes up to the next step.
        ({"mem_bw_schema": "MB:0=11;1=70"}, ""),
        ({"mem_bw_schema": "MB:0=30"}, "memBwSchema"),
        # What the kernel will refuse is left to it.
        ({"l3_cache_schema": "L3:9=1"}, ""),
        ({"l3_cache_schema": "L3:0=many"}, ""),
        # "MUST write the value", with no word of comparing.
        ({"schemata": ("L3:0=1",)}, ""),
    ],
)
def test_a_named_class_has_the_shares_that_are_asked_for(root: Path, fields: dict[str, Any], where: str) -> None:
    wanted = rdt(clos_id="gold", **fields)
    group = Group.of(str(root), "box", wanted)
    if not where:
        group.make(wanted)
        return
    with pytest.raises(FailedPrecondition, match="its schemata are others: MB:0=20;1=70; L3:0=007f0") as caught:
        group.make(wanted)
    assert caught.value.where == f"linux.intelRdt.{where}"
    assert (root / "gold/schemata").read_text() == CLASS


@pytest.mark.parametrize("name", ["info", "mon_groups"])
def test_what_is_no_class(root: Path, name: str) -> None:
    wanted = rdt()
    with pytest.raises(FailedPrecondition, match="it is none"):
        Group.of(str(root), name, wanted).make(wanted)
    assert (root / name).is_dir()


def test_shares_that_are_refused_leave_nothing(root: Path) -> None:
    """A directory of no file system's in particular stays without `schemata`: the write fails."""
    (root / "info/last_cmd_status").write_text("Mask 7f1 has non-consecutive 1-bits\n")
    for wanted in (rdt(l3_cache_schema="L3:0=7f1"), rdt(l3_cache_schema="L3:0=7f1", clos_id="silver")):
        group = Group.of(str(root), "box", wanted)
        with pytest.raises(KernelError) as caught:
            group.make(wanted)
        assert caught.value.errno == errno.ENOENT
        assert caught.value.detail == "L3:0=7f1; Mask 7f1 has non-consecutive 1-bits"
        assert (root / (wanted.clos_id or "box")).is_dir()
        group.undo()
        assert not (root / (wanted.clos_id or "box")).exists()


def test_undoing_spares_a_class_that_others_have_entered(root: Path) -> None:
    wanted = rdt(l3_cache_schema="L3:0=1", clos_id="silver")
    group = Group.of(str(root), "box", wanted)
    with pytest.raises(KernelError):
        group.make(wanted)
    write(root / "silver", {"tasks": "4242\n"})
    group.undo()
    assert (root / "silver/tasks").exists()


def test_what_the_machine_does_not_share_out(tmp_path: Path) -> None:
    for wanted, text in (
        (
            rdt(l3_cache_schema="L3:0=f"),
            "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled",
        ),
        (rdt(mem_bw_schema="MB:0=9"), "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled"),
    ):
        with pytest.raises(FailedPrecondition, match=text):
            resctrl.check(str(tmp_path), wanted)
    resctrl.check(str(tmp_path), rdt(schemata=("L2:0=f",)))


def test_statistics(root: Path) -> None:
    group = Group.of(str(root), "box", rdt(clos_id="gold"))
    assert group.stats() == {
        "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fffff;1=fffff",
        "l3_cache_schema": "L3:0=007f0;1=0001f",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0=20;1=70",
        "schemata": ["MB:0=20;1=70", "L3:0=007f0;1=0001f"],
        "cmt_stats": [{"llc_occupancy": 10}, {"llc_occupancy": 12}],
        "mbm_stats": [{"mbm_local_bytes": 11}, {"mbm_total_bytes": 13, "mbm_local_bytes": 14}],
    }
    write(root / "gold/mon_groups/box", monitored(100))
    monitor = Group.of(str(root), "box", rdt(clos_id="gold", enable_monitoring=True))
    assert monitor.stats()["cmt_stats"] == [{"llc_occupancy": 100}, {"llc_occupancy": 102}]


def test_statistics_of_a_machine_that_has_less(root: Path) -> None:
    for resource in ("L3", "MB", "L3_MON"):
        (root / "info" / resource).rename(root / f"no-{resource}")
    # SMBA is AMD's bandwidth of slow memory, not "MB".
    (root / "gold/schemata").write_text("  SMBA:0=2048\n")
    assert Group.of(str(root), "box", rdt(clos_id="gold")).stats() == {"schemata": ["SMBA:0=2048"]}


@pytest.fixture
def container(root: Path, tmp_path: Path) -> Container:
    """One whose process is this one, without a cgroup, in the class "gold"."""
    import os

    from masu.linux import procfs

    pid = os.getpid()
    facts = Facts(
        id="box", bundle="/b", rootfs="/b/rootfs", created="", oci_version="1.3.0", annotations={}, owner_uid=0,
        creator=(pid, procfs.start_time(pid)), pid=pid, start_time=procfs.start_time(pid),
        resctrl=Group.of(str(root), "box", rdt(clos_id="gold", enable_monitoring=True)).paths(),
    )  # fmt: skip
    made = Container.make(str(tmp_path / "state"), facts)
    made.save_config({"ociVersion": "1.3.0", "linux": {"intelRdt": {"closID": "gold", "memBwSchema": "MB:0=20"}}})
    return made


def test_an_update_is_written_and_kept(root: Path, container: Container) -> None:
    update(container, {}, rdt={"l3CacheSchema": "L3:0=f"})
    assert (root / "gold/schemata").read_text() == "L3:0=f\n"
    linux = container.config_json()["linux"]
    assert isinstance(linux, dict)
    assert linux["intelRdt"] == {"closID": "gold", "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f"}


def test_after_a_refused_update_the_shares_are_what_they_were(root: Path, container: Container) -> None:
    # There is no cgroup to be limited.
    with pytest.raises(MasuError, match="pids") as caught:
        update(container, {"pids": {"limit": 5}}, rdt={"memBwSchema": "MB:0=90"})
    assert not caught.value.cleanup
    assert (root / "gold/schemata").read_text() == "MB:0=20;1=70\n"
    assert "90" not in jsontext.dumps(container.config_json())


def test_an_update_that_could_not_be_read_again(root: Path, container: Container) -> None:
    for line, text in (("L3:0=f", 'must start with "MB:"'), ("MB:0=1\nL3:0=f", "contains a line break")):
        with pytest.raises(InvalidArgument, match=text) as caught:
            update(container, {}, rdt={"memBwSchema": line})
        assert caught.value.where == "linux.intelRdt.memBwSchema"
    assert (root / "gold/schemata").read_text() == CLASS


def test_an_update_of_what_was_never_asked_for(container: Container) -> None:
    container.facts.resctrl = {}
    container.save()
    with pytest.raises(FailedPrecondition, match="updating a non-existent Intel RDT configuration is not supported"):
        update(container, {}, rdt={"l3CacheSchema": "L3:0=f"})


def test_whoever_comes_later_finds_the_groups(root: Path, container: Container) -> None:
    container.save()
    found = Container.open(container.directory.rpartition("/")[0], "box")
    # The MON group has not been made: an exec goes where there is a place.
    assert resctrl_ways_in(found) == (f"{root}/gold/tasks",)
    (root / "gold/mon_groups/box").mkdir()
    assert found.resctrl is not None
    found.remove_groups()
    assert not (root / "gold/mon_groups/box").exists()
    assert (root / "gold/tasks").exists()


def test_the_plan_joins_them() -> None:
    from masu.plan import build
    from masu.plan.host import Host, Rootfs, Wishes
    from masu.spec import runtime as spec

    config = spec.parse_config(
        {"ociVersion": "1.3.0", "process": {"args": ["x"], "cwd": "/"}, "root": {"path": "r"}}, []
    )
    wishes = Wishes(join_files=("/cgroup/tasks",), resctrl_files=("/resctrl/gold/tasks",))
    ops = build.build(config, Rootfs("/r"), Host(cgroup_mode="v1"), wishes)
    writes = [op for op in ops if op.name == "write"]
    assert [(op.where, op.fields["path"], op.fields["data"]) for op in writes] == [
        ("linux.cgroupsPath", "/cgroup/tasks", b"0"),
        ("linux.intelRdt", "/resctrl/gold/tasks", b"0"),
    ]
    assert all(isinstance(op, Op) for op in ops)
