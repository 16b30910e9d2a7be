"""Garbage collection: mark from the roots, sweep the rest. The labels are containerd's (docs/garbage-collection.md).

    roots       leases that are not over (their resources; with containerd.io/gc.flat only these and what they cannot
                do without, not what their labels name) · images (target and labels) · containers (snapshot and
                labels) · sandboxes (labels) · writes that somebody was at within a day ·
                anything with the label containerd.io/gc.root
    references  containerd.io/gc.ref.content[.x]            -> a digest
                containerd.io/gc.ref.image[.x]              -> an image's name
                containerd.io/gc.ref.snapshot.<driver>[/x]  -> a snapshot name
                containerd.io/gc.ref.mount[.x]              -> a mount's name (activations.py)
                containerd.io/gc.bref.{content,snapshot.<driver>,image,container}[.x]: the other way round, kept as
                long as that is kept; on mounts, too
                a snapshot -> its parent; an unfinished write -> the digest it expects
    ended by    containerd.io/gc.expire on leases and images; an image that something else keeps stays

    1  one write transaction: mark; delete rows            nobody can refer to what is being deleted meanwhile
    2  for every file without a row: transaction { look again; unlink }; folders are first renamed out of the way

A collector killed anywhere between leaves rows that are right and files that no row names; step 2 of the next one
finds them. Rows whose file is gone are dropped too: the blob counts as not there, and is pulled again.
"""

from __future__ import annotations

import os
import time

from masu.errors import MasuError
from masu.spec import times
from masu.store import checks, content, events, ingest, leases
from masu.store.db import from_os_error, names_in
from masu.store.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.store.content import Folders
    from masu.store.db import Database, Transaction

    Node = tuple[str, str, str]  # kind ("content", "snapshots/<driver>", "ingests", "image", "container", …), ns, name

ROOT = "containerd.io/gc.root"
REF = "containerd.io/gc.ref."
BREF = "containerd.io/gc.bref."

# An unfinished write that no lease holds and nobody touches: containerd waits a day, too.
INGEST_IDLE_S = 24 * 3600


class GcReport:
    """What one collection did. `freed_bytes` counts blobs and partial downloads, not snapshot folders;
    `repaired` tells of files without rows and rows without files, which only a crash leaves."""

    __slots__ = (
        "content",
        "errors",
        "freed_bytes",
        "images",
        "ingests",
        "leases",
        "repaired",
        "snapshots",
    )

    def __init__(self) -> None:
        self.content: list[tuple[str, str]] = []
        self.snapshots: list[tuple[str, str, str]] = []
        self.images: list[tuple[str, str]] = []
        self.leases: list[tuple[str, str]] = []
        self.ingests = 0
        self.freed_bytes = 0
        self.repaired: list[str] = []
        self.errors: list[MasuError] = []


def collect(db: Database, root: str, *, now_ns: int | None = None) -> GcReport:
    """One whole collection; safe beside every other use of the store, and beside itself."""
    report, folders = GcReport(), content.Folders(root)
    now = time.time_ns() if now_ns is None else now_ns
    with db.write(freeing=True) as tx:
        _drop_rows_without_files(tx, folders, root, report)
        marker = _Marker(tx, folders, now, report)
        marked = marker.run()
        _sweep_images(tx, [node for node in marker.expired if node not in marked], report)
        _sweep_rows(tx, marked, report)
        newest = tx.row("SELECT max(seq) FROM events")
        tx.execute("DELETE FROM events WHERE seq<=?", (((newest and newest[0]) or 0) - events.KEPT,))
    swept = {digest for _, digest in report.content}
    for path in _files(folders.blobs):
        digest = f"sha256:{path}"
        try:
            checks.digest(digest)
            size = content.remove_blob_file(db, folders, digest)
        except MasuError as e:
            if e.kind != "invalid_argument":
                report.errors.append(e)
            continue
        if size:
            report.freed_bytes += size
            if digest not in swept:
                report.repaired.append(f"file of {digest} without a row")
    _sweep_ingests(db, folders, marked, now, report)
    _sweep_snapshot_folders(db, root, report)
    return report


