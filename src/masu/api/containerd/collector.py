"""When the garbage collector runs: some time after something was let go of, never all the time.

    something removed ──► schedule_delay ──► collect ──► as long as keeps collecting below `pause_threshold` of the time
    startup ──► startup_delay ──► collect: what a client or a crash left half-done

A client may ask for it and wait (`sync` of leases and images).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from masu.errors import MasuError
from masu.store.gc import GcReport

log = logging.getLogger("masud")


class Settings:
    """As in containerd's `io.containerd.gc.v1.scheduler`; times in seconds. With a `deletion_threshold` that many
    removals make it run at once, without one the first does, after the pause. containerd has no delay: but who removes
    something mostly has more to do, and should not share the processor with what follows from it."""

    __slots__ = ("deletion_threshold", "pause_threshold", "schedule_delay_s", "startup_delay_s")

    def __init__(
        self,
        *,
        pause_threshold: float = 0.02,
        deletion_threshold: int = 0,
        schedule_delay_s: float = 0.5,
        startup_delay_s: float = 0.1,
    ) -> None:
        # containerd, too, lets it take no more than half of the time.
        self.pause_threshold = min(max(pause_threshold, 1e-6), 0.5)
        self.deletion_threshold = deletion_threshold
        self.schedule_delay_s = schedule_delay_s
        self.startup_delay_s = startup_delay_s


class Collector:
    """A thread of its own between `start` and `stop`; before that, and after, `dirty` only counts."""

    def __init__(self, collect: Callable[[], GcReport], settings: Settings | None = None) -> None:
        self._collect = collect
        self.settings = settings or Settings()
        self._changed = threading.Condition()
        self._running = threading.Lock()
        self._removed = 0
        self._not_before = 0.0
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._removed = 1
        self._not_before = time.monotonic() + self.settings.startup_delay_s
        self._thread = threading.Thread(target=self._run, name="masud-gc", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits for a collection that runs."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def dirty(self, *, wait: bool = False) -> None:
        """Something was let go of. With `wait` it is collected when this returns; raises what that raises."""
        with self._changed:
            self._removed += 1
            if self._removed == 1:
                self._not_before = max(self._not_before, time.monotonic() + self.settings.schedule_delay_s)
            self._changed.notify_all()
        if wait:
            self.run()

    def run(self) -> GcReport:
        """One collection, now; the pause before the next one is measured by it."""
        with self._running:
            with self._changed:
                self._removed = 0
            began = time.monotonic()
            try:
                return self._collect()
            finally:
                ended = time.monotonic()
                with self._changed:
                    self._not_before = ended + (ended - began) * (1 / self.settings.pause_threshold - 1)

    def _run(self) -> None:
        while self._wait():
            try:
                report = self.run()
            except MasuError as error:
                log.error("garbage collection: %s", error)
                continue
            except Exception:
                log.exception("garbage collection")
                continue
            for met in report.errors:
                log.warning("garbage collection: %s", met)
            for line in report.repaired:
                log.info("garbage collection: repaired: %s", line)

    def _wait(self) -> bool:
        # Until there is something to do and it is time; False at the end.
        with self._changed:
            while not self._stopped:
                left = self._not_before - time.monotonic()
                many = 0 < self.settings.deletion_threshold <= self._removed
                if self._removed and (many or left <= 0):
                    return True
                self._changed.wait(left if self._removed else None)
            return False
