"""Events to whoever listens: from the store's table, which every process of the state directory writes, in its order.

    any process ── COMMIT, `published` ──(inotify)──► feed ──► each subscriber's buffer ──► client

A publisher that was killed between the two has written the database all the same: after any write there is a look some
time later. Looks are in the event loop: one query, for which a thread would take longer to wake up.

A subscriber that is slower than the events has a buffer of a stated length; beyond it, its stream ends with
ResourceExhausted, and nobody else's.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Callable

from masu.errors import KernelError, MasuError, ResourceExhausted
from masu.linux.watch import Watch
from masu.store import Event, Store
from masu.store.events import published

log = logging.getLogger("masud")
BUFFER = 10_000
_BATCH = 1000
# After the database was written: a commit waits for its fsync.
_LATER_S = 0.5
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
    """Of one store; belongs to one event loop."""

    def __init__(self, store: Store, *, buffer: int = BUFFER) -> None:
        self._store = store
        self._buffer = buffer
        self._subscriptions: set[Subscription] = set()
        self._seq = 0
        self._watches: list[Watch] = []
        self._later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._seq = self._store.events.last()
        told = published(self._store.db)
        try:
            os.close(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._watch(told, self._look)
            self._watch(self._store.root, lambda: self._look_later(_LATER_S))
        except (KernelError, OSError) as error:
            log.warning("events are looked for every %g s: %s", _WITHOUT_INOTIFY_S, error)
            self._look_later(_WITHOUT_INOTIFY_S)

    def stop(self) -> None:
        for watch in self._watches:
            self._loop.remove_reader(watch.fileno())
            watch.close()
        self._watches.clear()
        if self._later is not None:
            self._later.cancel()

    def subscribe(self, wanted: Callable[[Event], bool]) -> Subscription:
        """From now on; to be given back to `unsubscribe`."""
        made = Subscription(wanted, self._buffer)
        made.after = self._store.events.last()
        self._subscriptions.add(made)
        return made

    @property
    def subscribers(self) -> int:
        return len(self._subscriptions)

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def _watch(self, path: str, react: Callable[[], None]) -> None:
        watch = Watch()
        self._watches.append(watch)
        watch.add(path)
        self._loop.add_reader(watch.fileno(), lambda: react() if watch.changed() else None)

    def _look_later(self, delay_s: float) -> None:
        if self._later is None:
            self._later = self._loop.call_later(delay_s, self._look_at_last)

    def _look_at_last(self) -> None:
        self._later = None
        self._look()
        if not self._watches:
            self._look_later(_WITHOUT_INOTIFY_S)

    def _look(self) -> None:
        try:
            found = self._store.events.since(self._seq, _BATCH)
        except MasuError as error:
            log.error("events: %s", error)
            self._look_later(_LATER_S)
            return
        for event in found:
            self._seq = event.seq
            for subscription in self._subscriptions:
                subscription.take(event)
        if len(found) == _BATCH:
            self._loop.call_soon(self._look)
