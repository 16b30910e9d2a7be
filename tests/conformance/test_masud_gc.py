"""What clients of masud do in any order, with collections in between, against a model: nothing that is referred to is
ever collected, and all the rest is by a synchronous collection."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.field_mask_pb2 import FieldMask
from harness.gcmodel import DRIVER, Held, Model, Node, Ref
from harness.grpcclient import Client
from harness.masud import COLLECT_WHEN_ASKED, Masud
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from masu.api.proto import (
    containers_pb2,
    content_pb2,
    images_pb2,
    leases_pb2,
    sandbox_pb2,
    snapshots_pb2,
    types_pb2,
)

pytestmark = pytest.mark.root

CONTAINERS = containers_pb2.DESCRIPTOR.services_by_name["Containers"]
CONTENT = content_pb2.DESCRIPTOR.services_by_name["Content"]
IMAGES = images_pb2.DESCRIPTOR.services_by_name["Images"]
LEASES = leases_pb2.DESCRIPTOR.services_by_name["Leases"]
SANDBOXES = sandbox_pb2.DESCRIPTOR.services_by_name["Store"]
SNAPSHOTS = snapshots_pb2.DESCRIPTOR.services_by_name["Snapshots"]

Write = content_pb2.WriteContentRequest
HOUR = 3600 * 10**9
LONG_AGO_S = 48 * 3600
RESOURCES = {"content": "content", "snapshot": f"snapshots/{DRIVER}", "image": "images", "ingest": "ingests"}

BLOBS = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in (b"a1", b"b2", b"c3", b"d4")}
blob = st.sampled_from(sorted(BLOBS))
snap = st.sampled_from("efgh")
image = st.sampled_from("xyz")
container = st.sampled_from("pq")
namespace = st.sampled_from(("one", "one", "one", "two"))
# Seldom, or labels would hardly matter.
lease = st.sampled_from(("", "", "", "", "l", "m"))
root = st.sampled_from((False,) * 5 + (True,))
# That which labels name need not be there, nor ever come.
ref = st.one_of(
    *(st.tuples(st.just(kind), name) for kind, name in (("content", blob), ("snapshot", snap), ("image", image)))
)
refs = st.lists(ref, max_size=2)
brefs = st.lists(ref | st.tuples(st.just("container"), container), max_size=1)
expiry = st.sampled_from((None, None, -HOUR, HOUR))


class Histories(Protocol):
    """How a history comes by the daemon."""

    client: Client
    root: Path


class History(RuleBasedStateMachine):
    """One history; the daemon has seen others before, and is emptied."""

    daemon: Histories

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.now = time.time_ns()
        self.empty()
        for n in ("one", "two"):
            self.lease(n, "l", False, None)
            self.lease(n, "m", True, None)

    @initialize(labels=st.lists(st.tuples(refs, brefs, root), min_size=8, max_size=8))
    def begin_with_something(self, labels: list[tuple[list[Ref], list[Ref], bool]]) -> None:
        for name, (refs, brefs, root) in zip([*BLOBS, *"efgh"], labels, strict=True):
            if name in BLOBS:
                self.write("one", name, refs, brefs, root, "", False)
            else:
                self.prepare("one", name, None, refs, brefs, root, "", True)

    def call(self, n: str, service: Any, method: str, request: Any, lease: str = "") -> Any:
        return self.daemon.client(service, method, request, namespace=n, lease=lease)

    def refused(self, n: str, service: Any, method: str, request: Any, lease: str = "") -> str:
        """The status of a call that may fail, "" if it has not."""
        try:
            answer = self.call(n, service, method, request, lease)
            if isinstance(request, list):
                list(answer)
        except grpc.RpcError as error:
            failed: Any = error
            return str(failed.code().name)
        return ""

    def there(self, n: str, kind: str, name: str) -> bool:
        return (n, kind, name) in self.model.nodes

    def may(self, n: str, lease: str) -> str:
        """The lease, if there is one of that name."""
        return lease if (n, lease) in self.model.leases else ""

    def hold(self, n: str, lease: str, kind: str, name: str) -> None:
        if lease:
            self.model.leases[n, lease].resources.add((kind, name))

    # ---- content, and writes of it ----

    @rule(n=namespace, digest=blob, refs=refs, brefs=brefs, root=root, lease=lease, promised=st.booleans())
    def write(
        self, n: str, digest: str, refs: list[Ref], brefs: list[Ref], root: bool, lease: str, promised: bool
    ) -> None:
        """All of a blob: a write of its own, or with a promise of its digest the one that `begin` has left."""
        node, lease = Node(refs=refs, brefs=brefs, root=root), self.may(n, lease)
        name, expected = (f"w{digest}", digest) if promised else ("whole", "")
        begun, there = self.there(n, "ingest", name), self.there(n, "content", digest)
        elsewhere = any(self.there(other, "content", digest) for other in ("one", "two"))
        message = Write(action="COMMIT", ref=name, expected=expected, data=BLOBS[digest], labels=node.labels())
        first = Write(action="STAT", ref=name, expected=expected)
        status = self.refused(n, CONTENT, "Write", [first, message], lease)
        assert status == ("ALREADY_EXISTS" if there or (promised and elsewhere) else "")
        if status and not there:  # taken over from the other namespace, without the labels that were to come at the end
            self.model.nodes[n, "content", digest] = Node()
        if not status:
            self.model.nodes[n, "content", digest] = node
            if begun:
                self.model.remove((n, "ingest", name))
        self.hold(n, lease, "content", digest)

    @rule(n=namespace, digest=blob, lease=lease)
    def begin(self, n: str, digest: str, lease: str) -> None:
        """A client that goes away half-way."""
        name, lease = f"w{digest}", self.may(n, lease)
        message = Write(action="WRITE", ref=name, expected=digest, data=BLOBS[digest][:1])
        status = self.refused(n, CONTENT, "Write", [message], lease)
        if any(self.there(other, "content", digest) for other in ("one", "two")):
            assert status == "ALREADY_EXISTS"
            self.model.nodes.setdefault((n, "content", digest), Node())
            self.hold(n, lease, "content", digest)
        else:
            assert status == ""
            self.model.nodes[n, "ingest", name] = Node(parts=[("content", digest)], root=True)
            self.hold(n, lease, "ingest", name)

    @rule(n=namespace, digest=blob)
    def age(self, n: str, digest: str) -> None:
        """Nobody comes back to a write for two days."""
        name = f"w{digest}"
        if self.there(n, "ingest", name):
            self.model.nodes[n, "ingest", name].root = False
            for file in (self.daemon.root / "ingest").glob("*/ref"):
                facts = json.loads(file.read_text())
                if (facts["namespace"], facts["ref"]) == (n, name):
                    then = time.time() - LONG_AGO_S
                    os.utime(file.with_name("data"), (then, then))

    @rule(n=namespace, digest=blob)
    def abort(self, n: str, digest: str) -> None:
        if self.there(n, "ingest", f"w{digest}"):
            self.call(n, CONTENT, "Abort", content_pb2.AbortRequest(ref=f"w{digest}"))
            self.model.remove((n, "ingest", f"w{digest}"))

    @rule(n=namespace, digest=blob, refs=refs, brefs=brefs, root=root)
    def relabel(self, n: str, digest: str, refs: list[Ref], brefs: list[Ref], root: bool) -> None:
        if self.there(n, "content", digest):
            node = Node(refs=refs, brefs=brefs, root=root)
            info = content_pb2.Info(digest=digest, labels=node.labels())
            mask = FieldMask(paths=["labels"])
            self.call(n, CONTENT, "Update", content_pb2.UpdateRequest(info=info, update_mask=mask))
            self.model.nodes[n, "content", digest] = node

    @rule(n=namespace, digest=blob)
    def delete(self, n: str, digest: str) -> None:
        if self.there(n, "content", digest):
            self.call(n, CONTENT, "Delete", content_pb2.DeleteContentRequest(digest=digest))
            self.model.remove((n, "content", digest))

    # ---- snapshots ----

    @rule(n=namespace, name=snap, parent=st.none() | snap, refs=refs, brefs=brefs, root=root, lease=lease,
          commit=st.booleans())  # fmt: skip
    def prepare(
        self,
        n: str,
        name: str,
        parent: str | None,
        refs: list[Ref],
        brefs: list[Ref],
        root: bool,
        lease: str,
        commit: bool,
    ) -> None:
        """One to write into, and perhaps made a layer of; its labels are those of what it becomes."""
        lease = self.may(n, lease)
        if self.there(n, "snapshot", name) or (parent and not self.is_layer(n, parent)):
            return
        node = Node(parts=[("snapshot", parent)] if parent else [], refs=refs, brefs=brefs, root=root)
        key, labels = (f"key-{name}", {}) if commit else (name, node.labels())
        request = snapshots_pb2.PrepareSnapshotRequest(snapshotter=DRIVER, key=key, parent=parent or "", labels=labels)
        self.call(n, SNAPSHOTS, "Prepare", request, lease)
        if commit:
            made = snapshots_pb2.CommitSnapshotRequest(snapshotter=DRIVER, name=name, key=key, labels=node.labels())
            self.call(n, SNAPSHOTS, "Commit", made, lease)
        self.model.nodes[n, "snapshot", name] = node
        self.hold(n, lease, "snapshot", name)

    def is_layer(self, n: str, name: str) -> bool:
        if not self.there(n, "snapshot", name):
            return False
        found = self.call(n, SNAPSHOTS, "Stat", snapshots_pb2.StatSnapshotRequest(snapshotter=DRIVER, key=name))
        return bool(found.info.kind == snapshots_pb2.COMMITTED)

    @rule(n=namespace, name=snap)
    def remove(self, n: str, name: str) -> None:
        if self.there(n, "snapshot", name):
            children = [
                key for key, node in self.model.nodes.items() if key[:2] == (n, "snapshot")
                and ("snapshot", name) in node.parts
            ]  # fmt: skip
            request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=DRIVER, key=name)
            status = self.refused(n, SNAPSHOTS, "Remove", request)
            assert status == ("FAILED_PRECONDITION" if children else "")
            if not status:
                self.model.remove((n, "snapshot", name))

    # ---- what keeps them ----

    @rule(n=namespace, name=image, digest=blob, refs=refs, brefs=brefs, until=expiry, lease=lease)
    def tag(
        self, n: str, name: str, digest: str, refs: list[Ref], brefs: list[Ref], until: int | None, lease: str
    ) -> None:
        lease = self.may(n, lease)
        expires = None if until is None else self.now + until
        node = Node(parts=[("content", digest)], refs=refs, brefs=brefs, root=True, expires_ns=expires)
        labels = node.labels()
        del labels["containerd.io/gc.root"]
        target = types_pb2.Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=digest, size=2)
        given = images_pb2.Image(name=name, target=target, labels=labels)
        if self.there(n, "image", name):
            self.call(n, IMAGES, "Update", images_pb2.UpdateImageRequest(image=given), lease)
        else:
            self.call(n, IMAGES, "Create", images_pb2.CreateImageRequest(image=given), lease)
        self.model.nodes[n, "image", name] = node
        if until is not None:
            self.hold(n, lease, "image", name)

    @rule(n=namespace, name=image, sync=st.booleans())
    def untag(self, n: str, name: str, sync: bool) -> None:
        if self.there(n, "image", name):
            self.call(n, IMAGES, "Delete", images_pb2.DeleteImageRequest(name=name, sync=sync))
            self.model.remove((n, "image", name))
            if sync:
                self.model.collect(self.now)
                self.compare()

    @rule(n=namespace, id=container, key=st.none() | snap, refs=refs)
    def run(self, n: str, id: str, key: str | None, refs: list[Ref]) -> None:
        if not self.there(n, "container", id):
            node = Node(parts=[("snapshot", key)] if key else [], refs=refs)
            given = containers_pb2.Container(
                id=id,
                labels=node.labels(),
                runtime=containers_pb2.Container.Runtime(name="io.containerd.runc.v2"),
                spec=AnyMessage(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}"),
                snapshotter=DRIVER,
                snapshot_key=key or "",
            )
            self.call(n, CONTAINERS, "Create", containers_pb2.CreateContainerRequest(container=given))
            node.root = True
            self.model.nodes[n, "container", id] = node

    @rule(n=namespace, id=container)
    def rm(self, n: str, id: str) -> None:
        if self.there(n, "container", id):
            self.call(n, CONTAINERS, "Delete", containers_pb2.DeleteContainerRequest(id=id))
            self.model.remove((n, "container", id))

    @rule(n=namespace, refs=refs)
    def sandbox(self, n: str, refs: list[Ref]) -> None:
        """There is one or there is none."""
        if self.there(n, "sandbox", "s"):
            self.call(n, SANDBOXES, "Delete", sandbox_pb2.StoreDeleteRequest(sandbox_id="s"))
            self.model.remove((n, "sandbox", "s"))
            return
        node = Node(refs=refs)
        runtime = types_pb2.Sandbox.Runtime(name="io.containerd.runc.v2")
        given = types_pb2.Sandbox(sandbox_id="s", runtime=runtime, labels=node.labels())
        self.call(n, SANDBOXES, "Create", sandbox_pb2.StoreCreateRequest(sandbox=given))
        node.root = True
        self.model.nodes[n, "sandbox", "s"] = node

    # ---- leases ----

    @rule(n=namespace, id=st.sampled_from("lm"), flat=st.booleans(), until=expiry)
    def lease(self, n: str, id: str, flat: bool, until: int | None) -> None:
        if (n, id) not in self.model.leases:
            held = Held(flat=flat, expires_ns=None if until is None else self.now + until)
            self.call(n, LEASES, "Create", leases_pb2.CreateRequest(id=id, labels=held.labels()))
            self.model.leases[n, id] = held

    @rule(n=namespace, id=st.sampled_from("lm"), what=ref | st.tuples(st.just("ingest"), blob.map("w{}".format)))
    def add(self, n: str, id: str, what: Ref) -> None:
        """Or take it away again, if it has it."""
        if (held := self.model.leases.get((n, id))) is None:
            return
        resource = leases_pb2.Resource(type=RESOURCES[what[0]], id=what[1])
        if what in held.resources:
            self.call(n, LEASES, "DeleteResource", leases_pb2.DeleteResourceRequest(id=id, resource=resource))
            held.resources.remove(what)
        else:
            self.call(n, LEASES, "AddResource", leases_pb2.AddResourceRequest(id=id, resource=resource))
            held.resources.add(what)

    @rule(n=namespace, id=st.sampled_from("lm"), sync=st.booleans())
    def release(self, n: str, id: str, sync: bool) -> None:
        if self.model.leases.pop((n, id), None) is not None:
            self.call(n, LEASES, "Delete", leases_pb2.DeleteRequest(id=id, sync=sync))
            if sync:
                self.model.collect(self.now)
                self.compare()

    @rule()
    def collect(self) -> None:
        self.compare()
        self.synchronous()
        self.model.collect(self.now)
        self.compare()

    def synchronous(self) -> None:
        self.call("one", LEASES, "Create", leases_pb2.CreateRequest(id="now"))
        self.call("one", LEASES, "Delete", leases_pb2.DeleteRequest(id="now", sync=True))

    # ---- comparing ----

    def compare(self) -> None:
        """What clients see of both namespaces, and what is on disk."""
        blobs: set[str] = set()
        for n in ("one", "two"):
            for kind, found in self.seen(n).items():
                assert found == self.model.names(n, kind), (n, kind)
            blobs |= self.model.names(n, "content")
        assert {f"sha256:{name}" for name in os.listdir(self.daemon.root / "blobs/sha256")} == blobs
        count = sum(len(self.model.names(n, "snapshot")) for n in ("one", "two"))
        folder = self.daemon.root / "snapshots" / DRIVER
        assert len([name for name in os.listdir(folder) if name.isdecimal()] if folder.is_dir() else []) == count

    def seen(self, n: str) -> dict[str, set[str]]:
        content = self.call(n, CONTENT, "List", content_pb2.ListContentRequest())
        snapshots = self.call(n, SNAPSHOTS, "List", snapshots_pb2.ListSnapshotsRequest(snapshotter=DRIVER))
        found = self.call(n, IMAGES, "List", images_pb2.ListImagesRequest())
        begun = self.call(n, CONTENT, "ListStatuses", content_pb2.ListStatusesRequest())
        containers = self.call(n, CONTAINERS, "List", containers_pb2.ListContainersRequest())
        sandboxes = self.call(n, SANDBOXES, "List", sandbox_pb2.StoreListRequest())
        return {
            "content": {info.digest for block in content for info in block.info},
            "snapshot": {info.name for block in snapshots for info in block.info},
            "image": {each.name for each in found.images},
            "ingest": {each.ref for each in begun.statuses},
            "container": {each.id for each in containers.containers},
            "sandbox": {each.sandbox_id for each in sandboxes.list},
        }

    def empty(self) -> None:
        """Of what a history has left that went wrong."""
        for n in ("one", "two"):
            seen = self.seen(n)
            for name in seen["image"]:
                self.call(n, IMAGES, "Delete", images_pb2.DeleteImageRequest(name=name))
            for name in seen["container"]:
                self.call(n, CONTAINERS, "Delete", containers_pb2.DeleteContainerRequest(id=name))
            for name in seen["sandbox"]:
                self.call(n, SANDBOXES, "Delete", sandbox_pb2.StoreDeleteRequest(sandbox_id=name))
            for name in seen["ingest"]:
                self.call(n, CONTENT, "Abort", content_pb2.AbortRequest(ref=name))
            for name in seen["content"]:
                self.call(n, CONTENT, "Delete", content_pb2.DeleteContentRequest(digest=name))
            for each in self.call(n, LEASES, "List", leases_pb2.ListRequest()).leases:
                self.call(n, LEASES, "Delete", leases_pb2.DeleteRequest(id=each.id))
            self.unroot(n, seen["snapshot"])
        self.synchronous()

    def unroot(self, n: str, snapshots: Iterable[str]) -> None:
        for name in snapshots:
            info, mask = snapshots_pb2.Info(name=name), FieldMask(paths=["labels"])
            request = snapshots_pb2.UpdateSnapshotRequest(snapshotter=DRIVER, info=info, update_mask=mask)
            self.call(n, SNAPSHOTS, "Update", request)

    def teardown(self) -> None:
        """Once more; then everything that keeps something goes, and nothing is left."""
        self.collect()
        for n, kind, name in list(self.model.nodes):
            if kind == "image":
                self.call(n, IMAGES, "Delete", images_pb2.DeleteImageRequest(name=name))
            elif kind == "container":
                self.rm(n, name)
            elif kind == "sandbox":
                self.sandbox(n, [])
            elif kind == "ingest":
                self.call(n, CONTENT, "Abort", content_pb2.AbortRequest(ref=name))
            elif kind == "content":
                self.relabel(n, name, [], [], False)
            else:
                self.unroot(n, [name])
        for n, id in list(self.model.leases):
            self.release(n, id, False)
        self.model = Model()
        self.synchronous()
        self.compare()
        assert os.listdir(self.daemon.root / "ingest") == []


@pytest.fixture
def masud(tmp_path: Path) -> Iterator[Masud]:
    with Masud(tmp_path, "version = 3\n" + COLLECT_WHEN_ASKED) as it:
        yield it


def test_whatever_clients_do_nothing_that_is_needed_goes_and_the_rest_does(masud: Masud) -> None:
    with Client(masud.socket) as client:

        class Here:
            def __init__(self) -> None:
                self.client, self.root = client, masud.root

        class Beside(History):
            daemon = Here()

        limits = settings(
            max_examples=50,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            # To make a failure short takes minutes here: add Phase.shrink to look into one.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            report_multiple_bugs=False,
        )
        run_state_machine_as_test(Beside, settings=limits)
