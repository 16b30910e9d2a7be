"""The store: blobs by digest, and what is known of images, containers, snapshots and leases, all in namespaces.

    store = open_store("/var/lib/masu")
    ns = store.namespace("default")
    ns.images, ns.content, ns.containers, ns.leases, ns.events, ns.snapshots("overlayfs")

    /var/lib/masu (0700)
      meta.db              metadata (db.py)
      reserve              a megabyte to be given up when a full disk would forbid removing things
      blobs/sha256/<hex>   verified blobs (content.py)
      ingest/<id>/         writes in progress, or interrupted (ingest.py)
      snapshots/<driver>/  layers (masu.snapshots)

Any number of processes and threads may use one state directory at once; there is no server and no lock held
between calls. Names and labels are containerd's. Opening touches the disk only, SQLite is opened by the first call
that needs it.
"""

from __future__ import annotations

import errno
import os

from masu.errors import AlreadyExists, FailedPrecondition, NotFound
from masu.spec import times
from masu.store import checks
from masu.store.containers import Container, Containers
from masu.store.db import Database, Transaction, from_os_error
from masu.store.events import Event, Events
from masu.store.images import Image, Images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.store.content import Content
    from masu.store.gc import GcReport
    from masu.store.ingest import Writer as Writer
    from masu.store.leases import Lease as Lease
    from masu.store.leases import Leases
    from masu.store.snapshots import SnapshotRecords

__all__ = ["Container", "Event", "Image", "NamespaceStore", "Store", "Transaction", "open_store"]


def open_store(root: str) -> Store:
    """The store in the state directory `root`, made when missing (mode 0700).

    Raises FailedPrecondition on a read-only file system or a database newer than this masu, PermissionDenied,
    ResourceExhausted on a full disk.
    """
    root = os.path.abspath(root)
    if not os.path.exists(f"{root}/meta.db"):
        _make(root)
    return Store(root)


def _make(root: str) -> None:
    try:
        os.makedirs(root, 0o700, exist_ok=True)
        # CVE-2021-41103, CVE-2024-25621: others must not walk in and run the setuid files of layers.
        if os.stat(root).st_mode & 0o077:
            os.chmod(root, 0o700)
        for name in ("blobs", "blobs/sha256", "ingest", "snapshots"):
            os.makedirs(f"{root}/{name}", 0o700, exist_ok=True)
    except NotADirectoryError:
        raise FailedPrecondition("state directory", root, errno.ENOTDIR) from None
    except FileExistsError:
        raise FailedPrecondition("state directory", root, errno.ENOTDIR) from None
    except OSError as e:
        raise from_os_error(e, root) from e


