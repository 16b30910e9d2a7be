"""D-Bus values as bytes and back (D-Bus Specification, "Marshaling" and "Type System").

What a signature says is what Python gets: integers, float, bool and str for the basic types, bytes for `ay`, a list
for any other array, a dict for a{..}, a tuple for a struct, a `Variant` for v. Bytes from outside are read with a bound
on everything: they come from another process.
"""

from __future__ import annotations

from _struct import error as StructError  # type: ignore[attr-defined]
from _struct import pack, unpack_from

from masu.errors import DataLoss, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    T = TypeVar("T")

SIGNATURE_MAX = 255
DEPTH_MAX = 32  # of arrays, and of structs, each; we count both, and variants, together
ARRAY_MAX = 1 << 26

_FIXED = {
    "y": ("B", 1), "n": ("h", 2), "q": ("H", 2), "i": ("i", 4), "u": ("I", 4), "x": ("q", 8), "t": ("Q", 8),
    "d": ("d", 8), "b": ("I", 4), "h": ("I", 4),
}  # fmt: skip
_ALIGN = {**{code: size for code, (_, size) in _FIXED.items()}, "s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8, "{": 8}
BASIC = frozenset("ynqiuxtdbhsog")


class Variant:
    """A value that carries its type: `Variant("t", 5)`."""

    __slots__ = ("signature", "value")

    def __init__(self, signature: str, value: object) -> None:
        self.signature = signature
        self.value = value

    def __repr__(self) -> str:
        return f"Variant({self.signature!r}, {self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Variant) and (self.signature, self.value) == (other.signature, other.value)

    __hash__ = None  # type: ignore[assignment]


def split(signature: str) -> list[str]:
    """The complete types of a signature. Raises InvalidArgument for what is none."""
    if len(signature) > SIGNATURE_MAX:
        raise _bad(signature, f"longer than {SIGNATURE_MAX}")
    types: list[str] = []
    position = 0
    while position < len(signature):
        end = _type_end(signature, position, 0)
        types.append(signature[position:end])
        position = end
    return types


def _type_end(signature: str, position: int, depth: int) -> int:
    """Where the complete type that begins at `position` ends."""
    code = signature[position : position + 1]
    if depth > DEPTH_MAX:
        raise _bad(signature, f"nested deeper than {DEPTH_MAX}")
    if code == "v" or (code and code in BASIC):
        return position + 1
    if code == "a":
        if signature[position + 1 : position + 2] != "{":
            return _type_end(signature, position + 1, depth + 1)
        key = signature[position + 2 : position + 3]
        end = _type_end(signature, position + 3, depth + 1) if key and key in BASIC else 0
        if not end or signature[end : end + 1] != "}":
            raise _bad(signature, "a dict entry is {, a basic type, one type and }")
        return end + 1
    if code == "(":
        position += 1
        while signature[position : position + 1] != ")":
            position = _type_end(signature, position, depth + 1)
        if signature[position - 1] == "(":
            raise _bad(signature, "an empty struct")
        return position + 1
    raise _bad(signature, f"unknown type {code!r}" if code else "a type is missing")


def _bad(signature: str, detail: str) -> InvalidArgument:
    return InvalidArgument("D-Bus signature", signature[:SIGNATURE_MAX], detail=detail)


class Writer:
    """Values one after another, little-endian, each at its alignment from the beginning."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        self.data = bytearray()

    def pad(self, alignment: int) -> None:
        self.data += bytes(-len(self.data) % alignment)

    def write(self, signature: str, values: Sequence[object]) -> None:
        """Raises InvalidArgument where a value is not of its type or out of its range."""
        types = split(signature)
        if len(types) != len(values):
            raise InvalidArgument("D-Bus values", detail=f"{len(values)} for the signature {signature!r}")
        for kind, value in zip(types, values, strict=True):
            try:
                self._put(kind, value)
            except (StructError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as e:
                raise InvalidArgument("D-Bus value", repr(value)[:100], detail=f"not of type {kind!r}: {e}") from e

    def _put(self, kind: str, value: object) -> None:
        code = kind[0]
        self.pad(_ALIGN[code])
        if code in _FIXED:
            if code == "b":
                value = bool(value)
            self.data += pack("<" + _FIXED[code][0], value)
        elif code in "so":
            text = _encoded(value)
            self.data += pack("<I", len(text)) + text + b"\0"
        elif code == "g":
            signature = _is(value, str)
            split(signature)
            self.data += pack("<B", len(signature)) + signature.encode("ascii") + b"\0"
        elif code == "v":
            variant = _is(value, Variant)
            if len(split(variant.signature)) != 1:
                raise ValueError(f"a variant of signature {variant.signature!r}")
            self._put("g", variant.signature)
            self._put(variant.signature, variant.value)
        elif code == "a":
            self._put_array(kind[1:], value)
        else:
            self.write(kind[1:-1], _is(value, tuple))

    def _put_array(self, element: str, value: object) -> None:
        start = len(self.data)
        self.data += bytes(4)
        # The padding before the first element is there without elements, too, and is not counted.
        self.pad(_ALIGN[element[0]])
        first = len(self.data)
        if element == "y":
            self.data += _is(value, bytes)
        elif element[0] == "{":
            for pair in _is(value, dict).items():
                self.pad(8)
                self.write(element[1:-1], pair)
        else:
            for item in _is(value, list):
                self._put(element, item)
        size = len(self.data) - first
        if size > ARRAY_MAX:
            raise ValueError(f"an array of {size} bytes")
        self.data[start : start + 4] = pack("<I", size)


def _is(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{kind.__name__} wanted")
    return value


def _encoded(value: object) -> bytes:
    text = _is(value, str).encode()
    if b"\0" in text:
        raise ValueError("a string with NUL")
    return text


def marshal(signature: str, values: Sequence[object]) -> bytes:
    """The bytes of a message's body. Raises InvalidArgument."""
    writer = Writer()
    writer.write(signature, values)
    return bytes(writer.data)


class Reader:
    """Reads values in the same way; every method raises DataLoss for bytes that are not what they should be."""

    __slots__ = ("_order", "data", "position")

    def __init__(self, data: bytes, *, little: bool = True, position: int = 0) -> None:
        self.data = data
        self.position = position
        self._order = "<" if little else ">"

    def align(self, alignment: int) -> None:
        end = self.position + -self.position % alignment
        if end > len(self.data) or any(self.data[self.position : end]):
            raise _broken("padding is missing or not zero")
        self.position = end

    def read(self, signature: str, depth: int = 0) -> tuple[object, ...]:
        return tuple([self._get(kind, depth) for kind in _types(signature)])

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise _broken(f"{size} bytes wanted, {len(self.data) - self.position} left")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def _number(self, code: str) -> int | float:
        form, size = _FIXED[code]
        self.align(size)
        value: int | float = unpack_from(self._order + form, self._take(size))[0]
        return value

    def _get(self, kind: str, depth: int) -> object:
        code = kind[0]
        if depth > DEPTH_MAX:
            raise _broken(f"nested deeper than {DEPTH_MAX}")
        if code in _FIXED:
            value = self._number(code)
            if code == "b":
                if value not in (0, 1):
                    raise _broken(f"a boolean of {value}")
                return value == 1
            return value
        if code in "so":
            return self._text(int(self._number("u")), "utf-8")
        if code == "g":
            return self._text(self._take(1)[0], "ascii")
        if code == "v":
            signature = self._text(self._take(1)[0], "ascii")
            types = _types(signature)
            if len(types) != 1:
                raise _broken(f"a variant of signature {signature!r}")
            return Variant(signature, self._get(signature, depth + 1))
        self.align(_ALIGN[code])
        if code == "a":
            return self._array(kind[1:], depth + 1)
        return self.read(kind[1:-1], depth + 1)

    def _text(self, size: int, encoding: str) -> str:
        text = self._take(size)
        if self._take(1) != b"\0" or b"\0" in text:
            raise _broken("a string that does not end with its only NUL")
        try:
            return text.decode(encoding)
        except UnicodeDecodeError as e:
            raise _broken(f"a string that is not {encoding}") from e

    def _array(self, element: str, depth: int) -> object:
        size = int(self._number("u"))
        self.align(_ALIGN[element[0]])
        end = self.position + size
        if size > ARRAY_MAX or end > len(self.data):
            raise _broken(f"an array of {size} bytes, {len(self.data) - self.position} left")
        if element == "y":
            return self._take(size)
        found: list[object] = []
        pairs: dict[object, object] = {}
        while self.position < end:
            if element[0] == "{":
                self.align(8)
                key, value = self.read(element[1:-1], depth)
                pairs[key] = value
            else:
                found.append(self._get(element, depth))
        if self.position != end:
            raise _broken("an element reaches over the end of its array")
        return pairs if element[0] == "{" else found


def _types(signature: str) -> list[str]:
    try:
        return split(signature)
    except InvalidArgument as e:
        raise _broken(f"signature {signature!r}: {e.detail}") from e


def _broken(detail: str) -> DataLoss:
    return DataLoss("D-Bus message", detail=detail)
