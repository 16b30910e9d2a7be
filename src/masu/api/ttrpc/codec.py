"""The protocol without I/O: bytes in, events out; calls and answers in, bytes out (containerd/ttrpc, PROTOCOL.md).

A frame is ten bytes and its data:

    0        4         8      9       10
    | length | stream  | type | flags | data …            numbers are big-endian

    REQUEST    the client begins a stream, by odd numbers that grow
    RESPONSE   the server ends it, with a result or an error
    DATA       either says more on it

A stream as its server sees it:

    state     event                                            next
    (none)    REQUEST, no flags                                CLOSED     a unary call
    (none)    REQUEST with REMOTE_CLOSED, with REMOTE_OPEN     CLOSED, OPEN
    OPEN      DATA; with REMOTE_CLOSED                         OPEN; CLOSED
    any       we respond, or send DATA with REMOTE_CLOSED      (none)
"""

from __future__ import annotations

from _struct import pack, unpack_from

from masu.api.proto.small import KeyValue, Request, Response, Status
from masu.errors import DataLoss, ResourceExhausted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = 10
MAX_MESSAGE = 4 << 20
MAX_STREAMS = 1 << 14  # of one connection at once: who gives up a call does not say so

REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, REMOTE_OPEN, NO_DATA = 1, 2, 4

OPEN, CLOSED = "open", "closed"

# google.rpc.Code
OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED = 0, 3, 8


class Frame:
    """`data` is None when it was longer than is allowed, and has been skipped."""

    __slots__ = ("data", "flags", "kind", "length", "stream")

    def __init__(self, stream: int, kind: int, flags: int, length: int, data: bytes | None) -> None:
        self.stream = stream
        self.kind = kind
        self.flags = flags
        self.length = length
        self.data = data


def encode_frame(stream: int, kind: int, flags: int, data: bytes) -> bytes:
    """Raises ResourceExhausted for a message that no partner takes."""
    if len(data) > MAX_MESSAGE:
        detail = f"{len(data)} bytes, the maximum is {MAX_MESSAGE}"
        raise ResourceExhausted("message", detail=detail)
    return bytes(pack(">IIBB", len(data), stream, kind, flags)) + data


class Decoder:
    """Cuts a stream of bytes into frames; keeps no more than one frame's bytes."""

    __slots__ = ("_buffer", "_skipped", "_skipping")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipping = 0
        self._skipped: Frame | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        buffer = self._buffer
        buffer += data
        while True:
            if self._skipped is not None:
                cut = min(self._skipping, len(buffer))
                del buffer[:cut]
                self._skipping -= cut
                if self._skipping:
                    return
                frame, self._skipped = self._skipped, None
                yield frame
            if len(buffer) < HEADER:
                return
            length, stream, kind, flags = unpack_from(">IIBB", buffer)
            if length > MAX_MESSAGE:
                del buffer[:HEADER]
                self._skipping, self._skipped = length, Frame(stream, kind, flags, length, None)
                continue
            if len(buffer) < HEADER + length:
                return
            payload = bytes(buffer[HEADER : HEADER + length])
            del buffer[: HEADER + length]
            yield Frame(stream, kind, flags, length, payload)

    @property
    def is_torn(self) -> bool:
        """Whether what came so far ends in the middle of a frame."""
        return bool(self._buffer) or self._skipped is not None


# --- events ---


class Called:
    """A call has come in. With `is_open` its client will send more."""

    __slots__ = ("is_open", "request", "stream")

    def __init__(self, stream: int, request: Request, *, is_open: bool) -> None:
        self.stream = stream
        self.request = request
        self.is_open = is_open


class Received:
    """One message more on a stream; `payload` None: the partner will send no more."""

    __slots__ = ("payload", "stream")

    def __init__(self, stream: int, payload: bytes | None) -> None:
        self.stream = stream
        self.payload = payload


class Answered:
    """The end of a call of ours: its result, or an error's status."""

    __slots__ = ("payload", "status", "stream")

    def __init__(self, stream: int, payload: bytes, status: Status | None) -> None:
        self.stream = stream
        self.payload = payload
        self.status = status


# --- the two sides ---


