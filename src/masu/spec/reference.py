"""Image references, read as Docker reads them: `redis` is `docker.io/library/redis:latest`.

The grammar is that of distribution/reference (regexp.go, normalize.go):

    reference  := name [":" tag] ["@" digest]
    name       := [domain "/"] component ("/" component)*
    domain     := (dns-name | "[" ipv6 "]") [":" port]
    component  := [a-z0-9]+ (separator [a-z0-9]+)*      separator := "." | "_" | "__" | "-"+
    tag        := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}

It is written out here rather than as one regular expression: `re` costs a cold start ten milliseconds, and an error
can say which part is wrong.
"""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.spec import digest as digests
from masu.spec.fields import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_PATH = 255
MAX_TAG = 128

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX_COLON = frozenset("0123456789abcdefABCDEF:")
_TAG = _ALNUM | frozenset("_.-")


class Reference:
    """A normalised reference. `tag` or `digest` is None when not given; at least one is there after `parse`."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str | None = None, digest: str | None = None) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """`docker.io/library/redis`"""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        return self.name + self._suffix()

    def familiar_name(self) -> str:
        """`redis`: without what Docker takes for granted."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in short else short

    def familiar(self) -> str:
        """Docker's short form: `redis:latest`, `ghcr.io/a/b@sha256:…`."""
        return self.familiar_name() + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """The same name with another tag and no digest; raises InvalidArgument."""
        if not is_tag(tag):
            _refuse(tag, "invalid tag format", "tags have 1 to 128 of A-Z a-z 0-9 _ . - and begin with none of . -")
        return Reference(self.domain, self.path, tag)

    def with_digest(self, digest: str) -> Reference:
        """The same name and tag at a digest; raises InvalidArgument."""
        return Reference(self.domain, self.path, self.tag, digests.check(digest))

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def parse(text: str, *, default_tag: bool = True) -> Reference:
    """The reference that `text` means to Docker; with neither tag nor digest the tag is `latest`.

    Raises InvalidArgument; 64 hexadecimal digits are refused because they are an image's id.
    """
    if not text:
        _refuse(text, "invalid reference format: repository name must have at least one component")
    if len(text) > 1024:
        _refuse(text, "invalid reference format: too long")
    if is_identifier(text):
        _refuse(text, "cannot specify 64-byte hexadecimal strings", "this is the form of an image id")
    scheme, is_url, _ = text.partition("://")
    if is_url:
        _refuse(text, "invalid reference format", f"leave out {scheme}://" if scheme.isalnum() else "")
    domain, remainder = _split_domain(text)
    remainder, at, digest = remainder.partition("@")
    # In what follows the domain only a tag has a colon.
    path, colon, tag = remainder.partition(":")
    if path.lower() != path:
        typed = path.removeprefix(_OFFICIAL)
        _refuse(
            text,
            f"invalid reference format: repository name ({path if path.isprintable() else ascii(path)}) "
            "must be lowercase",
            f"did you mean {shown(text.replace(typed, typed.lower()))}?",
        )
    if not _is_domain(domain):
        _refuse(text, f"invalid reference format: {shown(domain)} is not a registry's host[:port]")
    for component in path.split("/"):
        if not _is_component(component):
            _refuse(text, f"invalid reference format: {shown(component)} is not a component of a repository name")
    if colon and not is_tag(tag):
        _refuse(text, f"invalid reference format: {shown(tag)} is not a tag")
    if at:
        try:
            digests.check(digest)
        except InvalidArgument as e:
            _refuse(text, f"invalid reference format: {e}")
    if len(path) > MAX_PATH:
        _refuse(text, f"repository name must not be more than {MAX_PATH} characters")
    if default_tag and not colon and not at:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag or None, digest or None)


def is_identifier(text: str) -> bool:
    """Whether `text` has the form of a whole image id: 64 lower-case hexadecimal digits."""
    return len(text) == 64 and not text.strip("0123456789abcdef")


def is_tag(text: str) -> bool:
    return 0 < len(text) <= MAX_TAG and _TAG.issuperset(text) and text[0] not in ".-"


def _refuse(text: str, detail: str, hint: str = "") -> NoReturn:
    raise InvalidArgument("image reference", shown(text), detail=detail, hint=hint)


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == "localhost" or "." in first or ":" in first or first.lower() != first:
        # Upper case cannot be part of a repository's name, so it must be a host.
        domain, remainder = (DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first), rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _is_domain(text: str) -> bool:
    if text[:1] == "[":
        host, bracket, port = text.partition("]")
        if not bracket or len(host) < 2 or not _HEX_COLON.issuperset(host[1:]):
            return False
        colon, port = port[:1], port[1:]
        if colon not in ("", ":"):
            return False
    else:
        host, colon, port = text.partition(":")
        for label in host.split("."):
            if not label or label[0] == "-" or label[-1] == "-" or not _ALNUM.issuperset(label.replace("-", "a")):
                return False
    return not colon or (port.isascii() and port.isdigit())


def _is_component(text: str) -> bool:
    separator = ""
    begun = False
    for c in text:
        if c in _LOWER:
            if separator and (not begun or not (separator in (".", "_", "__") or not separator.strip("-"))):
                return False
            begun, separator = True, ""
        elif c in "._-":
            separator += c
        else:
            return False
    return begun and not separator
