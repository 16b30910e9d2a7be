"""A person at a terminal: a program under a pty, what it shows, what is typed."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any


class Terminal:
    """Runs `command` with a new pty as its controlling terminal. Use as a context: the program is ended with it.
    `become` is called in the child, before the program."""

    def __init__(
        self,
        command: list[str],
        *,
        rows: int = 24,
        columns: int = 80,
        become: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            become()

        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal, **options
        )
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, text: str, timeout_s: float = 20) -> str:
        """Reads until `text` has been shown since the last call; returns what was read."""
        deadline = time.monotonic() + timeout_s
        seen = ""
        while text not in seen:
            if not self._readable(deadline - time.monotonic()):
                raise AssertionError(f"{text!r} was not shown in {timeout_s} s, only {seen!r}")
            try:
                data = os.read(self.master, 4096)
            except OSError:  # EIO: the other side has closed
                data = b""
            if not data:
                raise AssertionError(f"the program ended before {text!r}, it showed {seen!r}")
            seen += data.decode(errors="replace")
            self.shown += data.decode(errors="replace")
        return seen

    def rest(self, timeout_s: float = 20) -> str:
        """Everything until the program closes the terminal."""
        seen = b""
        while self._readable(timeout_s):
            try:
                data = os.read(self.master, 4096)
            except OSError:
                break
            if not data:
                break
            seen += data
        return seen.decode(errors="replace")

    def wait(self, timeout_s: float = 20) -> int:
        return self.process.wait(timeout_s)

    def _readable(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        return bool(poll.poll(max(timeout_s, 0) * 1000))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
