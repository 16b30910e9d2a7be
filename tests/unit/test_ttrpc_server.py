"""The server on its loop, the client at the other end: calls that block, wait, fail, and clients that go away."""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from masu.api.proto.small import Empty, StateRequest, StateResponse, WaitRequest, WaitResponse
from masu.api.ttrpc import codec
from masu.api.ttrpc import loop as loops
from masu.api.ttrpc.client import Client
from masu.api.ttrpc.loop import Loop
from masu.api.ttrpc.server import Call, Method, Server
from masu.errors import FailedPrecondition, MasuError, NotFound, ResourceExhausted, Unavailable, Unimplemented


class Desk:
    """A server of one service, `desk`, at `address`."""

    def __init__(self, address: str) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        self.address = address
        self.faults: list[BaseException] = []
        self.loop = Loop(self.fault)
        self.server = Server(self.loop, listener, self.fault)
        self.waiting: list[Call] = []
        self.came, self.go, self.failed = threading.Event(), threading.Event(), threading.Event()
        self.server.add(
            "desk",
            {
                "State": Method(StateRequest, self.state),
                "Wait": Method(WaitRequest, self.wait),
                "Block": Method(StateRequest, self.block, blocks=True),
            },
        )
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def fault(self, error: BaseException) -> None:
        self.faults.append(error)
        self.failed.set()

    def state(self, request: StateRequest, call: Call) -> StateResponse:
        if request.id == "gone":
            raise NotFound("container", "gone")
        if request.id == "fault":
            raise RuntimeError("a fault")
        return StateResponse(id=request.id, exec_id=call.metadata.get("who", ""))

    def wait(self, request: WaitRequest, call: Call) -> None:
        self.waiting.append(call)
        self.came.set()

    def block(self, request: StateRequest, _: Call) -> Empty:
        self.came.set()
        assert self.go.wait(10)
        return Empty()

    def close(self) -> None:
        self.loop.call(self.server.close)
        self.loop.call(self.loop.stop)
        self.thread.join()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    it = Desk(str(tmp_path / "s"))
    yield it
    it.close()


def test_calls(desk: Desk) -> None:
    with Client(f"unix://{desk.address}") as client:
        for number in range(3):
            answer = client.call("desk", "State", StateRequest(id=str(number)), StateResponse, metadata={"who": "me"})
            assert answer == StateResponse(id=str(number), exec_id="me")
        with pytest.raises(NotFound, match="container gone: not found"):
            client.call("desk", "State", StateRequest(id="gone"), StateResponse)
        with pytest.raises(Unimplemented, match="service nobody"):
            client.call("nobody", "State", StateRequest(), StateResponse)
        with pytest.raises(Unimplemented, match="method Nothing"):
            client.call("desk", "Nothing", StateRequest(), StateResponse)


def test_a_fault_is_told_and_noted(desk: Desk) -> None:
    with Client(desk.address) as client, pytest.raises(Unavailable, match="RuntimeError: a fault"):
        client.call("desk", "State", StateRequest(id="fault"), StateResponse)
    assert [str(fault) for fault in desk.faults] == ["a fault"]


def test_one_that_blocks_keeps_nobody_waiting(desk: Desk) -> None:
    with ThreadPoolExecutor(1) as pool, Client(desk.address) as slow, Client(desk.address) as client:
        blocked = pool.submit(slow.call, "desk", "Block", StateRequest(), Empty)
        assert desk.came.wait(10)
        assert client.call("desk", "State", StateRequest(id="a"), StateResponse).id == "a"
        desk.go.set()
        assert blocked.result(10) == Empty()


def test_an_answer_that_comes_later(desk: Desk) -> None:
    with ThreadPoolExecutor(1) as pool, Client(desk.address) as client:
        waits = pool.submit(client.call, "desk", "Wait", WaitRequest(), WaitResponse)
        assert desk.came.wait(10)
        (call,) = desk.waiting
        assert not call.is_over
        call.answer(WaitResponse(exit_status=7))
        call.fail(FailedPrecondition("nobody hears this"))
        assert waits.result(10).exit_status == 7


