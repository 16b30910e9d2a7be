"""meta.db: one SQLite database, many processes and threads.

    reader ──────────── snapshot of the last commit, never waits
    writer ──BEGIN IMMEDIATE──(waits for the writer before, up to BUSY_TIMEOUT_S)── COMMIT: fsync of the WAL

Journal mode WAL with synchronous=FULL: what COMMIT returned for survives a power cut. One connection a thread
(a connection is not shared: a transaction belongs to it), a new one after fork(2) (sqlite.org/howtocorrupt.html
§2.6). `_sqlite3` is used directly: the `sqlite3` package imports datetime and collections.abc, which the commands
that live for milliseconds cannot afford.

Files follow the same order everywhere: *write, fsync, rename, fsync the directory, commit*. A rename into a place
that the garbage collector sweeps happens inside the write transaction, and so does the sweep: neither can see the
other half-way.
"""

from __future__ import annotations

import _thread
import errno
import os
import sys

from masu.errors import DataLoss, FailedPrecondition, MasuError, PermissionDenied, ResourceExhausted, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _sqlite3
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    Value = str | int | bytes | None
    # A row's fields are what the schema says; the caller names their types.
    from typing import Any

    Row = tuple[Any, ...]

BUSY_TIMEOUT_S = 30.0
_RESTORE = "restore it from a copy (sqlite3 has .recover)"
RESERVE_BYTES = 1 << 20

# "masu" as a big-endian number: file(1) and other people can tell whose database it is.
APPLICATION_ID = 0x6D617375

