"""Values both ways: times, labels, descriptors, mounts, platforms, `Any`, and what an update's field mask says."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from functools import lru_cache

from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from masu.api.proto import types_pb2
from masu.errors import InvalidArgument
from masu.snapshots import Mount
from masu.spec import times
from masu.spec.image import Descriptor, parse_descriptor
from masu.spec.platform import Platform


def timestamp(text: str) -> Timestamp | None:
    """Of an RFC 3339 text as the store keeps it; None of ""."""
    if not text:
        return None
    seconds, nanos = divmod(_parsed(text), times.SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


# Lists show the same times again and again.
_parsed = lru_cache(4096)(times.parse)


def time_text(stamp: Timestamp) -> str:
    return times.text(stamp.seconds * times.SECOND + stamp.nanos)


def descriptor_message(descriptor: Descriptor) -> types_pb2.Descriptor:
    return types_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        annotations=descriptor.annotations,
    )


def descriptor(message: types_pb2.Descriptor, where: str = "target") -> Descriptor:
    """Raises InvalidArgument."""
    document: dict[str, object] = {"mediaType": message.media_type, "digest": message.digest, "size": message.size}
    if message.annotations:
        document["annotations"] = dict(message.annotations)
    return parse_descriptor(document, where)


def mount_messages(mounts: Iterable[Mount]) -> list[types_pb2.Mount]:
    return [
        types_pb2.Mount(type=each.type, source=each.source, target=each.target, options=each.options) for each in mounts
    ]


def mounts(messages: Iterable[types_pb2.Mount]) -> list[Mount]:
    return [Mount(each.type, each.source, each.options, each.target) for each in messages]


def platform_message(platform: Platform) -> types_pb2.Platform:
    return types_pb2.Platform(
        os=platform.os,
        architecture=platform.architecture,
        variant=platform.variant or "",
        os_version=platform.os_version or "",
        os_features=platform.os_features,
    )


def platform(message: types_pb2.Platform) -> Platform:
    return Platform(
        message.os,
        message.architecture,
        message.variant or None,
        message.os_version or None,
        tuple(message.os_features),
    )


def packed(message: Any) -> dict[str, object]:
    """An `Any` as JSON, for a record."""
    return {"type_url": message.type_url, "value": base64.b64encode(message.value).decode()}


def unpacked(data: object) -> Any | None:
    """The `Any` of `packed`; None of anything else."""
    if not isinstance(data, dict):
        return None
    return Any(type_url=str(data.get("type_url", "")), value=base64.b64decode(str(data.get("value", ""))))


def mask(paths: Iterable[str], fields: Mapping[str, bool], what: str) -> dict[str, set[str] | None]:
    """What an update is about: field -> None for the whole of it, or the keys in it ("labels.x" of the mask).

    `fields` names those that can be updated, True for those that are maps. Without a mask it is all of them. Raises
    InvalidArgument for another one.
    """
    found: dict[str, set[str] | None] = {}
    for path in paths:
        field, dot, key = path.partition(".")
        if field not in fields or (dot and not fields[field]):
            raise InvalidArgument(f'cannot update "{path}" field on "{what}"')
        keys = found.setdefault(field, set())
        if not dot:
            found[field] = None
        elif keys is not None:
            keys.add(key)
    return found or dict.fromkeys(fields)


def masked_labels(old: Mapping[str, str], new: Mapping[str, str], keys: set[str] | None) -> dict[str, str | None]:
    """The changes that make `old` what the mask says of `new`; None takes a label away, as an empty text does."""
    if keys is None:
        return {**dict.fromkeys(old), **new}
    return {key: new.get(key) or None for key in keys}
