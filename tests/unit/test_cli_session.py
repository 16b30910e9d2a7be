"""The detach keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.cli.engine.session import Keys, parse_keys
from masu.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,x", b"\0x"),
        ("CTRL-A", b"\x01"),
        ("DEL", b"\x7f"),
        ("ctrl-_", b"\x1f"),
    ],
)
def test_parse(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ab", "ctrl-", "ctrl-1", "a,,b", "é"])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="want keys as"):
        parse_keys(text)


def test_the_sequence_may_come_in_pieces() -> None:
    keys = Keys("ctrl-p,ctrl-q")
    assert keys.filter(b"ab\x10") == (b"ab", False)
    assert keys.holding
    assert keys.filter(b"c") == (b"\x10c", False)
    assert not keys.holding
    assert keys.filter(b"\x10\x10") == (b"\x10", False)
    assert keys.filter(b"\x11rest") == (b"", True)


@given(st.lists(st.binary(max_size=6), max_size=8))
def test_nothing_is_lost_without_the_sequence(pieces: list[bytes]) -> None:
    keys, out = Keys("x,y"), b""
    whole = b"".join(pieces)
    for piece in pieces:
        data, detached = keys.filter(piece)
        out += data
        if detached:
            assert whole.startswith(out + b"xy")
            return
    assert b"xy" not in whole
    assert out + (b"x" if keys.holding else b"") == whole
