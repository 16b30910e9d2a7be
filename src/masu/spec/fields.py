"""Reading JSON objects into values, each error with the JSON path, the value seen and what is allowed.

A value class lists its fields in one table, `FIELDS`, in the words of the specification:

    class Hook(Value):
        FIELDS = {"path": ("path", absolute_path, None), "timeout": ("timeout", number(1, I32), None)}
        REQUIRED = ("path",)

`JSON name: (attribute, reader, default)`. A reader takes the JSON value (never null), its path and the list that
warnings are appended to, and gives the attribute's value or raises InvalidArgument. Null counts as absent, as in
Go's encoding/json, with which the world's config.json files are written. Strings that Go would omit when empty
(`text`, `path`) are None when empty, for the same reason.
"""

from __future__ import annotations

from masu.errors import InvalidArgument, closest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import ClassVar, NoReturn, Self, TypeVar

    Reader = Callable[[object, str, list[str]], object]
    Field = tuple[str, Reader, object]
    Fields = dict[str, Field]
    V = TypeVar("V", bound="Value")

U16 = 0xFFFF
U32 = 0xFFFFFFFF
U64 = 0xFFFFFFFFFFFFFFFF
I32 = 0x7FFFFFFF
I64 = 0x7FFFFFFFFFFFFFFF

# (uid_t)-1 means "leave it alone" to setresuid(2) and chown(2): a process "run as 4294967295" would stay root.
MAX_ID = U32 - 1

_SHOWN_CHARS = 64

_set = object.__setattr__


def slots(fields: Mapping[str, Field]) -> tuple[str, ...]:
    """The attribute names of a FIELDS table, for `__slots__`."""
    return tuple([attribute for attribute, _, _ in fields.values()])


class Value:
    """A frozen value made from one JSON object. Compare with ==, change with `replace`, write with `to_json`."""

    __slots__ = ()
    FIELDS: ClassVar[Fields] = {}
    # JSON names that must be there.
    REQUIRED: ClassVar[tuple[str, ...]] = ()
    # Names of older specifications, and what took their place.
    RENAMED: ClassVar[dict[str, str]] = {}
    # Whether a near miss among unknown names is worth a warning: it is where people write, not where tools do.
    HINTS: ClassVar[bool] = True

    def __init__(self, *values: object, **fields: object) -> None:
        """Attributes by position in the order of FIELDS, or by name; the rest get their defaults. Not validated."""
        for index, (attribute, _, default) in enumerate(self.FIELDS.values()):
            if index < len(values):
                value = values[index]
            else:
                value = fields.pop(attribute, {} if default.__class__ is dict else default)
            _set(self, attribute, value)
        if fields or len(values) > len(self.FIELDS):
            raise TypeError(f"{type(self).__name__} has no field {', '.join(fields) or len(values)}")

    def check(self, where: str, warnings: list[str]) -> None:
        """What must hold between the fields of this object; raises InvalidArgument."""

    def read_old(self, name: str, value: object, where: str, warnings: list[str]) -> bool:
        """Takes a field of an older specification that needs more than a new name; True if `name` is one."""
        return False

    def replace(self, **changes: object) -> Self:
        """A copy with some attributes changed (not validated)."""
        copy = type(self).__new__(type(self))
        for attribute, _, _ in self.FIELDS.values():
            _set(copy, attribute, changes.pop(attribute) if attribute in changes else getattr(self, attribute))
        if changes:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(changes)}")
        return copy

    def to_json(self) -> dict[str, object]:
        """The JSON object again, in the specification's present words; defaults are left out unless required."""
        result: dict[str, object] = {}
        for name, (attribute, _, default) in self.FIELDS.items():
            value = getattr(self, attribute)
            if value != default or (name in self.REQUIRED and value is not None):
                result[name] = _to_json(value)
        return result

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen; use replace({name}=…)")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __reduce__(self) -> tuple[object, ...]:
        # Slots that cannot be set would keep copy and pickle from working.
        return _remake, (type(self), [getattr(self, attribute) for attribute, _, _ in self.FIELDS.values()])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, a) == getattr(other, a) for a, _, _ in self.FIELDS.values())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        seen = [
            f"{attribute}={getattr(self, attribute)!r}"
            for attribute, _, default in self.FIELDS.values()
            if getattr(self, attribute) != default
        ]
        return f"{type(self).__name__}({', '.join(seen)})"


