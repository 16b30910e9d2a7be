"""One thread that waits for everything: descriptors, moments, and what other threads want done in it.

select.poll rather than asyncio or selectors: nothing is imported for it, and what it does is this page.
"""

from __future__ import annotations

import errno
import os
import select
from _thread import allocate_lock, start_new_thread
from time import monotonic

from masu.errors import ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Job = Callable[[], None]

READ, WRITE = select.POLLIN, select.POLLOUT
_MAX_THREADS = 32
_PAUSE_S = 1.0


class Loop:
    """Its methods are for its own thread, but for `call` and `work`. `fault` hears of what its jobs raise: the loop
    outlives them."""

    def __init__(self, fault: Callable[[BaseException], None]) -> None:
        self._fault = fault
        self._poll = select.poll()
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._paused: dict[int, tuple[float, int, Job]] = {}
        self._timers: list[tuple[float, int, Job]] = []
        self._count = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._wake_read, READ)
        self._lock = allocate_lock()
        self._jobs: list[Job] = []
        self._queue: list[Job] = []
        self._threads = 0
        self._running = False

    # --- descriptors and time ---

    def watch(self, fd: int, events: int, react: Callable[[int], None]) -> None:
        """`react` is called with what poll(2) tells of `fd` for as long as it is watched. What it raises is a fault:
        then not for a while, for it would be told again at once."""
        self._watched[fd] = events, react
        self._poll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._watched[fd] = events, self._watched[fd][1]
        if fd not in self._paused:
            self._poll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Before it is closed."""
        del self._watched[fd]
        if fd in self._paused:
            self.cancel(self._paused.pop(fd))
        else:
            self._poll.unregister(fd)

    def pause(self, fd: int) -> None:
        """Looks away from one that is watched, for a while."""
        self._poll.unregister(fd)
        self._paused[fd] = self.later(_PAUSE_S, lambda: self._go_on(fd))

    def _go_on(self, fd: int) -> None:
        del self._paused[fd]
        self._poll.register(fd, self._watched[fd][0])

    def later(self, delay_s: float, job: Job) -> tuple[float, int, Job]:
        """Does `job` once, in a while; for `cancel`. In the loop's thread."""
        self._count += 1
        timer = monotonic() + delay_s, self._count, job
        self._timers.append(timer)
        self._timers.sort(reverse=True)
        return timer

    def cancel(self, timer: tuple[float, int, Job]) -> None:
        if timer in self._timers:
            self._timers.remove(timer)

    # --- from and for other threads ---

    def call(self, job: Job) -> None:
        """Has `job` done by the loop's thread, soon; jobs are done in the order they came. From any thread."""
        with self._lock:
            self._jobs.append(job)
        self.wake()

    def wake(self) -> None:
        """Also for handlers of signals."""
        try:
            os.write(self._wake_write, b"\0")
        except OSError as error:
            if error.errno != errno.EAGAIN:  # full: it will wake up
                raise

    def work(self, job: Job) -> None:
        """Has `job` done by another thread, which may block. What `job` raises it has to catch. Raises
        ResourceExhausted when there is no thread and none can be made."""
        with self._lock:
            if self._threads >= _MAX_THREADS:
                self._queue.append(job)
                return
            self._threads += 1
        try:
            start_new_thread(self._worker, (job,))
        except RuntimeError as error:
            with self._lock:
                self._threads -= 1
                if not self._threads:
                    raise ResourceExhausted("threads", detail=str(error)) from error
                self._queue.append(job)  # for one of those that are at work

    def _worker(self, job: Job) -> None:
        while True:
            job()
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                job = self._queue.pop(0)

    @property
    def is_busy(self) -> bool:
        """Whether threads are at work, or what they want done has not been done."""
        with self._lock:
            return bool(self._threads or self._queue or self._jobs)

    # --- running ---

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        """Until `stop`."""
        self._running = True
        while self._running:
            timeout_ms = None
            if self._timers:
                timeout_ms = max(int((self._timers[-1][0] - monotonic()) * 1000) + 1, 0)
            for fd, events in self._poll.poll(timeout_ms):
                if fd == self._wake_read:
                    os.read(fd, 4096)
                elif fd in self._watched:  # it may have been unwatched a moment ago
                    self._react(fd, events)
            while self._timers and self._timers[-1][0] <= monotonic():
                self._do(self._timers.pop()[2])
            while self._jobs:
                with self._lock:
                    job = self._jobs.pop(0)
                self._do(job)

    def _react(self, fd: int, events: int) -> None:
        try:
            self._watched[fd][1](events)
        except Exception as error:
            self._fault(error)
            if fd in self._watched and fd not in self._paused:
                self.pause(fd)

    def _do(self, job: Job) -> None:
        try:
            job()
        except Exception as error:
            self._fault(error)
