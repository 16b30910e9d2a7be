"""masud's gRPC as no well-behaved client uses it: broken writes, slow and greedy clients, huge messages; health and
reflection; events in order."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.empty_pb2 import Empty
from harness.engine import Masu
from harness.grpcclient import Client
from harness.masud import COLLECT_WHEN_ASKED, Masud

from masu.api.containerd.table import SERVICES
from masu.api.proto import (
    content_pb2,
    event_types_pb2,
    events_pb2,
    health_pb2,
    images_pb2,
    introspection_pb2,
    leases_pb2,
    namespaces_pb2,
    reflection_pb2,
    runc_options_pb2,
    snapshots_pb2,
    types_pb2,
    version_pb2,
)

pytestmark = pytest.mark.root

CONTENT = content_pb2.DESCRIPTOR.services_by_name["Content"]
EVENTS = events_pb2.DESCRIPTOR.services_by_name["Events"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
IMAGES = images_pb2.DESCRIPTOR.services_by_name["Images"]
INTROSPECTION = introspection_pb2.DESCRIPTOR.services_by_name["Introspection"]
LEASES = leases_pb2.DESCRIPTOR.services_by_name["Leases"]
NAMESPACES = namespaces_pb2.DESCRIPTOR.services_by_name["Namespaces"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
SNAPSHOTS = snapshots_pb2.DESCRIPTOR.services_by_name["Snapshots"]
VERSION = version_pb2.DESCRIPTOR.services_by_name["Version"]

Write = content_pb2.WriteContentRequest
BEGIN = "/test/begin"
CONFIG = "version = 3\n[masu]\nevent_buffer = 100\n" + COLLECT_WHEN_ASKED


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masud]:
    with Masud(tmp_path_factory.mktemp("masud"), CONFIG) as it:
        yield it


@pytest.fixture
def client(masud: Masud) -> Iterator[Client]:
    with Client(masud.socket) as it:
        yield it


def code(call: Any) -> tuple[str, str]:
    """The status and words of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call()) if callable(call) else list(call)
    error: Any = caught.value
    return error.code().name, error.details()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# ---- writes ----


def test_a_write_in_pieces(client: Client) -> None:
    data = os.urandom(3_000_000)
    first, second = data[:1_000_000], data[1_000_000:]
    answers = list(
        client(
            CONTENT,
            "Write",
            [
                Write(action="STAT", ref="pieces", total=len(data), expected=digest(data)),
                Write(action="WRITE", ref="pieces", data=first),
                Write(action="COMMIT", ref="pieces", offset=len(first), data=second, labels={"a": "b"}),
            ],
        )
    )
    assert [each.offset for each in answers] == [0, len(first), len(data)]
    assert [each.digest for each in answers] == [digest(b""), digest(first), digest(data)]
    assert answers[0].total == len(data)
    info = client(CONTENT, "Info", content_pb2.InfoRequest(digest=digest(data))).info
    assert (info.size, dict(info.labels)) == (len(data), {"a": "b"})
    read = client(CONTENT, "Read", content_pb2.ReadContentRequest(digest=digest(data), offset=10, size=2_000_000))
    assert b"".join(each.data for each in read) == data[10:2_000_010]
    past = content_pb2.ReadContentRequest(digest=digest(data), offset=len(data) + 1)
    assert code(client(CONTENT, "Read", past)) == (
        "OUT_OF_RANGE",
        f"read past object length {len(data)} bytes: out of range",
    )
    again = [Write(action="STAT", ref="again", expected=digest(data))]
    assert code(client(CONTENT, "Write", again)) == ("ALREADY_EXISTS", f"content {digest(data)}: already exists")
    late = [
        Write(action="WRITE", ref="late", data=data[:10]),
        Write(action="COMMIT", ref="late", offset=10, expected=digest(data)),
    ]
    assert code(client(CONTENT, "Write", late))[0] == "ALREADY_EXISTS"
    assert code(lambda: client(CONTENT, "Status", content_pb2.StatusRequest(ref="late")))[0] == "NOT_FOUND"


