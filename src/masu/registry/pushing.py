"""Pushing: blobs first, then manifests from the leaves up, the tag last.

        HEAD blobs/<digest>                       there already
        POST blobs/uploads/?mount=D&from=REPO     201: taken over from another repository of the same registry
                                                  202: an upload begins at Location
        PUT  <location>?digest=D                  the whole blob, or
        PATCH <location>, Content-Range …         piece by piece, then an empty PUT
        PUT  manifests/<digest or tag>

A reader of the tag thus never sees an image whose parts are missing. Pieces let a broken upload go on: the
registry says in a Range header how far it got.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from urllib.parse import quote, urlencode, urljoin, urlsplit

from masu.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from masu.registry import graph
from masu.registry.credentials import Credentials
from masu.registry.progress import Quiet
from masu.registry.resolving import Ask, first_of, remotes_for, scope, transport_for
from masu.registry.rules import Rules
from masu.registry.threads import in_thread, one_of
from masu.registry.transport import Again, Answer, Body, Policy, Remote, body_of
from masu.spec.image import Descriptor, Index, Manifest
from masu.spec.platform import Platform
from masu.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.registry.progress import Progress
    from masu.store import NamespaceStore

# Above this a blob goes in pieces of this size: what a broken connection costs at most.
DEFAULT_CHUNK_BYTES = 64 << 20
# One of these must get through within the stall timeout.
_READ_BYTES = 256 << 10
_ANSWER_LIMIT_BYTES = 64 << 10


async def push(
    ns: NamespaceStore,
    ref: Reference,
    *,
    rules: Rules,
    source: str | None = None,
    wanted: Platform | None = None,
    auth: Credentials | None = None,
    progress: Progress | None = None,
    concurrency: int = 3,
    insecure: bool = False,
    policy: Policy | None = None,
    chunk_bytes: int | None = None,
    credentials: Ask | None = None,
) -> Descriptor:
    """See masu.registry.push; this is its coroutine. `credentials`: Transport's `ask`."""
    if ref.digest:
        raise InvalidArgument("reference", ref, detail="a push goes to a tag, not to a digest")
    watcher = progress or Quiet()
    name = source or str(ref)
    record = await in_thread(ns.images.get, name)
    target = await in_thread(graph.whole, ns, record.target, wanted, name)
    if target.digest != record.target.digest:
        watcher.status("", f"Only {target.platform or target.digest} of {name} is pushed")
    async with transport_for(rules, ref, policy, auth, credentials) as transport:
        remotes = remotes_for(transport, ref, "push", insecure=insecure)

        async def ask(remote: Remote) -> None:
            pusher = Pusher(ns, remote, ref, watcher, max(concurrency, 1), chunk_bytes or DEFAULT_CHUNK_BYTES)
            await pusher.push(target)

        await first_of(remotes, ask, lambda text: watcher.status("", text))
    return target


