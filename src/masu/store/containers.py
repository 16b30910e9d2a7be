"""Container records: what a container is made from. Whether it runs is asked of its pidfd and cgroup, not of a row."""

from __future__ import annotations

from masu.errors import AlreadyExists, InvalidArgument, NotFound
from masu.spec import times
from masu.store import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.store.db import Database, Row
    from masu.store.events import Events

_FIELDS = "id, name, image, runtime, snapshotter, snapshot_key, labels, extensions, created_at, updated_at"
# As many ids as an ambiguous prefix lists.
_SHOWN = 4


class Container:
    """`spec` is the config.json text, `extensions` anything JSON can hold. In what `list()` gives `spec` is None."""

    __slots__ = (
        "created_at",
        "extensions",
        "id",
        "image",
        "labels",
        "name",
        "runtime",
        "snapshot_key",
        "snapshotter",
        "spec",
        "updated_at",
    )

    def __init__(
        self,
        id: str,
        *,
        name: str = "",
        image: str = "",
        runtime: str = "",
        snapshotter: str = "",
        snapshot_key: str = "",
        labels: Mapping[str, str] | None = None,
        spec: str | None = "",
        extensions: Mapping[str, object] | None = None,
        created_at: str = "",
        updated_at: str = "",
    ) -> None:
        self.id = id
        self.name = name
        self.image = image
        self.runtime = runtime
        self.snapshotter = snapshotter
        self.snapshot_key = snapshot_key
        self.labels = dict(labels or {})
        self.spec = spec
        self.extensions = dict(extensions or {})
        self.created_at = created_at
        self.updated_at = updated_at


class Containers:
    """The containers of one namespace. Publishes containerd's /containers/{create,update,delete}."""

    __slots__ = ("_db", "_events", "_ns")

    def __init__(self, db: Database, events: Events, ns: str) -> None:
        self._db = db
        self._events = events
        self._ns = ns

    def create(self, container: Container, *, runtime_options: Mapping[str, object] | None = None) -> Container:
        """`runtime_options` are for the event alone. Raises AlreadyExists (the `what` says whether id or name),
        InvalidArgument."""
        checks.identifier("container id", container.id)
        if container.name:
            checks.identifier("container name", container.name)
        now = times.now()
        with self._db.write() as tx:
            done = tx.attempt(
                "INSERT INTO containers VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                (self._ns, container.id, *_values(container), now, now, container.spec or ""),
            )
            if not done:
                self._refuse_taken(container)
            runtime: dict[str, object] = {"name": container.runtime}
            if runtime_options is not None:
                runtime["options"] = runtime_options
            self._events.publish(
                "/containers/create", {"id": container.id, "image": container.image, "runtime": runtime}
            )
        return self.get(container.id)

    def update(self, container: Container, *, publish: bool = True) -> Container:
        """Replaces everything but id and created_at; `spec` None leaves the stored one.

        `publish` False: a note of our own in the record (a task that runs), which is no event to others.
        Read, change and update belong into one `with namespace.transaction():`, else another process's change
        between them is lost. Raises NotFound, AlreadyExists when the new name is taken.
        """
        if container.name:
            checks.identifier("container name", container.name)
        with self._db.write() as tx:
            if tx.row("SELECT 1 FROM containers WHERE ns=? AND id=?", (self._ns, container.id)) is None:
                raise NotFound("container", container.id)
            done = tx.attempt(
                "UPDATE containers SET name=?, image=?, runtime=?, snapshotter=?, snapshot_key=?, labels=?,"
                " extensions=?, updated_at=?, spec=coalesce(?, spec) WHERE ns=? AND id=?",
                (*_values(container), times.now(), container.spec, self._ns, container.id),
            )
            if not done:
                self._refuse_taken(container)
            if publish:
                self._events.publish(
                    "/containers/update",
                    {
                        "id": container.id,
                        "image": container.image,
                        "labels": container.labels,
                        "snapshotKey": container.snapshot_key,
                    },
                )
        return self.get(container.id)

    def get(self, id: str) -> Container:
        """By the whole id. Raises NotFound."""
        row = self._db.row(f"SELECT {_FIELDS}, spec FROM containers WHERE ns=? AND id=?", (self._ns, id))
        if row is None:
            raise NotFound("container", id)
        return _container(row)

    def find(self, text: str) -> Container:
        """By id, by name, or by the beginning of an id, in this order.

        Raises NotFound, InvalidArgument when several ids begin so.
        """
        row = self._db.row(
            f"SELECT {_FIELDS}, spec FROM containers WHERE ns=?1 AND (id=?2 OR (name<>'' AND name=?2))"
            " ORDER BY id<>?2 LIMIT 1",
            (self._ns, text),
        )
        if row is not None:
            return _container(row)
        if text and text.isascii() and text.isprintable():
            # A range on the primary key, not LIKE: no wildcards from outside, and no scan.
            rows = self._db.rows(
                f"SELECT {_FIELDS}, spec FROM containers WHERE ns=? AND id>=? AND id<? ORDER BY id LIMIT {_SHOWN}",
                (self._ns, text, text + "\x7f"),
            )
            if len(rows) > 1:
                seen = ", ".join(r[0][: len(text) + 12] for r in rows[: _SHOWN - 1])
                more = ", …" if len(rows) == _SHOWN else ""
                raise InvalidArgument("container id prefix", text, detail=f"matches {seen}{more}")
            if rows:
                return _container(rows[0])
        raise NotFound("container", text)

    def delete(self, id: str) -> None:
        """Raises NotFound. The snapshot is the caller's to remove, or the garbage collector's."""
        with self._db.write(freeing=True) as tx:
            if not tx.execute("DELETE FROM containers WHERE ns=? AND id=?", (self._ns, id)):
                raise NotFound("container", id)
            self._events.publish("/containers/delete", {"id": id})

    def _refuse_taken(self, container: Container) -> None:
        row = self._db.row(
            "SELECT id FROM containers WHERE ns=? AND name=? AND name<>'' AND id<>?",
            (self._ns, container.name, container.id),
        )
        if row is not None:
            raise AlreadyExists("container name", container.name, detail=f"container {row[0][:12]} has it")
        raise AlreadyExists("container", container.id)

    def list(self, *, with_spec: bool = False) -> list[Container]:
        """All, oldest first. `with_spec` reads the config.json texts too (some 10 KB each)."""
        spec = "spec" if with_spec else "NULL"
        return [
            _container(row)
            for row in self._db.rows(
                f"SELECT {_FIELDS}, {spec} FROM containers WHERE ns=? ORDER BY created_at, id", (self._ns,)
            )
        ]


def _values(container: Container) -> tuple[str, str, str, str, str, str, str]:
    if container.snapshot_key:
        checks.key("snapshot key", container.snapshot_key, spaces=True)
    if container.image:
        checks.key("image name", container.image)
    return (
        container.name,
        container.image,
        container.runtime,
        container.snapshotter,
        container.snapshot_key,
        checks.dump(checks.labels(container.labels)),
        checks.dump(container.extensions),
    )


def _container(row: Row) -> Container:
    id, name, image, runtime, snapshotter, snapshot_key, labels, extensions, created_at, updated_at, spec = row
    return Container(
        id,
        name=name,
        image=image,
        runtime=runtime,
        snapshotter=snapshotter,
        snapshot_key=snapshot_key,
        labels=checks.load_labels(labels),
        spec=spec,
        extensions=checks.load_object(extensions),
        created_at=created_at,
        updated_at=updated_at,
    )
