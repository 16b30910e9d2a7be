from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from masu.errors import KernelError, ResourceExhausted, Unavailable
from masu.linux import fds

Pair = tuple[_socket.socket, _socket.socket]


@pytest.fixture(params=[_socket.SOCK_SEQPACKET, _socket.SOCK_STREAM])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    ends = _socket.socketpair(_socket.AF_UNIX, request.param, 0)
    yield ends
    for end in ends:
        end.close()


def test_descriptors_travel(pair: Pair, tmp_path: Path) -> None:
    left, right = pair
    names = [tmp_path / str(number) for number in range(3)]
    mine = [os.open(name, os.O_CREAT | os.O_RDWR) for name in names]
    fds.send_fds(left, b"three", mine)
    fds.send_fds(left, b"none")
    data, got = fds.receive_fds(right, 5, 8)
    assert data == b"three"
    assert [os.fstat(fd).st_ino for fd in got] == [name.stat().st_ino for name in names]
    assert not any(os.get_inheritable(fd) for fd in got)
    assert fds.receive_fds(right, 100, 0) == (b"none", [])
    left.close()
    assert fds.receive_fds(right, 100, 0) == (b"", [])
    for fd in (*mine, *got):
        os.close(fd)


@pytest.mark.parametrize(("sent", "wanted"), [(2, 1), (4, 3), (9, 2), (1, 0)])
def test_too_many_descriptors_are_refused_and_closed(pair: Pair, sent: int, wanted: int) -> None:
    left, right = pair
    null = os.open("/dev/null", os.O_RDONLY)
    before = sorted(os.listdir("/proc/self/fd"))
    fds.send_fds(left, b"x", [null] * sent)
    with pytest.raises(KernelError) as caught:
        fds.receive_fds(right, 1, wanted)
    assert caught.value.errno == errno.EMSGSIZE
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.close(null)


def test_a_truncated_message_is_refused() -> None:
    left, right = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0)
    fds.send_fds(left, b"longer")
    with pytest.raises(KernelError, match="more bytes"):
        fds.receive_fds(right, 3, 0)
    left.close()
    right.close()


def test_memfd_is_sealed() -> None:
    fd = fds.memfd("plan", b"content")
    assert os.read(fd, 100) == b"content"
    for act in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 100)):
        with pytest.raises(PermissionError):
            act()
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_atomic_write(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    old = os.umask(0o077)
    try:
        fds.atomic_write(str(path), b"one", 0o644)
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"one", 0o644)
        directory = os.open(tmp_path, os.O_RDONLY)
        fds.atomic_write("state.json", b"two", dirfd=directory, sync=False)
        os.close(directory)
    finally:
        os.umask(old)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"two", 0o600)
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "x").write_text("")
    with pytest.raises(KernelError, match="rename"):
        fds.atomic_write(str(tmp_path / "dir"), b"data")
    assert os.listdir(tmp_path) == ["dir"]
    with pytest.raises(KernelError, match="open"):
        fds.atomic_write(str(tmp_path / "none/x"), b"data")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "state.json"
    fds.atomic_write(str(path), b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(KernelError, match="write"):
            fds.atomic_write(str(path), b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_syncfs(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    fds.syncfs(fd)
    os.close(fd)
    with pytest.raises(KernelError, match="syncfs gone: EBADF"):
        fds.syncfs(fd, "gone")


def test_read_bounded(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert fds.read_bounded(str(tmp_path / "f"), 5) == b"12345"
    with pytest.raises(ResourceExhausted):
        fds.read_bounded(str(tmp_path / "f"), 4)
    with pytest.raises(FileNotFoundError):
        fds.read_bounded(str(tmp_path / "g"), 4)
    with pytest.raises(KernelError):
        fds.read_bounded(str(tmp_path), 4)


def test_one_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with fds.Lock(path), pytest.raises(Unavailable, match="held by another process"):
        fds.Lock(path, wait=False)
    with fds.Lock(path, shared=True), fds.Lock(path, shared=True, wait=False):
        pass
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(FileNotFoundError):
        fds.Lock(str(tmp_path / "gone/lock"))


def test_who_waited_for_a_removed_lock_takes_the_new_one(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    first = fds.Lock(path)
    started, got = threading.Event(), []

    def waiter() -> None:
        started.set()
        lock = fds.Lock(path)
        got.append(os.fstat(lock._fd).st_ino)
        lock.release()

    thread = threading.Thread(target=waiter)
    thread.start()
    started.wait()
    # Keep the old inode's number taken, so that the new file cannot get it.
    os.rename(path, path + ".old")
    first.release()
    thread.join()
    assert got == [os.stat(path).st_ino]
    assert got != [os.stat(path + ".old").st_ino]


def test_a_lock_is_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KernelError):
        fds.Lock(str(tmp_path / "lock"))
    assert not (tmp_path / "elsewhere").exists()
