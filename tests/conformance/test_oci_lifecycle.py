"""create, start, state, kill, delete, list, ps: what callers of a runtime rely on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.engine import wait_until
from harness.oci import Runtime, wait_exited

pytestmark = pytest.mark.root


def sleeping(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]


def test_without_a_path_the_cgroup_is_where_the_caller_is(runtime: Runtime, probe_rootfs: Path) -> None:
    """So that what limits the caller limits the container: a service that runs one, a container within a container.
    Below the caller's own on v1, beside it on v2."""
    v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    limited = Path("/sys/fs/cgroup", "" if v2 else "pids", f"masu-test-caller-{os.urandom(4).hex()}")
    callers = limited / "caller" if v2 else limited
    callers.mkdir(parents=True)
    try:
        id = runtime.id()
        script = f'echo 0 > {callers}/cgroup.procs && exec "$@"'
        bundle = str(runtime.bundle(probe_rootfs, sleeping))
        subprocess.run(["sh", "-c", script, "sh", *runtime.command, "create", "--bundle", bundle, id], check=True)
        lines = Path(f"/proc/{runtime.state(id)['pid']}/cgroup").read_text().splitlines()
        own = {controllers: path for _, controllers, path in (line.split(":") for line in lines)}
        assert own["" if v2 else "pids"] == f"/{limited.name}/{id}"
        runtime("delete", "--force", id)
    finally:
        for path in dict.fromkeys((callers, limited)):
            path.rmdir()