# Forward migrations: entry n brings user_version n to n+1. Never edit a released one: append.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE namespaces(name TEXT PRIMARY KEY, labels TEXT NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID;

    CREATE TABLE images(
        ns TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, target TEXT NOT NULL, labels TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, PRIMARY KEY(ns, name)) WITHOUT ROWID;

    CREATE TABLE content(
        ns TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, PRIMARY KEY(ns, digest)) WITHOUT ROWID;
    CREATE INDEX content_by_digest ON content(digest);

    CREATE TABLE containers(
        ns TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, image TEXT NOT NULL, runtime TEXT NOT NULL,
        snapshotter TEXT NOT NULL, snapshot_key TEXT NOT NULL, labels TEXT NOT NULL, extensions TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, spec TEXT NOT NULL, PRIMARY KEY(ns, id)) WITHOUT ROWID;
    CREATE UNIQUE INDEX containers_by_name ON containers(ns, name) WHERE name <> '';

    CREATE TABLE snapshots(
        id INTEGER PRIMARY KEY AUTOINCREMENT, driver TEXT NOT NULL, ns TEXT NOT NULL, key TEXT NOT NULL,
        parent INTEGER REFERENCES snapshots(id), kind TEXT NOT NULL CHECK(kind IN ('active', 'view', 'committed')),
        labels TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
        size INTEGER, inodes INTEGER, UNIQUE(ns, driver, key));
    CREATE INDEX snapshots_by_parent ON snapshots(parent);

    CREATE TABLE leases(
        ns TEXT NOT NULL, id TEXT NOT NULL, labels TEXT NOT NULL, created_at TEXT NOT NULL,
        PRIMARY KEY(ns, id)) WITHOUT ROWID;
    CREATE TABLE lease_resources(
        ns TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
        PRIMARY KEY(ns, lease, type, id),
        FOREIGN KEY(ns, lease) REFERENCES leases(ns, id) ON DELETE CASCADE) WITHOUT ROWID;

    CREATE TABLE events(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, ns TEXT NOT NULL, topic TEXT NOT NULL, payload TEXT NOT NULL,
        time TEXT NOT NULL);
    """,
    """
    CREATE TABLE sandboxes(
        ns TEXT NOT NULL, id TEXT NOT NULL, labels TEXT NOT NULL, record TEXT NOT NULL, state TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, PRIMARY KEY(ns, id)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE mounts(
        id INTEGER PRIMARY KEY AUTOINCREMENT, ns TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL,
        lease TEXT NOT NULL, boot TEXT NOT NULL, record TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(ns, name));
    """,
)

# The first to open the database after everybody has left reads all of the WAL that is not in the database yet
# (sqlite.org/walformat.html, 4.2): twenty commits, not SQLite's hundred, since each of our commands may be the first.
_CHECKPOINT_PAGES = 200

# Result codes, sqlite.org/rescode.html; the low byte of an extended code is the primary one.
_BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 5, 6, 8, 10, 11, 13, 14, 26
_CONSTRAINT_PRIMARYKEY, _CONSTRAINT_UNIQUE = 1555, 2067


class Database:
    """The door to meta.db. Safe to share between threads; usable again in a forked child."""

    __slots__ = ("_abandoned", "_local", "_ready", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._local = _thread._local()
        self._abandoned: list[object] = []
        self._ready = False

    def _session(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if session is not None:
            if session.pid == os.getpid():
                return session
            # Made before a fork: closing it here would release the parent's locks and delete its WAL.
            self._abandoned.append(session.forget())
        connection = _connect(self.path)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            if not self._ready:
                self._prepare(connection)
                self._ready = True
        except BaseException as e:
            connection.close()
            translated = translate(e, self.path)
            if translated is None:
                raise
            raise translated from e
        session = _Session(connection)
        self._local.session = session
        return session

    def _prepare(self, connection: _sqlite3.Connection) -> None:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        known = len(MIGRATIONS)
        if version > known:
            raise FailedPrecondition(
                "database", self.path, detail=f"written by a newer masu (schema {version}, this one knows {known})",
                hint="upgrade masu, or point it at another state directory",
            )  # fmt: skip
        if version == known:
            return
        # Turning WAL on wants the file for itself and does not wait by itself; one opener at a time does it.
        import fcntl

        lock = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection.execute("PRAGMA journal_mode=WAL")
            make_reserve(f"{os.path.dirname(self.path)}/reserve")
            connection.execute("BEGIN IMMEDIATE")
            try:
                version = int(connection.execute("PRAGMA user_version").fetchone()[0])
                if version == 0:
                    self._require_no_past()
                for script in MIGRATIONS[version:]:
                    # Not executescript(): it commits first.
                    for statement in script.split(";"):
                        if statement.strip():
                            connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={known}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        finally:
            os.close(lock)

    def _require_no_past(self) -> None:
        """A database that is made anew beside what another told of would have all of that collected."""
        root = os.path.dirname(self.path)
        names = names_in(f"{root}/snapshots")
        drivers = [f"{root}/snapshots/{name}" for name in names if not name.startswith("probe-")]
        for folder in (f"{root}/blobs/sha256", *drivers):
            if any(not name.startswith(("rm-", "new-")) for name in names_in(folder)):
                raise DataLoss(
                    "database", self.path, detail=f"it is empty, and {folder} is not: it has been lost",
                    hint=f"{_RESTORE}, or remove {root}/blobs and {root}/snapshots, too",
                )  # fmt: skip

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """The rows of a query: inside `write()` of this thread its own view, else the last commit's."""
        session = self._session()
        try:
            return session.connection.execute(sql, values).fetchall()
        except Exception as e:
            translated = translate(e, self.path)
            if translated is None:
                raise
            raise translated from e

    def row(self, sql: str, values: Sequence[Value] = ()) -> Row | None:
        rows = self.rows(sql, values)
        return rows[0] if rows else None

    def write(self, *, freeing: bool = False, durable: bool = True, single: bool = False) -> Transaction:
        """`with db.write() as tx:` commits when the block ends, rolls back when it raises.

        May be nested in one thread: the inner block is a savepoint of the outer one. `freeing`: what is done gives
        space back, and may use the reserve when the disk is full. `durable` False, on the outermost block: a power
        cut may take this commit back (the database stays whole), for what would be worth nothing after one. `single`:
        the block is one statement, which is done or not by itself, so that inside another block it needs no savepoint.

        Raises Unavailable when another process held the database for longer than BUSY_TIMEOUT_S, ResourceExhausted
        on a full disk.
        """
        session = self._session()
        if freeing:
            self._use_reserve()
        return Transaction(self, session, durable, single)

    def _use_reserve(self) -> None:
        # Removing something is a write, too: on a full disk nothing could be removed any more. So a file of some size
        # lies there to be given up first, and comes back when there is room again.
        path = f"{os.path.dirname(self.path)}/reserve"
        try:
            room = os.statvfs(os.path.dirname(self.path))
            free = room.f_bavail * room.f_frsize
            if free < RESERVE_BYTES:
                os.truncate(path, 0)
            elif free > 16 * RESERVE_BYTES and os.stat(path).st_blocks == 0:
                make_reserve(path)
        except OSError:
            pass  # it only helps

    def close(self) -> None:
        """Closes this thread's connection; another use opens it again."""
        session: _Session | None = getattr(self._local, "session", None)
        if session is not None:
            del self._local.session
            if session.pid == os.getpid():
                session.close()
            else:
                self._abandoned.append(session.forget())


class _Session:
    """One thread's connection and its open transactions."""

    __slots__ = ("after_commit", "connection", "depth", "durable", "on_rollback", "pid")

    def __init__(self, connection: _sqlite3.Connection) -> None:
        self.connection = connection
        self.pid = os.getpid()
        self.depth = 0
        self.durable = True
        self.after_commit: list[Callable[[], object]] = []
        self.on_rollback: list[Callable[[], None]] = []

    def forget(self) -> _sqlite3.Connection:
        self.pid = -1
        return self.connection

    def close(self) -> None:
        self.connection.close()

    def __del__(self) -> None:
        # The thread ended. In a forked child the connection is the parent's: left alone (see forget).
        if self.pid == os.getpid():
            self.connection.close()


class Transaction:
    """What `Database.write()` gives."""

    __slots__ = ("_db", "_durable", "_last_id", "_marks", "_savepoint", "_session")

    def __init__(self, db: Database, session: _Session, durable: bool, single: bool) -> None:
        self._db = db
        self._session = session
        self._durable = durable
        self._savepoint = session.depth > 0 and not single
        self._last_id: int | None = None
        self._marks = (0, 0)

    def __enter__(self) -> Self:
        session = self._session
        self._marks = (len(session.after_commit), len(session.on_rollback))
        if session.depth == 0 and session.durable != self._durable:
            # NORMAL: WAL without the fsync at each commit (sqlite.org/pragma.html#pragma_synchronous).
            self.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
            session.durable = self._durable
        if session.depth == 0:
            self.execute("BEGIN IMMEDIATE")
        elif self._savepoint:
            self.execute(f"SAVEPOINT s{session.depth}")
        session.depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session = self._session
        session.depth -= 1
        if error is not None:
            self._roll_back()
            return
        if session.depth:
            if self._savepoint:
                self.execute(f"RELEASE s{session.depth}")
            return
        try:
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        session.on_rollback.clear()
        work = session.after_commit[:]
        session.after_commit.clear()
        for action in work:
            action()

    def _roll_back(self) -> None:
        session = self._session
        committed, undone = self._marks
        undo = session.on_rollback[undone:]
        del session.on_rollback[undone:]
        del session.after_commit[committed:]
        try:
            for action in reversed(undo):
                try:
                    action()
                except OSError:
                    # What stays behind is an orphan file: the next garbage collection finds it.
                    pass
        finally:
            # SQLite rolls back by itself on some errors (full disk, I/O); then there is nothing to undo.
            if session.connection.in_transaction:
                if session.depth == 0:
                    self.execute("ROLLBACK")
                elif self._savepoint:
                    self.execute(f"ROLLBACK TO s{session.depth}")
                    self.execute(f"RELEASE s{session.depth}")

    @property
    def durable(self) -> bool:
        """Whether the outermost block is; else files that go with it need no fsync either."""
        return self._session.durable

    @property
    def database(self) -> Database:
        return self._db

    def execute(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Runs a statement; returns how many rows it changed."""
        try:
            cursor = self._session.connection.execute(sql, values)
            self._last_id = cursor.lastrowid
            return cursor.rowcount
        except Exception as e:
            translated = translate(e, self._db.path)
            if translated is None:
                raise
            raise translated from e

    def attempt(self, sql: str, values: Sequence[Value] = ()) -> bool:
        """Runs an INSERT or UPDATE; False when a unique key is taken already."""
        try:
            self._last_id = self._session.connection.execute(sql, values).lastrowid
        except Exception as e:
            if getattr(e, "sqlite_errorcode", 0) in (_CONSTRAINT_PRIMARYKEY, _CONSTRAINT_UNIQUE):
                return False
            translated = translate(e, self._db.path)
            if translated is None:
                raise
            raise translated from e
        return True

    def last_id(self) -> int:
        """The row id of this block's last INSERT into a table that has row ids."""
        assert self._last_id is not None
        return self._last_id

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        return self._db.rows(sql, values)

    def row(self, sql: str, values: Sequence[Value] = ()) -> Row | None:
        return self._db.row(sql, values)

    def after_commit(self, action: Callable[[], object]) -> None:
        """`action` runs once the outermost transaction is on disk (removal of files that no row names any more); once,
        however often it is asked for."""
        if action not in self._session.after_commit:
            self._session.after_commit.append(action)

    def on_rollback(self, action: Callable[[], None]) -> None:
        """`action` undoes a change to the file system if this transaction, or one around it, is rolled back."""
        self._session.on_rollback.append(action)


def make_reserve(path: str) -> None:
    """Allocates the reserve; without one (no space, a file system that cannot) all works but removal when full."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        finally:
            os.close(fd)
    except OSError:
        pass


def _connect(path: str) -> _sqlite3.Connection:
    sqlite = _module()
    try:
        # isolation_level=None: no BEGIN behind our back. check_same_thread off: the garbage collector may drop a
        # dead thread's connection from any other thread.
        return sqlite.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    except Exception as e:
        translated = translate(e, path)
        if translated is None:
            raise
        raise translated from e


def _module() -> _Module:
    if "_sqlite3" not in sys.modules and "functools" not in sys.modules and "threading" not in sys.modules:
        # The C module imports functools, and with it collections and reprlib, for lru_cache alone (statement cache).
        # A cold command saves two of its milliseconds by giving it the C half of lru_cache. Only while no second
        # thread can be importing functools itself.
        import _functools  # type: ignore[import-not-found]

        wrapper = _functools._lru_cache_wrapper
        stand_in = type(sys)("functools")
        stand_in.__dict__["lru_cache"] = lambda size: lambda function: wrapper(function, size, False, tuple)
        sys.modules["functools"] = stand_in
        try:
            import _sqlite3
        finally:
            del sys.modules["functools"]
    else:
        import _sqlite3
    return _sqlite3


if TYPE_CHECKING:
    from typing import Protocol

    class _Module(Protocol):
        def connect(
            self, database: str, *, timeout: float, isolation_level: None, check_same_thread: bool
        ) -> _sqlite3.Connection: ...


def translate(error: BaseException, path: str) -> MasuError | None:
    """The kind of error behind an exception of `_sqlite3` or of a file operation; None when it is neither."""
    if isinstance(error, MasuError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error, path)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    primary, text = code & 0xFF, str(error)
    if primary in (_BUSY, _LOCKED):
        return Unavailable("database", path, detail=f"held by another process for {BUSY_TIMEOUT_S:.0f} s")
    if primary == _FULL:
        return ResourceExhausted("disk space", os.path.dirname(path), errno.ENOSPC)
    if primary in (_IOERR, _CANTOPEN) and _is_full(path):
        return ResourceExhausted("disk space", os.path.dirname(path), errno.ENOSPC, detail=text)
    if primary in (_READONLY, _CANTOPEN, _IOERR):
        return _unwritable(path, text)
    if primary in (_CORRUPT, _NOTADB):
        return DataLoss(
            "database", path, detail=text, hint=f"{_RESTORE}, or move {os.path.dirname(path)} away to begin anew"
        )
    return None


def names_in(folder: str) -> list[str]:
    """Those of a directory that may be missing. Raises OSError."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def from_os_error(error: OSError, path: str) -> MasuError:
    """The kind for an OSError met while keeping `path` in order: full, read-only and forbidden are told apart."""
    from masu.errors import KernelError

    number = error.errno or 0
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else path
    detail = "" if name == path else name
    if number in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted("disk space", path, number, detail=detail)
    if number in (errno.EMFILE, errno.ENFILE):
        return ResourceExhausted("file descriptors", path, number, detail=detail)
    if number == errno.EROFS:
        return FailedPrecondition(
            "state directory", path, number, detail=detail, hint="masu writes its state there; choose another by --root"
        )
    if number in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            "state directory", path, number, detail=detail, hint="run as root, or choose another with --root"
        )
    return KernelError("state directory", path, number, detail=detail)


def _is_full(path: str) -> bool:
    try:
        return os.statvfs(os.path.dirname(path)).f_bavail == 0
    except OSError:
        return False


def _unwritable(path: str, text: str) -> MasuError:
    """Why the database cannot be written: asks the kernel, since SQLite's code says little."""
    folder = os.path.dirname(path)
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return from_os_error(OSError(errno.EROFS, "", folder), folder)
        for name in (path, folder):
            if os.path.exists(name) and not os.access(name, os.W_OK):
                return from_os_error(OSError(errno.EACCES, "", name), name)
    except OSError as e:
        return from_os_error(e, folder)
    from masu.errors import KernelError

    return KernelError("database", path, errno.EIO, detail=text)