class ServerSide:
    """A connection as its server sees it."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._streams: dict[int, str] = {}
        self._last = 0

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def receive(self, data: bytes) -> tuple[list[Called | Received], bytes]:
        """What has happened, and what is to be sent at once: refusals of what keeps not to the protocol."""
        events: list[Called | Received] = []
        out = b""
        for frame in self._decoder.feed(data):
            out += self._take(frame, events)
        return events, out

    def _take(self, frame: Frame, events: list[Called | Received]) -> bytes:
        stream = frame.stream
        if frame.data is None:
            text = f"message length {frame.length} exceed maximum message size of {MAX_MESSAGE}"
            return self._refuse(stream, RESOURCE_EXHAUSTED, text)
        if stream % 2 == 0:
            return self._refuse(stream, INVALID_ARGUMENT, "StreamID must be odd for client initiated streams")
        if frame.kind == DATA:
            return self._take_data(frame, frame.data, events)
        if frame.kind != REQUEST:
            return b""  # for what may come after us
        if stream <= self._last:
            return self._refuse(stream, INVALID_ARGUMENT, "StreamID cannot be re-used and must increment")
        self._last = stream
        if len(self._streams) >= MAX_STREAMS:
            return self._refuse(stream, RESOURCE_EXHAUSTED, f"more than {MAX_STREAMS} calls at once")
        try:
            request = Request.decode(frame.data)
        except DataLoss as error:
            return self._refuse(stream, INVALID_ARGUMENT, f"unmarshal request error: {error}")
        is_open = frame.flags & REMOTE_OPEN != 0
        self._streams[stream] = OPEN if is_open else CLOSED
        events.append(Called(stream, request, is_open=is_open))
        return b""

    def _take_data(self, frame: Frame, data: bytes, events: list[Called | Received]) -> bytes:
        if self._streams.get(frame.stream) != OPEN:
            return self._refuse(frame.stream, INVALID_ARGUMENT, "StreamID is no longer active")
        if frame.flags & NO_DATA == 0:
            events.append(Received(frame.stream, data))
        if frame.flags & REMOTE_CLOSED:
            self._streams[frame.stream] = CLOSED
            events.append(Received(frame.stream, None))
        return b""

    def _refuse(self, stream: int, code: int, text: str) -> bytes:
        # The refusal ends a stream, if that is what the number stands for.
        self._streams.pop(stream, None)
        return encode_frame(stream, RESPONSE, 0, Response(status=Status(code=code, message=text)).encode())

    def respond(self, stream: int, payload: bytes, status: Status | None = None) -> bytes:
        """Ends a stream. Nothing is sent on one that has ended."""
        if self._streams.pop(stream, None) is None:
            return b""
        data = Response(status=status, payload=payload).encode()
        if len(data) > MAX_MESSAGE:
            text = f"message length {len(data)} exceed maximum message size of {MAX_MESSAGE}"
            data = Response(status=Status(code=RESOURCE_EXHAUSTED, message=text)).encode()
        return encode_frame(stream, RESPONSE, 0, data)

    def send(self, stream: int, payload: bytes) -> bytes:
        """One message on a stream, which goes on."""
        return encode_frame(stream, DATA, 0, payload) if stream in self._streams else b""


class ClientSide:
    """A connection as its client sees it."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._next = 1
        self._streams: set[int] = set()

    def call(
        self,
        service: str,
        method: str,
        payload: bytes,
        *,
        timeout_ns: int = 0,
        metadata: dict[str, str] | None = None,
        is_open: bool | None = None,
    ) -> tuple[int, bytes]:
        """Begins a call: its stream, and what is to be sent. `is_open` is for calls that stream: whether more comes."""
        request = Request(
            service=service,
            method=method,
            payload=payload,
            timeout_nano=timeout_ns,
            metadata=[KeyValue(key=key, value=value) for key, value in (metadata or {}).items()],
        )
        flags = 0 if is_open is None else REMOTE_OPEN if is_open else REMOTE_CLOSED
        stream, self._next = self._next, self._next + 2
        data = encode_frame(stream, REQUEST, flags, request.encode())
        self._streams.add(stream)
        return stream, data

    def send(self, stream: int, payload: bytes | None) -> bytes:
        """One message more, None: the last has been sent."""
        if payload is None:
            return encode_frame(stream, DATA, REMOTE_CLOSED | NO_DATA, b"")
        return encode_frame(stream, DATA, 0, payload)

    def receive(self, data: bytes) -> list[Answered | Received]:
        """Raises DataLoss when the server keeps not to the protocol: there is no going on then."""
        events: list[Answered | Received] = []
        for frame in self._decoder.feed(data):
            if frame.stream not in self._streams:
                continue  # of a call that has been given up
            if frame.data is None:
                self._streams.discard(frame.stream)
                status = Status(code=RESOURCE_EXHAUSTED, message=f"an answer of {frame.length} bytes")
                events.append(Answered(frame.stream, b"", status))
            elif frame.kind == RESPONSE:
                self._streams.discard(frame.stream)
                response = Response.decode(frame.data)
                status_ = response.status
                is_error = status_ is not None and status_.code != OK
                events.append(Answered(frame.stream, response.payload, status_ if is_error else None))
            elif frame.kind == DATA:
                if frame.flags & NO_DATA == 0:
                    events.append(Received(frame.stream, frame.data))
                if frame.flags & REMOTE_CLOSED:
                    self._streams.discard(frame.stream)
                    events.append(Received(frame.stream, None))
        return events

    def forget(self, stream: int) -> None:
        """Nobody waits for its answer any more."""
        self._streams.discard(stream)
