"""protobuf's wire format for messages that are known by a table: the classes in `small.py`, made by tools/protoc.

For processes that live beside containers and start with each of them. The protobuf package costs a shim 6.6 MB of
memory of its own and 25 ms at its start (the whole interpreter: 2.8 MB and 13 ms); this file and the tables 1.1 MB
and 3 ms. tests/unit/test_proto_wire.py compares what both make of the same messages.

A message is a run of fields, each a key (number << 3 | wire type) and a value (protobuf.dev, "Encoding"). Fields that
the table does not name are skipped: a newer partner may send them.
"""

from __future__ import annotations

from _struct import pack, unpack_from

from masu.errors import DataLoss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, TypeAlias

# Kinds of values. What is below _FLOAT is a varint.
BOOL, ENUM, INT32, INT64, UINT32, UINT64, FLOAT, DOUBLE, STRING, BYTES, MESSAGE = range(11)
# How a field holds them.
ONE, MANY, MAP = range(3)

if TYPE_CHECKING:
    # name, kind, how many; the class of a message, of a map's entries.
    Field: TypeAlias = tuple[str, int, int, "type[Message] | None"]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = (*(_VARINT,) * 6, _FIXED32, _FIXED64, _LENGTH, _LENGTH, _LENGTH)
_EMPTY = (False, 0, 0, 0, 0, 0, 0.0, 0.0, "", b"", None)
_SIGNED = (ENUM, INT32, INT64)
_BITS = {BOOL: 64, ENUM: 32, INT32: 32, INT64: 64, UINT32: 32, UINT64: 64}


class Message:
    """A message's fields as attributes: empty values when they are not given; a message in a message is None then."""

    __slots__ = ()
    FIELDS: ClassVar[dict[int, Field]] = {}

    def __init__(self, **values: object) -> None:
        for name, kind, many, _ in self.FIELDS.values():
            value = values.pop(name, None)
            if value is None:
                value = _EMPTY[kind] if many == ONE else [] if many == MANY else {}
            setattr(self, name, value)
        if values:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(values)}")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises DataLoss for what is no such message."""
        message = cls()
        try:
            _decode(message, data)
        except (IndexError, UnicodeDecodeError, ValueError) as error:
            raise DataLoss("message", cls.__name__, detail=str(error) or "cut short") from error
        return message

    def encode(self) -> bytes:
        out = bytearray()
        for number, (name, kind, many, inner) in self.FIELDS.items():
            value = getattr(self, name)
            if many == MAP:
                assert inner is not None
                value = [inner(key=key, value=item) for key, item in value.items()]
            elif many == ONE:
                if value is None or (kind != MESSAGE and not value):
                    continue
                value = (value,)
            elif kind <= DOUBLE:
                if value:
                    packed = b"".join(_encoded(kind, item) for item in value)
                    out += _varint(number << 3 | _LENGTH) + _varint(len(packed)) + packed
                continue
            key = _varint(number << 3 | _WIRE_TYPES[kind])
            for item in value:
                out += key + _encoded(kind, item)
        return bytes(out)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(
            getattr(self, name) == getattr(other, name) for name, *_ in self.FIELDS.values()
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        filled = {name: getattr(self, name) for name, *_ in self.FIELDS.values()}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in filled.items() if value)})"


def _encoded(kind: int, value: Any) -> bytes:
    if kind < FLOAT:
        return _varint(int(value) & 0xFFFFFFFFFFFFFFFF)
    if kind <= DOUBLE:
        return bytes(pack("<f" if kind == FLOAT else "<d", value))
    data: bytes = value if kind == BYTES else value.encode()
    return _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _decode(message: Message, data: bytes) -> None:
    at, end = 0, len(data)
    while at < end:
        key, at = _read_varint(data, at)
        if not 1 <= key >> 3 < 1 << 29:
            raise ValueError(f"no field has the number {key >> 3}")
        wire_type = key & 7
        if wire_type == _VARINT:
            raw, at = _read_varint(data, at)
            piece = b""
        else:
            if wire_type == _LENGTH:
                length, at = _read_varint(data, at)
            else:
                length = {_FIXED64: 8, _FIXED32: 4}.get(wire_type, -1)
            if length < 0 or length > end - at:
                raise ValueError(f"field {key >> 3} is cut short" if length >= 0 else f"wire type {wire_type}")
            raw, piece = 0, data[at : at + length]
            at += length
        if (field := message.FIELDS.get(key >> 3)) is not None:
            _take(message, field, wire_type, raw, piece)


def _take(message: Message, field: Field, wire_type: int, raw: int, piece: bytes) -> None:
    name, kind, many, inner = field
    if wire_type != _WIRE_TYPES[kind]:
        if many == MANY and wire_type == _LENGTH and kind <= DOUBLE:
            getattr(message, name).extend(_unpacked(kind, piece))
        return  # another type than ours: as a field that we do not know
    if kind == MESSAGE:
        assert inner is not None
        if many == ONE and (present := getattr(message, name)) is not None:
            _decode(present, piece)  # told in two parts, which belong together
            return
        value: Any = inner()
        _decode(value, piece)
        if many == MAP:
            if value.value is None:
                value.value = inner.FIELDS[2][3]()  # type: ignore[misc]
            getattr(message, name)[value.key] = value.value
            return
    else:
        value = _number(kind, raw) if wire_type == _VARINT else _decoded(kind, piece)
    if many == MANY:
        getattr(message, name).append(value)
    else:
        setattr(message, name, value)


def _number(kind: int, raw: int) -> int:
    if kind == BOOL:
        return raw != 0
    bits = _BITS[kind]
    raw &= (1 << bits) - 1
    return raw - (1 << bits) if kind in _SIGNED and raw >> bits - 1 else raw


def _decoded(kind: int, piece: bytes) -> object:
    if kind == STRING:
        return piece.decode()
    if kind == BYTES:
        return piece
    return unpack_from("<f" if kind == FLOAT else "<d", piece)[0]


def _unpacked(kind: int, piece: bytes) -> list[object]:
    if kind >= FLOAT:
        size = 4 if kind == FLOAT else 8
        if len(piece) % size:
            raise ValueError("packed numbers are cut short")
        return [_decoded(kind, piece[at : at + size]) for at in range(0, len(piece), size)]
    found: list[object] = []
    at = 0
    while at < len(piece):
        raw, at = _read_varint(piece, at)
        found.append(_number(kind, raw))
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift >= 70:
            raise ValueError("a number of more than 64 bits")
