"""One client's connection: its calls, each answered in the event loop, in a thread, or by a task of the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any, TypeVar, cast

from google.protobuf.message import DecodeError, Message
from h2.errors import ErrorCodes

from masu.api.containerd.service import Call, Method
from masu.api.containerd.site import Site
from masu.api.containerd.status import status_of
from masu.api.grpc.connection import (
    Begun,
    Broken,
    Cancelled,
    Connection,
    Event,
    HalfClosed,
    Received,
    Stream,
    Writable,
)
from masu.api.grpc.status import Code
from masu.daemon.calls import Calls
from masu.daemon.threads import Threads
from masu.errors import MasuError

log = logging.getLogger("masud")
T = TypeVar("T")
# Of a stream, what is made at one time in a thread.
_BATCH_BYTES = 1 << 20
_BATCH_ITEMS = 200
_BRIEF_BYTES = 64 << 10
# For a client that does not read: what more of a stream is made for.
_UNSENT_BYTES = 256 << 10


class Limits:
    """What one connection may cost: a message, in either direction, and the streams at one time."""

    __slots__ = ("receive_bytes", "send_bytes", "streams")

    def __init__(self, receive_bytes: int, send_bytes: int, streams: int) -> None:
        self.receive_bytes = receive_bytes
        self.send_bytes = send_bytes
        self.streams = streams


class Served:
    """What all connections share: `methods` by their paths, /service/Method, with the service's name."""

    def __init__(
        self, site: Site, methods: Mapping[str, tuple[str, Method]], threads: Threads, calls: Calls, limits: Limits
    ) -> None:
        self.site = site
        self.methods = methods
        self.services = {service for service, _ in methods.values()}
        self.threads = threads
        self.calls = calls
        self.limits = limits
        self.connections: set[Client] = set()
        self.is_stopping = False
        self.ended = asyncio.Event()  # a call has, since it was cleared


