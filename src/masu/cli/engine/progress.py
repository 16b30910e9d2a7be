"""What a pull or push shows: a line a layer that is rewritten on a terminal, plain lines of events elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time

from masu.cli import units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.spec.image import Descriptor

# A terminal is redrawn at most so often.
_REDRAW_S = 0.1
_BAR = 50


class PullProgress:
    """The `Progress` of masu.registry and of unpacking, called from several threads. Close it at the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._terminal = os.isatty(fd) and os.environ.get("TERM", "") not in ("", "dumb")
        self._lock = threading.Lock()
        self._layers: dict[str, _Layer] = {}
        self._drawn = 0
        self._last = 0.0
        self._dirty = False

    def layer(self, digest: str, total: int) -> None:
        with self._lock:
            if digest not in self._layers:
                self._layers[digest] = _Layer(digest, total)
                self._say(self._layers[digest], "Pulling fs layer")

    def advance(self, digest: str, n: int) -> None:
        with self._lock:
            layer = self._layers.get(digest)
            if layer is not None:
                layer.advance(n)
                self._redraw()

    def document(self, descriptor: Descriptor, below: Sequence[Descriptor], text: str) -> None:
        """Nobody who watches layers knows what these are."""

    def status(self, digest: str, text: str) -> None:
        with self._lock:
            layer = self._layers.get(digest)
            if layer is None:
                if text and digest == "":
                    self._message(text)
                return
            if layer.enter(text):
                self._say(layer, layer.status)

    def close(self) -> None:
        """Draws the last state; nothing is drawn after."""
        with self._lock:
            if self._terminal:
                self._redraw(force=True)

    def _message(self, text: str) -> None:
        if self._terminal:
            self._erase()
        self._write(text + "\n")
        self._redraw(force=True)

    def _say(self, layer: _Layer, text: str) -> None:
        if self._terminal:
            self._redraw(force=True)
        elif text:
            self._write(f"{layer.short}: {text}\n")

    def _redraw(self, *, force: bool = False) -> None:
        if not self._terminal:
            return
        now = time.monotonic()
        if not force and now - self._last < _REDRAW_S:
            return
        self._last = now
        columns, rows = _size(self._fd)
        lines = [layer.line(columns) for layer in self._layers.values()]
        if len(lines) > rows - 1:
            # more than the screen holds: those that are at work, and how many there are
            busy = [layer for layer in self._layers.values() if not layer.done][: rows - 2]
            done = sum(layer.done for layer in self._layers.values())
            lines = [f"{done} of {len(self._layers)} layers done", *(layer.line(columns) for layer in busy)]
        self._erase()
        self._write("".join(line + "\n" for line in lines))
        self._drawn = len(lines)

    def _erase(self) -> None:
        if self._drawn:
            self._write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _write(self, text: str) -> None:
        stream = sys.stderr if self._fd == 2 else sys.stdout
        stream.write(text)
        stream.flush()


class _Layer:
    def __init__(self, digest: str, total: int) -> None:
        self.short = digest.rpartition(":")[2][:12]
        self.total = total
        self.current = 0
        self.status = "Pulling fs layer"

    @property
    def done(self) -> bool:
        return self.status in ("Pull complete", "Already exists")

    def enter(self, text: str) -> bool:
        """Whether the status changed; what masu calls a step in Docker's words."""
        known = {"extracting": "Extracting", "done": "Pull complete"}
        text = known.get(text, text)
        if text == self.status:
            return False
        if text == "Extracting":
            self.current = 0
        self.status = text
        return True

    def advance(self, n: int) -> None:
        self.current = min(max(self.current + n, 0), max(self.total, 0) or self.current + n)

    def line(self, columns: int) -> str:
        text = f"{self.short}: {self.status}"
        if self.status in ("Downloading", "Extracting", "Pushing") and self.total > 0:
            width = min(_BAR, max(columns - len(text) - 30, 0))
            filled = width * self.current // self.total
            bar = "=" * max(filled - 1, 0) + (">" if filled else "")
            sizes = f"{units.human_size(self.current)}/{units.human_size(self.total)}"
            text += f" [{bar.ljust(width)}] {sizes}" if width > 5 else f" {sizes}"
        return "".join(c if c.isprintable() else "?" for c in text)[: columns - 1]


def _size(fd: int) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 80, 24
    return size.columns or 80, size.lines or 24
