"""What a format template can call: Go's built-in functions and Docker's, and how Go prints, compares and orders values.

Mistakes are TypeError, ValueError or IndexError with Go's words; `masu.cli.template` adds the place.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (list, tuple)):
        return "list"
    return {str: "string", int: "int", float: "float", dict: "map", type(None): "nil"}.get(type(value), "value")


def truth(value: object) -> bool:
    """Go's: false, 0, nil and empty strings, lists and maps are false."""
    return bool(value)


def show(value: object) -> str:
    """How Go prints a value: `true`, `[a b]`, `map[k:v]`, `<no value>`."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e21 else repr(value)
    return str(value)


def _json(value: object) -> str:
    from masu.spec import jsontext

    return jsontext.dumps(list(value) if isinstance(value, tuple) else value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"wrong type for value; expected string; got {kind(value)}")
    return value


def _join(values: object, separator: object) -> str:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"wrong type for value; expected list; got {kind(values)}")
    return _text(separator).join(show(value) for value in values)


def _title(value: object) -> str:
    out, start = [], True
    for c in _text(value):
        out.append(c.upper() if start else c)
        start = not (c.isalnum() or c in "_'")
    return "".join(out)


def _pad(value: object, before: object, after: object) -> str:
    if not isinstance(before, int) or not isinstance(after, int):
        raise TypeError("pad wants two integers")
    return _text(value) and " " * min(before, 4096) + _text(value) + " " * min(after, 4096)


def _truncate(value: object, length: object) -> str:
    if not isinstance(length, int):
        raise TypeError("truncate wants an integer")
    return _text(value)[: max(length, 0)]


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if value is None:
            raise ValueError("index of untyped nil")
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise TypeError(f"cannot index map with {kind(key)}")
            # Go gives the zero value; for the maps shown here (labels, ports) that is the empty string or nil
            value = value.get(key, "" if all(isinstance(v, str) for v in value.values()) else None)
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TypeError(f"cannot index {kind(value)} with {kind(key)}")
            if not 0 <= key < len(value):
                raise IndexError(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise TypeError(f"can't index item of type {kind(value)}")
    return value


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, (str, list, tuple)):
        raise TypeError(f"can't slice item of type {kind(value)}")
    low, high = 0, len(value)
    for index, bound in enumerate(bounds):
        if not isinstance(bound, int) or isinstance(bound, bool):
            raise TypeError(f"cannot index slice with {kind(bound)}")
        if not 0 <= bound <= len(value):
            raise IndexError(f"index out of range: {bound}")
        low, high = (bound, high) if index == 0 else (low, bound)
    if low > high:
        raise IndexError(f"invalid slice index: {low} > {high}")
    return value[low:high]


def _len(value: object) -> int:
    if not isinstance(value, (str, list, tuple, dict)):
        raise TypeError(f"len of type {kind(value)}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _equal(left: object, *rights: object) -> bool:
    return any(_same(left, right) for right in rights)


def _same(left: object, right: object) -> bool:
    numbers = (int, float)
    if left is None or right is None:
        return left is right
    if isinstance(left, bool) != isinstance(right, bool) or (
        type(left) is not type(right) and not (isinstance(left, numbers) and isinstance(right, numbers))
    ):
        raise TypeError("incompatible types for comparison")
    return left == right


def _compare(test: Callable[[int], bool]) -> Callable[..., object]:
    def compare(left: object, right: object) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return test((left > right) - (left < right))
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return test((left > right) - (left < right))
        raise TypeError("incompatible types for comparison")

    return compare


def _print(*values: object) -> str:
    out = ""
    for index, value in enumerate(values):
        # fmt.Sprint: a space between operands when neither is a string
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out += " "
        out += show(value)
    return out


def _println(*values: object) -> str:
    return " ".join(show(value) for value in values) + "\n"


def _printf(form: object, *values: object) -> str:
    text, out, at, used = _text(form), [], 0, 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            out.append(text[at:])
            break
        out.append(text[at:percent])
        end = percent + 1
        while end < len(text) and text[end] in "+-# 0123456789.":
            end += 1
        verb, flags = text[end : end + 1], text[percent + 1 : end]
        at = end + 1
        if verb == "%":
            out.append("%")
            continue
        if not verb:
            out.append("%!(NOVERB)")
            break
        if used >= len(values):
            out.append(f"%!{verb}(MISSING)")
            continue
        out.append(_verb(verb, flags, values[used]))
        used += 1
    if used < len(values):
        out.append("%!(EXTRA " + ", ".join(f"{kind(value)}={show(value)}" for value in values[used:]) + ")")
    return "".join(out)


def _verb(verb: str, flags: str, value: object) -> str:
    width, _, precision = flags.lstrip("+-# 0").partition(".")
    if len(width) > 4 or len(precision) > 4:
        raise ValueError("width or precision too large")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    sign = "+" if "+" in flags else ""
    body: str
    if verb == "v":
        body = show(value)
    elif verb == "s" and not number:
        body = show(value)[: int(precision)] if precision else show(value)
    elif verb == "q" and not number:
        body = _json(show(value))
    elif verb == "t" and isinstance(value, bool):
        body = show(value)
    elif verb == "T":
        body = kind(value)
    elif verb in "dxXob" and isinstance(value, int) and number:
        body = format(value, sign + verb)
    elif verb == "c" and isinstance(value, int) and number:
        body = chr(value)
    elif verb in "eEfFgG" and number:
        body = format(value, f"{sign}.{precision or 6}{verb}" if verb not in "gG" or precision else f"{sign}{verb}")
    elif verb in "xX" and isinstance(value, str):
        body = value.encode().hex()
    else:
        body = f"%!{verb}({kind(value)}={show(value)})"
    if width:
        if "-" in flags:
            return body.ljust(int(width))
        head = flags[: len(flags) - len(flags.lstrip("+-# 0"))]
        return body.zfill(int(width)) if "0" in head and number else body.rjust(int(width))
    return body


def _html(*values: object) -> str:
    text = _print(*values)
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(plain, entity)
    return text


def _urlquery(*values: object) -> str:
    from urllib.parse import quote_plus  # dear, and hardly ever used

    return quote_plus(_print(*values))


FUNCTIONS: Mapping[str, tuple[Callable[..., object], int, int | None]] = {
    "not": (lambda value: not truth(value), 1, 1),
    "eq": (_equal, 2, None),
    "ne": (lambda left, right: not _same(left, right), 2, 2),
    "lt": (_compare(lambda order: order < 0), 2, 2),
    "le": (_compare(lambda order: order <= 0), 2, 2),
    "gt": (_compare(lambda order: order > 0), 2, 2),
    "ge": (_compare(lambda order: order >= 0), 2, 2),
    "index": (_index, 1, None),
    "slice": (_slice, 1, 3),
    "len": (_len, 1, 1),
    "print": (_print, 0, None),
    "printf": (_printf, 1, None),
    "println": (_println, 0, None),
    "html": (_html, 0, None),
    "urlquery": (_urlquery, 0, None),
    "json": (_json, 1, 1),
    "join": (_join, 2, 2),
    "split": (lambda value, separator: _text(value).split(_text(separator)) if separator else list(_text(value)), 2, 2),
    "lower": (lambda value: _text(value).lower(), 1, 1),
    "upper": (lambda value: _text(value).upper(), 1, 1),
    "title": (_title, 1, 1),
    "pad": (_pad, 3, 3),
    "truncate": (_truncate, 2, 2),
}
