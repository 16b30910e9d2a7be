"""Whole images: chain ids, skipping, several at once, killed in the middle, wrong digests."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

import pytest
from kernel.layermaker import (
    GZIP,
    PLAIN,
    ZSTD,
    digest_of,
    directory,
    file,
    image,
    layer,
    look,
    whiteout,
)

from masu.errors import DataLoss, InvalidArgument, NotFound
from masu.snapshots import choose, unpack
from masu.spec import image as spec
from masu.store import Image, NamespaceStore, Store, open_store

pytestmark = pytest.mark.root

LAYERS = (
    layer(directory("d"), file("d/one", "1"), file("gone")),
    layer(whiteout("gone"), file("d/two", "2")),
    layer(file("three", "3")),
)
TREE = ["d", "d/one", "d/two", "three"]


class Told:
    """A progress display that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.read: dict[str, int] = {}

    def layer(self, digest: str, total: int) -> None:
        self.said.append((digest, f"layer {total}"))

    def advance(self, digest: str, count: int) -> None:
        self.read[digest] = self.read.get(digest, 0) + count

    def status(self, digest: str, text: str) -> None:
        self.said.append((digest, text))


@pytest.mark.parametrize("media_type", [GZIP, ZSTD, PLAIN])
@pytest.mark.parametrize("driver", ["overlayfs", "native"])
def test_snapshots_are_named_by_chain_id(store: Store, ns: NamespaceStore, driver: str, media_type: str) -> None:
    manifest, config, digest = image(ns, LAYERS, media_type)
    snapshotter = choose(ns, driver)
    told = Told()
    top = unpack(ns, manifest, config, snapshotter, progress=told)
    chain = spec.chain_ids(config.rootfs.diff_ids)
    assert chain[0] == digest_of(LAYERS[0])
    assert top == chain[2]
    assert [(i.name, i.parent, i.kind) for i in snapshotter.walk()] == [
        (name, parent, "committed") for name, parent in zip(chain, ["", *chain], strict=False)
    ]
    assert told.read == {d.digest: d.size for d in manifest.layers}
    assert told.said == [(d.digest, text) for d in manifest.layers for text in ("extracting", "done")]
    for descriptor, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True):
        assert ns.content.info(descriptor.digest).labels["containerd.io/uncompressed"] == diff_id
    assert ns.content.info(manifest.config.digest).labels[f"containerd.io/gc.ref.snapshot.{driver}"] == top
    assert sorted(look(snapshotter.prepare("k", top))) == TREE
    assert ns.leases.list() == []
    again = Told()
    assert unpack(ns, manifest, config, snapshotter, progress=again) == top
    assert again.said == []
    # An image keeps all of it, and nothing else does.
    target = spec.parse_descriptor({"mediaType": spec.MEDIA_TYPE_MANIFEST, "digest": digest, "size": 1})
    ns.images.create(Image("image", target))
    snapshotter.remove("k")
    assert store.gc().snapshots == []
    ns.images.delete("image")
    store.gc()
    assert list(snapshotter.walk()) == []
    assert os.listdir(snapshotter.root) == []


def test_layers_are_shared(ns: NamespaceStore) -> None:
    snapshotter = choose(ns)
    manifest, config, _ = image(ns, LAYERS[:2])
    unpack(ns, manifest, config, snapshotter)
    manifest, config, _ = image(ns, LAYERS)
    told = Told()
    unpack(ns, manifest, config, snapshotter, progress=told)
    assert {digest for digest, _ in told.said} == {manifest.layers[2].digest}


def test_one_layer_twice(ns: NamespaceStore) -> None:
    """The same blob at two places of one chain is two snapshots."""
    manifest, config, _ = image(ns, [LAYERS[2], LAYERS[0], LAYERS[2]])
    snapshotter = choose(ns)
    assert unpack(ns, manifest, config, snapshotter)
    assert len(list(snapshotter.walk())) == 3


def test_no_layers(ns: NamespaceStore) -> None:
    manifest, config, _ = image(ns, [])
    assert unpack(ns, manifest, config, choose(ns)) == ""


def test_a_wrong_diff_id(ns: NamespaceStore) -> None:
    wrong = digest_of(b"something else")
    manifest, config, _ = image(ns, LAYERS[:2], diff_ids=[digest_of(LAYERS[0]), wrong])
    snapshotter = choose(ns)
    with pytest.raises(DataLoss, match=wrong):
        unpack(ns, manifest, config, snapshotter)
    assert [i.name for i in snapshotter.walk()] == [digest_of(LAYERS[0])]
    assert ns.leases.list() == []


def test_layers_and_diff_ids_that_do_not_pair_up(ns: NamespaceStore) -> None:
    manifest, _, _ = image(ns, LAYERS)
    _, config, _ = image(ns, LAYERS[:2])
    with pytest.raises(InvalidArgument, match="3 layers, but 2 diff ids"):
        unpack(ns, manifest, config, choose(ns))


