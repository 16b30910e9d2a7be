"""protobuf's wire format, as far as CRIU's RPC needs it: varints, strings, messages in messages.

A message is a run of fields, each a key (number << 3 | wire type) and a value; a repeated field comes several times
(protobuf.dev, "Encoding"). Own code since the `protobuf` package costs a cold start many times what these lines do.
"""

from __future__ import annotations

from masu.errors import DataLoss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Value = int | str | bytes

_VARINT = 0
_FIXED64 = 1
_LENGTH = 2
_FIXED32 = 5

_MAX_FIELDS = 4096


def encode(fields: Iterable[tuple[int, Value]]) -> bytes:
    """The message of these (number, value) pairs, in their order. Whole numbers and booleans become varints, a negative
    one that of its two's complement of 64 bits, as int32 wants it; bytes are a message already encoded."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3 | _VARINT) + _varint(value & 0xFFFFFFFFFFFFFFFF)
            continue
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        out += _varint(number << 3 | _LENGTH) + _varint(len(data)) + data
    return bytes(out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Message:
    """A decoded message. Fields that nobody asks for are no error: a newer partner may send them.

    Raises DataLoss for what is no message.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, int | bytes] = {}
        at = 0
        for _ in range(_MAX_FIELDS):
            if at == len(data):
                return
            key, at = _read_varint(data, at)
            value, at = _read_value(data, at, key & 7)
            self._fields[key >> 3] = value  # the last one counts
        raise DataLoss("protobuf message", detail=f"more than {_MAX_FIELDS} fields")

    def number(self, field: int, default: int = 0) -> int:
        """A varint as a signed number."""
        value = self._fields.get(field, default)
        if not isinstance(value, int):
            raise DataLoss("protobuf message", detail=f"field {field} is not a number")
        return value - (1 << 64) if value >> 63 else value

    def text(self, field: int) -> str:
        return self._bytes(field).decode("utf-8", "replace")

    def message(self, field: int) -> Message | None:
        return Message(self._bytes(field)) if field in self._fields else None

    def _bytes(self, field: int) -> bytes:
        value = self._fields.get(field, b"")
        if not isinstance(value, bytes):
            raise DataLoss("protobuf message", detail=f"field {field} has no length")
        return value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70 and at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise DataLoss("protobuf message", detail="it ends within a number" if shift < 70 else "a number beyond 64 bits")


def _read_value(data: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    if kind == _VARINT:
        return _read_varint(data, at)
    if kind == _LENGTH:
        length, at = _read_varint(data, at)
    elif kind in (_FIXED32, _FIXED64):
        length = 4 if kind == _FIXED32 else 8
    else:
        raise DataLoss("protobuf message", detail=f"wire type {kind}")
    if length > len(data) - at:
        raise DataLoss("protobuf message", detail=f"a field of {length} bytes, {len(data) - at} are left")
    return data[at : at + length], at + length
