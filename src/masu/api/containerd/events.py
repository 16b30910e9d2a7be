"""Events: what happens, to whoever listens, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import event_messages, filters, values
from masu.api.containerd.service import Call, Service
from masu.api.proto import events_pb2 as pb
from masu.api.proto.types_pb2 import Envelope
from masu.errors import InvalidArgument


class Events(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Events"]

    def publish(self, request: pb.PublishRequest, call: Call) -> Empty:
        event_messages.publish(self.site.store, call.namespace, request.topic, request.event)
        return Empty()

    def forward(self, request: pb.ForwardRequest, call: Call) -> Empty:
        """An event of somebody else's, with its own namespace and time."""
        sent = request.envelope
        if not sent.HasField("timestamp"):
            raise InvalidArgument("envelope", detail="timestamp must be set")
        time = values.time_text(sent.timestamp)
        event_messages.publish(self.site.store, sent.namespace, sent.topic, sent.event, time)
        return Empty()

    async def subscribe(self, request: pb.SubscribeRequest, call: Call) -> AsyncIterator[Envelope]:
        """The events of all namespaces from now on, until the client hangs up."""
        wanted = filters.parse(request.filters)
        feed = self.site.feed
        subscription = feed.subscribe(lambda event: wanted(event_messages.fields(event)))
        try:
            async for event in subscription:
                yield event_messages.envelope(event)
        finally:
            feed.unsubscribe(subscription)
