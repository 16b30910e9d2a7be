"""The collector: random histories against a model, and a collector that is killed half-way."""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gcmodel import DRIVER, Held, Model, Node
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from masu.errors import FailedPrecondition, NotFound
from masu.spec import times
from masu.spec.image import parse_descriptor
from masu.store import Container, Image, NamespaceStore, Store, gc, open_store
from masu.store.sandboxes import Sandbox, Sandboxes

HOUR = 3600 * 10**9
NAMESPACES = ("one", "two")
namespace = st.sampled_from(NAMESPACES)


def put(ns: NamespaceStore, data: bytes, labels: dict[str, str] | None = None) -> str:
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    with ns.content.writer(digest, labels=labels) as writer:
        writer.write(data)
        return writer.commit()


def point(ns: NamespaceStore, name: str, digest: str, **labels: str) -> None:
    target = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
    ns.images.put(Image(name, parse_descriptor(target), {k.replace("_", "."): v for k, v in labels.items()}))


def snapshot(ns: NamespaceStore, name: str, parent: str = "", labels: dict[str, str] | None = None) -> None:
    """A committed snapshot with a folder, without the driver's mounts."""
    records = ns.snapshots(DRIVER)
    with records.transaction():
        id, _ = records.create("active", f"key-{name}", parent, {})
        os.makedirs(f"{ns.root}/snapshots/{DRIVER}/{id}/fs/a/b")
    records.commit(name, f"key-{name}", labels or {}, 0, 0)


def digests(ns: NamespaceStore) -> set[str]:
    return {info.digest for info in ns.content.walk()}


def names(ns: NamespaceStore) -> set[str]:
    return {info.name for info in ns.snapshots(DRIVER).list()}


def folders(store: Store) -> set[str]:
    return set(os.listdir(f"{store.root}/snapshots/{DRIVER}"))


def test_an_image_keeps_what_its_labels_name(store: Store, ns: NamespaceStore) -> None:
    layer, config = put(ns, b"layer"), put(ns, b"config", {f"containerd.io/gc.ref.snapshot.{DRIVER}": "top"})
    refs = {"containerd.io/gc.ref.content.config": config, "containerd.io/gc.ref.content.l.0": layer}
    manifest = put(ns, b"manifest", refs)
    index = put(ns, b"index", {"containerd.io/gc.ref.content/anything": manifest})
    snapshot(ns, "base")
    snapshot(ns, "top", "base")
    snapshot(ns, "unused", "base")
    unused = put(ns, b"unused")
    point(ns, "image", index)
    report = store.gc()
    assert digests(ns) == {layer, config, manifest, index}
    assert names(ns) == {"base", "top"}
    assert report.content == [("default", unused)]
    assert report.snapshots == [("default", DRIVER, "unused")]
    assert report.freed_bytes == 6
    assert report.repaired == []
    assert report.errors == []
    assert len(folders(store)) == 2
    ns.images.delete("image")
    store.gc()
    assert digests(ns) == names(ns) == folders(store) == set()
    assert os.listdir(f"{store.root}/blobs/sha256") == []


def test_labels_that_keep(store: Store, ns: NamespaceStore) -> None:
    root = put(ns, b"root", {"containerd.io/gc.root": "2026-01-01T00:00:00Z"})
    snapshot(ns, "rooted", labels={"containerd.io/gc.root": "yes"})
    snapshot(ns, "held")
    snapshot(ns, "byimage")
    ns.containers.create(Container("c", snapshotter=DRIVER, snapshot_key="held"))
    named = put(ns, b"named")
    point(ns, "image", put(ns, b"target"), **{f"containerd_io/gc_ref_snapshot_{DRIVER}": "byimage"})
    referrer = put(ns, b"signature", {"containerd.io/gc.bref.content.subject": root})
    by_image = put(ns, b"note", {"containerd.io/gc.bref.image": "image"})
    lost = put(ns, b"lost", {"containerd.io/gc.bref.content.subject": named})
    store.gc()
    assert {root, referrer, by_image} <= digests(ns)
    assert not {named, lost} & digests(ns)
    assert names(ns) == {"rooted", "held", "byimage"}