def test_a_call_has_its_time(desk: Desk) -> None:
    """The server ends it by itself, as the client has asked."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(desk.address)
        side = codec.ClientSide()
        stream, data = side.call("desk", "Wait", b"", timeout_ns=1)
        raw.sendall(data)
        (answered,) = side.receive(raw.recv(4096))
        assert isinstance(answered, codec.Answered)
        assert answered.status is not None
        assert (answered.stream, answered.status.code) == (stream, 4)


def test_a_client_that_goes_away(desk: Desk) -> None:
    with Client(desk.address) as other:
        with ThreadPoolExecutor(1) as pool, Client(desk.address) as client:
            waits = pool.submit(client.call, "desk", "Wait", WaitRequest(), WaitResponse)
            assert desk.came.wait(10)
            client._socket.shutdown(socket.SHUT_RDWR)
            with pytest.raises(Unavailable, match="hung up"):
                waits.result(10)
        assert other.call("desk", "State", StateRequest(id="a"), StateResponse).id == "a"
        desk.waiting[0].answer(WaitResponse())  # into the void
        assert other.call("desk", "State", StateRequest(id="b"), StateResponse).id == "b"
        assert desk.waiting[0].is_over


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="ENOENT"):
        Client(f"unix://{tmp_path}/nothing")


def test_many_at_once(desk: Desk) -> None:
    def ask(number: int) -> bool:
        with Client(desk.address) as client:
            return all(
                client.call("desk", "State", StateRequest(id=f"{number}.{turn}"), StateResponse).id
                == f"{number}.{turn}"
                for turn in range(20)
            )

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(ask, range(20)))


@contextmanager
def no_descriptors() -> Iterator[None]:
    """All that this process may have are taken."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    taken = []
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_no_descriptor_for_one_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until there is one; those that are there are served meanwhile."""
    monkeypatch.setattr(loops, "_PAUSE_S", 0.05)
    with Client(desk.address) as early, socket.socket(socket.AF_UNIX) as late:
        early.call("desk", "State", StateRequest(id="1"), StateResponse)
        with no_descriptors():
            late.connect(desk.address)
            assert desk.failed.wait(10)
            assert "accept: EMFILE" in str(desk.faults[0])
            early.call("desk", "State", StateRequest(id="2"), StateResponse)
        late.sendall(codec.ClientSide().call("desk", "State", StateRequest(id="3").encode())[1])
        late.settimeout(10)
        assert late.recv(4096)


def test_no_thread_for_one_more(desk: Desk) -> None:
    """The call fails, and the next one, when there is one, does not."""
    desk.go.set()
    with Client(desk.address) as client:
        before = threading.stack_size(1 << 46)  # more than there are addresses
        try:
            for _ in range(40):
                with pytest.raises(ResourceExhausted, match="threads"):
                    client.call("desk", "Block", StateRequest(), Empty)
        finally:
            threading.stack_size(before)
        client.call("desk", "Block", StateRequest(), Empty)


def test_the_loop_outlives_a_fault(desk: Desk) -> None:
    def fail(_: int = 0) -> None:
        raise MasuError("job")

    def state() -> None:
        with Client(desk.address) as client:
            client.call("desk", "State", StateRequest(id="1"), StateResponse)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        desk.loop.call(fail)
        assert desk.failed.wait(10)
        desk.failed.clear()
        theirs.send(b"x")
        desk.loop.call(lambda: desk.loop.watch(ours.fileno(), loops.READ, fail))
        assert desk.failed.wait(10)
        state()
        assert len(desk.faults) == 2  # not told again at once
        desk.loop.call(lambda: desk.loop.unwatch(ours.fileno()))
        state()
