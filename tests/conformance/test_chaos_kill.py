"""`kill -9` of masu at every step of a container's life, and of its monitor: the next command finds its way."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.chaos import Brood, Chaos, finish, kill_after, kill_when, one_error, wait_exit
from harness.engine import alive, wait_until
from harness.pty import Terminal

pytestmark = pytest.mark.root

STEPS = 16  # moments of a sweep


@pytest.fixture
def masu(loaded: Chaos, brood: Brood) -> Iterator[Chaos]:
    yield loaded
    loaded.check_consistent(brood)


def duration_s(masu: Chaos, *words: str) -> float:
    """How long a command takes here and now."""
    start = time.monotonic()
    masu(*words)
    return time.monotonic() - start


def moments(whole_s: float, steps: int = STEPS) -> list[float]:
    """Spread over a command's life, and a little beyond: it is slower on a busy machine."""
    return [whole_s * 1.2 * (i + 0.5) / steps for i in range(steps)]


# --- masu itself ---


@pytest.mark.parametrize("image", ["host", "busybox"])
def test_run_killed_at_any_moment(masu: Chaos, brood: Brood, image: str) -> None:
    words = masu.run_words("--rm", "--name", "victim", image, "true")
    masu(*words)  # the second one is as fast as they get
    killed = 0
    for moment in moments(min(duration_s(masu, *words) for _ in range(3))):
        killed += kill_after(masu.start(*words), moment)
        brood.wait_gone()
        for id in masu.ids():
            # What is left was never started, or was killed with the one who was starting it.
            assert masu.inspect(id)["State"]["Status"] in ("created", "exited")
        masu.check_consistent(brood)
    assert killed >= STEPS // 4
    assert masu(*masu.run_words("--rm", "--name", "victim", image, "echo", "fine")) == "fine\n"


def test_detached_run_killed_at_any_moment(masu: Chaos, brood: Brood) -> None:
    def words(name: str) -> list[str]:
        return masu.run_words("-d", "--name", name, "busybox", "sleep", "600")

    masu(*words("first"))
    sweep = moments(duration_s(masu, *words("second")))
    masu("rm", "-f", "first", "second")
    seen = set()
    while sweep:
        moment = sweep.pop(0)
        kill_after(masu.start(*words("victim")), moment)
        wait_until(lambda: not [pid for pid in brood.pids() if not in_a_container(masu, pid)])
        found = masu("ps", "-a", "--format", "{{.Names}} {{.State}}").split()
        seen.add(" ".join(found))
        if found == ["victim", "running"]:
            assert masu("exec", "victim", "echo", "alive") == "alive\n"
        elif found:
            # Whatever became of it, it is a container that can be started.
            assert masu("start", "victim") == "victim\n"
            assert masu.status("victim") == "running"
        masu.check_consistent(brood)
        if not sweep and "victim running" not in seen:
            sweep = [2 * moment]  # slower by now than it was: on to where it comes to its end
            assert moment < 30


def in_a_container(masu: Chaos, pid: int) -> bool:
    """Whether a process is a container's or its monitor."""
    pids = [pid for id in masu.files(masu.run / "containers/default") for pid in pids_in(id / "pid")]
    return pid in pids


def pids_in(path: Path) -> list[int]:
    try:
        return [int(line.split()[0]) for line in path.read_text().splitlines()]
    except (OSError, ValueError, IndexError):
        return []


def test_exec_killed_at_any_moment(masu: Chaos, brood: Brood) -> None:
    id = masu.run_detached("box", "busybox", "sleep", "600")
    first, monitor = masu.pids_of(id)
    words = ["exec", "box", "true"]
    masu(*words)
    for moment in moments(duration_s(masu, *words)):
        kill_after(masu.start(*words), moment)
        # The session's monitor sees its command end; the container goes on.
        brood.wait_gone(keep=(first, monitor))
        assert masu("exec", "box", "echo", "alive") == "alive\n"
    assert masu.status("box") == "running"
    assert masu("top", "box").count("\n") == 2


def test_exec_in_the_foreground_killed(masu: Chaos, brood: Brood) -> None:
    masu.run_detached("box", "busybox", "sleep", "600")
    session = masu.start("exec", "-i", "box", "cat")
    assert session.stdin
    assert session.stdout
    session.stdin.write(b"hello\n")
    session.stdin.flush()
    assert session.stdout.readline() == b"hello\n"
    session.kill()
    finish(session)
    # docker exec's command goes on without its client; with the container it ends.
    assert masu("exec", "box", "echo", "alive") == "alive\n"
    masu("rm", "-f", "box")
    brood.wait_gone()


