"""The host's side of the launch protocol against a masu-launch that says anything, and hangs up at any moment."""

from __future__ import annotations

import os
import socket
import struct

import pytest
from harness.fuzzing import attempt, examples, kept, mutants
from hypothesis import given
from hypothesis import strategies as st

from masu.errors import DataLoss, MasuError, Unavailable
from masu.plan import ops as o
from masu.plan.ops import Op
from masu.runtime import launch

OPS = [
    Op("sync", "linux.uidMappings", name="map"),
    Op("clone", flags=0, cgroup=o.NONE),
    Op("hostname", "hostname", name="box"),
    Op("find_program", "process.args[0]", program="true", path="/bin"),
    Op("ready"),
    Op("exec", "process.args", args=("true",), env=()),
]


class Willing(launch.Answers):
    """Answers whatever it is asked, and checks what it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def sync(self, name: str, pid: int) -> bytes:
        assert 0 < pid < 1 << 31
        self.asked.append(name)
        return b"{}"

    def ready(self, pid: int, pidfd: int) -> bytes:
        assert 0 < pid < 1 << 31
        os.fstat(pidfd)
        self.asked.append("ready")
        return b""

    def listener(self, fd: int) -> None:
        os.close(fd)

    def warning(self, op: Op, text: str) -> None:
        assert op in OPS


def said(kind: int, index: int = 0, errno: int = 0, value: int = 0, detail: bytes = b"") -> bytes:
    return struct.pack("<IIii", kind, index, errno, value) + detail


def converse(packets: list[tuple[int, bytes]], *, leaves: bool = False) -> list[str]:
    """What was asked of the host by these (count of descriptors, message), after which the other side hangs up, or
    `leaves` without having read a word. Nothing is left open."""
    before = sorted(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    launched, answers = launch.Launched(ours, OPS), Willing()
    try:
        with theirs, open("/dev/null") as null:
            for count, data in packets:
                socket.send_fds(theirs, [data], [null.fileno()] * count)
            theirs.shutdown(socket.SHUT_WR)
            if leaves:
                theirs.close()
            launch._converse(launched, OPS, answers)
    finally:
        launched.close()
        assert sorted(os.listdir("/proc/self/fd")) == before
    return answers.asked


def packets_of(data: bytes) -> list[tuple[int, bytes]]:
    """As a corpus has them: u8 descriptors, u16 length, message; the last one may be cut."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 3 <= len(data) and len(found) < 50:
        count, length = struct.unpack_from("<BH", data, at)
        found.append((count % 12, data[at + 3 : at + 3 + length % 20000]))
        at += 3 + length
    # An empty packet cannot be told from the end.
    return [(count, message) for count, message in found if message]


@kept("launch-messages")
@pytest.mark.parametrize("leaves", [False, True])
def test_corpus(target: str, data: bytes, leaves: bool) -> None:
    attempt(lambda: converse(packets_of(data), leaves=leaves))


@pytest.mark.timeout(3600)
@examples(400)
@given(mutants("launch-messages"), st.booleans())
def test_mutants(data: bytes, leaves: bool) -> None:
    attempt(lambda: converse(packets_of(data), leaves=leaves))


MESSAGE = st.builds(
    said,
    st.integers(0, 9) | st.integers(0, 0xFFFFFFFF),
    st.integers(0, 7) | st.integers(0, 0xFFFFFFFF),
    st.integers(0, 140) | st.integers(-(1 << 31), (1 << 31) - 1),
    st.integers(-1, 3) | st.integers(-(1 << 31), (1 << 31) - 1),
    st.sampled_from([b"", b"map", b"cgroup", b"network", b"createRuntime", b"/bin/true"]) | st.binary(max_size=40),
)


@pytest.mark.timeout(3600)
@examples(400)
@given(st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2, 10]), MESSAGE), max_size=8), st.booleans())
def test_any_messages(packets: list[tuple[int, bytes]], leaves: bool) -> None:
    attempt(lambda: converse(packets, leaves=leaves))


def test_a_birth() -> None:
    """What is right is taken, also when a wait comes before the pid."""
    sync, pid = (0, said(o.MSG_SYNC, value=1, detail=b"network")), (1, said(o.MSG_PID, value=7))
    mapped, ready = (0, said(o.MSG_SYNC, value=6, detail=b"map")), (0, said(o.MSG_READY, value=1))
    assert converse([mapped, pid, sync, ready]) == ["map", "network", "ready"]
    assert converse([mapped, sync, pid, ready]) == ["map", "network", "ready"]


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        ((0, said(o.MSG_PID, value=7)), "0 descriptors"),
        ((2, said(o.MSG_PID, value=7)), "2 descriptors"),
        ((1, said(o.MSG_PID, value=-1)), "-1 is no pid"),
        ((0, said(o.MSG_SYNC, value=0, detail=b"map")), "0 is no pid"),
        ((1, said(o.MSG_SYNC, value=6, detail=b"map")), "1 descriptors"),
        ((0, said(o.MSG_LISTENER)), "0 descriptors"),
        ((1, b"\1\0\0"), "3 bytes"),
        ((0, said(77)), "unknown type"),
        ((0, said(o.MSG_READY, value=-1, detail=b"map")), "-1 is no pid"),
    ],
)
def test_what_is_refused(packet: tuple[int, bytes], why: str) -> None:
    with pytest.raises(DataLoss, match=why):
        converse([packet])


def test_ready_without_a_pid() -> None:
    with pytest.raises(Unavailable, match="it died before it was ready"):
        converse([(0, said(o.MSG_READY, value=1, detail=b"map"))])


def test_a_second_pid() -> None:
    with pytest.raises(DataLoss, match="a second pid"):
        converse([(1, said(o.MSG_PID, value=7)), (1, said(o.MSG_PID, value=8))])


def test_it_leaves_with_an_answer_unread() -> None:
    """ECONNRESET is told once, before what was said last (unix(7)): that is still heard."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    launched = launch.Launched(ours, OPS)
    with theirs:
        launch.send_go(ours, b"never read")
        theirs.send(said(o.MSG_ERROR, 2, 1, detail=b""))
    with pytest.raises(MasuError, match=r"sethostname.*EPERM"):
        launch._converse(launched, OPS, Willing())
    with pytest.raises(Unavailable, match="it died before it was ready"):
        launch._converse(launched, OPS, Willing())
    launched.close()
