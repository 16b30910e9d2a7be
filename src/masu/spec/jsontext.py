"""JSON text to values and back, over the C scanner and encoder of `_json` alone.

The `json` module imports `re`, which costs a cold start more than the parsing does; its C half needs neither. The
rules are those of Go's encoding/json, with which nearly all of this JSON is made: the last of two equal names
wins, unpaired surrogates become U+FFFD. Stricter: nothing but white space may follow the value, the text is UTF-8,
NaN and Infinity and numbers out of range are refused, size and depth are bounded.
"""

from __future__ import annotations

import _json

from masu.errors import InvalidArgument, ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MAX_BYTES = 16 << 20
MAX_DEPTH = 128

_SPACE = " \t\n\r"


class _Refused(ValueError):
    """A literal that is not JSON, or a number out of range."""


def _refuse_constant(text: str) -> NoReturn:
    raise _Refused(f"{text} is not a JSON value")


def _read_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Refused(f"number {text[:40]} out of range")
    return value


class _Context:
    # The attributes that _json.make_scanner reads.
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_read_float)
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)


_scan = _json.make_scanner(_Context)  # type: ignore[arg-type]


def loads(text: str | bytes, *, name: str = "", max_bytes: int = MAX_BYTES) -> object:
    """The value of a JSON text. `name` (a file name, a digest) is the `where` of errors.

    Raises InvalidArgument with line and column, ResourceExhausted above `max_bytes`.
    """
    if len(text) > max_bytes:
        raise ResourceExhausted("JSON text", where=name, detail=f"{len(text)} bytes, allowed are {max_bytes}")
    if isinstance(text, bytes):
        text = _decode(text, name)
    start = len(text) - len(text.lstrip(_SPACE))
    try:
        value, end = _scan(text, start)
    except RecursionError:
        raise _too_deep(name) from None
    except (StopIteration, ValueError, SystemError) as e:
        raise _explain(e, text, start, name) from None
    rest = len(text) - len(text[end:].lstrip(_SPACE))
    if rest != len(text):
        raise _error(text, rest, "only white space may follow the value", name)
    # Brackets inside strings count too: this is a bound that spares nearly every text the walk.
    if text.count("[") + text.count("{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise _too_deep(name)
    if "\\ud" in text or "\\uD" in text or not _encodable(text):
        return _without_surrogates(value)
    return value


def _decode(text: bytes, name: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as e:
        before = text[: e.start].decode("utf-8", "replace")
        raise _error(before, len(before), f"byte 0x{text[e.start]:02x} is not UTF-8", name) from None


def _explain(error: Exception, text: str, start: int, name: str) -> InvalidArgument:
    if isinstance(error, SystemError):
        # The C scanner reports through json.JSONDecodeError, but only when that module is loaded already
        # (CPython 3.11, raise_errmsg): it is, from here on, and the second scan says where.
        import json.decoder  # noqa: F401

        try:
            _scan(text, start)
        except (StopIteration, ValueError) as e:
            error = e
    if isinstance(error, StopIteration):
        position = error.value if isinstance(error.value, int) else start
        if position >= len(text):
            return _error(text, len(text), "unexpected end", name)
        return _error(text, position, _after_comma(text, position) or "a value is wanted", name)
    if isinstance(error, _Refused):
        return _error(text, -1, str(error), name)
    # Without position: int() refused too many digits.
    message = getattr(error, "msg", "number too long")
    position = getattr(error, "pos", -1)
    message = _after_comma(text, position) or message.removesuffix(" starting at")
    return _error(text, position, message[:1].lower() + message[1:], name)


def _after_comma(text: str, position: int) -> str:
    """What is wrong at `position` when a bracket closes there behind a comma."""
    closes = 0 <= position < len(text) and text[position] in "]}"
    return "a comma too many before it" if closes and text[:position].rstrip(_SPACE)[-1:] == "," else ""


def dumps(value: object, *, indent: int | str | None = None) -> str:
    """JSON text with names in insertion order: compact, or over several lines as json.MarshalIndent prints.

    `indent` is a number of spaces or the indentation itself ("\\t"). Raises InvalidArgument for what JSON in UTF-8
    cannot hold (NaN, bytes of a path that are not UTF-8), TypeError for what is no JSON type.
    """
    try:
        if indent is None:
            text = "".join(_encode(value, 0))
        else:
            parts: list[str] = []
            _indented(value, "\n", " " * indent if isinstance(indent, int) else indent, parts.append)
            text = "".join(parts)
    except RecursionError:
        raise InvalidArgument("value", detail="nested too deeply for JSON") from None
    except ValueError as e:
        raise InvalidArgument("value", detail=f"not to be written as JSON: {e}") from None
    if not _encodable(text):
        raise InvalidArgument("value", detail="a string holds bytes that are not UTF-8, which JSON cannot say")
    return text


def _default(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} is no JSON type")


_encode = _json.make_encoder(None, _default, _json.encode_basestring, None, ":", ",", False, False, False)


def _indented(value: object, newline: str, step: str, put: _Put) -> None:
    if isinstance(value, dict):
        if not value:
            put("{}")
            return
        inner = newline + step
        lead = "{" + inner
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError("names must be strings")
            put(lead + _json.encode_basestring(key) + ": ")
            _indented(item, inner, step, put)
            lead = "," + inner
        put(newline + "}")
    elif isinstance(value, list | tuple):
        if not value:
            put("[]")
            return
        inner = newline + step
        lead = "[" + inner
        for item in value:
            put(lead)
            _indented(item, inner, step, put)
            lead = "," + inner
        put(newline + "]")
    elif isinstance(value, str):
        put(_json.encode_basestring(value))
    else:
        put("".join(_encode(value, 0)))


def _too_deep(name: str) -> InvalidArgument:
    return InvalidArgument("JSON", where=name, detail=f"nested deeper than {MAX_DEPTH} levels")


def _error(text: str, position: int, message: str, name: str) -> InvalidArgument:
    if position < 0:
        return InvalidArgument("JSON", where=name, detail=message)
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    seen = text[position : position + 16].split("\n", 1)[0]
    if seen and seen[0] == "\ufeff":
        message = "the text begins with a byte order mark"
    elif seen:
        message += f", seen {seen if seen.isprintable() else ascii(seen)}"
    return InvalidArgument("JSON", where=name, detail=f"line {line}, column {column}: {message}")


def _deeper_than(value: object, limit: int) -> bool:
    # By levels, not by recursion.
    level = [value]
    for _ in range(limit):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = [item for item in below if item.__class__ is dict or item.__class__ is list]
        if not level:
            return False
    return True


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value if _encodable(value) else "".join(["\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value])
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


if TYPE_CHECKING:
    from collections.abc import Callable

    _Put = Callable[[str], object]