@pytest.mark.parametrize("verb", ["stop", "rm", "kill", "restart"])
def test_ending_a_container_killed_at_any_moment(masu: Chaos, brood: Brood, verb: str) -> None:
    words = {"stop": ["stop", "-t", "0"], "rm": ["rm", "-f"], "kill": ["kill"], "restart": ["restart", "-t", "0"]}[verb]
    masu.run_detached("victim", "busybox", "sleep", "600")
    whole = duration_s(masu, *words, "victim")
    for moment in moments(whole, 8):
        masu("rm", "-f", "victim")
        masu.run_detached("victim", "busybox", "sleep", "600")
        kill_after(masu.start(*words, "victim"), moment)
        found = masu("ps", "-a", "--format", "{{.Names}} {{.State}}").strip()
        if found:
            again = masu.try_(*words, "victim")  # to its end
            assert again.returncode == 0 or (verb == "kill" and "not running" in again.stderr), again.stderr
        elif verb == "rm":
            one_error(masu.fails("inspect", "victim"), "victim")
    masu.check_consistent(brood)
    assert masu(*masu.run_words("--rm", "--name", "victim", "busybox", "echo", "again")) == "again\n"


def test_create_and_start_killed_at_any_moment(masu: Chaos, brood: Brood) -> None:
    create = ["create", "--cgroup-parent", masu.cgroup, "--name", "victim", "-v", "/data", "busybox", "sleep", "600"]
    whole = duration_s(masu, *create)
    for moment in moments(whole, 8):
        masu.check_consistent(brood)
        kill_after(masu.start(*create), moment)
        if not masu.ids():
            masu(*create)
        masu("start", "victim")
    masu("rm", "-f", "victim")
    masu(*create)
    whole = duration_s(masu, "start", "victim")
    for moment in moments(whole, 8):
        masu("stop", "-t", "0", "victim")
        kill_after(masu.start("start", "victim"), moment)
        if masu.status("victim") != "running":
            masu("start", "victim")
        assert masu("exec", "victim", "echo", "alive") == "alive\n"


def test_masu_killed_while_the_container_runs_in_the_foreground(masu: Chaos, brood: Brood) -> None:
    """No daemon, and no need of the command that started it: the monitor removes a --rm container at its end."""
    running = masu.start(*masu.run_words("--rm", "-i", "--name", "box", "busybox", "sh", "-c", "echo up; sleep 600"))
    assert running.stdout
    assert running.stdout.readline() == b"up\n"
    running.kill()
    finish(running)
    assert masu.status("box") == "running"
    assert masu("exec", "box", "echo", "alive") == "alive\n"
    masu("kill", "box")
    brood.wait_gone()
    assert masu.ids() == []
    masu.check_nothing_left()


def test_pausing_masu_killed(masu: Chaos) -> None:
    masu.run_detached("box", "busybox", "sleep", "600")
    for moment in moments(duration_s(masu, "pause", "box"), 4):
        masu("unpause", "box")
        kill_after(masu.start("pause", "box"), moment)
        if masu.status("box") != "paused":
            masu("pause", "box")
    masu("stop", "-t", "0", "box")


# --- the monitor ---


def test_monitor_killed_takes_its_container_along(masu: Chaos, brood: Brood) -> None:
    id = masu.run_detached("box", "busybox", "sh", "-c", "echo first; sleep 600 & sleep 600")
    first, monitor = masu.pids_of(id)
    wait_until(lambda: masu("logs", "box") == "first\n")
    os.kill(monitor, signal.SIGKILL)
    brood.wait_gone()
    assert not alive(first)
    assert "Exited (255)" in masu("ps", "-a", "--filter", "name=box")
    state = masu.inspect("box")["State"]
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("exited", 255, False)
    assert state["Error"] == "monitor lost"
    assert masu("wait", "box") == "255\n"
    assert masu("logs", "box") == "first\n"
    one_error(masu.fails("exec", "box", "true"), "box", "is not running")
    masu("start", "box")
    assert masu.status("box") == "running"
    wait_until(lambda: masu("logs", "box") == "first\nfirst\n")
    assert masu.inspect("box")["State"]["Error"] == ""


def test_monitor_killed_under_an_attached_command(masu: Chaos, brood: Brood) -> None:
    running = masu.start(*masu.run_words("--rm", "-i", "--name", "box", "busybox", "sh", "-c", "echo up; sleep 600"))
    assert running.stdout
    assert running.stderr
    assert running.stdout.readline() == b"up\n"
    (id,) = masu.ids()
    os.kill(masu.pids_of(id)[1], signal.SIGKILL)
    assert running.wait(20) == 255
    one_error(running.stderr.read().decode(), "box", "monitor lost")
    finish(running)
    brood.wait_gone()
    assert masu.ids() == []


