"""Sizes, durations and moments as people type and read them, in Docker's spelling (go-units, Go's time package)."""

from __future__ import annotations

import time

from masu.errors import InvalidArgument
from masu.spec import times

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATIONS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": times.SECOND,
    "m": 60 * times.SECOND,
    "h": 3600 * times.SECOND,
}


def size(text: str) -> int:
    """Bytes of `512m`, `1.5GiB`, `100` (powers of 1024 whatever the suffix, as Docker counts memory). ValueError."""
    number, suffix = _split_number(text)
    suffix = suffix.strip().lower() if suffix.startswith(" ") else suffix.lower()
    if not number or number.count(".") > 1 or number[0] == "." or number[-1] == ".":
        raise ValueError(f"invalid size: '{text}'")
    unit = suffix
    if len(unit) > 1 and unit.endswith("b"):
        unit = unit[:-1]
    if len(unit) > 1 and unit.endswith("i"):
        unit = unit[:-1]
    if unit not in _POWERS:
        raise ValueError(f"invalid suffix: '{suffix}', want one of b, k, m, g, t, p")
    value = int(number) << 10 * _POWERS[unit] if "." not in number else int(float(number) * 1024 ** _POWERS[unit])
    if value >= 1 << 63:
        raise ValueError(f"invalid size: '{text}': too large")
    return value


def swap(text: str) -> int:
    """As `size`, with -1 for without limit."""
    return -1 if text == "-1" else size(text)


def human_size(count: float, precision: int = 4) -> str:
    """`1.36MB`: powers of 1000, `precision` digits; what Docker shows for images and files."""
    return _scaled(count, 1000.0, _DECIMAL, precision)


def binary_size(count: float) -> str:
    """`1.3MiB`: powers of 1024; what Docker shows for memory."""
    return _scaled(count, 1024.0, _BINARY, 4)


def _scaled(count: float, base: float, names: tuple[str, ...], precision: int) -> str:
    index = 0
    while count >= base and index < len(names) - 1:
        count /= base
        index += 1
    return f"{count:.{precision}g}{names[index]}"


def duration(text: str) -> int:
    """Nanoseconds of Go's `1h15m30.5s`, sign allowed. Raises ValueError."""
    body, sign = text, 1
    if body[:1] in ("-", "+"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    if body == "0":
        return 0
    total = 0
    if not body:
        raise ValueError(f"invalid duration '{text}'")
    while body:
        number, body = _split_number(body)
        unit = ""
        while body and not (body[0].isdigit() or body[0] == "."):
            unit += body[0]
            body = body[1:]
        if not number or number == "." or number.count(".") > 1:
            raise ValueError(f"invalid duration '{text}', want for example 1h30m or 500ms")
        if unit not in _DURATIONS_NS:
            what = f"unknown unit '{unit}'" if unit else "missing unit"
            raise ValueError(f"{what} in duration '{text}', want ns, us, ms, s, m or h")
        whole, _, fraction = number.partition(".")
        factor = _DURATIONS_NS[unit]
        total += int(whole or "0") * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
    if total >= 1 << 63:
        raise ValueError(f"duration '{text}' is too long")
    return sign * total


def _split_number(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and (text[end] in "0123456789."):
        end += 1
    return text[:end], text[end:]


def human_duration(ns: int) -> str:
    """`3 minutes`, `About an hour`: go-units' HumanDuration."""
    seconds = int(ns / times.SECOND)
    minutes, hours = seconds // 60, int(ns / times.SECOND / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{seconds // 3600 // 24 // 365} years"


def ago(then_ns: int, now_ns: int | None = None) -> str:
    """`3 minutes ago`."""
    return human_duration((time.time_ns() if now_ns is None else now_ns) - then_ns) + " ago"


def moment(text: str, now_ns: int | None = None) -> int:
    """Nanoseconds since the epoch of what `--since` and `--until` take, as Docker's.

    A duration counts back from now (`42m`), a number is seconds since the epoch (`1700000000.5`), the rest is RFC 3339
    or the beginning of one, in the local zone where it names none. Raises ValueError.
    """
    if not text:
        raise ValueError("empty time")
    try:
        return (time.time_ns() if now_ns is None else now_ns) - duration(text)
    except ValueError:
        pass
    number, rest = _split_number(text.lstrip("-"))
    if not rest and number and number.count(".") <= 1 and number[0] != "." and "-" not in text:
        whole, _, fraction = number.partition(".")
        return int(whole) * times.SECOND + (int(fraction[:9].ljust(9, "0")) if fraction else 0)
    try:
        return times.parse(text, zone_s=None)
    except InvalidArgument as error:
        raise ValueError(
            f"'{text}' is neither a time (2026-11-21T05:28:01Z), a duration back from now (42m) nor seconds since 1970"
        ) from error
