"""update: limits of a container that runs, by flags, by file and by standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness.cgroupfiles import unified, value
from harness.oci import Runtime, wait_exited

pytestmark = pytest.mark.root

MIB = 1 << 20
LIMITS = {
    "memory": {"limit": 32 * MIB, "reservation": 24 * MIB},
    "cpu": {"shares": 100, "quota": 500000, "period": 1000000},
    "pids": {"limit": 20},
}


def limited(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]
    config["linux"]["resources"] = json.loads(json.dumps(LIMITS))


class Limits:
    """What the cgroup of a container's first process says, in the words of config.json."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def memory(self) -> int:
        return self._bytes("memory.limit_in_bytes", "memory.max")

    def reservation(self) -> int:
        return self._bytes("memory.soft_limit_in_bytes", "memory.low")

    def cpu(self) -> tuple[int, int]:
        """(quota, period); -1 is no quota."""
        if unified():
            quota, period = value(self.pid, "cpu.max").split()
            return (-1 if quota == "max" else int(quota)), int(period)
        return int(value(self.pid, "cpu.cfs_quota_us")), int(value(self.pid, "cpu.cfs_period_us"))

    def pids(self) -> str:
        return value(self.pid, "pids.max")

    def _bytes(self, v1: str, v2: str) -> int:
        text = value(self.pid, v1, v2)
        # "No limit" is the largest number of whole pages on v1.
        return -1 if text == "max" or int(text) > 1 << 60 else int(text)


def started(runtime: Runtime, rootfs: Path) -> tuple[str, Limits]:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, limited)), id)
    return id, Limits(runtime.state(id)["pid"])


def test_flags(runtime: Runtime, probe_rootfs: Path) -> None:
    id, limits = started(runtime, probe_rootfs)
    assert (limits.memory(), limits.reservation()) == (32 * MIB, 24 * MIB)
    assert (limits.cpu(), limits.pids()) == ((500000, 1000000), "20")
    runtime("update", id, "--memory", "50M")
    assert limits.memory() == 50 * MIB
    runtime("update", "--memory-reservation", str(32 * MIB), id)
    assert limits.reservation() == 32 * MIB
    runtime("update", id, "--cpuset-cpus", "0")
    assert value(limits.pid, "cpuset.cpus") == "0"
    runtime("update", id, "--cpu-period", "900000")
    assert limits.cpu() == (500000, 900000)
    runtime("update", id, "--cpu-quota=600000")
    assert limits.cpu() == (600000, 900000)
    runtime("update", id, "--cpu-quota", "-1")
    assert limits.cpu() == (-1, 900000)
    runtime("update", id, "--pids-limit", "10")
    assert limits.pids() == "10"
    runtime("update", id, "--pids-limit", "-1")
    assert limits.pids() == "max"
    runtime("update", id, "--memory", "-1")
    assert limits.memory() == -1
    cpu = ["--cpu-period", "90000", "--cpu-quota", "60000", "--cpu-share", "200"]
    runtime("update", *cpu, "--memory", "64M", "--pids-limit", "9", id)
    assert (limits.memory(), limits.cpu(), limits.pids()) == (64 * MIB, (60000, 90000), "9")
    if not unified():
        assert value(limits.pid, "cpu.shares") == "200"


@pytest.mark.parametrize("source", ["-", "file"])
def test_resources(runtime: Runtime, probe_rootfs: Path, source: str) -> None:
    id, limits = started(runtime, probe_rootfs)
    wanted = {
        # Callers in Go fill in what they do not mean.
        "memory": {"limit": 48 * MIB, "reservation": 0, "swap": 0},
        "cpu": {"shares": 0, "quota": 70000, "period": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0},
        "pids": {"limit": 7},
    }
    file = runtime.folder / "resources.json"
    file.write_text(json.dumps(wanted))
    with file.open() as stdin:
        runtime("update", "-r", str(file) if source == "file" else "-", "--pids-limit", "3", id, stdin=stdin)
    assert (limits.memory(), limits.reservation()) == (48 * MIB, 24 * MIB)
    assert limits.cpu() == (70000, 1000000)
    assert limits.pids() == "7"


