"""Docker with masu-oci as one of its runtimes, then as its only one: Debian's dockerd, unpatched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.callers import at_work, check_shell, document, person
from harness.callers.docker import Docker, RootlessDocker
from harness.engine import alive, wait_until
from harness.programs import MASU_OCI, peer

pytestmark = pytest.mark.root


@pytest.fixture
def box(docker: Docker) -> Iterator[str]:
    """A container that runs for as long as the test."""
    docker(
        "run", "-d", "--runtime=masu", "--name", "box", "busybox", "sh", "-c", "echo out; echo err >&2; exec sleep 999"
    )
    yield "box"
    docker("rm", "-f", "box")


def test_what_the_document_says(docker: Docker) -> None:
    (words,) = document.commands("Docker")
    assert docker(*words[1:]) == "uid=0(root) gid=0(root) groups=0(root)\n"


def test_the_runtime_is_ours(docker: Docker, box: str) -> None:
    container = docker.inspect(box)
    assert docker.runtime_states() == [container["Id"]]
    state = json.loads(
        docker.premises.run([MASU_OCI, "--root", str(docker.runtime_root), "state", container["Id"]]).stdout
    )
    assert (state["status"], state["pid"]) == ("running", container["State"]["Pid"])


LIMITS = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max 2> /dev/null || cat memory.max pids.max"
DOCKERFILE = """
FROM busybox
RUN echo made > /made && echo maker:x:7:7::/:/bin/sh >> /etc/passwd
USER maker
WORKDIR /tmp
RUN id -un > who
CMD ["cat", "/made", "who"]
"""
# (options, command, exit status, what is said: a pattern)
RUNS: dict[str, tuple[list[str], list[str], int, str]] = {
    "status": ([], ["sh", "-c", "exit 5"], 5, "^$"),
    "killed": (["--init"], ["sh", "-c", "kill -9 $$"], 137, "^$"),
    "missing": ([], ["/nothing"], 127, 'exec: "/nothing": stat /nothing: no such file or directory'),
    "not in PATH": ([], ["nothing"], 127, 'exec: "nothing": executable file not found in \\$PATH'),
    "directory": ([], ["/etc"], 126, 'exec: "/etc": permission denied'),
    "user": (["--user", "1000:1001", "--group-add", "7"], ["id"], 0, r"^uid=1000 gid=1001 groups=(1001,)?7\b"),
    "working directory": (["-w", "/made/by/docker"], ["pwd"], 0, "^/made/by/docker$"),
    "host name": (["--hostname", "masu", "--domainname", "test"], ["hostname"], 0, "^masu$"),
    "no capabilities": (["--cap-drop", "ALL"], ["grep", "CapBnd", "/proc/self/status"], 0, "\t0{16}$"),
    "one more": (["--cap-add", "SYS_ADMIN"], ["mount", "-t", "tmpfs", "t", "/tmp"], 0, "^$"),
    "no new privileges": (
        ["--security-opt", "no-new-privileges"], ["grep", "NoNewPrivs", "/proc/self/status"], 0, "\t1$"),
    "seccomp": ([], ["grep", "Seccomp:", "/proc/self/status"], 0, "\t2$"),
    "unconfined": (["--security-opt", "seccomp=unconfined"], ["grep", "Seccomp:", "/proc/self/status"], 0, "\t0$"),
    "privileged": (
        ["--privileged"], ["sh", "-c", "ls /dev/kmsg && echo x > /proc/sys/kernel/hostname"], 0, "/dev/kmsg"),
    "read-only": (["--read-only", "--tmpfs", "/tmp"], ["sh", "-c", "touch /tmp/x && touch /x"], 1, "Read-only file"),
    "volume": (["-v", "/etc:/e:ro"], ["sh", "-c", "cmp /e/hostname /e/hostname && touch /e/x"], 1, "Read-only file"),
    "named volume": (["-v", "kept:/kept"], ["sh", "-c", "echo kept > /kept/x && cat /kept/x"], 0, "^kept$"),
    "init": (["--init"], ["sh", "-c", "cat /proc/1/comm"], 0, "docker-init"),
    "limits": (["--memory", "32m", "--pids-limit", "10"], ["sh", "-c", LIMITS], 0, "^33554432\n10$"),
    "open files": (["--ulimit", "nofile=100:200"], ["sh", "-c", "ulimit -n; ulimit -Hn"], 0, "^100\n200$"),
    "sysctl": (["--sysctl", "net.ipv4.ip_forward=1"], ["cat", "/proc/sys/net/ipv4/ip_forward"], 0, "^1$"),
    "shared memory": (["--shm-size", "1m"], ["df", "/dev/shm"], 0, r"\b1024\b"),
    "host's pids": (["--pid", "host"], ["sh", "-c", "cat /proc/[0-9]*/comm | grep dockerd"], 0, "dockerd"),
    "host's network": (["--network", "host"], ["ip", "addr"], 0, "docker0"),
    "host's cgroups": (["--cgroupns", "host"], ["cat", "/proc/self/cgroup"], 0, "masu-caller-"),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_run(docker: Docker, what: str) -> None:
    options, command, status, said = RUNS[what]
    done = docker.try_("run", "--rm", "--runtime=masu", *options, "busybox", *command)
    shown = (done.stdout + done.stderr.replace("\\", "")).strip()
    assert done.returncode == status, shown
    assert re.search(said, shown), shown


def test_logs_keep_the_streams_apart(docker: Docker, box: str) -> None:
    done = docker.try_("logs", box)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_stdin(docker: Docker) -> None:
    assert docker("run", "--rm", "-i", "--runtime=masu", "busybox", "cat", input=b"through\n") == "through\n"


def test_exec(docker: Docker, box: str) -> None:
    assert docker("exec", box, "hostname") == docker("inspect", "-f", "{{.Config.Hostname}}", box)
    inside = docker("exec", "-u", "nobody", "-w", "/tmp", "-e", "A=b c", box, "sh", "-c", 'id -un; pwd; echo "$A"')
    assert inside == "nobody\n/tmp\nb c\n"
    assert docker.try_("exec", box, "sh", "-c", "exit 3").returncode == 3
    assert docker("exec", "-i", box, "cat", input=b"in\n") == "in\n"
    effective = docker("exec", "--privileged", box, "grep", "CapEff", "/proc/self/status").split()[1]
    assert effective > docker("exec", box, "grep", "CapEff", "/proc/self/status").split()[1]
    missing = docker.try_("exec", box, "/nothing")
    assert missing.returncode in (126, 127)
    assert "no such file or directory" in missing.stdout + missing.stderr
    docker("exec", "-d", box, "sleep", "998")
    assert "sleep 998" in docker("top", box)


def test_terminal(docker: Docker, box: str) -> None:
    for words in (["run", "--rm", "-it", "--runtime=masu", "busybox", "sh"], ["exec", "-it", box, "sh"]):
        check_shell(docker.terminal(*words))


def test_pause(docker: Docker, box: str) -> None:
    docker("pause", box)
    assert docker.inspect(box)["State"]["Status"] == "paused"
    assert "is paused" in docker.try_("exec", box, "true").stderr
    docker("unpause", box)
    docker("exec", box, "true")


def test_stats(docker: Docker, box: str) -> None:
    shown = json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", box))
    assert shown["PIDs"] == "1"
    assert not shown["MemUsage"].startswith("0B")


def test_update(docker: Docker) -> None:
    show = ["sh", "-c", LIMITS]
    docker(
        "run",
        "-d",
        "--name",
        "grows",
        "--runtime=masu",
        "--memory",
        "32m",
        "--pids-limit",
        "10",
        "busybox",
        "sleep",
        "999",
    )
    try:
        assert docker("exec", "grows", *show) == "33554432\n10\n"
        docker("update", "--memory", "64m", "--memory-swap", "128m", "--pids-limit", "20", "--cpus", "0.5", "grows")
        assert docker("exec", "grows", *show) == "67108864\n20\n"
        quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2> /dev/null || cat /sys/fs/cgroup/cpu.max"
        assert docker("exec", "grows", "sh", "-c", quota).split()[0] == "50000"
        docker("update", "--pids-limit", "-1", "grows")
        assert docker("exec", "grows", *show) == "67108864\nmax\n"
    finally:
        docker("rm", "-f", "grows")


def test_signals(docker: Docker) -> None:
    script = "trap 'echo usr1' USR1; trap 'echo term; exit 6' TERM; echo up; while :; do sleep 0.1; done"
    docker("run", "-d", "--runtime=masu", "--name", "trap", "busybox", "sh", "-c", script)
    try:
        wait_until(lambda: "up" in docker("logs", "trap"))
        docker("kill", "-s", "USR1", "trap")
        wait_until(lambda: "usr1" in docker("logs", "trap"))
        docker("stop", "trap")
        assert docker.inspect("trap")["State"]["ExitCode"] == 6
        docker("start", "trap")
        docker("restart", "-t", "0", "trap")
        assert docker.inspect("trap")["State"]["Running"]
    finally:
        docker("rm", "-f", "trap")


def test_out_of_memory(docker: Docker) -> None:
    command = ["sh", "-c", "x=x; while :; do x=$x$x; done"]
    docker.try_(
        "run", "--name", "hungry", "--runtime=masu", "--memory", "8m", "--memory-swap", "8m", "busybox", *command
    )
    state = docker.inspect("hungry")["State"]
    docker("rm", "hungry")
    assert (state["ExitCode"], state["OOMKilled"]) == (137, True)


def test_devices(docker: Docker) -> None:
    node = "/dev/fuse"
    run = ["run", "--rm", "--runtime=masu"]
    given = docker(*run, "--device", f"{node}:/dev/given:r", "busybox", "stat", "-c", "%t:%T", "/dev/given")
    number = os.stat(node).st_rdev
    assert given == f"{os.major(number):x}:{os.minor(number):x}\n"
    opened = ["busybox", "sh", "-c", ": < /dev/given"]
    docker(*run, "--device", f"{node}:/dev/given:r", *opened)
    refused = docker.try_(*run, "--device", f"{node}:/dev/given:w", *opened)
    assert "Operation not permitted" in refused.stderr
    # A node of one's own, which the device cgroup denies.
    made = ["busybox", "sh", "-c", f"mknod /n c {os.major(number)} {os.minor(number)} && : < /n"]
    assert "Operation not permitted" in docker.try_(*run, *made).stderr


def test_containers_that_share(docker: Docker, box: str) -> None:
    run = ["run", "--rm", "--runtime=masu"]
    shared = [*run, "--pid", f"container:{box}", "--network", f"container:{box}", "busybox"]
    assert "sleep 999" in docker(*shared, "ps")
    address = docker.inspect(box)["NetworkSettings"]["IPAddress"]
    assert address in docker(*shared, "ip", "addr")
    docker(*run, "busybox", "ping", "-c", "1", "-W", "5", address)


def test_published_port(docker: Docker) -> None:
    serve = ["sh", "-c", "echo served > /index.html; exec httpd -f -p 80 -h /"]
    docker("run", "-d", "--name", "web", "--runtime=masu", "-p", "127.0.0.1::80", "busybox", *serve)
    try:
        address = docker("port", "web", "80").strip()
        fetch = ["run", "--rm", "--runtime=masu", "--network", "host", "busybox"]
        fetch += ["sh", "-c", f"until wget -q -O - http://{address}/; do usleep 100000; done"]
        assert docker(*fetch) == "served\n"
    finally:
        docker("rm", "-f", "web")


def test_health_check(docker: Docker) -> None:
    options = ["--health-cmd", "test -e /well", "--health-interval", "1s"]
    docker("run", "-d", "--name", "patient", "--runtime=masu", *options, "busybox", "sh", "-c", ": > /well; sleep 999")
    try:
        wait_until(lambda: docker.inspect("patient")["State"]["Health"]["Status"] == "healthy")
    finally:
        docker("rm", "-f", "patient")


def test_copy_and_diff(docker: Docker, box: str) -> None:
    docker("exec", box, "sh", "-c", "echo copied > /root/file")
    assert "copied" in docker("cp", f"{box}:/root/file", "-")
    assert "A /root/file" in docker("diff", box)
    assert docker("commit", box, "committed").startswith("sha256:")
    assert docker("run", "--rm", "--runtime=masu", "committed", "cat", "/root/file") == "copied\n"


def test_killed_shim(docker: Docker) -> None:
    """The caller's supervisor dies: the daemon's clean-up calls `delete --force`, and nothing is left."""
    id = docker("run", "-d", "--name", "orphan", "--runtime=masu", "busybox", "sleep", "999").strip()
    first = docker.inspect("orphan")["State"]["Pid"]
    shim = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"containerd-shim" in Path(f"/proc/{shim}/cmdline").read_bytes()
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: not docker.inspect("orphan")["State"]["Running"])
    assert id not in docker.runtime_states()
    wait_until(lambda: not alive(first))
    docker("start", "orphan")
    docker("rm", "-f", "orphan")


def test_default_runtime(docker: Docker, tmp_path: Path) -> None:
    """`docker build` has no --runtime: its steps run under the daemon's default."""
    runtimes = docker.config["runtimes"]
    docker.reload(**{"default-runtime": "masu", "runtimes": runtimes | {"later": runtimes["masu"]}})
    wait_until(lambda: docker("info", "-f", "{{.DefaultRuntime}}") == "masu\n")
    assert docker("info", "-f", '{{(index .Runtimes "masu").Path}}') == f"{MASU_OCI}\n"
    id = docker("run", "-d", "busybox", "sleep", "999").strip()
    assert docker.inspect(id)["HostConfig"]["Runtime"] == "masu"
    docker("rm", "-f", id)
    assert docker("run", "--rm", "--runtime=later", "busybox", "id", "-u") == "0\n"
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    docker("build", "-q", "-t", "made", str(tmp_path))
    assert docker("run", "--rm", "made") == "made\nmaker\n"
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN exit 9\n")
    assert "returned a non-zero code: 9" in docker.try_("build", str(tmp_path)).stderr


