"""containerd with containerd-shim-masu-v2 in the place of its own shim: Debian's containerd and ctr, unpatched."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.callers import check_shell, document
from harness.callers.containerd import Shims
from harness.checkpoints import RUNNER, kept_and_restored
from harness.engine import wait_until
from harness.programs import MASU_OCI, peer

pytestmark = pytest.mark.root


@pytest.fixture
def box(shims: Shims) -> Iterator[str]:
    """A container that runs for as long as the test."""
    shims(*shims.own("box", "--detach"), "sleep", "999")
    yield "box"
    shims("tasks", "rm", "-f", "box")
    shims("containers", "rm", "box")


def test_what_the_document_says(shims: Shims) -> None:
    (words,) = document.commands("A container", "shim.md")
    at = words.index("run") + 1
    own = ["--cgroup", f"/{shims.premises.cgroup}/document"]
    assert shims(*words[1:at], *own, *words[at:]) == "uid=0(root) gid=0(root) groups=0(root)\n"


def test_what_is_there(shims: Shims, box: str) -> None:
    """One process of ours serves, one monitor carries the container, and nothing is mounted on the host."""
    assert len(shims.shims()) == 1
    assert len(shims.monitors()) == 1
    assert shims.runtime_states() == [box]
    pid = shims("tasks", "ls").split()[-2]
    assert pid in shims("tasks", "ps", box)
    assert shims.mounts() == []
    state = json.loads(shims.premises.run([MASU_OCI, "--root", shims.RUN_ROOT, "state", box]).stdout)
    assert (state["status"], str(state["pid"])) == ("running", pid)
    assert state["bundle"].endswith(f"/state/io.containerd.runtime.v2.task/default/{box}")


# (options, command, exit status, what is said: a pattern)
RUNS: dict[str, tuple[list[str], list[str], int, str]] = {
    "status": ([], ["sh", "-c", "exit 5"], 5, "^$"),
    "output": ([], ["sh", "-c", "echo out; echo err >&2"], 0, "^out\nerr$"),
    "much output": ([], ["sh", "-c", "seq 100000 | tail -c 300000 | md5sum"], 0, "^[0-9a-f]{32} "),
    "missing": ([], ["/nothing"], 1, 'OCI runtime create failed: .*exec: "/nothing": stat /nothing: no such file'),
    "not to be found": ([], ["nothing"], 1, r"exec: \"nothing\": executable file not found in \$PATH"),
    "read-only": (["--read-only"], ["touch", "/x"], 1, "Read-only file"),
    "working directory": (["--cwd", "/tmp"], ["pwd"], 0, "^/tmp$"),
    "variable": (["--env", "A=b c"], ["sh", "-c", "echo $A"], 0, "^b c$"),
    "bind": (["--mount", "type=bind,src=/etc,dst=/e,options=rbind:ro"], ["touch", "/e/x"], 1, "Read-only file"),
    "host's network": (["--net-host"], ["cat", "/proc/net/route"], 0, "Iface"),
    "memory": (["--memory-limit", "33554432"], ["cat", "/proc/self/cgroup"], 0, "memory|^0::"),
    "seccomp": (["--seccomp"], ["grep", "Seccomp:", "/proc/self/status"], 0, "\t2$"),
    "no capability": (["--cap-drop", "CAP_CHOWN"], ["chown", "1", "/tmp"], 1, "Operation not permitted"),
    "no pivot": (["--no-pivot"], ["id", "-u"], 0, "^0$"),
    "another snapshotter": (["--snapshotter", "native"], ["sh", "-c", "echo x > /x && cat /x"], 0, "^x$"),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_run(shims: Shims, what: str) -> None:
    options, command, status, said = RUNS[what]
    done = shims.try_(*shims.own("one", "--rm", *options), *command)
    shown = (done.stdout + done.stderr.replace("\\", "")).strip()
    assert done.returncode == status, shown
    assert re.search(said, shown), shown
    assert shims.runtime_states() == []


def test_exec(shims: Shims, box: str) -> None:
    words = ["tasks", "exec", "--exec-id", "more", "--cwd", "/tmp"]
    assert shims(*words, box, "pwd") == "/tmp\n"
    assert shims.try_(*words, box, "sh", "-c", "exit 3").returncode == 3
    failed = shims.try_(*words, box, "/nothing").stderr
    assert re.search(r"OCI runtime exec failed: .*no such file", failed), failed
    # What could not be started leaves no trace: its id is free again.
    assert shims(*words, box, "echo", "again") == "again\n"


@contextmanager
def fed(shims: Shims, box: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """An exec `fed` whose stdin is a pipe, when it runs."""
    words = [*shims.premises.prefix, *shims.words, "tasks", "exec", "--exec-id", "fed", box, *command]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=shims.premises.environment, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        wait_until(lambda: "fed" in shims("tasks", "ps", box))
        yield process


def test_stdin(shims: Shims, box: str) -> None:
    """What is written arrives, whole, and its end after it."""
    data = bytes(range(256)) * 2000
    with fed(shims, box, "md5sum") as process:
        said, complained = process.communicate(data, timeout=20)
    assert said.split()[0].decode() == hashlib.md5(data).hexdigest(), complained


def test_what_is_piped_into_a_container_ends(shims: Shims) -> None:
    """Also when that is over before there is a task of which ctr could ask it."""
    for _ in range(3):
        assert shims(*shims.own("piped", "--rm"), "cat", input=b"through") == "through"


def test_kill_of_one_whose_stdin_is_full(shims: Shims, box: str) -> None:
    with fed(shims, box, "sleep", "998") as process:
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        while select.select([], [process.stdin], [], 1.0)[1]:
            os.write(process.stdin.fileno(), bytes(65536))
        shims("tasks", "kill", "--exec-id", "fed", "-s", "KILL", box)
        assert process.wait(20) == 137


def test_terminal(shims: Shims, box: str) -> None:
    for words in (
        [*shims.own("tty", "--rm", "--tty"), "sh"], ["tasks", "exec", "--exec-id", "tty", "--tty", box, "sh"],
    ):  # fmt: skip
        check_shell(shims.terminal(*words))


def test_pause(shims: Shims, box: str) -> None:
    shims("tasks", "pause", box)
    assert shims.status(box) == "PAUSED"
    assert "cannot exec in a paused" in shims.try_("tasks", "exec", "--exec-id", "no", box, "true").stderr
    shims("tasks", "resume", box)
    assert shims.status(box) == "RUNNING"


def test_processes_of_a_container(shims: Shims, box: str) -> None:
    """An exec is told by its id."""
    exec_ = ["tasks", "exec", "--exec-id", "watch", "--detach", box, "sleep", "998"]
    shims(*exec_)
    lines = shims("tasks", "ps", box).splitlines()[1:]
    assert len(lines) == 2
    assert any("watch" in line for line in lines)
    shims("tasks", "kill", "--exec-id", "watch", "-s", "KILL", box)
    wait_until(lambda: len(shims("tasks", "ps", box).splitlines()) == 2)


def test_kill(shims: Shims) -> None:
    script = "trap 'exit 6' TERM; : > /ready; while :; do sleep 0.1; done"
    shims(*shims.own("trap", "--detach"), "sh", "-c", script)
    wait_until(lambda: shims.try_("tasks", "exec", "--exec-id", "look", "trap", "test", "-e", "/ready").returncode == 0)
    shims("tasks", "kill", "-s", "TERM", "trap")
    wait_until(lambda: shims.status("trap") == "STOPPED")
    assert "process already finished" in shims.try_("tasks", "kill", "trap").stderr
    assert "exit code 6" in shims.try_("tasks", "rm", "trap").stderr
    # Once more from the container that is there, as a supervisor restarts it.
    shims("tasks", "start", "--detach", "trap")
    assert shims.status("trap") == "RUNNING"
    shims("tasks", "rm", "-f", "trap")
    shims("containers", "rm", "trap")


@pytest.mark.parametrize("how", ["option", "file"])
def test_another_runtime(shims: Shims, tmp_path: Path, how: str) -> None:
    """runc by `--runc-binary`, or named in a file of options; the shim and the monitor are ours."""
    file = tmp_path / "runc.toml"
    file.write_text(f'BinaryName = "{peer("runc")}"\n')
    binary = peer("runc") if how == "option" else ""
    options = [] if binary else ["--runtime-config-path", str(file)]

    def run(*words: str) -> list[str]:
        return shims.own("other", *options, *words, binary=binary)

    done = shims.try_(*run("--rm"), "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    check_shell(shims.terminal(*run("--rm", "--tty"), "sh"))
    failed = shims.try_(*run("--rm"), "nothing").stderr
    assert re.search(r"OCI runtime create failed: .*runc create failed: .*nothing", failed), failed
    shims(*run("--detach"), "sleep", "999")
    try:
        runc = [peer("runc"), "--root", "/run/containerd/runc/default"]
        assert shims.premises.run([*runc, "list", "-q"]).stdout == "other\n"
        assert (len(shims.shims()), len(shims.monitors())) == (1, 1)
        exec_ = ["tasks", "exec", "--exec-id", "more"]
        assert shims(*exec_, "--cwd", "/tmp", "other", "pwd") == "/tmp\n"
        assert shims.try_(*exec_, "other", "sh", "-c", "exit 3").returncode == 3
        assert "no such file" in shims.try_(*exec_, "other", "/nothing").stderr
        shims("tasks", "pause", "other")
        assert shims.status("other") == "PAUSED"
        shims("tasks", "resume", "other")
        assert "memory.usage" in shims("tasks", "metrics", "other")
        assert len(shims("tasks", "ps", "other").splitlines()) == 2
        shims("tasks", "kill", "-s", "KILL", "other")
        wait_until(lambda: shims.status("other") == "STOPPED")
        assert "exit code 137" in shims.try_("tasks", "rm", "other").stderr
        assert shims.premises.run([*runc, "list", "-q"]).stdout == ""
    finally:
        shims.try_("tasks", "rm", "-f", "other")
        shims("containers", "rm", "other")


def test_options_that_are_wrong(shims: Shims, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    for text, said in (
        ("Binaryname = 'runc'", "Binaryname.*unknown"), ("SystemdCgroup = 'yes'", "a boolean is wanted"),
        ("BinaryName = 'no-such-runtime'", "no-such-runtime.*not in .PATH"), ("=", "Invalid"),
    ):  # fmt: skip
        file.write_text(text)
        failed = shims.try_(*shims.own("other", "--rm", "--runtime-config-path", str(file)), "true").stderr
        assert re.search(said, failed), failed


def test_checkpoint(shims: Shims, box: str) -> None:
    """With a CRIU that works on this kernel, or without: the container goes on, and the reason is told."""
    works = subprocess.run([peer("criu"), "check"], capture_output=True, check=False).returncode == 0
    done = shims.try_("tasks", "checkpoint", box)
    assert (done.returncode == 0) == works, done.stderr
    assert works or "criu failed" in done.stderr, done.stderr
    assert shims.status(box) == "RUNNING"
    assert shims("tasks", "exec", "--exec-id", "after", box, "echo", "alive") == "alive\n"


@pytest.mark.parametrize("binary", ["", "runc"])
def test_restored(shims: Shims, criu: str, binary: str) -> None:
    """`ctr containers checkpoint` and `restore --live`, on our runtime and on another."""
    run = shims.own("first", "--detach", binary=binary and peer(binary))
    kept_and_restored(shims, [*run, "sh", "-c", RUNNER], "docker.io/library/kept:1")
    assert shims.mounts() == []
    assert shims.runtime_states() == []


def test_written_down_and_ended(shims: Shims, criu: str) -> None:
    """By the name of containerd's own shim: with others ctr forgets --exit."""
    # With a spec of its own: containerd does not write the same one down twice.
    shims(*shims.own("ends", "--detach", "--env", "WHAT=ends", binary=MASU_OCI), "sleep", "999")
    shims("tasks", "checkpoint", "--exit", "ends")
    wait_until(lambda: shims.status("ends") == "STOPPED")
    assert "exit code 137" in shims.try_("tasks", "rm", "ends").stderr
    shims("containers", "rm", "ends")


