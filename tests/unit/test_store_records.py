"""Images, containers, leases, events, namespaces, times."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from masu.spec import times
from masu.spec.image import parse_descriptor
from masu.store import Container, Image, NamespaceStore, Store, checks, leases

DIGEST = "sha256:" + "a" * 64


def image(name: str, digest: str = DIGEST, **labels: str) -> Image:
    target = parse_descriptor(
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": 3,
            "annotations": {"k": "v"},
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        }
    )
    return Image(name, target, labels)


def topics(store: Store) -> list[str]:
    return [e.topic for e in store.events.since(0)]


# ---- images ----


def test_images(store: Store, ns: NamespaceStore) -> None:
    made = ns.images.create(image("b", a="1"))
    assert made.target.to_json() == image("b").target.to_json()
    assert (made.name, made.labels) == ("b", {"a": "1"})
    assert made.created_at == made.updated_at
    with pytest.raises(AlreadyExists):
        ns.images.create(image("b"))
    ns.images.put(image("a"))
    other = "sha256:" + "b" * 64
    changed = ns.images.put(image("b", other))
    assert changed.target.digest == other
    assert changed.labels == {}
    assert changed.created_at == made.created_at < changed.updated_at
    assert [i.name for i in ns.images.list()] == ["a", "b"]
    assert [i.name for i in ns.images.list(target=other)] == ["b"]
    assert store.namespace("other").images.list() == []
    ns.images.delete("a")
    for call in (lambda: ns.images.delete("a"), lambda: ns.images.get("a"), lambda: ns.images.update(image("a"))):
        with pytest.raises(NotFound):
            call()
    assert topics(store) == ["/images/create", "/images/create", "/images/update", "/images/delete"]


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 513, "\x1b[31m"])
def test_bad_image_names(ns: NamespaceStore, name: str) -> None:
    with pytest.raises(InvalidArgument):
        ns.images.create(image(name))


# ---- containers ----


def test_containers(store: Store, ns: NamespaceStore) -> None:
    one = Container(
        "a" * 64,
        name="web",
        image="docker.io/library/redis:latest",
        runtime="masu",
        snapshotter="overlayfs",
        snapshot_key="a" * 64,
        labels={"l": "1"},
        spec='{"ociVersion":"1.2.0"}',
        extensions={"io.masu": {"nested": [1, None, True]}},
    )
    made = ns.containers.create(one)
    for field in ("id", "name", "image", "runtime", "snapshotter", "snapshot_key", "labels", "spec", "extensions"):
        assert getattr(made, field) == getattr(one, field)
    with pytest.raises(AlreadyExists, match="container name"):
        ns.containers.create(Container("b" * 64, name="web"))
    with pytest.raises(AlreadyExists, match="container a"):
        ns.containers.create(Container("a" * 64, name="other"))
    two = ns.containers.create(Container("ab" + "0" * 62))
    ns.containers.create(Container("b" * 64))  # no name: not unique
    assert [c.id for c in ns.containers.list()] == ["a" * 64, "ab" + "0" * 62, "b" * 64]
    assert ns.containers.list()[0].spec is None
    assert ns.containers.list(with_spec=True)[0].spec == one.spec
    listed = ns.containers.list()[0]
    listed.labels = {"l": "2"}
    updated = ns.containers.update(listed)
    assert updated.spec == one.spec
    assert updated.labels == {"l": "2"}
    two.name = "web"
    with pytest.raises(AlreadyExists, match="container name"):
        ns.containers.update(two)
    ns.containers.delete("a" * 64)
    ns.containers.update(two)
    assert ns.containers.find("web").id == two.id
    for call in (lambda: ns.containers.delete("a" * 64), lambda: ns.containers.update(one)):
        with pytest.raises(NotFound):
            call()
    assert topics(store).count("/containers/create") == 3
    assert store.namespace("other").containers.list() == []


def test_find(ns: NamespaceStore) -> None:
    for id, name in (("abc1", "one"), ("abc2", "abc"), ("abd", "abc1x"), ("zz", "abd")):
        ns.containers.create(Container(id, name=name))
    assert ns.containers.find("abc1").id == "abc1"
    assert ns.containers.find("abc").id == "abc2"  # the name before the prefix
    assert ns.containers.find("abd").id == "abd"  # the id before the name
    assert ns.containers.find("z").id == "zz"
    with pytest.raises(InvalidArgument, match="abc1, abc2"):
        ns.containers.find("ab")
    for text in ("", "%", "abc%", "_bd", "y", "abc11", "zz\x7f", "é"):
        with pytest.raises(NotFound):
            ns.containers.find(text)


@pytest.mark.parametrize("id", ["", "a/b", "..", "a" * 77, "-a", "a--b", "a\n", "ä"])
def test_bad_container_ids(ns: NamespaceStore, id: str) -> None:
    with pytest.raises(InvalidArgument):
        ns.containers.create(Container(id))


def test_read_change_write_is_one_transaction(ns: NamespaceStore) -> None:
    ns.containers.create(Container("c"))
    with ns.transaction():
        c = ns.containers.get("c")
        c.labels["n"] = "1"
        ns.containers.update(c)
        assert ns.events.publish("/tasks/start", {"container_id": "c"}) > 0
    assert ns.containers.get("c").labels == {"n": "1"}


# ---- leases ----


def test_leases(ns: NamespaceStore) -> None:
    lease = ns.leases.create("mine", labels={"a": "1"})
    with pytest.raises(AlreadyExists):
        ns.leases.create("mine")
    for kind, name in (("content", DIGEST), ("snapshots/overlayfs", "key"), ("ingests", "ref")):
        ns.leases.add_resource(lease.id, kind, name)
        ns.leases.add_resource(lease.id, kind, name)
    assert len(ns.leases.resources("mine")) == 3
    ns.leases.delete_resource("mine", "ingests", "ref")
    with pytest.raises(NotFound):
        ns.leases.delete_resource("mine", "ingests", "ref")
    for kind, name in (("content", "x"), ("snapshots/", "key"), ("snapshots/../x", "key")):
        with pytest.raises(InvalidArgument):
            ns.leases.add_resource("mine", kind, name)
    with pytest.raises(InvalidArgument):
        ns.leases.create(labels={leases.EXPIRE: "tomorrow"})
    assert [x.id for x in ns.leases.list()] == ["mine"]
    ns.leases.delete("mine")
    for call in (lambda: ns.leases.delete("mine"), lambda: ns.leases.resources("mine")):
        with pytest.raises(NotFound):
            call()


def test_hold_ends_with_the_block(ns: NamespaceStore) -> None:
    with ns.leases.hold("test") as held:
        assert [x.id for x in ns.leases.list()] == [held.id]
        held.end()
    assert ns.leases.list() == []


def test_hold_ends_with_the_process(store: Store, ns: NamespaceStore) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        ns.leases.hold("child")
        os.write(write, b"+")
        signal.pause()
    os.close(write)
    assert os.read(read, 1) == b"+"
    os.close(read)
    assert store.gc().leases == []
    assert len(ns.leases.list()) == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(store.gc().leases) == 1
    assert ns.leases.list() == []


# ---- events ----


def test_events(store: Store, ns: NamespaceStore) -> None:
    other = store.namespace("other")
    assert store.events.last() == 0
    first = ns.events.publish("/tasks/start", {"container_id": "a", "pid": 7})
    other.events.publish("/tasks/exit", {"exit_status": 137}, time="2026-01-01T00:00:00.000000000Z")
    last = ns.events.publish("/tasks/exit", {})
    assert store.events.last() == last
    assert [e.seq for e in ns.events.since(0)] == [first, last]
    found = store.events.since(first)
    assert [(e.namespace, e.topic) for e in found] == [("other", "/tasks/exit"), ("default", "/tasks/exit")]
    assert found[0].payload == {"exit_status": 137}
    assert found[0].time == "2026-01-01T00:00:00.000000000Z"
    assert [e.seq for e in store.events.since(0, topic="/tasks/e")] == [first + 1, last]
    assert [e.seq for e in store.events.since(0, 1)] == [first]
    with pytest.raises(InvalidArgument):
        store.events.publish("/x", {})
    with pytest.raises(InvalidArgument):
        ns.events.publish("no-slash", {})


def test_old_events_go_and_numbers_never_come_back(
    store: Store, ns: NamespaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masu.store import events

    monkeypatch.setattr(events, "KEPT", 3)
    with ns.transaction():
        for _ in range(10):
            ns.events.publish("/x", {})
    store.gc()
    assert [e.seq for e in store.events.since(0)] == [8, 9, 10]
    assert ns.events.publish("/x", {}) == 11


# ---- namespaces ----


def test_namespaces(store: Store) -> None:
    assert store.namespaces() == {}
    store.create_namespace("k8s.io", {"a": "1"})
    with pytest.raises(AlreadyExists):
        store.create_namespace("k8s.io")
    store.namespace("implicit").images.create(image("x"))
    assert store.namespaces() == {"implicit": {}, "k8s.io": {"a": "1"}}
    assert store.update_namespace("implicit", {"b": "2"}) == {"b": "2"}
    assert store.update_namespace("k8s.io", {"a": None}) == {}
    with pytest.raises(FailedPrecondition, match="images"):
        store.delete_namespace("implicit")
    store.namespace("implicit").images.delete("x")
    store.delete_namespace("implicit")
    assert list(store.namespaces()) == ["k8s.io"]
    with pytest.raises(NotFound):
        store.delete_namespace("implicit")
    assert store.update_namespace("implicit", {"c": "3"}) == {"c": "3"}
    assert store.namespaces()["implicit"] == {"c": "3"}
    for name in ("", "a/b", "..", "a" * 77):
        with pytest.raises(InvalidArgument):
            store.namespace(name)


# ---- times and checks ----


@given(st.integers(min_value=-(10**18), max_value=4 * 10**18))
def test_times_go_there_and_back(ns: int) -> None:
    assert times.parse(times.text(ns)) == ns


def test_times_from_elsewhere() -> None:
    assert times.parse("1970-01-01T00:00:00Z") == 0
    assert times.parse("1970-01-01T01:00:00+01:00") == 0
    assert times.parse("1969-12-31T23:30:00.5-00:30") == 500_000_000
    assert times.parse("2024-02-29t12:00:00.123456789123z") == 1709208000123456789
    assert times.text(1) == "1970-01-01T00:00:00.000000001Z"
    for text in ("", "2024", "2024-01-01", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00.Z",
                 "2024-01-01T00:00:00+1:00", "2024-01-01T00:00:00Zx", "²024-01-01T00:00:00Z"):  # fmt: skip
        with pytest.raises(InvalidArgument):
            times.parse(text, exact=True)


@given(st.text(max_size=80))
def test_identifiers_are_containerds(text: str) -> None:
    import re

    allowed = re.fullmatch(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*", text) is not None and len(text) <= 76
    try:
        checks.identifier("id", text)
    except InvalidArgument:
        assert not allowed
    else:
        assert allowed
