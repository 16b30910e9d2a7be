"""Blobs by digest.

    blobs/sha256/<hex>       whole and verified; one file however many namespaces have a row for it
    ingest/<id>/ref          who writes what: {"namespace", "ref", "expected", "total", "started_at"}
    ingest/<id>/data         what has arrived so far; its lock belongs to the writer

    writer(ref) ── lock data ── write … write ── commit: size and digest compared, fsync
                                                    BEGIN IMMEDIATE
                                                      rename data -> blobs/sha256/<hex>, fsync the directory
                                                      row (namespace, digest), lease
                                                    COMMIT
                                                    ingest/<id> removed

`<id>` is made from namespace and ref, so a download that was killed is found again by whoever asks for the same
ref: the bytes that are there are hashed again and the writer goes on at `offset`. They may have been torn by a
power cut; the digest at commit tells, and `truncate(0)` starts over.
"""

from __future__ import annotations

import os

from masu.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, Unavailable
from masu.spec import times
from masu.store import checks
from masu.store.db import from_os_error
from masu.store.events import Events
from masu.store.ingest import (
    Status,
    Writer,
    lock_ingest,
    read_ref,
    read_status,
    remove_folder,
    remove_ingest,
    write_ref,
)
from masu.store.trees import fsync_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from masu.store.db import Database, Transaction


class Info:
    """What is known of one blob in one namespace."""

    __slots__ = ("created_at", "digest", "labels", "size", "updated_at")

    def __init__(self, digest: str, size: int, labels: dict[str, str], created_at: str, updated_at: str) -> None:
        self.digest = digest
        self.size = size
        self.labels = labels
        self.created_at = created_at
        self.updated_at = updated_at


class Folders:
    """Where the files are; shared by all namespaces."""

    __slots__ = ("blobs", "ingest")

    def __init__(self, root: str) -> None:
        self.blobs = f"{root}/blobs/sha256"
        self.ingest = f"{root}/ingest"

    def blob(self, digest: str) -> str:
        return f"{self.blobs}/{checks.digest(digest)}"

    def ingest_of(self, ns: str, ref: str) -> str:
        # NUL cannot be in either, so no two pairs meet. hashlib late: only pulls and imports come here.
        import hashlib

        id = hashlib.sha256(b"\0".join((ns.encode(), ref.encode()))).hexdigest()[:32]
        return f"{self.ingest}/{id}"


