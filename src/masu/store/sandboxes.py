"""Sandbox records: groups of containers. What a client gave is kept as it was given; `state` is what became of it."""

from __future__ import annotations

from masu.errors import AlreadyExists, NotFound
from masu.spec import times
from masu.store import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.store.db import Database, Row
    from masu.store.events import Events

_FIELDS = "id, labels, record, state, created_at, updated_at"


class Sandbox:
    """`record` is anything JSON can hold, the client's; `state` likewise, ours ({} until it is started)."""

    __slots__ = ("created_at", "id", "labels", "record", "state", "updated_at")

    def __init__(
        self,
        id: str,
        *,
        labels: Mapping[str, str] | None = None,
        record: Mapping[str, object] | None = None,
        state: Mapping[str, object] | None = None,
        created_at: str = "",
        updated_at: str = "",
    ) -> None:
        self.id = id
        self.labels = dict(labels or {})
        self.record = dict(record or {})
        self.state = dict(state or {})
        self.created_at = created_at
        self.updated_at = updated_at


class Sandboxes:
    """The sandboxes of one namespace. Publishes containerd's /sandboxes/{create,start,exit}."""

    __slots__ = ("_db", "_events", "_ns")

    def __init__(self, db: Database, events: Events, ns: str) -> None:
        self._db = db
        self._events = events
        self._ns = ns

    def create(self, sandbox: Sandbox) -> Sandbox:
        """Raises AlreadyExists, InvalidArgument."""
        checks.identifier("sandbox id", sandbox.id)
        now = times.now()
        with self._db.write() as tx:
            done = tx.attempt(
                "INSERT INTO sandboxes VALUES(?,?,?,?,?,?,?)", (self._ns, sandbox.id, *_values(sandbox), now, now)
            )
            if not done:
                raise AlreadyExists("sandbox", sandbox.id)
        return self.get(sandbox.id)

    def update(self, sandbox: Sandbox) -> Sandbox:
        """Replaces all but id and created_at. Raises NotFound."""
        with self._db.write() as tx:
            done = tx.execute(
                "UPDATE sandboxes SET labels=?, record=?, state=?, updated_at=? WHERE ns=? AND id=?",
                (*_values(sandbox), times.now(), self._ns, sandbox.id),
            )
            if not done:
                raise NotFound("sandbox", sandbox.id)
        return self.get(sandbox.id)

    def note(self, id: str, topic: str, state: Mapping[str, object], event: Mapping[str, object]) -> None:
        """The state has become another, and an event tells of it, in one commit. Raises NotFound."""
        with self._db.write() as tx:
            if not tx.execute("UPDATE sandboxes SET state=? WHERE ns=? AND id=?", (checks.dump(state), self._ns, id)):
                raise NotFound("sandbox", id)
            self._events.publish(topic, {"sandbox_id": id, **event})

    def get(self, id: str) -> Sandbox:
        """Raises NotFound."""
        row = self._db.row(f"SELECT {_FIELDS} FROM sandboxes WHERE ns=? AND id=?", (self._ns, id))
        if row is None:
            raise NotFound("sandbox", id)
        return _sandbox(row)

    def delete(self, id: str) -> None:
        """Raises NotFound."""
        with self._db.write(freeing=True) as tx:
            if not tx.execute("DELETE FROM sandboxes WHERE ns=? AND id=?", (self._ns, id)):
                raise NotFound("sandbox", id)

    def list(self) -> list[Sandbox]:
        """All, in the order of ids."""
        rows = self._db.rows(f"SELECT {_FIELDS} FROM sandboxes WHERE ns=? ORDER BY id", (self._ns,))
        return [_sandbox(row) for row in rows]


def _values(sandbox: Sandbox) -> tuple[str, str, str]:
    return checks.dump(checks.labels(sandbox.labels)), checks.dump(sandbox.record), checks.dump(sandbox.state)


def _sandbox(row: Row) -> Sandbox:
    id, labels, record, state, created_at, updated_at = row
    return Sandbox(
        id,
        labels=checks.load_labels(labels),
        record=checks.load_object(record),
        state=checks.load_object(state),
        created_at=created_at,
        updated_at=updated_at,
    )
