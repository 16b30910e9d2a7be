"""Callers that are told to use systemd for cgroups, and so call masu-oci --systemd-cgroup: tests/vm/test_guest.py runs
these in a guest. What each container is to systemd is asked of systemctl."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.callers import Premises
from harness.callers.archives import archive
from harness.callers.containerd import IMAGE, Containerd, Shims
from harness.callers.cri import NODE, Cri, Message
from harness.callers.docker import Docker
from harness.callers.podman import Podman
from harness.engine import wait_until
from harness.masud import Masud
from harness.programs import peer
from harness.units import loaded, show

MIB = 1 << 20
BUSYBOX = "docker.io/library/busybox"  # a short name would be written down in /var/cache

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="systemd is not PID 1"),
]


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[Premises]:
    with Premises(tmp_path, systemd=True) as it:
        yield it


def expect(unit: str, slice: str, memory_mib: int, tasks: int) -> None:
    found = show(unit, "ActiveState", "Slice", "MemoryMax", "TasksMax", "Delegate")
    assert found == {
        "ActiveState": "active", "Slice": slice, "MemoryMax": str(memory_mib * MIB), "TasksMax": str(tasks),
        "Delegate": "yes",
    }  # fmt: skip


LIMIT = ["cat", "/sys/fs/cgroup/memory.max"]


def test_docker(premises: Premises) -> None:
    Docker.skip_unless_installed()
    with Docker(premises) as it:
        assert it("info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}}") == "systemd 2\n"
        limits = ["--memory", "64m", "--pids-limit", "50", "--network", "none"]
        id = it("run", "-d", "--runtime=masu", *limits, "--name", "box", "busybox", "sleep", "999").strip()
        unit = f"docker-{id}.scope"
        expect(unit, premises.cgroup, 64, 50)
        it("update", "--memory", "96m", "--memory-swap", "96m", "--pids-limit", "60", "box")
        expect(unit, premises.cgroup, 96, 60)
        assert it("exec", "box", *LIMIT) == f"{96 * MIB}\n"
        it("rm", "-f", "box")
        assert not loaded(unit)


def test_podman(premises: Premises) -> None:
    Podman.skip_unless_installed()
    with Podman(premises) as it:
        it(*it.own("run", "-d", "--memory", "64m", "--pids-limit", "50", "--name", "box"), BUSYBOX, "sleep", "999")
        id = it("inspect", "--format", "{{.Id}}", "box").strip()
        unit = f"libpod-{id}.scope"
        expect(unit, premises.cgroup, 64, 50)
        it("update", "--memory", "96m", "box")
        expect(unit, premises.cgroup, 96, 50)
        assert it("exec", "box", *LIMIT) == f"{96 * MIB}\n"
        it("rm", "-f", "-t", "0", "box")
        assert not loaded(unit)


@pytest.mark.parametrize("handler", ["", "masu-shim"])
def test_pod_of_kubernetes(premises: Premises, handler: str) -> None:
    """With containerd's shim, and with ours."""
    Containerd.skip_unless_installed()
    with (Shims if handler else Containerd)(premises) as it:
        for name in ("busybox", "redis"):
            it.load(name, "k8s.io")
        cri = Cri(it.socket)
        logs = premises.folder / "logs"
        logs.mkdir()
        # metadata; log directory; cgroup_parent, the security context's namespaces: network
        pod: Message = {1: {1: "pea", 2: "uid", 3: "default"}, 3: str(logs), 8: {1: premises.cgroup, 2: {1: {1: NODE}}}}
        sandbox = cri.id_of("RunPodSandbox", {1: pod, 2: handler})
        config: Message = {
            1: {1: "one"}, 2: {1: IMAGE}, 3: ["sh", "-c", "echo up; exec sleep 999"], 11: "one.log",
            15: {1: {4: 64 * MIB}, 2: {3: {1: NODE}}},
        }  # fmt: skip
        one = cri.id_of("CreateContainer", {1: sandbox, 2: config, 3: pod})
        cri("StartContainer", {1: one})
        wait_until(lambda: "stdout F up" in (logs / "one.log").read_text())
        units = [f"cri-containerd-{id}.scope" for id in (sandbox, one)]
        assert [show(unit, "Slice", "ActiveState") for unit in units] == [
            {"Slice": premises.cgroup, "ActiveState": "active"}
        ] * 2
        assert show(units[1], "MemoryMax")["MemoryMax"] == str(64 * MIB)
        cri("UpdateContainerResources", {1: one, 2: {4: 96 * MIB}})
        assert show(units[1], "MemoryMax")["MemoryMax"] == str(96 * MIB)
        assert cri.execute(one, *LIMIT) == (0, f"{96 * MIB}\n", "")
        cri("StopPodSandbox", {1: sandbox})
        cri("RemovePodSandbox", {1: sandbox})
        assert not any(loaded(unit) for unit in units)


def systemd_life(ctr: Callable[..., str], slice: str, options: list[str]) -> None:
    """By a ctr: a container whose cgroup is a scope, through its life, once more with runc as the runtime."""
    for binary in ("", peer("runc")):
        words = ["run", "--detach", *options, "--runc-systemd-cgroup", "--cgroup", f"{slice}:ctr:box"]
        words += ["--runc-binary", binary] if binary else []
        ctr(*words, "--memory-limit", str(64 * MIB), IMAGE, "box", "sleep", "999")
        try:
            assert show("ctr-box.scope", "ActiveState", "Slice", "MemoryMax") == {
                "ActiveState": "active", "Slice": slice, "MemoryMax": str(64 * MIB),
            }  # fmt: skip
            exec_ = ["tasks", "exec", "--exec-id", "where", *EXEC]
            assert ctr(*exec_, "box", "cat", "/proc/self/cgroup") == f"0::/{slice}/ctr-box.scope\n"
            assert "memory.usage" in ctr("tasks", "metrics", "box")
            ctr("tasks", "pause", "box")
            assert "PAUSED" in ctr("tasks", "ls")
            ctr("tasks", "resume", "box")
            ctr("tasks", "kill", "-s", "KILL", "box")
            wait_until(lambda: "STOPPED" in ctr("tasks", "ls"))
        finally:
            ctr("tasks", "rm", "-f", "box")
            ctr("containers", "rm", "box")
        assert not loaded("ctr-box.scope")


EXEC = ["--fifo-dir", "/run/guest/fifos"]


def test_shim(premises: Premises) -> None:
    Shims.skip_unless_installed()
    with Shims(premises) as it:
        systemd_life(it, premises.cgroup, [])


def test_masud(premises: Premises, tmp_path: Path) -> None:
    (tmp_path / "masud").mkdir()
    it = Masud(tmp_path / "masud", environment={"CONTAINERD_SNAPSHOTTER": "native"})
    it.start()
    try:
        it("images", "import", "--base-name", "docker.io/library/busybox", str(archive("busybox", tmp_path)))
        systemd_life(it, premises.cgroup, EXEC)
    finally:
        it.stop()