class _Marker:
    """Builds the graph and walks it."""

    def __init__(self, tx: Transaction, folders: Folders, now_ns: int, report: GcReport) -> None:
        self.tx = tx
        self.folders = folders
        self.now_ns = now_ns
        self.report = report
        self.edges: dict[Node, list[Node]] = {}
        self.roots: list[Node] = []
        self.flat: list[Node] = []
        self.expired: list[Node] = []

    def run(self) -> set[Node]:
        self._images()
        self._containers()
        self._sandboxes()
        self._mounts()
        self._content()
        self._snapshots()
        self._ingests()
        self._leases()
        seen = set(self.roots)
        todo = list(seen)
        while todo:
            for target in self.edges.get(todo.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        seen.update(self.flat)
        return seen

    def _add_labels(self, node: Node, text: str) -> dict[str, str]:
        if text == "{}":
            return {}
        labels = checks.load_labels(text)
        for name, value in labels.items():
            if not name.startswith("containerd.io/gc."):
                continue
            if name.startswith(REF):
                if kind := _kind(name[len(REF) :], ("content", "image", "mount")):
                    self._edge(node, (kind, node[1], value))
            elif name.startswith(BREF):
                if kind := _kind(name[len(BREF) :], ("content", "image", "container")):
                    self._edge((kind, node[1], value), node)
            elif name == ROOT and (node[0] == "content" or node[0].startswith("snapshots/")):
                self.roots.append(node)
        return labels

    def _edge(self, source: Node, target: Node) -> None:
        self.edges.setdefault(source, []).append(target)

    def _images(self) -> None:
        for ns, name, digest, text in self.tx.rows("SELECT ns, name, digest, labels FROM images"):
            node = ("image", ns, name)
            labels = self._add_labels(node, text)
            self._edge(node, ("content", ns, digest))
            # One whose time is up is kept for as long as something else keeps it (gc.bref).
            if leases.EXPIRE in labels and leases.is_over({leases.EXPIRE: labels[leases.EXPIRE]}, self.now_ns):
                self.expired.append(node)
            else:
                self.roots.append(node)

    def _containers(self) -> None:
        for ns, id, driver, key, text in self.tx.rows(
            "SELECT ns, id, snapshotter, snapshot_key, labels FROM containers"
        ):
            node = ("container", ns, id)
            self.roots.append(node)
            self._add_labels(node, text)
            if driver and key:
                self._edge(node, (f"snapshots/{driver}", ns, key))

    def _sandboxes(self) -> None:
        for ns, id, text in self.tx.rows("SELECT ns, id, labels FROM sandboxes"):
            node = ("sandbox", ns, id)
            self.roots.append(node)
            self._add_labels(node, text)

    def _mounts(self) -> None:
        for ns, name, text, record in self.tx.rows("SELECT ns, name, labels, record FROM mounts"):
            node = ("mount", ns, name)
            self._add_labels(node, text)
            if record == "{}":
                self.roots.append(node)  # is just being made

    def _content(self) -> None:
        for ns, digest, text in self.tx.rows("SELECT ns, digest, labels FROM content"):
            self._add_labels(("content", ns, digest), text)

    def _snapshots(self) -> None:
        for ns, driver, key, parent, text in self.tx.rows(
            "SELECT s.ns, s.driver, s.key, p.key, s.labels FROM snapshots s LEFT JOIN snapshots p ON p.id=s.parent"
        ):
            node = (f"snapshots/{driver}", ns, key)
            self._add_labels(node, text)
            if parent is not None:
                self._edge(node, (f"snapshots/{driver}", ns, parent))

    def _ingests(self) -> None:
        for name in _files(self.folders.ingest):
            found = ingest.read_status(f"{self.folders.ingest}/{name}")
            if found is None:
                continue
            node = ("ingests", found[0], found[1].ref)
            if found[1].expected:
                self._edge(node, ("content", found[0], found[1].expected))
            if times.parse(found[1].updated_at) > self.now_ns - INGEST_IDLE_S * times.SECOND:
                self.roots.append(node)

    def _leases(self) -> None:
        for ns, id, text in self.tx.rows("SELECT ns, id, labels FROM leases"):
            node = ("lease", ns, id)
            labels = self._add_labels(node, text)
            if leases.is_over(labels, self.now_ns):
                self.tx.execute("DELETE FROM leases WHERE ns=? AND id=?", (ns, id))
                self.report.leases.append((ns, id))
                continue
            flat = leases.FLAT in labels
            if not flat:
                self.roots.append(node)
            for (name,) in self.tx.rows("SELECT name FROM mounts WHERE ns=? AND lease=?", (ns, id)):
                self.roots.append(("mount", ns, name))
            for kind, name in self.tx.rows("SELECT type, id FROM lease_resources WHERE ns=? AND lease=?", (ns, id)):
                self._held(("image" if kind == "images" else kind, ns, name), flat)

    def _held(self, node: Node, flat: bool) -> None:
        # By any lease an unfinished write is held with what it is to become.
        if not flat or node[0] == "ingests":
            self.roots.append(node)
            return
        self.flat.append(node)
        if node[0] == "image":
            row = self.tx.row("SELECT digest FROM images WHERE ns=? AND name=?", node[1:])
            if row is not None:
                self.flat.append(("content", node[1], row[0]))


def _kind(words: str, kinds: tuple[str, ...]) -> str:
    # Of "content", "content.x", "content/x", "snapshot.driver", "snapshot.driver/x": the node's; "" of others.
    if words.startswith("snapshot."):
        return f"snapshots/{words[9:].partition('/')[0]}"
    for kind in kinds:
        if words == kind or words.startswith((kind + ".", kind + "/")):
            return kind
    return ""


def _sweep_images(tx: Transaction, images: list[Node], report: GcReport) -> None:
    for _, ns, name in images:
        tx.execute("DELETE FROM images WHERE ns=? AND name=?", (ns, name))
        events.Events(tx.database, ns).publish("/images/delete", {"name": name})
        report.images.append((ns, name))


def _sweep_rows(tx: Transaction, marked: set[Node], report: GcReport) -> None:
    for ns, digest in tx.rows("SELECT ns, digest FROM content"):
        if ("content", ns, digest) not in marked:
            tx.execute("DELETE FROM content WHERE ns=? AND digest=?", (ns, digest))
            report.content.append((ns, digest))
    # What is mounted there is taken down by who has mounted it.
    for ns, name in tx.rows("SELECT ns, name FROM mounts"):
        if ("mount", ns, name) not in marked:
            tx.execute("DELETE FROM mounts WHERE ns=? AND name=?", (ns, name))
    # Children have higher ids than their parents; a marked child has marked its parents, except under a flat lease,
    # which holds a snapshot and not what it is built on: the disk needs the parents all the same.
    needed: set[int] = set()
    for id, ns, driver, key, parent in tx.rows("SELECT id, ns, driver, key, parent FROM snapshots ORDER BY id DESC"):
        if id in needed or (f"snapshots/{driver}", ns, key) in marked:
            if parent is not None:
                needed.add(parent)
            continue
        tx.execute("DELETE FROM snapshots WHERE id=?", (id,))
        events.Events(tx.database, ns).publish("/snapshot/remove", {"key": key, "snapshotter": driver})
        report.snapshots.append((ns, driver, key))


def _drop_rows_without_files(tx: Transaction, folders: Folders, root: str, report: GcReport) -> None:
    have = set(_files(folders.blobs))
    for ns, digest in tx.rows("SELECT ns, digest FROM content"):
        if checks.digest(digest) not in have:
            tx.execute("DELETE FROM content WHERE ns=? AND digest=?", (ns, digest))
            report.repaired.append(f"row of {digest} in {ns} without a file")
    drivers = {driver: {int(n) for n in _files(f"{root}/snapshots/{driver}") if n.isdecimal()} for driver, in tx.rows(
        "SELECT DISTINCT driver FROM snapshots"
    )}  # fmt: skip
    broken: set[int] = set()
    for id, ns, driver, key, parent in tx.rows("SELECT id, ns, driver, key, parent FROM snapshots ORDER BY id"):
        if id not in drivers[driver] or parent in broken:
            broken.add(id)
            report.repaired.append(f"snapshot {key} of {driver} in {ns} without a folder")
    for id in sorted(broken, reverse=True):
        tx.execute("DELETE FROM snapshots WHERE id=?", (id,))


def _sweep_ingests(db: Database, folders: Folders, marked: set[Node], now_ns: int, report: GcReport) -> None:
    for name in _files(folders.ingest):
        folder = f"{folders.ingest}/{name}"
        found = ingest.read_status(folder)
        if found is not None and ("ingests", found[0], found[1].ref) in marked:
            continue
        size = found[1].offset if found is not None else 0
        if ingest.remove_ingest(folder, idle_before_ns=now_ns - INGEST_IDLE_S * times.SECOND):
            report.ingests += 1
            report.freed_bytes += size
            if found is not None:
                with db.write() as tx:
                    tx.execute(
                        "DELETE FROM lease_resources WHERE ns=? AND type='ingests' AND id=?", (found[0], found[1].ref)
                    )


def _sweep_snapshot_folders(db: Database, root: str, report: GcReport) -> None:
    swept = bool(report.snapshots)
    for driver in _files(f"{root}/snapshots"):
        base = f"{root}/snapshots/{driver}"
        if driver.startswith("probe-"):
            _remove_abandoned(base, report)
            continue
        for name in _files(base):
            path = f"{base}/{name}"
            if name.isdecimal():
                # Renamed inside the transaction: a number that was rolled back is given out again.
                with db.write() as tx:
                    if tx.row("SELECT 1 FROM snapshots WHERE id=? AND driver=?", (int(name), driver)) is not None:
                        continue
                    path = f"{base}/rm-{name}-{os.urandom(4).hex()}"
                    try:
                        os.rename(f"{base}/{name}", path)
                    except FileNotFoundError:
                        continue
                if not swept:
                    report.repaired.append(f"folder {base}/{name} without a snapshot")
            elif name.startswith("new-"):
                _remove_abandoned(path, report)
                continue
            elif not name.startswith("rm-"):
                continue
            try:
                remove_tree(path)
            except MasuError as e:
                report.errors.append(e)


def _remove_abandoned(path: str, report: GcReport) -> None:
    """Removes a folder that is being filled, unless somebody holds its lock: then it is not abandoned."""
    import fcntl

    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        # Who made it and has not locked it yet will look whether it is still there (trees.make_locked).
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        report.repaired.append(f"folder {path} that nobody was filling")
        remove_tree(path)
    except BlockingIOError:
        pass
    except MasuError as e:
        report.errors.append(e)
    finally:
        os.close(lock)


def _files(folder: str) -> list[str]:
    try:
        return sorted(names_in(folder))
    except OSError as error:
        raise from_os_error(error, folder) from error
