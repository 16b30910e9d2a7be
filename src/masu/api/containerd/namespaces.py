"""Namespaces: each has images, containers, content, snapshots and leases of its own."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from masu.api.containerd import filters, values
from masu.api.containerd.service import Call, Service, brief
from masu.api.proto import namespaces_pb2 as pb


class Namespaces(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Namespaces"]

    @brief
    def get(self, request: pb.GetNamespaceRequest, call: Call) -> pb.GetNamespaceResponse:
        # One that nobody has made has no labels; asking is no error (clients look for defaults this way).
        labels = self.site.store.namespaces().get(self.site.namespace(request.name), {})
        return pb.GetNamespaceResponse(namespace=pb.Namespace(name=request.name, labels=labels))

    def list(self, request: pb.ListNamespacesRequest, call: Call) -> pb.ListNamespacesResponse:
        wanted = filters.parse([request.filter] if request.filter else [])
        found = self.site.store.namespaces().items()
        return pb.ListNamespacesResponse(
            namespaces=[
                pb.Namespace(name=name, labels=labels)
                for name, labels in found
                if wanted(filters.fields({"name": name}, labels))
            ]
        )

    def create(self, request: pb.CreateNamespaceRequest, call: Call) -> pb.CreateNamespaceResponse:
        self.site.store.create_namespace(request.namespace.name, request.namespace.labels)
        return pb.CreateNamespaceResponse(namespace=request.namespace)

    def update(self, request: pb.UpdateNamespaceRequest, call: Call) -> pb.UpdateNamespaceResponse:
        name, store = self.site.namespace(request.namespace.name), self.site.store
        with store.namespace(name).transaction():
            # One that is not there is made, as containerd does it.
            old = store.namespaces().get(name, {})
            masked = values.mask(request.update_mask.paths, {"labels": True}, name)
            labels = store.update_namespace(name, values.masked_labels(old, request.namespace.labels, masked["labels"]))
        return pb.UpdateNamespaceResponse(namespace=pb.Namespace(name=name, labels=labels))

    def delete(self, request: pb.DeleteNamespaceRequest, call: Call) -> Empty:
        self.site.store.delete_namespace(self.site.namespace(request.name))
        return Empty()
