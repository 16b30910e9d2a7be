"""procfs, pidfd, spawn: on real processes."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.errors import KernelError, NotFound
from masu.linux import pidfd, process, procfs, spawn

CAT = "/bin/cat"


class Sleeper:
    """A `cat` that waits for its stdin to end."""

    def __init__(self) -> None:
        read_end, self.stdin = os.pipe()
        answer, write_end = os.pipe()
        self.pid = spawn.spawn(CAT, ["cat"], {}, stdio=(read_end, write_end, -1))
        os.close(read_end)
        os.close(write_end)
        # The parent is let go in the middle of execve(2), when there is no command line to read yet.
        os.write(self.stdin, b"?")
        assert os.read(answer, 1) == b"?"
        os.close(answer)
        self.pidfd = pidfd.open(self.pid)

    def end(self) -> pidfd.Exit | None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1
        return pidfd.reap(self.pidfd)


def run(script: str, **how: object) -> str:
    """The output of a shell script."""
    read_end, write_end = os.pipe()
    keep = how.pop("keep", ())
    pid = spawn.spawn("/bin/sh", ["sh", "-c", script], {"PATH": os.environ["PATH"]},
                      stdio=(-1, write_end, -1), keep=keep, **how)  # type: ignore[arg-type]
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


# ---- procfs ----


def test_own_stat() -> None:
    own = procfs.stat()
    assert (own.pid, own.ppid, own.state) == (os.getpid(), os.getppid(), "R")
    assert own.session == os.getsid(0)
    assert procfs.is_alive(os.getpid(), own.start_time)
    assert not procfs.is_alive(os.getpid(), own.start_time + 1)


@pytest.mark.parametrize("name", ["a) R 1 (b", ") Z 1", "((", "x) S 99 1 1", "\n) R 1"])
def test_a_name_cannot_forge_its_stat(name: str) -> None:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(15, name.encode())
        os.write(write_end, b"x")
        signal.pause()
    os.read(read_end, 1)
    try:
        seen = procfs.stat(pid)
        assert (seen.pid, seen.ppid, seen.comm) == (pid, os.getpid(), name)
        assert seen.start_time >= procfs.stat().start_time
        assert procfs.status_uids(pid) == (os.getuid(),) * 4
        assert pid in procfs.children()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read_end)
        os.close(write_end)


@given(st.text(max_size=15), st.integers(1, 4194304), st.lists(st.integers(0, 1 << 60), min_size=50, max_size=50))
def test_any_comm_is_told_from_the_rest(comm: str, pid: int, numbers: list[int]) -> None:
    seen = procfs.Stat(f"{pid} ({comm}) S {' '.join(map(str, numbers))}\n")
    assert (seen.pid, seen.comm, seen.state, seen.ppid) == (pid, comm, "S", numbers[0])
    assert seen.start_time == numbers[18]


def test_a_process_that_is_not_there() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    start = procfs.start_time(pid)
    assert procfs.is_zombie(pid)
    assert not procfs.is_alive(pid, start)
    os.waitpid(pid, 0)
    with pytest.raises(NotFound):
        procfs.stat(pid)
    assert not procfs.is_alive(pid, start)
    with pytest.raises(NotFound):
        procfs.children(pid)


def test_descendants() -> None:
    sleeper = Sleeper()
    try:
        assert sleeper.pid in procfs.descendants(os.getpid())
        assert procfs.descendants(sleeper.pid) == []
        assert procfs.cmdline(sleeper.pid) == ["cat"]
        assert sleeper.pid in procfs.pids()
    finally:
        sleeper.end()
        os.close(sleeper.pidfd)


def test_boot_id_is_a_uuid() -> None:
    assert [len(part) for part in procfs.boot_id().split("-")] == [8, 4, 4, 4, 12]


def test_cgroup_lines() -> None:
    text = "12:cpu,cpuacct:/a:b\n3:name=systemd:/\n0::/x\n"
    assert procfs.parse_cgroup(text) == {"cpu": "/a:b", "cpuacct": "/a:b", "name=systemd": "/", "": "/x"}
    assert all(path.startswith("/") for path in procfs.cgroup_membership().values())


# ---- pidfd ----


def test_pidfd_of_this_very_process_only() -> None:
    sleeper = Sleeper()
    start = procfs.start_time(sleeper.pid)
    fd = pidfd.open_checked(sleeper.pid, start)
    assert fd is not None
    assert pidfd.open_checked(sleeper.pid, start + 1) is None
    assert not pidfd.has_exited(fd)
    assert not pidfd.wait_exited(fd, 0.001)
    assert pidfd.reap(fd, block=False) is None
    os.close(sleeper.stdin)
    sleeper.stdin = -1
    assert pidfd.wait_exited(fd)
    assert pidfd.open_checked(sleeper.pid, start) is None  # a zombie
    ended = sleeper.end()
    assert ended is not None
    assert (ended.code, ended.signal, ended.status()) == (0, 0, 0)
    with pytest.raises(ProcessLookupError):
        pidfd.send_signal(fd, 0)
    with pytest.raises(KernelError, match="ECHILD"):
        pidfd.reap(fd)
    with pytest.raises(NotFound):
        pidfd.open(sleeper.pid)
    os.close(fd)
    os.close(sleeper.pidfd)


def test_how_it_ended() -> None:
    sleeper = Sleeper()
    pidfd.send_signal(sleeper.pidfd, signal.SIGTERM)
    ended = sleeper.end()
    assert ended is not None
    assert (ended.pid, ended.signal, ended.status()) == (sleeper.pid, 15, 143)
    os.close(sleeper.pidfd)


def test_descriptors_of_another() -> None:
    sleeper = Sleeper()
    try:
        fd = pidfd.get_fd(sleeper.pidfd, 0)
        assert os.fstat(fd).st_ino == os.fstat(sleeper.stdin).st_ino
        assert not os.get_inheritable(fd)
        os.close(fd)
    finally:
        sleeper.end()
        os.close(sleeper.pidfd)


# ---- spawn ----


def test_only_the_wanted_descriptors_cross() -> None:
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
    for fd in opened:
        os.set_inheritable(fd, True)
    kept = (opened[1], opened[3])
    said = run("ls /proc/self/fd", keep=kept)
    # `ls` has one of its own for the directory.
    assert {int(word) for word in said.split()} - {0, 1, 2} == {*kept, 3} | ({3} if 3 in kept else set())
    assert all(os.get_inheritable(fd) for fd in opened), "the parent's descriptors are not touched"
    for fd in opened:
        os.close(fd)


def test_signals_are_at_their_default() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        said = dict(line.split(":\t") for line in run("grep Sig /proc/self/status").splitlines())
    finally:
        signal.signal(signal.SIGUSR2, before)
        now = signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    # Python itself ignores SIGPIPE.
    assert int(said["SigIgn"], 16) == 0
    assert int(said["SigBlk"], 16) == 0
    assert signal.SIGUSR1 in now, "our own mask is back"


def test_stdio_in_any_order() -> None:
    """Descriptors that stand in each other's places."""
    script = (
        "import os, sys\n"
        "from masu.linux import spawn\n"
        "pipes = [os.pipe() for _ in range(2)]\n"
        "os.dup2(pipes[0][1], 0); os.dup2(pipes[1][1], 1)\n"  # swapped below
        "pid = spawn.spawn('/bin/sh', ['sh', '-c', 'echo out; echo err >&2'], {}, stdio=(2, 0, 1))\n"
        "os.waitpid(pid, 0)\n"
        "sys.stderr.write(os.read(pipes[0][0], 9).decode() + os.read(pipes[1][0], 9).decode())\n"
    )
    read_end, write_end = os.pipe()
    path = str(Path(spawn.__file__).parents[2])
    pid = spawn.spawn(sys.executable, [sys.executable, "-c", script], {"PYTHONPATH": path}, stdio=(-1, -1, write_end))
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        assert pipe.read() == "out\nerr\n"
    os.waitpid(pid, 0)


