"""Mounts that the daemon makes for a client.

There is none: what our snapshotters give are mounts as mount(2) knows them, without formatting, loop devices or
directories to be made first. Activate says so in the way containerd does, and clients mount by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.empty_pb2 import Empty

from masu.api.containerd.service import Call, Service
from masu.api.proto import mounts_pb2 as pb
from masu.errors import NotFound, Unimplemented


class Mounts(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Mounts"]

    def activate(self, request: pb.ActivateRequest, call: Call) -> pb.ActivateResponse:
        raise Unimplemented("mount", request.name, detail="nothing to be done before the system mounts it")

    def deactivate(self, request: pb.DeactivateRequest, call: Call) -> Empty:
        raise NotFound("mount", request.name)

    def info(self, request: pb.InfoRequest, call: Call) -> pb.InfoResponse:
        raise NotFound("mount", request.name)

    def update(self, request: pb.UpdateRequest, call: Call) -> pb.UpdateResponse:
        raise NotFound("mount", request.info.name)

    def list(self, request: pb.ListRequest, call: Call) -> Iterator[pb.ListMessage]:
        return iter(())