class _Running:
    """A call that is being answered. `messages` has the request, or those of a stream that were not taken yet."""

    __slots__ = (
        "call",
        "is_begun",
        "is_cancelled",
        "messages",
        "method",
        "service",
        "stream",
        "task",
        "timer",
        "woken",
    )

    def __init__(self, stream: Stream, service: str, method: Method, call: Call) -> None:
        self.stream = stream
        self.service = service
        self.method = method
        self.call = call
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.woken = asyncio.Event()
        self.is_begun = False
        self.is_cancelled = False


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._loop = asyncio.get_running_loop()
        limits = served.limits
        self._wire = Connection(limits.receive_bytes, limits.send_bytes, limits.streams)
        # Until each is done in truth: a thread goes on when its client has gone.
        self.running: dict[int, _Running] = {}
        self._is_full = False
        self._will_flush = False

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._served.connections.add(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._wire.receive(data):
                self._react(event)
        except Broken as error:
            log.debug("gRPC: %s", error)
            self._flush()
            self._transport.close()
        except Exception as error:
            log.error("gRPC", exc_info=error)
            self._transport.abort()
        else:
            self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._served.connections.discard(self)
        for running in list(self.running.values()):
            self._cancel(running)

    def pause_writing(self) -> None:
        """A client that does not read is not listened to, either: it is answered even to pings."""
        self._is_full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        self._transport.resume_reading()
        for running in self.running.values():
            running.woken.set()

    def close(self) -> None:
        """Says goodbye; calls that still go on are cancelled, and are `running` until they have ended."""
        for running in list(self.running.values()):
            self._cancel(running)
        if not self._transport.is_closing():
            self._wire.leave()
            self._flush()
        self._transport.close()

    # The calls.

    def _react(self, event: Event) -> None:
        if isinstance(event, Begun):
            self._begin(event.stream)
            return
        running = self.running.get(event.stream.id)
        if running is None:
            return
        match event:
            case Received(_, message):
                running.messages.put_nowait(message)
            case HalfClosed():
                self._complete(running)
            case Cancelled():
                self._cancel(running)
            case Writable():
                running.woken.set()

    def _begin(self, stream: Stream) -> None:
        served = self._served
        if len(self.running) >= 2 * served.limits.streams:
            # Begun and given up faster than it can be done (CVE-2023-44487).
            self._wire.leave(ErrorCodes.ENHANCE_YOUR_CALM)
            raise Broken("more calls than streams")
        if served.is_stopping:
            self._wire.finish(stream, Code.UNAVAILABLE, "the daemon is stopping")
            return
        found = served.methods.get(stream.path)
        if found is None:
            self._wire.finish(stream, Code.UNIMPLEMENTED, self._unknown(stream.path))
            return
        service, method = found
        try:
            timeout_s = stream.timeout_s
        except ValueError as error:
            self._wire.finish(stream, Code.INTERNAL, f"malformed {error}")
            return
        running = _Running(stream, service, method, Call(served.site, stream.metadata, served.threads))
        self.running[stream.id] = running
        served.calls.begin(service, method)
        if timeout_s is not None:
            running.timer = self._loop.call_later(timeout_s, self._expire, running)
        if method.streams_in:
            found_requests = self._requests(running)
            self._start(running, lambda: method.function(found_requests, running.call))

    def _unknown(self, path: str) -> str:
        service, _, method = path.removeprefix("/").rpartition("/")
        if service in self._served.services:
            return f"unknown method {method} for service {service}"
        return f"unknown service {service}"

    def _complete(self, running: _Running) -> None:
        """The client has said all; a call with one request begins."""
        method, call = running.method, running.call
        if method.streams_in:
            running.messages.put_nowait(None)
            return
        running.is_begun = True
        if running.messages.qsize() != 1:
            self._conclude(running, Code.INTERNAL, f"{running.messages.qsize()} requests, one is expected")
            return
        data = running.messages.get_nowait()
        assert data is not None
        self._wire.taken(running.stream, len(data))
        try:
            request = method.request.FromString(data)
        except DecodeError as error:
            self._conclude(running, Code.INTERNAL, f"grpc: error unmarshalling request: {error}")
            return
        if method.is_brief and method.streams_out:
            self._tell_briefly(running, request)
        elif method.streams_out or method.in_loop:
            self._start(running, lambda: method.function(request, call))
        elif method.is_brief:
            self._tell(running, lambda: self._wire.send(running.stream, _answer(method, request, call)))
        else:
            future = self._served.threads.submit(_answer, method, request, call)
            future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._answered, running, done))

    def _answered(self, running: _Running, done: Future[bytes]) -> None:
        """What a thread has made."""
        self._tell(running, lambda: self._wire.send(running.stream, done.result()))

    def _tell(self, running: _Running, send: Callable[[], None]) -> None:
        """Sends the one answer, or the error that is raised in its place."""
        try:
            send()
        except Exception as error:
            self._conclude(running, *_status(running, error))
        else:
            self._conclude(running, Code.CANCELLED if running.is_cancelled else Code.OK)

    def _tell_briefly(self, running: _Running, request: Message) -> None:
        """The beginning of a stream at once, in most cases all of it; the rest in threads."""
        try:
            items: Iterator[Message] = running.method.function(request, running.call)
            batch, is_done = _batch(items, _BRIEF_BYTES)
        except Exception as error:
            self._conclude(running, *_status(running, error))
            return
        for item in batch:
            self._wire.send(running.stream, item.SerializeToString())
        if is_done:
            self._conclude(running, Code.OK)
        else:
            self._start(running, lambda: items)

    def _start(self, running: _Running, call: Callable[[], Any]) -> None:
        running.is_begun = True
        running.task = self._loop.create_task(self._run(running, call))
        # One that is cancelled before its first step never runs at all.
        running.task.add_done_callback(lambda _: self._conclude(running, Code.CANCELLED))

    async def _run(self, running: _Running, call: Callable[[], Any]) -> None:
        """Answers in the loop; of what is made in threads, what is to be sent next."""
        method = running.method
        try:
            if not method.streams_out:
                answer: Message = await call()
                self._wire.send(running.stream, answer.SerializeToString())
            else:
                found = call()
                async with aclosing(found if method.in_loop else _drain(self._served.threads, found)) as items:
                    async for item in items:
                        self._wire.send(running.stream, item.SerializeToString())
                        await self._room(running)
        except Exception as error:
            self._conclude(running, *_status(running, error))
        else:
            self._conclude(running, Code.OK)

    async def _room(self, running: _Running) -> None:
        """Until the client has taken most of what was sent."""
        self._flush_soon()
        while self._is_full or running.stream.unsent > _UNSENT_BYTES:
            running.woken.clear()
            await running.woken.wait()

    async def _requests(self, running: _Running) -> AsyncIterator[Message]:
        while (data := await running.messages.get()) is not None:
            self._wire.taken(running.stream, len(data))
            self._flush_soon()
            yield running.method.request.FromString(data)

    def _expire(self, running: _Running) -> None:
        self._wire.finish(running.stream, Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        self._flush_soon()
        self._cancel(running)

    def _cancel(self, running: _Running) -> None:
        """Nobody waits for it any more. What a thread works on is worked on to the end."""
        running.is_cancelled = True
        if running.task is not None:
            running.task.cancel()
        elif not running.is_begun:
            self._conclude(running, Code.CANCELLED)

    def _conclude(self, running: _Running, code: Code, text: str = "") -> None:
        if self.running.pop(running.stream.id, None) is None:
            return
        if running.timer is not None:
            running.timer.cancel()
        self._served.ended.set()
        self._served.calls.end(running.service, running.method, code.name)
        if code not in (Code.OK, Code.CANCELLED):
            log.debug("%s/%s: %s: %s", running.service, running.method.name, code.name, text)
        self._wire.finish(running.stream, code, text)
        self._flush_soon()

    # What is written.

    def _flush_soon(self) -> None:
        """What is said in one turn of the loop leaves in one piece."""
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._will_flush = False
        data = self._wire.to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _answer(method: Method, request: Message, call: Call) -> bytes:
    answer: Message = method.function(request, call)
    return answer.SerializeToString()


def _status(running: _Running, error: Exception) -> tuple[Code, str]:
    if isinstance(error, MasuError):
        return status_of(error)
    log.error("%s/%s", running.service, running.method.name, exc_info=error)
    return Code.INTERNAL, f"{type(error).__name__}: {error}"


async def _drain(threads: Threads, items: Iterator[T]) -> AsyncGenerator[T, None]:
    is_done = False
    try:
        while not is_done:
            batch, is_done = await threads.run(_batch, items)
            for item in batch:
                yield item
    finally:
        close = getattr(items, "close", None)
        if close is not None and not is_done:
            await threads.run(close)


def _batch(items: Iterator[Any], most_bytes: int = _BATCH_BYTES) -> tuple[list[Any], bool]:
    """The next ones, as many as are worth a change of threads; whether they were the last."""
    found, size = [], 0
    for item in items:
        found.append(item)
        size += item.ByteSize()
        if size >= most_bytes or len(found) >= _BATCH_ITEMS:
            return found, False
    return found, True
