"""Writes in progress: `ingest/<id>/{ref,data}`, who holds them, and the writer itself.

A write belongs to the process that holds the lock on its `data`; when that process ends, however it ends, the next
one with the same ref goes on with what is there.
"""

from __future__ import annotations

import errno
import os

from masu.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, Unavailable
from masu.spec import times
from masu.store import checks
from masu.store.db import from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _hashlib import HASH
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

_CHUNK = 1 << 20
# struct flock of fcntl(2): l_type, l_whence, l_start, l_len, l_pid, padded as the compiler would.
_FLOCK = "@hhqqi0q"


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


class Writer:
    """One write into the store, held by a file lock: ends with the process, however that ends.

    `with` closes it; what was not committed stays for the next `writer(ref)`. Not for two threads at once.
    """

    __slots__ = ("_expected", "_file", "_hash", "_labels", "_total", "fd", "folder", "lease", "offset", "ref")

    def __init__(
        self,
        file: Callable[[Writer, str, dict[str, str]], None],
        fd: int,
        folder: str,
        ref: str,
        total: int | None,
        expected: str | None,
        labels: dict[str, str],
        lease: str | None,
    ) -> None:
        import hashlib

        self._file = file
        self.fd = fd
        self.folder = folder
        self._total = total
        self._expected = expected
        self._labels = labels
        self.lease = lease
        self._hash: HASH = hashlib.sha256()
        self.ref = ref
        self.offset = 0
        self._rehash()

    def _rehash(self) -> None:
        # Nothing but the bytes themselves is trusted after a crash.
        size = os.fstat(self.fd).st_size
        if self._total is not None and size > self._total:
            os.ftruncate(self.fd, 0)
            size = 0
        os.lseek(self.fd, 0, os.SEEK_SET)
        buffer = memoryview(bytearray(min(_CHUNK, max(size, 1))))
        while self.offset < size:
            n = os.readv(self.fd, [buffer])
            if n == 0:
                break
            self._hash.update(buffer[:n])
            self.offset += n
        os.lseek(self.fd, self.offset, os.SEEK_SET)

    def digest(self) -> str:
        """The digest of what has been written so far."""
        return "sha256:" + self._hash.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Appends all of `data`. Raises ResourceExhausted on a full disk (what fitted stays, `offset` tells),
        DataLoss when more comes than `total` said, before anything of it is written."""
        if self.fd < 0:
            raise FailedPrecondition("writer", self.ref, detail="closed")
        view = memoryview(data)
        if self._total is not None and self.offset + len(view) > self._total:
            raise DataLoss("content", self._expected or self.ref, detail=f"more than {self._total} bytes came")
        written = 0
        try:
            while written < len(view):
                n = os.write(self.fd, view[written:])
                self._hash.update(view[written : written + n])
                self.offset += n
                written += n
        except OSError as e:
            raise from_os_error(e, self.folder) from e
        return written

    def truncate(self, size: int = 0) -> None:
        """Starts over. Raises InvalidArgument for any other size than 0: half a hash cannot be taken back."""
        if size != 0:
            raise InvalidArgument("size", size, detail="a write can only be cut to 0")
        import hashlib

        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
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
        if self.fd < 0:
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
            os.fsync(self.fd)
        except OSError as e:
            raise from_os_error(e, self.folder) from e
        try:
            self._file(self, digest, merged)
        except AlreadyExists:
            self.close()
            raise
        self.close()
        return digest

    def close(self) -> None:
        """Lets go of the write; safe to call again."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()


def lock_ingest(folder: str, ref: str) -> int:
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


def write_ref(folder: str, ns: str, status: Status) -> None:
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


def read_ref(folder: str) -> Status | None:
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
    updated_at = times.text(data.st_mtime_ns)
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
        remove_folder(folder)
        return True
    try:
        if not _try_lock(fd):
            return False
        if idle_before_ns is not None and os.fstat(fd).st_mtime_ns > idle_before_ns:
            return False
        remove_folder(folder)
        return True
    finally:
        os.close(fd)


def remove_folder(folder: str, names: tuple[str, ...] = ("ref.new", "ref", "data")) -> None:
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
