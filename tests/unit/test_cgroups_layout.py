"""Finding the hierarchies: /proc/self/mountinfo and /proc/self/cgroup as they look on real machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from masu.errors import DataLoss, FailedPrecondition
from masu.linux.cgroups.layout import Layout, Mount, detect, from_mountinfo, parse_proc_cgroup

HYBRID_CGROUP = """\
12:name=systemd:/user.slice/session-1.scope
4:cpu,cpuacct:/user.slice
3:memory:/user.slice/user-0.slice
2:devices:/
0::/user.slice/session-1.scope
"""
HYBRID_MOUNTS = """\
23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
33 31 0:30 / /sys/fs/cgroup/systemd rw,nosuid shared:6 - cgroup cgroup rw,xattr,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:7 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:8 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,nosuid shared:9 - cgroup cgroup rw,devices
99 23 0:32 / /mnt/other\\040place rw - cgroup cgroup rw,memory
"""


def test_hybrid() -> None:
    layout = from_mountinfo(HYBRID_MOUNTS, parse_proc_cgroup(HYBRID_CGROUP))
    assert layout.mode == "hybrid"
    assert layout.unified == Mount("/sys/fs/cgroup/unified")
    # Controllers mounted together share one mount, and of several mounts the first counts.
    assert layout.mounts["cpu"] is layout.mounts["cpuacct"]
    assert layout.mounts["memory"] == Mount("/sys/fs/cgroup/memory")
    assert layout.own_directory("memory") == "/sys/fs/cgroup/memory/user.slice/user-0.slice"
    assert layout.own_directory("devices") == "/sys/fs/cgroup/devices"
    assert layout.own_directory("") == "/sys/fs/cgroup/unified/user.slice/session-1.scope"
    assert layout.own_directory("hugetlb") == ""
    assert set(layout.hierarchies()) == {"memory", "devices", "cpu", "cpuacct", "name=systemd", ""}


def test_v2() -> None:
    text = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    layout = from_mountinfo(text, parse_proc_cgroup("0::/system.slice/ssh.service\n"))
    assert (layout.mode, layout.unified, layout.mounts) == ("v2", Mount("/sys/fs/cgroup"), {})
    assert layout.own_directory("") == "/sys/fs/cgroup/system.slice/ssh.service"


def test_inside_a_container_without_cgroup_namespace() -> None:
    # docker on v1: the container's own part of each hierarchy, bind-mounted; paths count from the host's top.
    own = parse_proc_cgroup("3:memory:/docker/abc\n2:devices:/docker/abc/inner\n1:pids:/elsewhere\n")
    text = (
        "40 39 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "41 39 0:33 /docker/abc /sys/fs/cgroup/devices ro - cgroup cgroup rw,devices\n"
        "42 39 0:34 /docker/abc /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n"
    )
    layout = from_mountinfo(text, own)
    assert layout.own_directory("memory") == "/sys/fs/cgroup/memory"
    assert layout.own_directory("devices") == "/sys/fs/cgroup/devices/inner"
    assert layout.own_directory("pids") == ""  # out of sight


def test_a_mount_that_shows_us_is_preferred() -> None:
    own = parse_proc_cgroup("3:memory:/docker/abc\n")
    text = (
        "40 39 0:32 /docker/other /a rw - cgroup cgroup rw,memory\n"
        "41 39 0:32 /docker/abc /b rw - cgroup cgroup rw,memory\n"
        "42 39 0:32 / /c rw - cgroup cgroup rw,memory\n"
    )
    assert from_mountinfo(text, own).mounts["memory"] == Mount("/b", "/docker/abc")


def test_outside_of_our_cgroup_namespace() -> None:
    layout = Layout("v2", {}, Mount("/sys/fs/cgroup"), {"": "/../other"})
    assert layout.own_directory("") == ""


def test_nothing_mounted() -> None:
    assert from_mountinfo("23 1 8:1 / / rw - ext4 /dev/sda1 rw\n", {"": "/"}).mode == "none"


def test_detect_reads_mountinfo_where_the_usual_place_is_empty(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text(HYBRID_CGROUP)
    (tmp_path / "mountinfo").write_text(HYBRID_MOUNTS)
    layout = detect(root=str(tmp_path / "nothing"), proc=str(tmp_path))
    assert layout.mode == "hybrid"


def test_detect_is_not_fooled_by_directories_that_are_no_hierarchy(tmp_path: Path) -> None:
    # Right names, but not the top of a kernfs.
    for name in ("memory", "devices", "cpu", "cpuacct", "systemd"):
        (tmp_path / "cg" / name).mkdir(parents=True)
        (tmp_path / "cg" / name / "cgroup.procs").touch()
    (tmp_path / "cgroup").write_text(HYBRID_CGROUP)
    (tmp_path / "mountinfo").write_text("")
    (tmp_path / "ns").symlink_to("/proc/self/ns")
    assert detect(root=str(tmp_path / "cg"), proc=str(tmp_path)).mode == "none"


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="is /proc mounted"):
        detect(root=str(tmp_path), proc=str(tmp_path))
    (tmp_path / "cgroup").write_text("nonsense\n")
    with pytest.raises(DataLoss, match="nonsense"):
        detect(root=str(tmp_path), proc=str(tmp_path))


def test_paths_with_colons() -> None:
    assert parse_proc_cgroup("0::/a:b:c\n") == {"": "/a:b:c"}