def test_buildkit(docker: Docker, tmp_path: Path) -> None:
    build = ["build", "--progress=plain", "--no-cache", str(tmp_path)]
    kit = {"DOCKER_BUILDKIT": "1"}
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    built = docker.try_(*build, "-t", "kitmade", env=kit)
    if "buildx component is missing" in built.stderr:
        pytest.skip("this docker command wants buildx for it; Debian's does not")
    assert built.returncode == 0, built.stderr
    assert docker("run", "--rm", "--runtime=masu", "kitmade") == "made\nmaker\n"
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN exit 9\n")
    assert "exit code: 9" in docker.try_(*build, env=kit).stderr
    (tmp_path / "Dockerfile").write_text('FROM busybox\nRUN ["/nothing"]\n')
    # masu-oci's hint, nobody else's
    assert "the path is looked up inside the container" in docker.try_(*build, env=kit).stderr


def test_checkpoint(docker: Docker, box: str) -> None:
    """With a CRIU that works on this kernel, or without: the container goes on, and the reason is told."""
    works = subprocess.run([peer("criu"), "check"], capture_output=True, check=False).returncode == 0
    done = docker.try_("checkpoint", "create", "--leave-running", box, "first")
    assert (done.returncode == 0) == works, done.stderr
    assert works or re.search(r"criu failed: .*\(CRIU's log: /.*dump.log\)", done.stderr), done.stderr
    assert docker("checkpoint", "ls", box).split()[2:] == (["first"] if works else [])
    assert docker("exec", box, "echo", "alive") == "alive\n"


