"""A command does the same by a brain as without one; nothing of a call is left for the next; nobody gets more power."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.brain import Installation
from harness.chaos import Brood
from harness.engine import alive, wait_until
from harness.keepers import children_of, has_spares, parent_of
from harness.oci import base_config

pytestmark = pytest.mark.root


@pytest.fixture
def masu(installed: Installation) -> Installation:
    installed.warm()
    return installed


def bundle(folder: Path, rootfs: Path, *args: str, **process: object) -> str:
    config = base_config()
    config["root"]["path"] = str(rootfs)
    config["process"]["args"] = list(args)
    config["process"].update(process)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture
def dump(tmp_path: Path, busybox: Path) -> str:
    """A bundle whose program tells what its process is."""
    script = (
        "cat /proc/self/status /proc/self/limits /proc/self/cgroup /proc/self/oom_score_adj /proc/self/personality;"
        "cat /proc/self/sched | grep -E 'policy|prio' ; cat /proc/self/timerslack_ns; umask; pwd; env;"
        "ls -l /proc/self/fd 2>/dev/null | grep -v /proc/"
    )
    return bundle(tmp_path / "dump", busybox, "/bin/sh", "-c", script)


VOLATILE = ("Vm", "Rss", "Hugetlb", "voluntary_ctxt", "nonvoluntary", "Mems", "Threads", "SigQ", "total ")


def steady(text: str) -> list[str]:
    """What does not differ from one process to the next: no sizes, counts, inodes, times."""
    lines = [line for line in text.splitlines() if not line.startswith(VOLATILE)]
    return [" ".join(word for word in line.split() if "[" not in word and ":" not in word) or line for line in lines]


def files_of_brains() -> set[str]:
    try:
        return set(os.listdir("/run/masu/brain"))
    except FileNotFoundError:
        return set()


def odd() -> None:
    """A caller that is unlike others in all that a child inherits."""
    os.umask(0o057)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, 1000))
    resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192))
    Path("/proc/self/oom_score_adj").write_text("321")
    ctypes.CDLL(None).personality(0x0040000)  # ADDR_NO_RANDOMIZE
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def test_what_a_contained_process_is(masu: Installation, dump: str) -> None:
    seen = {}
    for brain in ("off", "require"):
        words = ["run", "--bundle", dump, "--preserve-fds", "1", "dump"]
        prefix = ["sh", "-c", 'exec "$@" 3</dev/zero', "sh"]
        done = masu.try_("masu-oci", *words, brain=brain, preexec_fn=odd, prefix=prefix)
        assert (done.returncode, done.stderr) == (0, ""), done
        seen[brain] = steady(done.stdout)
    assert "0057" not in seen["off"]  # the config's own umask
    assert any("777" in line for line in seen["off"])
    assert seen["require"] == seen["off"]


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("masu-oci", ["--version"]),
        ("masu-oci", ["--help"]),
        ("masu-oci", ["state", "nobody"]),
        ("masu-oci", ["create", "--bundle", "nowhere", "x"]),
        ("masu-oci", ["no-such-verb"]),
        ("masu-oci", ["kill", "a", "b", "c", "d"]),
        ("masu-oci", ["features"]),
        ("masu-oci", ["spec", "--bundle", "/dev/null"]),
        ("masu", ["--version"]),
        ("masu", ["--help"]),
        ("masu", ["run"]),
        ("masu", ["run", "--rm", "no/such:image:at all"]),
        ("masu", ["ps", "-a", "--format", "{{.Nonsense}}"]),
        ("masu", ["images"]),
        ("masu", ["inspect", "nobody"]),
        ("masu", ["run", "--rm", "host", "sh", "-c", "echo out; echo err >&2; exit 7"]),
        ("masu", ["run", "--rm", "host", "sh", "-c", "kill -9 $$"]),
    ],
)
def test_words_and_statuses_are_the_same(masu: Installation, program: str, args: list[str]) -> None:
    answers = [masu.try_(program, *args, brain=brain) for brain in ("off", "require")]
    cold, warm = ((done.returncode, done.stdout, without_time(done.stderr)) for done in answers)
    assert warm == cold


def without_time(text: str) -> str:
    return "\n".join(line.partition(" ")[2] if line.startswith("time=") else line for line in text.splitlines())


def test_what_nobody_catches_is_shown(masu: Installation) -> None:
    for brain in ("off", "require"):
        done = masu.try_("masu", "--debug", "rename", "nobody", "other", brain=brain)
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback")
        assert "masu.errors.NotFound" in done.stderr


@pytest.mark.parametrize(("brain", "first"), [("off", "start"), ("require", "front")])
def test_where_the_time_went(masu: Installation, brain: str, first: str) -> None:
    done = masu.try_("masu", "--timings", "run", "--rm", "host", "echo", "hello", brain=brain)
    assert (done.returncode, done.stdout) == (0, "hello\n")
    rows = [line.split() for line in done.stderr.splitlines()]
    assert [row[0] for row in rows] == ["total", first, "masu", "kernel", "program"]
    total, *parts = (float(row[1]) for row in rows)
    assert abs(total - sum(parts)) < 0.05
    assert masu.try_("masu", "--timings", "inspect", "nobody", brain=brain).returncode == 1


# --- nothing of one call in the next ---


def test_environment_directory_umask_and_fds_are_each_calls_own(masu: Installation, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    secret = {**masu.environ("require"), "SECRET": "swordfish", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    for _ in range(4):
        done = masu.try_("masu-oci", "spec", env=secret, cwd=tmp_path / "here", umask=0o077, pass_fds=(1, 2))
        assert done.returncode == 0, done
        made = tmp_path / "here/config.json"
        assert made.stat().st_mode & 0o077 == 0
        made.unlink()
    wait_until(lambda: has_spares(masu.keeper()))
    for spare in children_of(masu.keeper()):
        assert b"swordfish" not in Path(f"/proc/{spare}/environ").read_bytes()
        assert os.readlink(f"/proc/{spare}/cwd") == "/"
    script = "env; umask; pwd"
    said = masu("masu", "run", "--rm", "-w", "/", "host", "sh", "-c", script, umask=0o022, cwd="/tmp")
    assert "swordfish" not in said
    assert "Tokyo" not in said


def test_closed_standard_fds(masu: Installation, tmp_path: Path) -> None:
    for closing in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        for brain in ("off", "require"):
            words = ["sh", "-c", f'"$@" {closing}', "sh", masu.front("masu-oci"), "--root", str(tmp_path), "list"]
            done = subprocess.run(words, env=masu.environ(brain), capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), (closing, brain)
            assert bool(done.stdout) == (">&-" not in closing.split())


def test_words_and_variables_of_any_bytes(masu: Installation) -> None:
    odd_words = [b"state", b"\xff\xfe-\xe4"]
    for brain in ("off", "require"):
        done = subprocess.run(
            [masu.front("masu-oci").encode(), *odd_words], env={**masu.environ(brain), "X": "\udcff"},
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr


def test_a_hundred_thousand_words(masu: Installation) -> None:
    many = ["x"] * 100_000
    for brain in ("off", "require"):
        done = masu.try_("masu", "inspect", *many, brain=brain)
        assert done.returncode == 1, done.stderr[-500:]
        assert done.stderr.count("x") >= len(many)


# --- whose children, whose signals ---


def test_processes_are_the_callers_children(masu: Installation, tmp_path: Path, busybox: Path) -> None:
    """As with runc: after `create` the first process falls to the caller's subreaper, in the caller's session."""
    at = bundle(tmp_path / "b", busybox, "/bin/sleep", "600")
    root = ["--root", str(tmp_path / "oci")]
    with Brood() as brood:
        with open(os.devnull, "w") as null:
            subprocess.run(
                [masu.front("masu-oci"), *root, "create", "--bundle", at, "box"],
                env=masu.environ("require"), stdin=null, stdout=null, stderr=null, check=True,
            )  # fmt: skip
        state = json.loads(masu("masu-oci", *root, "state", "box"))
        assert state["status"] == "created"
        assert parent_of(state["pid"]) == os.getpid()
        masu("masu-oci", *root, "start", "box")
        masu("masu-oci", *root, "delete", "-f", "box")
        brood.wait_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_of_the_foreground_go_to_the_container(
    masu: Installation, tmp_path: Path, busybox: Path, number: signal.Signals
) -> None:
    script = f"trap 'echo got; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    at = bundle(tmp_path / "b", busybox, "/bin/sh", "-c", script)
    with masu.start("masu-oci", "--root", str(tmp_path / "oci"), "run", "--bundle", at, "box") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"ready\n", running.stderr.read()
        running.send_signal(number)
        assert running.stdout.read() == b"got\n"
    assert running.returncode == 9


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGHUP, -1), (signal.SIGKILL, -9)]
)
def test_signals_end_a_command_that_waits(masu: Installation, number: signal.Signals, status: int) -> None:
    masu("masu", "run", "-d", "--name", "box", "host", "sh", "-c", "echo ready; exec sleep 600")
    try:
        with masu.start("masu", "logs", "--follow", "box") as waiting:
            assert waiting.stdout is not None
            assert waiting.stdout.readline() == b"ready\n"
            waiting.send_signal(number)
        assert waiting.returncode == status
    finally:
        masu("masu", "rm", "-f", "box")
    # Whoever did the work has gone with its caller.
    wait_until(lambda: has_spares(masu.keeper()))


def test_a_terminal_in_the_foreground(masu: Installation) -> None:
    front, name = pty.openpty()
    script = "stty size; read x; echo got $x; exit 5"
    said = b""

    def until(text: bytes) -> None:
        nonlocal said
        while text not in said:
            ready, _, _ = select.select([front], [], [], 30)
            assert ready, said
            said += os.read(front, 4096)

    with masu.start(
        "masu", "run", "--rm", "-it", "host", "sh", "-c", script, stdin=name, stdout=name, stderr=name,
        start_new_session=True,
    ) as running:  # fmt: skip
        os.close(name)
        until(b"\n")
        os.write(front, b"word\r")
        until(b"got word")
    assert running.returncode == 5
    os.close(front)


# --- power ---


def with_no_new_privs() -> None:
    assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0


def with_other_groups() -> None:
    os.setgroups([4242])


def with_fewer_capabilities() -> None:
    assert ctypes.CDLL(None).prctl(24, 30, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_AUDIT_CONTROL


def with_landlock() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    rights = (ctypes.c_uint64 * 1)(1 << 7)  # LANDLOCK_ACCESS_FS_MAKE_DIR: it matters to nothing here
    ruleset = libc.syscall(444, rights, 8, 0)
    if ruleset < 0:
        os._exit(77)  # this kernel has none
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.syscall(446, ruleset, 0) == 0


@pytest.mark.parametrize(
    "change", [with_no_new_privs, with_other_groups, with_fewer_capabilities, with_landlock],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_who_has_other_powers_goes_cold(masu: Installation, change: Callable[[], None]) -> None:
    required = masu.try_("masu", "--version", preexec_fn=change)
    if required.returncode == 77:
        pytest.skip("no Landlock in this kernel")
    assert required.returncode == 125
    assert "MASU_BRAIN=require: the brain's power is not ours" in required.stderr
    assert masu("masu", "--version", brain="auto", preexec_fn=change).startswith("masu version")


@pytest.mark.parametrize(
    "prefix",
    [["unshare", "--net"], ["unshare", "--uts"], ["unshare", "--ipc"], ["unshare", "--cgroup"], ["unshare", "--time"]],
    ids=lambda words: " ".join(words),
)
def test_who_is_in_another_namespace_goes_cold(masu: Installation, prefix: list[str]) -> None:
    done = masu.try_("masu", "--version", prefix=prefix)
    assert done.returncode == 125, done
    assert masu("masu", "--version", brain="auto", prefix=prefix).startswith("masu version")


def test_who_is_in_another_mount_namespace_has_a_brain_of_its_own(masu: Installation) -> None:
    ours = masu.keeper()
    assert masu("masu", "--version", prefix=["unshare", "--mount"]).startswith("masu version")
    (other,) = [pid for pid in masu.keepers() if pid != ours]
    assert os.readlink(f"/proc/{other}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    os.kill(other, signal.SIGTERM)
    wait_until(lambda: not alive(other))
    assert alive(ours)


def test_another_user_has_another_brain() -> None:
    """Its socket is in a directory of the user's own; without one there is no brain."""
    with tempfile.TemporaryDirectory(prefix="masu-brain-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        with Installation(Path(folder)) as masu:
            as_somebody: dict[str, Any] = {"user": 12345, "group": 12345, "extra_groups": []}
            done = masu.try_("masu", "--version", **as_somebody)
            assert done.returncode == 125
            assert "there is no brain" in done.stderr
            runtime = Path(folder, "runtime")
            runtime.mkdir()
            os.chown(runtime, 12345, 12345)
            env = {**masu.environ("require"), "XDG_RUNTIME_DIR": str(runtime)}
            assert masu("masu", "--version", env=env, **as_somebody).startswith("masu version")
            (keeper,) = masu.keepers()
            assert os.stat(f"/proc/{keeper}").st_uid == 12345
            assert os.stat(runtime / "masu").st_mode & 0o777 == 0o700


# --- coming and going ---


@contextmanager
def going_on(masu: Installation) -> Iterator[None]:
    """A call that goes on, until its input ends."""
    with masu.start("masu", "run", "--rm", "-i", "host", "cat") as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(b"hello\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"hello\n"
        yield
        running.stdin.close()
    assert running.returncode == 0


def test_a_brain_is_started_by_the_first_who_would_like_one(tmp_path: Path) -> None:
    with Brood() as brood, Installation(tmp_path / "own") as masu:
        assert masu.keeper() == 0
        assert masu("masu", "--version", brain="off").startswith("masu version")
        assert masu.keeper() == 0
        assert masu("masu", "--version", brain="auto").startswith("masu version")
        wait_until(lambda: masu.keeper() and children_of(masu.keeper()))
        keeper = masu.keeper()
        assert os.getsid(keeper) == keeper
        assert os.readlink(f"/proc/{keeper}/cwd") == "/"
        assert all(os.readlink(f"/proc/{keeper}/fd/{fd}") == "/dev/null" for fd in range(3))
        assert os.stat(masu.socket_path()).st_mode & 0o777 == 0o600
        lines = masu("masu", "brain", "status", "--format", "json").splitlines()
        (status,) = [line for line in map(json.loads, lines) if line["Package"] == str(masu.package)]
        assert status["Pid"] == str(keeper)
        os.kill(keeper, signal.SIGTERM)
        wait_until(lambda: not alive(keeper))
        assert not Path(status["Socket"]).exists()
        brood.wait_gone()


def test_one_that_leaves_lets_another_come(tmp_path: Path) -> None:
    """A call that goes on does not keep others from a new brain."""
    with Installation(tmp_path / "own") as masu:
        old = masu.warm()
        with going_on(masu):
            os.kill(old, signal.SIGTERM)
            wait_until(lambda: len(children_of(old)) == 1)
            assert masu("masu", "--version").startswith("masu version")
            assert len(masu.keepers()) == 2
        wait_until(lambda: not alive(old))
        assert masu.keeper()
        pid = masu.keeper()
        assert masu("masu", "--version").startswith("masu version")
        assert masu.keeper() == pid


def test_a_changed_file_makes_it_leave(tmp_path: Path) -> None:
    with Installation(tmp_path / "own") as masu:
        first = masu.warm()
        version = masu.package / "__init__.py"
        version.write_text(version.read_text().replace('"0.1.0"', '"0.1.0+changed"'))
        assert masu("masu", "--version").strip() == "masu version 0.1.0+changed"
        wait_until(lambda: not alive(first))
        second = masu.keeper()
        assert second != first
        launcher = masu.package / "libexec/masu-launch"
        launcher.rename(launcher.with_suffix(".old"))
        launcher.with_suffix(".old").rename(launcher)
        masu("masu", "--version")
        wait_until(lambda: not alive(second))
        assert masu.keeper() not in (0, second)


def test_two_versions_in_turn(masu: Installation, tmp_path: Path) -> None:
    with Installation(tmp_path / "own") as other:
        version = other.package / "__init__.py"
        version.write_text(version.read_text().replace('"0.1.0"', '"0.2.0"'))
        pids = set()
        for _ in range(3):
            assert masu("masu", "--version").strip() == "masu version 0.1.0"
            assert other("masu", "--version").strip() == "masu version 0.2.0"
            pids.add((masu.keeper(), other.keeper()))
        assert len(pids) == 1


def sleeps(pid: int) -> int:
    """How often it has waited for something."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")))


def test_masud_has_a_brain_stay(tmp_path: Path) -> None:
    """As long as it runs, though nobody calls."""
    with Installation(tmp_path / "own") as masu:
        listener = masu.package / "cli/brain/listener.py"
        listener.write_text(listener.read_text().replace("IDLE_S = 60.0", "IDLE_S = 0.2"))
        script = "import sys; from masu.daemon import warm; print(warm.hold(), flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", script],
            env={**masu.environ("auto"), "PYTHONPATH": str(masu.package.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None
            assert int(holder.stdout.readline()) >= 0
            wait_until(masu.keeper)
            keeper = masu.keeper()
            wait_until(lambda: has_spares(keeper))
            before = sleeps(keeper)
            wait_until(lambda: sleeps(keeper) > before + 3)  # it has woken up for nothing
            assert masu.keeper() == keeper
            assert holder.stdin is not None
            holder.stdin.close()
        wait_until(lambda: not masu.keeper())


def test_it_leaves_when_nobody_calls(tmp_path: Path) -> None:
    """A brain whose minute is shorter; the rest is as ever."""
    with Installation(tmp_path / "own") as masu:
        listener = masu.package / "cli/brain/listener.py"
        listener.write_text(listener.read_text().replace("IDLE_S = 60.0", "IDLE_S = 0.3"))
        path = masu.socket_path()
        keeper = masu.warm()
        with going_on(masu):
            assert alive(masu.keeper())  # a call that goes on is not idleness
        wait_until(lambda: not masu.keeper())
        assert keeper
        assert not Path(path).exists()
        assert not Path(path + ".lock").exists()


@pytest.mark.parametrize(
    ("wrong", "said"), [("raise ValueError('a bad day')", "ValueError: a bad day"), ("import os; os.abort()", "")]
)
def test_one_that_dies_at_its_start_is_not_waited_for(tmp_path: Path, wrong: str, said: str) -> None:
    with Installation(tmp_path / "own") as masu:
        listener = masu.package / "cli/brain/listener.py"
        listener.write_text(listener.read_text().replace("    preload.everything()\n", f"    {wrong}\n"))
        before = files_of_brains()
        done = masu.try_("masu", "--version", timeout_s=15)  # a brain that may yet come is waited for for twenty
        assert done.returncode == 125
        assert "MASU_BRAIN=require: the brain has died at its start" in done.stderr
        assert said in done.stderr
        assert not said or files_of_brains() <= before  # what kills it at once leaves no time to tidy up
        assert masu("masu", "--version", brain="auto").startswith("masu version")


def test_no_interpreter_for_a_brain(tmp_path: Path) -> None:
    with Installation(tmp_path / "own") as masu:
        script = masu.package / "libexec/masu-python"
        script.write_text("#!/no/such/python\n")
        done = masu.try_("masu", "--version", timeout_s=15)
        assert done.returncode == 125
        assert "/no/such/python cannot be executed (errno 2)" in done.stderr
        assert masu.keepers() == []
