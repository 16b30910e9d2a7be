"""Reading the CRI log format: whole, from the end, by time, while it grows and is rotated."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.engine import logs
from masu.spec import times

BASE = 1_700_000_000 * times.SECOND


def record(index: int, text: bytes = b"", *, stream: str = "stdout", tag: str = "F") -> bytes:
    stamp = times.text(BASE + index * times.SECOND).encode()
    return b"%s %s %s %s\n" % (stamp, stream.encode(), tag.encode(), text or b"line %d" % index)


def texts(batches: Iterator[list[logs.Entry]]) -> list[bytes]:
    return [entry.data for batch in batches for entry in batch]


def lines(*numbers: int) -> list[bytes]:
    return [b"line %d\n" % number for number in numbers]


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "log"
    path.write_bytes(b"".join(record(i) for i in range(10)))
    return str(path)


def test_whole(log: str) -> None:
    (entries,) = logs.read(log)
    assert [entry.data for entry in entries] == lines(*range(10))
    assert entries[3].time == times.text(BASE + 3 * times.SECOND).encode()
    assert entries[3].stream == "stdout"


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert list(logs.read(str(tmp_path / "none"))) == []
    assert list(logs.read(str(tmp_path / "none"), tail=5)) == []


@pytest.mark.parametrize("count", [0, 1, 3, 10, 11, 1000])
def test_tail(log: str, count: int) -> None:
    assert texts(logs.read(log, tail=count)) == lines(*range(max(10 - count, 0), 10))


def test_since_and_until(log: str) -> None:
    assert texts(logs.read(log, since_ns=BASE + 7 * times.SECOND)) == lines(7, 8, 9)
    assert texts(logs.read(log, since_ns=BASE + 7 * times.SECOND + 1)) == lines(8, 9)
    assert texts(logs.read(log, until_ns=BASE + 2 * times.SECOND)) == lines(0, 1, 2)
    assert texts(logs.read(log, tail=5, since_ns=BASE + 7 * times.SECOND)) == lines(7, 8, 9)
    assert texts(logs.read(log, since_ns=BASE + 99 * times.SECOND)) == []
    assert texts(logs.read(log, since_ns=0)) == lines(*range(10))


def test_partial_records_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(
        record(0, b"a") + record(1, b"long ", tag="P") + record(2, b"end") + record(3, b"err", stream="stderr")
        + record(4, b"open", tag="P")
    )  # fmt: skip
    assert texts(logs.read(str(path))) == [b"a\n", b"long ", b"end\n", b"err\n", b"open"]
    assert texts(logs.read(str(path), tail=1)) == [b"open"]
    assert texts(logs.read(str(path), tail=2)) == [b"err\n", b"open"]
    assert texts(logs.read(str(path), tail=3)) == [b"long ", b"end\n", b"err\n", b"open"]


def test_torn_records_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(record(0) + b"2023-11-14T22:1\n" + b"\0\0\0\n" + record(1) + record(2)[:-4])
    assert texts(logs.read(str(path))) == lines(0, 1)
    assert texts(logs.read(str(path), tail=1)) == lines(1)


def test_rotated_files_are_one_log(tmp_path: Path) -> None:
    for number, part in ((2, range(4)), (1, range(4, 8)), (0, range(8, 10))):
        path = tmp_path / (f"log.{number}" if number else "log")
        path.write_bytes(b"".join(record(i) for i in part))
    log = str(tmp_path / "log")
    assert texts(logs.read(log)) == lines(*range(10))
    for count in range(12):
        assert texts(logs.read(log, tail=count)) == lines(*range(max(10 - count, 0), 10))
    for start in range(11):
        assert texts(logs.read(log, since_ns=BASE + start * times.SECOND)) == lines(*range(start, 10))


def test_large_files_are_not_read_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    total = 60_000
    path.write_bytes(b"".join(record(i) for i in range(total)))
    size, read = path.stat().st_size, 0

    real_read, real_pread = os.read, os.pread

    def counting_read(fd: int, count: int) -> bytes:
        nonlocal read
        data = real_read(fd, count)
        read += len(data)
        return data

    def counting_pread(fd: int, count: int, offset: int) -> bytes:
        nonlocal read
        data = real_pread(fd, count, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "read", counting_read)
    monkeypatch.setattr(os, "pread", counting_pread)
    assert texts(logs.read(str(path), tail=10)) == lines(*range(total - 10, total))
    assert read < size / 10
    read = 0
    assert texts(logs.read(str(path), since_ns=BASE + (total - 5) * times.SECOND)) == lines(*range(total - 5, total))
    assert read < size / 2


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def rotate(path: Path, count: int) -> None:
    for number in range(count, 0, -1):
        older = path.with_name(f"log.{number - 1}") if number > 1 else path
        older.rename(path.with_name(f"log.{number}"))


def test_follow_reads_on_through_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(record(0))
    reader, writer = os.pipe()

    def first_rotation() -> None:
        rotate(path, 1)
        append(path, record(3))

    def second_rotation() -> None:
        # what was written to the old file between our last read and the rename comes first
        append(path, record(4))
        rotate(path, 2)
        append(path, record(5))

    steps: Iterator[Callable[[], object]] = iter(
        [
            lambda: append(path, record(1)[:20]),
            lambda: append(path, record(1)[20:] + record(2)),
            first_rotation,
            second_rotation,
            lambda: os.write(writer, b"x"),
        ]
    )

    class Steps(logs.Waiter):
        def wait(self, idle: bool) -> bool:
            more = super().wait(idle)
            if more:
                step = next(steps, None)
                if step is not None:
                    step()
            return more

    try:
        waiter = Steps(reader, lambda: bool(os.read(reader, 1)))
        assert texts(logs.read(str(path), tail=0, follow=waiter)) == lines(1, 2, 3, 4, 5)
    finally:
        os.close(reader)
        os.close(writer)


def test_follow_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "log"
    reader, writer = os.pipe()

    class Late(logs.Waiter):
        def wait(self, idle: bool) -> bool:
            if not path.exists():
                path.write_bytes(record(0))
                os.write(writer, b"x")
            return super().wait(idle)

    try:
        assert texts(logs.read(str(path), follow=Late(reader, lambda: bool(os.read(reader, 1))))) == lines(0)
    finally:
        os.close(reader)
        os.close(writer)


@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_file_can_be_read(data: bytes, tail: int) -> None:
    path = f"/tmp/masu-test-log-{os.getpid()}-{random.getrandbits(32)}"
    try:
        Path(path).write_bytes(data + record(1) + data)
        list(logs.read(path))
        list(logs.read(path, tail=tail, since_ns=BASE))
    finally:
        os.unlink(path)