@contextmanager
def events(shims: Shims) -> Iterator[list[tuple[str, dict[str, object]]]]:
    """What `ctr events` says of tasks; complete when the block has ended."""
    found: list[tuple[str, dict[str, object]]] = []
    listener = subprocess.Popen(
        [*shims.premises.prefix, *shims.words, "events"],
        stdout=subprocess.PIPE,
        text=True,
        env=shims.premises.environment,
    )
    assert listener.stdout is not None
    try:
        # It does not say that it listens: what it tells of ours, once it does.
        number = 0
        while not select.select([listener.stdout], [], [], 0.1)[0]:
            number += 1
            shims("namespaces", "label", "default", f"mark={number}")
        yield found
        shims("namespaces", "label", "default", "mark=end")
        for line in listener.stdout:
            _, _, _, _, _, topic, text = line.split(" ", 6)
            data = json.loads(text)
            if topic == "/namespaces/update" and data.get("labels") == {"mark": "end"}:
                break
            if topic.startswith("/tasks/"):
                found.append((topic, data))
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()


def test_events(shims: Shims) -> None:
    """In the order of containerd's own shim, and with what it tells."""
    with events(shims) as found:
        shims(*shims.own("told", "--detach"), "sleep", "999")
        shims.try_("tasks", "exec", "--exec-id", "more", "told", "sh", "-c", "exit 3")
        shims("tasks", "pause", "told")
        shims("tasks", "resume", "told")
        shims("tasks", "rm", "-f", "told")
        shims("containers", "rm", "told")
    assert [topic.removeprefix("/tasks/") for topic, _ in found] == [
        "create", "start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit", "delete",
    ]  # fmt: skip
    told = dict(found[:4])
    pid = told["/tasks/create"]["pid"]
    assert told["/tasks/start"] == {"container_id": "told", "pid": pid}
    ends = [data for topic, data in found if topic == "/tasks/exit"]
    assert [(end["id"], end["exit_status"]) for end in ends] == [("more", 3), ("told", 137)]
    assert ends[1]["pid"] == pid
    assert {"exit_status": 137, "exited_at": ends[1]["exited_at"]}.items() <= found[-1][1].items()


def test_memory_that_runs_short(shims: Shims) -> None:
    with events(shims) as found:
        script = "x=0123456789; while :; do x=$x$x; done"
        done = shims.try_(*shims.own("hungry", "--rm", "--memory-limit", "8388608"), "sh", "-c", script)
        assert done.returncode == 137
    topics = [topic for topic, _ in found]
    assert topics.index("/tasks/oom") < topics.index("/tasks/exit")


def test_metrics(shims: Shims, box: str) -> None:
    """In containerd's typed form, which ctr knows how to show."""
    said = shims("tasks", "metrics", box)
    assert re.search(r"^pids.current\s+1\s*$", said, re.MULTILINE), said
    assert re.search(r"^memory.usage\S*\s+[1-9]", said, re.MULTILINE), said
