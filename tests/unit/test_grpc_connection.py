"""gRPC's server side without I/O, with h2's own client at the other end."""

from __future__ import annotations

import struct

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from masu.api.grpc.status import Code, encode_message

MAX = 1 << 20
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/desk.Desk/State"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


class Talk:
    """A client and the connection it talks to."""

    def __init__(self, *, send_bytes: int = MAX, streams: int = 100) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
        self.server = Connection(MAX, send_bytes, streams)
        self.client.initiate_connection()
        self.answers()
        self.events()

    def call(self, data: bytes = b"", *, end: bool = True, headers: list[tuple[str, str]] | None = None) -> int:
        id = self.client.get_next_available_stream_id()
        self.client.send_headers(id, headers or HEADERS)
        self.send(id, data, end=end)
        return id

    def send(self, id: int, data: bytes, *, end: bool = True) -> None:
        """In frames, as far as the window goes: what does not fit is an error."""
        for at in range(0, len(data), 16384):
            self.client.send_data(id, data[at : at + 16384])
        if end:
            self.client.end_stream(id)

    def events(self) -> list[Event]:
        """What the server makes of what the client has said since."""
        return list(self.server.receive(self.client.data_to_send()))

    def answers(self) -> list[h2.events.Event]:
        """What the client makes of what the server has said since; it takes all messages."""
        found = self.client.receive_data(self.server.to_send())
        for event in found:
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                assert event.stream_id is not None
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        return found

    def answer(self, id: int) -> tuple[dict[str, str], bytes, dict[str, str]]:
        """Headers, data and trailers that have come for a stream; it must have ended."""
        headers, data, trailers, ended = {}, b"", {}, False
        for event in self.answers():
            if getattr(event, "stream_id", None) != id:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                headers = dict(event.headers or [])
            elif isinstance(event, h2.events.DataReceived):
                data += event.data or b""
            elif isinstance(event, h2.events.TrailersReceived):
                trailers = dict(event.headers or [])
            elif isinstance(event, h2.events.StreamEnded):
                ended = True
        assert ended
        return headers, data, trailers  # type: ignore[return-value]


def begun(events: list[Event]) -> Stream:
    found = [event.stream for event in events if isinstance(event, Begun)]
    assert len(found) == 1
    return found[0]


def test_a_unary_call() -> None:
    talk = Talk()
    id = talk.call(framed(b"question"), headers=[*HEADERS, ("who", "first"), ("who", "second")])
    events = talk.events()
    stream = begun(events)
    assert events == [Begun(stream), Received(stream, b"question"), HalfClosed(stream)]
    assert (stream.path, stream.metadata["who"]) == ("/desk.Desk/State", "first")
    talk.server.taken(stream, 8)
    talk.server.send(stream, b"answer")
    talk.server.finish(stream, Code.OK)
    headers, data, trailers = talk.answer(id)
    assert headers == {":status": "200", "content-type": "application/grpc"}
    assert data == framed(b"answer")
    assert trailers == {"grpc-status": "0"}


def test_an_error_alone_is_one_block_of_headers() -> None:
    talk = Talk()
    id = talk.call(framed(b""))
    stream = begun(talk.events())
    talk.server.finish(stream, Code.NOT_FOUND, 'container "ä%": not found')
    headers, data, trailers = talk.answer(id)
    assert headers["grpc-status"] == "5"
    assert headers["grpc-message"] == 'container "%C3%A4%25": not found'
    assert (data, trailers) == (b"", {})
    # Nothing comes after the end.
    talk.server.send(stream, b"late")
    talk.server.finish(stream, Code.OK)
    assert talk.server.to_send() == b""


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 11])
def test_messages_in_any_pieces(size: int) -> None:
    talk = Talk()
    whole = framed(b"") + framed(b"one") + framed(b"another")
    id = talk.call(b"", end=False)
    received = []
    for at in range(0, len(whole), size):
        talk.send(id, whole[at : at + size], end=False)
        received += [event.message for event in talk.events() if isinstance(event, Received)]
    assert received == [b"", b"one", b"another"]


def test_a_long_answer_waits_for_room() -> None:
    talk = Talk()
    id = talk.call(framed(b""))
    stream = begun(talk.events())
    talk.server.send(stream, b"x" * 500_000)
    talk.server.finish(stream, Code.OK)
    assert 0 < stream.unsent < 500_000  # the client's window is 64 KiB
    data, ended, rooms = 0, False, 0
    while not ended:
        for event in talk.answers():
            data += len(event.data or b"") if isinstance(event, h2.events.DataReceived) else 0
            ended |= isinstance(event, h2.events.StreamEnded)
        rooms += sum(isinstance(event, Writable) for event in talk.events())
    assert data == 500_005
    assert rooms > 0
    assert id == stream.id


def test_what_nobody_takes_is_not_let_in() -> None:
    talk = Talk()
    id = talk.call(b"", end=False)
    stream = begun(talk.events())
    sent = 0
    while talk.client.local_flow_control_window(id) > 10_005:
        talk.send(id, framed(b"y" * 10_000), end=False)
        sent += 1
        talk.events()
        talk.answers()
    assert 1 << 20 <= sent * 10_000 <= 3 << 20
    for _ in range(sent):
        talk.server.taken(stream, 10_000)
    talk.answers()
    talk.send(id, b"", end=False)
    assert talk.client.local_flow_control_window(id) > 1 << 19


