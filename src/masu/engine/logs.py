"""Reads what monitors write: the CRI log line format, rotated by renaming (log -> log.1 -> log.2 …).

    2026-11-21T05:28:01.123456789Z stdout F a whole line
    2026-11-21T05:28:01.123456789Z stderr P the beginning of a line that goes on in the next record

Nothing is read from the start that is not wanted: `tail` goes backwards from the end, `since` is found by halving (the
records are in the order of time), `follow` reads on where the file ended and waits for more. A record that was torn by
a crash is skipped, not an end. A file that is rotated while it is followed is read to its end, then what came after.
"""

from __future__ import annotations

import os
import select

from masu.errors import KernelError
from masu.spec import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1 << 16
# Longer than any record a monitor writes (16 KiB of content); what has no end of line for so long is no log.
_MAX_RECORD = 1 << 20
_MAX_FILES = 1000
_STAMP = len("2016-10-06T00:17:09.669794202Z")
# How often a followed file is looked at; one fstat each.
_LOOK_MS = (10, 20, 50, 100, 200)


class Entry:
    """One record: `time` as it stands there, `stream` stdout or stderr, `data` with its line end when it is whole."""

    __slots__ = ("data", "stream", "time")

    def __init__(self, time: bytes, stream: str, data: bytes) -> None:
        self.time = time
        self.stream = stream
        self.data = data


def parse(line: bytes) -> Entry | None:
    """The record of a line without its line end; None when it is torn or not one."""
    if len(line) < _STAMP + 10 or line[_STAMP : _STAMP + 1] != b" " or line[_STAMP - 1 : _STAMP] != b"Z":
        return None
    stream = line[_STAMP + 1 : _STAMP + 8]
    tag = line[_STAMP + 8 : _STAMP + 9]
    if stream not in (b"stdout ", b"stderr ") or tag not in (b"F", b"P") or line[_STAMP + 9 : _STAMP + 10] != b" ":
        return None
    data = line[_STAMP + 10 :]
    return Entry(line[:_STAMP], stream[:6].decode(), data + b"\n" if tag == b"F" else data)


def read(
    path: str,
    *,
    tail: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    follow: Waiter | None = None,
) -> Iterator[list[Entry]]:
    """The records of a log, oldest first: the last `tail` lines, of those the ones from `since_ns` up to `until_ns`.

    They come in batches: what can be had without waiting. With `follow` it goes on until the waiter says that nobody
    writes any more. A missing log is an empty one. Raises KernelError.
    """
    since = _stamp(since_ns)
    until = _stamp(until_ns)
    files = _Files(path)
    try:
        files.open_all()
        files.seek(since, tail)
        for lines in files.lines(follow):
            batch: list[Entry] = []
            for line in lines:
                entry = parse(line)
                if entry is None or (since is not None and entry.time < since):
                    continue
                if until is not None and entry.time > until:
                    yield batch
                    return
                batch.append(entry)
            if batch:
                yield batch
    except OSError as error:
        raise KernelError("read", path, error.errno or 0) from error
    finally:
        files.close()


def _stamp(ns: int | None) -> bytes | None:
    # fixed width, so the order of the text is the order of time
    return None if ns is None else times.text(max(ns, 0)).encode()


class Waiter:
    """Waits for more to be written: `fd` (-1 for none) becomes readable when the writer has ended."""

    def __init__(self, fd: int, ended: Callable[[], bool]) -> None:
        self._fd = fd
        self._ended = ended
        self._over = fd < 0
        self._idle = 0

    def wait(self, idle: bool) -> bool:
        """Sleeps a little, longer when nothing has come for some time; False when there is nothing to wait for."""
        if self._over:
            return False
        self._idle = min(self._idle + 1, len(_LOOK_MS) - 1) if idle else 0
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(_LOOK_MS[self._idle]) and self._ended():
            self._over = True
        return True


