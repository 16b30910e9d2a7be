"""The Container Runtime Interface as a kubelet speaks it, as far as the tests need it: gRPC, by field numbers.

Messages are dicts {field number: value}; a value is text, bytes, a number, a dict (a message) or a list of such. The
numbers are those of k8s.io/cri-api, runtime/v1/api.proto; each is named where it is used.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = "str | bytes | int | Message | list[Value]"
Message: TypeAlias = dict[int, Value]

OWN, NODE = 1, 2  # NamespaceMode: the container's own, the machine's; 0 is the pod's


class Refused(Exception):
    """The server's answer is an error."""


class Cri:
    """containerd's socket. Each call is a process of its own: gRPC leaves threads behind, and other tests fork."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def __call__(self, method: str, request: Message) -> dict[int, list[int | bytes]]:
        """One call of runtime.v1.RuntimeService. Raises Refused with the server's words."""
        words = [sys.executable, __file__, str(self.socket), f"/runtime.v1.RuntimeService/{method}"]
        done = subprocess.run(words, input=encode(request), capture_output=True, timeout=90, check=False)
        if done.returncode:
            raise Refused(done.stderr.decode())
        return decode(done.stdout)

    def id_of(self, method: str, request: Message) -> str:
        """A call whose answer is an id, in field 1."""
        (id,) = self(method, request)[1]
        assert isinstance(id, bytes)
        return id.decode()

    def execute(self, container: str, *command: str) -> tuple[int, str, str]:
        """ExecSync: exit status (field 3), standard output (1) and error (2)."""
        answer = self("ExecSync", {1: container, 2: list(command), 3: 30})
        texts = [answer.get(field, [b""])[0] for field in (1, 2)]
        status = answer.get(3, [0])[0]
        assert isinstance(status, int)
        out, err = (text.decode() for text in texts if isinstance(text, bytes))
        return status, out, err


def encode(message: Message) -> bytes:
    """protobuf's wire format: varints (type 0) and strings, bytes and messages with their length (type 2)."""
    out = bytearray()
    for field, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += varint(field << 3) + varint(item & 0xFFFFFFFFFFFFFFFF)
                continue
            assert not isinstance(item, list)
            data = item if isinstance(item, bytes) else item.encode() if isinstance(item, str) else encode(item)
            out += varint(field << 3 | 2) + varint(len(data)) + data
    return bytes(out)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """{field: its values}; a message within is left as bytes."""
    found: dict[int, list[int | bytes]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            found.setdefault(key >> 3, []).append(number())
        else:
            assert key & 7 == 2, f"wire type {key & 7}"
            length = number()
            found.setdefault(key >> 3, []).append(data[at : at + length])
            at += length
    return found


def main(socket: str, method: str) -> int:
    """Sends the message on standard input; the answer goes to standard output, a refusal to standard error."""
    import grpc

    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            sys.stdout.buffer.write(call(sys.stdin.buffer.read(), timeout=60))
        except grpc.RpcError as error:
            sys.stderr.write(str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
