"""What masud does besides serving: `publish` an event, stand before an OCI hook (`oci-hook`)."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence

from masu.errors import InvalidArgument, KernelError, NotFound

_INPUT_BYTES = 4 << 20
_TIMEOUT_S = 30.0
# What Go's templates make of a call without pipes: a word, perhaps with a text.
_ACTION = re.compile(r'\{\{-?\s*([a-z]+)(?:\s+("(?:[^"\\]|\\.)*"))?\s*-?\}\}')


def publish(address: str, namespace: str, topic: str) -> None:
    """Sends the event on standard input, a serialized `Any`, as shims do that know no better way.

    Raises InvalidArgument, Unavailable when nobody listens at `address`.
    """
    # Late: hooks need not wait for it.
    from google.protobuf.any_pb2 import Any
    from google.protobuf.message import DecodeError

    from masu.api.containerd.service import NAMESPACE_HEADER
    from masu.api.grpc import client
    from masu.api.proto import events_pb2 as pb

    if not topic:
        raise InvalidArgument("topic", detail="required to publish an event")
    try:
        event = Any.FromString(_input())
    except DecodeError as error:
        raise InvalidArgument("event", detail=f"no protobuf Any on standard input: {error}") from None
    service = pb.DESCRIPTOR.services_by_name["Events"]
    request = pb.PublishRequest(topic=topic, event=event).SerializeToString()
    client.call(address, f"/{service.full_name}/Publish", request, {NAMESPACE_HEADER: namespace}, _TIMEOUT_S)


def oci_hook(words: Sequence[str]) -> None:
    """Executes `words`, their templates filled in from the state on standard input; does not return.

    {{id}} {{bundle}} {{rootfs}} {{pid}} {{status}} {{annotation "key"}}, as containerd's oci-hook has them, in words
    and in the environment's values. Raises InvalidArgument, NotFound, KernelError.
    """
    if not words:
        raise InvalidArgument("oci-hook", detail="a command is expected")
    try:
        state = json.loads(_input())
        bundle = str(state["bundle"])
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            root = str(json.load(file)["root"]["path"])
    except FileNotFoundError as error:
        raise NotFound("file", str(error.filename)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument("state", detail=f"standard input and config.json: {error!r}") from None
    known = {
        "id": str(state.get("id", "")),
        "bundle": bundle,
        "rootfs": os.path.join(bundle, root),
        "pid": str(state.get("pid", 0)),
        "status": str(state.get("status", "")),
    }
    annotations = state.get("annotations") or {}
    filled = [render(word, known, annotations) for word in words]
    environment = {name: render(value, known, annotations) for name, value in os.environ.items()}
    try:
        os.execve(filled[0], filled, environment)
    except OSError as error:
        raise KernelError("execve", filled[0], error.errno or 0) from error


def render(text: str, known: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """Raises InvalidArgument for an action that is none of these."""

    def value(match: re.Match[str]) -> str:
        word, argument = match[1], match[2]
        if word == "annotation" and argument:
            return str(annotations.get(json.loads(argument), ""))
        if word in known and not argument:
            return known[word]
        raise InvalidArgument("template", match[0], detail=f"known are {', '.join(known)} and annotation")

    rendered = _ACTION.sub(value, text)
    if "{{" in _ACTION.sub("", text):
        raise InvalidArgument("template", text, detail="more than these words is not understood")
    return rendered


def _input() -> bytes:
    data = sys.stdin.buffer.read(_INPUT_BYTES + 1)
    if len(data) > _INPUT_BYTES:
        raise InvalidArgument("standard input", detail=f"longer than {_INPUT_BYTES} bytes")
    return data