class _Files:
    """The log's files, oldest first, as one sequence of lines; all are open, so a rotation takes none away."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fds: list[int] = []

    def open_all(self) -> None:
        # From the newest: what is renamed meanwhile is met again one place further, and left out there.
        seen: set[tuple[int, int]] = set()
        for number in range(_MAX_FILES):
            try:
                fd = os.open(self._name(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                if number:
                    break
                continue  # rotated this moment, or not written yet
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) in seen:
                os.close(fd)
                continue
            seen.add((status.st_dev, status.st_ino))
            self.fds.insert(0, fd)

    def _name(self, number: int) -> str:
        return f"{self.path}.{number}" if number else self.path

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def seek(self, since: bytes | None, tail: int | None) -> None:
        """Puts the offsets where reading begins."""
        if since is not None:
            self._seek_time(since)
        if tail is not None:
            self._seek_tail(tail)

    def _seek_time(self, since: bytes) -> None:
        for index in range(len(self.fds) - 1, -1, -1):
            offset = _find_time(self.fds[index], since)
            os.lseek(self.fds[index], offset, os.SEEK_SET)
            if offset > 0:
                # what is older lies in this file, so the files before it hold nothing wanted
                for fd in self.fds[:index]:
                    os.close(fd)
                self.fds = self.fds[index:]
                return

    def _seek_tail(self, tail: int) -> None:
        left = tail
        for index in range(len(self.fds) - 1, -1, -1):
            fd = self.fds[index]
            start = os.lseek(fd, 0, os.SEEK_CUR)
            offset, found = _find_tail(fd, start, left)
            os.lseek(fd, offset, os.SEEK_SET)
            left -= found
            if left <= 0:
                for old in self.fds[:index]:
                    os.close(old)
                self.fds = self.fds[index:]
                return

    def lines(self, follow: Waiter | None) -> Iterator[list[bytes]]:
        held = b""
        idle = False
        while True:
            if self.fds:
                block = os.read(self.fds[0], _BLOCK)
                if block:
                    idle = False
                    *whole, held = (held + block).split(b"\n")
                    yield whole
                    if len(held) > _MAX_RECORD:
                        held = b""
                    continue
                if len(self.fds) > 1:
                    os.close(self.fds.pop(0))
                    held = b""  # a file that was rotated gets no more: its last record was torn
                    continue
            if follow is None:
                return
            if self._rotated():
                continue
            more = follow.wait(idle)
            idle = True
            if not more:
                return

    def _rotated(self) -> bool:
        """Adds the files that came after the one being read; whether there are any."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        if self.fds:
            mine = os.fstat(self.fds[0])
            if (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino):
                return False
            # There may be more to read that was written between our read and the rename.
            if mine.st_size > os.lseek(self.fds[0], 0, os.SEEK_CUR):
                return True
            last = (mine.st_dev, mine.st_ino)
        else:
            last = (-1, -1)
        newer = _Files(self.path)
        newer.open_all()
        for index, fd in enumerate(newer.fds):
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) == last:
                for old in newer.fds[: index + 1]:
                    os.close(old)
                newer.fds = newer.fds[index + 1 :]
                break
        self.fds += newer.fds
        return bool(newer.fds)


def _find_time(fd: int, since: bytes) -> int:
    """The offset of the first record whose time is not before `since`; the size when there is none."""
    low, high = 0, os.fstat(fd).st_size
    size = high
    while high - low > _BLOCK:
        middle = (low + high) // 2
        found = _record_after(fd, middle, high)
        if found is None:
            high = middle
            continue
        offset, time = found
        if time < since:
            low = offset
        else:
            high = middle
    for offset, line in _lines_from(fd, low, size):
        entry = parse(line)
        if entry is not None and entry.time >= since:
            return offset
    return size


def _record_after(fd: int, offset: int, end: int) -> tuple[int, bytes] | None:
    """The first whole record that begins after `offset`."""
    for at, line in _lines_from(fd, offset, end, skip=True):
        entry = parse(line)
        if entry is not None:
            return at, entry.time
    return None


def _lines_from(fd: int, offset: int, end: int, *, skip: bool = False) -> Iterator[tuple[int, bytes]]:
    """(offset, line) from `offset` on, without the beginning of a line cut by it when `skip`."""
    held, at = b"", offset
    while offset < end:
        block = os.pread(fd, _BLOCK, offset)
        if not block:
            return
        offset += len(block)
        *whole, held = (held + block).split(b"\n")
        for line in whole:
            if skip:
                skip = False
            else:
                yield at, line
            at += len(line) + 1


def _find_tail(fd: int, start: int, count: int) -> tuple[int, int]:
    """Where the last `count` lines between `start` and the end begin, and how many there are (at most `count`).

    Backwards, block by block: the wanted place is the end of the record that ended the line before.
    """
    offset = os.fstat(fd).st_size
    if count <= 0:
        return offset, 0
    held, seen, last = b"", 0, True
    while offset > start:
        step = min(_BLOCK, offset - start)
        offset -= step
        held = os.pread(fd, step, offset) + held
        cut = held.find(b"\n") + 1 if offset > start else 0
        if offset > start and not cut:
            if len(held) > _MAX_RECORD:
                held = b""
            continue
        at = offset + len(held)
        *lines, torn = held[cut:].split(b"\n")
        at -= len(torn)
        for line in reversed(lines):
            entry = parse(line)
            if entry is not None:
                if entry.data.endswith(b"\n"):
                    if seen == count:
                        return at, count
                    seen += 1
                elif last:
                    seen += 1  # a line that has no end yet is one, too
                last = False
            at -= len(line) + 1
        held = held[:cut]
    return start, seen