def test_a_broken_write_goes_on_where_it_stopped(client: Client) -> None:
    data = os.urandom(100_000)
    list(client(CONTENT, "Write", [Write(action="WRITE", ref="broken", data=data[:60_000])]))
    (status,) = client(CONTENT, "ListStatuses", content_pb2.ListStatusesRequest(filters=["ref==broken"])).statuses
    assert (status.ref, status.offset) == ("broken", 60_000)
    wrong = [Write(action="WRITE", ref="broken", offset=7, data=b"x")]
    said = "write @7 must occur at current offset 60000: out of range"
    assert code(client(CONTENT, "Write", wrong)) == ("OUT_OF_RANGE", said)
    rest = Write(action="COMMIT", ref="broken", offset=60_000, data=data[60_000:], expected=digest(data))
    (stat, done) = client(CONTENT, "Write", [Write(action="STAT", ref="broken"), rest])
    assert (stat.offset, done.digest) == (60_000, digest(data))


def test_a_write_begins_anew_at_zero(client: Client) -> None:
    list(client(CONTENT, "Write", [Write(action="WRITE", ref="anew", data=b"wrong")]))
    (done,) = client(CONTENT, "Write", [Write(action="COMMIT", ref="anew", data=b"right")])
    assert done.digest == digest(b"right")


def test_commits_that_are_refused(client: Client) -> None:
    refused = {
        "digest": Write(action="COMMIT", ref="digest", data=b"1", expected=digest(b"2")),
        "size": Write(action="COMMIT", ref="size", data=b"1", total=2),
        "": Write(action="COMMIT", data=b"1"),
    }
    assert {ref: code(client(CONTENT, "Write", [each])) for ref, each in refused.items()} == {
        "digest": (
            "FAILED_PRECONDITION",
            f"unexpected commit digest {digest(b'1')}, expected {digest(b'2')}: failed precondition",
        ),
        "size": ("FAILED_PRECONDITION", '"size" failed size validation: 1 != 2: failed precondition'),
        "": ("INVALID_ARGUMENT", "first message must have a reference: invalid argument"),
    }


def test_two_writers_of_one_ref(client: Client, masud: Masud) -> None:
    def slow() -> Iterator[Any]:
        yield Write(action="STAT", ref="shared")
        with Client(masud.socket) as other:
            said.append(code(other(CONTENT, "Write", [Write(action="STAT", ref="shared")])))
        yield Write(action="COMMIT", ref="shared", data=b"mine")

    said: list[tuple[str, str]] = []
    assert [each.digest for each in client(CONTENT, "Write", slow())][-1] == digest(b"mine")
    assert said == [("UNAVAILABLE", "ref shared locked: another writer has it: unavailable")]


def test_a_lease_that_is_not_there(client: Client) -> None:
    write = client(CONTENT, "Write", [Write(action="STAT", ref="leased")], lease="nothing")
    assert code(write) == ("NOT_FOUND", 'lease "nothing": not found')


def test_no_namespace_and_a_bad_one(client: Client) -> None:
    request = images_pb2.ListImagesRequest()
    assert code(lambda: client(IMAGES, "List", request, namespace="")) == (
        "FAILED_PRECONDITION",
        "namespace is required: failed precondition",
    )
    assert code(lambda: client(IMAGES, "List", request, namespace="../x"))[0] == "INVALID_ARGUMENT"


def test_masks(client: Client) -> None:
    client(
        NAMESPACES,
        "Create",
        namespaces_pb2.CreateNamespaceRequest(namespace={"name": "masks", "labels": {"a": "1", "b": "2"}}),
    )

    def update(labels: dict[str, str], *paths: str) -> dict[str, str]:
        request = namespaces_pb2.UpdateNamespaceRequest(
            namespace={"name": "masks", "labels": labels}, update_mask={"paths": paths}
        )
        return dict(client(NAMESPACES, "Update", request).namespace.labels)

    assert update({"a": "3", "b": "4"}, "labels.a") == {"a": "3", "b": "2"}
    assert update({"a": ""}, "labels.a") == {"b": "2"}
    assert update({"c": "5"}, "labels") == {"c": "5"}
    assert update({"d": "6"}) == {"d": "6"}
    assert code(lambda: update({}, "name")) == (
        "INVALID_ARGUMENT",
        'cannot update "name" field on "masks": invalid argument',
    )