def test_leases(store: Store, ns: NamespaceStore) -> None:
    child = put(ns, b"child")
    parent = put(ns, b"parent", {"containerd.io/gc.ref.content.0": child})
    snapshot(ns, "base")
    snapshot(ns, "top", "base")
    flat = ns.leases.create("flat", labels={"containerd.io/gc.flat": "yes"})
    ns.leases.add_resource(flat.id, "content", parent)
    ns.leases.add_resource(flat.id, f"snapshots/{DRIVER}", "top")
    deep = ns.leases.create("deep", labels={"containerd.io/gc.expire": times.text(time.time_ns() + HOUR)})
    ns.leases.add_resource(deep.id, "content", parent)
    store.gc()
    assert digests(ns) == {parent, child}
    assert names(ns) == {"base", "top"}
    ns.leases.delete("deep")
    store.gc()
    assert digests(ns) == {parent}
    assert names(ns) == {"base", "top"}, "a snapshot cannot do without its parents"
    ns.leases.delete("flat")
    store.gc()
    assert digests(ns) == names(ns) == set()


def test_leased_images_and_writes(store: Store, ns: NamespaceStore) -> None:
    past = times.text(time.time_ns() - HOUR)
    child = put(ns, b"child")
    target = put(ns, b"target", {"containerd.io/gc.ref.content.0": child})
    point(ns, "temporary", target, **{"containerd_io/gc_expire": past})
    flat = ns.leases.create("flat", labels={"containerd.io/gc.flat": "yes"})
    ns.leases.add_resource(flat.id, "images", "temporary")
    part = put(ns, b"part")
    coming = put(ns, b"coming", {"containerd.io/gc.ref.content.0": part})
    ns.content.delete(coming)
    with ns.content.writer("begun", expected=coming) as writer:
        writer.write(b"com")
    put(ns, b"coming", {"containerd.io/gc.ref.content.0": part})  # by another client
    store.gc()
    assert digests(ns) == {target, coming, part}, "a flat lease keeps no more of an image than its target"
    (data,) = Path(store.root, "ingest").glob("*/data")
    os.utime(data, (1, 1))
    ns.leases.add_resource(flat.id, "ingests", "begun")
    store.gc()
    assert digests(ns) == {target, coming, part}
    ns.leases.delete("flat")
    report = store.gc()
    assert (report.ingests, report.images) == (1, [("default", "temporary")])
    assert digests(ns) == set()


def test_a_sandbox_keeps_what_its_labels_name(store: Store, ns: NamespaceStore) -> None:
    image, kept = put(ns, b"image"), put(ns, b"kept")
    past = times.text(time.time_ns() - HOUR)
    point(ns, "pause", image, **{"containerd_io/gc_expire": past})
    labels = {"containerd.io/gc.ref.content": kept, "containerd.io/gc.ref.image": "pause"}
    sandboxes = Sandboxes(store.db, ns.events, ns.name)
    sandboxes.create(Sandbox("s", labels=labels))
    store.gc()
    assert digests(ns) == {image, kept}
    sandboxes.delete("s")
    store.gc()
    assert digests(ns) == set()


def test_expiry(store: Store, ns: NamespaceStore) -> None:
    past = times.text(time.time_ns() - HOUR)
    ns.leases.create("over", labels={"containerd.io/gc.expire": past})
    ns.leases.add_resource("over", "content", put(ns, b"a"))
    ns.leases.create("odd", labels={"containerd.io/gc.expire": past})
    with ns.transaction() as tx:  # somebody else's spelling: kept
        tx.execute("""UPDATE leases SET labels='{"containerd.io/gc.expire":"soon"}' WHERE id='odd'""")
    kept = put(ns, b"b")
    ns.leases.add_resource("odd", "content", kept)
    point(ns, "temporary", put(ns, b"c"), **{"containerd_io/gc_expire": past})
    report = store.gc()
    assert report.leases == [("default", "over")]
    assert report.images == [("default", "temporary")]
    assert digests(ns) == {kept}
    assert ns.images.list() == []


