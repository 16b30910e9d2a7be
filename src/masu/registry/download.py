"""One blob from whichever server into the store: streamed, counted, resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import ClientResponse, StreamReader

from masu.errors import AlreadyExists, DataLoss
from masu.registry.resolving import scope
from masu.registry.threads import in_thread
from masu.registry.transport import Again, Remote
from masu.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.registry.progress import Progress
    from masu.store import Writer


# Held in memory for one blob while the disk is behind.
_HELD_BYTES = 4 << 20


class Download:
    """One blob on its way from whichever remote into a store writer."""

    def __init__(self, writer: Writer, descriptor: Descriptor, progress: Progress) -> None:
        self._writer = writer
        self._descriptor = descriptor
        self._progress = progress
        # Bytes that an earlier process left: if the digest is wrong in the end, they may be why.
        self._inherited = writer.offset

    async def run(self, remote: Remote, note: Callable[[str], None]) -> None:
        """Download from `remote` and commit. DataLoss when what came is not what was promised."""
        note("Downloading")
        await remote.retrying(lambda: self._attempt(remote), note, lambda: self._writer.offset)
        try:
            await self._commit(note)
        except DataLoss:
            if not self._inherited:
                raise
            note("What an earlier download left is damaged, starting over")
            await self.restart()
            await remote.retrying(lambda: self._attempt(remote), note, lambda: self._writer.offset)
            await self._commit(note)

    async def _commit(self, note: Callable[[str], None]) -> None:
        note("Verifying checksum")
        try:
            await in_thread(self._writer.commit, self._descriptor.size, self._descriptor.digest)
        except AlreadyExists:
            pass  # a load or an import brought the same blob meanwhile

    async def restart(self) -> None:
        self._inherited = 0
        offset = self._writer.offset
        if offset:
            await in_thread(self._writer.truncate, 0)
            self._progress.advance(self._descriptor.digest, -offset)

    async def _attempt(self, remote: Remote) -> None:
        size = self._descriptor.size
        if self._writer.offset > size:
            await self.restart()
        if self._writer.offset == size:
            return
        offset = self._writer.offset
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = await remote.url(f"blobs/{self._descriptor.digest}")
        subject = ("layer", self._descriptor.digest)
        async with remote.exchange("GET", url, headers=headers, scopes=scope(remote, "pull")) as response:
            if response.status == 416 and offset:
                await self.restart()
                raise Again(f"{remote}: cannot go on at byte {offset}")
            if response.status not in (200, 206):
                raise await remote.refusal(response, subject)
            if offset and (
                response.status == 200 or not _continues(response.headers.get("Content-Range"), offset, size)
            ):
                # The server does not know ranges.
                await self.restart()
                if response.status == 206:
                    raise Again(f"{remote}: sent another range than asked for")
                offset = 0
            elif response.status == 206 and not offset:
                raise DataLoss(*subject, detail=f"{remote} sends a part where all was asked for")
            length = response.content_length
            if length is not None and length != size - offset:
                raise DataLoss(*subject, detail=f"{remote} offers {offset + length} bytes, the manifest says {size}")
            await self._receive(response, remote)

    async def _receive(self, response: ClientResponse, remote: Remote) -> None:
        """Write while the next bytes arrive: hashing and the disk take as long as a fast network."""
        size, digest = self._descriptor.size, self._descriptor.digest
        pump = _Pump(response.content)
        pumping = asyncio.create_task(pump.run())
        now, policy = asyncio.get_running_loop().time, remote.policy
        window_ends, window_bytes = now() + policy.slow_window_s, 0
        try:
            while chunks := await pump.take():
                arrived = sum(map(len, chunks))
                window_bytes += arrived
                if now() > window_ends:
                    if window_bytes < policy.slow_window_bytes:
                        raise Again(f"{remote}: only {window_bytes} bytes in {policy.slow_window_s:g} s")
                    window_ends, window_bytes = now() + policy.slow_window_s, 0
                if self._writer.offset + arrived > size:
                    raise DataLoss("layer", digest, detail=f"{remote} sends more than the {size} bytes of the manifest")
                await in_thread(self._write, chunks)
                self._progress.advance(digest, arrived)
            await pumping  # tells why it ended
        finally:
            pumping.cancel()
            await asyncio.wait({pumping})
        if self._writer.offset < size:
            raise Again(f"{remote}: the answer ended {size - self._writer.offset} bytes too early")

    def _write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._writer.write(chunk)


class _Pump:
    """Takes bytes off aiohttp's hands as they arrive: of what it still holds when a connection breaks it gives
    nothing but the error, and a download would go on further back than need be."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._chunks: list[bytes] = []
        self._held = 0
        self._ended = False
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()

    async def run(self) -> None:
        try:
            while chunk := await self._content.readany():
                self._chunks.append(chunk)
                self._held += len(chunk)
                self._arrived.set()
                while self._held > _HELD_BYTES:
                    self._taken.clear()
                    await self._taken.wait()
        finally:
            self._ended = True
            self._arrived.set()

    async def take(self) -> list[bytes]:
        """All that arrived since; [] at the end."""
        while not self._chunks and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        chunks, self._chunks, self._held = self._chunks, [], 0
        self._taken.set()
        return chunks


def _continues(content_range: str | None, offset: int, size: int) -> bool:
    """Whether a 206 is the rest that was asked for: `bytes 1000-1999/2000` (RFC 9110, 14.4)."""
    unit, _, rest = (content_range or "").partition(" ")
    span, _, total = rest.partition("/")
    return unit == "bytes" and span == f"{offset}-{size - 1}" and total in (str(size), "*")


def ref_of(descriptor: Descriptor) -> str:
    """The name of a partial download in the store; the same in every process that wants the blob."""
    return f"blob-{descriptor.digest}"
