"""A server on a loop: who calls what, in the loop's thread or, where it may block, in one of its own."""

from __future__ import annotations

import os
from _socket import MSG_NOSIGNAL, socket

from masu.api.proto.small import Status
from masu.api.ttrpc import status as codes
from masu.api.ttrpc.codec import Called, ServerSide
from masu.api.ttrpc.loop import READ, WRITE, Loop
from masu.errors import KernelError, MasuError, ResourceExhausted, Unimplemented
from masu.linux import fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from masu.api.proto.wire import Message

_CHUNK = 65536
# For a client that does not read; the largest answer is a quarter of it.
_MAX_UNSENT = 16 << 20
_MAX_CONNECTIONS = 4096


class Method:
    """What serves calls: `function` gets the request and the Call, and returns the answer, or None when it will answer
    later. With `blocks` it is called in a thread of its own."""

    __slots__ = ("blocks", "function", "request")

    def __init__(
        self, request: type[Message], function: Callable[[Any, Call], Message | None], *, blocks: bool = False
    ) -> None:
        self.request = request
        self.function = function
        self.blocks = blocks


class Call:
    """One call, to be answered once: later answers are not sent. From any thread."""

    __slots__ = ("_connection", "_stream", "metadata", "timer")

    def __init__(self, connection: Connection, stream: int, metadata: dict[str, str]) -> None:
        self._connection = connection
        self._stream = stream
        self.metadata = metadata
        self.timer: tuple[float, int, Callable[[], None]] | None = None

    @property
    def is_over(self) -> bool:
        """Nobody waits for an answer any more."""
        return self._stream not in self._connection.calls

    def answer(self, message: Message) -> None:
        data = message.encode()
        self._connection.loop.call(lambda: self._connection.respond(self._stream, data))

    def fail(self, error: BaseException) -> None:
        status = codes.status_of(error)
        self._connection.loop.call(lambda: self._connection.respond(self._stream, b"", status))


class Server:
    """`listener` is a listening socket that does not block; who is not of our user, or root, is sent away, and who
    comes when there are `most` clients already."""

    def __init__(
        self, loop: Loop, listener: socket, fault: Callable[[BaseException], None], most: int = _MAX_CONNECTIONS
    ) -> None:
        """`fault` hears of exceptions that are none of masu's kinds of error."""
        self.loop = loop
        self.fault = fault
        self.services: dict[str, Mapping[str, Method]] = {}
        self.connections: set[Connection] = set()
        self._listener = listener
        self._most = most
        loop.watch(listener.fileno(), READ, self._accept)

    def add(self, service: str, methods: Mapping[str, Method]) -> None:
        self.services[service] = methods

    def close(self) -> None:
        """Takes no more connections, and hangs up on those there are."""
        self.loop.unwatch(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections):
            connection.close()

    def _accept(self, _: int) -> None:
        try:
            fd, _address = self._listener._accept()  # type: ignore[attr-defined]  # socket.socket's is made of it
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # Without descriptors or memory for one more: those that there are have to go on.
            self.loop.pause(self._listener.fileno())
            self.fault(KernelError("accept", errno=error.errno or 0, detail="clients wait"))
            return
        peer = socket(fileno=fd)
        if fds.peer_of(peer)[1] not in (0, os.geteuid()) or len(self.connections) >= self._most:
            peer.close()
            return
        os.set_inheritable(fd, False)
        peer.setblocking(False)
        self.connections.add(Connection(self, peer))


class Connection:
    """One client."""

    def __init__(self, server: Server, peer: socket) -> None:
        self.loop = server.loop
        self.calls: dict[int, Call] = {}
        self._server = server
        self._socket = peer
        self._side = ServerSide()
        self._unsent = bytearray()
        self._is_open = True
        self.loop.watch(peer.fileno(), READ, self._react)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.loop.unwatch(self._socket.fileno())
            self._socket.close()
            for call in self.calls.values():
                if call.timer is not None:
                    self.loop.cancel(call.timer)
            self.calls.clear()
            self._server.connections.discard(self)

    def _react(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE and self._is_open:
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            events_, refusals = self._side.receive(data)
            self._send(refusals)
            for event in events_:
                # Nothing here streams: what comes after a request is heard and dropped.
                if isinstance(event, Called):
                    self._begin(event)

    def _begin(self, called: Called) -> None:
        request = called.request
        call = self.calls[called.stream] = Call(self, called.stream, {m.key: m.value for m in request.metadata})
        methods = self._server.services.get(request.service)
        method = methods.get(request.method) if methods is not None else None
        if method is None:
            text = f"service {request.service}" if methods is None else f"method {request.method}"
            self.respond(called.stream, b"", Status(code=codes.CODES[Unimplemented], message=text))
            return
        if request.timeout_nano > 0:
            call.timer = self.loop.later(request.timeout_nano / 1e9, lambda: self._expire(called.stream))
        if not method.blocks:
            self._serve(method, request.payload, call)
            return
        try:
            self.loop.work(lambda: self._serve(method, request.payload, call))
        except ResourceExhausted as error:
            call.fail(error)

    def _serve(self, method: Method, payload: bytes, call: Call) -> None:
        try:
            answer = method.function(method.request.decode(payload), call)
            if answer is not None:
                call.answer(answer)
        except MasuError as error:
            call.fail(error)
        except Exception as error:
            self._server.fault(error)
            call.fail(error)

    def _expire(self, stream: int) -> None:
        self.respond(stream, b"", Status(code=codes.DEADLINE_EXCEEDED, message="context deadline exceeded"))

    def respond(self, stream: int, payload: bytes, status: Status | None = None) -> None:
        call = self.calls.pop(stream, None)
        if call is None:
            return
        if call.timer is not None:
            self.loop.cancel(call.timer)
        self._send(self._side.respond(stream, payload, status))

    def _send(self, data: bytes) -> None:
        if self._is_open and data:
            self._unsent += data
            self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent, MSG_NOSIGNAL)]
        except BlockingIOError:
            if len(self._unsent) > _MAX_UNSENT:
                self.close()
                return
        except OSError:
            self.close()
            return
        self.loop.change(self._socket.fileno(), READ | WRITE if self._unsent else READ)
