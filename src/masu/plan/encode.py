"""Plans as bytes.

    header     8 bytes MAGIC, u32 VERSION, u32 count of operations, u32 total length, u32 zero
    operation  u16 code, u16 count of fields, u32 length of all its fields, then the fields
    field      u32 length, then that many bytes: u = u64; s = text and a NUL; b = raw;
               l = u32 count, then for each item u32 length, text and a NUL (the length counts the NUL)

Little-endian, no padding. masu-launch checks every length and type against the same table.
"""

from __future__ import annotations

from _struct import pack

from masu.errors import InvalidArgument, ResourceExhausted
from masu.plan.ops import MAGIC, MAX_OPERATIONS, MAX_PLAN_BYTES, TABLE, VERSION, Op

_FIELDS: dict[str, tuple[tuple[str, str], ...]] = {
    name: tuple((field.partition(":")[0], field.partition(":")[2]) for field in fields.split())
    for name, (_, _, fields) in TABLE.items()
}


def encode(ops: list[Op]) -> bytes:
    """The plan's bytes. Raises InvalidArgument for text with a NUL, ResourceExhausted for a plan too large."""
    if len(ops) > MAX_OPERATIONS:
        raise ResourceExhausted("plan", detail=f"{len(ops)} operations, at most {MAX_OPERATIONS} are allowed")
    body = b"".join([_encode_op(op) for op in ops])
    total = 24 + len(body)
    if total > MAX_PLAN_BYTES:
        raise ResourceExhausted("plan", detail=f"{total} bytes, at most {MAX_PLAN_BYTES} are allowed")
    return MAGIC + pack("<IIII", VERSION, len(ops), total, 0) + body


def _encode_op(op: Op) -> bytes:
    fields = _FIELDS[op.name]
    if len(op.fields) != len(fields):
        raise TypeError(f"operation {op.name} has fields {sorted(op.fields)}, wants {[name for name, _ in fields]}")
    parts = []
    for name, kind in fields:
        value = op.fields[name]
        if kind == "u":
            parts.append(pack("<IQ", 8, value))
            continue
        if kind == "s":
            assert isinstance(value, str)
            data = _text(value, op)
        elif kind == "b":
            assert isinstance(value, bytes)
            data = value
        else:
            assert isinstance(value, tuple)
            items = [_text(item, op) for item in value]
            data = pack("<I", len(items)) + b"".join([pack("<I", len(item)) + item for item in items])
        parts.append(pack("<I", len(data)) + data)
    body = b"".join(parts)
    return pack("<HHI", TABLE[op.name][0], len(fields), len(body)) + body


def _text(text: str, op: Op) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise InvalidArgument(op.name, repr(text), where=op.where, detail="a NUL byte cannot be passed to the kernel")
    return data + b"\0"
