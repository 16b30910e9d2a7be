"""The end of sd_notify(3) that a service manager has."""

from __future__ import annotations

import os
import select
import socket


class Manager:
    """A service manager's socket, which takes one message at a time."""

    def __init__(self, address: str) -> None:
        self.env = {**os.environ, "NOTIFY_SOCKET": address.replace("\0", "@")}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def take(self) -> tuple[str, list[int]]:
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 4)
        return data.decode(), fds

    def take_ready(self) -> str:
        """Who is to be watched."""
        assert self.take()[0] == "READY=1\n"
        name, _, pid = self.take()[0].strip().partition("=")
        assert name == "MAINPID"
        return pid

    def take_barrier(self) -> int:
        word, (fd,) = self.take()
        assert word == "BARRIER=1"
        return fd

    def heard_nothing(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]
