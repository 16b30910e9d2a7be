"""containerd's filter language.

    filter    := selector ("," selector)*                 all of them; of several filters one is enough
    selector  := fieldpath (operator value)?              without an operator: whether it is there
    fieldpath := field ("." field)*
    field     := [A-Za-z0-9_]+ | quoted
    operator  := "==" | "!=" | "~="                       ~=: a regular expression, found anywhere
    value     := [^\\s,]+ | quoted                         after ~= also between / or |
    quoted    := a string as Go writes it

    wanted = parse(['labels."example.com/x"==yes,name~=/^a/'])
    wanted({"name": ["abc"], …}.get …)

What a thing's fields are is said by a function from a field path to its value, None where there is none. The messages
of mistakes are containerd's, with the place marked: `[labels. >|?|< foo]: expected field or quoted`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from masu.errors import InvalidArgument

Fields = Callable[[Sequence[str]], str | None]
Filter = Callable[[Fields], bool]

# A filter is written by hand or by a program; beyond this it is an attack.
MAX_CHARACTERS = 16384
_FIELD = re.compile(r"[A-Za-z0-9_]+")
_OPERATOR = re.compile(r"[=!~]+")
_VALUE = re.compile(r"[^\s,]+")
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_DIGITS = {"x": 2, "u": 4, "U": 8}
# Go's names for what Python calls otherwise (re2 syntax).
_CLASSES = {
    "[:alnum:]": "0-9A-Za-z", "[:alpha:]": "A-Za-z", "[:digit:]": "0-9", "[:lower:]": "a-z", "[:upper:]": "A-Z",
    "[:space:]": r"\s", "[:word:]": r"\w", "[:xdigit:]": "0-9A-Fa-f",
}  # fmt: skip


def parse(filters: Iterable[str]) -> Filter:
    """What matches any of `filters`; all things when there is none, or an empty one. Raises InvalidArgument."""
    alternatives = [_Parser(text).selectors() for text in filters]
    if not alternatives:
        return lambda fields: True
    return lambda fields: any(all(selector(fields) for selector in each) for each in alternatives)


def fields(simple: Mapping[str, str], labels: Mapping[str, str], **maps: Mapping[str, str]) -> Fields:
    """The fields of a thing that has `simple` ones (with dots for those within others; empty is absent), labels, and
    perhaps more maps. Whatever was quoted or not, the key of a map is what the dots join."""
    known = {"labels": labels, **maps}

    def field(path: Sequence[str]) -> str | None:
        held = known.get(path[0])
        if held is not None:
            return held.get(".".join(path[1:]))
        return simple.get(".".join(path)) or None

    return field


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARACTERS:
            raise InvalidArgument("filter", text[:64], detail=f"longer than {MAX_CHARACTERS} characters")
        self._text = text
        self._at = 0

    def selectors(self) -> list[Filter]:
        if not self._text:
            return []
        found = [self._selector()]
        while self._at < len(self._text):
            if self._text[self._at] != ",":
                raise self._mistake(self._at, f"unexpected input: {self._text[self._at]}")
            self._at += 1
            found.append(self._selector())
        return found

    def _selector(self) -> Filter:
        path = [self._field()]
        while self._peek() == ".":
            self._at += 1
            path.append(self._field())
        if self._peek() in ("", ","):
            return lambda fields: fields(path) is not None
        operator = self._operator()
        value = self._value(alternative_quotes=operator == "~=")
        if operator == "==":
            return lambda fields: fields(path) == value
        if operator == "!=":
            return lambda fields: (fields(path) or "") != value
        pattern = _compiled(value)
        return lambda fields: pattern is not None and pattern.search(fields(path) or "") is not None

    def _field(self) -> str:
        at = self._skip_space()
        if found := self._take(_FIELD):
            return found
        if self._peek() in ('"', "/", "|"):
            return self._quoted(alternative_quotes=False)
        raise self._mistake(at, "expected field or quoted")

    def _operator(self) -> str:
        at = self._skip_space()
        found = self._take(_OPERATOR)
        if not found and self._peek() in ('"', "/", "|"):
            self._quoted(alternative_quotes=False)  # which may be what is wrong
        if not found:
            raise self._mistake(at, 'expected an operator ("=="|"!="|"~=")')
        if found not in ("==", "!=", "~="):
            raise self._mistake(at, f'unsupported operator "{found}"')
        return found

    def _value(self, *, alternative_quotes: bool) -> str:
        at = self._skip_space()
        if self._peek() in ('"', "/", "|"):
            return self._quoted(alternative_quotes=alternative_quotes)
        if self._peek() != "." and (found := self._take(_VALUE)):
            return found
        raise self._mistake(at, "expected value or quoted")

    def _quoted(self, *, alternative_quotes: bool) -> str:
        begin, quote, text = self._at, self._text[self._at], ""
        self._at += 1
        while (char := self._peek()) != quote:
            if char in ("", "\n"):
                raise self._mistake(begin, "quoted literal not terminated")
            self._at += 1
            text += self._escape(begin, quote) if char == "\\" else char
        self._at += 1
        if quote != '"' and not alternative_quotes:
            raise self._mistake(begin, "invalid quote encountered")
        return text

    def _escape(self, begin: int, quote: str) -> str:
        char = self._peek()
        self._at += 1
        if char == quote or char in _SIMPLE:
            return _SIMPLE.get(char, char)
        if char in _DIGITS:
            base, digits = 16, self._text[self._at : self._at + _DIGITS[char]]
            wanted = _DIGITS[char]
        elif char and char in "01234567":
            self._at -= 1
            base, digits, wanted = 8, self._text[self._at : self._at + 3], 3
        else:
            raise self._mistake(begin, "illegal escape sequence")
        self._at += wanted
        try:
            if len(digits) != wanted or not digits.isalnum():
                raise ValueError
            return chr(int(digits, base))
        except (ValueError, OverflowError):
            raise self._mistake(begin, "illegal numeric escape sequence") from None

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_space(self) -> int:
        while self._peek().isspace():
            self._at += 1
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found.group()

    def _mistake(self, at: int, why: str) -> InvalidArgument:
        text = self._text
        place = f"{text[:at]} >|{text[at]}|< {text[at + 1 :]}" if at < len(text) else text
        return InvalidArgument("filters: parse error", detail=f"[{place}]: {why}")


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None for what is no regular expression: containerd lets that match nothing."""
    for name, characters in _CLASSES.items():
        pattern = pattern.replace(name, characters)
    try:
        return re.compile(pattern.replace(r"\z", r"\Z"))
    except (re.error, OverflowError, RecursionError):
        return None
