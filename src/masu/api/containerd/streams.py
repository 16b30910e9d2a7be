"""Named streams of messages between a client and what works for it: progress, archives, questions for credentials.

    client                              masud
      Stream ── StreamInit{id} ──────►    known by its name, in its namespace
             ◄── Empty
      Transfer{…, stream: id} ───────►    takes the stream
             ◄═ messages both ways ═►

Bytes (`Sender`, `Receiver`) are Data messages, no more of them than the receiver's WindowUpdates have made room for.
What waits in either direction is bounded: a client that does not read stops what writes to it, nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from masu.api.proto import transfer_types_pb2 as types
from masu.errors import AlreadyExists, Canceled, InvalidArgument, NotFound, ResourceExhausted

# containerd's.
CHUNK_BYTES = 32 << 10
# What may be on its way to us.
WINDOW_BYTES = 1 << 20
_WAITING = 64


def packed(message: Message) -> Any:
    """As containerd names types: without a host before the name."""
    return Any(type_url=str(message.DESCRIPTOR.full_name), value=message.SerializeToString())


class Stream:
    """One stream; belongs to the event loop."""

    def __init__(self) -> None:
        # None is the end: of what the client sends, of what is sent to it.
        self._incoming: asyncio.Queue[Any | None] = asyncio.Queue(_WAITING)
        self._outgoing: asyncio.Queue[Any | None] = asyncio.Queue(_WAITING)
        self._gone = asyncio.Event()

    async def receive(self) -> Any | None:
        """The next message, None at the end."""
        if self._gone.is_set() and self._incoming.empty():
            return None
        message = await self._incoming.get()
        if message is None:
            self._incoming.put_nowait(None)
        return message

    async def send(self, message: Message) -> None:
        """Raises Canceled when the client has gone."""
        putting = asyncio.ensure_future(self._outgoing.put(packed(message)))
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({putting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not putting.done():
                raise Canceled("stream", detail="the client has gone")
        finally:
            putting.cancel()
            gone.cancel()

    def offer(self, message: Message) -> None:
        """Sends it if there is room: progress that nobody reads is dropped."""
        if not self._gone.is_set() and self._outgoing.qsize() < _WAITING - 1:
            self._outgoing.put_nowait(packed(message))

    async def close(self) -> None:
        """The client is told the end when it has read the rest."""
        if not self._gone.is_set():
            putting = asyncio.ensure_future(self._outgoing.put(None))
            gone = asyncio.ensure_future(self._gone.wait())
            await asyncio.wait({putting, gone}, return_when=asyncio.FIRST_COMPLETED)
            putting.cancel()
            gone.cancel()

    async def pump(self, requests: AsyncIterator[Any]) -> None:
        """What the client sends, until its end."""
        async for message in requests:
            await self._incoming.put(message)
        await self._incoming.put(None)

    async def messages(self) -> AsyncIterator[Any]:
        while (message := await self._outgoing.get()) is not None:
            yield message

    def lose(self) -> None:
        """The client has gone, or has been told the end."""
        self._gone.set()
        while self._incoming.full():
            self._incoming.get_nowait()
        self._incoming.put_nowait(None)


class Streams:
    """By namespace and name; `most` at a time."""

    def __init__(self, most: int = 10_000) -> None:
        self._streams: dict[tuple[str, str], Stream] = {}
        self._most = most

    def register(self, namespace: str, id: str, stream: Stream) -> None:
        if not id or len(id) > 1024:
            raise InvalidArgument("stream", id[:64], detail="1 to 1024 characters")
        if (namespace, id) in self._streams:
            raise AlreadyExists("stream", id)
        if len(self._streams) >= self._most:
            raise ResourceExhausted("streams", detail=f"{self._most} are open")
        self._streams[namespace, id] = stream

    @property
    def count(self) -> int:
        return len(self._streams)

    def unregister(self, namespace: str, id: str) -> None:
        self._streams.pop((namespace, id), None)

    def get(self, namespace: str, id: str) -> Stream:
        """Raises NotFound."""
        found = self._streams.get((namespace, id))
        if found is None:
            raise NotFound("stream", id)
        return found


class Sender:
    """Bytes to a client."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._room = 0

    async def write(self, data: bytes) -> None:
        """All of it. Raises Canceled when the client has gone, InvalidArgument for what it should not send."""
        view = memoryview(data)
        while view:
            while self._room <= 0:
                self._room += await self._update()
            chunk = view[: min(CHUNK_BYTES, self._room)]
            await self._stream.send(types.Data(data=bytes(chunk)))
            self._room -= len(chunk)
            view = view[len(chunk) :]

    async def _update(self) -> int:
        message = await self._stream.receive()
        if message is None:
            raise Canceled("stream", detail="the client has gone")
        if message.type_url.rpartition("/")[2] != types.WindowUpdate.DESCRIPTOR.full_name:
            raise InvalidArgument("stream", message.type_url[:128], detail="a WindowUpdate is expected")
        update: int = types.WindowUpdate.FromString(message.value).update
        return update


class Receiver:
    """Bytes from a client."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._room = 0

    async def read(self) -> bytes:
        """The next ones, empty at the end. Raises InvalidArgument for what the client should not send."""
        if self._room < WINDOW_BYTES // 2:
            await self._stream.send(types.WindowUpdate(update=WINDOW_BYTES - self._room))
            self._room = WINDOW_BYTES
        message = await self._stream.receive()
        if message is None:
            return b""
        if message.type_url.rpartition("/")[2] != types.Data.DESCRIPTOR.full_name:
            raise InvalidArgument("stream", message.type_url[:128], detail="Data is expected")
        data: bytes = types.Data.FromString(message.value).data
        self._room -= len(data)
        return data