# ---- events ----


def published(client: Client, topic: str, **fields: str) -> None:
    event = event_types_pb2.ContainerDelete(**fields)
    any = AnyMessage(type_url=event.DESCRIPTOR.full_name, value=event.SerializeToString())
    client(EVENTS, "Publish", events_pb2.PublishRequest(topic=topic, event=any))


class Subscribed:
    """A stream of events; the server has it when this is made."""

    def __init__(self, client: Client, *filters: str) -> None:
        self.stream = client(EVENTS, "Subscribe", events_pb2.SubscribeRequest(filters=[*filters, f'topic=="{BEGIN}"']))
        begun = threading.Event()

        def call() -> None:
            while not begun.wait(0.01):
                published(client, BEGIN)

        caller = threading.Thread(target=call)
        caller.start()
        next(self.stream)
        begun.set()
        caller.join()

    def next(self) -> Any:
        while (envelope := next(self.stream)).topic == BEGIN:
            pass
        return envelope

    def cancel(self) -> None:
        self.stream.cancel()


def test_events_in_order_from_every_process(client: Client, masud: Masud) -> None:
    masu = Masu(masud.folder)
    name = masu.image("busybox")
    stream = Subscribed(client, "topic~=|^/images/|")
    for number in range(20):
        if number % 2:
            masud("images", "tag", "docker.io/library/busybox:latest", f"events:{number}")
        else:
            masu("tag", name, f"events:{number}")
    names: list[str] = []
    while len(names) < 20:
        envelope = stream.next()
        if envelope.topic == "/images/create":
            event = envelope.event
            assert event.type_url == "containerd.services.images.v1.ImageCreate"
            names.append(event.value.rpartition(b":")[2].decode())
    assert [int("".join(filter(str.isdigit, each))) for each in names] == list(range(20))
    stream.cancel()


def test_filters_of_events(client: Client) -> None:
    stream = Subscribed(client, 'topic=="/containers/delete",event.id==wanted', "topic~=/x$/,namespace==default")
    for id in ("other", "wanted"):
        published(client, "/test/x", id=id)
        published(client, "/test/y", id=id)
        published(client, "/containers/delete", id=id)
    found = [stream.next() for _ in range(3)]
    assert [each.topic for each in found] == ["/test/x", "/test/x", "/containers/delete"]
    assert event_types_pb2.ContainerDelete.FromString(found[2].event.value).id == "wanted"
    stream.cancel()


def test_forwarded_events_keep_their_time_and_type(client: Client) -> None:
    stream = Subscribed(client, 'topic=="/foreign/thing"')
    sent = types_pb2.Envelope(namespace="elsewhere", topic="/foreign/thing")
    sent.timestamp.FromJsonString("2026-01-02T03:04:05.678901234Z")
    sent.event.CopyFrom(AnyMessage(type_url="example.com/Thing", value=b"\x00\xff"))
    client(EVENTS, "Forward", events_pb2.ForwardRequest(envelope=sent))
    assert stream.next() == sent
    stream.cancel()
    sent.ClearField("timestamp")
    assert code(lambda: client(EVENTS, "Forward", events_pb2.ForwardRequest(envelope=sent)))[0] == "INVALID_ARGUMENT"
    assert code(lambda: published(client, "no/slash"))[0] == "INVALID_ARGUMENT"


def test_a_slow_subscriber_loses_its_own_stream(client: Client, masud: Masud) -> None:
    with Client(masud.socket) as slow:
        dead = Subscribed(slow, 'topic=="/test/flood"')
        quick = Subscribed(client, 'topic=="/test/flood"')
        # More than the windows of HTTP/2 and the buffer of 100 events take together.
        for number in range(400):
            published(client, "/test/flood", id=f"{number:06d}" + "x" * 4000)
            assert event_types_pb2.ContainerDelete.FromString(quick.next().event.value).id.startswith(f"{number:06d}")
        status, said = code(dead.stream)
        assert (status, said) == (
            "RESOURCE_EXHAUSTED",
            "event buffer: 100 events waited for this subscriber: resource exhausted",
        )
        quick.cancel()


