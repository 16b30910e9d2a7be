"""The snapshotters' metadata: names, parents, kinds, labels. What a snapshot is on disk is the driver's business
(`masu.snapshots`); its folder is `snapshots/<driver>/<id>`.

    prepare(key, parent) -> active ──commit(name)──> committed <── parent of others
    view(key, parent)    -> view (read-only)         remove: only without children
"""

from __future__ import annotations

from masu.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from masu.spec import times
from masu.store import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.store.db import Database, Row, Transaction
    from masu.store.events import Events

ACTIVE, VIEW, COMMITTED = "active", "view", "committed"

# overlayfs takes 500 lower directories (OVL_MAX_STACK); deeper chains are somebody's mistake.
MAX_DEPTH = 500

_FIELDS = "s.id, s.key, coalesce(p.key, ''), s.kind, s.labels, s.created_at, s.updated_at, s.size, s.inodes"
_FROM = "snapshots s LEFT JOIN snapshots p ON p.id = s.parent"


class Info:
    """One snapshot. `size` in bytes and `inodes` are known once it is committed, else None."""

    __slots__ = ("created_at", "id", "inodes", "kind", "labels", "name", "parent", "size", "updated_at")

    def __init__(
        self,
        id: int,
        name: str,
        parent: str,
        kind: str,
        labels: dict[str, str],
        created_at: str,
        updated_at: str,
        size: int | None,
        inodes: int | None,
    ) -> None:
        self.id = id
        self.name = name
        self.parent = parent
        self.kind = kind
        self.labels = labels
        self.created_at = created_at
        self.updated_at = updated_at
        self.size = size
        self.inodes = inodes


class SnapshotRecords:
    """The snapshots of one namespace and driver. Publishes containerd's /snapshot/{prepare,commit,remove}."""

    __slots__ = ("_db", "_events", "_ns", "driver")

    def __init__(self, db: Database, events: Events, ns: str, driver: str) -> None:
        self._db = db
        self._events = events
        self._ns = ns
        self.driver = driver

    def transaction(self, *, freeing: bool = False) -> Transaction:
        """See `Database.write`."""
        return self._db.write(freeing=freeing)

    def create(self, kind: str, key: str, parent: str, labels: Mapping[str, str]) -> tuple[int, list[int]]:
        """Makes the row of an active snapshot or a view; returns its id and its ancestors' ids, nearest first.

        Called inside `transaction()`, so that the driver can make the folder before the row is seen. Raises
        AlreadyExists, NotFound for the parent, InvalidArgument when that is not committed.
        """
        checks.key("snapshot key", key, spaces=True)
        checked = checks.labels(labels)
        with self._db.write() as tx:
            parent_id = None
            if parent:
                found = self.get(parent)
                if found.kind != COMMITTED:
                    raise InvalidArgument("parent", parent, detail=f"is no committed snapshot, but {found.kind}")
                parent_id = found.id
            now = times.now()
            done = tx.attempt(
                "INSERT INTO snapshots(driver, ns, key, parent, kind, labels, created_at, updated_at)"
                " VALUES(?,?,?,?,?,?,?,?)",
                (self.driver, self._ns, key, parent_id, kind, checks.dump(checked), now, now),
            )
            if not done:
                raise AlreadyExists("snapshot", key)
            id = tx.last_id()
            chain = self.ancestors(id)
            if len(chain) > MAX_DEPTH:
                raise InvalidArgument("snapshot", key, detail=f"more than {MAX_DEPTH} layers")
            if kind == ACTIVE:
                self._events.publish("/snapshot/prepare", {"key": key, "parent": parent, "snapshotter": self.driver})
        return id, chain

    def commit(self, name: str, key: str, labels: Mapping[str, str], size: int, inodes: int) -> None:
        """Turns the active snapshot `key` into the committed `name`, created now; its labels are replaced.

        Raises AlreadyExists for the name, NotFound and FailedPrecondition for the key.
        """
        checks.key("snapshot name", name, spaces=True)
        checked = checks.labels(labels)
        with self._db.write() as tx:
            found = self.get(key)
            if found.kind != ACTIVE:
                raise FailedPrecondition("snapshot", key, detail=f"is {found.kind}, not active")
            now = times.now()
            done = tx.attempt(
                "UPDATE snapshots SET key=?, kind='committed', labels=?, created_at=?, updated_at=?, size=?, inodes=?"
                " WHERE id=?",
                (name, checks.dump(checked), now, now, size, inodes, found.id),
            )
            if not done:
                raise AlreadyExists("snapshot", name)
            self._events.publish("/snapshot/commit", {"key": key, "name": name, "snapshotter": self.driver})

    def remove(self, key: str) -> int:
        """Deletes the row; returns the id whose folder can go. Raises NotFound, FailedPrecondition with children."""
        with self._db.write(freeing=True) as tx:
            found = self.get(key)
            child = tx.row("SELECT key FROM snapshots WHERE parent=? LIMIT 1", (found.id,))
            if child is not None:
                raise FailedPrecondition("snapshot", key, detail=f"snapshot {child[0]} is built on it")
            tx.execute("DELETE FROM snapshots WHERE id=?", (found.id,))
            self._events.publish("/snapshot/remove", {"key": key, "snapshotter": self.driver})
        return found.id

    def get(self, key: str) -> Info:
        """Raises NotFound."""
        row = self._db.row(
            f"SELECT {_FIELDS} FROM {_FROM} WHERE s.ns=? AND s.driver=? AND s.key=?", (self._ns, self.driver, key)
        )
        if row is None:
            raise NotFound("snapshot", key)
        return _info(row)

    def update(self, key: str, labels: Mapping[str, str | None]) -> Info:
        """Sets labels; None or "" takes one away. Raises NotFound."""
        with self._db.write() as tx:
            found = self.get(key)
            tx.execute(
                "UPDATE snapshots SET labels=?, updated_at=? WHERE id=?",
                (checks.dump(checks.merge_labels(found.labels, labels)), times.now(), found.id),
            )
            return self.get(key)

    def ancestors(self, id: int) -> list[int]:
        """The ids of the parent, its parent, and so on."""
        rows = self._db.rows(
            "WITH RECURSIVE up(id, n) AS (SELECT parent, 1 FROM snapshots WHERE id=? AND parent IS NOT NULL UNION ALL"
            " SELECT s.parent, n+1 FROM up JOIN snapshots s ON s.id=up.id WHERE s.parent IS NOT NULL)"
            " SELECT id FROM up ORDER BY n",
            (id,),
        )
        return [row[0] for row in rows]

    def ids(self) -> set[int]:
        """The ids of this driver in all namespaces: every other folder is an orphan."""
        return {row[0] for row in self._db.rows("SELECT id FROM snapshots WHERE driver=?", (self.driver,))}

    def list(self) -> list[Info]:
        """All; a parent comes before its children."""
        rows = self._db.rows(
            f"SELECT {_FIELDS} FROM {_FROM} WHERE s.ns=? AND s.driver=? ORDER BY s.id", (self._ns, self.driver)
        )
        return [_info(row) for row in rows]


def _info(row: Row) -> Info:
    id, key, parent, kind, labels, created_at, updated_at, size, inodes = row
    return Info(id, key, parent, kind, checks.load_labels(labels), created_at, updated_at, size, inodes)
