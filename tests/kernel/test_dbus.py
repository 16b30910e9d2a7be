"""The D-Bus client with a real bus."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.programs import peer

from masu.errors import DataLoss, Unavailable
from masu.linux import dbus

CONFIG = """<busconfig>
<type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    """A message bus of our own; its address."""
    config = tmp_path / "bus.conf"
    config.write_text(CONFIG.format(path=tmp_path / "bus"))
    daemon = subprocess.Popen(
        [peer("dbus-daemon"), f"--config-file={config}", "--nofork", "--print-address"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert daemon.stdout is not None
    address = daemon.stdout.readline().strip()
    yield address
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=20)


def names(connection: dbus.Connection) -> list[object]:
    (found,) = connection.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "ListNames")
    assert isinstance(found, list)
    return found


def test_calls_and_answers(bus: str) -> None:
    connection = dbus.Connection(bus, bus=True)
    assert dbus.BUS in names(connection)
    assert connection.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "NameHasOwner", "s", "masu.nobody") == (False,)
    # Sent one after another, answered in whichever order they are asked for.
    first = connection.send(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "GetId")
    second = connection.send(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "GetNameOwner", "s", dbus.BUS)
    assert connection.reply(second).body == (dbus.BUS,)
    assert len(str(connection.reply(first).body[0])) == 32
    with pytest.raises(dbus.CallError, match="GetNameOwner") as caught:
        connection.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "GetNameOwner", "s", "masu.nobody")
    assert caught.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"
    connection.close()


def test_signals_that_come_between(bus: str) -> None:
    listener, other = dbus.Connection(bus, bus=True), dbus.Connection(bus, bus=True)
    listener.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "AddMatch", "s", "member='NameOwnerChanged'")
    other.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "RequestName", "su", "masu.test", 0)
    assert "masu.test" in names(listener)
    found = listener.wait_signal(lambda signal: signal.body[:1] == ("masu.test",), 20, "a name")
    assert (found.member, found.sender) == ("NameOwnerChanged", dbus.BUS)
    with pytest.raises(Unavailable, match=r"a name: no word of it in 0\.05 s"):
        listener.wait_signal(lambda signal: True, 0.05, "a name")
    other.close()
    listener.close()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="ENOENT"):
        dbus.Connection(f"unix:path={tmp_path}/nothing", bus=True)


def test_a_bus_that_dies(bus: str) -> None:
    connection = dbus.Connection(bus, bus=True)
    names(connection)
    pid = int(str(connection.call(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "GetConnectionUnixProcessID", "s", dbus.BUS)[0]))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable):
        names(connection)
    connection.close()


@pytest.mark.parametrize("said", [b"REJECTED EXTERNAL\r\n", b"", b"HTTP/1.1 400 Bad Request\r\n", b"x" * 40000])
def test_others_that_answer(tmp_path: Path, said: bytes) -> None:
    """What listens there need not be a bus."""
    from threading import Thread

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/socket")
        server.listen()

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(100)
                client.sendall(said)

        thread = Thread(target=answer)
        thread.start()
        with pytest.raises(DataLoss if len(said) > 30000 else Unavailable):
            dbus.Connection(f"unix:path={tmp_path}/socket", bus=True)
        thread.join()
