"""A container in the foreground: signals go to it, its terminal comes to ours, its exit status is our own."""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socketpair

from masu.cli import terminal
from masu.cli.signals import SIGCHLD, SIGWINCH, Signals
from masu.errors import Unavailable
from masu.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from masu.runtime.launch import Launched


class Console:
    """The terminal of a container in the foreground. `theirs` is the socket that its master comes through; who starts
    the container closes it then."""

    def __init__(self) -> None:
        self._ours, theirs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self.theirs = theirs.detach()
        self.master = -1

    def prepare(self) -> None:
        """To be called when the container is ready, before its program runs: what that says first should come out as
        the rest does, and it may ask for the size at once."""
        self.master = _receive_master(self._ours)
        terminal.clear_onlcr(self.master)
        terminal.set_size(self.master, *terminal.size(0))

    def close(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def wait(launched: Launched, signals: Signals, console: Console | None) -> int:
    """Until the first process ends; its exit status, 128 + n for signal n."""
    master = console.master if console is not None else None
    try:
        with terminal.Raw(0 if master is not None else -1):
            return _loop(launched, signals, master)
    finally:
        if console is not None:
            console.close()
        launched.close()


def _loop(launched: Launched, signals: Signals, master: int | None) -> int:
    poll = select.poll()
    poll.register(signals.fd, select.POLLIN)
    # Neither ours nor the kernel's signal may be missed: a child that died before we listened is reaped first.
    status = _reap(launched.pid)
    if master is not None:
        poll.register(master, select.POLLIN)
        poll.register(0, select.POLLIN)
    while status is None:
        for fd, _ in poll.poll():
            if fd == signals.fd:
                status = _handle(signals.take(), launched, master)
            elif fd == master:
                data = terminal.read_master(master)
                if data:
                    terminal.write_all(1, data)
                else:
                    poll.unregister(master)
            elif fd == 0:
                data = os.read(0, 4096)
                if data and master is not None:
                    terminal.write_all(master, data)
                else:
                    poll.unregister(0)
    if master is not None:
        while data := _pending(master):
            terminal.write_all(1, data)
    return status


def _handle(numbers: list[int], launched: Launched, master: int | None) -> int | None:
    status = None
    for number in numbers:
        if number == SIGCHLD:
            # Two may have gathered: the second finds nobody any more, and must not forget what the first one found.
            status = _reap(launched.pid) if status is None else status
        elif number == SIGWINCH and master is not None:
            terminal.set_size(master, *terminal.size(0))
        else:
            try:
                pidfd.send_signal(launched.pidfd, number)
            except ProcessLookupError:
                pass
    return status


def _reap(pid: int) -> int | None:
    status = None
    while True:
        try:
            child, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if child == 0:
            return status
        if child == pid:
            code = os.waitstatus_to_exitcode(raw)
            status = code if code >= 0 else 128 - code


def _pending(master: int) -> bytes:
    poll = select.poll()
    poll.register(master, select.POLLIN)
    return terminal.read_master(master) if poll.poll(0) else b""


def _receive_master(console: socket) -> int:
    _, ancillary, _, _ = console.recvmsg(4096, 64)
    console.close()
    for level, kind, payload in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fd = int.from_bytes(payload[:4], "little")
            os.set_inheritable(fd, False)
            return fd
    raise Unavailable("terminal", detail="the container's pty did not arrive")