def test_writes_in_progress(store: Store, ns: NamespaceStore) -> None:
    expected = put(ns, b"expected")
    other = store.namespace("other")
    with other.content.writer("old", expected="sha256:" + "0" * 64) as writer:
        writer.write(b"12345")
    lease = ns.leases.create()
    with ns.content.writer("leased", lease=lease.id) as writer:
        writer.write(b"x")
    active = ns.content.writer("active")
    active.write(b"y")
    for name in os.listdir(f"{store.root}/ingest"):
        os.utime(f"{store.root}/ingest/{name}/data", (1, 1))
    with ns.content.writer("fresh") as writer:
        writer.write(b"z")
    report = store.gc()
    assert report.ingests == 1
    assert [s.ref for s in ns.content.statuses()] == ["active", "fresh", "leased"]
    assert other.content.statuses() == []
    assert expected not in digests(ns)
    active.close()


def test_rows_and_files_that_lost_each_other(store: Store, ns: NamespaceStore) -> None:
    digest = put(ns, b"lost", {"containerd.io/gc.root": "yes"})
    blobs = Path(store.root, "blobs/sha256")
    (blobs / digest[7:]).unlink()
    (blobs / ("f" * 64)).write_bytes(b"orphan")
    (blobs / "not-a-digest").write_bytes(b"")
    snapshot(ns, "gone", labels={"containerd.io/gc.root": "yes"})
    snapshot(ns, "above", "gone", labels={"containerd.io/gc.root": "yes"})
    base = Path(store.root, "snapshots", DRIVER)
    gone = ns.snapshots(DRIVER).get("gone").id
    (base / str(gone)).rename(base / "rm-1-half")
    (base / "4711" / "fs").mkdir(parents=True)
    report = store.gc()
    assert digests(ns) == names(ns) == folders(store) == set()
    assert len(report.repaired) >= 4
    assert [p.name for p in blobs.iterdir()] == ["not-a-digest"], "what is not ours stays"
    assert store.gc().repaired == []


def test_deep_and_hostile_folders_go(store: Store, ns: NamespaceStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    ns.images.list()  # the database is made now: beside layers it would not be
    top = f"{store.root}/snapshots/{DRIVER}/99"
    os.makedirs(top)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 100, dir_fd=fd)
        os.symlink(str(outside), "link", dir_fd=fd)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    report = store.gc()
    assert report.errors == []
    assert folders(store) == set()
    assert (outside / "precious").exists()


@pytest.mark.parametrize("call", ["unlink", "rename", "rmdir", "open"])
def test_killed_anywhere_the_next_one_finishes(store: Store, ns: NamespaceStore, call: str) -> None:
    kept = put(ns, b"kept")
    point(ns, "image", kept)
    for step in range(1, 9):
        for i in range(3):
            put(ns, b"garbage %d %d" % (step, i))
            snapshot(ns, f"s{step}.{i}", f"s{step}.{i - 1}" if i else "")
        pid = os.fork()
        if pid == 0:
            die_at(call, step)
            try:
                store.gc()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert kept in digests(ns)
        report = store.gc()
        assert report.errors == []
        assert digests(ns) == {kept}
        assert names(ns) == folders(store) == set()
        assert os.listdir(f"{store.root}/blobs/sha256") == [kept[7:]]


def die_at(call: str, step: int) -> None:
    real: Callable[..., object] = getattr(os, call)
    seen = 0

    def dying(*args: object, **kwargs: object) -> object:
        nonlocal seen
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(os, call, dying)


