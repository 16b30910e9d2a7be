"""Podman with masu-oci as its runtime: Debian's podman and conmon, unpatched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.callers import at_work, check_shell, document, person
from harness.callers.podman import Podman, RootlessPodman
from harness.engine import wait_until
from harness.programs import MASU_OCI

pytestmark = pytest.mark.root


@pytest.fixture
def box(podman: Podman) -> Iterator[str]:
    """A container that runs for as long as the test."""
    script = "trap 'echo usr1' USR1; trap 'exit 6' TERM; echo out; echo err >&2; while :; do sleep 0.1; done"
    podman(*podman.own("run", "-d", "--name", "box"), "busybox", "sh", "-c", script)
    yield "box"
    podman("rm", "-f", "-t", "0", "box")


def test_what_the_document_says(podman: Podman) -> None:
    (words,) = document.commands("Podman")
    own = ["--cgroup-parent", f"/{podman.premises.cgroup}"]
    at = words.index("run") + 1
    assert podman(*words[1:at], *own, *words[at:]) == "uid=0(root) gid=0(root)\n"


def test_the_runtime_is_ours(podman: Podman, box: str) -> None:
    (container,) = json.loads(podman("inspect", box))
    assert (container["OCIRuntime"], podman.runtime_states()) == ("masu", [container["Id"]])
    state = json.loads(podman.state(container["Id"]))
    assert (state["status"], state["pid"]) == ("running", container["State"]["Pid"])
    runtime = json.loads(podman("info", "-f", "json"))["host"]["ociRuntime"]
    assert runtime["path"] == MASU_OCI
    assert runtime["version"].startswith("masu-oci version")


MEMORY = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2> /dev/null || cat memory.max"
# (options, command, exit status, what is said: a pattern)
RUNS: dict[str, tuple[list[str], list[str], int, str]] = {
    "status": ([], ["sh", "-c", "exit 5"], 5, "^$"),
    "missing": ([], ["/nothing"], 127, '^Error: masu: .*exec: "/nothing": stat /nothing: no such file or directory'),
    "directory": ([], ["/etc"], 126, '^Error: masu: .*exec: "/etc": permission denied'),
    "user": (["--user", "1000:1001", "--group-add", "7"], ["id"], 0, r"^uid=1000\S* gid=1001\S* groups=.*\b7\b"),
    "no capabilities": (["--cap-drop", "ALL"], ["grep", "CapBnd", "/proc/self/status"], 0, "\t0{16}$"),
    "seccomp": ([], ["grep", "Seccomp:", "/proc/self/status"], 0, "\t2$"),
    "privileged": (
        ["--privileged"], ["sh", "-c", "ls /dev/kmsg && echo x > /proc/sys/kernel/hostname"], 0, "/dev/kmsg"),
    "read-only": (["--read-only"], ["sh", "-c", "touch /tmp/x && touch /x"], 1, "Read-only file"),
    "volume": (["-v", "/etc:/e:ro,rslave"], ["sh", "-c", "touch /e/x"], 1, "Read-only file"),
    "memory": (["--memory", "32m"], ["sh", "-c", MEMORY], 0, "^33554432"),
    "device": (["--device", "/dev/fuse"], ["sh", "-c", ": < /dev/fuse"], 0, "^$"),
    "no device": (["--cap-add", "MKNOD"], ["sh", "-c", "mknod /n c 10 229 && : < /n"], 1, "Operation not permitted"),
    "init": (["--init"], ["cat", "/proc/1/comm"], 0, "podman-init|catatonit"),
    "mapped ids": (["--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000"], ["cat", "/proc/self/uid_map"],
        0, "^0 +100000 +5000$"),
    "systemd's mounts": (["--systemd", "always"], ["sh", "-c", "mount | grep ' /run/lock '"], 0, "tmpfs"),
    "host's cgroups": (["--cgroupns", "host"], ["cat", "/proc/self/cgroup"], 0, "masu-caller-"),
    "own cgroups": (["--cgroupns", "private"], ["cat", "/proc/self/cgroup"], 0, r"memory:/$|^0::/$"),
    "a variable": (["-e", "A=b c"], ["sh", "-c", "echo $A"], 0, "^b c$"),
    "open files": (["--ulimit", "nofile=100:200", "--ulimit", "nproc=1024:1024"], ["sh", "-c", "ulimit -n; ulimit -Hn"],
        0, "^100\n200$"),
    "preserved fds": (["--preserve-fds", "0"], ["sh", "-c", "ls /proc/self/fd | wc -l"], 0, "^4$"),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_run(podman: Podman, what: str) -> None:
    options, command, status, said = RUNS[what]
    done = podman.try_(*podman.own("run", "--rm", *options), "busybox", *command)
    shown = (done.stdout + done.stderr).strip()
    assert done.returncode == status, shown
    assert re.search(said, shown, re.MULTILINE), shown


def test_logs_keep_the_streams_apart(podman: Podman, box: str) -> None:
    done = podman.try_("logs", box)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_stdin(podman: Podman) -> None:
    assert podman(*podman.own("run", "--rm", "-i"), "busybox", "cat", input=b"through\n") == "through\n"


def test_exec(podman: Podman, box: str) -> None:
    inside = podman("exec", "-u", "nobody", "-w", "/tmp", "-e", "A=b c", box, "sh", "-c", 'id -un; pwd; echo "$A"')
    assert inside == "nobody\n/tmp\nb c\n"
    assert podman.try_("exec", box, "sh", "-c", "exit 3").returncode == 3
    assert podman("exec", "-i", box, "cat", input=b"in\n") == "in\n"
    missing = podman.try_("exec", box, "/nothing")
    assert missing.returncode == 127
    assert "no such file or directory" in missing.stderr
    podman("exec", "-d", box, "sleep", "998")
    wait_until(lambda: "sleep 998" in podman("top", box))


def test_terminal(podman: Podman, box: str) -> None:
    for words in ([*podman.own("run", "--rm", "-it"), "busybox", "sh"], ["exec", "-it", box, "sh"]):
        check_shell(podman.terminal(*words))


def test_pause(podman: Podman, box: str) -> None:
    podman("pause", box)
    assert podman("inspect", "-f", "{{.State.Status}}", box) == "paused\n"
    assert podman.try_("exec", box, "true").returncode != 0
    podman("unpause", box)
    podman("exec", box, "true")


def test_stats(podman: Podman, box: str) -> None:
    (shown,) = json.loads(podman("stats", "--no-stream", "--format", "json", box))
    assert int(shown["pids"]) >= 1
    assert not shown["mem_usage"].startswith("0B")


def test_update(podman: Podman) -> None:
    podman(*podman.own("run", "-d", "--name", "grows", "--memory", "32m"), "busybox", "sleep", "999")
    podman("update", "--memory", "64m", "--cpus", "0.5", "grows")
    assert podman("exec", "grows", "sh", "-c", MEMORY) == "67108864\n"
    podman("rm", "-f", "-t", "0", "grows")


def test_signals(podman: Podman, box: str) -> None:
    wait_until(lambda: "out" in podman("logs", box))
    podman("kill", "-s", "USR1", box)
    wait_until(lambda: "usr1" in podman("logs", box))
    podman("stop", box)
    assert podman("wait", box) == "6\n"
    podman("start", box)
    podman("restart", "-t", "0", box)
    assert podman("inspect", "-f", "{{.State.Running}}", box) == "true\n"


def test_health_check(podman: Podman) -> None:
    podman(*podman.own("run", "-d", "--name", "patient", "--health-cmd", "test -e /well"), "busybox", "sleep", "999")
    assert podman.try_("healthcheck", "run", "patient").returncode == 1
    podman("exec", "patient", "touch", "/well")
    podman("healthcheck", "run", "patient")
    podman("rm", "-f", "-t", "0", "patient")


def test_pod(podman: Podman) -> None:
    """Containers that join the namespaces of the pod's first, by path."""
    podman("pod", "create", "--name", "pea", "--cgroup-parent", f"/{podman.premises.cgroup}", "--network", "none",
           "--share", "net,ipc,uts,pid")  # fmt: skip
    podman("run", "-d", "--pod", "pea", "--name", "one", "busybox", "sh", "-c", "httpd -f -p 80 -h /etc")
    two = ["run", "--rm", "--pod", "pea", "busybox", "sh", "-c"]
    fetch = "until wget -q -O - http://127.0.0.1/passwd; do usleep 100000; done | grep root"
    assert podman(*two, fetch).startswith("root:")
    assert podman(*two, "hostname") == "pea\n"
    assert "httpd" in podman(*two, "ps")
    podman("pod", "pause", "pea")
    assert podman("inspect", "-f", "{{.State.Status}}", "one") == "paused\n"
    podman("pod", "unpause", "pea")
    podman("pod", "stop", "-t", "0", "pea")
    podman("pod", "rm", "pea")