def test_the_whole_life(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    bundle = runtime.bundle(probe_rootfs, sleeping)
    pid_file = runtime.folder / "pid"
    runtime("create", "--bundle", str(bundle), "--pid-file", str(pid_file), id)
    state = runtime.state(id)
    assert state["status"] == "created"
    assert state["id"] == id
    assert state["bundle"] == str(bundle)
    assert state["rootfs"] == str(probe_rootfs)
    pid = int(pid_file.read_text())
    assert state["pid"] == pid
    runtime("start", id)
    assert runtime.state(id)["status"] == "running"
    if runtime.name == "masu-oci":
        # Ours returns when the program runs; runc a little before.
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"/bin/probe\0sleep\0"
    runtime("kill", id, "KILL")
    wait_exited(pid)
    state = runtime.state(id)
    assert (state["status"], state["pid"]) == ("stopped", 0)
    runtime("delete", id)
    gone = runtime("state", id, check=False)
    assert gone.returncode == 1
    assert "container does not exist" in gone.stderr


@pytest.mark.parametrize("status", [0, 7, 255])
def test_run_passes_the_exit_status_on(runtime: Runtime, probe_rootfs: Path, status: int) -> None:
    assert runtime.run(probe_rootfs, "exit", str(status), check=False).returncode == status


def test_run_leaves_nothing(runtime: Runtime, probe_rootfs: Path) -> None:
    assert runtime.run(probe_rootfs, "echo", "hi").stdout == "hi\n"
    assert runtime("list", "-q").stdout == ""


def test_list_of_a_root_that_is_not_there(masu_oci: Runtime) -> None:
    refused = masu_oci("list", check=False)
    assert refused.returncode == 1
    assert str(masu_oci.root) in refused.stderr


def test_list(runtime: Runtime, probe_rootfs: Path) -> None:
    runtime.root.mkdir(exist_ok=True)
    assert runtime("list").stdout.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert runtime("list", "-f", "json").stdout.strip() == "null"
    id = runtime.id()
    runtime("create", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    assert runtime("list", "-q").stdout == id + "\n"
    (entry,) = json.loads(runtime("list", "--format", "json").stdout)
    assert (entry["id"], entry["status"], entry["owner"]) == (id, "created", "root")
    header, line = runtime("list").stdout.splitlines()
    assert line.index("created") == header.index("STATUS")
    runtime("delete", "--force", id)


def test_ps(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    pid = runtime.state(id)["pid"]
    assert json.loads(runtime("ps", "-f", "json", id).stdout) == [pid]
    header, line = runtime("ps", id).stdout.splitlines()
    assert header.split()[:3] == ["UID", "PID", "PPID"]
    assert "/bin/probe sleep" in line
    assert runtime("ps", id, "-o", "pid,args").stdout.splitlines()[1].split() == [str(pid), "/bin/probe", "sleep"]


@pytest.mark.parametrize("signal", ["SIGKILL", ""])  # an empty word is none: SIGTERM
def test_signals_arrive(runtime: Runtime, probe_rootfs: Path, signal: str) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    pid = runtime.state(id)["pid"]
    runtime("kill", id, signal)
    wait_exited(pid)
    refused = runtime("kill", id, "TERM", check=False)
    assert refused.returncode == 1
    assert "container not running" in refused.stderr


def test_list_tells_of_what_is_torn(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    runtime("create", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    torn = runtime.root / "torn"
    torn.mkdir()
    (torn / "state.json").write_text("{")
    said = runtime("list", "-q")
    assert said.stdout == id + "\n"
    assert "load container torn: " in said.stderr
    shutil.rmtree(torn)


REFUSALS = [
    (["start"], "running", "cannot start an already running container"),
    (["delete"], "running", "that is not stopped: running"),
    (["start"], "stopped", "cannot start a container that has stopped"),
    (["exec", "/bin/probe"], "stopped", "cannot exec"),
    (["kill", "TERM"], "stopped", "container not running"),
]


@pytest.mark.parametrize(("verb", "status", "text"), REFUSALS, ids=[f"{v[0]}-{s}" for v, s, _ in REFUSALS])
def test_verbs_refused(runtime: Runtime, probe_rootfs: Path, verb: list[str], status: str, text: str) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    if status == "stopped":
        pid = runtime.state(id)["pid"]
        runtime("kill", id, "KILL")
        wait_exited(pid)
    refused = runtime(verb[0], id, *verb[1:], check=False)
    assert refused.returncode != 0
    assert text in refused.stderr


def test_an_id_is_taken_once(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    bundle = str(runtime.bundle(probe_rootfs, sleeping))
    runtime("create", "--bundle", bundle, id)
    again = runtime("create", "--bundle", bundle, id, check=False)
    assert again.returncode == 1
    assert "container with given ID already exists" in again.stderr
    assert runtime.state(id)["status"] == "created"


@pytest.mark.parametrize("id", ["", "a/b", "..", "a b", "ä"])
def test_ids_that_cannot_be(masu_oci: Runtime, probe_rootfs: Path, id: str) -> None:
    refused = masu_oci("create", "--bundle", str(masu_oci.bundle(probe_rootfs)), id, check=False)
    assert refused.returncode == 1
    assert "invalid container ID format" in refused.stderr


@pytest.mark.parametrize("verb", [["start"], ["delete", "--force"]])
def test_a_verb_that_waits_for_create(masu_oci: Runtime, probe_rootfs: Path, tmp_path: Path, verb: list[str]) -> None:
    """`start` had looked before there was a process, waited, and refused what it found in its memory."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/bin/probe", "sleep"]
        config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"read word < {fifo}"]}]}

    id, pid_file = masu_oci.id(), tmp_path / "pid"
    words = ["create", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), "--pid-file", str(pid_file), id]
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with subprocess.Popen([*masu_oci.command, *words], **quiet) as creating, fifo.open("w") as release:
        # The hook has it open, so there is a state.json, and `create` has the lock.
        with subprocess.Popen([*masu_oci.command, *verb, id], stderr=subprocess.PIPE, text=True) as waiting:
            wait_until(lambda: waits_for_a_lock(waiting.pid))
            release.write("go\n")
            release.flush()
            assert creating.wait(60) == 0
            said = waiting.communicate(timeout=60)[1]
        assert (waiting.returncode, said) == (0, "")
    if verb == ["start"]:
        assert masu_oci.state(id)["status"] == "running"
    else:
        wait_exited(int(pid_file.read_text()))
        assert masu_oci("state", id, check=False).returncode == 1


def waits_for_a_lock(pid: int) -> bool:
    """proc_locks(5): who waits stands behind an arrow."""
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(fields[1] == "->" and fields[5] == str(pid) for fields in lines)


def test_delete_of_a_created_container(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    runtime("create", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    pid = runtime.state(id)["pid"]
    runtime("delete", id)
    wait_exited(pid)
    assert runtime("list", "-q").stdout == ""


def test_forced_delete_of_what_is_not_there(runtime: Runtime) -> None:
    assert runtime("delete", "--force", "masu-test-nobody", check=False).returncode == 0
    assert runtime("delete", "masu-test-nobody", check=False).returncode == 1


def test_pause_and_resume(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    runtime("pause", id)
    assert runtime.state(id)["status"] == "paused"
    refused = runtime("exec", id, "/bin/probe", "exit", "0", check=False)
    assert refused.returncode != 0
    runtime("resume", id)
    assert runtime.state(id)["status"] == "running"


def test_exec(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    assert runtime("exec", id, "/bin/probe", "echo", "inside").stdout == "inside\n"
    assert runtime("exec", id, "/bin/probe", "exit", "9", check=False).returncode == 9
    assert runtime("exec", "--cwd", "/etc", id, "/bin/probe", "cwd").stdout == "/etc\n"
    assert "A=1" in runtime("exec", "-e", "A=1", id, "/bin/probe", "env").stdout.splitlines()
    assert runtime("exec", "-u", "1000:1000", id, "/bin/probe", "id").stdout == (
        runtime.run(probe_rootfs, "id", change=lambda c: c["process"].update(user={"uid": 1000, "gid": 1000})).stdout
    )
    missing = runtime("exec", id, "/bin/nothing", check=False)
    assert missing.returncode == 255
    assert "/bin/nothing" in missing.stderr
    process = runtime.folder / "process.json"
    process.write_text(
        json.dumps({"args": ["/bin/probe", "echo", "file"], "cwd": "/", "env": [], "user": {"uid": 0, "gid": 0}})
    )
    assert runtime("exec", "--process", str(process), id).stdout == "file\n"


def test_exec_into_a_cgroup_namespace(runtime: Runtime, probe_rootfs: Path) -> None:
    def own_cgroups(config: dict[str, Any]) -> None:
        sleeping(config)
        config["linux"]["namespaces"].append({"type": "cgroup"})

    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(probe_rootfs, own_cgroups)), id)
    lines = runtime("exec", id, "/bin/probe", "cat", "/proc/self/cgroup").stdout.splitlines()
    assert {line.partition(":/")[2] for line in lines} == {""}


def test_exec_detached(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(probe_rootfs, sleeping)), id)
    pid_file = runtime.folder / "exec.pid"
    runtime("exec", "-d", "--pid-file", str(pid_file), id, "/bin/probe", "sleep")
    pids = json.loads(runtime("ps", "-f", "json", id).stdout)
    assert int(pid_file.read_text()) in pids
    assert len(pids) == 2


def test_stdio_is_the_callers(runtime: Runtime, probe_rootfs: Path) -> None:
    bundle = runtime.bundle(probe_rootfs, lambda c: c["process"].update(args=["/bin/probe", "stdin"]))
    done = subprocess.run(
        [*runtime.command, "run", "--bundle", str(bundle), runtime.id()],
        input=b"through\n", capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert b"through" in done.stdout


def test_program_that_is_missing(runtime: Runtime, probe_rootfs: Path) -> None:
    bundle = runtime.bundle(probe_rootfs, lambda c: c["process"].update(args=["nothing-here"]))
    refused = runtime("create", "--bundle", str(bundle), runtime.id(), check=False)
    assert refused.returncode == 1
    assert 'exec: "nothing-here": ' in refused.stderr.replace("\\", "")
    assert "executable file not found in $PATH" in refused.stderr
    assert runtime("list", "-q").stdout == ""


def test_log_in_json(runtime: Runtime) -> None:
    log = runtime.folder / "log.json"
    subprocess.run(
        [*runtime.command, "--log", str(log), "--log-format", "json", "start", "masu-test-nobody"],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    record = json.loads(log.read_text().splitlines()[-1])
    assert record["level"] == "error"
    assert "container does not exist" in record["msg"]
    assert set(record) >= {"level", "msg", "time"}


def test_preserved_fds(runtime: Runtime, probe_rootfs: Path) -> None:
    bundle = str(runtime.bundle(probe_rootfs, lambda c: c["process"].update(args=["/bin/probe", "fds"])))

    def fds_inside(*options: str) -> list[str]:
        command = [*runtime.command, "run", *options, "--bundle", bundle, runtime.id()]
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" 3</etc/passwd', "sh", *command], check=True, capture_output=True, text=True
        )
        return [line.split()[0] for line in done.stdout.splitlines()]

    assert fds_inside("--preserve-fds", "1") == ["0", "1", "2", "3"]
    assert fds_inside() == ["0", "1", "2"]
