"""Mounts that the daemon makes for a client: those that need more than mount(2) does (masu.api.containerd.mounting).

What our snapshotters give needs nothing of the kind: Activate says so in the way containerd does, and clients mount by
themselves, unless they want it for a while and say `temporary`.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import filters, values
from masu.api.containerd.mounting import system
from masu.api.containerd.service import Call, Service
from masu.api.proto import mounts_pb2 as pb
from masu.api.proto import types_pb2
from masu.store.activations import Activation, Activations


class Mounts(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Mounts"]

    def activate(self, request: pb.ActivateRequest, call: Call) -> pb.ActivateResponse:
        found = self.site.mounting.activate(
            call.namespace,
            request.name,
            values.mounts(request.mounts),
            labels=request.labels,
            lease=call.lease or "",
            temporary=request.temporary,
        )
        return pb.ActivateResponse(info=_message(found))

    def deactivate(self, request: pb.DeactivateRequest, call: Call) -> Empty:
        self.site.mounting.deactivate(call.namespace, request.name)
        return Empty()

    def info(self, request: pb.InfoRequest, call: Call) -> pb.InfoResponse:
        return pb.InfoResponse(info=_message(self._records(call).get(request.name)))

    def update(self, request: pb.UpdateRequest, call: Call) -> pb.UpdateResponse:
        """Labels alone."""
        given, records = request.info, self._records(call)
        masked = values.mask(request.update_mask.paths, {"labels": True}, given.name)
        with call.ns.transaction(durable=False):
            changes = values.masked_labels(records.get(given.name).labels, given.labels, masked["labels"])
            found = records.set_labels(given.name, changes)
        self.site.collector.dirty()
        return pb.UpdateResponse(info=_message(found))

    def list(self, request: pb.ListRequest, call: Call) -> Iterator[pb.ListMessage]:
        wanted = filters.parse(request.filters)
        for each in self._records(call).list():
            if wanted(filters.fields({"name": each.name}, each.labels)):
                yield pb.ListMessage(info=_message(each))

    def _records(self, call: Call) -> Activations:
        return Activations(self.site.store.db, call.namespace)


def _message(found: Activation) -> types_pb2.ActivationInfo:
    active = found.record.get("active")
    message = types_pb2.ActivationInfo(name=found.name, labels=found.labels)
    for each in active if isinstance(active, list) else []:
        mounted_at = values.timestamp(str(each["mounted_at"]))
        message.active.add(mount=_mount(each), mount_point=str(each["mount_point"]), mounted_at=mounted_at)
    message.system.extend(values.mount_messages(system(found)))
    return message


def _mount(fields: dict[str, object]) -> types_pb2.Mount:
    options = fields.get("options")
    return types_pb2.Mount(
        type=str(fields["type"]),
        source=str(fields["source"]),
        target=str(fields["target"]),
        options=options if isinstance(options, list) else [],
    )
