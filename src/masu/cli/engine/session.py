"""The user's terminal, or pipes, joined to a process in a container through its monitor.

    stdin ──► pending ──► monitor ──► process        what is read from stdin waits until the monitor takes it, while
    stdout, stderr ◄──── monitor ◄──── process       output goes on: neither side can block the other
    signals ──► monitor                              passed on, except that a raw terminal sends them as bytes
    window size ──► monitor

The session ends with the process, with the detach keys (ctrl-p ctrl-q), or with the monitor.
"""

from __future__ import annotations

import os
import select
from time import monotonic_ns

from masu.cli import terminal
from masu.cli.signals import SIGHUP, SIGWINCH, Signals
from masu.errors import FailedPrecondition, InvalidArgument, Unavailable
from masu.isolation import attach
from masu.linux import fds, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.linux.front import Front

DETACH_KEYS = "ctrl-p,ctrl-q"
_CHUNK = 32768


class Session:
    """Made before the process may run; `connect` is the engine's `on_ready`; `run` is the loop."""

    ran_ns = 0  # of all sessions: what the program has taken (--timings)

    def __init__(
        self, *, stdin: bool, tty: bool, stdout: bool = True, stderr: bool = True, sig_proxy: bool = True,
        detach_keys: str = "",
    ) -> None:  # fmt: skip
        if stdin and tty and not os.isatty(0):
            raise FailedPrecondition(
                "standard input", detail="it is not a terminal, so it cannot be joined to one", where="--tty",
                hint="-i without -t takes a pipe",
            )  # fmt: skip
        self.stdin = stdin
        self.tty = tty
        self.sig_proxy = sig_proxy
        self.detached = False
        self._wants = (
            (attach.STDOUT if stdout else 0) | (attach.STDERR if stderr else 0) | (attach.STDIN if stdin else 0)
        )
        self._keys = Keys(detach_keys or DETACH_KEYS) if tty else None
        self._attachment: attach.Attachment | None = None
        self._pending: list[Callable[[attach.Attachment], None]] = []
        self._signals: Signals | None = None
        self._raw = terminal.Raw(0)

    def listen(self) -> None:
        """From here on signals are noted, to be passed on; until then they end us as they would anybody."""
        if self._signals is None:
            self._signals = Signals()

    def connect(self, socket_path: str) -> None:
        """Joins the monitor; from here on nothing the process writes is missed."""
        self.listen()
        attachment = attach.Attachment.connect(socket_path, self._wants)
        attachment.wait_attached()
        self._attachment = attachment
        if self.tty:
            # before the program runs, so that it never sees another size
            self._resize()
            while self._pending:
                self._pending.pop(0)(attachment)

    def run(self) -> int | None:
        """Passes data until the end; the exit status, None after the detach keys.

        Raises Unavailable when the monitor hangs up without one.
        """
        assert self._attachment is not None
        begun = monotonic_ns()
        try:
            return self._run(self._attachment)
        finally:
            Session.ran_ns += monotonic_ns() - begun

    def _run(self, attachment: attach.Attachment) -> int | None:
        if spawn.front is not None:
            return self._run_in(spawn.front, attachment)
        if not (self.tty and self.stdin):
            return self._loop(attachment)
        with self._raw:
            return self._loop(attachment)

    def _run_in(self, front: Front, attachment: attach.Attachment) -> int | None:
        from masu.linux.front import ATTEND_RAW, ATTEND_SIGNALS, ATTEND_STDIN, ATTEND_TERMINAL

        flags = (
            (ATTEND_STDIN if self.stdin else 0)
            | (ATTEND_TERMINAL if self.tty else 0)
            | (ATTEND_RAW if self.tty and self.stdin else 0)
            | (ATTEND_SIGNALS if self.sig_proxy else 0)
        )
        keys = self._keys.sequence if self._keys is not None else b""
        assert self._signals is not None
        status = front.attend_monitor(attachment.fd, flags, keys, self._signals)
        self.detached = status is None
        return status

    def promise_cleanup(self) -> None:
        """Tells the monitor that we remove the container, so that it need not have it done."""
        assert self._attachment is not None
        try:
            self._attachment.promise_cleanup()
        except Unavailable:
            pass  # it is gone; whoever removes it first does

    def close(self) -> None:
        if self._attachment is not None:
            self._attachment.close()
            self._attachment = None

    def _loop(self, attachment: attach.Attachment) -> int | None:
        signals = self._signals
        assert signals is not None
        poll = select.poll()
        poll.register(signals.fd, select.POLLIN)
        reading = self.stdin
        while True:
            poll.register(attachment.fd, select.POLLIN | (select.POLLOUT if self._pending else 0))
            # no more is read than the monitor takes
            if reading and not self._pending:
                poll.register(0, select.POLLIN)
            elif self.stdin:
                try:
                    poll.unregister(0)
                except KeyError:
                    pass
            ready = dict(poll.poll())
            if signals.fd in ready:
                self._take_signals(signals.take())
            events = ready.get(attachment.fd, 0)
            if events & select.POLLOUT and self._pending:
                self._pending.pop(0)(attachment)
            if events & ~select.POLLOUT:
                kind, payload = attachment.receive()
                if kind == "o":
                    fds.write_all(1, payload)
                elif kind == "e":
                    fds.write_all(2, payload)
                elif kind == "x":
                    return attach.exit_status(payload)
                elif not kind:
                    raise Unavailable("monitor", detail="it ended without telling how the container did")
            if ready.get(0, 0) and reading and not self._pending:
                reading = self._read_stdin()
                if self.detached:
                    return None

    def _read_stdin(self) -> bool:
        """False at the end of stdin."""
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""  # the terminal is gone
        if self._keys is not None:
            data, self.detached = self._keys.filter(data)
        if data:
            self._pending.append(lambda attachment: attachment.write_stdin(data))
            return True
        if self.detached or (self._keys is not None and self._keys.holding):
            return True
        self._pending.append(lambda attachment: attachment.close_stdin())
        return False

    def _take_signals(self, numbers: list[int]) -> None:
        for number in numbers:
            if number == SIGWINCH:
                if self.tty:
                    self._resize()
            elif number == 17:  # SIGCHLD: a child of ours, not the container's business
                continue
            elif number == SIGHUP and terminal.is_gone():
                # Nobody sees what comes, nobody can type: passed on, and then we go; the container has its monitor.
                if self.sig_proxy and self._attachment is not None:
                    try:
                        self._attachment.signal(number)
                    except (Unavailable, BlockingIOError):
                        pass
                os._exit(128 + number)
            elif self.sig_proxy:
                self._pending.append(lambda attachment, number=number: attachment.signal(number))  # type: ignore[misc]
            elif number in (1, 2, 15):
                # not passed on, so it is meant for us: leave the container alone and go
                self._raw.__exit__(None, None, None)
                os._exit(128 + number)

    def _resize(self) -> None:
        for fd in (0, 1, 2):
            size = terminal.size(fd)
            if all(size):
                self._pending.append(lambda attachment, size=size: attachment.resize(*size))  # type: ignore[misc]
                return


