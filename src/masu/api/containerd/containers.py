"""Containers as records: what they are made of, and what clients note about them.

What the store's record has no place for is kept in its extensions under "containerd":
{"runtime": the runtime's options, "spec": the spec's type, "sandbox": id, "extensions": {name: packed Any}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import filters, values
from masu.api.containerd.service import Call, Service, brief
from masu.api.proto import containers_pb2 as pb
from masu.engine import births
from masu.engine.records import Record
from masu.errors import InvalidArgument, NotFound
from masu.store import Container
from masu.store.checks import merge_labels

OWN = "containerd"
SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
_FIELDS = {"labels": True, "spec": False, "extensions": True, "image": False, "snapshotkey": False}


class Containers(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Containers"]

    @brief
    def get(self, request: pb.GetContainerRequest, call: Call) -> pb.GetContainerResponse:
        record = _find(request.id, call)
        if OWN not in record.extensions and not record.spec:
            # masu's own: its spec is what was composed for it.
            config, _ = births.read_config(call.engine, Record(record))
            record.spec = json.dumps(config)
        return pb.GetContainerResponse(container=message(record))

    def list(self, request: pb.ListContainersRequest, call: Call) -> pb.ListContainersResponse:
        return pb.ListContainersResponse(containers=self._found(request, call))

    def list_stream(self, request: pb.ListContainersRequest, call: Call) -> Iterator[pb.ListContainerMessage]:
        for each in self._found(request, call):
            yield pb.ListContainerMessage(container=each)

    def create(self, request: pb.CreateContainerRequest, call: Call) -> pb.CreateContainerResponse:
        given = request.container
        if not given.runtime.name:
            raise InvalidArgument("container.Runtime.Name must be set")
        if not given.HasField("spec"):
            raise InvalidArgument("container.Spec must be set")
        if given.snapshot_key and not given.snapshotter:
            raise InvalidArgument("container.Snapshotter must be set if container.SnapshotKey is set")
        if "" in given.extensions:
            raise InvalidArgument("container.Extension keys must not be zero-length")
        record = Container(
            given.id,
            image=given.image,
            runtime=given.runtime.name,
            snapshotter=given.snapshotter,
            snapshot_key=given.snapshot_key,
            labels=given.labels,
        )
        own: dict[str, object] = {"extensions": {name: values.packed(any) for name, any in given.extensions.items()}}
        options = values.packed(given.runtime.options) if given.runtime.HasField("options") else None
        if options is not None:
            own["runtime"] = options
        if given.sandbox:
            own["sandbox"] = given.sandbox
        _set_spec(record, own, given.spec)
        record.extensions = {OWN: own}
        made = call.ns.containers.create(record, runtime_options=options)
        return pb.CreateContainerResponse(container=message(made))

    def update(self, request: pb.UpdateContainerRequest, call: Call) -> pb.UpdateContainerResponse:
        given, ns = request.container, call.ns
        if not given.id:
            raise InvalidArgument("must specify a container id")
        masked = values.mask(request.update_mask.paths, _FIELDS, given.id)
        with ns.transaction():
            record = ns.containers.get(given.id)
            if not request.update_mask.paths:
                # Of the whole record these two cannot be others.
                for field, old, new in (
                    ("Snapshotter", record.snapshotter, given.snapshotter),
                    ("Runtime.Name", record.runtime, given.runtime.name),
                ):
                    if old != new:
                        raise InvalidArgument(f"container.{field} field is immutable")
            own = _own(record)
            if "labels" in masked:
                changes = values.masked_labels(record.labels, given.labels, masked["labels"])
                record.labels = merge_labels(record.labels, changes)
            if "spec" in masked:
                _set_spec(record, own, given.spec)
            if "extensions" in masked:
                own["extensions"] = _merged_extensions(own, given, masked["extensions"])
            if "image" in masked:
                record.image = given.image
            if "snapshotkey" in masked:
                record.snapshot_key = given.snapshot_key
            record.extensions = {**record.extensions, OWN: own}
            updated = ns.containers.update(record)
        return pb.UpdateContainerResponse(container=message(updated))

    def delete(self, request: pb.DeleteContainerRequest, call: Call) -> Empty:
        with call.ns.transaction(freeing=True):
            _find(request.id, call)
            call.ns.containers.delete(request.id)
        call.engine.tasks.forget(request.id)
        self.site.collector.dirty()
        return Empty()

    def _found(self, request: pb.ListContainersRequest, call: Call) -> Iterator[pb.Container]:
        wanted = filters.parse(request.filters)
        records = call.ns.containers.list(with_spec=True)
        # In the order of ids, as a bucket has them.
        records.sort(key=lambda record: record.id)
        for each in records:
            simple = {"id": each.id, "image": each.image, "runtime.name": each.runtime}
            if wanted(filters.fields(simple, each.labels)):
                yield message(each)


def _find(id: str, call: Call) -> Container:
    try:
        return call.ns.containers.get(id)
    except NotFound:
        raise NotFound(f'container "{id}" in namespace "{call.namespace}"') from None


def message(record: Container) -> pb.Container:
    """The record as clients see it; what only the engine notes stays out."""
    own = _own(record)
    found = pb.Container(
        id=record.id,
        labels=record.labels,
        image=record.image,
        runtime=pb.Container.Runtime(name=record.runtime, options=runtime_options(record)),
        spec=spec(record),
        snapshotter=record.snapshotter,
        snapshot_key=record.snapshot_key,
        created_at=values.timestamp(record.created_at),
        updated_at=values.timestamp(record.updated_at),
        sandbox=str(own.get("sandbox", "")),
    )
    for name, data in _extensions(own).items():
        if (any := values.unpacked(data)) is not None:
            found.extensions[name].CopyFrom(any)
    return found


def runtime_options(record: Container) -> Any | None:
    """What the client said to the runtime, if it did."""
    return values.unpacked(_own(record).get("runtime"))


def spec(record: Container) -> Any:
    """The runtime spec: JSON as a rule, whatever the client gave otherwise."""
    other = values.unpacked(_own(record).get("spec"))
    return other if other is not None else Any(type_url=SPEC_TYPE, value=(record.spec or "{}").encode())


def _set_spec(record: Container, own: dict[str, object], given: Any) -> None:
    own.pop("spec", None)
    record.spec = ""
    try:
        if given.type_url.rpartition("types.containerd.io/")[2] != SPEC_TYPE.partition("/")[2]:
            raise ValueError
        record.spec = given.value.decode()
    except ValueError:
        own["spec"] = values.packed(given)


def _own(record: Container) -> dict[str, object]:
    found = record.extensions.get(OWN)
    return dict(found) if isinstance(found, dict) else {}


def _extensions(own: dict[str, object]) -> dict[str, object]:
    found = own.get("extensions")
    return dict(found) if isinstance(found, dict) else {}


def _merged_extensions(own: dict[str, object], given: pb.Container, keys: set[str] | None) -> dict[str, object]:
    merged = _extensions(own) if keys is not None else {}
    for name in given.extensions if keys is None else keys:
        if name in given.extensions:
            merged[name] = values.packed(given.extensions[name])
        else:
            merged.pop(name, None)
    return merged
