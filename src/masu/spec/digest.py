"""Digests: plain strings `algorithm:hex`, checked before they are ever used in a path or a comparison."""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.spec.fields import shown

# Algorithm and length of its lower-case hex (image-spec, descriptor.md "Registered algorithms"; go-digest).
ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}


def check(text: str, where: str = "") -> str:
    """`text` itself when it is a digest of an algorithm we know; raises InvalidArgument."""
    algorithm, colon, encoded = text.partition(":")
    length = ALGORITHMS.get(algorithm)
    if not colon or length is None:
        allowed = ", ".join(ALGORITHMS)
        raise InvalidArgument("digest", shown(text), where=where, detail=f"wanted is algorithm:hex with {allowed}")
    if len(encoded) != length or encoded.strip("0123456789abcdef"):
        raise InvalidArgument(
            "digest", shown(text), where=where, detail=f"{algorithm} has {length} lower-case hexadecimal digits"
        )
    return text


def is_digest(text: str) -> bool:
    try:
        check(text)
    except InvalidArgument:
        return False
    return True


def split(digest: str) -> tuple[str, str]:
    """(algorithm, hex) of a checked digest."""
    algorithm, _, encoded = check(digest).partition(":")
    return algorithm, encoded


def of(data: bytes) -> str:
    """The sha256 digest of a small document. (Layers: hashlib, whose OpenSSL is several times as fast.)"""
    # The built-in module behind hashlib, at a hundredth of its import; it has another name since CPython 3.12.
    try:
        from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]
    return "sha256:" + str(sha256(data).hexdigest())
