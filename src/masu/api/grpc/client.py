"""One call of a server on a unix socket, for programs that make one and end."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from struct import pack
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from masu.api.grpc.status import Code
from masu.errors import Unavailable

_PREFIX = 5
_CHUNK = 1 << 16


def call(address: str, path: str, message: bytes, metadata: Mapping[str, str], timeout_s: float) -> bytes:
    """The answer to a unary call; `path` is /service/Method, each step may take `timeout_s`.

    Raises Unavailable when nobody answers, and when the answer is an error.
    """
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(timeout_s)
        try:
            talk.connect(address)
            return _call(talk, path, message, metadata)
        except (OSError, h2.exceptions.H2Error) as error:
            raise Unavailable("gRPC", address, getattr(error, "errno", None) or 0, detail=str(error)) from error


def _call(talk: socket.socket, path: str, message: bytes, metadata: Mapping[str, str]) -> bytes:
    wire = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
    wire.initiate_connection()
    stream = wire.get_next_available_stream_id()
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
    headers |= {"content-type": "application/grpc", "te": "trailers", **metadata}
    wire.send_headers(stream, list(headers.items()))
    unsent = memoryview(pack(">BI", 0, len(message)) + message)
    answer, found = b"", {"grpc-status": str(Code.UNKNOWN.value)}
    while True:
        while unsent and (room := min(wire.local_flow_control_window(stream), wire.max_outbound_frame_size)):
            wire.send_data(stream, bytes(unsent[:room]), end_stream=len(unsent) <= room)
            unsent = unsent[room:]
        talk.sendall(wire.data_to_send())
        data = talk.recv(_CHUNK)
        if not data:
            raise Unavailable("gRPC", path, detail="the connection was closed before the answer")
        for event in wire.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                answer += event.data or b""
                wire.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                found |= {str(name): str(value) for name, value in event.headers or ()}
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                raise Unavailable("gRPC", path, detail=f"ended with {event.error_code!r}")
            elif isinstance(event, h2.events.StreamEnded):
                return _answer(path, answer, found)


def _answer(path: str, data: bytes, headers: Mapping[str, str]) -> bytes:
    code = headers["grpc-status"]
    if code != str(Code.OK.value):
        raise Unavailable("gRPC", path, detail=unquote(headers.get("grpc-message", "")) or f"status {code}")
    return data[_PREFIX:]
