"""A container in the foreground: signals go to it, its terminal comes to ours, its exit status is our own."""

from __future__ import annotations

import os
import select

from masu.cli.signals import SIGCHLD, SIGWINCH, Signals
from masu.linux import pidfd, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from masu.cli.oci.console import Console
    from masu.linux.front import Front
    from masu.runtime.notify import Relay

    class Running(Protocol):
        """A child of ours that was launched, or restored."""

        pid: int
        pidfd: int

        def close(self) -> None: ...


def wait(launched: Running, signals: Signals, console: Console | None, relay: Relay | None = None) -> int:
    """Until the first process ends; its exit status, 128 + n for signal n. Meanwhile `relay` tells a service manager
    that it is ready, and that we are to be watched, who have its exit status in the end."""
    try:
        if console is not None:
            with console.raw():
                return _loop(launched, signals, console, relay)
        if spawn.front is not None and relay is None:
            return _wait_by(spawn.front, launched, signals)
        return _loop(launched, signals, None, relay)
    finally:
        if relay is not None:
            relay.close()
        if console is not None:
            console.close()
        launched.close()


def _wait_by(front: Front, launched: Running, signals: Signals) -> int:
    """As `_loop`, with one question for all that may end."""
    pid = -1
    while pid != launched.pid:
        pid, raw = front.wait_any(signals, lambda number: _pass_on(number, launched))
    return _status(raw)


def _loop(launched: Running, signals: Signals, console: Console | None, relay: Relay | None) -> int:
    poll = select.poll()
    poll.register(signals.fd, select.POLLIN)
    # Neither ours nor the kernel's signal may be missed: a child that died before we listened is reaped first.
    status = _reap(launched.pid)
    if console is not None:
        poll.register(console.master, select.POLLIN)
        poll.register(0, select.POLLIN)
    heard = relay.fileno() if relay is not None else -1
    if relay is not None:
        poll.register(heard, select.POLLIN)
    while status is None:
        for fd, _ in poll.poll():
            if fd == signals.fd:
                status = _handle(signals.take(), launched, console)
            elif fd == heard:
                if relay is not None and _passed_on(relay):
                    poll.unregister(fd)
                    relay = None
            elif console is not None and not (console.pass_input() if fd == 0 else console.pass_output()):
                poll.unregister(fd)
    if console is not None:
        console.pass_rest()
    if relay is not None:
        _passed_on(relay)  # what it said at last
    return status


def _passed_on(relay: Relay) -> bool:
    if not relay.is_ready():
        return False
    relay.tell(os.getpid(), wait=False)  # we stay
    relay.close()
    return True


def _handle(numbers: list[int], launched: Running, console: Console | None) -> int | None:
    status = None
    for number in numbers:
        if number == SIGCHLD:
            # Two may have gathered: the second finds nobody any more, and must not forget what the first one found.
            status = _reap(launched.pid) if status is None else status
        elif number == SIGWINCH and console is not None:
            console.resize()
        else:
            _pass_on(number, launched)
    return status


def _pass_on(number: int, launched: Running) -> None:
    try:
        pidfd.send_signal(launched.pidfd, number)
    except ProcessLookupError:
        pass


def _reap(pid: int) -> int | None:
    status = None
    while True:
        try:
            child, raw = spawn.wait(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if child == 0:
            return status
        if child == pid:
            status = _status(raw)


def _status(raw: int) -> int:
    code = os.waitstatus_to_exitcode(raw)
    return code if code >= 0 else 128 - code
