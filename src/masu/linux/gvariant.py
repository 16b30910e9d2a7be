"""GVariant's text format, as values of unit properties are written in annotations (`uint64 5`, `'yes'`, `[1, 2]`).

    value     -> [type] plain         type is a keyword (uint64, string, …) or @ and a D-Bus signature
    plain     -> number | 'string' | b'bytes' | true | false | [value, …] | {key: value, …} | (value, …) | <value>

Without a type a number is an int32, or a double when it has a point or an exponent; a collection takes the type of its
elements, which must agree. "Maybe" types are none of D-Bus. https://docs.gtk.org/glib/gvariant-text-format.html
"""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.linux.dbus_values import BASIC, DEPTH_MAX, Variant, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # (kind of plain value, its content); kinds as in the grammar above, and "typed".
    Node = tuple[str, Any]

TEXT_MAX = 1 << 16

KEYWORDS = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t",
    "double": "d", "string": "s", "objectpath": "o", "signature": "g", "handle": "h",
}  # fmt: skip
_RANGES = {
    "y": (0, 1 << 8), "n": (-1 << 15, 1 << 15), "q": (0, 1 << 16), "i": (-1 << 31, 1 << 31), "u": (0, 1 << 32),
    "x": (-1 << 63, 1 << 63), "t": (0, 1 << 64), "h": (-1 << 31, 1 << 31),
}  # fmt: skip
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\n": ""}
_WORD_END = frozenset(" \t\r\n,:[](){}<>'\"")


def parse(text: str) -> Variant:
    """The value of a text, with its type. Raises InvalidArgument; `detail` says what is wrong, and where."""
    if len(text) > TEXT_MAX:
        raise InvalidArgument("GVariant text", text[:40], detail=f"longer than {TEXT_MAX}")
    try:
        parser = _Parser(text)
        node = parser.value(0)
        parser.end()
        signature = _type_of(node)
        return Variant(signature, _value(node, signature))
    except ValueError as e:
        raise InvalidArgument("GVariant text", text[:200], detail=str(e)) from None


