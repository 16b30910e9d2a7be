"""ttrpc's frames and streams, without a socket: by the book, cut anywhere, and from partners that know no better."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from masu.api.proto.small import Response, Status
from masu.api.ttrpc import codec
from masu.api.ttrpc.codec import Answered, Called, ClientSide, Decoder, Received, ServerSide
from masu.errors import DataLoss


def status_in(data: bytes) -> tuple[int, Status]:
    """The stream and the status of the one answer in `data`."""
    (frame,) = Decoder().feed(data)
    assert frame.kind == codec.RESPONSE
    assert frame.data is not None
    status = Response.decode(frame.data).status
    assert status is not None
    return frame.stream, status


def test_by_the_book() -> None:
    # PROTOCOL.md, "Message Frame".
    assert codec.encode_frame(1, codec.REQUEST, 0, b"ab") == bytes.fromhex("00000002 00000001 01 00 6162")
    stream, data = ClientSide().call("s", "m", b"p")
    assert (stream, data[:10]) == (1, bytes.fromhex("00000009 00000001 01 00"))
    assert data[10:] == b"\x0a\x01s\x12\x01m\x1a\x01p"


@given(some.lists(some.tuples(some.integers(0, 9), some.binary(max_size=40)), max_size=5), some.data())
def test_cut_anywhere(frames: list[tuple[int, bytes]], data: some.DataObject) -> None:
    stream = b"".join(codec.encode_frame(number, codec.DATA, 0, payload) for number, payload in frames)
    decoder, found, at = Decoder(), [], 0
    while at < len(stream):
        step = data.draw(some.integers(1, len(stream) - at))
        found += [(frame.stream, frame.data) for frame in decoder.feed(stream[at : at + step])]
        at += step
    assert found == frames
    assert not decoder.is_torn


def test_a_message_that_is_too_long() -> None:
    """It is skipped, without being kept, and refused; what comes after it is heard."""
    server, client = ServerSide(), ClientSide()
    header = codec.encode_frame(1, codec.REQUEST, 0, b"")
    length = codec.MAX_MESSAGE + 1
    assert server.receive(length.to_bytes(4, "big") + header[4:]) == ([], b"")
    for _ in range(length // (1 << 20)):
        assert server.receive(bytes(1 << 20)) == ([], b"")
    stream, request = client.call("s", "m", b"")
    client_stream, request = client.call("s", "m", b"")
    events, refusal = server.receive(b"\0" + request)
    assert status_in(refusal)[1].code == codec.RESOURCE_EXHAUSTED
    assert [event.stream for event in events] == [client_stream]
    assert stream == 1


def test_a_unary_call() -> None:
    server, client = ServerSide(), ClientSide()
    stream, data = client.call("service", "Method", b"asked", timeout_ns=5, metadata={"k": "v"})
    (called,), refusal = server.receive(data)
    assert isinstance(called, Called)
    request = called.request
    assert (request.service, request.method, request.payload, request.timeout_nano) == (
        "service",
        "Method",
        b"asked",
        5,
    )
    assert [(item.key, item.value) for item in request.metadata] == [("k", "v")]
    assert (refusal, called.is_open, server.open_streams) == (b"", False, 1)
    (answered,) = client.receive(server.respond(stream, b"told"))
    assert isinstance(answered, Answered)
    assert (answered.payload, answered.status, server.open_streams) == (b"told", None, 0)
    assert server.respond(stream, b"once more") == b""


def test_an_error() -> None:
    server, client = ServerSide(), ClientSide()
    stream, data = client.call("s", "m", b"")
    server.receive(data)
    (answered,) = client.receive(server.respond(stream, b"", Status(code=5, message="nothing")))
    assert isinstance(answered, Answered)
    assert answered.status == Status(code=5, message="nothing")


def test_streams_in_both_directions() -> None:
    server, client = ServerSide(), ClientSide()
    stream, data = client.call("s", "m", b"first", is_open=True)
    more = client.send(stream, b"second") + client.send(stream, None)
    (called, second, end), refusal = server.receive(data + more)
    assert isinstance(called, Called)
    assert called.is_open
    assert isinstance(second, Received)
    assert isinstance(end, Received)
    assert (second.payload, end.payload, refusal) == (b"second", None, b"")
    told = client.receive(server.send(stream, b"third") + server.respond(stream, b"last"))
    assert [(type(event), event.payload) for event in told] == [(Received, b"third"), (Answered, b"last")]


def test_what_a_server_refuses() -> None:
    """In the words of containerd's own."""
    server, client = ServerSide(), ClientSide()
    _, data = client.call("s", "m", b"")
    server.receive(data)
    for frame, words in (
        (data, "StreamID cannot be re-used and must increment"),
        (codec.encode_frame(4, codec.REQUEST, 0, b""), "StreamID must be odd"),
        (codec.encode_frame(7, codec.DATA, 0, b""), "StreamID is no longer active"),
        (codec.encode_frame(9, codec.REQUEST, 0, b"\x0a\xff"), "unmarshal request error"),
    ):
        events, refusal = server.receive(frame)
        assert events == []
        stream, status = status_in(refusal)
        assert stream == int.from_bytes(frame[4:8], "big")
        assert status.code == codec.INVALID_ARGUMENT
        assert words in status.message
    assert server.receive(codec.encode_frame(11, 9, 0, b"")) == ([], b"")  # of a kind that comes after us


def test_more_calls_than_a_server_takes() -> None:
    server, client = ServerSide(), ClientSide()
    for _ in range(codec.MAX_STREAMS):
        assert len(server.receive(client.call("s", "m", b"")[1])[0]) == 1
    events, refusal = server.receive(client.call("s", "m", b"")[1])
    assert events == []
    assert status_in(refusal)[1].code == codec.RESOURCE_EXHAUSTED


def test_an_answer_that_is_too_long() -> None:
    server, client = ServerSide(), ClientSide()
    stream, data = client.call("s", "m", b"")
    server.receive(data)
    _, status = status_in(server.respond(stream, bytes(codec.MAX_MESSAGE)))
    assert status.code == codec.RESOURCE_EXHAUSTED


@given(some.lists(some.binary(max_size=60), max_size=6))
def test_a_server_hears_anything(pieces: list[bytes]) -> None:
    """Events or refusals, no exception, and no more kept than one frame."""
    server = ServerSide()
    for piece in pieces:
        server.receive(piece)
    assert server.open_streams <= len(pieces) * 6


@given(some.binary(max_size=60))
def test_a_client_hears_anything(data: bytes) -> None:
    client = ClientSide()
    client.call("s", "m", b"")
    for start in (b"", bytes.fromhex("0000000a 00000001 02 00"), bytes.fromhex("00000005 00000001 03 01")):
        try:
            client.receive(start + data)
        except DataLoss:
            return
