"""A format template as words: text, and in `{{ }}` fields, names, variables, literals and punctuation."""

from __future__ import annotations


class Fault(Exception):
    """A mistake in a template, at a character of it; `masu.cli.template` turns it into an InvalidArgument."""

    def __init__(self, at: int, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.at = at
        self.text = text
        self.hint = hint


class Token:
    """kind: text, open, close, field, name, variable, string, number, char, or the punctuation itself."""

    __slots__ = ("at", "kind", "spaced", "text", "value")

    def __init__(self, kind: str, text: str, at: int, value: object = None, spaced: bool = True) -> None:
        self.kind = kind
        self.text = text
        self.at = at
        self.value = value
        self.spaced = spaced  # whether white space stands before it: `.A .B` are two values, `.A.B` is one


_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}


def lex(source: str) -> list[Token]:
    tokens: list[Token] = []
    at, trim = 0, False
    while True:
        start = source.find("{{", at)
        text = source[at:] if start < 0 else source[at:start]
        if trim:
            text = text.lstrip(" \t\r\n")
        if (
            start >= 0
            and source[start + 2 : start + 3] == "-"
            and source[start + 3 : start + 4] in (" ", "\t", "\n", "\r")
        ):
            text = text.rstrip(" \t\r\n")
        if text:
            tokens.append(Token("text", text, at))
        if start < 0:
            tokens.append(Token("eof", "", len(source)))
            return tokens
        at, trim = _lex_action(source, start, tokens)


def _lex_action(source: str, start: int, tokens: list[Token]) -> tuple[int, bool]:
    at = start + 2
    if source[at : at + 1] == "-" and source[at + 1 : at + 2] in (" ", "\t", "\n", "\r"):
        at += 2
    body = at
    while source[body : body + 1] in (" ", "\t", "\n", "\r") and source[body : body + 1]:
        body += 1
    if source.startswith("/*", body):
        end = source.find("*/", body)
        if end < 0:
            raise Fault(body, "unclosed comment")
        end += 2
        if source.startswith("}}", end):
            return end + 2, False
        if source.startswith(" -}}", end):
            return end + 4, True
        raise Fault(body, "comment ends before closing delimiter")
    tokens.append(Token("open", "{{", start))
    spaced = True
    while True:
        if at >= len(source):
            raise Fault(start, "unclosed action, want }}")
        c = source[at]
        if source.startswith("}}", at):
            tokens.append(Token("close", "}}", at))
            return at + 2, False
        if spaced and source.startswith("-}}", at):
            tokens.append(Token("close", "-}}", at))
            return at + 3, True
        if c in " \t\r\n":
            spaced = True
            at += 1
            continue
        end = _lex_word(source, at, tokens, spaced)
        spaced = False
        at = end


def _lex_word(source: str, at: int, tokens: list[Token], spaced: bool) -> int:
    c = source[at]
    if c == '"':
        return _lex_quoted(source, at, tokens, spaced)
    if c == "`":
        end = source.find("`", at + 1)
        if end < 0:
            raise Fault(at, "unterminated raw quoted string")
        tokens.append(Token("string", source[at : end + 1], at, source[at + 1 : end], spaced))
        return end + 1
    if c == ".":
        end = at + 1
        if source[end : end + 1].isdigit():
            return _lex_number(source, at, tokens, spaced)
        while _is_word(source[end : end + 1]):
            end += 1
        tokens.append(Token("field", source[at:end], at, source[at + 1 : end], spaced))
        return end
    if c == "$":
        end = at + 1
        while _is_word(source[end : end + 1]):
            end += 1
        tokens.append(Token("variable", source[at:end], at, None, spaced))
        return end
    if c.isdigit() or (c in "+-" and source[at + 1 : at + 2].isdigit()):
        return _lex_number(source, at, tokens, spaced)
    if c == "'":
        before = len(tokens)
        end = _lex_quoted(source, at, tokens, spaced, quote="'")
        text = str(tokens[before].value)
        if len(text) != 1:
            raise Fault(at, "malformed character constant", "strings are written with double quotes")
        tokens[before] = Token("number", source[at:end], at, ord(text), spaced)
        return end
    if source.startswith(":=", at):
        tokens.append(Token(":=", ":=", at, None, spaced))
        return at + 2
    if c in "()|,=":
        tokens.append(Token(c, c, at, None, spaced))
        return at + 1
    if _is_word(c):
        end = at
        while _is_word(source[end : end + 1]):
            end += 1
        tokens.append(Token("name", source[at:end], at, None, spaced))
        return end
    raise Fault(at, f"unexpected {c!a} in action")


def _is_word(c: str) -> bool:
    return c == "_" or c.isalnum()


def _lex_quoted(source: str, at: int, tokens: list[Token], spaced: bool, quote: str = '"') -> int:
    out: list[str] = []
    end = at + 1
    while True:
        c = source[end : end + 1]
        if c in ("", "\n"):
            raise Fault(at, "unterminated quoted string")
        end += 1
        if c == quote:
            break
        if c != "\\":
            out.append(c)
            continue
        e = source[end : end + 1]
        end += 1
        width = {"x": 2, "u": 4, "U": 8}.get(e, 0)
        if width:
            digits = source[end : end + width]
            end += width
            try:
                if len(digits) != width or not digits.isalnum():
                    raise ValueError
                out.append(chr(int(digits, 16)))
            except (ValueError, OverflowError):
                raise Fault(end, f"invalid escape \\{e}{digits}") from None
        elif e in _ESCAPES:
            out.append(_ESCAPES[e])
        else:
            raise Fault(end - 2, f"invalid escape \\{e}")
    tokens.append(Token("string", source[at:end], at, "".join(out), spaced))
    return end


def _lex_number(source: str, at: int, tokens: list[Token], spaced: bool) -> int:
    end = at + 1
    while source[end : end + 1].isalnum() or source[end : end + 1] in (".", "_"):
        end += 1
    text = source[at:end]
    value: int | float
    try:
        value = int(text, 0)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            raise Fault(at, f"bad number syntax: {text}") from None
    tokens.append(Token("number", text, at, value, spaced))
    return end
