"""Leases: what they hold is kept from the garbage collector.

None of it waits for the disk: a lease matters while its client is at work. What the client does next, an image, a
container, is a commit that does, and takes along all that was committed before.
"""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import filters, values
from masu.api.containerd.service import Call, Service
from masu.api.proto import leases_pb2 as pb
from masu.store.leases import Lease


class Leases(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Leases"]

    def create(self, request: pb.CreateRequest, call: Call) -> pb.CreateResponse:
        with call.ns.transaction(durable=False):
            return pb.CreateResponse(lease=_message(call.ns.leases.create(request.id, labels=request.labels)))

    def delete(self, request: pb.DeleteRequest, call: Call) -> Empty:
        with call.ns.transaction(durable=False, freeing=True):
            call.ns.leases.delete(request.id)
        self.site.collector.dirty(wait=request.sync)
        return Empty()

    def list(self, request: pb.ListRequest, call: Call) -> pb.ListResponse:
        wanted = filters.parse(request.filters)
        leases = call.ns.leases.list()
        return pb.ListResponse(
            leases=[_message(each) for each in leases if wanted(filters.fields({"id": each.id}, each.labels))]
        )

    def add_resource(self, request: pb.AddResourceRequest, call: Call) -> Empty:
        with call.ns.transaction(durable=False):
            call.ns.leases.add_resource(request.id, request.resource.type, request.resource.id)
        return Empty()

    def delete_resource(self, request: pb.DeleteResourceRequest, call: Call) -> Empty:
        call.ns.leases.delete_resource(request.id, request.resource.type, request.resource.id)
        self.site.collector.dirty()
        return Empty()

    def list_resources(self, request: pb.ListResourcesRequest, call: Call) -> pb.ListResourcesResponse:
        held = call.ns.leases.resources(request.id)
        return pb.ListResourcesResponse(resources=[pb.Resource(id=each.id, type=each.type) for each in held])


def _message(lease: Lease) -> pb.Lease:
    return pb.Lease(id=lease.id, labels=lease.labels, created_at=values.timestamp(lease.created_at))