class _Parser:
    """From text to nodes; raises ValueError."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise ValueError(f"{character!r} is wanted at {self._place()}")
        self.position += 1

    def end(self) -> None:
        if self.peek():
            raise ValueError(f"the value ends before {self._place()}")

    def _place(self) -> str:
        rest = self.text[self.position : self.position + 20]
        return f"character {self.position + 1}, {rest!r}" if rest else "the end"

    def value(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise ValueError(f"nested deeper than {DEPTH_MAX}")
        first = self.peek()
        if first == "@":
            signature = self._signature()
            return "typed", (signature, self.value(depth + 1))
        if first in ("'", '"'):
            return "string", self._string()
        if first == "b" and self.text[self.position + 1 : self.position + 2] in ("'", '"'):
            self.position += 1
            return "bytes", self._string()
        if first == "[":
            return "array", self._listed("]", depth)
        if first == "(":
            return "tuple", self._listed(")", depth)
        if first == "{":
            return "dict", self._pairs(depth)
        if first == "<":
            self.position += 1
            inner = self.value(depth + 1)
            self.expect(">")
            return "variant", inner
        return self._word(depth)

    def _word(self, depth: int) -> Node:
        start = self.position
        while (c := self.text[self.position : self.position + 1]) and c not in _WORD_END:
            self.position += 1
        word = self.text[start : self.position]
        if word in ("true", "false"):
            return "boolean", word == "true"
        if word in KEYWORDS:
            return "typed", (KEYWORDS[word], self.value(depth + 1))
        if word and (word[0].isdecimal() or word[0] in "+-.") and word.isascii():
            return "number", word
        self.position = start
        raise ValueError(f"a value is wanted at {self._place()}")

    def _signature(self) -> str:
        start = self.position = self.position + 1
        while (c := self.text[self.position : self.position + 1]) and not c.isspace():
            self.position += 1
        signature = self.text[start : self.position]
        try:
            if len(split(signature)) == 1:
                return signature
            detail = "one complete type is wanted"
        except InvalidArgument as e:
            detail = e.detail
        raise ValueError(f"type @{signature}: {detail}")

    def _listed(self, closing: str, depth: int) -> list[Node]:
        self.position += 1
        found: list[Node] = []
        while self.peek() != closing:
            if found:
                self.expect(",")
                if closing == ")" and self.peek() == ")":
                    break  # (1,) is a tuple of one
            found.append(self.value(depth + 1))
        self.position += 1
        if closing == ")" and not found:
            raise ValueError("an empty tuple is no type of D-Bus")
        return found

    def _pairs(self, depth: int) -> list[tuple[Node, Node]]:
        self.position += 1
        found: list[tuple[Node, Node]] = []
        while self.peek() != "}":
            if found:
                self.expect(",")
            key = self.value(depth + 1)
            self.expect(":")
            found.append((key, self.value(depth + 1)))
        self.position += 1
        return found

    def _string(self) -> str:
        quote = self.text[self.position]
        self.position += 1
        parts: list[str] = []
        while True:
            c = self.text[self.position : self.position + 1]
            self.position += 1
            if not c:
                raise ValueError("a string does not end")
            if c == quote:
                return "".join(parts)
            parts.append(self._escape() if c == "\\" else c)

    def _escape(self) -> str:
        c = self.text[self.position : self.position + 1]
        self.position += 1
        digits = {"u": 4, "U": 8}.get(c, 0)
        if digits:
            code = self.text[self.position : self.position + digits]
            self.position += digits
            if len(code) < digits or not all(each in "0123456789abcdefABCDEF" for each in code):
                raise ValueError(f"\\{c} is followed by {digits} hexadecimal digits")
            if int(code, 16) > 0x10FFFF:
                raise ValueError(f"\\{c}{code} is no character")  # from 1 << 31 on chr() has another error
            return chr(int(code, 16))
        octal = self.text[self.position - 1 : self.position + 2]
        if len(octal) == 3 and all(each in "01234567" for each in octal):
            self.position += 2
            return chr(int(octal, 8))
        return _ESCAPES.get(c, c)


def _type_of(node: Node) -> str:
    """The type of a value that nothing around it says. Raises ValueError."""
    kind, content = node
    if kind == "typed":
        signature: str = content[0]
        return signature
    if kind == "number":
        is_float = not content.lower().lstrip("+-").startswith("0x") and any(c in content for c in ".eE")
        return "d" if is_float else "i"
    if kind in ("string", "boolean", "bytes", "variant"):
        return {"string": "s", "boolean": "b", "bytes": "ay", "variant": "v"}[kind]
    if kind == "tuple":
        return "(" + "".join(_type_of(each) for each in content) + ")"
    if not content:
        raise ValueError("an empty array or dictionary needs a type, like @as []")
    if kind == "array":
        return "a" + _common(content)
    return "a{" + _common([key for key, _ in content]) + _common([value for _, value in content]) + "}"


def _common(nodes: list[Node]) -> str:
    """The type of elements that all have the same: one that is told, or a double among numbers, decides for all."""
    told = {_type_of(node) for node in nodes if node[0] == "typed"}
    types = told or {_type_of(node) for node in nodes}
    if types == {"i", "d"}:
        return "d"
    if len(types) > 1:
        raise ValueError(f"elements of different types: {', '.join(sorted(types))}")
    return types.pop()


def _value(node: Node, signature: str) -> object:
    """What D-Bus gets for a node that is to be of that type. Raises ValueError."""
    kind, content = node
    if kind == "typed":
        if content[0] != signature:
            raise ValueError(f"a value of type {content[0]} where {signature} is wanted")
        return _value(content[1], signature)
    if kind == "number":
        return _number(content, signature)
    if kind == "string" and signature in ("s", "o", "g"):
        return _text(content, signature)
    if kind == "boolean" and signature == "b":
        return content
    if kind == "bytes" and signature == "ay":
        return _bytes(content) + b"\0"  # a bytestring has its NUL
    if kind == "array" and signature[0] == "a" and signature[1:2] != "{":
        items = [_value(each, signature[1:]) for each in content]
        return bytes(items) if signature == "ay" else items  # type: ignore[arg-type]
    if kind == "dict" and signature[:2] == "a{":
        key, value = signature[2], signature[3:-1]
        if key not in BASIC:
            raise ValueError(f"a key of type {key}")
        return {_value(k, key): _value(v, value) for k, v in content}
    if kind == "tuple" and signature[0] == "(":
        types = split(signature[1:-1])
        if len(types) == len(content):
            return tuple([_value(each, each_type) for each, each_type in zip(content, types, strict=True)])
    if kind == "variant" and signature == "v":
        inner = _type_of(content)
        return Variant(inner, _value(content, inner))
    raise ValueError(f"a {kind} where type {signature} is wanted")


def _number(text: str, signature: str) -> int | float:
    if "_" in text:
        raise ValueError(f"{text!r} is no number")
    if signature == "d":
        return float(text)
    if signature not in _RANGES:
        raise ValueError(f"a number where type {signature} is wanted")
    digits = text.lstrip("+-")
    try:
        # As GVariant and C have it: 0x is hexadecimal, a leading 0 octal.
        value = int(digits, 16 if digits[:2] in ("0x", "0X") else 8 if digits[:1] == "0" else 10)
    except ValueError:
        raise ValueError(f"{text!r} is no integer") from None
    value = -value if text.startswith("-") else value
    low, high = _RANGES[signature]
    if not low <= value < high or len(text) - len(digits) > 1:
        raise ValueError(f"{text} is out of range for type {signature}")
    return value


def _text(text: str, signature: str) -> str:
    if "\0" in text:
        raise ValueError("a string with NUL")
    if signature == "g":
        try:
            split(text)
        except InvalidArgument as e:
            raise ValueError(f"signature {text!r}: {e.detail}") from None
    if signature == "o" and (
        not text.startswith("/")
        or (text != "/" and text.endswith("/"))
        or "//" in text
        or not all(c.isascii() and (c.isalnum() or c in "_/") for c in text)
    ):
        raise ValueError(f"{text!r} is no object path")
    text.encode()  # a lone surrogate: UnicodeEncodeError is a ValueError
    return text


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError("a bytestring holds bytes: write others as \\ and three octal digits") from None
