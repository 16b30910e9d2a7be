"""gRPC: services on a socket, in threads and in the event loop, each error as its status.

What a client can cost is bounded: a message by `max_receive_bytes`, its streams by `max_streams` a connection (more
wait on the client's side, by HTTP/2's own rule), the threads of all of them by the pool.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio

from masu.api.containerd.service import Call, Method, Service
from masu.api.containerd.site import Site
from masu.api.containerd.status import status_of
from masu.daemon.calls import Calls
from masu.errors import MasuError

log = logging.getLogger("masud")
T = TypeVar("T")
# Of a stream, what is made at one time in a thread.
_BATCH_BYTES = 1 << 20
_BATCH_ITEMS = 200

# containerd's defaults.
MESSAGE_BYTES = 16 << 20
MAX_STREAMS = 1000
THREADS = 32


class Threads:
    """The pool that calls of the engine run in."""

    def __init__(self, count: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="masud")

    async def run(self, function: Callable[..., T], *values: object) -> T:
        """A caller that is cancelled waits all the same: a thread cannot be interrupted, and what it works on must
        not be taken away from under it."""
        done = asyncio.get_running_loop().run_in_executor(self._pool, function, *values)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait({done})
            if not done.cancelled():
                done.exception()  # seen: the cancellation is what is told
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class Server:
    """Services for one site. `threads` is the caller's to close, after the server."""

    def __init__(
        self,
        site: Site,
        services: Iterable[Service],
        threads: Threads,
        *,
        max_receive_bytes: int = MESSAGE_BYTES,
        max_send_bytes: int = MESSAGE_BYTES,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        self.calls = Calls()
        self._site = site
        self._threads = threads
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", max_receive_bytes),
                ("grpc.max_send_message_length", max_send_bytes),
                ("grpc.max_concurrent_streams", max_streams),
                # Two daemons on one address would share its calls.
                ("grpc.so_reuseport", 0),
            ]
        )
        for service in services:
            handlers = {method.name: self._handler(service.name(), method) for method in service.methods()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.name(), handlers),))

    def listen(self, address: str) -> None:
        """`unix:PATH`; before `start`. Raises RuntimeError when it cannot be bound."""
        self._server.add_insecure_port(address)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """No new calls; those that go on have `grace_s` seconds."""
        await self._server.stop(grace_s)

    def _handler(self, service: str, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.streams_in, method.streams_out]
        answer = self._stream(service, method) if method.streams_out else self._single(service, method)
        serialize: Any = method.response.SerializeToString
        return make(answer, method.request.FromString, serialize)

    def _single(self, service: str, method: Method) -> Callable[..., Awaitable[Any]]:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with self._answering(service, method, context) as call:
                try:
                    if method.in_loop:
                        return await method.function(request, call)
                    return await self._threads.run(method.function, request, call)
                finally:
                    # Most calls publish something; who listens need not wait for inotify.
                    self._site.feed.wake()

        return answer

    def _stream(self, service: str, method: Method) -> Callable[..., AsyncIterator[Any]]:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            async with self._answering(service, method, context) as call:
                found = method.function(request, call)
                async for item in found if method.in_loop else self._drain(found):
                    yield item

        return answer

    @asynccontextmanager
    async def _answering(
        self, service: str, method: Method, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Call]:
        """Counts the call, and makes its error a status."""
        self.calls.begin(service, method)
        code = grpc.StatusCode.CANCELLED
        try:
            yield self._call(context)
            code = grpc.StatusCode.OK
        except MasuError as error:
            code, text = status_of(error)
            log.debug("%s/%s: %s: %s", service, method.name, code.name, text)
            await context.abort(code, text)
        except Exception as error:
            code = grpc.StatusCode.INTERNAL
            log.error("%s/%s", service, method.name, exc_info=error)
            await context.abort(code, f"{type(error).__name__}: {error}")
        finally:
            self.calls.end(service, method, code.name)

    async def _drain(self, items: Iterator[T]) -> AsyncIterator[T]:
        try:
            while batch := await self._threads.run(_batch, items):
                for item in batch:
                    yield item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                await self._threads.run(close)

    def _call(self, context: grpc.aio.ServicerContext[Any, Any]) -> Call:
        found = context.invocation_metadata() or ()
        return Call(self._site, {key: value for key, value in found if isinstance(value, str)}, self._threads)


def _batch(items: Iterator[Any]) -> list[Any]:
    """The next ones, as many as are worth a change of threads; empty at the end."""
    found, size = [], 0
    for item in items:
        found.append(item)
        size += item.ByteSize()
        if size >= _BATCH_BYTES or len(found) >= _BATCH_ITEMS:
            break
    return found
