"""containerd with masu-oci behind its runc shim: Debian's containerd and ctr, unpatched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.callers import check_shell, document
from harness.callers.containerd import IMAGE, Containerd
from harness.callers.cri import NODE, OWN, Cri, Message, Refused, decode
from harness.engine import wait_until
from harness.programs import MASU_OCI, peer

pytestmark = pytest.mark.root


@pytest.fixture
def box(containerd: Containerd) -> Iterator[str]:
    """A container that runs for as long as the test."""
    containerd(*containerd.own("box", "--detach"), "sleep", "999")
    yield "box"
    containerd("tasks", "rm", "-f", "box")
    containerd("containers", "rm", "box")


def test_what_the_document_says(containerd: Containerd) -> None:
    (words,) = document.commands("containerd")
    at = words.index("run") + 1
    own = ["--cgroup", f"/{containerd.premises.cgroup}/document"]
    assert containerd(*words[1:at], *own, *words[at:]) == "uid=0(root) gid=0(root) groups=0(root)\n"


def test_configuration_of_the_document(containerd: Containerd) -> None:
    """The daemon takes it: the CRI plugin is up, and masu is the runtime it uses."""
    plugins = containerd("plugins", "ls")
    assert re.search(r"^io\.containerd\.grpc\.v1\s+cri\s+\S+\s+ok", plugins, re.MULTILINE), plugins
    config = str(containerd.premises.folder / "config.toml")
    dump = tomllib.loads(containerd.premises.run(["containerd", "--config", config, "config", "dump"]).stdout)
    cri = dump["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]
    assert cri["runtimes"][cri["default_runtime_name"]]["options"]["BinaryName"] == MASU_OCI


def test_the_runtime_is_ours(containerd: Containerd, box: str) -> None:
    assert containerd.runtime_states() == [box]
    state = containerd.state(box)
    assert state["status"] == "running"
    assert str(state["pid"]) in containerd("tasks", "ps", box)


# (options, command, exit status, what is said: a pattern)
RUNS: dict[str, tuple[list[str], list[str], int, str]] = {
    "status": ([], ["sh", "-c", "exit 5"], 5, "^$"),
    "missing": ([], ["/nothing"], 1, 'OCI runtime create failed: .*exec: "/nothing": stat /nothing: no such file'),
    "read-only": (["--read-only"], ["touch", "/x"], 1, "Read-only file"),
    "working directory": (["--cwd", "/tmp"], ["pwd"], 0, "^/tmp$"),
    "variable": (["--env", "A=b c"], ["sh", "-c", "echo $A"], 0, "^b c$"),
    "bind": (["--mount", "type=bind,src=/etc,dst=/e,options=rbind:ro"], ["touch", "/e/x"], 1, "Read-only file"),
    "device": (["--device", "/dev/fuse"], ["sh", "-c", ": < /dev/fuse"], 0, "^$"),
    "host's network": (["--net-host"], ["cat", "/proc/net/route"], 0, "Iface"),
    "privileged": (["--privileged"], ["sh", "-c", "echo x > /proc/sys/kernel/hostname"], 0, "^$"),
    "seccomp": (["--seccomp"], ["grep", "Seccomp:", "/proc/self/status"], 0, "\t2$"),
    "no capability": (["--cap-drop", "CAP_CHOWN"], ["chown", "1", "/tmp"], 1, "Operation not permitted"),
    "propagation": (["--rootfs-propagation", "shared"], ["grep", " / / ", "/proc/self/mountinfo"], 0, "shared:"),
    "no pivot": (["--no-pivot"], ["id", "-u"], 0, "^0$"),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_run(containerd: Containerd, what: str) -> None:
    options, command, status, said = RUNS[what]
    done = containerd.try_(*containerd.own("one", "--rm", *options), *command)
    shown = (done.stdout + done.stderr.replace("\\", "")).strip()
    assert done.returncode == status, shown
    assert re.search(said, shown, re.MULTILINE), shown


def test_exec(containerd: Containerd, box: str) -> None:
    words = ["tasks", "exec", "--exec-id", "more", "--cwd", "/tmp"]
    assert containerd(*words, box, "pwd") == "/tmp\n"
    assert containerd.try_(*words, box, "sh", "-c", "exit 3").returncode == 3
    assert "no such file" in containerd.try_(*words, box, "/nothing").stderr


def test_terminal(containerd: Containerd, box: str) -> None:
    for words in (
        [*containerd.own("tty", "--rm", "--tty"), "sh"], ["tasks", "exec", "--exec-id", "tty", "--tty", box, "sh"],
    ):  # fmt: skip
        check_shell(containerd.terminal(*words))


def test_pause(containerd: Containerd, box: str) -> None:
    containerd("tasks", "pause", box)
    assert (containerd.status(box), containerd.state(box)["status"]) == ("PAUSED", "paused")
    containerd("tasks", "resume", box)
    assert (containerd.status(box), containerd.state(box)["status"]) == ("RUNNING", "running")


def test_metrics(containerd: Containerd, box: str) -> None:
    assert re.search(r"^pids.current\s+1\s*$", containerd("tasks", "metrics", box), re.MULTILINE)


def test_checkpoint(containerd: Containerd, box: str) -> None:
    """With a CRIU that works on this kernel, or without: the container goes on, and the reason is told."""
    works = subprocess.run([peer("criu"), "check"], capture_output=True, check=False).returncode == 0
    done = containerd.try_("tasks", "checkpoint", box)
    assert (done.returncode == 0) == works, done.stderr
    assert works or re.search(r"criu failed: .*\(CRIU's log: /.*dump.log\)", done.stderr), done.stderr
    assert containerd.status(box) == "RUNNING"
    assert containerd("tasks", "exec", "--exec-id", "after", box, "echo", "alive") == "alive\n"


def test_kill(containerd: Containerd) -> None:
    script = "trap 'exit 6' TERM; : > /ready; while :; do sleep 0.1; done"
    containerd(*containerd.own("trap", "--detach"), "sh", "-c", script)
    ready = ["tasks", "exec", "--exec-id", "look", "trap", "test", "-e", "/ready"]
    wait_until(lambda: containerd.try_(*ready).returncode == 0)
    containerd("tasks", "kill", "-s", "TERM", "trap")
    wait_until(lambda: containerd.status("trap") == "STOPPED")
    assert "exit code 6" in containerd.try_("tasks", "rm", "trap").stderr
    # Once more from the container that is there, as a supervisor restarts it.
    containerd("tasks", "start", "--detach", "trap")
    assert containerd.state("trap")["status"] == "running"
    containerd("tasks", "rm", "-f", "trap")
    containerd("containers", "rm", "trap")


def test_killed_shim(containerd: Containerd) -> None:
    """The container's supervisor dies: containerd's clean-up calls `delete --force`, and nothing is left."""
    containerd(*containerd.own("orphan", "--detach"), "sleep", "999")
    first = containerd.state("orphan")["pid"]
    shim = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"containerd-shim" in Path(f"/proc/{shim}/cmdline").read_bytes()
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: "orphan" not in containerd.runtime_states())
    wait_until(lambda: containerd.status("orphan") in ("", "STOPPED"))
    containerd.try_("tasks", "rm", "-f", "orphan")
    containerd("containers", "rm", "orphan")


@pytest.fixture(scope="module")
def cri(containerd: Containerd) -> Cri:
    for name in ("busybox", "redis"):
        containerd.load(name, "k8s.io")
    return Cri(containerd.socket)


def test_pod_of_kubernetes(containerd: Containerd, cri: Cri) -> None:
    """As a kubelet does it, with the document's config.toml: a sandbox, containers that join it, exec, update."""
    logs = containerd.premises.folder / "logs"
    logs.mkdir()
    linux: Message = {1: f"/{containerd.premises.cgroup}/pod", 2: {1: {1: NODE}}}  # cgroup_parent, security_context
    pod: Message = {1: {1: "pea", 2: "uid", 3: "default"}, 3: str(logs), 8: linux}  # metadata, log directory
    sandbox = cri.id_of("RunPodSandbox", {1: pod})
    script = "trap 'exit 6' TERM; echo up; : > /dev/shm/file; while :; do sleep 0.1; done"
    config: Message = {
        1: {1: "one"}, 2: {1: IMAGE}, 3: ["sh", "-c", script], 6: [{1: "A", 2: "b c"}], 11: "one.log",
        # resources: period, quota, memory; namespaces: network, processes
        15: {1: {1: 100000, 2: 50000, 4: 64 << 20}, 2: {3: {1: NODE, 2: OWN}}},
    }  # fmt: skip
    one = cri.id_of("CreateContainer", {1: sandbox, 2: config, 3: pod})
    cri("StartContainer", {1: one})
    wait_until(lambda: "stdout F up" in (logs / "one.log").read_text())
    root = "/run/containerd/runc/k8s.io"
    assert set(os.listdir(containerd.premises.path(root))) == {sandbox, one}
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
    assert os.listdir(containerd.premises.path(root)) == []
