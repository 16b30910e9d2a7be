"""protobuf's wire format: what is encoded comes back, and no bytes do anything but that or a DataLoss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from masu.errors import DataLoss
from masu.runtime.criu import rpc
from masu.runtime.criu.wire import Message, encode


def test_by_the_book() -> None:
    # protobuf.dev, "Encoding": field 1 = 150; field 2 = "testing"; -2 as an int32 takes ten bytes.
    assert encode([(1, 150)]) == bytes.fromhex("089601")
    assert encode([(2, "testing")]) == bytes.fromhex("120774657374696e67")
    assert encode([(1, -2)]) == bytes.fromhex("08feffffffffffffffff01")
    assert encode([(3, encode([(1, 150)]))]) == bytes.fromhex("1a03089601")


def test_options_are_by_name() -> None:
    options = rpc.Options(pid=7, leave_running=True)
    options.add("inherit_fd", "pipe:[1]", 0)
    # criu_opts: pid = 2, leave_running = 3, inherit_fd = 27 {key = 1, fd = 2}.
    assert options.encode() == encode([(2, 7), (3, 1), (27, encode([(1, "pipe:[1]"), (2, 0)]))])
    with pytest.raises(KeyError):
        rpc.Options(no_such_option=True)


@given(some.integers(1, 1 << 28), some.integers(-(1 << 63), (1 << 63) - 1))
def test_numbers_come_back(field: int, value: int) -> None:
    assert Message(encode([(field, value)])).number(field) == value


@given(some.text())
def test_texts_come_back(value: str) -> None:
    message = Message(encode([(9, encode([(5, value)]))])).message(9)
    assert message is not None
    assert message.text(5) == value


def test_what_is_not_there() -> None:
    message = Message(b"")
    assert (message.number(1), message.text(2), message.message(3)) == (0, "", None)


@given(some.binary(max_size=64))
def test_any_bytes(data: bytes) -> None:
    try:
        message = Message(data)
        message.number(1)
        message.text(2)
    except DataLoss:
        pass


@pytest.mark.parametrize(
    "data", ["08", "0880", "0affffff7f", "0a05ff", "0b", "08" + "ff" * 10 + "01", "0d0000", "0801" * 5000]
)
def test_no_message(data: str) -> None:
    with pytest.raises(DataLoss):
        Message(bytes.fromhex(data))
