"""A server's connection without I/O: bytes in, events out; messages and statuses in, bytes out.

HTTP/2 is h2's (frames, header compression, flow control, the checks of RFC 9113); on it, gRPC's PROTOCOL-HTTP2.md:

    client                                          server
      HEADERS  :path /service/Method, metadata ──►    Begun
      DATA     |0|length|message … ─────────────►     Received, once for each message
               END_STREAM ──────────────────────►     HalfClosed
          ◄── HEADERS  :status 200                    send
          ◄── DATA     |0|length|message …            send
          ◄── HEADERS  grpc-status, END_STREAM        finish
      RST_STREAM ───────────────────────────────►     Cancelled

What a client can cost is bounded: a message by `max_receive_bytes`, what is kept for all of its streams by
`_KEPT_BYTES`, its streams by h2. Of what the calls do not take, no more than `_WINDOW_BYTES` a stream is let in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from struct import pack, unpack_from
from typing import NamedTuple

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from masu.api.grpc.status import Code, encode_message

_PREFIX = 5
_WINDOW_BYTES = 1 << 20
_KEPT_BYTES = 128 << 20
_BEGIN = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT_DIGITS = 8


class Stream:
    """One call. `path` and `metadata` are the client's; of a name that came twice, the first value."""

    __slots__ = ("_begun", "_held_back", "_incoming", "_outgoing", "_status", "_waiting", "id", "metadata", "path")

    def __init__(self, id: int, path: str, metadata: dict[str, str]) -> None:
        self.id = id
        self.path = path
        self.metadata = metadata
        self._incoming = bytearray()
        self._waiting = 0  # bytes of messages that nobody took yet
        self._held_back = 0  # of the flow control's window, until they are taken
        self._outgoing: deque[memoryview] = deque()
        self._begun = False
        self._status: list[tuple[bytes, bytes]] | None = None

    @property
    def unsent(self) -> int:
        """Bytes of messages for which the client has not made room."""
        return sum(map(len, self._outgoing))

    @property
    def timeout_s(self) -> float | None:
        """How long the client will wait, when it says so. Raises ValueError for what is no such time."""
        text = self.metadata.get("grpc-timeout")
        if text is None:
            return None
        number, unit = text[:-1], text[-1:]
        if unit not in _UNITS_S or not number.isdigit() or len(number) > _TIMEOUT_DIGITS:
            raise ValueError(f"grpc-timeout: {text}")
        return int(number) * _UNITS_S[unit]


class Begun(NamedTuple):
    stream: Stream


class Received(NamedTuple):
    """One whole message; `Connection.taken` is to be called when it has been."""

    stream: Stream
    message: bytes


class HalfClosed(NamedTuple):
    """No more messages."""

    stream: Stream


class Cancelled(NamedTuple):
    """The client has gone from it, or it has been refused: nobody hears what is said to it."""

    stream: Stream


class Writable(NamedTuple):
    """The client has made room on it."""

    stream: Stream


Event = Begun | Received | HalfClosed | Cancelled | Writable


class Broken(Exception):
    """The client has broken the protocol, or left: `to_send` has what it is told last."""