def _remake(cls: type[Value], values: list[object]) -> Value:
    self = cls.__new__(cls)
    for (attribute, _, _), value in zip(cls.FIELDS.values(), values, strict=True):
        _set(self, attribute, value)
    return self


def _to_json(value: object) -> object:
    if isinstance(value, Value):
        return value.to_json()
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    return value


def read(cls: type[V], value: object, where: str, warnings: list[str]) -> V:
    """One object of class `cls` from JSON."""
    if value.__class__ is not dict:
        raise wrong_type("an object", value, where)
    data: dict[str, object] = value
    self = cls.__new__(cls)
    present = 0
    prefix = where + "." if where else ""
    for name, (attribute, reader, default) in cls.FIELDS.items():
        if name in data:
            present += 1
            item = data[name]
            if item is not None:
                _set(self, attribute, reader(item, prefix + name, warnings))
                continue
        _set(self, attribute, {} if default.__class__ is dict else default)
    if present != len(data):
        _read_unknown(self, data, prefix, warnings)
    for name in cls.REQUIRED:
        if getattr(self, cls.FIELDS[name][0]) is None:
            raise missing(prefix + name)
    self.check(where, warnings)
    return self


def _read_unknown(self: Value, data: dict[str, object], prefix: str, warnings: list[str]) -> None:
    # Unknown fields are ignored (runtime-spec, "Extensibility"). Two kinds are not: those with an older name, and
    # those that differ in case only, which every runtime written in Go takes (encoding/json folds case).
    fields = self.FIELDS
    folded: dict[str, str] = {}
    looks = 8 if self.HINTS else 0  # looking for a near miss is slow, and an object may have a million names
    for name in data:
        if name in fields or data[name] is None:
            continue
        shown_name = prefix + (name if name.isidentifier() and len(name) <= _SHOWN_CHARS else f"[{shown(name)}]")
        if self.read_old(name, data[name], shown_name, warnings):
            continue
        if name in self.RENAMED:
            target = self.RENAMED[name]
            if data.get(target) is not None:
                warnings.append(f'{shown_name}: old name of "{target}", which is given too: ignored')
                continue
            warnings.append(f'{shown_name}: old name, now "{target}"')
        else:
            folded = folded or {known.lower(): known for known in fields}
            target = folded.get(name.lower(), "")
            if not target:
                near = [known for known in fields if known[:1] == name[:1]] if 3 < len(name) < 64 else []
                if near and looks:
                    looks -= 1
                    hint = closest(name, near)
                    if hint:
                        warnings.append(f"{shown_name}: unknown field ignored ({hint})")
                continue
            if data.get(target) is not None:
                warnings.append(f'{shown_name}: differs from "{target}", which is given too, in case only: ignored')
                continue
            warnings.append(f'{shown_name}: taken as "{target}"')
        attribute, reader, _ = fields[target]
        _set(self, attribute, reader(data[name], prefix + name, warnings))


# --- errors


def shown(value: object) -> str:
    """A JSON value as it is shown in a message: short, on one line, nothing a terminal would act on."""
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "…"
        return f'"{text}"' if text.isprintable() else repr(text)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        # str() of a huge int is refused by CPython (and useless to read).
        return str(value) if -(1 << 200) < value < 1 << 200 else f"a number of {value.bit_length()} bits"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value)[:_SHOWN_CHARS]


def invalid(what: str, value: object, where: str, detail: str, hint: str = "") -> InvalidArgument:
    """`process.user.uid: number -1: invalid: allowed are 0 to 4294967294`."""
    return InvalidArgument(what, shown(value), where=where, detail=detail, hint=hint)


def wrong_type(wanted: str, value: object, where: str) -> InvalidArgument:
    kind = "a string " if isinstance(value, str) else "a number " if type(value) in (int, float) else ""
    return InvalidArgument("value", where=where, detail=f"wanted {wanted}, seen {kind}{shown(value)}")


