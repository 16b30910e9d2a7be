"""An event of the store as containerd's envelope, and back.

The table keeps JSON with the names of containerd's messages; which message a topic has is said here. What clients
publish is kept whole, as the `Any` that they sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message

from masu.api.containerd import filters, values
from masu.api.proto import event_types_pb2 as types
from masu.api.proto import image_event_types_pb2 as image_types
from masu.api.proto.types_pb2 import Envelope
from masu.errors import InvalidArgument
from masu.store import Event, Store, checks

MESSAGES: Mapping[str, type[Message]] = {
    "/containers/create": types.ContainerCreate,
    "/containers/update": types.ContainerUpdate,
    "/containers/delete": types.ContainerDelete,
    "/content/create": types.ContentCreate,
    "/content/delete": types.ContentDelete,
    "/images/create": image_types.ImageCreate,
    "/images/update": image_types.ImageUpdate,
    "/images/delete": image_types.ImageDelete,
    "/namespaces/create": types.NamespaceCreate,
    "/namespaces/update": types.NamespaceUpdate,
    "/namespaces/delete": types.NamespaceDelete,
    "/sandboxes/create": types.SandboxCreate,
    "/sandboxes/start": types.SandboxStart,
    "/sandboxes/exit": types.SandboxExit,
    "/snapshot/prepare": types.SnapshotPrepare,
    "/snapshot/commit": types.SnapshotCommit,
    "/snapshot/remove": types.SnapshotRemove,
    "/tasks/create": types.TaskCreate,
    "/tasks/start": types.TaskStart,
    "/tasks/delete": types.TaskDelete,
    "/tasks/exit": types.TaskExit,
    "/tasks/oom": types.TaskOOM,
    "/tasks/exec-added": types.TaskExecAdded,
    "/tasks/exec-started": types.TaskExecStarted,
    "/tasks/paused": types.TaskPaused,
    "/tasks/resumed": types.TaskResumed,
    "/tasks/checkpointed": types.TaskCheckpointed,
}
_FOREIGN = "any"


def message(event: Event) -> Any:
    """The payload as clients know it: its type's name, and its bytes."""
    foreign = values.unpacked(event.payload.get(_FOREIGN))
    if foreign is not None:
        return foreign
    known = MESSAGES.get(event.topic)
    if known is None:
        # An event of masu's own, as JSON.
        return Any(type_url=f"masu.events{event.topic}", value=json.dumps(event.payload).encode())
    payload, options = dict(event.payload), None
    if known is types.ContainerCreate and isinstance(runtime := payload.get("runtime"), dict):
        # An `Any` of a type that JSON cannot show; kept as its bytes.
        options = values.unpacked(runtime.get("options"))
        payload["runtime"] = {"name": runtime.get("name", "")}
    made = json_format.ParseDict(payload, known(), ignore_unknown_fields=True)
    if isinstance(made, types.ContainerCreate) and options is not None:
        made.runtime.options.CopyFrom(options)
    return Any(type_url=str(known.DESCRIPTOR.full_name), value=made.SerializeToString())


def envelope(event: Event) -> Envelope:
    return Envelope(
        timestamp=values.timestamp(event.time), namespace=event.namespace, topic=event.topic, event=message(event)
    )


def payload(topic: str, event: Any) -> dict[str, object]:
    """What the table keeps of an event that a client sends: its fields where the topic's message is known."""
    known = MESSAGES.get(topic)
    name = event.type_url.rpartition("/")[2]
    # (Of a container's creation the runtime's options can hold anything.)
    if known is not None and name == known.DESCRIPTOR.full_name and known is not types.ContainerCreate:
        made = known.FromString(event.value)
        found: dict[str, object] = json_format.MessageToDict(made, preserving_proto_field_name=True)
        return found
    return {_FOREIGN: {"type_url": event.type_url, "value": base64.b64encode(event.value).decode()}}


def publish(store: Store, namespace: str, topic: str, event: Any, time: str = "") -> None:
    """An event that somebody sends. Raises InvalidArgument for a topic or a namespace that is none, and for a payload
    that is not what its type says."""
    if not topic.startswith("/"):
        raise InvalidArgument("topic", topic, detail="must start with /")
    for part in topic[1:].split("/"):
        checks.identifier("topic component", part)
    try:
        kept = payload(topic, event)
    except DecodeError as error:
        raise InvalidArgument("event", event.type_url, detail=str(error)) from None
    ns = store.namespace(namespace)
    # What it tells of is somebody else's, so it need not survive a power cut; containerd keeps none.
    with ns.transaction(durable=False):
        ns.events.publish(topic, kept, time=time)


def fields(event: Event) -> filters.Fields:
    """namespace, topic, and event.FIELD of the payload's texts and maps."""

    def field(path: Sequence[str]) -> str | None:
        if path[0] != "event":
            return {"namespace": event.namespace, "topic": event.topic}.get(".".join(path))
        found: object = event.payload
        for at, name in enumerate(path[1:], 1):
            if not isinstance(found, dict):
                return None
            found = found[name] if name in found else found.get(".".join(path[at:]))
            if isinstance(found, str):
                return found or None
        return None

    return field