def test_bridge(podman: Podman) -> None:
    if not any(Path(folder, "netavark").exists() for folder in ("/usr/lib/podman", "/usr/libexec/podman")):
        pytest.skip("netavark is not installed")
    serve = ["sh", "-c", "echo served > /index.html; exec httpd -f -p 80 -h /"]
    podman(*podman.own("run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", network="bridge"), "busybox", *serve)
    fetch = "until wget -q -O - http://127.0.0.1:8080/; do usleep 100000; done"
    assert podman(*podman.own("run", "--rm", network="host"), "busybox", "sh", "-c", fetch) == "served\n"
    podman("rm", "-f", "-t", "0", "web")


def test_build(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN echo made > /made && echo maker:x:7:7::/:/bin/sh >> /etc/passwd\nUSER maker\nWORKDIR /tmp\n"
        'RUN id -un > who\nCMD ["cat", "/made", "who"]\n'
    )
    # Buildah's library takes the "parent" for the container's own cgroup.
    build = ["build", "-q", "--cgroup-parent", f"/{podman.premises.cgroup}/build", "--network", "none"]
    podman(*build, "-t", "made", str(tmp_path))
    assert podman(*podman.own("run", "--rm"), "made") == "made\nmaker\n"


@pytest.fixture(scope="module")
def rootless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RootlessPodman]:
    person.skip_unless_possible()
    with at_work(RootlessPodman, tmp_path_factory) as it:
        yield it


