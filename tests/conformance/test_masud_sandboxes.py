"""Sandboxes: their records and their lives, as containerd's client asks for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from harness.grpcclient import Client
from harness.masud import Masud

from masu.api.proto import events_pb2, sandbox_pb2, types_pb2

pytestmark = pytest.mark.root

STORE = sandbox_pb2.DESCRIPTOR.services_by_name["Store"]
CONTROLLER = sandbox_pb2.DESCRIPTOR.services_by_name["Controller"]
EVENTS = events_pb2.DESCRIPTOR.services_by_name["Events"]


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masud]:
    with Masud(tmp_path_factory.mktemp("masud")) as it:
        yield it


@pytest.fixture
def client(masud: Masud) -> Iterator[Client]:
    with Client(masud.socket) as it:
        yield it


def code(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code().name, error.details()


def sandbox(id: str, **fields: Any) -> types_pb2.Sandbox:
    return types_pb2.Sandbox(
        sandbox_id=id,
        runtime=types_pb2.Sandbox.Runtime(name="io.containerd.runc.v2", options=AnyMessage(type_url="o", value=b"1")),
        spec=AnyMessage(type_url="s", value=b"\xff"),
        sandboxer="shim",
        **fields,
    )


def controlled(client: Client, method: str, id: str, **fields: Any) -> Any:
    kind = getattr(sandbox_pb2, f"Controller{method}Request")
    return client(CONTROLLER, method, kind(sandbox_id=id, sandboxer="shim", **fields), timeout_s=30)


def test_records(client: Client) -> None:
    given = sandbox("one", labels={"a": "1"}, extensions={"x": AnyMessage(type_url="e", value=b"2")})
    made = client(STORE, "Create", sandbox_pb2.StoreCreateRequest(sandbox=given)).sandbox
    assert made.HasField("created_at")
    for field in ("created_at", "updated_at"):
        made.ClearField(field)
    assert made == given
    assert code(lambda: client(STORE, "Create", sandbox_pb2.StoreCreateRequest(sandbox=given)))[0] == "ALREADY_EXISTS"

    def listed(*filters: str) -> list[str]:
        found = client(STORE, "List", sandbox_pb2.StoreListRequest(filters=filters)).list
        return [each.sandbox_id for each in found]

    assert (listed("labels.a==1"), listed("id==other"), listed()) == (["one"], [], ["one"])

    def update(change: types_pb2.Sandbox, *fields: str) -> types_pb2.Sandbox:
        request = sandbox_pb2.StoreUpdateRequest(sandbox=change, fields=fields)
        return client(STORE, "Update", request).sandbox  # type: ignore[no-any-return]

    changed = update(sandbox("one", labels={"b": "2"}), "labels.b")
    assert (dict(changed.labels), sorted(changed.extensions)) == ({"a": "1", "b": "2"}, ["x"])
    changed = update(sandbox("one", extensions={"y": AnyMessage(type_url="e", value=b"3")}))
    assert (dict(changed.labels), sorted(changed.extensions)) == ({}, ["y"])
    assert code(lambda: update(sandbox("one"), "sandboxer"))[0] == "INVALID_ARGUMENT"
    client(STORE, "Delete", sandbox_pb2.StoreDeleteRequest(sandbox_id="one"))
    assert code(lambda: client(STORE, "Get", sandbox_pb2.StoreGetRequest(sandbox_id="one"))) == (
        "NOT_FOUND",
        'sandbox "one": not found',
    )


def test_a_life(client: Client, masud: Masud) -> None:
    client(STORE, "Create", sandbox_pb2.StoreCreateRequest(sandbox=sandbox("life")))
    assert code(lambda: controlled(client, "Start", "life"))[0] == "FAILED_PRECONDITION"
    controlled(client, "Create", "life", netns_path="/run/netns/x")
    assert code(lambda: controlled(client, "Create", "life"))[0] == "ALREADY_EXISTS"
    controlled(client, "Start", "life")
    status = controlled(client, "Status", "life", verbose=True)
    assert (status.state, dict(status.info)) == ("SANDBOX_READY", {"netns": "/run/netns/x"})
    assert controlled(client, "Platform", "life").platform.os == "linux"
    assert controlled(client, "Metrics", "life").metrics.id == "life"
    ended: list[Any] = []

    def wait() -> None:
        with Client(masud.socket) as other:
            ended.append(controlled(other, "Wait", "life"))

    waiting = threading.Thread(target=wait)
    waiting.start()
    controlled(client, "Stop", "life")
    waiting.join(30)
    status = controlled(client, "Status", "life")
    assert status.state == "SANDBOX_NOTREADY"
    assert [each.exited_at for each in ended] == [status.exited_at]
    # Who comes late is told the same; stopping again is no error.
    assert controlled(client, "Wait", "life").exited_at == status.exited_at
    controlled(client, "Stop", "life")
    controlled(client, "Shutdown", "life")
    controlled(client, "Create", "life")
    assert code(lambda: controlled(client, "Create", "nobody"))[0] == "NOT_FOUND"
    wrong = sandbox_pb2.ControllerStatusRequest(sandbox_id="life", sandboxer="podsandbox")
    assert code(lambda: client(CONTROLLER, "Status", wrong))[0] == "NOT_FOUND"


def test_outlives_the_daemon(client: Client, masud: Masud) -> None:
    client(STORE, "Create", sandbox_pb2.StoreCreateRequest(sandbox=sandbox("stays")))
    controlled(client, "Create", "stays")
    controlled(client, "Start", "stays")
    masud.kill()
    masud.start()
    with Client(masud.socket) as again:
        assert controlled(again, "Status", "stays").state == "SANDBOX_READY"
        controlled(again, "Stop", "stays")
