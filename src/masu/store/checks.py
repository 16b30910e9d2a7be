"""What a name, a label or a digest may look like. Strict, because each becomes a key, some a path, all a log line."""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Labels = dict[str, str]

MAX_IDENTIFIER = 76
MAX_KEY = 512
# containerd's: the key and the value of a label together.
MAX_LABEL = 4096

_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_SEPARATORS = frozenset("._-")
_HEX = frozenset("0123456789abcdef")


def identifier(what: str, text: str) -> str:
    """containerd's rule: letters and digits, single `.`, `_`, `-` runs between them, at most 76 characters."""
    ok = 0 < len(text) <= MAX_IDENTIFIER and text[0] in _ALNUM and text[-1] in _ALNUM
    if ok:
        separated = False
        for c in text:
            if c in _ALNUM:
                separated = False
            elif c in _SEPARATORS and not separated:
                separated = True
            else:
                ok = False
                break
    if not ok:
        raise InvalidArgument(
            what, text, detail=f"1 to {MAX_IDENTIFIER} letters and digits, with single . _ - between them"
        )
    return text


def key(what: str, text: str, *, empty: bool = False, spaces: bool = False) -> str:
    """A free name (image name, ingest ref): printable, bounded; without spaces, but that containerd's clients unpack
    into snapshots whose keys have one ("extract-… sha256:…")."""
    if (not text and not empty) or len(text) > MAX_KEY or not text.isprintable() or (" " in text and not spaces):
        raise InvalidArgument(what, text, detail=f"1 to {MAX_KEY} printable characters without spaces")
    return text


def digest(text: str) -> str:
    """`sha256:` and 64 lower-case hex digits; returns the hex. It becomes a file name (CVE-2024-3727)."""
    algorithm, _, value = text.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not _HEX.issuperset(value):
        if algorithm in ("sha384", "sha512"):
            from masu.errors import Unimplemented

            raise Unimplemented("digest algorithm", algorithm, detail="only sha256 is stored")
        raise InvalidArgument("digest", text, detail="sha256: and 64 lower-case hex digits")
    return value


def labels(values: Mapping[str, str]) -> Labels:
    """A checked copy."""
    for name, value in values.items():
        if not name or not isinstance(value, str):
            raise InvalidArgument("label", name, detail="a name and a text")
        if len(name) + len(value) > MAX_LABEL:
            raise InvalidArgument("label", name[:64], detail=f"name and value are longer than {MAX_LABEL} together")
        if not name.isprintable():
            raise InvalidArgument("label", name, detail="control characters in the name")
    return dict(values)


def merge_labels(old: Labels, changes: Mapping[str, str | None]) -> Labels:
    """`old` with changes: None or an empty text takes a label away, as containerd's update does."""
    merged = dict(old)
    for name, value in changes.items():
        if value:
            merged[name] = value
        else:
            merged.pop(name, None)
    return labels(merged)


def dump(value: object) -> str:
    return jsontext.dumps(value)


def load_labels(text: str) -> Labels:
    return load_object(text)  # type: ignore[return-value]


def load_object(text: str) -> dict[str, object]:
    if text == "{}":
        return {}
    value = jsontext.loads(text, name="meta.db")
    assert isinstance(value, dict)
    return value