class Pusher:
    """Sends the content of one image to one repository."""

    def __init__(
        self, ns: NamespaceStore, remote: Remote, ref: Reference, progress: Progress, concurrency: int, chunk_bytes: int
    ) -> None:
        self._ns = ns
        self._remote = remote
        self._ref = ref
        self._progress = progress
        self._slots = asyncio.Semaphore(concurrency)
        self._chunk_bytes = chunk_bytes
        # Sent silently: nobody who watches layers knows what they are.
        self._configs: set[str] = set()
        self._source_key = f"{graph.SOURCE_PREFIX}{ref.domain}"

    async def push(self, target: Descriptor) -> None:
        documents: list[tuple[Descriptor, bytes]] = []
        blobs: dict[str, Descriptor] = {}
        await in_thread(self._collect, target, documents, blobs, 0)
        # What is above comes first.
        for descriptor, raw in reversed(documents):
            self._tell_document(descriptor, raw, "Waiting")
        for blob in blobs.values():
            if blob.digest not in self._configs:
                self._progress.layer(blob.digest, blob.size)
        try:
            async with asyncio.TaskGroup() as group:
                for blob in blobs.values():
                    group.create_task(self._blob(blob))
        except BaseExceptionGroup as errors:
            raise one_of(errors) from None
        # Leaves come first out of _collect; the target, which gets the tag, last.
        for descriptor, raw in documents:
            await self._manifest(descriptor, raw, self._ref.tag if descriptor is target else None)
            self._tell_document(descriptor, raw, "Pushed")

    def _tell_document(self, descriptor: Descriptor, raw: bytes, text: str) -> None:
        self._progress.document(descriptor, graph.below(graph.parse_document(raw, descriptor)), text)

    def _collect(
        self, target: Descriptor, documents: list[tuple[Descriptor, bytes]], blobs: dict[str, Descriptor], depth: int
    ) -> None:
        if depth > graph.MAX_DEPTH:
            raise InvalidArgument("image index", target.digest, detail="too many indexes in one another")
        raw = self._ns.content.read(target.digest, graph.MANIFEST_LIMIT_BYTES)
        document = graph.parse_document(raw, target)
        if isinstance(document, Index):
            for child in document.manifests:
                self._collect(child, documents, blobs, depth + 1)
        elif isinstance(document, Manifest):
            self._configs.add(document.config.digest)
            for blob in (document.config, *document.layers):
                blobs.setdefault(blob.digest, blob)
        documents.append((target, raw))

    def _note(self, digest: str) -> Callable[[str], None]:
        return partial(self._progress.status, digest)

    async def _blob(self, blob: Descriptor) -> None:
        progress = Quiet() if blob.digest in self._configs else self._progress
        note = partial(progress.status, blob.digest)
        async with self._slots:
            if await self._exists(blob):
                note("Layer already exists")
                progress.advance(blob.digest, blob.size)
                text = "Already exists"
            else:
                upload = Upload(self._ns, self._remote, blob, progress, self._chunk_bytes)
                mounted = await upload.run(await in_thread(self._mount_candidates, blob.digest), note)
                note(f"Mounted from {mounted}" if mounted else "Pushed")
                text = "Already exists" if mounted else "Pushed"
            if blob.digest in self._configs:
                self._progress.document(blob, (), text)
            await in_thread(graph.add_labels, self._ns, blob.digest, {self._source_key: self._ref.path})

    async def _exists(self, blob: Descriptor) -> bool:
        try:
            answer = await self._remote.document(
                "HEAD",
                f"blobs/{blob.digest}",
                limit_bytes=0,
                scopes=self._scopes(),
                note=self._note(blob.digest),
                subject=("layer", blob.digest),
            )
        except NotFound:
            return False
        length = answer.headers.get("Content-Length", "")
        # A registry that holds something else under this name is not helped by our leaving it there.
        return not length.isdigit() or int(length) == blob.size

    def _scopes(self, *others: str) -> tuple[str, ...]:
        return (*scope(self._remote, "pull", "push"), *(f"repository:{other}:pull" for other in others))

    def _mount_candidates(self, digest: str) -> list[str]:
        labels = self._ns.content.info(digest).labels
        prefix = self._remote.endpoint.prefix
        return [prefix + s for s in labels.get(self._source_key, "").split(",") if s and s != self._ref.path]

    async def _manifest(self, descriptor: Descriptor, raw: bytes, tag: str | None) -> None:
        note = self._note("")
        name = tag or descriptor.digest
        answer = await self._remote.document(
            "PUT",
            f"manifests/{quote(name, safe=':')}",
            limit_bytes=_ANSWER_LIMIT_BYTES,
            ok=(200, 201, 202),
            headers={"Content-Type": descriptor.media_type},
            body=body_of(raw),
            scopes=self._scopes(),
            note=note,
            subject=("manifest", descriptor.digest),
        )
        said = answer.headers.get("Docker-Content-Digest", "")
        if said.startswith("sha256:") and said != descriptor.digest:
            raise DataLoss("manifest", descriptor.digest, detail=f"the registry calls it {said}")
        note(f"{name}: digest: {descriptor.digest} size: {descriptor.size}")


