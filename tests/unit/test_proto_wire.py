"""The messages of `small` beside those of the protobuf package: each reads what the other has written."""

from __future__ import annotations

import importlib
import string

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Large
from google.protobuf.symbol_database import Default
from hypothesis import given
from hypothesis import strategies as some

from masu.api.proto import small, small_metrics_v1, small_metrics_v2, wire
from masu.errors import DataLoss

for _name in (
    "ttrpc", "shim_task", "shim_sandbox", "shim_bootstrap", "runc_options", "linux_runc", "events_ttrpc", "event_types",
    "metrics_v1", "metrics_v2", "cri_sandbox", "runtime_options",
):  # fmt: skip
    importlib.import_module(f"masu.api.proto.{_name}_pb2")

_NAMES = {**small.NAMES, **small_metrics_v1.NAMES, **small_metrics_v2.NAMES}
_BITS = {wire.INT32: 31, wire.ENUM: 31, wire.INT64: 63, wire.UINT32: 32, wire.UINT64: 64}
_TEXT = some.text(string.printable + "äß漢\0", max_size=9)


def large(name: str) -> type[Large]:
    found: type[Large] = Default().GetSymbol(name)
    return found


def values(kind: int, inner: type[wire.Message] | None) -> some.SearchStrategy[object]:
    if kind == wire.MESSAGE:
        assert inner is not None
        return messages(inner)
    if kind in (wire.STRING, wire.BYTES):
        return _TEXT if kind == wire.STRING else some.binary(max_size=9)
    if kind == wire.BOOL:
        return some.booleans()
    if kind in (wire.FLOAT, wire.DOUBLE):
        return some.floats(allow_nan=False, width=32 if kind == wire.FLOAT else 64)
    bits = _BITS[kind]
    return some.integers(-(1 << bits) if kind in (wire.INT32, wire.INT64, wire.ENUM) else 0, (1 << bits) - 1)


def messages(kind: type[wire.Message]) -> some.SearchStrategy[wire.Message]:
    fields: dict[str, some.SearchStrategy[object]] = {}
    for name, value_kind, many, inner in kind.FIELDS.values():
        if many == wire.MAP:
            assert inner is not None
            parts = [values(part[1], part[3]) for part in inner.FIELDS.values()]
            fields[name] = some.dictionaries(parts[0], parts[1], max_size=3)
        else:
            one = values(value_kind, inner)
            fields[name] = some.none() | (some.lists(one, max_size=3) if many == wire.MANY else one)
    return some.builds(kind, **fields)


@given(some.data())
def test_each_reads_what_the_other_writes(data: some.DataObject) -> None:
    name = data.draw(some.sampled_from(sorted(_NAMES)))
    message = data.draw(messages(_NAMES[name]))
    theirs = large(name).FromString(message.encode())
    # The order of a map's entries and of presence aside, it is the same message: a third one agrees.
    assert _NAMES[name].decode(theirs.SerializeToString()) == message
    assert large(name).FromString(message.encode()) == theirs
    assert message.encode() == _NAMES[name].decode(message.encode()).encode()


@given(some.sampled_from(sorted(_NAMES)), some.binary(max_size=60))
def test_any_bytes(name: str, data: bytes) -> None:
    """Bytes that are no message are a DataLoss; what we take, they take."""
    try:
        message = _NAMES[name].decode(data)
    except DataLoss:
        return
    try:
        theirs = large(name).FromString(data)
    except DecodeError:
        return  # groups and other checks of what is unknown to both
    assert _NAMES[name].decode(theirs.SerializeToString(deterministic=True)) == message


def test_by_the_book() -> None:
    # protobuf.dev, "Encoding": field 1 = 150 is 08 96 01; a negative int32 takes ten bytes; "testing" in field 2.
    assert small.StartResponse(pid=150).encode() == bytes.fromhex("089601")
    assert small.Status(code=-2).encode() == bytes.fromhex("08feffffffffffffffff01")
    assert small.Status(message="testing").encode() == bytes.fromhex("120774657374696e67")


def test_a_message_told_in_two_parts() -> None:
    parts = [small.WaitResponse(exited_at=small.Timestamp(**{name: 7})).encode() for name in ("seconds", "nanos")]
    assert small.WaitResponse.decode(b"".join(parts)).exited_at == small.Timestamp(seconds=7, nanos=7)


@pytest.mark.parametrize("data", ["0a", "0a05", "08", "00", "0b", "0d0000", "0a01ff", "08ffffffffffffffffffff01"])
def test_no_message(data: str) -> None:
    with pytest.raises(DataLoss, match="message"):
        small.StateResponse.decode(bytes.fromhex(data))


def test_a_field_that_is_none() -> None:
    with pytest.raises(TypeError, match="no field ids"):
        small.StateRequest(ids="x")  # type: ignore[call-arg]
