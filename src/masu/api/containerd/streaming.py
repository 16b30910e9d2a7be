"""The service of named streams (streams.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from masu.api.containerd.service import Call, Service
from masu.api.containerd.streams import Stream, packed
from masu.api.proto import streaming_pb2 as pb
from masu.errors import InvalidArgument


class Streaming(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Streaming"]

    async def stream(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        first = await anext(requests, None)
        if first is None or first.type_url.rpartition("/")[2] != pb.StreamInit.DESCRIPTOR.full_name:
            raise InvalidArgument("stream", detail="the first message is a StreamInit")
        id, namespace, stream = pb.StreamInit.FromString(first.value).id, call.namespace, Stream()
        self.site.streams.register(namespace, id, stream)
        pumping = asyncio.create_task(stream.pump(requests), name=f"stream {id}")
        try:
            yield packed(Empty())
            async for message in stream.messages():
                yield message
        finally:
            self.site.streams.unregister(namespace, id)
            stream.lose()
            pumping.cancel()