def test_monitor_killed_while_somebody_waits_stops_and_follows(masu: Chaos, brood: Brood) -> None:
    id = masu.run_detached("box", "busybox", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    wait_until(lambda: masu("logs", "box") == "up\n")
    waiting = masu.start("wait", "box")
    following = masu.start("logs", "-f", "box")
    assert following.stdout
    assert following.stdout.readline() == b"up\n"
    stopping = masu.start("stop", "-t", "600", "box")
    _, monitor = masu.pids_of(id)
    os.kill(monitor, signal.SIGKILL)
    for process, said in ((waiting, "255\n"), (following, ""), (stopping, "box\n")):
        assert process.stdout
        assert process.wait(20) == 0
        assert process.stdout.read().decode() == said
        finish(process)


def test_monitor_of_an_exec_killed(masu: Chaos, brood: Brood) -> None:
    id = masu.run_detached("box", "busybox", "sleep", "600")
    kept = masu.pids_of(id)
    session = masu.start("exec", "-i", "box", "sh", "-c", "echo up; cat")
    assert session.stdout
    assert session.stderr
    assert session.stdout.readline() == b"up\n"
    (folder,) = masu.files(masu.run / "execs/default" / id)
    command, monitor = pids_in(folder / "pid")
    os.kill(monitor, signal.SIGKILL)
    assert session.wait(20) == 255
    one_error(session.stderr.read().decode(), "monitor lost")
    finish(session)
    brood.wait_gone(keep=kept)
    assert not alive(command)
    assert masu.status("box") == "running"
    assert masu.files(masu.run / "execs/default" / id) == []


def test_first_process_killed_from_outside(masu: Chaos, brood: Brood) -> None:
    id = masu.run_detached("box", "busybox", "sh", "-c", "sleep 600 & sleep 600")
    os.kill(masu.pids_of(id)[0], signal.SIGKILL)
    brood.wait_gone()
    assert masu("wait", "box") == "137\n"
    assert "Exited (137)" in masu("ps", "-a")


# --- the terminal ---


def test_ctrl_c_in_the_foreground(masu: Chaos, brood: Brood) -> None:
    command = [*masu.command, *masu.run_words("--rm", "--name", "box", "busybox", "sh", "-c",
               "trap 'echo caught; exit 3' INT; echo up; while :; do sleep 0.1; done")]  # fmt: skip
    with Terminal(command, env=masu.environment) as terminal:
        terminal.wait_for("up")
        terminal.type("\x03")
        terminal.wait_for("caught")
        assert terminal.wait() == 3
    brood.wait_gone()
    assert masu.ids() == []


def test_ctrl_c_before_there_is_a_container(masu: Chaos, brood: Brood) -> None:
    """SIGINT at any moment of a start: no traceback, and what is left can be removed."""
    words = masu.run_words("--rm", "--name", "box", "--init", "busybox", "sleep", "600")
    for moment in moments(0.1, 8):
        running = masu.start(*words)
        wait_exit(running, moment)
        running.send_signal(signal.SIGINT)
        if not wait_exit(running, 5):
            # The interpreter itself may swallow one that comes while it starts; a person types it again.
            running.send_signal(signal.SIGINT)
            assert wait_exit(running, 5), f"goes on after SIGINT at {moment} s: {masu('ps', '-a')}"
        assert running.stderr
        said = running.stderr.read().decode()
        assert "Traceback" not in said or "/masu/" not in said, said
        assert finish(running) in (130, 125, -signal.SIGINT, 1), said
        masu.check_consistent(brood)


@pytest.mark.parametrize("tty", [False, True])
def test_terminal_closed(masu: Chaos, brood: Brood, tty: bool) -> None:
    words = masu.run_words("-it" if tty else "-i", "--name", "box", "busybox", "sh", "-c", "echo up; read x; sleep 600")
    with Terminal([*masu.command, *words], env=masu.environment) as terminal:
        terminal.wait_for("up")
        os.close(terminal.master)
        try:
            terminal.process.wait(20)
        finally:
            terminal.master = os.open("/dev/null", os.O_RDONLY)
    assert masu.status("box") in ("running", "exited")


def test_stdout_closed(masu: Chaos) -> None:
    for i in range(3):
        masu.run_detached(f"box{i}", "busybox", "true")
    script = '"$@" ps -a | head -1; exec 3>&1; "$@" ps -a >&-; "$@" images | true'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *masu.command], capture_output=True, text=True, timeout=60, env=masu.environment
    )
    assert done.stdout.startswith("CONTAINER ID")
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("\n") <= 1, done.stderr


def test_reader_of_a_containers_output_goes_away(masu: Chaos, brood: Brood) -> None:
    script = '"$@" | head -1'
    words = masu.run_words("--rm", "busybox", "sh", "-c", "while echo line; do :; done")
    done = subprocess.run(
        ["sh", "-c", script, "sh", *masu.command, *words],
        capture_output=True, text=True, timeout=60, env=masu.environment,
    )  # fmt: skip
    assert done.stdout == "line\n"
    assert "Traceback" not in done.stderr, done.stderr


def test_attached_command_stopped_and_killed(masu: Chaos, brood: Brood) -> None:
    """A client that does not read holds nobody up who comes after it."""
    script = "yes | head -c 3000000; echo; echo end"
    running = masu.start(*masu.run_words("--name", "box", "busybox", "sh", "-c", script))
    running.send_signal(signal.SIGSTOP)
    running.send_signal(signal.SIGCONT)
    kill_when(running, lambda: b"y" in os.read(running.stdout.fileno(), 100) if running.stdout else False)
    assert masu("wait", "box") == "0\n"
    assert masu("logs", "--tail", "1", "box") == "end\n"
