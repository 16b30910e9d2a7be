"""Files, sockets and annotations that somebody else may have written: whatever is in them, an answer or an error."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.fuzzing import attempt, corpus, examples, kept, mutants
from hypothesis import given

from masu.linux import dbus, gvariant, mountinfo, procfs
from masu.linux.dbus_values import marshal
from masu.runtime import start, update
from masu.runtime.container import Container
from masu.runtime.criu import images
from masu.runtime.criu.wire import Message
from masu.spec import jsontext

_STATE: dict[str, Any] = {
    "version": 1, "id": "box", "bundle": "/bundle", "rootfs": "/bundle/rootfs", "created": "2026-01-01T00:00:00Z",
    "oci_version": "1.3.0", "annotations": {}, "owner_uid": 0, "creator": [1, 1], "cgroup_paths": {}, "wait_index": 40,
}  # fmt: skip
_CONFIG = {
    "ociVersion": "1.3.0",
    "process": {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "root": {"path": "rootfs"},
    "hooks": {"startContainer": [{"path": "/bin/hook"}, {"path": "/bin/hook"}]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of states with one container, `box`."""
    path = tmp_path_factory.mktemp("fuzz")
    (path / "box").mkdir(mode=0o700)
    return path


def _container(folder: Path, **files: bytes) -> Container:
    """`box` with these files; it has no cgroup, and we are its first process."""
    facts = {**_STATE, "pid": os.getpid(), "start_time": procfs.start_time(os.getpid())}
    files = {
        "state_json": jsontext.dumps(facts).encode(), "config_json": jsontext.dumps(_CONFIG).encode(), **files,
    }  # fmt: skip
    for name, data in files.items():
        (folder / "box" / name.replace("_", ".")).write_bytes(data)
    return Container.open(str(folder), "box")


def read_state(folder: Path, data: bytes) -> None:
    container = _container(folder, state_json=data)
    container.state()
    container.is_ending()
    facts = container.facts.to_json()
    again = jsontext.loads(jsontext.dumps(facts))
    assert type(container.facts).from_json(again, "again").to_json() == facts


def read_config(folder: Path, data: bytes) -> None:
    container = _container(folder, config_json=data)
    attempt(container.config)
    update.update(container, {"memory": {"limit": 1 << 20}})


def read_resources(folder: Path, data: bytes) -> None:
    container = _container(folder)
    (folder / "resources.json").write_bytes(data)
    update.update(container, update.read_changes(str(folder / "resources.json")))
    container.config()


def read_error(folder: Path, data: bytes) -> None:
    if error := start._error(_container(folder), data[: start._MAX_ERROR_BYTES]):
        raise error


def read_descriptors(folder: Path, data: bytes) -> None:
    (folder / "descriptors.json").write_bytes(data)
    with images.Directory(str(folder), "--image-path", make=False) as directory:
        found = images.read_descriptors(directory)
    for number, name in images.outside(found):
        assert name == found[number]


def read_criu(_: Path, data: bytes) -> None:
    message: Message | None = Message(data)
    while message is not None:
        for field in (1, 2, 5, 7, 9):
            attempt(message.number, field)
            attempt(message.text, field)
        message = message.message(5)


def read_dbus(_: Path, data: bytes) -> None:
    size = dbus.message_size(data)
    if size is not None and size <= len(data):
        dbus.parse(data[:size])


def read_bus(folder: Path, data: bytes) -> None:
    """What a bus says from the first byte on, and then hangs up."""
    path = folder / "bus"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def answer() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(ConnectionError):
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            client = dbus.Connection(f"unix:path={dbus.escaped(str(path))}", bus=True)
            try:
                client.reply(1)
                client.wait_signal(lambda message: message.member == "JobRemoved", 20, "the job")
            finally:
                client.close()
        finally:
            thread.join()


def read_gvariant(_: Path, data: bytes) -> None:
    marshal("v", (gvariant.parse(data.decode("utf-8", "surrogateescape")),))


def read_mountinfo(_: Path, data: bytes) -> None:
    for mount in mountinfo.parse(data):
        os.fsencode(mount.mount_point)


READERS: dict[str, Callable[[Path, bytes], None]] = {
    "state.json": read_state,
    "config.json": read_config,
    "resources.json": read_resources,
    "start-fifo": read_error,
    "descriptors.json": read_descriptors,
    "criu-message": read_criu,
    "dbus-message": read_dbus,
    "dbus-stream": read_bus,
    "gvariant": read_gvariant,
    "mountinfo": read_mountinfo,
}


@kept(*READERS)
def test_corpus(folder: Path, target: str, data: bytes) -> None:
    attempt(READERS[target], folder, data)


@pytest.mark.parametrize("target", READERS)
@pytest.mark.timeout(3600)
def test_mutants(folder: Path, target: str) -> None:
    @examples(120 if target == "dbus-stream" else 300)
    @given(mutants(target))
    def run(data: bytes) -> None:
        attempt(READERS[target], folder, data)

    run()


@pytest.mark.parametrize("target", READERS)
def test_much_of_it(folder: Path, target: str) -> None:
    """As much as is read at all, of what is read slowest if it is read badly: no more memory than in proportion, and
    an end within this test's time."""
    for piece in (*corpus(target), b"[", b'{"a":', b"\\", b"\xff", b"\x08", b"1", b"a=", b"<"):
        data = (piece or b"\0") * (_MUCH // max(1, len(piece)))
        tracemalloc.start()
        try:
            attempt(READERS[target], folder, data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100 * _MUCH, piece[:80]


_MUCH = 1 << 20