def missing(where: str, detail: str = "must be given", hint: str = "") -> InvalidArgument:
    return InvalidArgument("field", where=where, detail=detail, hint=hint)


def not_allowed(what: str, value: str, where: str, allowed: Sequence[str], detail: str = "") -> InvalidArgument:
    text = "allowed are " + ", ".join(allowed)
    return invalid(what, value, where, f"{detail}; {text}" if detail else text, closest(value[:64], list(allowed)))


def key_path(where: str, key: str) -> str:
    """The path of one entry of a map: `annotations.key`, `linux.sysctl["net.ipv4.ip_forward"]`."""
    if key.isidentifier() and len(key) <= _SHOWN_CHARS:
        return f"{where}.{key}"
    return f"{where}[{shown(key)}]"


# --- readers of plain values


def boolean(value: object, where: str, warnings: list[str]) -> bool:
    if value is True or value is False:
        return value is True
    raise wrong_type("true or false", value, where)


def number(low: int, high: int) -> Reader:
    """A whole number from `low` to `high`. 1.0 and 1e3 are refused, as Go's decoder does for integer fields."""

    def read_number(value: object, where: str, warnings: list[str]) -> int:
        if value.__class__ is not int:
            raise wrong_type("a whole number", value, where)
        if low <= value <= high:
            return value
        raise invalid("number", value, where, f"allowed are {low} to {high}")

    return read_number


u16 = number(0, U16)
u32 = number(0, U32)
u64 = number(0, U64)
i32 = number(-I32 - 1, I32)
i64 = number(-I64 - 1, I64)


def numeric_id(value: object, where: str, warnings: list[str]) -> int:
    """A uid or gid."""
    if value.__class__ is not int:
        raise wrong_type("a number", value, where)
    if 0 <= value <= MAX_ID:
        return value
    raise invalid("id", value, where, f"allowed are 0 to {MAX_ID}")


def string(value: object, where: str, warnings: list[str]) -> str:
    """A string that may be empty."""
    if value.__class__ is not str:
        raise wrong_type("a string", value, where)
    if "\0" in value:
        raise invalid("string", value, where, "contains null byte")
    return value


def text(value: object, where: str, warnings: list[str]) -> str | None:
    """A string; an empty one counts as absent."""
    return string(value, where, warnings) or None


def line(value: object, where: str, warnings: list[str]) -> str | None:
    """A string without line breaks (it is written to a kernel file, where a second line is a second command)."""
    result = string(value, where, warnings)
    if "\n" in result:
        raise invalid("string", result, where, "contains a line break")
    return result or None


def absolute_path(value: object, where: str, warnings: list[str]) -> str | None:
    result = string(value, where, warnings)
    if result and result[0] != "/":
        raise invalid("path", result, where, "must be an absolute path")
    return result or None


def strings(value: object, where: str, warnings: list[str]) -> tuple[str, ...]:
    if value.__class__ is not list:
        raise wrong_type("a list of strings", value, where)
    items: list[str] = value
    try:
        # One pass in C finds both a wrong type and a NUL; the slow pass below only says where it is.
        if "\0" not in "".join(items):
            return tuple(items)
    except TypeError:
        pass
    return tuple([string(item, f"{where}[{index}]", warnings) for index, item in enumerate(items)])


def absolute_paths(value: object, where: str, warnings: list[str]) -> tuple[str, ...]:
    result = strings(value, where, warnings)
    for index, path in enumerate(result):
        if path[:1] != "/":
            raise invalid("path", path, f"{where}[{index}]", "must be an absolute path")
    return result


def string_map(value: object, where: str, warnings: list[str]) -> dict[str, str]:
    items = plain_map(value, where)
    try:
        if "\0" not in "".join(items) and "\0" not in "".join(items.values()):  # type: ignore[arg-type]
            return dict(items)  # type: ignore[arg-type]
    except TypeError:
        pass
    for key, item in items.items():
        if "\0" in key:
            raise invalid("name", key, where, "contains null byte")
        # Go reads null as the empty string here.
        string("" if item is None else item, key_path(where, key), warnings)
    return {key: "" if item is None else str(item) for key, item in items.items()}


