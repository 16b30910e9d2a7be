"""Signals as something to poll for: while a container runs in the foreground they are its, not ours."""

from __future__ import annotations

import _signal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

# Not to be caught (KILL, STOP), ours to handle (CHLD), about the terminal's job control (TTIN, TTOU, TSTP), or from
# the kernel about our own process (SEGV …, PIPE, URG).
_NOT_FORWARDED = frozenset((4, 5, 7, 8, 9, 11, 13, 17, 18, 19, 20, 21, 22, 23, 31))
# By nohup(1), and by shells for what they start in the background: not meant for us, nor for the container.
_LEFT_IGNORED = frozenset((1, 2, 3))
SIGHUP = 1
SIGCHLD = 17
SIGWINCH = 28


class Signals:
    """Collects signals from its making on; `fd` becomes readable when there are some, `take` gives them."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in range(1, 32):
            if number in _LEFT_IGNORED and _signal.getsignal(number) == _signal.SIG_IGN:
                continue
            if number not in _NOT_FORWARDED or number == SIGCHLD:
                _signal.signal(number, _noted)

    def take(self) -> list[int]:
        try:
            return list(os.read(self.fd, 64))
        except BlockingIOError:
            return []


def _noted(number: int, frame: FrameType | None) -> None:
    """The number travels through the wakeup fd."""