class Upload:
    """One blob on its way into a repository."""

    def __init__(
        self, ns: NamespaceStore, remote: Remote, blob: Descriptor, progress: Progress, chunk_bytes: int
    ) -> None:
        self._ns = ns
        self._remote = remote
        self._blob = blob
        self._progress = progress
        self._chunk_bytes = chunk_bytes
        self._scopes = scope(remote, "pull", "push")
        self._sent = 0  # what progress was told
        self._acknowledged = 0
        self._location = ""
        self._uncertain = False
        self._finishing = False
        self._fd = -1
        self._in_pieces = blob.size > chunk_bytes

    async def run(self, candidates: list[str], note: Callable[[str], None]) -> str:
        """Get the blob there; returns the repository it was mounted from, or "" when it was sent."""
        for candidate in candidates:
            if await self._mount(candidate):
                self._tell(self._blob.size)
                return candidate
        note("Pushing")
        self._fd = await in_thread(self._ns.content.open, self._blob.digest)
        try:
            await self._remote.retrying(self._attempt, note, lambda: self._acknowledged)
        finally:
            os.close(self._fd)
        self._tell(self._blob.size)
        return ""

    async def _mount(self, repository: str) -> bool:
        query = urlencode({"mount": self._blob.digest, "from": repository}, safe=":/")
        try:
            answer = await self._remote.document(
                "POST",
                f"blobs/uploads/?{query}",
                limit_bytes=_ANSWER_LIMIT_BYTES,
                ok=(201, 202),
                scopes=(*self._scopes, f"repository:{repository}:pull"),
                once=True,
            )
        except (Again, PermissionDenied, NotFound, FailedPrecondition):
            # Only a short cut; the way round it says what is wrong.
            return False
        if answer.status == 201:
            return True
        self._location = self._where(answer)
        return False

    def _where(self, answer: Answer) -> str:
        location = answer.headers.get("Location", "")
        if not location:
            raise FailedPrecondition("registry", self._remote, detail="an upload begins without a Location")
        target = urljoin(answer.url, location)
        parts, own = urlsplit(target), urlsplit(answer.url)
        if parts.scheme == "http" and own.scheme == "https":
            # A registry behind a proxy that ends TLS does not know how it was reached.
            if parts.hostname != own.hostname:
                raise FailedPrecondition("registry", self._remote, detail=f"wants an upload by plain http: {target!r}")
            target = "https" + target[4:]
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise FailedPrecondition("registry", self._remote, detail=f"wants an upload to {target!r}")
        return target

    async def _begin(self) -> None:
        answer = await self._call("POST", "blobs/uploads/", ok=(202,))
        self._location = self._where(answer)
        self._acknowledged, self._uncertain = 0, False
        minimum = answer.headers.get("OCI-Chunk-Min-Length", "")
        if minimum.isdigit():
            self._chunk_bytes = max(self._chunk_bytes, min(int(minimum), 1 << 30))

    async def _attempt(self) -> None:
        if self._finishing and await self._is_there():
            return
        if self._in_pieces:
            await self._pieces()
            return
        if not self._location:
            await self._begin()
        location, self._location = self._location, ""  # good for one try
        self._tell(0)
        await self._finish(location, self._body(0, self._blob.size))

    async def _pieces(self) -> None:
        if self._location and self._uncertain:
            await self._ask_offset()
        if not self._location:
            await self._begin()
        size = self._blob.size
        while self._acknowledged < size:
            start = self._acknowledged
            end = min(start + self._chunk_bytes, size)
            self._tell(start)
            answer = await self._patch(start, end)
            self._location = self._where(answer)
            self._acknowledged = _offset(answer, default=end)
            self._uncertain = False
            if not start < self._acknowledged <= end:
                raise Again(f"{self._remote}: took {self._acknowledged} of {end} bytes")
        self._uncertain = True
        try:
            await self._finish(self._location, None)
        except NotFound as e:
            self._location = ""
            raise Again(str(e)) from e

    async def _patch(self, start: int, end: int) -> Answer:
        # A broken piece may have arrived in part, or whole with its answer lost.
        self._uncertain = True
        try:
            return await self._call(
                "PATCH",
                url=self._location,
                ok=(202, 201, 204),
                headers={"Content-Range": f"{start}-{end - 1}", "Content-Type": "application/octet-stream"},
                body=self._body(start, end),
            )
        except NotFound as e:
            self._location = ""  # the registry has forgotten this upload
            raise Again(str(e)) from e
        except (FailedPrecondition, PermissionDenied, Unavailable) as e:
            if start:
                raise
            # No support for pieces (405, 415, 501…): in one, then.
            self._in_pieces, self._location = False, ""
            raise Again(str(e)) from e

    async def _ask_offset(self) -> None:
        """After a broken piece: how far the registry got (distribution-spec, "Getting Upload Status")."""
        try:
            answer = await self._call("GET", url=self._location, ok=(204, 202, 200))
            self._location = self._where(answer)
            self._acknowledged = min(_offset(answer, default=0), self._blob.size)
            self._uncertain = False
        except (NotFound, FailedPrecondition, PermissionDenied):
            self._location = ""

    async def _is_there(self) -> bool:
        try:
            await self._call("HEAD", f"blobs/{self._blob.digest}", ok=(200,))
        except NotFound:
            return False
        return True

    async def _finish(self, location: str, body: Body | None) -> None:
        # Only its answer may be lost: then the blob is there.
        self._finishing = True
        url = location + ("&" if urlsplit(location).query else "?") + f"digest={quote(self._blob.digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
        answer = await self._call("PUT", url=url, ok=(201, 204), headers=headers, body=body)
        said = answer.headers.get("Docker-Content-Digest", "")
        if said.startswith("sha256:") and said != self._blob.digest:
            raise DataLoss("layer", self._blob.digest, detail=f"the registry calls it {said}")

    async def _call(
        self,
        method: str,
        path: str = "",
        *,
        ok: tuple[int, ...],
        url: str | None = None,
        headers: dict[str, str] | None = None,
        body: Body | None = None,
    ) -> Answer:
        return await self._remote.document(
            method,
            path,
            url=url,
            limit_bytes=_ANSWER_LIMIT_BYTES,
            ok=ok,
            headers=headers,
            body=body,
            scopes=self._scopes,
            subject=("layer", self._blob.digest),
            once=True,
        )

    def _body(self, start: int, end: int) -> Body:
        async def chunks() -> AsyncIterator[bytes]:
            self._tell(start)
            at = start
            while at < end:
                data = await in_thread(os.pread, self._fd, min(_READ_BYTES, end - at), at)
                if not data:
                    raise DataLoss("content", self._blob.digest, detail="the file became shorter")
                yield data
                at += len(data)
                self._tell(at)

        return Body(end - start, chunks)

    def _tell(self, sent: int) -> None:
        if sent != self._sent:
            self._progress.advance(self._blob.digest, sent - self._sent)
            self._sent = sent


def _offset(answer: Answer, *, default: int) -> int:
    """The number of bytes that `Range: 0-N` acknowledges."""
    value = answer.headers.get("Range", "").removeprefix("bytes=")
    first, _, last = value.partition("-")
    if not value or first != "0" or not last.isdigit():
        return default
    # An upload without bytes has "0-0", which also is what one byte has; nobody sends single bytes.
    return 0 if last == "0" else int(last) + 1