def plain_map(value: object, where: str) -> dict[str, object]:
    """A JSON object whose names are data."""
    if value.__class__ is not dict:
        raise wrong_type("an object", value, where)
    return value


def words(what: str, allowed: Sequence[str], detail: str = "") -> Reader:
    """A list of words out of `allowed`."""
    known = frozenset(allowed)

    def read_words(value: object, where: str, warnings: list[str]) -> tuple[str, ...]:
        result = strings(value, where, warnings)
        for index, item in enumerate(result):
            if item not in known:
                raise not_allowed(what, item, f"{where}[{index}]", allowed, detail)
        return result

    return read_words


def word(what: str, allowed: Sequence[str], detail: str = "") -> Reader:
    """One word out of `allowed`; an empty string counts as absent."""
    known = frozenset(allowed)

    def read_word(value: object, where: str, warnings: list[str]) -> str | None:
        if value.__class__ is not str:
            raise wrong_type("a string", value, where)
        if value in known:
            return value
        if not value:
            return None
        raise not_allowed(what, value, where, allowed, detail)

    return read_word


# --- readers of values inside values


def each(item_reader: Reader) -> Reader:
    """A list whose items are read by `item_reader`."""

    def read_items(value: object, where: str, warnings: list[str]) -> tuple[object, ...]:
        if value.__class__ is not list:
            raise wrong_type("a list", value, where)
        items: list[object] = value
        return tuple([item_reader(item, f"{where}[{index}]", warnings) for index, item in enumerate(items)])

    return read_items


def one(cls: type[Value]) -> Reader:
    """An object of class `cls`."""

    def read_one(value: object, where: str, warnings: list[str]) -> Value:
        return read(cls, value, where, warnings)

    return read_one


def many(cls: type[Value]) -> Reader:
    """A list of objects of class `cls`."""

    def read_many(value: object, where: str, warnings: list[str]) -> tuple[Value, ...]:
        if value.__class__ is not list:
            raise wrong_type("a list of objects", value, where)
        items: list[object] = value
        return tuple([read(cls, item, f"{where}[{index}]", warnings) for index, item in enumerate(items)])

    return read_many


def named(cls: type[Value]) -> Reader:
    """An object whose names are data and whose values are of class `cls`."""

    def read_named(value: object, where: str, warnings: list[str]) -> dict[str, Value]:
        result = {}
        for key, item in plain_map(value, where).items():
            if "\0" in key:
                raise invalid("name", key, where, "contains null byte")
            result[key] = read(cls, {} if item is None else item, key_path(where, key), warnings)
        return result

    return read_named


def cpu_list(text: str, where: str, what: str, limit: int = 1 << 16) -> frozenset[int]:
    """The members of `0-3,7` (cpuset(7), "List format"); raises InvalidArgument, also for numbers from `limit` on."""
    if len(text) > 4096:
        raise invalid(what, text, where, f"{len(text)} characters, allowed are 4096")
    # As bits of one number: a thousand wide ranges cost no more than one.
    members = 0
    for part in text.split(","):
        part = part.strip(" \t")
        if not part:
            continue  # runc and the kernel allow extra commas
        low, dash, high = part.partition("-")
        if not (decimal(low) and (not dash or decimal(high))):
            raise invalid(what, text, where, f'{shown(part)} is not of the form "0-3,7"')
        first, last = int(low), int(high) if dash else int(low)
        if first > last:
            raise invalid(what, text, where, f"invalid range: {shown(part)}")
        if last >= limit:
            raise invalid(what, text, where, f"values larger than {limit - 1} are not supported")
        members |= (1 << last + 1) - (1 << first)
    return frozenset([index for index, bit in enumerate(reversed(f"{members:b}")) if bit == "1"])


def decimal(text: str) -> bool:
    """Plain ASCII digits, few enough for any kernel number; int() alone would take "１", "1_0" and " 1"."""
    return text.isascii() and text.isdigit() and len(text) <= 20
