"""Killed, starved, at once: whatever ends at whatever moment, the next command finds everything consistent."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.engine import Masu, alive, cgroups_of, wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def masu(tmp_path: Path) -> Iterator[Masu]:
    it = Masu(tmp_path)
    yield it
    it.close()


def monitor_of(masu: Masu, id: str) -> int:
    """The monitor's pid: the second line of its pid file."""
    return int((masu.run / "containers/default" / id / "pid").read_text().splitlines()[1].split()[0])


def test_the_container_outlives_the_command(masu: Masu) -> None:
    process = masu.start("run", "--name", "kept", "host", "sh", "-c", "echo ready; sleep 300")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate()
    assert masu.status("kept") == "running"
    assert masu("logs", "kept") == "ready\n"
    masu("stop", "-t", "0", "kept")


def test_a_container_with_rm_goes_even_when_its_command_was_killed(masu: Masu) -> None:
    process = masu.start("run", "--rm", "--name", "gone", "host", "sh", "-c", "echo ready; sleep 0.5")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate()
    wait_until(lambda: masu("ps", "-aq") == "")
    wait_until(lambda: os.listdir(masu.root / "containers/default") == [])


def test_a_killed_monitor_takes_its_container_with_it(masu: Masu) -> None:
    id = masu("run", "-d", "--name", "lost", "host", "sleep", "300").strip()
    pid = masu.inspect("lost")["State"]["Pid"]
    os.kill(monitor_of(masu, id), signal.SIGKILL)
    wait_until(lambda: not alive(pid))
    state = masu.inspect("lost")["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 255, "monitor lost")
    assert "Exited (255)" in masu("ps", "-a")
    topics = masu("events", "--since", "1m", "--until", "0s", "--filter", "topic=/tasks/exit").splitlines()
    assert len(topics) == 1
    masu("start", "lost")
    assert masu.status("lost") == "running"
    masu("rm", "-f", "lost")
    assert cgroups_of(id) == []


def test_a_killed_monitor_is_told_to_who_is_attached(masu: Masu) -> None:
    process = masu.start("run", "--rm", "--name", "att", "host", "sh", "-c", "echo ready; sleep 300")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    id = masu.inspect("att")["Id"]
    os.kill(monitor_of(masu, id), signal.SIGKILL)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 255
    assert b"monitor lost" in error
    assert masu("ps", "-aq") == ""
    assert cgroups_of(id) == []


@pytest.mark.parametrize("seed", range(6))
def test_killed_anywhere(masu: Masu, seed: int) -> None:
    """`kill -9` of `masu run` after a random time; whatever it had done is finished or undone by what comes next."""
    pause_s = random.Random(seed).uniform(0.0, 0.09)
    process = masu.start("run", "--name", f"k{seed}x", "-v", "/data", "host", "sleep", "300")
    time.sleep(pause_s)
    process.kill()
    process.communicate()
    shown = masu("ps", "-a", "--format", "{{.Names}} {{.State}}").split()
    if shown:
        assert shown[1] in ("created", "running"), shown
        id = masu.inspect(shown[0])["Id"]
        # a start that was under way may still come up, or not
        masu("rm", "-f", "-v", shown[0])
        wait_until(lambda: cgroups_of(id) == [])
    masu("create", "--name", f"k{seed}x", "host")
    masu("rm", f"k{seed}x")
    wait_until(lambda: os.listdir(masu.root / "containers/default") == [])
    assert not [name for name in _processes() if str(masu.root) in name]


def _processes() -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                found.append(Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


def test_many_at_once(masu: Masu) -> None:
    running = [masu.start("run", "--rm", "host", "sh", "-c", f"echo {n}") for n in range(6)]
    for number, process in enumerate(running):
        out, error = process.communicate(timeout=120)
        assert (out, error, process.returncode) == (f"{number}\n".encode(), b"", 0)
    assert masu("ps", "-aq") == ""


def test_one_name_goes_to_one_of_two(masu: Masu) -> None:
    both = [masu.start("run", "-d", "--name", "same", "host", "sleep", "300") for _ in range(2)]
    statuses = sorted((process.communicate(timeout=60), process.returncode)[1] for process in both)
    assert statuses == [0, 125]
    assert masu("ps", "-a", "--format", "{{.Names}}") == "same\n"


def test_stop_rm_and_ps_at_once(masu: Masu) -> None:
    masu("run", "-d", "--name", "hot", "host", "sleep", "300")
    several = [
        masu.start(*args) for args in (("stop", "-t", "0", "hot"), ("rm", "-f", "hot"), ("ps", "-a"), ("kill", "hot"))
    ]
    for process in several:
        _, error = process.communicate(timeout=60)
        assert b"Traceback" not in error, error
    masu("rm", "-f", "hot")
    assert masu("ps", "-aq") == ""


def test_the_state_directory_is_ours_alone(masu: Masu) -> None:
    masu("run", "--rm", "host", "true")
    assert masu.root.stat().st_mode & 0o777 == 0o700
    assert (masu.root / "containers").stat().st_mode & 0o077 == 0 or masu.root.stat().st_mode & 0o077 == 0
    for socket in masu.run.rglob("*.sock"):
        assert socket.stat().st_mode & 0o777 == 0o600


def test_a_read_only_state_directory(masu: Masu, tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(tmp_path / "ro")], check=True)
    try:
        done = subprocess.run(
            [*masu.command[:1], "--root", str(tmp_path / "ro/root"), "run", "--rm", "host", "true"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 125
        assert done.stderr.startswith("masu: ")
        assert done.stderr.count("\n") == 1
        assert "EROFS" in done.stderr or "ead-only" in done.stderr
    finally:
        subprocess.run(["umount", str(tmp_path / "ro")], check=True)


def test_a_full_disk(masu: Masu, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path / "small")], check=True)
    try:
        command = [*masu.command[:1], "--root", str(tmp_path / "small/root"), "--run", str(tmp_path / "small/run")]
        filler = tmp_path / "small/filler"
        subprocess.run([*command, "run", "--rm", "host", "true"], capture_output=True, check=False)
        fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
        try:
            while os.write(fd, bytes(4096)):
                pass
        except OSError:
            os.close(fd)
        done = subprocess.run([*command, "run", "--rm", "host", "true"], capture_output=True, text=True, check=False)
        assert done.returncode == 125
        assert "Traceback" not in done.stderr, done.stderr
        assert "ENOSPC" in done.stderr or "full" in done.stderr
        filler.unlink()
        done = subprocess.run([*command, "ps", "-aq"], capture_output=True, text=True, check=True)
        assert done.stdout == ""
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


def test_a_program_that_outlives_its_monitor_is_ended_by_the_next_command(masu: Masu, tmp_path: Path) -> None:
    """A set-uid program loses the parent-death signal at its exec (prctl(2)): the cgroup is left to kill it by."""
    program = tmp_path / "sleep"
    shutil.copy("/bin/sleep", program)
    program.chmod(0o4755)
    tmp_path.chmod(0o755)
    masu("run", "-d", "--name", "orphan", "-u", "1000", "-v", f"{tmp_path}:/suid", "host", "/suid/sleep", "1000")
    pid = masu.inspect("orphan")["State"]["Pid"]
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    fd = os.pidfd_open(monitor)
    os.kill(monitor, signal.SIGKILL)
    assert select.select([fd], [], [], 20)[0]
    os.close(fd)
    assert "Exited (255)" in masu("ps", "-a")
    assert not Path(f"/proc/{pid}/cwd").exists()
    masu("rm", "orphan")
