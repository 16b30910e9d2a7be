"""From a reference to what it means now, and to the servers that have it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit

from masu.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    MasuError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from masu.registry import graph
from masu.registry.credentials import Credentials
from masu.registry.progress import Quiet
from masu.registry.rules import Rules
from masu.registry.transport import Again, Answer, Policy, Remote, Transport
from masu.spec import digest as digests
from masu.spec import jsontext
from masu.spec.image import Descriptor
from masu.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.registry.progress import Progress

T = TypeVar("T")
# (host, repository) -> credentials: somebody who is asked instead of the user's files.
Ask = Callable[[str, str], Credentials | None]
_ACCEPT = ", ".join(graph.DOCUMENT_TYPES)
# What one endpoint cannot give, the next one may.
_NEXT = (NotFound, PermissionDenied, Unavailable, DataLoss, FailedPrecondition, InvalidArgument, Unimplemented)
_MAX_TAG_PAGES = 1000


@dataclass(frozen=True)
class Resolved:
    """What a reference means now. `raw` is the document when the answer carried it, `remotes` where to get the rest."""

    descriptor: Descriptor
    raw: bytes | None
    remotes: tuple[Remote, ...]


def transport_for(
    rules: Rules, ref: Reference, policy: Policy | None, auth: Credentials | None, ask: Ask | None = None
) -> Transport:
    # Credentials that the caller gives are for the registry itself, not for a mirror of it.
    own = rules.endpoints(ref.domain, capability="origin")[-1]
    host = own.host if not own.mirror_of else ""
    return Transport(rules, policy=policy, credentials=auth, credentials_host=host, ask=ask)


def remotes_for(transport: Transport, ref: Reference, capability: str, *, insecure: bool) -> tuple[Remote, ...]:
    endpoints = transport.rules.endpoints(ref.domain, capability=capability, insecure=insecure)
    return tuple(Remote(transport, endpoint, ref.path) for endpoint in endpoints)


def scope(remote: Remote, *actions: str) -> tuple[str, ...]:
    return (f"repository:{remote.repository}:{','.join(actions)}",)


async def first_of(
    remotes: Sequence[Remote],
    ask: Callable[[Remote], Awaitable[T]],
    note: Callable[[str], None],
) -> tuple[int, T]:
    """What the first remote that can answers, and its index. Raises the last one's error, naming the others."""
    seen: list[tuple[Remote, MasuError]] = []
    for i, remote in enumerate(remotes):
        try:
            return i, await ask(remote)
        except _NEXT as error:
            seen.append((remote, error))
            if i + 1 < len(remotes):
                note(f"{remote}: {error.message()}; trying {remotes[i + 1]}")
    last = seen[-1][1]
    if len(seen) > 1:
        before = "; ".join(f"mirror {remote}: {error.message()}" for remote, error in seen[:-1])
        last.detail = f"{last.detail} (before: {before})" if last.detail else f"before: {before}"
    raise last


async def resolve(
    transport: Transport,
    ref: Reference,
    note: Callable[[str], None],
    *,
    insecure: bool,
    known: Callable[[str], bool] | None = None,
) -> Resolved:
    """Ask for what `ref` names.

    `known` says whether the document of a digest is here already; with it a HEAD is tried first, which spares
    the document and, on Docker Hub, the rate limit.
    """
    remotes = remotes_for(transport, ref, "pull" if ref.digest else "resolve", insecure=insecure)
    which = ref.digest or ref.tag
    assert which
    subject = ("image", str(ref))

    async def ask(remote: Remote) -> tuple[Descriptor, bytes | None]:
        if known is not None and not ref.digest:
            found = await _head(remote, which)
            if found is not None and known(found.digest):
                return found, None
        answer = await remote.document(
            "GET",
            f"manifests/{quote(which, safe=':')}",
            limit_bytes=graph.MANIFEST_LIMIT_BYTES,
            headers={"Accept": _ACCEPT},
            scopes=scope(remote, "pull"),
            note=note,
            subject=subject,
        )
        return _checked_manifest(answer, ref.digest, subject), answer.body

    at, (descriptor, raw) = await first_of(remotes, ask, note)
    if ref.digest:
        rest = remotes[at:]
    else:
        # Blobs are asked for by digest: mirrors that may not resolve tags may serve them.
        others = remotes_for(transport, ref, "pull", insecure=insecure)
        rest = (remotes[at], *(r for r in others if r.endpoint != remotes[at].endpoint))
    return Resolved(descriptor, raw, rest)