class Connection:
    """The server's side of one."""

    def __init__(self, max_receive_bytes: int, max_send_bytes: int, max_streams: int) -> None:
        self._max_receive = max_receive_bytes
        self._max_send = max_send_bytes
        self._streams: dict[int, Stream] = {}
        self._kept = 0
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding=None,
            # Ours are made right here.
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._h2 = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        ours = {codes.INITIAL_WINDOW_SIZE: _WINDOW_BYTES, codes.MAX_CONCURRENT_STREAMS: max_streams}
        self._h2.local_settings = h2.settings.Settings(client=False, initial_values=ours)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_KEPT_BYTES)

    def receive(self, data: bytes) -> Iterator[Event]:
        """What has come. Raises Broken."""
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise self._broken(str(error)) from None
        # h2 has gone through all of it already: what has ended at the end of it must not be answered.
        if any(isinstance(event, h2.events.ConnectionTerminated) for event in events):
            raise self._broken("the client has left")
        reset = {event.stream_id for event in events if isinstance(event, h2.events.StreamReset)}
        for id in reset & self._streams.keys():
            yield Cancelled(self._forget(id))
        for event in events:
            if getattr(event, "stream_id", None) not in reset or isinstance(event, h2.events.DataReceived):
                yield from self._react(event)

    def to_send(self) -> bytes:
        """What must be written, and is given once."""
        return self._h2.data_to_send()

    def send(self, stream: Stream, message: bytes) -> None:
        """A message; it leaves as the client makes room. Nothing, when the stream is over."""
        if stream.id not in self._streams or stream._status is not None:
            return
        if len(message) > self._max_send:
            text = f"grpc: trying to send message larger than max ({len(message)} vs. {self._max_send})"
            self.finish(stream, Code.RESOURCE_EXHAUSTED, text)
            return
        if not stream._begun:
            stream._begun = True
            self._h2.send_headers(stream.id, _BEGIN)
        stream._outgoing.append(memoryview(pack(">BI", 0, len(message)) + message))
        self._push(stream)

    def finish(self, stream: Stream, code: Code, message: str = "") -> None:
        """How the call ended, after what was sent before. Nothing, when the stream is over."""
        if stream.id not in self._streams or stream._status is not None:
            return
        stream._status = [(b"grpc-status", b"%d" % code)]
        if message:
            stream._status.append((b"grpc-message", encode_message(message)))
        self._push(stream)

    def taken(self, stream: Stream, size: int) -> None:
        """A message of so many bytes was taken: there is room for more."""
        if stream.id not in self._streams:
            return
        stream._waiting -= size
        self._kept -= size
        if stream._waiting < _WINDOW_BYTES:
            self._let_in(stream)

    def leave(self, code: h2.errors.ErrorCodes = h2.errors.ErrorCodes.NO_ERROR) -> None:
        """Says goodbye; nothing can be sent after it."""
        self._streams.clear()
        self._h2.close_connection(code)

    def _broken(self, why: str) -> Broken:
        # What is still to be said to its calls is said to nobody.
        self._streams.clear()
        return Broken(why)

    def _react(self, event: h2.events.Event) -> Iterator[Event]:
        match event:
            case h2.events.DataReceived():
                yield from self._data(event)
            case h2.events.RequestReceived():
                yield from self._begin(event)
            case h2.events.StreamEnded(stream_id=int(id)) if id in self._streams:
                yield from self._half_close(self._streams[id])
            case h2.events.WindowUpdated(stream_id=int(id)) if id:
                yield from self._room(id)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for id in [id for id, stream in self._streams.items() if stream._outgoing]:
                    yield from self._room(id)

    def _begin(self, event: h2.events.RequestReceived) -> Iterator[Event]:
        id, headers = event.stream_id, event.headers
        assert id is not None
        assert headers is not None
        metadata: dict[str, str] = {}
        for name, value in headers:
            metadata.setdefault(name.decode("ascii", "replace"), value.decode("ascii", "replace"))
        stream = Stream(id, metadata.get(":path", ""), metadata)
        if not metadata.get("content-type", "").startswith("application/grpc"):
            # For who speaks HTTP alone (PROTOCOL-HTTP2.md, "Requests").
            self._h2.send_headers(id, [(b":status", b"415")], end_stream=True)
            return
        self._streams[id] = stream
        yield Begun(stream)

    def _data(self, event: h2.events.DataReceived) -> Iterator[Event]:
        id, size = event.stream_id, event.flow_controlled_length or 0
        assert id is not None
        stream = self._streams.get(id)
        if stream is None:  # answered already
            self._acknowledge(id, size)
            return
        assert event.data is not None
        stream._incoming += event.data
        self._kept += len(event.data)
        yield from self._messages(stream)
        if id in self._streams and stream._waiting >= _WINDOW_BYTES:
            stream._held_back += size
        else:
            self._acknowledge(id, size)

    def _messages(self, stream: Stream) -> Iterator[Event]:
        """Those that are whole."""
        incoming = stream._incoming
        while len(incoming) >= _PREFIX:
            compressed, length = unpack_from(">BI", incoming)
            if compressed:
                encoding = stream.metadata.get("grpc-encoding", "identity")
                yield self._refuse(stream, Code.UNIMPLEMENTED, f"grpc: no decompressor for {encoding}")
                return
            if length > self._max_receive:
                text = f"grpc: received message larger than max ({length} vs. {self._max_receive})"
                yield self._refuse(stream, Code.RESOURCE_EXHAUSTED, text)
                return
            if len(incoming) < _PREFIX + length:
                break
            message = bytes(memoryview(incoming)[_PREFIX : _PREFIX + length])
            del incoming[: _PREFIX + length]
            self._kept -= _PREFIX
            stream._waiting += length
            yield Received(stream, message)
        if self._kept > _KEPT_BYTES:
            yield self._refuse(stream, Code.RESOURCE_EXHAUSTED, f"more than {_KEPT_BYTES} bytes wait on the connection")

    def _half_close(self, stream: Stream) -> Iterator[Event]:
        if stream._incoming:
            yield self._refuse(stream, Code.INTERNAL, "the stream ended within a message")
        else:
            yield HalfClosed(stream)

    def _refuse(self, stream: Stream, code: Code, text: str) -> Cancelled:
        self.finish(stream, code, text)
        return Cancelled(stream)

    def _room(self, id: int) -> Iterator[Event]:
        stream = self._streams.get(id)
        if stream is not None:
            self._push(stream)
            if id in self._streams:
                yield Writable(stream)

    def _push(self, stream: Stream) -> None:
        """Sends what there is room for, and the status behind the last of it."""
        wire, outgoing = self._h2, stream._outgoing
        while outgoing:
            room = min(wire.local_flow_control_window(stream.id), wire.max_outbound_frame_size)
            if room <= 0:
                return
            part = outgoing[0][:room]
            wire.send_data(stream.id, part)
            if len(part) == len(outgoing[0]):
                outgoing.popleft()
            else:
                outgoing[0] = outgoing[0][room:]
        if stream._status is not None:
            status = stream._status if stream._begun else [*_BEGIN, *stream._status]
            wire.send_headers(stream.id, status, end_stream=True)
            self._end(stream.id)

    def _end(self, id: int) -> None:
        """Answered in full. A client that has more to say is told to stop."""
        self._forget(id)
        if not self._h2.streams[id].closed:
            self._h2.reset_stream(id, h2.errors.ErrorCodes.NO_ERROR)

    def _forget(self, id: int) -> Stream:
        stream = self._streams.pop(id)
        self._kept -= len(stream._incoming) + stream._waiting
        self._let_in(stream)
        stream._incoming.clear()
        stream._outgoing.clear()
        return stream

    def _let_in(self, stream: Stream) -> None:
        self._acknowledge(stream.id, stream._held_back)
        stream._held_back = 0

    def _acknowledge(self, id: int, size: int) -> None:
        if size:
            self._h2.acknowledge_received_data(size, id)
