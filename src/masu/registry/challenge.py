"""`WWW-Authenticate` (RFC 9110, 11.6.1) parsed strictly enough for what registries send."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass, field

# Headers come from a server that nobody vouches for.
_LIMIT_CHARS = 16384
_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")


@dataclass(frozen=True)
class Challenge:
    """One challenge: the scheme in lower case and its parameters with lower-case names."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of the given header values, in order; what cannot be understood is left out."""
    found: list[Challenge] = []
    for header in headers:
        found += _parse_one(header[:_LIMIT_CHARS])
    return found


def _parse_one(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = 0
    while True:
        at = _skip(text, at, " \t,")
        word, at = _word(text, at)
        if not word:
            return found
        after = _skip(text, at, " \t")
        if found and after < len(text) and text[after] == "=" and text[after + 1 : after + 2] not in ("", "="):
            value, at = _value(text, _skip(text, after + 1, " \t"))
            found[-1].parameters.setdefault(word.lower(), value)
            continue
        # A word that is no parameter begins a new challenge. Basic and Bearer have no token68 form.
        found.append(Challenge(word.lower()))


def _skip(text: str, at: int, blanks: str) -> int:
    while at < len(text) and text[at] in blanks:
        at += 1
    return at


def _word(text: str, at: int) -> tuple[str, int]:
    start = at
    while at < len(text) and text[at] in _TOKEN:
        at += 1
    return text[start:at], at


def _value(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        # Unquoted values should be tokens, but URLs are seen there as well.
        start = at
        while at < len(text) and text[at] not in " \t,":
            at += 1
        return text[start:at], at
    value: list[str] = []
    at += 1
    while at < len(text) and text[at] != '"':
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
        value.append(text[at])
        at += 1
    return "".join(value), at + 1
