"""The codes that a call ends with (gRPC, statuscodes.md), and how a message of theirs travels."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """google.rpc.Code"""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# What a header may hold as it is (PROTOCOL-HTTP2.md, Percent-Byte-Unencoded).
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}


def encode_message(text: str) -> bytes:
    """For the header grpc-message."""
    return b"".join(bytes((b,)) if b in _PLAIN else b"%%%02X" % b for b in text.encode(errors="replace"))