def test_an_executable_by_descriptor_does_not_leak() -> None:
    fd = os.open("/bin/ls", os.O_RDONLY)
    read_end, write_end = os.pipe()
    pid = spawn.spawn(fd, ["ls", "/proc/self/fd"], {}, stdio=(-1, write_end, -1))
    os.close(write_end)
    os.close(fd)
    with os.fdopen(read_end) as pipe:
        assert pipe.read().split() == ["0", "1", "2", "3"]
    assert os.waitpid(pid, 0)[1] == 0


def test_working_directory_and_session() -> None:
    assert run("pwd", cwd="/proc/self").strip().startswith("/proc/")
    session = run("cut -d' ' -f6 /proc/self/stat", new_session=True)
    assert int(session) != os.getsid(0)


@pytest.mark.parametrize(
    ("executable", "cwd", "error"),
    [
        ("/nonexistent", None, "ENOENT"),
        ("/", None, "EACCES"),
        ("/etc/passwd", None, "EACCES"),
        (CAT, "/none", "ENOENT"),
    ],
)
def test_failures_are_told_and_leave_no_child(executable: str, cwd: str | None, error: str) -> None:
    before = procfs.children(os.getpid())
    with pytest.raises(KernelError, match=error):
        spawn.spawn(executable, ["x"], {}, cwd=cwd)
    assert set(procfs.children(os.getpid())) <= set(before)


def test_bad_arguments_are_refused_before_the_fork() -> None:
    with pytest.raises(ValueError, match="null byte"):
        spawn.spawn(CAT, ["a\0b"], {})
    with pytest.raises(KernelError, match="EBADF"):
        spawn.spawn(CAT, ["cat"], {}, keep=(9999,))
    with pytest.raises(TypeError):
        spawn.spawn(CAT, [1], {})  # type: ignore[list-item]


def test_orphans_come_to_a_subreaper() -> None:
    pid = os.fork()
    if pid == 0:
        process.become_subreaper()
        read_end, write_end = os.pipe()
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                # Ends when its parent has.
                os.close(write_end)
                select.select([read_end], [], [])
                os._exit(7)
            os._exit(0)
        os.waitpid(middle, 0)
        os.close(write_end)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
