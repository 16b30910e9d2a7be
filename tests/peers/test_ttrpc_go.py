"""Our ttrpc beside containerd's, which is Go's: each as the server of the other."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from masu.api.proto.small import KeyValue
from masu.api.ttrpc.client import Client
from masu.api.ttrpc.codec import Answered, ClientSide, Received
from masu.api.ttrpc.loop import Loop
from masu.api.ttrpc.server import Call, Method, Server
from masu.errors import NotFound, ResourceExhausted, Unavailable, Unimplemented
from peers import gomodules

pytestmark = pytest.mark.timeout(1800)

# A google.protobuf.StringValue has its value in field 1, where a KeyValue has its key.
Text = KeyValue


@pytest.fixture(scope="module")
def program() -> Path:
    return gomodules.ttrpc()


@pytest.fixture
def address(program: Path, tmp_path: Path) -> Iterator[str]:
    """Where Go's serves."""
    path = str(tmp_path / "go")
    with subprocess.Popen([program, "serve", path], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield path
        server.kill()


def test_our_client(address: str) -> None:
    with Client(address) as client:
        answer = client.call("desk", "Echo", Text(key="hello"), Text, metadata={"who": "me "})
        assert answer.key == "me hello"
        assert len(client.call("desk", "Echo", Text(key="x" * 4_000_000), Text).key) == 4_000_000
        with pytest.raises(NotFound, match="nothing of that name"):
            client.call("desk", "Fail", Text(), Text)
        with pytest.raises(Unimplemented):
            client.call("desk", "Nothing", Text(), Text)
        with pytest.raises(ResourceExhausted):
            client.call("desk", "Echo", Text(key="x" * (4 << 20)), Text)
        assert client.call("desk", "Echo", Text(key="still here"), Text).key == "still here"
    with Client(address) as client, pytest.raises(Unavailable, match=r"deadline|no answer"):
        client.call("desk", "Wait", Text(), Text, timeout_s=0.2)


def test_our_streams(address: str) -> None:
    """A sum of what is sent, told after each; the end when we have ended."""
    side = ClientSide()
    told: list[bytes | None] = []
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(address)
        stream, data = side.call("desk", "Sum", b"", is_open=True)
        raw.sendall(data)
        for number in (1, 2, 3):
            raw.sendall(side.send(stream, bytes((8, number))))
        raw.sendall(side.send(stream, None))
        while not told or told[-1] is not None:
            for event in side.receive(raw.recv(4096)):
                assert not isinstance(event, Answered) or event.status is None
                told.append(event.payload if isinstance(event, Received) and event.payload else None)
    assert [payload for payload in told if payload] == [bytes((8, total)) for total in (1, 3, 6)]


def test_our_server(program: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "ours")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.setblocking(False)
    faults = list[BaseException]()
    loop = Loop(faults.append)

    def echo(request: Text, call: Call) -> Text:
        return Text(key=call.metadata.get("who", "") + request.key)

    def fail(_: Text, __: Call) -> Text:
        raise NotFound("name", detail="nothing of that name")

    server = Server(loop, listener, faults.append)
    wait = Method(Text, lambda request, call: None)
    server.add("desk", {"Echo": Method(Text, echo, blocks=True), "Fail": Method(Text, fail), "Wait": wait})
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        said = subprocess.run([program, "call", path], capture_output=True, text=True, check=True, timeout=60).stdout
    finally:
        loop.call(server.close)
        loop.call(loop.stop)
        thread.join()
    lines = said.splitlines()
    assert lines[0] == "Echo: me hello <nil>"
    assert lines[1] == f"Echo: {(4 << 20) - 97} bytes <nil>"
    assert "code = NotFound desc = name: not found: nothing of that name" in lines[2]
    assert "code = Unimplemented desc = method Nothing" in lines[3]
    assert "deadline exceeded" in lines[4].lower()
    assert lines[5] == "Echo: me still here <nil>"
    assert faults == []
