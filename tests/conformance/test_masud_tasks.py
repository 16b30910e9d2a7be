"""Tasks through masud with Debian's ctr: events, waiting, masud's death, and one engine with `masu`."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.callers.archives import archive
from harness.checkpoints import RUNNER, kept_and_restored
from harness.engine import MASU, alive, wait_until
from harness.masud import Masud
from harness.programs import ROOT, peer
from harness.pty import Terminal

from masu.linux.cgroups import detect

pytestmark = pytest.mark.root

IMAGE = "docker.io/library/busybox:latest"
# Our own, and others by --runc-binary. crun refuses cgroups in hybrid mode.
RUNTIMES = ["", "runc", "masu-oci", *([] if detect().mode == "hybrid" else ["crun"])]


class Tasks(Masud):
    """A masud with busybox, and what its tests say often."""

    def begin(self) -> None:
        self.start()
        self("images", "import", "--base-name", "docker.io/library/busybox", str(archive("busybox", self.folder)))

    @property
    def fifos(self) -> tuple[str, str]:
        return "--fifo-dir", str(self.folder / "fifo")

    def run(self, id: str, *command: str, options: tuple[str, ...] = ()) -> None:
        self("run", "-d", *self.fifos, *options, IMAGE, id, *command)

    def remove(self, id: str) -> None:
        self.try_("tasks", "rm", "-f", id)
        self.try_("containers", "rm", id)

    def status(self, id: str) -> str:
        lines = [line.split() for line in self("tasks", "ls").splitlines()]
        return next((words[2] for words in lines if words[0] == id), "")

    def pid(self, id: str) -> int:
        lines = [line.split() for line in self("tasks", "ls").splitlines()]
        return next(int(words[1]) for words in lines if words[0] == id)

    def masu(self, *words: str, ok: bool = True) -> str:
        command = [MASU, "--root", str(self.root), "--run", str(self.state), "--namespace", "default", *words]
        quiet = subprocess.DEVNULL
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=quiet, check=False)
        assert (done.returncode == 0) == ok, f"masu {' '.join(words)}: {done.returncode} {done.stdout}{done.stderr}"
        return done.stdout + ("" if ok else done.stderr)

    def background(self, *words: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.words(*words), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment
        )


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    it = Tasks(tmp_path_factory.mktemp("tasks"))
    it.begin()
    yield it
    it.stop()


class Listener:
    """`ctr events`, line by line."""

    def __init__(self, masud: Tasks) -> None:
        self._process = masud.background("events")
        self.lines: list[tuple[str, dict[str, object]]] = []
        self._seen = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        # It listens when it hears what is published.
        namespace = 0
        while not self.lines:
            namespace += 1
            masud("namespaces", "create", f"heard-{os.getpid()}-{namespace}")
            masud("namespaces", "rm", f"heard-{os.getpid()}-{namespace}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            match = re.fullmatch(r"\S+ \S+ \S+ \S+ (\S+) (/\S+) (\{.*\})\n", line.decode())
            assert match, line
            with self._seen:
                self.lines.append((match[2], json.loads(match[3])))
                self._seen.notify_all()

    def until(self, topic: str) -> list[tuple[str, dict[str, object]]]:
        """What came up to this topic; taken."""
        with self._seen:
            found = self._seen.wait_for(lambda: any(line[0] == topic for line in self.lines), 20)
            assert found, f"{topic} never came, but {self.lines}"
            taken, self.lines = self.lines, []
        return [line for line in taken if not line[0].startswith("/namespaces")]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


def test_events_of_a_run(masud: Tasks) -> None:
    listener = Listener(masud)
    try:
        done = masud.try_("run", "--rm", *masud.fifos, IMAGE, "one", "sh", "-c", "exit 3")
        assert done.returncode == 3
        told = listener.until("/containers/delete")
        assert [topic for topic, _ in told] == [
            "/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete",
            "/snapshot/remove", "/containers/delete",
        ]  # fmt: skip
        made, started, ended, deleted = (payload for _, payload in told[2:6])
        assert made["container_id"] == started["container_id"] == ended["container_id"] == "one"
        assert made["pid"] == started["pid"] == ended["pid"] == deleted["pid"]
        assert ended["exit_status"] == deleted["exit_status"] == 3
        assert ended["exited_at"] == deleted["exited_at"]
        assert Path(str(made["bundle"])).is_absolute()
        assert [mount["type"] for mount in made["rootfs"]] in (["overlay"], ["bind"])  # type: ignore[attr-defined]
        assert "one-stdout" in made["io"]["stdout"]  # type: ignore[index]
    finally:
        listener.close()


def test_events_of_an_exec_come_before_the_end_of_its_container(masud: Tasks) -> None:
    listener = Listener(masud)
    try:
        masud.run("two", "sleep", "1000")
        masud("tasks", "exec", "-d", *masud.fifos, "--exec-id", "x", "two", "sleep", "1000")
        masud("tasks", "pause", "two")
        masud("tasks", "resume", "two")
        masud("tasks", "rm", "-f", "two")
        told = [line for line in listener.until("/tasks/delete") if line[0].startswith("/tasks")]
        assert [topic for topic, _ in told] == [
            "/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/paused",
            "/tasks/resumed", "/tasks/exit", "/tasks/exit", "/tasks/delete",
        ]  # fmt: skip
        added, started, first, last = told[2][1], told[3][1], told[6][1], told[7][1]
        assert added == {"container_id": "two", "exec_id": "x"}
        assert started["exec_id"] == "x"
        assert (first["id"], first["pid"], first["exit_status"]) == ("x", started["pid"], 137)
        assert (last["id"], last["exit_status"]) == ("two", 137)
    finally:
        listener.close()
        masud.remove("two")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_want_of_memory_is_told_when_it_happens(masud: Tasks, runtime: str) -> None:
    """Whoever has made the container."""
    binary = str(ROOT / runtime) if runtime == "masu-oci" else runtime and peer(runtime)
    other = ("--runc-binary", binary) if binary else ()
    listener = Listener(masud)
    try:
        # The first process lives on; of the others one alone takes memory.
        script = "tail /dev/zero; echo over; exec sleep 1000"
        masud.run("hungry", "sh", "-c", script, options=(*other, "--memory-limit", str(16 << 20)))
        told = listener.until("/tasks/oom")
        assert [topic for topic, _ in told if topic.startswith("/tasks")] == [
            "/tasks/create", "/tasks/start", "/tasks/oom",
        ]  # fmt: skip
        assert masud.status("hungry") == "RUNNING"
        masud("tasks", "rm", "-f", "hungry")
        assert "/tasks/oom" not in [topic for topic, _ in listener.until("/tasks/delete")]
    finally:
        listener.close()
        masud.remove("hungry")


def test_a_wait_over_masuds_death(masud: Tasks) -> None:
    """The containers run on; who asks again is answered, also about what ended meanwhile."""
    masud.run("gone", "sh", "-c", "trap 'echo said; exit 6' TERM; echo up; while :; do sleep 0.02; done")
    masud.run("stays", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.02; done")
    try:
        wait_until(lambda: "up" in masud.masu("logs", "gone"))
        gone, stays = masud.pid("gone"), masud.pid("stays")
        waiting = masud.background("tasks", "attach", "stays")
        masud.kill()
        assert waiting.wait(30) != 0
        waiting.communicate()
        os.kill(gone, signal.SIGTERM)
        wait_until(lambda: not alive(gone))
        assert alive(stays)
        masud.start()
        assert masud.status("stays") == "RUNNING"
        wait_until(lambda: masud.status("gone") == "STOPPED")
        assert masud.masu("logs", "gone") == "up\nsaid\n"
        done = masud.try_("tasks", "rm", "gone")
        assert "exit with non-zero exit code 6" in done.stderr
        again = masud.background("tasks", "attach", "stays")
        os.kill(stays, signal.SIGTERM)
        assert again.wait(30) == 7
        again.communicate()
    finally:
        masud.remove("gone")
        masud.remove("stays")


def test_masu_sees_what_ctr_made(masud: Tasks) -> None:
    masud.run("seen", "sh", "-c", "echo first; exec sleep 1000")
    try:
        assert re.search(r'^seen +\S*busybox\S* +"sh -c .* Up .* seen$', masud.masu("ps", "--no-trunc"), re.M)
        wait_until(lambda: masud.masu("logs", "seen") == "first\n")
        assert masud.masu("exec", "seen", "cat", "/proc/1/comm") == "sleep\n"
        (shown,) = json.loads(masud.masu("inspect", "seen"))
        assert (shown["State"]["Status"], shown["State"]["Pid"]) == ("running", masud.pid("seen"))
        assert shown["Path"] == "sh"
        files = masud.masu("inspect", "--files", "seen")
        for name in ("attach.sock", "config.json", "log", "pid", "state.json", "cgroups", "snapshot seen of"):
            assert name in files, files
        masud.masu("stop", "-t", "0", "seen")
        wait_until(lambda: masud.status("seen") == "STOPPED")
        assert "Exited (137)" in masud.masu("ps", "-a")
        masud("tasks", "rm", "seen")
        masud.masu("start", "seen")
        assert masud.status("seen") == "RUNNING"
        masud.masu("rm", "-f", "seen")
        assert "seen" not in masud("containers", "ls", "-q")
        assert "seen" not in masud("snapshots", "ls")
    finally:
        masud.remove("seen")


def test_ctr_sees_what_masu_made(masud: Tasks) -> None:
    listener = Listener(masud)
    id = masud.masu("run", "-d", "--network", "none", IMAGE, "sleep", "1000").strip()
    try:
        assert masud.status(id) == "RUNNING"
        assert masud("tasks", "exec", *masud.fifos, "--exec-id", "x", id, "cat", "/proc/1/comm") == "sleep\n"
        assert json.loads(masud("containers", "info", id))["Spec"]["process"]["args"] == ["sleep", "1000"]
        masud("tasks", "kill", "-s", "KILL", id)
        # Its end is seen though nobody asks for it.
        listener.until("/tasks/start")
        told = listener.until("/tasks/exit")
        while told[-1][1]["id"] != id:
            told = listener.until("/tasks/exit")
        assert told[-1][1]["exit_status"] == 137
        assert masud.status(id) == "STOPPED"
        masud.try_("tasks", "rm", id)
        assert masud.status(id) == ""
        assert "Exited (137)" in masud.masu("ps", "-a")
        masud.masu("start", id)
        assert masud.status(id) == "RUNNING"
    finally:
        listener.close()
        masud.masu("rm", "-f", id)


def test_a_terminal(masud: Tasks) -> None:
    command = masud.words("run", "-t", "--rm", *masud.fifos, IMAGE, "tty", "sh")
    with Terminal(command, rows=31, columns=97, env=masud.environment) as terminal:
        terminal.wait_for("#")
        # ctr tells the size when the container runs already.
        terminal.type("until stty size | grep 31; do :; done; tty; exit 5\n")
        # Both may come at once: what is read is waited for no more.
        assert "31 97\r" in terminal.wait_for("/dev/pts/0")
        terminal.rest()
        assert terminal.wait(30) == 5


def test_started_by_hand(masud: Tasks) -> None:
    masud("containers", "create", IMAGE, "later", "ls", "now")
    try:
        done = masud.try_("tasks", "start", *masud.fifos, "later")
        assert (done.returncode, done.stderr) == (1, "ls: now: No such file or directory\n")
        assert masud.try_("tasks", "start", *masud.fifos, "later").returncode == 1
    finally:
        masud.remove("later")


@pytest.mark.parametrize("binary", ["", "runc"])
def test_what_is_piped_into_it_ends(masud: Tasks, binary: str) -> None:
    """Also when that is over before there is a task: ctr cannot ask for the end then (and hangs on containerd)."""
    options = ("--runc-binary", peer(binary)) if binary else ()
    for _ in range(3):
        assert masud("run", "--rm", *masud.fifos, *options, IMAGE, "piped", "cat", input=b"through") == "through"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--memory-limit", "1000"),
            r"linux\.resources\.memory\.limit: .*the limit is 1000 bytes, and the start alone",
        ),
        (("--runc-binary", "/nonexistent"), r'OCI runtime "/nonexistent": .*: not found'),
        (("--cwd", "relative"), r'process\.cwd: cwd "relative": Cwd must be an absolute path'),
    ],
)
def test_what_keeps_it_from_running_is_said(masud: Tasks, options: tuple[str, ...], said: str) -> None:
    assert re.search(said, masud.fails("run", "--rm", *masud.fifos, *options, IMAGE, "never", "true"))
    assert "never" not in masud("containers", "ls", "-q").split()


def test_another_runtime(masud: Tasks) -> None:
    """`--runc-binary`: the same monitor, the same answers; runc's own words where it refuses."""
    runc = ("--runc-binary", peer("runc"))
    done = masud.try_("run", "--rm", *masud.fifos, *runc, IMAGE, "other", "sh", "-c", "echo hello; exit 3")
    assert (done.returncode, done.stdout) == (3, "hello\n")
    assert "runc create failed" in masud.fails("run", "--rm", *masud.fifos, *runc, IMAGE, "other", "nosuch")
    masud.run("other", "sleep", "1000", options=runc)
    try:
        command = [peer("runc"), "--root", str(masud.state / "runtimes/default"), "list", "-q"]
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"other\n"
        assert masud("tasks", "exec", *masud.fifos, "--exec-id", "x", "other", "cat", input=b"through") == "through"
        masud.kill()
        masud.start()
        masud("tasks", "pause", "other")
        assert masud.status("other") == "PAUSED"
        masud("tasks", "resume", "other")
        masud("tasks", "rm", "-f", "other")
        assert os.listdir(masud.state / "runtimes/default") == []
    finally:
        masud.remove("other")


