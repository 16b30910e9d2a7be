"""--systemd-cgroup where systemd has its controllers on cgroup v1: tests/vm/test_guest.py runs these in a guest.

Not on runc: Debian's leaves a container in system.slice's own cgroup in one hierarchy, and a daemon-reload takes
devices from it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.oci import Runtime, wait_exited
from harness.units import launch, loaded, show, sleeping

MIB = 1 << 20
CGROUPS = Path("/sys/fs/cgroup")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="systemd is not PID 1"),
    pytest.mark.skipif((CGROUPS / "cgroup.procs").exists(), reason="cgroup v2: test_oci_systemd.py"),
]


@pytest.fixture
def masu_oci(tmp_path: Path) -> Iterator[Runtime]:
    it = Runtime("masu-oci", tmp_path)
    it.command.append("--systemd-cgroup")
    yield it
    it.close()


def test_the_whole_life(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id = masu_oci.id()
    resources = {"memory": {"limit": 64 * MIB}, "cpu": {"shares": 512, "quota": 20000}, "pids": {"limit": 20}}
    launch(masu_oci, id, sleeping(resources=resources), probe_rootfs)
    unit = f"runc-{id}.scope"
    pid = masu_oci.state(id)["pid"]
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    # In every hierarchy, also in those that systemd does not care for.
    assert {line.partition(":/")[2] for line in lines} == {f"system.slice/{unit}"}
    assert len(lines) > 8
    wanted = {"CPUShares": "512", "MemoryLimit": str(64 * MIB), "TasksMax": "20", "CPUQuotaPerSecUSec": "200ms"}
    assert show(unit, *wanted) == wanted

    def limits() -> list[str]:
        files = "memory/{}/memory.limit_in_bytes", "pids/{}/pids.max", "cpu/{}/cpu.shares", "cpu/{}/cpu.cfs_quota_us"
        return [(CGROUPS / file.format(f"system.slice/{unit}")).read_text().strip() for file in files]

    assert limits() == [str(64 * MIB), "20", "512", "20000"]
    masu_oci("update", "--memory", str(48 * MIB), "--pids-limit", "30", id)
    assert show(unit, "MemoryLimit", "TasksMax") == {"MemoryLimit": str(48 * MIB), "TasksMax": "30"}
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert limits() == [str(48 * MIB), "30", "512", "20000"]
    inside = masu_oci("exec", id, "/bin/probe", "cat", "/proc/self/cgroup").stdout.strip()
    assert {line.partition(":/")[2] for line in inside.splitlines()} == {""}
    masu_oci("kill", id, "KILL")
    wait_exited(pid)
    masu_oci("delete", id)
    assert not loaded(unit)
    assert not list(CGROUPS.glob(f"*/system.slice/{unit}"))


def test_devices_are_never_gone(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """systemd forbids all and allows some again when it sets a limit: the container is frozen meanwhile."""
    id = masu_oci.id()
    devices = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]
    launch(masu_oci, id, sleeping(resources={"devices": devices}), probe_rootfs)
    listed = CGROUPS / f"devices/system.slice/runc-{id}.scope/devices.list"
    before = sorted(listed.read_text().splitlines())
    assert {"c 1:11 r", "c 1:3 rwm"} <= set(before)
    masu_oci("update", "--pids-limit", "30", id)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert sorted(listed.read_text().splitlines()) == before
    assert masu_oci.state(id)["status"] == "running"
