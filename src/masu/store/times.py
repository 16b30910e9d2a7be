"""UTC times as the store keeps them: RFC 3339 with nanoseconds, `2026-11-21T05:28:01.123456789Z`.

Fixed width, so that text order is time order and SQL may compare them.
"""

from __future__ import annotations

import time

from masu.errors import InvalidArgument


def now() -> str:
    return from_ns(time.time_ns())


def from_ns(ns: int) -> str:
    """Nanoseconds since the epoch as text."""
    seconds, rest = divmod(ns, 1_000_000_000)
    t = time.gmtime(seconds)
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d}T{t[3]:02d}:{t[4]:02d}:{t[5]:02d}.{rest:09d}Z"


def to_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time, of any zone and any number of decimals.

    Labels such as `containerd.io/gc.expire` come from outside. Raises InvalidArgument.
    """
    try:
        if len(text) < 20 or text[4] != "-" or text[7] != "-" or text[10] not in "Tt ":
            raise ValueError
        if text[13] != ":" or text[16] != ":":
            raise ValueError
        fields = [text[0:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19]]
        if not all(f.isascii() and f.isdigit() for f in fields):
            raise ValueError
        year, month, day, hour, minute, second = (int(f) for f in fields)
        if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
            raise ValueError
        rest, fraction = text[19:], 0
        if rest[0] == ".":
            end = 1
            while end < len(rest) and rest[end].isascii() and rest[end].isdigit():
                end += 1
            if end == 1:
                raise ValueError
            fraction = int(rest[1:end].ljust(9, "0")[:9])
            rest = rest[end:]
        offset = 0
        if rest not in ("Z", "z"):
            digits = rest[1:3] + rest[4:6]
            if len(rest) != 6 or rest[0] not in "+-" or rest[3] != ":" or not (digits.isascii() and digits.isdigit()):
                raise ValueError
            offset = int(rest[1:3]) * 3600 + int(rest[4:6]) * 60
            if rest[0] == "-":
                offset = -offset
        return (_seconds(year, month, day, hour, minute, second) - offset) * 1_000_000_000 + fraction
    except (ValueError, IndexError):
        raise InvalidArgument("time", text, detail="an RFC 3339 time is like 2026-11-21T05:28:01Z") from None


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    # calendar.timegm imports datetime and enum; days from civil (proleptic Gregorian) is five lines.
    y = year - (month <= 2)
    era, year_of_era = divmod(y, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
    return days * 86400 + hour * 3600 + minute * 60 + second
