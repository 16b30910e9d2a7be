"""Full, read-only, small: each is one clear error, and everything is in order afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import forked
from kernel.layermaker import digest_of, file, image, layer, look, put

from masu.errors import FailedPrecondition, NotFound, ResourceExhausted
from masu.linux import mount, namespaces
from masu.snapshots import choose, unpack
from masu.store import Container, open_store

pytestmark = pytest.mark.root


def on_tmpfs(tmp_path: Path, size: str, body: Callable[[str], None]) -> None:
    """Runs `body` with a small tmpfs of its own, in a private mount namespace."""
    top = tmp_path / "small"
    top.mkdir()

    def inside() -> None:
        fd = mount.new_mount("tmpfs", "tmpfs", [f"size={size}"])
        mount.attach(fd, str(top))
        os.close(fd)
        body(str(top))

    forked.run(inside, unshare=namespaces.CLONE_NEWNS)


def fill(folder: str, leave: int = 0) -> str:
    """A file that takes all the space but `leave` bytes."""
    path = f"{folder}/filler"
    with open(path, "wb", buffering=0) as f:
        free = os.statvfs(folder)
        try:
            os.posix_fallocate(f.fileno(), 0, free.f_bavail * free.f_frsize - leave)
        except OSError:
            pass
    return path


def test_a_full_disk_while_a_blob_is_written(tmp_path: Path) -> None:
    def body(top: str) -> None:
        store = open_store(f"{top}/state")
        ns = store.namespace()
        put(ns, b"before")
        data = os.urandom(3 << 20)
        filler = fill(top, 1 << 20)
        with ns.content.writer("ref", expected=digest_of(data)) as writer:
            with pytest.raises(ResourceExhausted, match="ENOSPC"):
                writer.write(data)
            written = writer.offset
        assert 0 < written < len(data)
        os.unlink(filler)
        # Goes on where it stopped.
        with ns.content.writer("ref", expected=digest_of(data)) as writer:
            assert writer.offset == written
            writer.write(data[written:])
            writer.commit()
        assert ns.content.read(digest_of(data), len(data)) == data
        assert store.gc().repaired == []

    on_tmpfs(tmp_path, "16m", body)


def test_a_full_disk_while_metadata_is_written(tmp_path: Path) -> None:
    def body(top: str) -> None:
        store = open_store(f"{top}/state")
        ns = store.namespace()
        before = ns.events.publish("/before", {})
        filler = fill(top)
        for _ in range(3):
            with pytest.raises(ResourceExhausted):
                ns.leases.create("x" * 200, labels={str(i): "y" * 4000 for i in range(20)})
        assert store.events.last() == before
        assert ns.leases.list() == []
        with pytest.raises(ResourceExhausted):
            put(ns, os.urandom(100_000))
        os.unlink(filler)
        ns.leases.create("fits")
        assert store.gc().errors == []
        assert [e.topic for e in store.events.since(0)] == ["/before"]

    on_tmpfs(tmp_path, "8m", body)


def test_a_commit_that_metadata_has_no_room_for(tmp_path: Path) -> None:
    """The blob is written and verified, the row does not fit: nothing is there, and nothing is lost."""

    def body(top: str) -> None:
        store = open_store(f"{top}/state")
        ns = store.namespace()
        data = os.urandom(100_000)
        writer = ns.content.writer("ref", expected=digest_of(data), labels={str(i): "y" * 4000 for i in range(50)})
        writer.write(data)
        filler = fill(top)
        with pytest.raises(ResourceExhausted):
            writer.commit()
        with pytest.raises(NotFound):
            ns.content.info(digest_of(data))
        assert os.listdir(f"{store.root}/blobs/sha256") == []
        os.unlink(filler)
        writer.commit()
        assert ns.content.read(digest_of(data), len(data)) == data

    on_tmpfs(tmp_path, "8m", body)


@pytest.mark.parametrize("driver", ["overlayfs", "native"])
def test_a_full_disk_while_a_layer_is_unpacked(tmp_path: Path, driver: str) -> None:
    def body(top: str) -> None:
        store = open_store(f"{top}/state")
        ns = store.namespace()
        small = layer(*(file(f"small/{i}", os.urandom(100)) for i in range(50)))
        raw = layer(*(file(f"f{i}", b"x" * 200_000) for i in range(40)))
        manifest, config, _ = image(ns, [small, raw])
        snapshotter = choose(ns, driver)
        filler = fill(top, 4 << 20)
        with pytest.raises(ResourceExhausted, match="ENOSPC") as caught:
            unpack(ns, manifest, config, snapshotter)
        assert manifest.layers[1].digest in str(caught.value)
        assert [i.name for i in snapshotter.walk()] == [config.rootfs.diff_ids[0]]
        assert len(os.listdir(snapshotter.root)) == 1
        assert ns.leases.list() == []
        os.unlink(filler)
        found = look(snapshotter.prepare("k", unpack(ns, manifest, config, snapshotter)))
        assert len(found) == 40 + 51

    on_tmpfs(tmp_path, "64m", body)


def test_things_can_be_removed_from_a_full_disk(tmp_path: Path) -> None:
    """Removing is a write, too; and a program that writes until nothing goes any more is a common reason for it."""

    def body(top: str) -> None:
        store = open_store(f"{top}/state")
        ns = store.namespace()
        snapshotter = choose(ns)
        for n in range(5):
            snapshotter.prepare(f"c{n}")
            ns.containers.create(Container(f"c{n}", snapshotter=snapshotter.name, snapshot_key=f"c{n}"))
        digest = put(ns, os.urandom(100_000))
        fill(snapshotter.mounts("c0")[0].source)
        with pytest.raises(ResourceExhausted):
            put(ns, os.urandom(1 << 20))
        with ns.transaction():
            ns.containers.delete("c0")
            snapshotter.remove("c0")
        ns.content.delete(digest)
        ns.containers.delete("c1")
        assert store.gc().errors == []
        assert [i.name for i in snapshotter.walk()] == ["c2", "c3", "c4"]
        snapshotter.remove("c2")
        assert os.stat(f"{store.root}/reserve").st_blocks > 0, "it is back"

    on_tmpfs(tmp_path, "32m", body)


def test_no_room_for_a_state_directory(tmp_path: Path) -> None:
    def body(top: str) -> None:
        fill(top)
        with pytest.raises(ResourceExhausted):
            open_store(f"{top}/state").namespace().images.list()

    on_tmpfs(tmp_path, "1m", body)


def mounted_at(path: str) -> int:
    fd = mount.clone_tree(path)
    mount.attach(fd, path)
    return fd


def test_a_read_only_state_directory(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "state"))
    put(store.namespace(), b"blob")
    store.close()

    def body() -> None:
        fd = mounted_at(store.root)
        mount.set_attributes(fd, set=mount.MOUNT_ATTR_RDONLY)
        os.close(fd)
        os.chdir("/")
        ns = open_store(store.root).namespace()
        for call in (
            lambda: ns.images.list(),
            lambda: ns.events.publish("/x", {}),
            lambda: ns.content.writer("ref"),
            lambda: choose(ns),
            lambda: open_store(f"{store.root}/below"),
        ):
            with pytest.raises(FailedPrecondition) as caught:
                call()
            assert store.root in str(caught.value)
            assert "EROFS" in str(caught.value) or "read-only" in str(caught.value).lower()

    forked.run(body, unshare=namespaces.CLONE_NEWNS)


def test_errors_say_where(tmp_path: Path) -> None:
    def body(top: str) -> None:
        store = open_store(f"{top}/state")
        fill(top)
        with pytest.raises(ResourceExhausted, match=f"{top}/state"):
            put(store.namespace(), os.urandom(1 << 20))

    on_tmpfs(tmp_path, "2m", body)
