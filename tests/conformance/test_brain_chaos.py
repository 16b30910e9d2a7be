"""Brains and fronts that die in the middle, talk nonsense, come by hundreds: the command works or says why, and what is
left is consistent."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from harness.brain import Installation, Peer, call_message
from harness.chaos import kill_after
from harness.engine import alive, wait_until
from harness.keepers import children_of, has_spares
from harness.oci import base_config

from masu.linux import front as protocol

pytestmark = pytest.mark.root


@pytest.fixture
def masu(installed: Installation) -> Installation:
    installed.warm()
    return installed


def none_of(pids: list[int]) -> Callable[[], bool]:
    return lambda: not any(map(alive, pids))


# --- fronts that do not behave ---


def say_nothing(peer: Peer, secret: bytes) -> None:
    pass


def garbage(peer: Peer, secret: bytes) -> None:
    peer.sock.send(os.urandom(3000))


def half_a_request(peer: Peer, secret: bytes) -> None:
    words, variables, rest, _ = call_message(secret, [b"masu", b"ps"], [])
    peer.say(protocol.ASK_CALL, words, variables, 0, rest[:20])


def no_fds(peer: Peer, secret: bytes) -> None:
    words, variables, rest, _ = call_message(secret, [b"masu", b"ps"], [])
    peer.say(protocol.ASK_CALL, words, variables, 0, rest)


def many_fds(peer: Peer, secret: bytes) -> None:
    words, variables, rest, _ = call_message(secret, [b"masu", b"ps"], [])
    peer.say(protocol.ASK_CALL, words, variables, 0, rest, (0,) * 250)


def another_secret(peer: Peer, secret: bytes) -> None:
    request(peer, bytes(16))


def an_unknown_type(peer: Peer, secret: bytes) -> None:
    peer.say(4711)


def request(peer: Peer, secret: bytes, *argv: bytes) -> int:
    """A good one; our end of the lifeline."""
    words, variables, rest, text = call_message(secret, list(argv or (b"masu", b"--version")), [b"PATH=/bin"])
    file = os.memfd_create("strings")
    os.write(file, text)
    read, write = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR)
    try:
        peer.say(protocol.ASK_CALL, words, variables, 0, rest, (file, read, null, null, null))
    finally:
        for fd in (file, read, null):
            os.close(fd)
    return write


@pytest.mark.parametrize(
    "misbehave",
    [say_nothing, garbage, half_a_request, no_fds, many_fds, another_secret, an_unknown_type],
    ids=lambda function: function.__name__,
)
def test_a_front_that_does_not_behave_is_left_alone(
    masu: Installation, misbehave: Callable[[Peer, bytes], None]
) -> None:
    keeper, path = masu.keeper(), masu.socket_path()
    for _ in range(5):
        with Peer.connect(path) as peer:
            misbehave(peer, peer.hello())
    with Peer.connect(path) as peer:
        misbehave(peer, peer.hello())
        if misbehave is not say_nothing:
            kind, *_ = peer.hear()
            assert kind in (0, protocol.SAY_COLD)
    assert masu("masu", "--version").startswith("masu version")
    assert masu.keeper() == keeper


def test_a_request_by_hand(masu: Installation) -> None:
    """What the others lack."""
    with Peer.connect(masu.socket_path()) as peer:
        lifeline = request(peer, peer.hello())
        assert peer.hear()[0] == protocol.SAY_GO
        kind, status, *_ = peer.hear()
        assert (kind, status) == (protocol.SAY_EXIT, 0)
        os.close(lifeline)


def test_who_hands_the_connection_on_is_not_served(masu: Installation) -> None:
    """The request comes from another process than the one that was looked at."""
    with Peer.connect(masu.socket_path()) as peer:
        secret = peer.hello()
        child = os.fork()
        if child == 0:
            try:
                request(peer, secret)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert peer.hear()[0] == 0


def test_a_front_that_dies_takes_its_call_along(masu: Installation) -> None:
    masu("masu", "run", "-d", "--name", "box", "host", "sleep", "600")
    try:
        with Peer.connect(masu.socket_path()) as peer:
            lifeline = request(peer, peer.hello(), b"masu", b"--root", bytes(masu.folder / "root"), b"--run",
                               bytes(masu.folder / "run"), b"wait", b"box")  # fmt: skip
            kind, *_, fds = peer.hear()
            assert kind == protocol.SAY_GO
            (pidfd,) = fds
            os.close(lifeline)
            wait_until(lambda: ended(pidfd))
            os.close(pidfd)
            assert peer.hear()[0] == 0
    finally:
        masu("masu", "rm", "-f", "box")


def ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def test_more_callers_than_are_served(masu: Installation) -> None:
    """Those who keep their call open are counted; beyond, others go cold, or wait for their turn where they must."""
    path = masu.socket_path()
    masu("masu", "run", "-d", "--name", "box", "host", "sleep", "600")
    peers, lifelines = [], []
    words = [b"masu", b"--root", bytes(masu.folder / "root"), b"--run", bytes(masu.folder / "run"), b"wait", b"box"]
    try:
        while True:
            peers.append(Peer.connect(path))
            secret = peers[-1].hello()
            if not secret:
                break
            lifelines.append(request(peers[-1], secret, *words))
            assert peers[-1].hear()[0] == protocol.SAY_GO
        assert 60 <= len(lifelines) <= 66
        assert masu("masu", "--version", brain="auto").startswith("masu version")
        with masu.start("masu", "--version") as waiting:
            for lifeline in lifelines:
                os.close(lifeline)
            lifelines.clear()
            assert waiting.communicate(timeout=60)[0].startswith(b"masu version")
        assert waiting.returncode == 0
    finally:
        for lifeline in lifelines:
            os.close(lifeline)
        for peer in peers:
            peer.close()
        masu("masu", "rm", "-f", "box")


def test_two_hundred_callers_at_once(masu: Installation) -> None:
    failures: list[str] = []

    def call(count: int) -> None:
        for _ in range(count):
            done = masu.try_("masu-oci", "state", "nobody")
            if done.returncode != 1 or "container does not exist" not in done.stderr:
                failures.append(f"{done.returncode}: {done.stdout} {done.stderr}")

    threads = [threading.Thread(target=call, args=(1,)) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    wait_until(lambda: has_spares(masu.keeper()))


# --- brains that do not behave ---


class FalseBrain:
    """Listens where a brain would, and does what `script` says with the one front that comes."""

    def __init__(self, path: str, script: Callable[[Peer, int], None]) -> None:
        self.secret = os.memfd_create("secret")
        os.write(self.secret, bytes(16))
        Path(path).parent.mkdir(mode=0o700, exist_ok=True)
        Path(path).unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen(4)
        self._script = script
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        self.listener.close()  # a second time there is nobody
        peer = Peer(connection)
        try:
            self._script(peer, self.secret)
        except OSError:
            pass  # the front has gone
        finally:
            peer.close()

    def close(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        os.close(self.secret)


def by_a_false_brain(tmp_path: Path, script: Callable[[Peer, int], None]) -> subprocess.CompletedProcess[str]:
    """How `masu --version` ends where a brain listens that does what `script` says."""
    with Installation(tmp_path / "own") as masu:
        path = masu.socket_path()
        masu.stop()
        brain = FalseBrain(path, script)
        try:
            return masu.try_("masu", "--version", brain="auto")
        finally:
            brain.close()
            Path(path).unlink(missing_ok=True)


def hello(peer: Peer, secret: int) -> None:
    peer.say(protocol.SAY_HELLO, protocol.PROTOCOL_VERSION, 0, secret)


def pidfd_of_nobody() -> int:
    """Of a process that has ended."""
    child = subprocess.Popen(["true"])
    fd = os.pidfd_open(child.pid)
    child.wait()
    return fd


def go(peer: Peer, secret: int) -> None:
    hello(peer, secret)
    for fd in peer.hear()[5]:
        os.close(fd)
    fd = pidfd_of_nobody()
    peer.say(protocol.SAY_GO, fds=(fd,))
    os.close(fd)


def dies_at_once(peer: Peer, secret: int) -> None:
    pass


def dies_after_hello(peer: Peer, secret: int) -> None:
    hello(peer, secret)


def dies_with_the_request(peer: Peer, secret: int) -> None:
    hello(peer, secret)
    for fd in peer.hear()[5]:
        os.close(fd)


def speaks_another_protocol(peer: Peer, secret: int) -> None:
    peer.say(protocol.SAY_HELLO, 99, 0, secret)
    peer.hear()


def points_at_no_secret(peer: Peer, secret: int) -> None:
    peer.say(protocol.SAY_HELLO, protocol.PROTOCOL_VERSION, 0, 4000)
    peer.hear()


def says_garbage(peer: Peer, secret: int) -> None:
    peer.sock.send(os.urandom(2000))
    peer.hear()


def refuses(peer: Peer, secret: int) -> None:
    hello(peer, secret)
    for fd in peer.hear()[5]:
        os.close(fd)
    peer.say(protocol.SAY_COLD, rest=b"for a test")
    peer.hear()


def goes_without_a_pidfd(peer: Peer, secret: int) -> None:
    hello(peer, secret)
    for fd in peer.hear()[5]:
        os.close(fd)
    peer.say(protocol.SAY_GO)
    peer.hear()


def dies_after_go(peer: Peer, secret: int) -> None:
    go(peer, secret)


COLD = (
    dies_at_once, dies_after_hello, dies_with_the_request, speaks_another_protocol, points_at_no_secret, says_garbage,
    refuses, goes_without_a_pidfd,
)  # fmt: skip


@pytest.mark.parametrize("script", COLD, ids=lambda function: function.__name__)
def test_a_brain_that_dies_before_it_begins_is_done_without(
    tmp_path: Path, script: Callable[[Peer, int], None]
) -> None:
    done = by_a_false_brain(tmp_path, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "masu version 0.1.0\n", "")


def test_a_brain_that_dies_in_the_middle_is_told(tmp_path: Path) -> None:
    done = by_a_false_brain(tmp_path, dies_after_go)
    assert done.returncode == 1
    assert "the brain has died in the middle of this command" in done.stderr


@pytest.mark.parametrize("answer", ["unknown", "spawn of nothing", "spawn of too much", "attend of nothing"])
def test_a_brain_that_asks_for_nonsense_gets_an_error(tmp_path: Path, answer: str) -> None:
    heard = []

    def script(peer: Peer, secret: int) -> None:
        go(peer, secret)
        if answer == "unknown":
            peer.say(4711)
        elif answer == "spawn of nothing":
            peer.say(protocol.SAY_SPAWN, 0, 1, 1, b"\0" * 7)
        elif answer == "spawn of too much":
            peer.say(protocol.SAY_SPAWN, 0, 1 << 30, 1 << 30, b"\xff" * 24)
        else:
            peer.say(protocol.SAY_ATTEND)
        heard.append(peer.hear()[:2])
        peer.say(protocol.SAY_EXIT, 42)

    done = by_a_false_brain(tmp_path, script)
    assert done.returncode == 42, done.stderr
    assert heard == [(protocol.ASK_ANSWER, -71)]  # EPROTO


def test_a_brain_that_has_been_stopped_is_done_without(tmp_path: Path) -> None:
    with Installation(tmp_path / "own") as masu:
        masu.warm()
        stopped = [masu.keeper(), *children_of(masu.keeper())]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert masu("masu", "--version", brain="auto").startswith("masu version")
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert masu("masu", "--version").startswith("masu version")


def test_the_keeper_killed_and_its_spares_with_it(tmp_path: Path) -> None:
    with Installation(tmp_path / "own") as masu:
        for _ in range(3):
            keeper = masu.warm()
            wait_until(partial(has_spares, keeper))
            spares = children_of(keeper)
            os.kill(keeper, signal.SIGKILL)
            wait_until(none_of(spares))
            assert masu("masu", "--version").startswith("masu version")
            assert masu.keeper() != keeper


def test_brain_killed_at_any_moment(masu: Installation, tmp_path: Path, busybox: Path) -> None:
    """Whatever is killed while containers come and go, the next command finds its way and removes what is left."""
    config = base_config()
    config["root"]["path"] = str(busybox)
    config["process"]["args"] = ["/bin/true"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b/config.json").write_text(json.dumps(config))
    (tmp_path / "oci").mkdir(mode=0o700)
    words = ["--root", str(tmp_path / "oci"), "run", "--bundle", str(tmp_path / "b")]
    for moment in range(12):
        keeper = masu.warm()
        wait_until(partial(has_spares, keeper))
        with masu.start("masu-oci", *words, f"box-{moment}", stdin=subprocess.DEVNULL) as running:
            killer = subprocess.Popen(["sleep", f"{moment * 0.002}"])
            killer.wait()
            for pid in (*children_of(keeper), keeper):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            _, said = running.communicate(timeout=30)
        assert running.returncode == 0 or b"the brain has died in the middle" in said, (running.returncode, said)
        assert b"Traceback" not in said
        left = json.loads(masu("masu-oci", "--root", str(tmp_path / "oci"), "list", "--format", "json"))
        for container in left or []:
            masu("masu-oci", "--root", str(tmp_path / "oci"), "delete", "--force", container["id"])
    assert masu("masu-oci", "--root", str(tmp_path / "oci"), "list", "-q") == ""
    done = masu.try_("masu-oci", *words, "box")
    assert (done.returncode, done.stderr) == (0, "")


def test_front_killed_at_any_moment(masu: Installation) -> None:
    for moment in range(10):
        name = f"box-{moment}"
        victim = masu.start("masu", "run", "--rm", "--name", name, "host", "true")
        kill_after(victim, 0.004 * moment)
        wait_until(lambda: has_spares(masu.keeper()))
        masu("masu", "rm", "-f", "-v", name)
        assert masu("masu", "ps", "-aq") == ""
