"""Records of mounts that a daemon has made for a client, by the client's name for them."""

from __future__ import annotations

from masu.errors import AlreadyExists, NotFound
from masu.spec import times
from masu.store import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.store.db import Database, Row

_FIELDS = "id, name, labels, record"


class Activation:
    """`record` is what was mounted and what is left to mount, anything JSON can hold; {} until all is done."""

    __slots__ = ("id", "labels", "name", "record")

    def __init__(self, id: int, name: str, labels: dict[str, str], record: dict[str, object]) -> None:
        self.id = id
        self.name = name
        self.labels = labels
        self.record = record


class Activations:
    """Those of one namespace."""

    __slots__ = ("_db", "_ns")

    def __init__(self, db: Database, ns: str) -> None:
        self._db = db
        self._ns = ns

    def begin(self, name: str, labels: Mapping[str, str], *, lease: str = "", boot: str = "") -> int:
        """Its number. One of that name which somebody has left half-done is replaced. Raises AlreadyExists, NotFound
        when the lease is gone, InvalidArgument."""
        checks.key("mount name", name, spaces=True)
        text, now = checks.dump(checks.labels(labels)), times.now()
        with self._db.write(durable=False) as tx:
            if lease and tx.row("SELECT 1 FROM leases WHERE ns=? AND id=?", (self._ns, lease)) is None:
                raise NotFound("lease", lease)
            tx.execute("DELETE FROM mounts WHERE ns=? AND name=? AND record='{}'", (self._ns, name))
            values = (self._ns, name, text, lease, boot, "{}", now)
            if not tx.attempt(
                "INSERT INTO mounts(ns, name, labels, lease, boot, record, created_at) VALUES(?,?,?,?,?,?,?)", values
            ):
                raise AlreadyExists("mount", name)
            row = tx.row("SELECT id FROM mounts WHERE ns=? AND name=?", (self._ns, name))
            assert row is not None
            return int(row[0])

    def finish(self, id: int, record: Mapping[str, object]) -> None:
        with self._db.write(durable=False) as tx:
            tx.execute("UPDATE mounts SET record=? WHERE id=?", (checks.dump(record), id))

    def get(self, name: str) -> Activation:
        """Raises NotFound, also for one that is not finished."""
        row = self._db.row(f"SELECT {_FIELDS} FROM mounts WHERE ns=? AND name=? AND record<>'{{}}'", (self._ns, name))
        if row is None:
            raise NotFound("mount", name)
        return _activation(row)

    def set_labels(self, name: str, labels: Mapping[str, str | None]) -> Activation:
        """None or "" takes one away. Raises NotFound."""
        with self._db.write(durable=False) as tx:
            found = self.get(name)
            found.labels = checks.merge_labels(found.labels, labels)
            tx.execute("UPDATE mounts SET labels=? WHERE id=?", (checks.dump(found.labels), found.id))
        return found

    def remove(self, id: int) -> None:
        """Its mounts are to be taken away afterwards; nobody finds them by name any more."""
        with self._db.write(durable=False, freeing=True) as tx:
            tx.execute("DELETE FROM mounts WHERE id=?", (id,))

    def list(self) -> list[Activation]:
        rows = self._db.rows(f"SELECT {_FIELDS} FROM mounts WHERE ns=? AND record<>'{{}}' ORDER BY name", (self._ns,))
        return [_activation(row) for row in rows]


def numbers(db: Database) -> set[int]:
    """Those of all namespaces, unfinished ones among them."""
    return {int(id) for (id,) in db.rows("SELECT id FROM mounts")}


def forget_lost(db: Database, boot: str) -> None:
    """At the start of the only one who makes some: what was half-done, and what went with another boot."""
    with db.write(durable=False, freeing=True) as tx:
        tx.execute("DELETE FROM mounts WHERE record='{}' OR boot<>?", (boot,))


def _activation(row: Row) -> Activation:
    id, name, labels, record = row
    return Activation(int(id), name, checks.load_labels(labels), checks.load_object(record))
