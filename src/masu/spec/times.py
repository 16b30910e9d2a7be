"""Times as the OCI documents, the records and the logs keep them: RFC 3339, ours in UTC with nine digits
("2026-11-21T05:28:01.123456789Z"). Of fixed width, so that text order is time order and SQL may compare them.

In memory a time is an int of nanoseconds since the epoch: it compares, subtracts and loses nothing, where a float has
lost the nanoseconds since 1970. Own arithmetic since `datetime` knows microseconds only and costs the cold start.
"""

from __future__ import annotations

import time

from masu.errors import InvalidArgument

SECOND = 1_000_000_000


def now() -> str:
    """The present wall clock time as the records write it."""
    return text(time.time_ns())


def text(ns: int) -> str:
    """`ns` since the epoch as RFC 3339 in UTC with nine digits."""
    seconds, rest = divmod(ns, SECOND)
    t = time.gmtime(seconds)
    return f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{rest:09d}Z"


def local(ns: int) -> str:
    """Docker's listing form in the local zone: `2026-11-21 05:28:01 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(ns // SECOND))


def parse(text: str, *, zone_s: int | None = 0, exact: bool = False) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; shorter forms down to a bare date are taken too, unless `exact`.

    Without a zone in the text it is `zone_s` seconds east of UTC; None means the machine's local zone.
    Raises InvalidArgument.
    """
    try:
        return _parse(text, zone_s, exact=exact)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument("time", text, detail="want RFC 3339, as 2026-11-21T05:28:01Z") from error


def _parse(text: str, zone_s: int | None, *, exact: bool) -> int:
    if len(text) > 64 or not text.isascii():
        raise ValueError(text)
    if exact and (text[19:20] not in tuple("Zz.+-") or not (text[-1:] in ("Z", "z") or text[-6:-5] in ("+", "-"))):
        raise ValueError(text)
    date, mark, clock = text.replace("t", "T").replace(" ", "T", 1).partition("T")
    zone = zone_s
    if not mark and date[-1:] in ("Z", "z"):
        date, zone = date[:-1], 0
    if clock[-1:] in ("Z", "z"):
        clock, zone = clock[:-1], 0
    else:
        for sign in ("+", "-"):
            before, found, after = clock.partition(sign)
            if found:
                hours, minutes = _fields(after.replace(":", ""), (2, 2), "")
                if hours > 23 or minutes > 59:
                    raise ValueError(text)
                clock = before
                zone = (hours * 3600 + minutes * 60) * (1 if sign == "+" else -1)
    year, month, day = _fields(date, (4, 2, 2), "-")
    fraction_ns = 0
    hour = minute = second = 0
    if mark:
        clock, dot, fraction = clock.partition(".")
        if dot:
            if not fraction.isdigit():
                raise ValueError(text)
            fraction_ns = int(fraction[:9].ljust(9, "0"))
        parts = (clock.count(":") + 1) if clock else 0
        if parts not in (1, 2, 3) or (dot and parts != 3):
            raise ValueError(text)
        hour, minute, second = (*_fields(clock, (2, 2, 2)[:parts], ":"), 0, 0)[:3]
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not (1 <= month <= 12 and 1 <= day <= days[month - 1] and hour < 24 and minute < 60 and second < 61):
        raise ValueError(text)
    if zone is None:
        whole = int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
    else:
        whole = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone
    return whole * SECOND + fraction_ns


def _fields(text: str, widths: tuple[int, ...], separator: str) -> tuple[int, ...]:
    out: list[int] = []
    at = 0
    for index, width in enumerate(widths):
        if index and separator:
            if text[at : at + 1] != separator:
                raise ValueError(text)
            at += 1
        digits = text[at : at + width]
        if len(digits) != width or not digits.isdigit():
            raise ValueError(text)
        out.append(int(digits))
        at += width
    if at != len(text):
        raise ValueError(text)
    return tuple(out)


def _days(year: int, month: int, day: int) -> int:
    # Days since 1970-01-01 in the proleptic Gregorian calendar, by eras of 400 years that start in March.
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
