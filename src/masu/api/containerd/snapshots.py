"""Snapshots: what the snapshotters have, with a lease for what a client makes."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator

from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import filters, values
from masu.api.containerd.service import Call, Service, brief
from masu.api.proto import snapshots_pb2 as pb
from masu.api.proto import types_pb2
from masu.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from masu.linux.idmap import Mapping
from masu.snapshots import IdMaps, Mount, choose
from masu.snapshots.mounts import GID_LABEL, UID_LABEL
from masu.store.snapshots import Info

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins

    from masu.snapshots import Snapshotter

# The name under which what is prepared will be committed: when it is there already, nothing is to be prepared.
TARGET_LABEL = "containerd.io/snapshot.ref"
_KINDS = {"view": pb.VIEW, "active": pb.ACTIVE, "committed": pb.COMMITTED}
_BLOCK = 100


class Snapshots(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Snapshots"]

    def prepare(self, request: pb.PrepareSnapshotRequest, call: Call) -> pb.PrepareSnapshotResponse:
        snapshotter = self._snapshotter(request.snapshotter, call)
        target = request.labels.get(TARGET_LABEL, "")
        if target and _is_there(snapshotter, target):
            self._hold(call, snapshotter, target)
            raise AlreadyExists("target snapshot", target)
        return pb.PrepareSnapshotResponse(mounts=self._made(snapshotter, snapshotter.prepare, request, call))

    def view(self, request: pb.ViewSnapshotRequest, call: Call) -> pb.ViewSnapshotResponse:
        snapshotter = self._snapshotter(request.snapshotter, call)
        return pb.ViewSnapshotResponse(mounts=self._made(snapshotter, snapshotter.view, request, call))

    @brief
    def mounts(self, request: pb.MountsRequest, call: Call) -> pb.MountsResponse:
        mounts = self._snapshotter(request.snapshotter, call).mounts(request.key)
        return pb.MountsResponse(mounts=values.mount_messages(mounts))

    def commit(self, request: pb.CommitSnapshotRequest, call: Call) -> Empty:
        snapshotter = self._snapshotter(request.snapshotter, call)
        if request.parent and snapshotter.stat(request.key).parent != request.parent:
            raise FailedPrecondition("snapshot", request.key, detail=f"its parent is not {request.parent}")
        self._hold(call, snapshotter, request.name)
        snapshotter.commit(request.name, request.key, labels=request.labels)
        call.ns.leases.forget(f"snapshots/{snapshotter.name}", request.key)
        return Empty()

    def remove(self, request: pb.RemoveSnapshotRequest, call: Call) -> Empty:
        snapshotter = self._snapshotter(request.snapshotter, call)
        snapshotter.remove(request.key)
        call.ns.leases.forget(f"snapshots/{snapshotter.name}", request.key)
        self.site.collector.dirty()
        return Empty()

    @brief
    def stat(self, request: pb.StatSnapshotRequest, call: Call) -> pb.StatSnapshotResponse:
        found = self._snapshotter(request.snapshotter, call).stat(request.key)
        return pb.StatSnapshotResponse(info=_message(found))

    def update(self, request: pb.UpdateSnapshotRequest, call: Call) -> pb.UpdateSnapshotResponse:
        snapshotter, given = self._snapshotter(request.snapshotter, call), request.info
        masked = values.mask(request.update_mask.paths, {"labels": True}, given.name)
        with call.ns.transaction():
            old = snapshotter.stat(given.name).labels
            found = snapshotter.update(given.name, values.masked_labels(old, given.labels, masked["labels"]))
        return pb.UpdateSnapshotResponse(info=_message(found))

    def list(self, request: pb.ListSnapshotsRequest, call: Call) -> Iterator[pb.ListSnapshotsResponse]:
        wanted = filters.parse(request.filters)
        walk = self._snapshotter(request.snapshotter, call).walk()
        found = [_message(each) for each in sorted(walk, key=lambda info: info.name) if wanted(_fields(each))]
        for at in range(0, len(found), _BLOCK):
            yield pb.ListSnapshotsResponse(info=found[at : at + _BLOCK])

    def usage(self, request: pb.UsageRequest, call: Call) -> pb.UsageResponse:
        size, inodes = self._snapshotter(request.snapshotter, call).usage(request.key)
        return pb.UsageResponse(size=size, inodes=inodes)

    def cleanup(self, request: pb.CleanupRequest, call: Call) -> Empty:
        self._snapshotter(request.snapshotter, call)
        self.site.collector.dirty(wait=True)
        return Empty()

    def _snapshotter(self, name: str, call: Call) -> Snapshotter:
        if not name:
            raise InvalidArgument("snapshotter argument missing")
        try:
            return choose(call.ns, name)
        except InvalidArgument:
            raise InvalidArgument(f"snapshotter not loaded: {name}") from None

    def _made(
        self,
        snapshotter: Snapshotter,
        make: abc.Callable[..., builtins.list[Mount]],
        request: pb.PrepareSnapshotRequest | pb.ViewSnapshotRequest,
        call: Call,
    ) -> abc.Sequence[types_pb2.Mount]:
        self._hold(call, snapshotter, request.key)
        try:
            made = make(request.key, request.parent, labels=request.labels, id_maps=_id_maps(request.labels))
        except NotFound as error:
            if error.what == "snapshot" and error.obj == request.parent:
                error.what = "parent snapshot"
            raise
        return values.mount_messages(made)

    def _hold(self, call: Call, snapshotter: Snapshotter, key: str) -> None:
        # Before it is there: afterwards a collection might have been faster.
        if call.lease is not None:
            with call.ns.transaction(durable=False):
                call.ns.leases.add_resource(call.lease, f"snapshots/{snapshotter.name}", key)


def _is_there(snapshotter: Snapshotter, name: str) -> bool:
    try:
        return snapshotter.stat(name).kind == "committed"
    except NotFound:
        return False


def _message(info: Info) -> pb.Info:
    return pb.Info(
        name=info.name,
        parent=info.parent,
        kind=_KINDS[info.kind],
        created_at=values.timestamp(info.created_at),
        updated_at=values.timestamp(info.updated_at),
        labels=info.labels,
    )


def _fields(info: Info) -> filters.Fields:
    return filters.fields({"kind": info.kind, "name": info.name, "parent": info.parent}, info.labels)


def _id_maps(labels: abc.Mapping[str, str]) -> IdMaps | None:
    """Those that a client wrote into the labels: `container:host:size,…`. Raises InvalidArgument."""
    if not labels.get(UID_LABEL) and not labels.get(GID_LABEL):
        return None
    return IdMaps(_mappings(labels.get(UID_LABEL, "")), _mappings(labels.get(GID_LABEL, "")))


def _mappings(text: str) -> list[Mapping]:
    found = []
    for part in filter(None, text.split(",")):
        numbers = part.split(":")
        if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
            raise InvalidArgument("id map", text, detail="container:host:size, separated by commas")
        found.append(Mapping(*map(int, numbers)))
    return found