def test_a_refused_change_leaves_every_limit_as_it_was(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id, limits = started(masu_oci, probe_rootfs)
    config = masu_oci.root / id / "config.json"
    before = config.read_text()
    refused = masu_oci("update", id, "--pids-limit", "5", "--memory", "40M", "--cpuset-cpus", "999", check=False)
    assert refused.returncode == 1
    assert "--cpuset-cpus" in refused.stderr
    assert (limits.memory(), limits.pids()) == (32 * MIB, "20")
    # Refused after others have been written.
    refused = masu_oci("update", id, "--cpu-share", "700", "--cpu-quota", "300000", "--memory", "4096", check=False)
    if refused.returncode == 1:
        assert "--memory" in refused.stderr
        assert limits.cpu() == (500000, 1000000)
    assert (config.read_text() == before) == (refused.returncode == 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cpu-period", "fast"], "invalid value for cpu-period"),
        (["--cpu-share", "-1"], "invalid value for cpu-share"),
        (["--memory", "12zz"], "invalid value for memory"),
        (["--memory", "32M", "--memory-swap", "16M"], "memory+swap limit should be >= memory limit"),
        (["--l3-cache-schema", "L3:0=f"], "Intel RDT/CAT: l3 cache schema is not enabled"),
        (["--mem-bw-schema", "MB:0=50"], "Intel RDT/MBA: memory bandwidth schema is not enabled"),
        (["-r", "/nonexistent"], "/nonexistent"),
    ],
)
def test_misuse(masu_oci: Runtime, probe_rootfs: Path, arguments: list[str], text: str) -> None:
    id, limits = started(masu_oci, probe_rootfs)
    refused = masu_oci("update", *arguments, id, check=False)
    assert refused.returncode == 1
    assert text in refused.stderr
    assert (limits.memory(), limits.cpu()) == (32 * MIB, (500000, 1000000))


def test_the_place_in_the_users_json(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id, _ = started(masu_oci, probe_rootfs)
    file = masu_oci.folder / "resources.json"
    file.write_text('{"memory": {"limit": "much"}}')
    assert "resources.memory.limit" in masu_oci("update", "-r", str(file), id, check=False).stderr
    file.write_text('{"memory": {"limit": 5')
    assert str(file) in masu_oci("update", "-r", str(file), id, check=False).stderr
    file.write_text("[]")
    assert "a JSON object is wanted" in masu_oci("update", "-r", str(file), id, check=False).stderr


def test_a_created_a_paused_and_a_stopped_container(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    runtime("create", "--bundle", str(runtime.bundle(probe_rootfs, limited)), id)
    pid = runtime.state(id)["pid"]
    runtime("update", id, "--pids-limit", "11")
    assert Limits(pid).pids() == "11"
    runtime("start", id)
    runtime("pause", id)
    runtime("update", id, "--pids-limit", "12")
    assert Limits(pid).pids() == "12"
    assert runtime.state(id)["status"] == "paused"
    runtime("resume", id)
    runtime("kill", id, "KILL")
    wait_exited(pid)
    refused = runtime("update", id, "--pids-limit", "13", check=False)
    assert refused.returncode == 1
    assert "container not running" in refused.stderr


def test_obsolete_flags(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id, _ = started(masu_oci, probe_rootfs)
    done = masu_oci("update", id, "--kernel-memory", "5M")
    assert "Kernel memory settings are ignored and will be removed" in done.stderr


def test_devices_are_left_alone(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id, limits = started(masu_oci, probe_rootfs)
    before = None if unified() else value(limits.pid, "devices.list")
    file = masu_oci.folder / "resources.json"
    file.write_text(json.dumps({"devices": [{"allow": True, "access": "rwm"}], "pids": {"limit": 6}}))
    masu_oci("update", "-r", str(file), id)
    assert limits.pids() == "6"
    assert before is None or value(limits.pid, "devices.list") == before
