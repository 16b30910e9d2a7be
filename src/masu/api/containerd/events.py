"""Events: what happens, to whoever listens, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import event_messages, filters, values
from masu.api.containerd.service import Call, Service
from masu.api.proto import events_pb2 as pb
from masu.api.proto.types_pb2 import Envelope
from masu.errors import InvalidArgument
from masu.store import checks


class Events(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Events"]

    def publish(self, request: pb.PublishRequest, call: Call) -> Empty:
        self._publish(call.namespace, request.topic, request.event)
        return Empty()

    def forward(self, request: pb.ForwardRequest, call: Call) -> Empty:
        """An event of somebody else's, with its own namespace and time."""
        sent = request.envelope
        if not sent.HasField("timestamp"):
            raise InvalidArgument("envelope", detail="timestamp must be set")
        self._publish(self.site.namespace(sent.namespace), sent.topic, sent.event, values.time_text(sent.timestamp))
        return Empty()

    async def subscribe(self, request: pb.SubscribeRequest, call: Call) -> AsyncIterator[Envelope]:
        """The events of all namespaces from now on, until the client hangs up."""
        wanted = filters.parse(request.filters)
        feed = self.site.feed
        subscription = await feed.subscribe(lambda event: wanted(event_messages.fields(event)))
        try:
            async for event in subscription:
                yield event_messages.envelope(event)
        finally:
            feed.unsubscribe(subscription)

    def _publish(self, namespace: str, topic: str, event: Any, time: str = "") -> None:
        if not topic.startswith("/"):
            raise InvalidArgument("topic", topic, detail="must start with /")
        for part in topic[1:].split("/"):
            checks.identifier("topic component", part)
        ns = self.site.store.namespace(namespace)
        # What it tells of is somebody else's, so it need not survive a power cut; containerd keeps none.
        with ns.transaction(durable=False):
            ns.events.publish(topic, event_messages.payload(topic, event), time=time)