# ---- bounds ----


def memory_bytes(masud: Masud) -> int:
    for line in Path("/proc", str(masud.process.pid), "status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def test_a_message_of_100_megabytes(client: Client, masud: Masud) -> None:
    before = memory_bytes(masud)
    huge = [Write(action="WRITE", ref="huge", data=bytes(100 << 20))]
    status, said = code(client(CONTENT, "Write", huge))
    assert status == "RESOURCE_EXHAUSTED", said
    assert memory_bytes(masud) - before < 64 << 20
    assert client(VERSION, "Version", Empty()).version


def test_a_thousand_streams(client: Client, masud: Masud) -> None:
    streams = [client(EVENTS, "Subscribe", events_pb2.SubscribeRequest()) for _ in range(1500)]
    with Client(masud.socket) as other:
        assert other(VERSION, "Version", Empty(), timeout_s=30).version
        assert other(NAMESPACES, "List", namespaces_pb2.ListNamespacesRequest(), timeout_s=30) is not None
    for stream in streams:
        stream.cancel()
    assert client(VERSION, "Version", Empty(), timeout_s=30).version


def test_a_client_that_dies_in_a_write(masud: Masud, client: Client) -> None:
    with Client(masud.socket) as dying:

        def forever() -> Iterator[Any]:
            yield Write(action="WRITE", ref="dying", data=b"x")
            yield from iter(held)

        held: list[Any] = []
        next(dying(CONTENT, "Write", forever()))
    # The lock has gone with the connection.
    done: list[Any] = []
    while not done:
        try:
            done = list(client(CONTENT, "Write", [Write(action="COMMIT", ref="dying", offset=1, data=b"y")]))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
    assert done[-1].digest == digest(b"xy")


def raw(masud: Masud) -> tuple[socket.socket, h2.connection.H2Connection]:
    """A connection of frames of our choice."""
    talk = socket.socket(socket.AF_UNIX)
    talk.connect(str(masud.socket))
    wire = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
    wire.initiate_connection()
    talk.sendall(wire.data_to_send())
    wire.receive_data(talk.recv(1 << 16))
    return talk, wire


def test_calls_begun_and_given_up(masud: Masud, client: Client) -> None:
    """CVE-2023-44487: neither memory nor the others pay for it."""
    before = memory_bytes(masud)
    path = f"/{NAMESPACES.full_name}/List"
    head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
    ]
    talk, wire = raw(masud)
    with talk:
        for _ in range(200):
            for _ in range(50):
                id = wire.get_next_available_stream_id()
                wire.send_headers(id, head)
                wire.send_data(id, bytes(5), end_stream=True)
                wire.reset_stream(id)
            try:
                talk.sendall(wire.data_to_send())
            except OSError:
                break  # it has been sent away
        assert client(VERSION, "Version", Empty(), timeout_s=30).version
    assert memory_bytes(masud) - before < 32 << 20


def until_full(talk: socket.socket, data: bytes, client: Client) -> Iterator[int]:
    """Sends as much as is taken; how much each time."""
    for _ in range(10_000):
        try:
            yield talk.send(data)
        except BlockingIOError:
            return
        client(VERSION, "Version", Empty(), timeout_s=30)  # its turn, in which it reads what is there


def test_a_client_that_only_writes(masud: Masud, client: Client) -> None:
    """Its pings are answered until it would have to read the answers; then it is not listened to any more."""
    before = memory_bytes(masud)
    talk, wire = raw(masud)
    with talk:
        talk.setblocking(False)
        wire.ping(b"01234567")
        pings = wire.data_to_send() * 1000
        assert sum(until_full(talk, pings, client)) < 64 << 20
        assert client(VERSION, "Version", Empty(), timeout_s=30).version
    assert memory_bytes(masud) - before < 32 << 20


