"""The event table: append only, one sequence for all namespaces, containerd's topics.

Who wants events asks `since()` the last sequence number it has seen, and misses none, however long it was away (up to
the newest `KEPT`, which the garbage collector leaves). When to ask: the times of the file `published` change right
after a commit that has events; a publisher that is killed just then leaves them as they were.
"""

from __future__ import annotations

import os

from masu.errors import InvalidArgument
from masu.spec import times
from masu.store import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.store.db import Database, Row

KEPT = 50_000


def published(db: Database) -> str:
    """The path of the file that tells of new events."""
    return f"{os.path.dirname(db.path)}/published"


class Event:
    __slots__ = ("namespace", "payload", "seq", "time", "topic")

    def __init__(self, seq: int, namespace: str, topic: str, payload: dict[str, object], time: str) -> None:
        self.seq = seq
        self.namespace = namespace
        self.topic = topic
        self.payload = payload
        self.time = time


class Events:
    """The events of one namespace; of all, for reading, when `ns` is empty."""

    __slots__ = ("_db", "_ns")

    def __init__(self, db: Database, ns: str) -> None:
        self._db = db
        self._ns = ns

    def publish(self, topic: str, payload: Mapping[str, object], *, time: str = "") -> int:
        """Appends an event, in the caller's transaction if there is one; returns its sequence number.

        `time` for what happened earlier than now (an exit that nobody saw).
        """
        if not self._ns:
            raise InvalidArgument("namespace", "", detail="an event belongs to one")
        if not topic.startswith("/") or not topic.isprintable() or len(topic) > 128:
            raise InvalidArgument("event topic", topic, detail="a path like /tasks/exit")
        with self._db.write(single=True) as tx:
            tx.execute(
                "INSERT INTO events(ns, topic, payload, time) VALUES(?,?,?,?)",
                (self._ns, topic, checks.dump(payload), time or times.now()),
            )
            tx.after_commit(self._tell)
            return tx.last_id()

    def _tell(self) -> None:
        try:
            os.utime(published(self._db))
        except OSError:
            pass  # who listens looks by itself, later

    def since(self, seq: int, limit: int = 1000, *, topic: str = "") -> list[Event]:
        """Up to `limit` events after number `seq`, oldest first; with `topic` those whose topic begins so."""
        where, values = ["seq>?"], [seq]  # type: tuple[list[str], list[str | int | bytes | None]]
        if self._ns:
            where.append("ns=?")
            values.append(self._ns)
        if topic:
            where.append("substr(topic, 1, ?)=?")
            values += [len(topic), topic]
        values.append(limit)
        return [
            _event(row)
            for row in self._db.rows(
                f"SELECT seq, ns, topic, payload, time FROM events WHERE {' AND '.join(where)} ORDER BY seq LIMIT ?",
                values,
            )
        ]

    def last(self) -> int:
        """The number of the newest event of any namespace, 0 before the first: where to start from now on."""
        row = self._db.row("SELECT max(seq) FROM events")
        return (row and row[0]) or 0


def _event(row: Row) -> Event:
    seq, ns, topic, payload, time = row
    return Event(seq, ns, topic, checks.load_object(payload), time)