@pytest.fixture(scope="module")
def rootless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RootlessDocker]:
    person.skip_unless_possible()
    if not RootlessDocker.SCRIPT.exists():
        pytest.skip(f"{RootlessDocker.SCRIPT} is not installed")
    with at_work(RootlessDocker, tmp_path_factory) as it:
        yield it


def test_rootless_run(rootless: RootlessDocker) -> None:
    run = ["run", "--rm", "--runtime=masu"]
    assert rootless(*run, "busybox", "id") == "uid=0(root) gid=0(root) groups=0(root)\n"
    inside, outside, length = rootless(*run, "busybox", "cat", "/proc/self/uid_map").split()[:3]
    assert (inside, outside, length) == ("0", str(person.UID), "1")
    assert rootless(*run, "--user", "5:6", "--group-add", "7", "busybox", "id") == "uid=5 gid=6 groups=6,7\n"
    assert rootless.try_(*run, "busybox", "sh", "-c", "exit 5").returncode == 5
    missing = rootless.try_(*run, "busybox", "/nothing")
    assert (missing.returncode, "no such file or directory" in missing.stderr) == (127, True)
    rootless(*run, "--privileged", "busybox", "mount", "-t", "tmpfs", "t", "/tmp")
    assert "Seccomp:\t2" in rootless(*run, "busybox", "grep", "Seccomp:", "/proc/self/status")


def test_rootless_life(rootless: RootlessDocker) -> None:
    script = "trap 'exit 6' TERM; echo up; httpd -p 80 -h /etc; while :; do sleep 0.1; done"
    rootless("run", "-d", "--runtime=masu", "--name", "box", "-p", "8080:80", "busybox", "sh", "-c", script)
    (id,) = rootless.runtime_states()
    assert id == rootless.inspect("box")["Id"]
    assert rootless.try_("exec", "box", "sh", "-c", "exit 3").returncode == 3
    with rootless.terminal("exec", "-it", "box", "sh") as terminal:
        terminal.wait_for("# ")
        terminal.type("tty; exit 4\r")
        terminal.wait_for("/dev/pts/")
        terminal.rest()
        assert terminal.wait() == 4
    wait_until(lambda: "up" in rootless("logs", "box"))
    # The port is the user's, by RootlessKit; the container's bridge is in its namespaces.
    client = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/passwd').read().decode())"
    fetch = [sys.executable, "-c", client]
    wait_until(lambda: rootless.premises.run(fetch, check=False).stdout.startswith("root:"))
    rootless("stop", "box")
    assert rootless.inspect("box")["State"]["ExitCode"] == 6
    rootless("rm", "box")
    assert rootless.runtime_states() == []