def test_rootless_run(rootless: RootlessPodman) -> None:
    run = rootless.own("run", "--rm")
    assert rootless(*run, "busybox", "id") == "uid=0(root) gid=0(root)\n"
    inside, outside, length = rootless(*run, "busybox", "cat", "/proc/self/uid_map").split()[:3]
    assert (inside, outside, length) == ("0", str(person.UID), "1")
    assert rootless(*run, "--user", "5", "busybox", "id", "-u") == "5\n"
    assert rootless.try_(*run, "busybox", "sh", "-c", "exit 5").returncode == 5
    assert "Read-only" in rootless.try_(*run, "--read-only", "busybox", "touch", "/x").stderr
    missing = rootless.try_(*run, "busybox", "/nothing")
    assert (missing.returncode, "no such file or directory" in missing.stderr) == (127, True)
    rootless(*rootless.own("run", "--rm", "--privileged"), "busybox", "mount", "-t", "tmpfs", "t", "/tmp")
    rootless(*rootless.own("run", "--rm", network="host"), "busybox", "true")


def test_rootless_life(rootless: RootlessPodman) -> None:
    rootless(
        *rootless.own("run", "-d", "--name", "box"),
        "busybox",
        "sh",
        "-c",
        "trap 'exit 6' TERM; echo up; while :; do sleep 0.1; done",
    )
    assert len(rootless.runtime_states()) == 1
    assert rootless.try_("exec", "box", "sh", "-c", "exit 3").returncode == 3
    with rootless.terminal("exec", "-it", "box", "sh") as terminal:
        terminal.wait_for("# ")
        terminal.type("tty; exit 4\r")
        terminal.wait_for("/dev/pts/")
        terminal.rest()
        assert terminal.wait() == 4
    wait_until(lambda: "up" in rootless("logs", "box"))
    rootless("stop", "box")
    assert rootless("wait", "box") == "6\n"
    rootless("rm", "box")


def test_rootless_pod(rootless: RootlessPodman) -> None:
    rootless("pod", "create", "--name", "pea", "--network", "none")
    rootless("run", "-d", "--pod", "pea", "busybox", "sh", "-c", "httpd -f -p 80 -h /etc")
    fetch = "until wget -q -O - http://127.0.0.1/passwd; do usleep 100000; done | grep root"
    assert rootless("run", "--rm", "--pod", "pea", "busybox", "sh", "-c", fetch).startswith("root:")
    rootless("pod", "rm", "-f", "-t", "0", "pea")
