"""CVE-2019-5736: nobody who is shown a running masu-launch can write it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from harness import forked

from masu.errors import FailedPrecondition, NotFound
from masu.linux import executable, mount, namespaces, pidfd, spawn

pytestmark = pytest.mark.root


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A `cat` in a directory of its own, as masu-launch is in libexec."""
    directory = tmp_path / "libexec"
    directory.mkdir()
    shutil.copy("/bin/cat", directory / "program")
    return directory / "program"


class Running:
    """The program, running from `fd`, until its stdin ends."""

    def __init__(self, fd: int) -> None:
        read_end, self.stdin = os.pipe()
        self.pid = spawn.spawn(fd, ["program"], {}, stdio=(read_end, -1, -1))
        os.close(read_end)
        os.close(fd)
        self.exe = f"/proc/{self.pid}/exe"

    def end(self) -> None:
        os.close(self.stdin)
        assert os.waitpid(self.pid, 0)[1] == 0


def refusal(act: Callable[[], object]) -> int:
    try:
        act()
    except OSError as e:
        return e.errno or 0
    return 0


@pytest.mark.parametrize("way", [executable.overlay, executable.sealed_copy])
def test_it_cannot_be_written(program: Path, way: Callable[[str], int]) -> None:
    """sec/CVE-2019-5736, with the attack of that day: hold it open, wait until it ends, open it anew for writing."""
    before = program.read_bytes()
    running = Running(way(str(program)))
    try:
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            assert refusal(partial(os.open, running.exe, flags)) in (errno.EROFS, errno.ETXTBSY)
        assert refusal(lambda: os.truncate(running.exe, 0)) in (errno.EROFS, errno.ETXTBSY, errno.EPERM)
        held = os.open(running.exe, os.O_RDONLY)
    finally:
        running.end()
    again = f"/proc/self/fd/{held}"
    assert refusal(lambda: os.write(os.open(again, os.O_WRONLY), b"#!/bin/owned")) in (errno.EROFS, errno.EPERM)
    assert refusal(lambda: os.truncate(again, 0)) in (errno.EROFS, errno.EPERM)
    assert os.pread(held, 1 << 24, 0) == before
    os.close(held)
    assert program.read_bytes() == before


def test_the_overlay_is_read_only_for_everything(program: Path) -> None:
    running = Running(executable.overlay(str(program)))
    try:
        for act in (
            lambda: os.chmod(running.exe, 0o777),
            lambda: os.chown(running.exe, 1, 1),
            lambda: os.utime(running.exe),
            lambda: os.setxattr(running.exe, "user.x", b"x"),
        ):
            assert refusal(act) == errno.EROFS
    finally:
        running.end()


def test_the_first_way_is_the_overlay_and_nothing_stays_mounted(program: Path) -> None:
    before = [repr(item) for item in mount.mountinfo()]
    protected = executable.protected(str(program))
    assert protected.kind == "overlay"
    assert protected.keep == ()
    assert not os.get_inheritable(protected.path)
    pid = spawn.spawn(protected.path, ["program", "/dev/null"], {})
    protected.close()
    protected.close()
    assert os.waitpid(pid, 0)[1] == 0
    assert [repr(item) for item in mount.mountinfo()] == before


@pytest.mark.parametrize("name", ["with space", "a:b", "a,b", "back\\slash", "x" * 200, "ünï"])
def test_directories_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    shutil.copy("/bin/true", tmp_path / name / "true")
    protected = executable.protected(str(tmp_path / name / "true"))
    pid = spawn.spawn(protected.path, ["true"], {})
    protected.close()
    assert os.waitpid(pid, 0)[1] == 0


def test_through_a_link_to_the_directory(program: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(program.parent)
    os.close(executable.overlay(str(tmp_path / "link/program")))


def test_a_user_namespace_finds_a_way(program: Path) -> None:
    def body() -> None:
        protected = executable.protected(str(program))
        running = Running(protected.path)
        assert refusal(lambda: os.open(running.exe, os.O_WRONLY)) in (errno.EROFS, errno.ETXTBSY, errno.EACCES)
        running.end()

    os.chmod(program.parent, 0o755)
    forked.run(body, unshare=namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)


def test_where_memory_files_may_not_be_executed(program: Path) -> None:
    sysctl = Path("/proc/sys/vm/memfd_noexec")
    if not sysctl.exists():
        pytest.skip("needs Linux 6.3 (vm.memfd_noexec)")

    def body() -> None:
        # The sysctl belongs to the PID namespace of who writes it.
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                sysctl.write_text("2")
                with pytest.raises(FailedPrecondition, match="memfd_noexec"):
                    executable.sealed_copy(str(program))
                os.close(executable.sealed_memfd("plan", b"data"))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0

    forked.run(body, unshare=namespaces.CLONE_NEWPID)
    assert sysctl.read_text().strip() == "0"


def test_a_missing_program() -> None:
    with pytest.raises(NotFound):
        executable.protected("/nonexistent/masu-launch")


def test_a_signal_reaches_it_by_pidfd(program: Path) -> None:
    running = Running(executable.overlay(str(program)))
    fd = pidfd.open(running.pid)
    pidfd.send_signal(fd, 9)
    ended = pidfd.reap(fd)
    assert ended is not None
    assert ended.signal == 9
    os.close(fd)
    os.close(running.stdin)
