"""Image records: a name and the descriptor it stands for. The bytes are in the content store."""

from __future__ import annotations

from masu.errors import AlreadyExists, NotFound
from masu.spec import times
from masu.store import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.spec.image import Descriptor
    from masu.store.db import Database, Row, Transaction
    from masu.store.events import Events

_FIELDS = "name, target, labels, created_at, updated_at"


class Image:
    __slots__ = ("created_at", "labels", "name", "target", "updated_at")

    def __init__(
        self,
        name: str,
        target: Descriptor,
        labels: Mapping[str, str] | None = None,
        created_at: str = "",
        updated_at: str = "",
    ) -> None:
        self.name = name
        self.target = target
        self.labels = dict(labels or {})
        self.created_at = created_at
        self.updated_at = updated_at


class Images:
    """The images of one namespace. Publishes containerd's /images/{create,update,delete} with each change."""

    __slots__ = ("_db", "_events", "_ns")

    def __init__(self, db: Database, events: Events, ns: str) -> None:
        self._db = db
        self._events = events
        self._ns = ns

    def create(self, image: Image) -> Image:
        """Raises AlreadyExists, InvalidArgument."""
        with self._db.write() as tx:
            created = self._insert(tx, image)
            if created is None:
                raise AlreadyExists("image", image.name)
        return created

    def put(self, image: Image) -> Image:
        """Creates it, or gives an existing name this target and these labels: a pull, a tag."""
        with self._db.write() as tx:
            return self._insert(tx, image) or self.update(image)

    def update(self, image: Image) -> Image:
        """Replaces target and labels. Raises NotFound."""
        with self._db.write() as tx:
            changed = tx.execute(
                "UPDATE images SET digest=?, target=?, labels=?, updated_at=? WHERE ns=? AND name=?",
                (*_target(image), times.now(), self._ns, image.name),
            )
            if not changed:
                raise NotFound("image", image.name)
            self._events.publish("/images/update", {"name": image.name, "labels": image.labels})
        return self.get(image.name)

    def get(self, name: str) -> Image:
        """Raises NotFound."""
        row = self._db.row(f"SELECT {_FIELDS} FROM images WHERE ns=? AND name=?", (self._ns, name))
        if row is None:
            raise NotFound("image", name)
        return _image(row)

    def delete(self, name: str) -> None:
        """Forgets the name; `store.gc()` frees what nobody refers to any more. Raises NotFound."""
        with self._db.write(freeing=True) as tx:
            if not tx.execute("DELETE FROM images WHERE ns=? AND name=?", (self._ns, name)):
                raise NotFound("image", name)
            self._events.publish("/images/delete", {"name": name})

    def _insert(self, tx: Transaction, image: Image) -> Image | None:
        checks.key("image name", image.name)
        now = times.now()
        values = (self._ns, image.name, *_target(image), now, now)
        if not tx.attempt("INSERT INTO images VALUES(?,?,?,?,?,?,?)", values):
            return None
        self._events.publish("/images/create", {"name": image.name, "labels": image.labels})
        return self.get(image.name)

    def list(self, *, target: str = "") -> list[Image]:
        """All, in the order of names; with `target` only those that stand for this digest."""
        if target:
            return [
                _image(row)
                for row in self._db.rows(
                    f"SELECT {_FIELDS} FROM images WHERE ns=? AND digest=? ORDER BY name", (self._ns, target)
                )
            ]
        return [
            _image(row) for row in self._db.rows(f"SELECT {_FIELDS} FROM images WHERE ns=? ORDER BY name", (self._ns,))
        ]


def _target(image: Image) -> tuple[str, str, str]:
    checks.digest(image.target.digest)
    return image.target.digest, checks.dump(image.target.to_json()), checks.dump(checks.labels(image.labels))


def _image(row: Row) -> Image:
    # Late: a listing of containers has no use for the whole image specification.
    from masu.spec.image import parse_descriptor

    name, target, labels, created_at, updated_at = row
    descriptor = parse_descriptor(checks.load_object(target), f"image {name}")
    return Image(name, descriptor, checks.load_labels(labels), created_at, updated_at)
