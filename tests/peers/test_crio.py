"""CRI-O with masu-oci behind conmon, spoken to by crictl; the same with runc, which must tell the same."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.callers import Premises
from harness.callers.cri import Cri, Refused
from harness.callers.crio import CAPABLE, IMAGES, Crio, skip_unless_installed
from harness.engine import wait_until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
POD, OWN, NODE = 0, 1, 2  # NamespaceMode
RUNNING = ["sh", "-c", "trap 'exit 6' TERM; echo up; while :; do sleep 0.1; done"]


@pytest.fixture(scope="module")
def crio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crio]:
    skip_unless_installed()
    with Premises(tmp_path_factory.mktemp("crio")) as premises, Crio(premises) as it:
        yield it


class Pod:
    """A pod of one of the runtimes; `pod("one", "id")` makes a container of it and starts it."""

    def __init__(self, crio: Crio, handler: str, **linux: Any) -> None:
        self.crio = crio
        name = f"{handler}-{crio.made}"
        self.logs = crio.folder / "logs" / name
        spaces = {"namespace_options": {"pid": OWN} | linux.pop("namespaces", {})}
        self.message: dict[str, Any] = {
            "metadata": {"name": name, "uid": name, "namespace": "default", "attempt": 1},
            "log_directory": str(self.logs),
            "linux": {
                "cgroup_parent": f"/{crio.premises.cgroup}",
                "security_context": spaces | linux.pop("security_context", {}),
                **linux.pop("linux", {}),
            },
            **linux,
        }
        self.file = crio.file(self.message)
        words = ["--runtime", handler] if handler else []
        self.id = crio("runp", *words, self.file).strip()

    def create(self, name: str, *command: str, image: str = "busybox", **fields: Any) -> str:
        return self.crio("create", self.id, self._container(name, *command, image=image, **fields), self.file).strip()

    def refused(self, name: str, *command: str, **fields: Any) -> str:
        """What is said of a container that cannot be made, or not started."""
        done = self.crio.try_("create", self.id, self._container(name, *command, **fields), self.file)
        if done.returncode == 0:
            done = self.crio.try_("start", done.stdout.strip())
        assert done.returncode != 0
        return done.stderr

    def __call__(self, name: str, *command: str, **fields: Any) -> str:
        id = self.create(name, *command, **fields)
        self.crio("start", id)
        return id

    def _container(self, name: str, *command: str, image: str = "busybox", **fields: Any) -> str:
        context = {"namespace_options": {"pid": OWN}} | fields.pop("security_context", {})
        linux = {"security_context": context, **fields.pop("linux", {})}
        message: dict[str, Any] = {"metadata": {"name": name}, "image": {"image": IMAGES[image]}, "linux": linux}
        message |= {"log_path": f"{name}.log", **fields}
        if command:
            message["command"] = list(command)
        return self.crio.file(message)

    def log(self, name: str) -> str:
        """What a container has said, without times and streams."""
        path = self.logs / f"{name}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return "".join(f"{line.split(' ', 3)[3]}\n" for line in lines)

    def said(self, name: str, *command: str, **fields: Any) -> tuple[int, str]:
        """Exit status and words of a container that ends."""
        id = self(name, *command, **fields)
        wait_until(lambda: self.status(id)["state"] == "CONTAINER_EXITED")
        return self.status(id)["exitCode"], self.log(name)

    def remove(self) -> None:
        self.crio("stopp", self.id)
        self.crio("rmp", self.id)

    def status(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.crio("inspect", id))["status"]
        return found

    def execute(self, id: str, *command: str) -> tuple[int, str, str]:
        """Exit status, standard output and error of ExecSync."""
        return Cri(self.crio.socket).execute(id, *command)


@pytest.fixture(scope="module", params=["masu", "runc"])
def handler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pod(crio: Crio, handler: str) -> Pod:
    return Pod(crio, handler)


@pytest.fixture(scope="module")
def box(pod: Pod) -> str:
    """A container that goes on."""
    return pod("box", *RUNNING)


def test_configuration_of_the_document(crio: Crio) -> None:
    """CRI-O takes it: masu is the runtime of a pod that asks for none, in its usual state directory."""
    assert json.loads(crio("info"))["config"]["crio"]["DefaultRuntime"] == "masu"
    assert "Using runtime handler masu-oci version" in crio.log()
    pod = Pod(crio, "")
    id = pod("first", *RUNNING)
    assert crio.state(id)["status"] == "running"
    assert id in crio.runtime_states()
    pod.remove()
    assert id not in crio.runtime_states()


LIMIT = ["sh", "-c", "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2> /dev/null || cat memory.max"]
TABLE: dict[str, tuple[dict[str, Any], list[str], int, str]] = {
    "status": ({}, ["sh", "-c", "exit 5"], 5, "^$"),
    "variable": ({"envs": [{"key": "A", "value": "b c"}]}, ["sh", "-c", "echo $A"], 0, "^b c$"),
    "working directory": ({"working_dir": "/tmp"}, ["pwd"], 0, "^/tmp$"),
    "host name": ({}, ["cat", "/proc/sys/kernel/hostname"], 0, "^h$"),
    "memory": ({"linux": {"resources": {"memory_limit_in_bytes": 64 << 20}}}, LIMIT, 0, f"^{64 << 20}$"),
    "oom score": ({"linux": {"resources": {"oom_score_adj": 500}}}, ["cat", "/proc/self/oom_score_adj"], 0, "^500$"),
    "bind": (
        {"mounts": [{"host_path": "/etc", "container_path": "/e", "readonly": True}]}, ["touch", "/e/x"], 1,
        "Read-only file",
    ),
    "device": (
        {"devices": [{"host_path": "/dev/fuse", "container_path": "/dev/f", "permissions": "rw"}]},
        ["sh", "-c", ": < /dev/f && ls -l /dev/f"], 0, r"^crw.*10, 229",
    ),
    "terminal": ({"tty": True}, ["sh", "-c", "tty; stty size"], 0, r"^/dev/\S*console|^/dev/pts/0"),
}  # fmt: skip
# The same, with what the container's security context says.
CONTEXTS: dict[str, tuple[dict[str, Any], list[str], int, str]] = {
    "user": (
        {"run_as_user": {"value": 5}, "run_as_group": {"value": 6}, "supplemental_groups": [7, 8]}, ["id"], 0,
        r"^uid=5\(5\) gid=6\(6\) groups=.*7,8$",
    ),
    "read-only": ({"readonly_rootfs": True}, ["touch", "/x"], 1, "Read-only file"),
    "capabilities": (
        {"capabilities": {"drop_capabilities": ["ALL"]}}, ["grep", "CapEff", "/proc/self/status"], 0, "0{16}$",
    ),
    "no new privileges": ({"no_new_privs": True}, ["grep", "NoNewPrivs", "/proc/self/status"], 0, "\t1$"),
    "seccomp": ({"seccomp": {"profile_type": 0}}, ["grep", "Seccomp:", "/proc/self/status"], 0, "\t2$"),
    "no seccomp": ({"seccomp": {"profile_type": 1}}, ["grep", "Seccomp:", "/proc/self/status"], 0, "\t0$"),
    "own seccomp": (
        {"seccomp": {"profile_type": 2, "localhost_ref": "{folder}/seccomp.json"}}, ["chmod", "600", "/tmp"], 1,
        "Operation not permitted",
    ),
    "masked": ({"masked_paths": ["/etc/passwd"]}, ["wc", "-c", "/etc/passwd"], 0, "^0 "),
    "read-only path": ({"readonly_paths": ["/tmp"]}, ["touch", "/tmp/x"], 1, "Read-only file"),
}  # fmt: skip
CHMODLESS = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"}],
}


@pytest.mark.parametrize("what", [*TABLE, *CONTEXTS])
def test_container(crio: Crio, pod: Pod, what: str) -> None:
    if what in TABLE:
        fields, command, status, said = TABLE[what]
    else:
        context, command, status, said = CONTEXTS[what]
        (crio.folder / "seccomp.json").write_text(json.dumps(CHMODLESS))
        fields = {"security_context": json.loads(json.dumps(context).replace("{folder}", str(crio.folder)))}
    if what == "host name":
        pod = Pod(crio, handler_of(pod), hostname="h")
    found = pod.said(what.replace(" ", "-"), *command, **fields)
    assert found[0] == status, found
    assert re.search(said, found[1], re.MULTILINE), found[1]


def handler_of(pod: Pod) -> str:
    return str(pod.message["metadata"]["name"]).partition("-")[0]


@pytest.mark.parametrize(
    ("command", "fields", "said"),
    [
        (["/nothing"], {}, "no such file or directory"),
        (["id"], {"working_dir": "/etc/passwd"}, "not a directory"),
        (["id"], {"mounts": [{"host_path": "/proc/self/environ", "container_path": "/etc/x/../../bin"}]}, "."),
    ],
    ids=["no program", "working directory", "file on a directory"],
)
def test_refused(pod: Pod, command: list[str], fields: dict[str, Any], said: str) -> None:
    assert said in pod.refused(f"refused-{pod.crio.made}", *command, **fields).lower()


def test_exec(crio: Crio, pod: Pod, box: str) -> None:
    assert pod.execute(box, "cat", "/proc/1/comm") == (0, "sh\n", "")
    script = "echo said; echo complained >&2; exit 3"
    assert pod.execute(box, "sh", "-c", script) == (3, "said\n", "complained\n")
    with pytest.raises(Refused, match="no such file"):
        pod.execute(box, "/nothing")
    late = crio.try_("exec", "--sync", "--timeout", "1", box, "sleep", "99")
    assert late.returncode != 0
    assert re.search("timed out|DeadlineExceeded", late.stderr), late.stderr
    # By way of the server for streams, as `kubectl exec` does.
    assert crio.try_("exec", "--interactive", box, "cat", input=b"through\n").stdout == "through\n"
    assert "exit code 4" in crio.try_("exec", box, "sh", "-c", "exit 4").stderr


def test_terminal(crio: Crio, box: str) -> None:
    with crio.terminal("exec", "--interactive", "--tty", box, "sh") as terminal:
        terminal.wait_for("# ")
        terminal.type("stty size; tty\r")
        assert "24 80" in terminal.wait_for("/dev/pts/")
        terminal.type("exit\r")
        terminal.rest()
        assert terminal.wait() == 0


def test_attach(crio: Crio, pod: Pod) -> None:
    id = pod("reader", "sh", "-c", "read line; echo got $line; read line", stdin=True)
    with crio.going("attach", "--stdin", id) as attached:
        assert attached.stdin is not None
        assert attached.stdout is not None
        print("this", file=attached.stdin, flush=True)
        assert attached.stdout.readline() == "got this\n"
        print(file=attached.stdin, flush=True)
        wait_until(lambda: pod.status(id)["state"] == "CONTAINER_EXITED")
    assert pod.status(id)["exitCode"] == 0


def test_logs(crio: Crio, pod: Pod, box: str) -> None:
    wait_until(lambda: crio("logs", box) == "up\n")
    assert " stdout F up\n" in (pod.logs / "box.log").read_text()


def test_update(crio: Crio, pod: Pod, box: str) -> None:
    crio("update", "--memory", str(96 << 20), "--cpu-quota", "30000", "--cpu-period", "100000", box)
    assert pod.execute(box, *LIMIT)[1] == f"{96 << 20}\n"
    quota = ["sh", "-c", "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us 2> /dev/null || cat cpu.max"]
    assert pod.execute(box, *quota)[1].split()[0] == "30000"
    assert pod.status(box)["resources"]["linux"]["memoryLimitInBytes"] == str(96 << 20)


def test_stats(crio: Crio, box: str) -> None:
    (stats,) = json.loads(crio("stats", "--output", "json", "--id", box))["stats"]
    assert int(stats["memory"]["workingSetBytes"]["value"]) > 0
    assert int(stats["cpu"]["usageCoreNanoSeconds"]["value"]) > 0


@pytest.mark.parametrize(
    ("command", "grace_s", "status"), [(RUNNING, 5, 6), (["sh", "-c", "trap '' TERM; echo up; sleep 999"], 1, 137)],
    ids=["gentle", "stubborn"],
)  # fmt: skip
def test_stop(crio: Crio, pod: Pod, command: list[str], grace_s: int, status: int) -> None:
    name = f"stop-{status}"
    id = pod(name, *command)
    wait_until(lambda: pod.log(name) == "up\n")
    crio("stop", "--timeout", str(grace_s), id)
    assert pod.status(id)["exitCode"] == status
    crio("rm", id)


def test_killed_for_memory(pod: Pod) -> None:
    id = pod("greedy", "tail", "/dev/zero", linux={"resources": {"memory_limit_in_bytes": 16 << 20}})
    wait_until(lambda: pod.status(id)["state"] == "CONTAINER_EXITED")
    assert (pod.status(id)["exitCode"], pod.status(id)["reason"]) == (137, "OOMKilled")


def test_ports(crio: Crio, handler: str) -> None:
    """A service of one container: from the pod's other ones, by the pod's address, by port-forward."""
    pod = Pod(crio, handler)
    pod("server", image="redis")
    friend = pod("friend", *RUNNING)
    ask = ["sh", "-c", "printf 'PING\\r\\n' | nc -w 1 127.0.0.1 6379"]
    wait_until(lambda: pod.execute(friend, *ask)[1] == "+PONG\r\n")
    with crio.going("port-forward", pod.id, "0:6379") as forward:
        assert forward.stdout is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert found is not None
        client = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
        client += r"; c.send(b'PING\r\n'); print(c.recv(9))"
        asked = crio.premises.run([sys.executable, "-c", client, found[1]])
    assert asked.stdout == "b'+PONG\\r\\n'\n"


def test_privileged(crio: Crio, handler: str) -> None:
    pod = Pod(crio, handler, security_context={"privileged": True})
    script = "mount -t tmpfs x /tmp && echo a > /proc/sys/kernel/hostname && ls /dev/fuse"
    if handler == "runc" and not CAPABLE:
        pytest.skip("runc 1.1 does not run what asks for capabilities that it lacks")
    found = pod.said("strong", "sh", "-c", script, security_context={"privileged": True})
    assert (found[0], found[1].splitlines()[-1]) == (0, "/dev/fuse")


def test_namespaces_of_the_node(crio: Crio, handler: str) -> None:
    pod = Pod(crio, handler, namespaces={"network": NODE, "pid": NODE, "ipc": NODE})
    script = "for kind in net pid ipc uts; do readlink /proc/self/ns/$kind; done"
    options = {"namespace_options": {"network": NODE, "pid": NODE, "ipc": NODE}}
    _, said = pod.said("open", "sh", "-c", script, security_context=options)
    here = crio.premises.run(["sh", "-c", script]).stdout
    # The UTS namespace goes with the network's.
    assert said.split()[:3] == here.split()[:3]


def test_sysctl(crio: Crio, handler: str) -> None:
    pod = Pod(crio, handler, linux={"sysctls": {"net.ipv4.ip_default_ttl": "33", "kernel.shm_rmid_forced": "1"}})
    words = ["cat", "/proc/sys/net/ipv4/ip_default_ttl", "/proc/sys/kernel/shm_rmid_forced"]
    assert pod.said("tuned", *words) == (0, "33\n1\n")


def test_one_pid_namespace(crio: Crio, handler: str) -> None:
    """The pod then has a first process of its own, from the pause image."""
    if not CAPABLE:
        pytest.skip("CRI-O lowers the oom_score_adj of that process, which needs CAP_SYS_RESOURCE")
    pod = Pod(crio, handler, namespaces={"pid": POD})
    options = {"namespace_options": {"pid": POD}}
    assert pod.said("guest", "cat", "/proc/1/comm", security_context=options) == (0, "pause\n")


def test_pod_in_a_user_namespace(crio: Crio, handler: str) -> None:
    """Pods of their own ids: the root file system and volumes are mapped."""
    if handler == "runc":
        pytest.skip("runc 1.1 does not map mounts")
    ids = [{"host_id": 300000, "container_id": 0, "length": 65536}]
    spaces = {"pid": OWN, "userns_options": {"mode": POD, "uids": ids, "gids": ids}}
    pod = Pod(crio, handler, namespaces=spaces)
    (crio.folder / "volume").mkdir(exist_ok=True)
    volume = {"host_path": str(crio.folder / "volume"), "container_path": "/v", "uidMappings": ids, "gidMappings": ids}
    script = "cat /proc/self/uid_map; touch /x /v/x; stat -c %u:%g /x /v/x /bin/sh"
    status, said = pod.said(
        "mapped", "sh", "-c", script, mounts=[volume], security_context={"namespace_options": spaces}
    )
    assert (status, said.split()) == (0, ["0", "300000", "65536", "0:0", "0:0", "0:0"])
    assert (crio.folder / "volume" / "x").stat().st_uid == 0


def test_restarted_daemon(crio: Crio, handler: str) -> None:
    """Containers go on without CRI-O; what ended meanwhile is known when it is back."""
    pod = Pod(crio, handler)
    one, other = pod("one", *RUNNING), pod("other", *RUNNING)
    crio.stop()
    first = crio.state(other, handler)["pid"]
    os.kill(first, signal.SIGTERM)
    wait_until(lambda: first not in crio.premises.pids())
    crio.start()
    assert pod.status(one)["state"] == "CONTAINER_RUNNING"
    assert pod.execute(one, "cat", "/proc/1/comm") == (0, "sh\n", "")
    assert (pod.status(other)["state"], pod.status(other)["exitCode"]) == ("CONTAINER_EXITED", 6)
    pod.remove()


def test_killed_conmon(crio: Crio, handler: str) -> None:
    """The supervisor of a container dies: it can still be stopped and removed."""
    pod = Pod(crio, handler)
    id = pod("orphan", *RUNNING)
    first = crio.state(id, handler)["pid"]
    supervisor = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    assert Path(f"/proc/{supervisor}/comm").read_text() == "conmon\n"
    os.kill(supervisor, signal.SIGKILL)
    crio("stop", "--timeout", "5", id)
    wait_until(lambda: first not in crio.premises.pids())
    pod.remove()