def test_a_call_refused_before_its_first_step(tmp_path: Path) -> None:
    """Headers and a message that is too long, in one piece: nothing goes on that the end of the daemon waits for."""
    with Masud(tmp_path) as it:
        talk, wire = raw(it)
        with talk:
            id = wire.get_next_available_stream_id()
            path = f"/{CONTENT.full_name}/Write"
            head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
            wire.send_headers(id, [*head, ("content-type", "application/grpc")])
            wire.send_data(id, b"\0\xff\xff\xff\xff")
            talk.sendall(wire.data_to_send())
            told: list[h2.events.Event] = []
            while not any(isinstance(event, h2.events.StreamEnded) for event in told):
                told += wire.receive_data(talk.recv(1 << 16))
            (answer,) = [event for event in told if isinstance(event, h2.events.ResponseReceived)]
            assert {str(name): str(value) for name, value in answer.headers or ()}["grpc-status"] == "8"
            it.stop()


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 40, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\1" + bytes(7)],
)
def test_a_client_that_speaks_something_else(masud: Masud, client: Client, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(str(masud.socket))
        talk.sendall(said)
        while talk.recv(1 << 16):
            pass  # it is told so, and sent away
    assert client(VERSION, "Version", Empty()).version


def test_a_deadline(client: Client) -> None:
    status, _ = code(client(EVENTS, "Subscribe", events_pb2.SubscribeRequest(), timeout_s=0.1))
    assert status == "DEADLINE_EXCEEDED"


# ---- health, reflection ----


def test_health(client: Client) -> None:
    def check(service: str) -> Any:
        return client(HEALTH, "Check", health_pb2.HealthCheckRequest(service=service)).status

    assert check("") == check("containerd.services.images.v1.Images") == health_pb2.HealthCheckResponse.SERVING
    assert code(lambda: check("nothing"))[0] == "NOT_FOUND"
    watch = client(HEALTH, "Watch", health_pb2.HealthCheckRequest(service="nothing"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_reflection(client: Client) -> None:
    Request = reflection_pb2.ServerReflectionRequest
    asked = [
        Request(list_services=""),
        Request(file_containing_symbol="containerd.services.content.v1.Content"),
        Request(file_containing_symbol="nothing.at.All"),
    ]
    listed, file, wrong = client(REFLECTION, "ServerReflectionInfo", asked)
    names = [each.name for each in listed.list_services_response.service]
    assert names == sorted(each.name() for each in SERVICES)
    files = [FileDescriptorProto.FromString(each) for each in file.file_descriptor_response.file_descriptor_proto]
    assert {"containerd.services.content.v1", "google.protobuf"} == {each.package for each in files}
    assert wrong.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_a_method_that_nobody_has(client: Client) -> None:
    call: Any = client.channel.unary_unary("/containerd.services.version.v1.Version/Nothing")
    assert code(lambda: call(b""))[0] == "UNIMPLEMENTED"


def test_what_the_runtime_can_do(client: Client) -> None:
    def asked(options: Any) -> Any:
        request = introspection_pb2.PluginInfoRequest(type="io.containerd.runtime.v2", id="task")
        request.options.CopyFrom(AnyMessage(type_url=options.DESCRIPTOR.full_name, value=options.SerializeToString()))
        return client(INTROSPECTION, "PluginInfo", request)

    answer = asked(types_pb2.RuntimeRequest(runtime_path="io.containerd.masu.v2"))
    assert answer.plugin.id == "task"
    assert answer.extra.type_url == "containerd.types.RuntimeInfo"
    info = types_pb2.RuntimeInfo.FromString(answer.extra.value)
    assert info.name == "io.containerd.masu.v2"
    assert json.loads(info.features.value)["linux"]["mountExtensions"] == {"idmap": {"enabled": True}}
    other = runc_options_pb2.Options(binary_name="/usr/sbin/runc")
    wanted = types_pb2.RuntimeRequest(options=AnyMessage(type_url="x", value=other.SerializeToString()))
    assert not types_pb2.RuntimeInfo.FromString(asked(wanted).extra.value).HasField("features")
    assert code(lambda: asked(types_pb2.Mount()))[0] == "INVALID_ARGUMENT"
    assert code(lambda: asked(types_pb2.RuntimeRequest(runtime_path="nosuch")))[0] == "INVALID_ARGUMENT"
    nobody = introspection_pb2.PluginInfoRequest(type="a", id="b")
    assert code(lambda: client(INTROSPECTION, "PluginInfo", nobody))[0] == "NOT_FOUND"
