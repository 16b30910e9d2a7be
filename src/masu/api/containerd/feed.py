"""Events to whoever listens: from the store's table, which every process of the state directory writes, in its order.

    any process ── COMMIT ──► meta.db ──(inotify: its log was written)──► feed ──► each subscriber's buffer ──► client

A writer's pages are in the log a little before its commit can be seen, so the feed looks again for a while. A
subscriber that is slower than the events has a buffer of a stated length; beyond it, its stream ends with
ResourceExhausted, and nobody else's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from masu.errors import KernelError, MasuError, ResourceExhausted
from masu.linux.watch import Watch
from masu.store import Event, Store

log = logging.getLogger("masud")
T = TypeVar("T")
BUFFER = 10_000
_BATCH = 1000
# After a write was seen: when to look, in seconds. A commit waits for its fsync.
_LOOKS_S = (0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256)
_WITHOUT_INOTIFY_S = 0.2


class Subscription:
    """The events after number `after` that `wanted` takes."""

    def __init__(self, wanted: Callable[[Event], bool], buffer: int) -> None:
        self._wanted = wanted
        self._limit = buffer
        self._events: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._lost = False
        self.after = 0

    def take(self, event: Event) -> None:
        if self._lost or event.seq <= self.after or not self._wanted(event):
            return
        if len(self._events) >= self._limit:
            self._lost = True
            self._events.clear()
        else:
            self._events.append(event)
        self._filled.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Raises ResourceExhausted when it was too slow."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._lost:
                raise ResourceExhausted("event buffer", detail=f"{self._limit} events waited for this subscriber")
            self._filled.clear()
            await self._filled.wait()


class Feed:
    """Of one store. `start` and the rest belong to one event loop; `wake` may be called there when it is known that
    something was published."""

    def __init__(self, store: Store, *, buffer: int = BUFFER) -> None:
        self._store = store
        self._buffer = buffer
        self._subscriptions: set[Subscription] = set()
        self._written = asyncio.Event()
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._watch: Watch | None = None
        self._seq = 0
        # Of its own: it must not wait for those who work long.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="masud-events")

    def start(self) -> None:
        self._seq = self._store.events.last()
        try:
            self._watch = Watch()
            self._watch.add(self._store.root)
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._changed)
        except KernelError as error:
            log.warning("events are looked for every %g s: %s", _WITHOUT_INOTIFY_S, error)
            self._watch = None
        self._task = asyncio.create_task(self._run(), name="events")

    async def stop(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._thread.shutdown()

    async def subscribe(self, wanted: Callable[[Event], bool]) -> Subscription:
        """From now on; to be given back to `unsubscribe`."""
        made = Subscription(wanted, self._buffer)
        async with self._looking:
            made.after = await self._ask(self._store.events.last)
            self._subscriptions.add(made)
        return made

    @property
    def subscribers(self) -> int:
        return len(self._subscriptions)

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def wake(self) -> None:
        self._written.set()

    async def _ask(self, function: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *values)

    def _changed(self) -> None:
        if self._watch is not None and self._watch.changed():
            self.wake()

    async def _run(self) -> None:
        while True:
            await self._wait()
            for pause_s in _LOOKS_S:
                await asyncio.sleep(pause_s)
                try:
                    if await self._look():
                        break
                except MasuError as error:
                    log.error("events: %s", error)
                    break

    async def _wait(self) -> None:
        if self._watch is not None:
            await self._written.wait()
        else:
            await asyncio.sleep(_WITHOUT_INOTIFY_S)
        self._written.clear()

    async def _look(self) -> bool:
        """Whether there was something."""
        async with self._looking:
            if not self._subscriptions:
                # Who comes later begins with what is to come.
                before, self._seq = self._seq, await self._ask(self._store.events.last)
                return self._seq != before
            found = await self._ask(self._store.events.since, self._seq, _BATCH)
            for event in found:
                self._seq = event.seq
                for subscription in self._subscriptions:
                    subscription.take(event)
        if len(found) == _BATCH:
            self.wake()
        return bool(found)
