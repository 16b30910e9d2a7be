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

import errno
import os

from masu.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from masu.store import checks, times
from masu.store.db import from_os_error
from masu.store.trees import fsync_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _hashlib import HASH
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from masu.store.db import Database, Transaction

_CHUNK = 1 << 20
# struct flock of fcntl(2): l_type, l_whence, l_start, l_len, l_pid, padded as the compiler would.
_FLOCK = "@hhqqi0q"


class Info:
    """What is known of one blob in one namespace."""

    __slots__ = ("created_at", "digest", "labels", "size", "updated_at")

    def __init__(self, digest: str, size: int, labels: dict[str, str], created_at: str, updated_at: str) -> None:
        self.digest = digest
        self.size = size
        self.labels = labels
        self.created_at = created_at
        self.updated_at = updated_at


class Status:
    """One unfinished write. `total` is 0 when nobody said how much will come; `active` while a writer holds it."""

    __slots__ = ("active", "expected", "offset", "ref", "started_at", "total", "updated_at")

    def __init__(
        self, ref: str, offset: int, total: int, expected: str, started_at: str, updated_at: str, active: bool
    ) -> None:
        self.ref = ref
        self.offset = offset
        self.total = total
        self.expected = expected
        self.started_at = started_at
        self.updated_at = updated_at
        self.active = active


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
    """The blobs of one namespace."""

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
            fd = _lock_ingest(folder, ref)
        except OSError as e:
            raise from_os_error(e, folder) from e
        try:
            if expected is not None and self._adopt_or_wait(expected, wanted, lease):
                # Whoever had the lock before us has brought it.
                _remove_folder(folder)
                raise AlreadyExists("content", expected)
            old = _read_ref(folder)
            if old is not None and expected is not None and old.expected not in ("", expected):
                # The name was used for something else: what is there is of no use.
                os.ftruncate(fd, 0)
                old = None
            if old is None or (old.total, old.expected) != (total or 0, expected or ""):
                status = Status(ref, 0, total or 0, expected or "", old.started_at if old else times.now(), "", True)
                if old is not None:
                    status.total, status.expected = status.total or old.total, status.expected or old.expected
                _write_ref(folder, self._ns, status)
            if lease is not None:
                with self._db.write() as tx:
                    add_to_lease(tx, self._ns, lease, "ingests", ref)
            return Writer(self, fd, folder, ref, total, expected, wanted, lease)
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
        data, blob = f"{writer._folder}/data", self._folders.blob(digest)

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
                    if writer._lease is not None:
                        add_to_lease(tx, self._ns, writer._lease, "content", digest)
                    already = True
                else:
                    os.rename(data, blob)
                    tx.on_rollback(undo)
                    fsync_folder(self._folders.blobs)
                    _insert(tx, self._ns, digest, writer.offset, labels)
                    if writer._lease is not None:
                        add_to_lease(tx, self._ns, writer._lease, "content", digest)
                    already = False
                tx.execute("DELETE FROM lease_resources WHERE ns=? AND type='ingests' AND id=?", (self._ns, writer.ref))
            except OSError as e:
                raise from_os_error(e, blob) from e
        try:
            os.fchmod(writer._fd, 0o400)
        except OSError:
            pass  # it only keeps a slip of the hand away
        # Not `data`: it has become the blob, and what has that name by now is the next writer's.
        _remove_folder(writer._folder, ("ref.new", "ref"))
        if already:
            raise AlreadyExists("content", digest)


class Writer:
    """One write into the store, held by a file lock: ends with the process, however that ends.

    `with` closes it; what was not committed stays for the next `writer(ref)`. Not for two threads at once.
    """

    __slots__ = ("_content", "_expected", "_fd", "_folder", "_hash", "_labels", "_lease", "_total", "offset", "ref")

    def __init__(
        self,
        content: Content,
        fd: int,
        folder: str,
        ref: str,
        total: int | None,
        expected: str | None,
        labels: dict[str, str],
        lease: str | None,
    ) -> None:
        import hashlib

        self._content = content
        self._fd = fd
        self._folder = folder
        self._total = total
        self._expected = expected
        self._labels = labels
        self._lease = lease
        self._hash: HASH = hashlib.sha256()
        self.ref = ref
        self.offset = 0
        self._rehash()

    def _rehash(self) -> None:
        # Nothing but the bytes themselves is trusted after a crash.
        size = os.fstat(self._fd).st_size
        if self._total is not None and size > self._total:
            os.ftruncate(self._fd, 0)
            size = 0
        os.lseek(self._fd, 0, os.SEEK_SET)
        buffer = memoryview(bytearray(min(_CHUNK, max(size, 1))))
        while self.offset < size:
            n = os.readv(self._fd, [buffer])
            if n == 0:
                break
            self._hash.update(buffer[:n])
            self.offset += n
        os.lseek(self._fd, self.offset, os.SEEK_SET)

    def digest(self) -> str:
        """The digest of what has been written so far."""
        return "sha256:" + self._hash.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Appends all of `data`. Raises ResourceExhausted on a full disk (what fitted stays, `offset` tells),
        DataLoss when more comes than `total` said, before anything of it is written."""
        if self._fd < 0:
            raise FailedPrecondition("writer", self.ref, detail="closed")
        view = memoryview(data)
        if self._total is not None and self.offset + len(view) > self._total:
            raise DataLoss("content", self._expected or self.ref, detail=f"more than {self._total} bytes came")
        written = 0
        try:
            while written < len(view):
                n = os.write(self._fd, view[written:])
                self._hash.update(view[written : written + n])
                self.offset += n
                written += n
        except OSError as e:
            raise from_os_error(e, self._folder) from e
        return written

    def truncate(self, size: int = 0) -> None:
        """Starts over. Raises InvalidArgument for any other size than 0: half a hash cannot be taken back."""
        if size != 0:
            raise InvalidArgument("size", size, detail="a write can only be cut to 0")
        import hashlib

        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.offset = 0

    def commit(
        self, size: int | None = None, expected: str | None = None, labels: Mapping[str, str] | None = None
    ) -> str:
        """Files the blob under its digest, on disk when this returns; returns the digest and closes the writer.

        `labels` are added to those given to `writer()`. Raises DataLoss when size or digest are not those promised
        here or then: the write stays open, to be truncated or aborted. AlreadyExists when another writer brought
        the same blob first; closed then.
        """
        if self._fd < 0:
            raise FailedPrecondition("writer", self.ref, detail="closed")
        digest = self.digest()
        for promised in (self._total, size):
            if promised is not None and promised != self.offset:
                raise DataLoss(
                    "content", expected or self._expected or digest, detail=f"{self.offset} bytes came, not {promised}"
                )
        for wanted in (self._expected, expected):
            if wanted is not None and wanted != digest:
                checks.digest(wanted)
                raise DataLoss("content", wanted, detail=f"what came has the digest {digest}")
        merged = checks.labels({**self._labels, **(labels or {})})
        try:
            os.fsync(self._fd)
        except OSError as e:
            raise from_os_error(e, self._folder) from e
        try:
            self._content._commit(self, digest, merged)
        except AlreadyExists:
            self.close()
            raise
        self.close()
        return digest

    def close(self) -> None:
        """Lets go of the write; safe to call again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