def test_a_missing_blob(ns: NamespaceStore) -> None:
    manifest, config, _ = image(ns, LAYERS)
    ns.content.delete(manifest.layers[1].digest)
    snapshotter = choose(ns)
    with pytest.raises(NotFound):
        unpack(ns, manifest, config, snapshotter)
    assert len(list(snapshotter.walk())) == 1


def test_a_layer_of_an_unknown_kind(ns: NamespaceStore) -> None:
    manifest, config, _ = image(ns, LAYERS[:1])
    odd = spec.parse_descriptor({**manifest.layers[0].to_json(), "mediaType": "application/vnd.in-toto+json"})
    with pytest.raises(InvalidArgument):
        unpack(ns, manifest.replace(layers=(odd,)), config, choose(ns))
    assert list(choose(ns).walk()) == []


def unpack_in_process(root: str, manifest: bytes, config: bytes, driver: str) -> None:
    ns = open_store(root).namespace()
    unpack(ns, spec.parse_manifest(manifest), spec.parse_image_config(config), choose(ns, driver))


def documents(ns: NamespaceStore, manifest: spec.Manifest, digest: str) -> tuple[bytes, bytes]:
    return ns.content.read(digest, 1 << 20), ns.content.read(manifest.config.digest, 1 << 20)


@pytest.mark.parametrize("driver", ["overlayfs", "native"])
def test_several_processes_at_once(store: Store, ns: NamespaceStore, driver: str) -> None:
    layers = [layer(*(file(f"{n}/{i}", os.urandom(2000)) for i in range(300))) for n in range(4)]
    manifest, config, digest = image(ns, layers)
    context = multiprocessing.get_context("spawn")
    arguments = (store.root, *documents(ns, manifest, digest), driver)
    processes = [context.Process(target=unpack_in_process, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0] * 4
    snapshotter = choose(ns, driver)
    assert [i.name for i in snapshotter.walk()] == spec.chain_ids(config.rootfs.diff_ids)
    assert ns.leases.list() == []
    # The lock on the blob: nobody did the same work twice.
    prepared = [e for e in store.events.since(0) if e.topic == "/snapshot/prepare"]
    assert len(prepared) == 4


def test_several_threads_at_once(ns: NamespaceStore) -> None:
    images = [image(ns, [LAYERS[0], layer(file(f"own{n}", str(n)))]) for n in range(6)]
    tops: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n, m=m, c=c: tops.setdefault(n, unpack(ns, m, c, choose(ns))))
        for n, (m, c, _) in enumerate(images)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshotter = choose(ns)
    assert len(list(snapshotter.walk())) == 7
    for n in range(6):
        assert f"own{n}" in look(snapshotter.view(f"v{n}", tops[n]))


@pytest.mark.parametrize("driver", ["overlayfs", "native"])
def test_killed_in_the_middle(store: Store, ns: NamespaceStore, driver: str) -> None:
    """With kill -9, again and again, each time a little later; then the next one does it, and nothing is left."""
    layers = [layer(*(file(f"{n}/{i}", os.urandom(3000)) for i in range(400))) for n in range(3)]
    manifest, config, digest = image(ns, layers)
    target = spec.parse_descriptor({"mediaType": spec.MEDIA_TYPE_MANIFEST, "digest": digest, "size": 1})
    ns.images.create(Image("image", target))
    for reads in (1, 3, 5, 8, 11):
        pid = os.fork()
        if pid == 0:
            told = Told()

            def advance(digest: str, count: int, told: Told = told, reads: int = reads) -> None:
                told.read[digest] = told.read.get(digest, 0) + 1
                if sum(told.read.values()) == reads:
                    os.kill(os.getpid(), signal.SIGKILL)

            told.advance = advance  # type: ignore[method-assign]
            try:
                unpack(ns, manifest, config, choose(ns, driver), progress=told)
            finally:
                os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSIGNALED(status):
            break
        # What its worker had is broken off with it: nothing of it is ever committed.
        report = store.gc()
        assert report.errors == []
        assert all(i.kind == "committed" for i in choose(ns, driver).walk())
        assert ns.leases.list() == []
    snapshotter = choose(ns, driver)
    top = unpack(ns, manifest, config, snapshotter)
    store.gc()
    assert [i.name for i in snapshotter.walk()] == spec.chain_ids(config.rootfs.diff_ids)
    assert len(os.listdir(snapshotter.root)) == 3
    assert len(look(snapshotter.prepare("k", top))) == 3 * 401


def test_commit_of_a_chain_id_somebody_else_made(ns: NamespaceStore) -> None:
    """The same layer recompressed is another blob, so the lock does not help: the second to commit gives way."""
    snapshotter = choose(ns)
    one, two = image(ns, LAYERS[:1], GZIP), image(ns, LAYERS[:1], ZSTD)
    assert unpack(ns, one[0], one[1], snapshotter) == unpack(ns, two[0], two[1], snapshotter)
    assert len(list(snapshotter.walk())) == 1