def test_a_logging_program(masud: Tasks) -> None:
    """`--log-uri binary://`, as nerdctl has it."""
    program = masud.folder / "logger"
    program.write_text('#!/bin/sh\nexec 5>&-\n{ echo "$CONTAINER_NAMESPACE/$CONTAINER_ID"; cat <&3; } > "$1"\n')
    program.chmod(0o755)
    said = masud.folder / "said"
    uri = f"binary://{program}?{said}"
    assert masud.try_("run", "--rm", "--log-uri", uri, IMAGE, "logged", "echo", "hello").returncode == 0
    wait_until(lambda: said.exists() and said.read_text() == "default/logged\nhello\n")


def test_a_checkpoint(masud: Tasks) -> None:
    """Where CRIU works it is written down; where it does not, that is said, and the task runs on."""
    masud.run("written", "sleep", "1000")
    try:
        works = subprocess.run([peer("criu"), "check"], capture_output=True, check=False).returncode == 0
        done = masud.try_("tasks", "checkpoint", "--image-path", str(masud.folder / "image"), "written")
        if works:
            assert done.returncode == 0
            assert (masud.folder / "image/inventory.img").exists()
        else:
            # Without a path, too, what is named can be read.
            done = masud.try_("tasks", "checkpoint", "written")
            (log,) = re.findall(r"\(CRIU's log: (\S+)\)", done.stderr)
            assert "Error" in Path(log).read_text()
        assert masud.status("written") == "RUNNING"
    finally:
        masud.remove("written")


@pytest.mark.parametrize("binary", ["", "runc"])
def test_restored(masud: Tasks, criu: str, binary: str) -> None:
    """`ctr containers checkpoint` and `restore --live`, by our runtime and by another; the daemon may come and go."""

    def again() -> None:
        masud.kill()
        masud.start()

    other = ("--runc-binary", peer(binary)) if binary else ()
    run = ["run", "-d", *masud.fifos, *other, IMAGE, "first", "sh", "-c", RUNNER]
    kept_and_restored(masud, run, "docker.io/library/kept:1", *masud.fifos, between=again)
    assert not os.path.exists(masud.state / "checkpoints/default/second")


def test_an_end_while_there_are_no_descriptors(masud: Tasks) -> None:
    """It is told when there are some again."""
    client = masud.background("run", *masud.fifos, IMAGE, "starved", "sleep", "1000")
    wait_until(lambda: masud.status("starved") == "RUNNING")
    pid, daemon = masud.pid("starved"), masud.process.pid
    before = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
    # Those below are open for good.
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, (8, before[1]))
    try:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "the monitor of" in masud.log())
    finally:
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, before)
    assert client.wait(20) == 137
    client.communicate()
    masud.remove("starved")
