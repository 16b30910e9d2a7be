"""The plan's wire format and its C header."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from masu.errors import InvalidArgument, ResourceExhausted
from masu.plan import describe, header
from masu.plan.encode import encode
from masu.plan.ops import MAX_OPERATIONS, TABLE, Op

HEADER = Path(__file__).parents[2] / "native" / "launch" / "ops.h"


def test_header_is_the_table() -> None:
    assert HEADER.read_text() == header.render(), "python -m masu.plan.header > native/launch/ops.h"


def test_codes_are_unique() -> None:
    assert len({code for code, _, _ in TABLE.values()}) == len(TABLE)


def test_bytes() -> None:
    data = encode([Op("open", slot=1, path="/x", flags=2), Op("exec", args=("a", ""), env=())])
    assert data[:8] == b"masuplan"
    assert struct.unpack("<IIII", data[8:24]) == (1, 2, len(data), 0)
    first = struct.pack("<HHI", 3, 3, 31) + struct.pack("<IQ", 8, 1) + struct.pack("<I", 3) + b"/x\0"
    assert data[24 : 24 + len(first)] == first
    assert data.endswith(
        struct.pack("<III", 15, 2, 2) + b"a\0" + struct.pack("<I", 1) + b"\0" + struct.pack("<II", 4, 0)
    )


def test_nul_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidArgument) as caught:
        encode([Op("hostname", "hostname", name="a\0b")])
    assert caught.value.where == "hostname"


def test_missing_field_is_a_bug() -> None:
    with pytest.raises(TypeError):
        encode([Op("open", slot=1)])


def test_too_many_operations() -> None:
    with pytest.raises(ResourceExhausted):
        encode([Op("setsid")] * (MAX_OPERATIONS + 1))


def test_bytes_that_are_no_text_survive() -> None:
    assert b"/\xff\0" in encode([Op("open", slot=0, path="/\udcff", flags=0)])


def test_every_operation_can_be_told() -> None:
    assert set(describe._WORDS) == set(TABLE)
