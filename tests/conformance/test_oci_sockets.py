"""Fds that come back over a socket of the caller's: the terminal, a pidfd, a seccomp listener."""

from __future__ import annotations

import array
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, wait_exited

pytestmark = pytest.mark.root

# linux/seccomp.h: _IOWR('!', 0, struct seccomp_notif), _IOWR('!', 1, struct seccomp_notif_resp)
NOTIF_RECV = 0xC0502100
NOTIF_SEND = 0xC0182101


class Listener:
    """A unix socket that takes one connection with one fd."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(4)
        self.socket.settimeout(20)

    def take(self) -> tuple[bytes, int]:
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(20)
            data, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        assert len(fds) == 1
        return data, fds[0]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    it = Listener(tmp_path / "s")
    yield it
    it.socket.close()


def arguments(*args: str, **more: Any) -> Any:
    return lambda config: config["process"].update(args=["/bin/probe", *args], **more)


def read_until_closed(master: int) -> str:
    said = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # EIO: nobody holds the other side any more
            break
        if not data:
            break
        said += data
    return said.decode()


def test_console_socket(runtime: Runtime, probe_rootfs: Path, listener: Listener) -> None:
    change = arguments("isatty", "--", "winsize", terminal=True, consoleSize={"height": 33, "width": 77})
    id = runtime.id()
    bundle = str(runtime.bundle(probe_rootfs, change))
    runtime("create", "--bundle", bundle, "--console-socket", listener.path, id)
    name, master = listener.take()
    pid = runtime.state(id)["pid"]
    try:
        assert os.isatty(master)
        if runtime.name == "masu-oci":
            assert name == b"/dev/pts/0"
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))
        assert (rows, columns) == (33, 77)
        runtime("start", id)
        said = read_until_closed(master)
        assert "33" in said
        assert "77" in said
    finally:
        os.close(master)
    wait_exited(pid)


def test_console_socket_of_an_exec(runtime: Runtime, probe_rootfs: Path, listener: Listener) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(probe_rootfs, arguments("sleep"))), id)
    runtime("exec", "-d", "-t", "--console-socket", listener.path, id, "/bin/probe", "echo", "through the pty")
    _, master = listener.take()
    with os.fdopen(master, "rb", buffering=0):
        assert "through the pty" in read_until_closed(master)


@pytest.mark.parametrize(
    ("terminal", "options"), [(True, []), (False, ["--console-socket", "/nowhere"])], ids=["without", "for nothing"]
)
def test_terminal_and_socket_go_together(
    runtime: Runtime, probe_rootfs: Path, terminal: bool, options: list[str]
) -> None:
    bundle = str(runtime.bundle(probe_rootfs, arguments("sleep", terminal=terminal)))
    refused = runtime("create", "--bundle", bundle, *options, runtime.id(), check=False)
    assert refused.returncode == 1
    assert ("cannot allocate tty" if terminal else "cannot use console socket") in refused.stderr


def test_pidfd_socket(masu_oci: Runtime, probe_rootfs: Path, listener: Listener) -> None:
    id = masu_oci.id()
    bundle = str(masu_oci.bundle(probe_rootfs, arguments("sleep")))
    masu_oci("create", "--bundle", bundle, "--pidfd-socket", listener.path, id)
    pid = masu_oci.state(id)["pid"]
    _, pidfd = listener.take()
    with os.fdopen(pidfd, "rb", buffering=0):
        assert f"Pid:\t{pid}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
        # A created container has no handlers of its own yet, and dies all the same.
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        wait_exited(pid)
    assert masu_oci.state(id)["status"] == "stopped"


def test_pidfd_socket_of_an_exec(masu_oci: Runtime, probe_rootfs: Path, listener: Listener) -> None:
    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(probe_rootfs, arguments("sleep"))), id)
    pid_file = masu_oci.folder / "pid"
    masu_oci("exec", "-d", "--pid-file", str(pid_file), "--pidfd-socket", listener.path, id, "/bin/probe", "sleep")
    _, pidfd = listener.take()
    with os.fdopen(pidfd, "rb", buffering=0):
        assert f"Pid:\t{pid_file.read_text()}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()


def seccomp(action: str, **more: Any) -> Any:
    names = ["mkdir", "mkdirat"]

    def change(config: dict[str, Any]) -> None:
        rule = {"names": names, "action": action, **({"errnoRet": 99} if action.endswith("ERRNO") else {})}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], **more}

    return change


@pytest.mark.parametrize("new_privileges", [False, True])
def test_seccomp_errno(runtime: Runtime, probe_rootfs: Path, new_privileges: bool) -> None:
    def change(config: dict[str, Any]) -> None:
        seccomp("SCMP_ACT_ERRNO")(config)
        config["process"]["noNewPrivileges"] = not new_privileges

    said = runtime.run(probe_rootfs, "mkdir", "/tmp/x", "--", "ls", "/tmp", change=change).stdout
    assert said == "ERROR EADDRNOTAVAIL\n"  # 99


def test_seccomp_of_old_filters(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """A filter that answers the newest system calls with ENOSYS harms the program, not the runtime."""
    names = ["close_range", "fsopen", "fsconfig", "fspick", "openat2", "open_tree", "move_mount", "mount_setattr"]

    def change(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = False
        rule = {"names": [*names, "faccessat2", "statx"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}

    assert masu_oci.run(probe_rootfs, "echo", "fine", change=change).stdout == "fine\n"


def answer(listener: int, errno: int) -> int:
    """Takes one notification and answers it; the pid that asked, as we see it."""
    request = array.array("B", bytes(80))
    fcntl.ioctl(listener, NOTIF_RECV, request)
    id, pid = struct.unpack_from("<QI", request)
    response = array.array("B", struct.pack("<QqiI", id, 0, -errno, 0))
    fcntl.ioctl(listener, NOTIF_SEND, response)
    return ctypes.c_uint32(pid).value


@pytest.mark.parametrize("exec_too", [False, True], ids=["run", "exec"])
def test_seccomp_listener(masu_oci: Runtime, probe_rootfs: Path, listener: Listener, exec_too: bool) -> None:
    more = {"listenerPath": listener.path, "listenerMetadata": "for the agent"}
    asked: list[tuple[dict[str, Any], int]] = []

    def agent(times: int) -> None:
        for _ in range(times):
            data, fd = listener.take()
            with os.fdopen(fd, "rb", buffering=0):
                # The first process of the container that execs only sleeps.
                pid = answer(fd, 123) if not (exec_too and not asked) else 0
            asked.append((json.loads(data), pid))

    def change(config: dict[str, Any]) -> None:
        seccomp("SCMP_ACT_NOTIFY", **more)(config)
        config["process"]["args"] = ["/bin/probe", "sleep"]

    thread = threading.Thread(target=agent, args=(2 if exec_too else 1,))
    thread.start()
    try:
        if exec_too:
            id = masu_oci.id()
            masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), id)
            said = masu_oci("exec", id, "/bin/probe", "mkdir", "/tmp/x").stdout
        else:
            said = masu_oci.run(probe_rootfs, "mkdir", "/tmp/x", change=seccomp("SCMP_ACT_NOTIFY", **more)).stdout
    finally:
        thread.join(30)
    assert said == "ERROR ENOMEDIUM\n"  # 123
    document, pid = asked[-1]
    assert document["fds"] == ["seccompFd"]
    assert document["metadata"] == "for the agent"
    assert document["pid"] == pid
    assert document["state"]["id"] == masu_oci.ids[-1]


def test_seccomp_listener_without_an_agent(masu_oci: Runtime, probe_rootfs: Path) -> None:
    bundle = masu_oci.bundle(probe_rootfs, seccomp("SCMP_ACT_NOTIFY", listenerPath="/nowhere/agent"))
    refused = masu_oci("run", "--bundle", str(bundle), masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert "failed to connect with seccomp agent" in refused.stderr
    assert "linux.seccomp.listenerPath" in refused.stderr
    assert masu_oci("list", "-q").stdout == ""
