"""Pods: as containerd's CRI makes them, and the sandbox service, which it may ask instead."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.callers.containerd import IMAGE, Shims
from harness.callers.cri import NODE, OWN, Cri, Message, Refused, decode
from harness.engine import wait_until
from harness.programs import ROOT, peer

from masu.api.proto import small
from masu.api.shim.sandbox import SERVICE
from masu.api.ttrpc.client import Client
from masu.errors import AlreadyExists, NotFound

pytestmark = pytest.mark.root

PROGRAM = str(ROOT / "containerd-shim-masu-v2")


@pytest.fixture(scope="module")
def cri(shims: Shims) -> Cri:
    for name in ("busybox", "redis"):
        shims.load(name, "k8s.io")
    return Cri(shims.socket)


def test_pod_of_kubernetes(shims: Shims, cri: Cri) -> None:
    """As a kubelet does it: a sandbox, containers that join it, exec, update; one shim carries them all."""
    logs = shims.premises.folder / "logs"
    logs.mkdir()
    linux: Message = {1: f"/{shims.premises.cgroup}/pod", 2: {1: {1: NODE}}}  # cgroup_parent, security_context
    pod: Message = {1: {1: "pea", 2: "uid", 3: "default"}, 3: str(logs), 8: linux}  # metadata, log directory
    sandbox = cri.id_of("RunPodSandbox", {1: pod, 2: "masu-shim"})
    script = "trap 'exit 6' TERM; echo up; : > /dev/shm/file; while :; do sleep 0.1; done"
    config: Message = {
        1: {1: "one"}, 2: {1: IMAGE}, 3: ["sh", "-c", script], 6: [{1: "A", 2: "b c"}], 11: "one.log",
        # resources: period, quota, memory; namespaces: network, processes
        15: {1: {1: 100000, 2: 50000, 4: 64 << 20}, 2: {3: {1: NODE, 2: OWN}}},
    }  # fmt: skip
    one = cri.id_of("CreateContainer", {1: sandbox, 2: config, 3: pod})
    cri("StartContainer", {1: one})
    wait_until(lambda: "stdout F up" in (logs / "one.log").read_text())
    states = shims.premises.path("/run/containerd/masu/k8s.io")
    assert set(os.listdir(states)) == {sandbox, one}
    assert len(shims.shims()) == 1
    assert cri.execute(one, "sh", "-c", "echo $A; exit 3") == (3, "b c\n", "")
    with pytest.raises(Refused, match="no such file or directory"):
        cri.execute(one, "/nothing")
    assert cri.execute(one, "cat", "/proc/1/comm")[1] == "sh\n"
    # Another container shares its memory, and the sandbox's processes.
    shares: Message = config | {1: {1: "two"}, 11: "two.log", 15: {2: {3: {1: NODE}}}}
    other = cri.id_of("CreateContainer", {1: sandbox, 2: shares, 3: pod})
    cri("StartContainer", {1: other})
    assert cri.execute(other, "ls", "/dev/shm") == (0, "file\n", "")
    assert cri.execute(other, "cat", "/proc/1/comm")[1] == "redis-server\n"
    limit = ["sh", "-c", "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2> /dev/null || cat memory.max"]
    assert cri.execute(one, *limit)[1] == f"{64 << 20}\n"
    cri("UpdateContainerResources", {1: one, 2: {4: 96 << 20}})
    assert cri.execute(one, *limit)[1] == f"{96 << 20}\n"
    cri("StopContainer", {1: one, 2: 10})
    (status,) = cri("ContainerStatus", {1: one})[1]
    assert isinstance(status, bytes)
    assert decode(status)[7] == [6]  # exit_code
    cri("RemoveContainer", {1: one})
    cri("StopPodSandbox", {1: sandbox})
    cri("RemovePodSandbox", {1: sandbox})
    assert os.listdir(states) == []
    wait_until(lambda: shims.shims() == [])


@pytest.fixture
def bundle(shims: Shims) -> Iterator[Path]:
    """A bundle as containerd makes one for a sandbox of CRI: empty."""
    folder = shims.premises.folder / "sb"
    folder.mkdir()
    yield folder
    shims.premises.run(["umount", "-l", folder / "rootfs"], check=False)
    subprocess.run(["rm", "-r", folder], check=True)


def start(shims: Shims, bundle: Path) -> Client:
    """As containerd 2.3 and newer start a shim: by one message on standard input, answered by one."""
    sockets = str(shims.premises.folder / "s")
    params = small.BootstrapParams(instance_id="sb", namespace="ns", socket_dir=sockets)
    done = subprocess.run(
        [*shims.premises.prefix, "sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", bundle, PROGRAM, "-namespace", "ns",
         "-id", "sb", "start"],
        input=params.encode(),
        capture_output=True,
        env=shims.premises.environment,
        check=True,
    )  # fmt: skip
    result = small.BootstrapResult.decode(done.stdout)
    assert (result.version, result.protocol) == (3, "ttrpc")
    assert result.address.startswith(f"unix://{sockets}/")
    return Client(result.address)


def test_sandbox(shims: Shims, bundle: Path) -> None:
    """All nine calls, in their usual order; containers find its namespaces by the pid that it tells."""
    pod = small.PodSandboxConfig(
        hostname="pea", linux=small.LinuxPodSandboxConfig(cgroup_parent=f"/{shims.premises.cgroup}/pods")
    )
    options = small.Any(type_url="runtime.v1.PodSandboxConfig", value=pod.encode())
    create = small.CreateSandboxRequest(sandbox_id="sb", bundle_path=str(bundle), options=options)
    ask_status = small.SandboxStatusRequest(sandbox_id="sb", verbose=True)
    with start(shims, bundle) as client:
        client.call(SERVICE, "CreateSandbox", create, small.CreateSandboxResponse)
        with pytest.raises(AlreadyExists, match="sandbox sb"):
            client.call(SERVICE, "CreateSandbox", create, small.CreateSandboxResponse)
        ask = small.StartSandboxRequest(sandbox_id="sb")
        pid = client.call(SERVICE, "StartSandbox", ask, small.StartSandboxResponse).pid
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"/pause\0"
        enter = [peer("nsenter"), f"--target={pid}", "--uts", "hostname"]
        assert subprocess.run(enter, capture_output=True, text=True, check=True).stdout == "pea\n"
        assert f"{shims.premises.cgroup}/pods/sb" in Path(f"/proc/{pid}/cgroup").read_text()
        status = client.call(SERVICE, "SandboxStatus", ask_status, small.SandboxStatusResponse)
        assert (status.state, status.pid, status.info["bundle"]) == ("SANDBOX_READY", pid, str(bundle))
        platform = client.call(
            SERVICE, "Platform", small.PlatformRequest(sandbox_id="sb"), small.PlatformResponse
        ).platform
        assert platform is not None
        assert platform.os == "linux"
        client.call(SERVICE, "PingSandbox", small.PingRequest(sandbox_id="sb"), small.PingResponse)
        metrics = client.call(
            SERVICE, "SandboxMetrics", small.SandboxMetricsRequest(sandbox_id="sb"), small.SandboxMetricsResponse
        ).metrics
        assert metrics is not None
        assert metrics.data is not None
        assert metrics.data.type_url.startswith("io.containerd.cgroups.v")
        with ThreadPoolExecutor(1) as pool, Client(client.address) as other:
            ask_wait = small.WaitSandboxRequest(sandbox_id="sb")
            waits = pool.submit(other.call, SERVICE, "WaitSandbox", ask_wait, small.WaitSandboxResponse)
            client.call(SERVICE, "StopSandbox", small.StopSandboxRequest(sandbox_id="sb"), small.StopSandboxResponse)
            assert waits.result(20).exit_status == 137
        status = client.call(SERVICE, "SandboxStatus", ask_status, small.SandboxStatusResponse)
        assert status.state == "SANDBOX_NOTREADY"
        end = small.ShutdownSandboxRequest(sandbox_id="sb")
        client.call(SERVICE, "ShutdownSandbox", end, small.ShutdownSandboxResponse)
    wait_until(lambda: shims.shims() == [])


def test_sandbox_that_is_none(shims: Shims, bundle: Path) -> None:
    with start(shims, bundle) as client, pytest.raises(NotFound, match="sandbox sb"):
        client.call(SERVICE, "PingSandbox", small.PingRequest(sandbox_id="sb"), small.PingResponse)
    for pid in shims.shims():  # it waits for what `start` has announced
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: shims.shims() == [])