class History(RuleBasedStateMachine):
    """Anything anybody does to a store, in any order, with collections in between; the model is a graph."""

    blobs: Bundle[str] = Bundle("blobs")
    snaps: Bundle[str] = Bundle("snaps")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="masu-gc-")
        self.store = open_store(f"{self.folder.name}/state")
        self.ns = {name: self.store.namespace(name) for name in NAMESPACES}
        self.model = Model()
        self.now = time.time_ns()

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(target=blobs, n=namespace, data=st.binary(max_size=3), refs=st.lists(blobs, max_size=2),
          snaps=st.lists(snaps, max_size=1), root=st.booleans())  # fmt: skip
    def write(self, n: str, data: bytes, refs: list[str], snaps: list[str], root: bool) -> str:
        node = Node(refs=[("content", r) for r in refs] + [("snapshot", s) for s in snaps], root=root)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if (n, "content", digest) not in self.model.nodes:
            with self.ns[n].content.writer(f"w{digest}", labels=node.labels()) as writer:
                writer.write(data)
                writer.commit()
            self.model.nodes[n, "content", digest] = node
        return digest

    @rule(n=namespace, digest=consumes(blobs))
    def delete(self, n: str, digest: str) -> None:
        try:
            self.ns[n].content.delete(digest)
        except NotFound:
            assert (n, "content", digest) not in self.model.nodes
        else:
            del self.model.nodes[n, "content", digest]

    @rule(target=snaps, n=namespace, name=st.sampled_from("abcdefgh"), parent=st.none() | snaps)
    def commit(self, n: str, name: str, parent: str | None) -> str | MultipleResults[str]:
        nodes = self.model.nodes
        if (n, "snapshot", name) in nodes or (parent and (n, "snapshot", parent) not in nodes):
            return multiple()
        snapshot(self.ns[n], name, parent or "")
        nodes[n, "snapshot", name] = Node(parts=[("snapshot", parent)] if parent else [])
        return name

    @rule(n=namespace, name=snaps)
    def remove(self, n: str, name: str) -> None:
        try:
            id = self.ns[n].snapshots(DRIVER).remove(name)
        except NotFound:
            assert (n, "snapshot", name) not in self.model.nodes
        except FailedPrecondition:
            assert any(m == n and ("snapshot", name) in node.parts for (m, _, _), node in self.model.nodes.items())
        else:
            del self.model.nodes[n, "snapshot", name]
            assert id  # its folder is left behind, as by a kill

    @rule(n=namespace, name=st.sampled_from("xyz"), digest=blobs)
    def tag(self, n: str, name: str, digest: str) -> None:
        point(self.ns[n], name, digest)
        self.model.nodes[n, "image", name] = Node(parts=[("content", digest)], root=True)

    @rule(n=namespace, name=st.sampled_from("xyz"))
    def untag(self, n: str, name: str) -> None:
        if self.model.nodes.pop((n, "image", name), None) is not None:
            self.ns[n].images.delete(name)

    @rule(n=namespace, id=st.sampled_from("pq"), name=snaps)
    def run(self, n: str, id: str, name: str) -> None:
        if (n, "container", id) not in self.model.nodes:
            self.ns[n].containers.create(Container(id, snapshotter=DRIVER, snapshot_key=name))
            self.model.nodes[n, "container", id] = Node(parts=[("snapshot", name)], root=True)

    @rule(n=namespace, id=st.sampled_from("pq"))
    def rm(self, n: str, id: str) -> None:
        if self.model.nodes.pop((n, "container", id), None) is not None:
            self.ns[n].containers.delete(id)

    @rule(n=namespace, id=st.sampled_from("lm"), flat=st.booleans(), held=st.lists(blobs, max_size=2),
          snaps=st.lists(snaps, max_size=1))  # fmt: skip
    def lease(self, n: str, id: str, flat: bool, held: list[str], snaps: list[str]) -> None:
        if (n, id) in self.model.leases:
            self.ns[n].leases.delete(id)
        resources = [("content", d) for d in held] + [("snapshot", s) for s in snaps]
        lease = Held(flat=flat, resources=resources, expires_ns=self.now + HOUR)
        self.ns[n].leases.create(id, labels=lease.labels())
        for kind, name in resources:
            self.ns[n].leases.add_resource(id, kind if kind == "content" else f"snapshots/{DRIVER}", name)
        self.model.leases[n, id] = lease

    @rule(later=st.booleans())
    def collect(self, later: bool) -> None:
        if later:
            self.now += 2 * HOUR
        report = gc.collect(self.store.db, self.store.root, now_ns=self.now)
        assert report.errors == []
        self.model.collect(self.now)
        on_disk = {digest[7:] for n in NAMESPACES for digest in self.model.names(n, "content")}
        assert set(os.listdir(f"{self.store.root}/blobs/sha256")) == on_disk
        ids = {str(i.id) for ns in self.ns.values() for i in ns.snapshots(DRIVER).list()}
        base = f"{self.store.root}/snapshots/{DRIVER}"
        assert set(os.listdir(base) if os.path.isdir(base) else []) == ids

    @invariant()
    def nothing_else_was_lost(self) -> None:
        for n, ns in self.ns.items():
            assert digests(ns) == self.model.names(n, "content")
            assert names(ns) == self.model.names(n, "snapshot")
            assert {i.name for i in ns.images.list()} == self.model.names(n, "image")


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