async def resolve_only(
    ref: Reference,
    *,
    rules: Rules,
    auth: Credentials | None = None,
    progress: Progress | None = None,
    insecure: bool = False,
    policy: Policy | None = None,
) -> Descriptor:
    """See masu.registry.resolve; this is its coroutine."""
    watcher = progress or Quiet()
    async with transport_for(rules, ref, policy, auth) as transport:
        found = await resolve(
            transport, ref, lambda text: watcher.status("", text), insecure=insecure, known=lambda digest: True
        )
    return found.descriptor


async def tags(
    ref: Reference,
    *,
    rules: Rules,
    auth: Credentials | None = None,
    insecure: bool = False,
    policy: Policy | None = None,
) -> list[str]:
    """See masu.registry.tags; this is its coroutine."""
    async with transport_for(rules, ref, policy, auth) as transport:
        remotes = remotes_for(transport, ref, "pull", insecure=insecure)
        return (await first_of(remotes, lambda remote: _tags(remote, ref), lambda text: None))[1]


async def _tags(remote: Remote, ref: Reference) -> list[str]:
    subject = ("repository", ref.name)
    found: list[str] = []
    url: str | None = None
    for _ in range(_MAX_TAG_PAGES):
        answer = await remote.document(
            "GET",
            "tags/list?n=1000",
            url=url,
            limit_bytes=graph.MANIFEST_LIMIT_BYTES,
            scopes=scope(remote, "pull"),
            subject=subject,
        )
        data = jsontext.loads(answer.body, name=answer.url)
        page = data.get("tags") if isinstance(data, dict) else None
        # A repository that lost its last tag has null here.
        for tag in page if isinstance(page, list) else []:
            if isinstance(tag, str) and tag.isprintable() and len(tag) <= 128:
                found.append(tag)
        link = answer.headers.get("Link", "")
        target, _, relation = link.partition(">")
        if not target.startswith("<") or 'rel="next"' not in relation:
            return found
        url = urljoin(answer.url, target[1:])
        if urlsplit(url)[:2] != urlsplit(answer.url)[:2]:
            raise FailedPrecondition(*subject, detail=f"the next page of tags is on another server: {url!r}")
    raise ResourceExhausted(*subject, detail=f"more than {_MAX_TAG_PAGES} pages of tags")


async def _head(remote: Remote, tag: str) -> Descriptor | None:
    try:
        answer = await remote.document(
            "HEAD",
            f"manifests/{quote(tag, safe=':')}",
            limit_bytes=0,
            headers={"Accept": _ACCEPT},
            scopes=scope(remote, "pull"),
            once=True,
        )
        digest = answer.headers.get("Docker-Content-Digest", "")
        size = int(answer.headers.get("Content-Length", ""))
        return Descriptor(_media_type(answer), digests.check(digest), size)
    except (Again, MasuError, ValueError):
        # HEAD is a short cut; the GET that follows says what is wrong.
        return None


def _media_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _checked_manifest(answer: Answer, wanted_digest: str | None, subject: tuple[str, str]) -> Descriptor:
    what, obj = subject
    if wanted_digest:
        graph.check_digest(answer.body, wanted_digest, what)
    said = answer.headers.get("Docker-Content-Digest", "")
    digest = wanted_digest or "sha256:" + hashlib.sha256(answer.body).hexdigest()
    if not wanted_digest and said.startswith("sha256:") and said != digest:
        raise DataLoss(what, obj, detail=f"the registry calls its manifest {said}, but it is {digest}")
    return graph.descriptor_of(answer.body, _media_type(answer), digest)
