"""Front and brain: the numbers in C and in Python, what a request may be, what a process may do."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest
from harness.brain import call_message
from hypothesis import given
from hypothesis import strategies as st

from masu.cli.brain.call import Refused, Request
from masu.linux import front, powers
from masu.linux.watch import Watch

HEADER = Path(__file__).parents[2] / "native/front/protocol.h"
SECRET = bytes(range(16))


def test_the_same_numbers_in_c() -> None:
    found = dict(re.findall(r"^#define ([A-Z_]+) (\d+)", HEADER.read_text(), re.MULTILINE))
    assert len(found) > 20
    for name, value in found.items():
        assert getattr(front, name) == int(value), name


class Call:
    """A request as a front sends it; `fds` are closed by `close`, whoever has taken them."""

    def __init__(self, argv: list[bytes], env: list[bytes], strings: bytes | None = None, *, further: int = 0) -> None:
        numbers = tuple(range(10, 10 + further))
        words, variables, rest, text = call_message(SECRET, argv, env, numbers=numbers)
        self.message = struct.pack("<IIII", front.ASK_CALL, words, variables, 0) + rest
        file = os.memfd_create("strings")
        os.write(file, text if strings is None else strings)
        self.fds = [file, *(os.open("/dev/null", os.O_RDONLY) for _ in range(4 + further))]

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


def test_a_request_is_understood() -> None:
    call = Call([b"masu", b"ps", b"\xff"], [b"A=1", b"B="], further=2)
    try:
        request = Request(call.message, call.fds)
    finally:
        call.close()
    assert request.argv == ["masu", "ps", "\udcff"]
    assert request.env == [b"A=1", b"B="]
    assert request.program == "masu"
    assert request.secret == SECRET
    assert request.standard == call.fds[2:5]
    assert list(request.further) == [10, 11]


@pytest.mark.parametrize(
    ("strings", "why"),
    [(b"masu\0ps", "number"), (b"masu\0", "number"), (b"masu\0ps\0more\0", "number"), (b"", "number")],
)
def test_strings_that_are_not_as_many_as_was_said(strings: bytes, why: str) -> None:
    call = Call([b"masu", b"ps"], [], strings)
    try:
        with pytest.raises(Refused, match=why):
            Request(call.message, call.fds)
    finally:
        call.close()


def test_strings_in_what_would_block() -> None:
    call = Call([b"masu"], [])
    read, write = os.pipe()
    try:
        with pytest.raises(Refused, match="no strings"):
            Request(call.message, [read, *call.fds[1:]])
    finally:
        os.close(read)
        os.close(write)
        call.close()


@given(st.binary(max_size=120), st.integers(0, 8))
def test_any_bytes_are_a_request_or_refused(message: bytes, count: int) -> None:
    call = Call([b"masu"], [])
    try:
        Request(message, call.fds[:count])
    except Refused:
        pass
    finally:
        call.close()


@given(st.integers(0, 60), st.binary(min_size=1, max_size=4))
def test_a_request_with_other_bytes_in_it(at: int, bytes_: bytes) -> None:
    call = Call([b"masu", b"ps"], [b"A=1"])
    message = call.message[:at] + bytes_ + call.message[at + len(bytes_) :]
    try:
        Request(message, call.fds)
    except Refused:
        pass
    finally:
        call.close()


def test_powers_of_ourselves_are_our_own() -> None:
    proc = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    try:
        one, two = (powers.of(proc, powers.status(proc)) for _ in range(2))
    finally:
        os.close(proc)
    assert len(one) > 20
    without_filter = {**one, "Seccomp": b"0"}
    assert powers.difference(without_filter, {**two, "Seccomp": b"0"}) == ""
    for name in one:
        assert powers.difference(without_filter, {**without_filter, name: b"other"}) == name
    filtered = {**one, "Seccomp": b"2"}
    assert powers.difference(filtered, filtered) == "Seccomp"


def test_a_change_is_seen(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "below/file").write_text("one")
    watch = Watch(ignored=frozenset(("__pycache__",)))
    watch.add_tree(str(tmp_path))
    try:
        assert not watch.changed()
        (tmp_path / "__pycache__/made").write_text("")
        (tmp_path / "__pycache__").rename(tmp_path / "below/__pycache__")
        assert not watch.changed()
        for change in (
            lambda: (tmp_path / "below/file").write_text("two"),
            lambda: (tmp_path / "below/file").rename(tmp_path / "moved"),
            lambda: (tmp_path / "moved").unlink(),
            lambda: (tmp_path / "new").mkdir(),
        ):
            change()
            assert watch.changed()
            while watch.changed():
                pass
    finally:
        os.close(watch.fileno())
