"""Which program answers."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

import masu
from masu.api.containerd.service import Call, Service, brief
from masu.api.proto import version_pb2 as pb

# The release whose API this is: clients compare it to know what they may ask for (nerdctl wants 1.5 or newer).
CONTAINERD = "2.4.0"


class Version(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Version"]

    @brief
    def version(self, request: Empty, call: Call) -> pb.VersionResponse:
        return pb.VersionResponse(version=f"v{CONTAINERD}+masu.{masu.__version__}", revision="")
