"""What real clients sent is understood to the last field: our .proto files have the public API's names and numbers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from masu.api.containerd.table import SERVICES
from masu.api.proto import transfer_types_pb2

RECORDED = [
    line.split(" ")
    for line in (Path(__file__).parent / "data/containerd-requests.txt").read_text().splitlines()
    if not line.startswith("#")
]
METHODS = {rpc.full_name: rpc for service in SERVICES for rpc in service.DESCRIPTOR.methods}


def unknown(message: Message, path: str) -> Iterator[str]:
    """Fields, of it and of what is in it, that it has no name for."""
    foreign: Any = UnknownFieldSet(message)
    yield from (f"{path}: field {each.field_number}" for each in foreign)
    for field, value in message.ListFields():
        values: Any = value
        if field.message_type is None:
            continue
        if not field.is_repeated:
            values = [value]
        elif field.message_type.GetOptions().map_entry:
            values = [each for each in value.values() if isinstance(each, Message)]
        for each in values:
            yield from unknown(each, f"{path}.{field.name}")


@pytest.mark.parametrize("name", sorted({name for name, _ in RECORDED}))
def test_requests(name: str) -> None:
    for method, data in RECORDED:
        if method == name:
            raw = base64.b64decode(data)
            message = GetMessageClass(METHODS[name].input_type).FromString(raw)
            assert list(unknown(message, name)) == []
            # Nothing was lost: written again it says the same.
            again = type(message).FromString(message.SerializeToString())
            assert again == message
            assert message.ByteSize() == len(raw)


def test_what_is_in_transfers() -> None:
    for method, data in RECORDED:
        if method.endswith(".Transfer"):
            request = GetMessageClass(METHODS[method].input_type).FromString(base64.b64decode(data))
            for any in (request.source, request.destination):  # type: ignore[attr-defined]
                kind = getattr(transfer_types_pb2, any.type_url.rpartition(".")[2])
                inner = kind.FromString(any.value)
                assert list(unknown(inner, any.type_url)) == []
