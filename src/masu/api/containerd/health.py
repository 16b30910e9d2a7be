"""gRPC's health service: whoever is answered is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from masu.api.containerd.service import Call, Service
from masu.api.proto import health_pb2 as pb
from masu.errors import NotFound


class Health(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Health"]
    PLUGIN = "healthcheck"

    async def check(self, request: pb.HealthCheckRequest, call: Call) -> pb.HealthCheckResponse:
        if request.service and request.service not in self.site.served:
            raise NotFound("service", request.service)
        return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)

    async def watch(self, request: pb.HealthCheckRequest, call: Call) -> AsyncIterator[pb.HealthCheckResponse]:
        known = not request.service or request.service in self.site.served
        status = pb.HealthCheckResponse.SERVING if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
        yield pb.HealthCheckResponse(status=status)
        await asyncio.Event().wait()  # it changes no more: the stream ends with the daemon
