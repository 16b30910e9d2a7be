"""A container with a monitor, driven by hand, and clients that attach to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
from pathlib import Path

from kernel.launchclient import DEADLINE_S, Launch, op, wait_readable

from masu.plan import ops as o
from masu.plan.ops import Op

STDOUT, STDERR, STDIN, EVENTS = 1, 2, 4, 8
RECORD = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)")


class Client:
    """One attached client."""

    def __init__(self, path: Path, flags: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE_S)
        self.said = {b"o": b"", b"e": b""}
        self.exit: tuple[int, int] | None = None
        self.others: list[bytes] = []
        try:
            self.socket.connect(str(path))
            self.socket.send(b"a" + bytes([flags]))
        except OSError:
            self.socket.close()
            raise

    def receive(self) -> bytes:
        """The next message; "" at the end."""
        data = self.socket.recv(65536)
        if data[:1] in self.said:
            self.said[data[:1]] += data[1:]
        elif data[:1] == b"x":
            self.exit = struct.unpack("<II", data[1:])
        elif data[:1] != b"A":
            self.others.append(data)
        return data

    def attached(self) -> Client:
        assert self.receive() == b"A"
        return self

    def until(self, text: bytes, stream: bytes = b"o") -> None:
        while text not in self.said[stream]:
            assert self.receive(), f"{text!r} never came, but {self.said}"

    def until_exit(self) -> tuple[int, int]:
        while self.exit is None:
            assert self.receive(), f"no exit came, but {self.said}"
        return self.exit

    def send(self, data: bytes) -> None:
        self.socket.send(data)

    def close(self) -> None:
        self.socket.close()


class Monitored:
    """A container with a monitor, up to `ready`."""

    def __init__(self, plan: list[Op], folder: Path, *, pass_fds: tuple[int, ...] = (), **fields: object) -> None:
        self.folder = folder
        self.clients: list[Client] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(folder / "attach.sock"))
        self.listener.listen()
        os.set_inheritable(self.listener.fileno(), True)
        given: dict[str, object] = {
            "listen_fd": self.listener.fileno(),
            "log_path": str(folder / "log"),
            "exit_path": str(folder / "exit"),
            "pid_path": str(folder / "pid"),
            **fields,
        }
        self.plan = [op("monitor", **given), *plan]  # type: ignore[arg-type]
        self.launch = Launch(self.plan, pass_fds=(self.listener.fileno(), *pass_fds), stdout=None, stderr=None)
        self.monitor = 0
        self.monitor_fd = -1

    def ready(self) -> Monitored:
        try:
            self.launch.expect(o.MSG_READY)
        finally:
            for message in self.launch.messages:
                if message.type == o.MSG_MONITOR:
                    self.monitor = message.value
                    self.monitor_fd = os.pidfd_open(self.monitor)
        assert self.launch.process.wait(DEADLINE_S) == 0  # the first process left at once
        return self

    def go(self) -> Monitored:
        self.launch.go()
        assert self.launch.receive() is None
        return self

    def client(self, flags: int = STDOUT | STDERR) -> Client:
        made = Client(self.folder / "attach.sock", flags)
        self.clients.append(made)
        return made.attached()

    def wait(self) -> None:
        """Until the monitor is gone."""
        wait_readable(self.monitor_fd)

    def exit(self) -> dict[str, object]:
        found = json.loads((self.folder / "exit").read_text())
        assert isinstance(found, dict)
        return found

    def log(self) -> list[tuple[str, str, bytes]]:
        """(stream, F or P, text) of each record."""
        found = []
        for line in (self.folder / "log").read_bytes().splitlines():
            match = RECORD.fullmatch(line)
            assert match, line
            found.append((match[2].decode(), match[3].decode(), match[4]))
        return found

    def __enter__(self) -> Monitored:
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self.clients:
            client.close()
        self.listener.close()
        if self.launch.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.launch.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            wait_readable(self.launch.pidfd)
        if self.monitor_fd >= 0:
            try:
                wait_readable(self.monitor_fd)
            finally:
                os.close(self.monitor_fd)
        self.launch.close()