class Store:
    """One state directory."""

    __slots__ = ("db", "root")

    def __init__(self, root: str) -> None:
        self.root = root
        self.db = Database(f"{root}/meta.db")

    def namespace(self, name: str = "default") -> NamespaceStore:
        """A view of one namespace; need not have been created. Raises InvalidArgument for a bad name."""
        return NamespaceStore(self, checks.identifier("namespace", name))

    def namespaces(self) -> dict[str, dict[str, str]]:
        """Every namespace that was created or has something in it, with its labels."""
        found = {
            name: checks.load_labels(labels) for name, labels in self.db.rows("SELECT name, labels FROM namespaces")
        }
        for (name,) in self.db.rows(
            "SELECT ns FROM images UNION SELECT ns FROM content UNION SELECT ns FROM containers"
            " UNION SELECT ns FROM snapshots UNION SELECT ns FROM leases UNION SELECT ns FROM sandboxes"
        ):
            found.setdefault(name, {})
        return dict(sorted(found.items()))

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Raises AlreadyExists."""
        checks.identifier("namespace", name)
        checked = checks.labels(labels or {})
        with self.db.write() as tx:
            if not tx.attempt("INSERT INTO namespaces VALUES(?,?,?)", (name, checks.dump(checked), times.now())):
                raise AlreadyExists("namespace", name)
            Events(self.db, name).publish("/namespaces/create", {"name": name, "labels": checked})

    def update_namespace(self, name: str, labels: Mapping[str, str | None]) -> dict[str, str]:
        """Sets labels; None or "" takes one away. It is made where it is not there."""
        with self.db.write() as tx:
            merged = checks.merge_labels(self.namespaces().get(name, {}), labels)
            tx.execute(
                "INSERT INTO namespaces VALUES(?,?,?) ON CONFLICT(name) DO UPDATE SET labels=excluded.labels",
                (name, checks.dump(merged), times.now()),
            )
            Events(self.db, name).publish("/namespaces/update", {"name": name, "labels": merged})
        return merged

    def delete_namespace(self, name: str) -> None:
        """Raises NotFound, FailedPrecondition when there is still something in it."""
        with self.db.write() as tx:
            if left := self._left_in(name, tx):
                raise FailedPrecondition(f'namespace "{name}" must be empty, but it still has {", ".join(left)}')
            if name not in self.namespaces():
                raise NotFound("namespace", name)
            tx.execute("DELETE FROM leases WHERE ns=?", (name,))
            tx.execute("DELETE FROM namespaces WHERE name=?", (name,))
            Events(self.db, name).publish("/namespaces/delete", {"name": name})

    @staticmethod
    def _left_in(name: str, tx: Transaction) -> list[str]:
        """What is still in a namespace, in containerd's words."""
        kinds = {"images": "images", "blobs": "content", "containers": "containers"}
        more = {"sandboxes": "sandboxes", "mounts": "mounts"}
        drivers = tx.rows("SELECT DISTINCT driver FROM snapshots WHERE ns=? ORDER BY driver", (name,))

        def found(tables: dict[str, str]) -> list[str]:
            question = "SELECT 1 FROM {} WHERE ns=? LIMIT 1"
            return [word for word, table in tables.items() if tx.row(question.format(table), (name,)) is not None]

        return [*found(kinds), *(f'snapshots on "{driver}" snapshotter' for (driver,) in drivers), *found(more)]

    @property
    def events(self) -> Events:
        """The events of all namespaces, to be read."""
        return Events(self.db, "")

    def gc(self) -> GcReport:
        """Frees what no image, container or lease needs, and repairs what a crash left (see gc.py)."""
        from masu.store import gc  # only commands that remove something come here

        return gc.collect(self.db, self.root)

    def close(self) -> None:
        """Closes this thread's connection. Not required: a killed process is the same to the next one."""
        self.db.close()


class NamespaceStore:
    """One namespace of a store: `images`, `content`, `containers`, `leases`, `events`, `snapshots(driver)`."""

    __slots__ = ("containers", "events", "images", "name", "store")

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name
        self.events = Events(store.db, name)
        self.images = Images(store.db, self.events, name)
        self.containers = Containers(store.db, self.events, name)

    # Late, all three: most commands need one of them, and some none.

    @property
    def content(self) -> Content:
        from masu.store.content import Content, Folders

        return Content(self.store.db, Folders(self.store.root), self.name)

    @property
    def leases(self) -> Leases:
        from masu.store.leases import Leases

        return Leases(self.store.db, self.name)

    def snapshots(self, driver: str) -> SnapshotRecords:
        """The records of one snapshotter; `masu.snapshots` puts the layers themselves beside them."""
        from masu.store.snapshots import SnapshotRecords

        return SnapshotRecords(self.store.db, self.events, self.name, checks.identifier("snapshotter", driver))

    @property
    def root(self) -> str:
        return self.store.root

    def transaction(self, *, durable: bool = True, freeing: bool = False) -> Transaction:
        """`with ns.transaction():` makes several calls one commit: all of it or nothing, one fsync.

        `durable=False`: no fsync at all; a power cut may take the commit back. For throw-away containers.
        `freeing`: it removes or stops something, and may use the reserve when the disk is full.
        Other processes' writes wait meanwhile: nothing slow belongs inside.
        """
        return self.store.db.write(durable=durable, freeing=freeing)