def _info(row: tuple[str, int, str, str, str]) -> Info:
    digest, size, labels, created_at, updated_at = row
    return Info(digest, size, checks.load_labels(labels), created_at, updated_at)


def _insert(tx: Transaction, ns: str, digest: str, size: int, labels: dict[str, str]) -> None:
    now = times.now()
    tx.execute("INSERT INTO content VALUES(?,?,?,?,?,?)", (ns, digest, size, checks.dump(labels), now, now))


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


def _lock_ingest(folder: str, ref: str) -> int:
    while True:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        try:
            fd = os.open(f"{folder}/data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # another one finished it since the mkdir
        try:
            locked = _try_lock(fd)
        except OSError:
            os.close(fd)
            raise
        if not locked:
            os.close(fd)
            raise Unavailable("ingest", ref, detail="another writer has it")
        # The lock is on an inode. Whoever had it before may have committed or removed that very file.
        if _is_path_of(fd, f"{folder}/data"):
            return fd
        os.close(fd)


def _is_path_of(fd: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _write_ref(folder: str, ns: str, status: Status) -> None:
    text = checks.dump(
        {
            "namespace": ns,
            "ref": status.ref,
            "expected": status.expected,
            "total": status.total,
            "started_at": status.started_at,
        }
    )
    # Not synced: after a power cut it may be torn, then the write starts over.
    fd = os.open(f"{folder}/ref.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    os.rename(f"{folder}/ref.new", f"{folder}/ref")


def _read_ref(folder: str) -> Status | None:
    found = read_status(folder)
    return found[1] if found else None


def read_status(folder: str) -> tuple[str, Status] | None:
    try:
        fd = os.open(f"{folder}/ref", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            text = os.read(fd, 65536)
        finally:
            os.close(fd)
        facts = checks.load_object(text.decode())
        data = os.stat(f"{folder}/data")
        ns, ref, total, expected = facts["namespace"], facts["ref"], facts["total"], facts["expected"]
        assert isinstance(ns, str)
        assert isinstance(ref, str)
        assert isinstance(total, int)
        assert isinstance(expected, str)
        started_at = str(facts["started_at"])
    except (OSError, InvalidArgument, KeyError, AssertionError, UnicodeDecodeError):
        return None
    updated_at = times.from_ns(data.st_mtime_ns)
    return ns, Status(ref, data.st_size, total, expected, started_at, updated_at, _is_locked(f"{folder}/data"))


def _try_lock(fd: int) -> bool:
    # An open file description lock: like flock it belongs to the open file and ends with it, but one can ask for
    # it without taking it (F_OFD_GETLK), so looking at a write never disturbs a writer.
    import fcntl
    import struct

    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as e:
        if e.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _is_locked(path: str) -> bool:
    import fcntl
    import struct

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        asked = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(fd)
    return bool(struct.unpack(_FLOCK, asked)[0] != fcntl.F_UNLCK)


def remove_ingest(folder: str, *, idle_before_ns: int | None = None) -> bool:
    """Removes an unfinished write unless a writer has it, or it was touched after `idle_before_ns`."""
    try:
        fd = os.open(f"{folder}/data", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if idle_before_ns is not None:
            try:
                if os.stat(folder).st_mtime_ns > idle_before_ns:
                    return False
            except FileNotFoundError:
                return False
        _remove_folder(folder)
        return True
    try:
        if not _try_lock(fd):
            return False
        if idle_before_ns is not None and os.fstat(fd).st_mtime_ns > idle_before_ns:
            return False
        _remove_folder(folder)
        return True
    finally:
        os.close(fd)


def _remove_folder(folder: str, names: tuple[str, ...] = ("ref.new", "ref", "data")) -> None:
    # `data` last: while it is there its lock keeps others out.
    for name in names:
        try:
            os.unlink(f"{folder}/{name}")
        except FileNotFoundError:
            pass
    try:
        os.rmdir(folder)
    except OSError:
        pass  # a new writer is at it already


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