class Keys:
    """Looks for the detach sequence in what is typed; the beginning of one is held back until it is decided."""

    def __init__(self, text: str) -> None:
        self.sequence = parse_keys(text)
        self._held = 0

    @property
    def holding(self) -> bool:
        return self._held > 0

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """What goes on to the process, and whether the sequence was completed."""
        out = bytearray()
        for byte in data:
            if byte == self.sequence[self._held]:
                self._held += 1
                if self._held == len(self.sequence):
                    return bytes(out), True
                continue
            out += self.sequence[: self._held]
            self._held = 0
            if byte == self.sequence[0]:
                self._held = 1
                if len(self.sequence) == 1:
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False


def parse_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `a,ctrl-@` as the bytes that a terminal sends. Raises InvalidArgument."""
    out = bytearray()
    for word in text.split(","):
        name = word.lower()
        if len(word) == 1 and word.isascii() and word.isprintable():
            out += word.encode()
        elif name == "del":
            out.append(127)
        elif len(name) == 6 and name.startswith("ctrl-") and "@" <= name[5].upper() <= "_":
            out.append(ord(name[5].upper()) - 64)
        else:
            raise InvalidArgument(
                "detach keys", text, where="--detach-keys", detail="want keys as a or ctrl-p, with commas between"
            )
    return bytes(out)
