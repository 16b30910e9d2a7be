"""The terminal of a container in the foreground: its pty comes to ours.

A module of its own because only containers with a terminal pay for termios.
"""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socketpair

from masu.cli import terminal
from masu.errors import Unavailable
from masu.linux import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket


class Console:
    """`theirs` is the socket that the pty's master comes through; who starts the container closes it then."""

    def __init__(self) -> None:
        self._ours, theirs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self.theirs = theirs.detach()
        self.master = -1

    def prepare(self) -> None:
        """To be called when the container is ready, before its program runs: what that says first should come out as
        the rest does, and it may ask for the size at once."""
        self.master = _receive_master(self._ours)
        terminal.clear_onlcr(self.master)
        self.resize()

    def raw(self) -> terminal.Raw:
        """Raw mode of our own terminal, for a `with`."""
        return terminal.Raw(0, output=True)

    def resize(self) -> None:
        terminal.set_size(self.master, *terminal.size(0))

    def pass_output(self) -> bool:
        """From the container to us; False at its end."""
        data = terminal.read_master(self.master)
        fds.write_all(1, data)
        return bool(data)

    def pass_input(self) -> bool:
        """From us to the container; False at our end."""
        data = os.read(0, 4096)
        fds.write_all(self.master, data)
        return bool(data)

    def pass_rest(self) -> None:
        """What the container had written before it ended."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while poll.poll(0) and self.pass_output():
            pass

    def close(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def _receive_master(console: socket) -> int:
    _, ancillary, _, _ = console.recvmsg(4096, 64)
    console.close()
    for level, kind, payload in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fd = int.from_bytes(payload[:4], "little")
            os.set_inheritable(fd, False)
            return fd
    raise Unavailable("terminal", detail="the container's pty did not arrive")
