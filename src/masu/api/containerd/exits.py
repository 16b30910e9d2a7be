"""Who waits for the end of a process, and that an end is seen even when nobody waits.

One thread listens to the monitors of all processes that run (`isolation.attach`): of a monitor that tells an exit, or
hangs up, the process is looked at, which notes the exit and publishes it (`states`); then the waiting are told. What
ran before the daemon came is found when it starts; what other programs start (`masu run`), by their events.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable

from masu.engine import Engine
from masu.engine.tasks import STOPPED, Process
from masu.errors import MasuError, NotFound, ResourceExhausted, Unavailable
from masu.isolation.attach import EVENTS, Attachment
from masu.store import Store

log = logging.getLogger("masud")
# namespace, container, exec or ""
Key = tuple[str, str, str]
Done = Callable[[Process | MasuError], None]
# A monitor that is about to come, or has just gone; one that cannot be spoken to now.
_AGAIN_S, _LATER_S = 0.005, 1.0
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Exits:
    """A thread of its own between `start` and `stop`. All methods may be called from any thread."""

    def __init__(self, store: Store, engine: Callable[[str], Engine]) -> None:
        self._store = store
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: dict[Key, list[Done]] = {}
        self._watched: dict[Key, Attachment] = {}
        self._keys: dict[int, Key] = {}
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._stopped = False
        self._later: dict[Key, float] = {}  # CLOCK_MONOTONIC
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="masud-exits", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        for attachment in self._watched.values():
            attachment.close()
        self._poll.close()
        os.close(self._wake)

    def scan(self) -> None:
        """Watches all that runs; notes the exits that nobody has seen; clears what killed daemons have left."""
        for namespace in self._store.namespaces():
            engine = self._engine(namespace)
            engine.containers.sweep()
            for task in engine.tasks.all():
                if task.status != STOPPED:
                    self.watch(namespace, task.container_id)
                for exec_id in engine.execs.running(task.container_id):
                    self.watch(namespace, task.container_id, exec_id)

    def watch(self, namespace: str, id: str, exec_id: str = "") -> None:
        """From now on its end is noticed; nothing happens when it is watched already."""
        key = (namespace, id, exec_id)
        try:
            monitor = self._attach(key)
            if monitor is None:
                if not self._settle(key):
                    self._again(key)  # its monitor has just come to its end, or is about to begin
                return
        except (MasuError, OSError) as error:
            # It ends all the same, and somebody waits for that.
            self._failed(key, error)
            self._again(key, _LATER_S)
            return
        with self._lock:
            if key in self._watched:
                monitor.close()
                return
            self._watched[key] = monitor
            self._keys[monitor.fd] = key
            self._poll.register(monitor.fd, select.EPOLLIN)

    def wait(self, namespace: str, id: str, exec_id: str, done: Done) -> None:
        """`done` is called once, from any thread: with the process that has ended, or with what is wrong. Raises
        NotFound."""
        key = (namespace, id, exec_id)
        with self._lock:
            self._waiting.setdefault(key, []).append(done)
        try:
            found = self._look(key)
        except BaseException:
            self.forget(namespace, id, exec_id, done)
            raise
        if found.status == STOPPED:
            self._tell(key, found)
        elif found.pid:
            self.watch(*key)

    def forget(self, namespace: str, id: str, exec_id: str, done: Done) -> None:
        """Nobody waits any more."""
        key = (namespace, id, exec_id)
        with self._lock:
            waiting = self._waiting.get(key, [])
            if done in waiting:
                waiting.remove(done)
            if not waiting:
                self._waiting.pop(key, None)

    def gone(self, namespace: str, process: Process) -> None:
        """It was deleted: who still waits is told how it ended."""
        self._tell((namespace, process.container_id, process.exec_id), process)

    def _attach(self, key: Key) -> Attachment | None:
        namespace, id, exec_id = key
        engine = self._engine(namespace)
        try:
            return engine.execs.attach(id, exec_id, EVENTS) if exec_id else engine.tasks.attach(id, EVENTS)
        except NotFound:
            return None

    def _look(self, key: Key) -> Process:
        namespace, id, exec_id = key
        engine = self._engine(namespace)
        return engine.execs.get(id, exec_id) if exec_id else engine.tasks.get(id)

    def _settle(self, key: Key) -> bool:
        """Tells the waiting when it is over. False when it goes on, so that there should be a monitor. Raises what
        passes: a lack of descriptors, say."""
        try:
            found: Process | MasuError = self._look(key)
        except MasuError as error:
            if isinstance(error, ResourceExhausted | Unavailable) or error.errno in _PASSING:
                raise
            found = error
        if isinstance(found, MasuError) or found.status == STOPPED:
            self._tell(key, found)
            return True
        return not found.pid  # an exec that was added, and not started

    def _again(self, key: Key, delay_s: float = _AGAIN_S) -> None:
        with self._lock:
            self._later[key] = time.monotonic() + delay_s
        os.eventfd_write(self._wake, 1)

    def _tell(self, key: Key, found: Process | MasuError) -> None:
        with self._lock:
            waiting = self._waiting.pop(key, [])
        for done in waiting:
            done(found)

    def _run(self) -> None:
        try:
            self.scan()
        except Exception as error:
            log.error("looking for what runs: %s", error, exc_info=None if isinstance(error, MasuError) else error)
        while not self._stopped:
            for fd, _ in self._poll.poll(self._until_next_s()):
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    self._try(self._keys.get(fd), self._hear, fd)
            for key in self._due():
                self._try(key, self.watch, *key)

    def _failed(self, key: Iterable[str], error: Exception) -> None:
        known = isinstance(error, MasuError | OSError)
        log.warning("the monitor of %s: %s", "/".join(filter(None, key)), error, exc_info=None if known else error)

    def _until_next_s(self) -> float | None:
        with self._lock:
            return max(min(self._later.values()) - time.monotonic(), 0) if self._later else None

    def _due(self) -> list[Key]:
        now = time.monotonic()
        with self._lock:
            due = [key for key, when in self._later.items() if when <= now]
            for key in due:
                del self._later[key]
        return due

    def _try(self, key: Key | None, do: Callable[..., None], *values: object) -> None:
        """This thread goes on whatever happens, and comes back to it."""
        try:
            do(*values)
        except Exception as error:
            self._failed(key or (), error)
            if key is not None:
                self._again(key, _LATER_S)

    def _hear(self, fd: int) -> None:
        with self._lock:
            key = self._keys.get(fd)
            monitor = self._watched.get(key) if key is not None else None
        if key is None or monitor is None:
            return
        kind, _ = monitor.receive()
        if kind == "m":
            self._engine(key[0]).tasks.note_oom(key[1])
        if kind not in ("x", ""):
            return
        with self._lock:
            self._poll.unregister(fd)
            del self._keys[fd], self._watched[key]
        # Closed before the look: a monitor waits for who is attached to it.
        monitor.close()
        if not self._settle(key):
            self._again(key)