def test_a_cancelled_call_gives_its_room_back() -> None:
    talk = Talk()
    for _ in range(200):  # together more than the connection's window
        id = talk.call(framed(b"z" * 1_000_000), end=False)
        stream = begun(talk.events())
        talk.answers()
        talk.client.reset_stream(id)
        assert talk.events() == [Cancelled(stream)]
        talk.answers()
    assert talk.client.outbound_flow_control_window > 64 << 20


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (framed(b"q" * 10, flag=1), "12", "grpc: no decompressor for gzip"),
        (struct.pack(">BI", 0, MAX + 1) + b"q", "8", f"grpc: received message larger than max ({MAX + 1} vs. {MAX})"),
        (framed(b"question")[:-1], "13", "the stream ended within a message"),
        (b"\0\0", "13", "the stream ended within a message"),
    ],
)
def test_a_message_that_is_refused(data: bytes, code: str, text: str) -> None:
    talk = Talk()
    id = talk.call(data, headers=[*HEADERS, ("grpc-encoding", "gzip")])
    events = talk.events()
    stream = begun(events)
    assert Cancelled(stream) in events
    assert not any(isinstance(event, HalfClosed) for event in events)
    headers, _, _ = talk.answer(id)
    assert (headers["grpc-status"], headers["grpc-message"]) == (code, text)
    # The culprit alone: the next call is served.
    talk.call(framed(b"next"))
    assert any(isinstance(event, Received) for event in talk.events())


def test_a_refused_client_that_sends_on_is_told_to_stop() -> None:
    talk = Talk()
    id = talk.call(struct.pack(">BI", 0, 1 << 30), end=False)
    talk.events()
    reset = [event for event in talk.answers() if isinstance(event, h2.events.StreamReset)]
    assert [(event.stream_id, event.error_code) for event in reset] == [(id, 0)]


def test_an_answer_too_long_to_send() -> None:
    talk = Talk(send_bytes=10)
    id = talk.call(framed(b""))
    stream = begun(talk.events())
    talk.server.send(stream, b"eleven byte")
    headers, _, _ = talk.answer(id)
    assert headers["grpc-status"] == "8"
    assert "larger than max (11 vs. 10)" in headers["grpc-message"]


def test_more_streams_than_were_told() -> None:
    talk = Talk(streams=2)
    assert talk.client.remote_settings.max_concurrent_streams == 2
    talk.client.remote_settings.max_concurrent_streams = 100
    talk.client.remote_settings.acknowledge()
    for _ in range(3):
        talk.client.send_headers(talk.client.get_next_available_stream_id(), HEADERS)
    with pytest.raises(Broken):
        talk.events()
    assert any(isinstance(event, h2.events.ConnectionTerminated) for event in talk.answers())


def test_http_without_grpc() -> None:
    talk = Talk()
    id = talk.call(headers=[*HEADERS[:4], ("content-type", "text/html")])
    assert talk.events() == []
    headers, _, _ = talk.answer(id)
    assert headers == {":status": "415"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("500m", 0.5), ("7u", 7e-6), ("99999999n", 0.099999999), ("0S", 0)],
)
def test_timeouts(text: str, seconds: float) -> None:
    assert Stream(1, "/", {"grpc-timeout": text}).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "S", "-1S", "1.5S", "123456789S", "1s", "1 S"])
def test_timeouts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="grpc-timeout"):
        _ = Stream(1, "/", {"grpc-timeout": text}).timeout_s


@given(st.text())
def test_a_message_of_a_status_is_printable(text: str) -> None:
    encoded = encode_message(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)


def test_a_call_given_up_in_one_breath() -> None:
    talk = Talk()
    id = talk.call(framed(b"question"))
    talk.client.reset_stream(id)
    other = talk.call(framed(b"other"))
    events = talk.events()
    stream = begun(events)
    assert (stream.id, len(events)) == (other, 3)
    talk.server.finish(stream, Code.OK)
    assert talk.answer(other)[0]["grpc-status"] == "0"


def test_a_client_that_leaves() -> None:
    talk = Talk()
    talk.call(framed(b"question"))
    talk.client.close_connection()
    with pytest.raises(Broken):
        talk.events()


@given(st.data())
def test_any_bytes_end_in_an_error_at_worst(data: st.DataObject) -> None:
    """Noise, and a real conversation with bytes of it changed: events, or Broken; no other way out."""
    talk = Talk()
    for size in data.draw(st.lists(st.integers(0, 40), max_size=4)):
        talk.call(framed(b"m" * size), end=data.draw(st.booleans()))
    said = bytearray(talk.client.data_to_send())
    for at in data.draw(st.lists(st.integers(0, max(len(said) - 1, 0)), max_size=5)):
        if said:
            said[at] ^= data.draw(st.integers(1, 255))
    said += data.draw(st.binary(max_size=60))
    try:
        for event in talk.server.receive(bytes(said)):
            if isinstance(event, HalfClosed):
                talk.server.send(event.stream, b"answer")
                talk.server.finish(event.stream, Code.OK)
    except Broken:
        pass
    talk.server.to_send()