class Content:
    """The blobs of one namespace. Publishes containerd's /content/{create,delete}."""

    __slots__ = ("_db", "_folders", "_ns")

    def __init__(self, db: Database, folders: Folders, ns: str) -> None:
        self._db = db
        self._folders = folders
        self._ns = ns

    def info(self, digest: str) -> Info:
        """Raises NotFound, InvalidArgument for what is no digest."""
        checks.digest(digest)
        row = self._db.row(
            "SELECT digest, size, labels, created_at, updated_at FROM content WHERE ns=? AND digest=?",
            (self._ns, digest),
        )
        if row is None:
            raise NotFound("content", digest)
        return _info(row)

    def open(self, digest: str) -> int:
        """A read-only fd, to be closed by the caller; it stays good when the blob is deleted meanwhile.

        Raises NotFound, DataLoss when the file is gone or has another size than was verified.
        """
        info = self.info(digest)
        path = self._folders.blob(digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise DataLoss("content", digest, detail="the file is missing", hint="pull the image again") from None
        except OSError as e:
            raise from_os_error(e, path) from e
        size = os.fstat(fd).st_size
        if size != info.size:
            os.close(fd)
            raise DataLoss("content", digest, detail=f"the file has {size} bytes, not {info.size}")
        return fd

    def read(self, digest: str, limit: int) -> bytes:
        """The whole blob. Raises InvalidArgument when it is longer than `limit` bytes, DataLoss when its digest is
        not the one it is filed under: what is small enough for this is parsed, so it is worth the check."""
        import hashlib

        fd = self.open(digest)
        try:
            size = os.fstat(fd).st_size
            if size > limit:
                raise InvalidArgument("content", digest, detail=f"{size} bytes, allowed are {limit}")
            data = b""
            while len(data) < size:
                part = os.read(fd, size - len(data))
                if not part:
                    break
                data += part
        finally:
            os.close(fd)
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise DataLoss("content", digest, detail="the file was changed", hint="remove the image and pull it again")
        return data

    def walk(self) -> Iterator[Info]:
        """Every blob, in the order of digests; what is added meanwhile may be missed."""
        last = ""
        while True:
            rows = self._db.rows(
                "SELECT digest, size, labels, created_at, updated_at FROM content WHERE ns=? AND digest>?"
                " ORDER BY digest LIMIT 500",
                (self._ns, last),
            )
            for row in rows:
                yield _info(row)
            if len(rows) < 500:
                return
            last = rows[-1][0]

    def update(self, digest: str, labels: Mapping[str, str | None]) -> Info:
        """Sets labels; None or "" takes one away. Raises NotFound."""
        with self._db.write() as tx:
            merged = checks.merge_labels(self.info(digest).labels, labels)
            tx.execute(
                "UPDATE content SET labels=?, updated_at=? WHERE ns=? AND digest=?",
                (checks.dump(merged), times.now(), self._ns, digest),
            )
            return self.info(digest)

    def delete(self, digest: str) -> None:
        """Takes the blob out of this namespace; the file goes with the last one. Raises NotFound."""
        checks.digest(digest)
        with self._db.write(freeing=True) as tx:
            if not tx.execute("DELETE FROM content WHERE ns=? AND digest=?", (self._ns, digest)):
                raise NotFound("content", digest)
            Events(self._db, self._ns).publish("/content/delete", {"digest": digest})
            tx.after_commit(lambda: remove_blob_file(self._db, self._folders, digest))

    def writer(
        self,
        ref: str,
        *,
        total: int | None = None,
        expected: str | None = None,
        labels: Mapping[str, str] | None = None,
        lease: str | None = None,
    ) -> Writer:
        """Opens or resumes the write named `ref`; `total` bytes and digest `expected` if they are known already.

        `labels` are those of the blob to be; `lease` protects the unfinished write, then the blob. Raises
        AlreadyExists when this namespace has `expected` (also: has it from now on, since another one had it; it is in
        the lease then), Unavailable while another writer has `ref`, ResourceExhausted on a full disk.
        """
        checks.key("ingest ref", ref)
        wanted = checks.labels(labels or {})
        if total is not None and total < 0:
            raise InvalidArgument("size", total, detail="below zero")
        if expected is not None and self._adopt(expected, wanted, lease):
            raise AlreadyExists("content", expected)
        folder = self._folders.ingest_of(self._ns, ref)
        try:
            fd = lock_ingest(folder, ref)
        except OSError as e:
            raise from_os_error(e, folder) from e
        try:
            if expected is not None and self._adopt_or_wait(expected, wanted, lease):
                # Whoever had the lock before us has brought it.
                remove_folder(folder)
                raise AlreadyExists("content", expected)
            old = read_ref(folder)
            if old is not None and expected is not None and old.expected not in ("", expected):
                # The name was used for something else: what is there is of no use.
                os.ftruncate(fd, 0)
                old = None
            if old is None or (old.total, old.expected) != (total or 0, expected or ""):
                status = Status(ref, 0, total or 0, expected or "", old.started_at if old else times.now(), "", True)
                if old is not None:
                    status.total, status.expected = status.total or old.total, status.expected or old.expected
                write_ref(folder, self._ns, status)
            if lease is not None:
                with self._db.write() as tx:
                    add_to_lease(tx, self._ns, lease, "ingests", ref)
            return Writer(self._commit, fd, folder, ref, total, expected, wanted, lease)
        except OSError as e:
            os.close(fd)
            raise from_os_error(e, folder) from e
        except BaseException:
            os.close(fd)
            raise

    def _adopt(self, digest: str, labels: dict[str, str], lease: str | None) -> bool:
        # Whether the blob is in this namespace, after taking it over from another one that has it.
        checks.digest(digest)
        row = self._db.row("SELECT size FROM content WHERE digest=? LIMIT 1", (digest,))
        if row is None:
            return False
        with self._db.write() as tx:
            if tx.row("SELECT 1 FROM content WHERE ns=? AND digest=?", (self._ns, digest)) is None:
                row = tx.row("SELECT size FROM content WHERE digest=? LIMIT 1", (digest,))
                if row is None:
                    return False
                _insert(tx, self._ns, digest, row[0], labels)
            try:
                size = os.stat(self._folders.blob(digest)).st_size
            except FileNotFoundError:
                size = -1
            if size != row[0]:
                # A row whose file was lost: let it be written again.
                tx.execute("DELETE FROM content WHERE digest=?", (digest,))
                return False
            if lease is not None:
                add_to_lease(tx, self._ns, lease, "content", digest)
        return True

    def _adopt_or_wait(self, digest: str, labels: dict[str, str], lease: str | None) -> bool:
        # A commit renames the locked file within its transaction: we may have got the lock of a new one before the row
        # can be seen. Our own write transaction begins when theirs has ended.
        with self._db.write():
            return self._adopt(digest, labels, lease)

    def status(self, ref: str) -> Status:
        """The unfinished write `ref`. Raises NotFound."""
        folder = self._folders.ingest_of(self._ns, ref)
        status = read_status(folder)
        if status is None:
            raise NotFound("ingest", ref)
        return status[1]

    def statuses(self) -> list[Status]:
        """Unfinished writes of this namespace, running or left behind, in the order of refs."""
        found = []
        for name in _names(self._folders.ingest):
            status = read_status(f"{self._folders.ingest}/{name}")
            if status is not None and status[0] == self._ns:
                found.append(status[1])
        found.sort(key=lambda s: s.ref)
        return found

    def abort(self, ref: str) -> None:
        """Throws an unfinished write away. Raises NotFound, Unavailable while a writer has it."""
        folder = self._folders.ingest_of(self._ns, ref)
        if not os.path.isdir(folder):
            raise NotFound("ingest", ref)
        if not remove_ingest(folder):
            raise Unavailable("ingest", ref, detail="it is being written")
        with self._db.write() as tx:
            tx.execute("DELETE FROM lease_resources WHERE ns=? AND type='ingests' AND id=?", (self._ns, ref))

    def _commit(self, writer: Writer, digest: str, labels: dict[str, str]) -> None:
        data, blob = f"{writer.folder}/data", self._folders.blob(digest)

        def undo() -> None:
            # Not when another namespace has the same blob: its row needs the file that is there now.
            if self._db.row("SELECT 1 FROM content WHERE digest=? AND ns<>?", (digest, self._ns)) is None:
                os.rename(blob, data)

        with self._db.write() as tx:
            try:
                if tx.row("SELECT 1 FROM content WHERE ns=? AND digest=?", (self._ns, digest)) is not None:
                    # Somebody else was faster. Their file may be damaged, ours was just checked.
                    os.rename(data, blob)
                    fsync_folder(self._folders.blobs)
                    if writer.lease is not None:
                        add_to_lease(tx, self._ns, writer.lease, "content", digest)
                    already = True
                else:
                    os.rename(data, blob)
                    tx.on_rollback(undo)
                    fsync_folder(self._folders.blobs)
                    _insert(tx, self._ns, digest, writer.offset, labels)
                    if writer.lease is not None:
                        add_to_lease(tx, self._ns, writer.lease, "content", digest)
                    already = False
                tx.execute("DELETE FROM lease_resources WHERE ns=? AND type='ingests' AND id=?", (self._ns, writer.ref))
            except OSError as e:
                raise from_os_error(e, blob) from e
        try:
            os.fchmod(writer.fd, 0o400)
        except OSError:
            pass  # it only keeps a slip of the hand away
        # Not `data`: it has become the blob, and what has that name by now is the next writer's.
        remove_folder(writer.folder, ("ref.new", "ref"))
        if already:
            raise AlreadyExists("content", digest)


def _info(row: tuple[str, int, str, str, str]) -> Info:
    digest, size, labels, created_at, updated_at = row
    return Info(digest, size, checks.load_labels(labels), created_at, updated_at)


def _insert(tx: Transaction, ns: str, digest: str, size: int, labels: dict[str, str]) -> None:
    now = times.now()
    tx.execute("INSERT INTO content VALUES(?,?,?,?,?,?)", (ns, digest, size, checks.dump(labels), now, now))
    Events(tx.database, ns).publish("/content/create", {"digest": digest, "size": size})


def add_to_lease(tx: Transaction, ns: str, lease: str, kind: str, name: str) -> None:
    """Raises NotFound when the lease is gone."""
    if tx.row("SELECT 1 FROM leases WHERE ns=? AND id=?", (ns, lease)) is None:
        raise NotFound("lease", lease)
    tx.execute("INSERT OR IGNORE INTO lease_resources VALUES(?,?,?,?)", (ns, lease, kind, name))


def remove_blob_file(db: Database, folders: Folders, digest: str) -> int:
    """Unlinks the file of a digest that no namespace has; returns its size, or 0 when it stays."""
    path = folders.blob(digest)
    # The transaction keeps a writer from renaming the same blob into place between the look and the unlink.
    with db.write() as tx:
        if tx.row("SELECT 1 FROM content WHERE digest=? LIMIT 1", (digest,)) is not None:
            return 0
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return 0
        except OSError as e:
            raise from_os_error(e, path) from e
    return size


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
