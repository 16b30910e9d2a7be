"""What the daemon is made of, and which one it is."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

import masu
from masu.api.containerd import filters, plugins, values
from masu.api.containerd.plugins import Plugin
from masu.api.containerd.service import Call, Service
from masu.api.containerd.site import DEFAULT_RUNTIME
from masu.api.containerd.tasks import check_runtime
from masu.api.grpc.status import Code
from masu.api.proto import introspection_pb2 as pb
from masu.api.proto import runc_options_pb2, types_pb2
from masu.api.proto.status_pb2 import Status
from masu.errors import InvalidArgument, NotFound
from masu.runtime.features import features
from masu.spec.platform import host

_FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


class Introspection(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Introspection"]

    def plugins(self, request: pb.PluginsRequest, call: Call) -> pb.PluginsResponse:
        wanted = filters.parse(request.filters)
        return pb.PluginsResponse(plugins=[_message(each) for each in self._plugins if wanted(_fields(each))])

    def server(self, request: Empty, call: Call) -> pb.ServerResponse:
        return pb.ServerResponse(uuid=self.site.id, pid=os.getpid(), pidns=os.stat("/proc/self/ns/pid").st_ino)

    def plugin_info(self, request: pb.PluginInfoRequest, call: Call) -> pb.PluginInfoResponse:
        for each in self._plugins:
            if (each.type, each.id) == (request.type, request.id):
                extra = None
                if request.HasField("options") and each.type == plugins.RUNTIME:
                    extra = _runtime(request.options)
                return pb.PluginInfoResponse(plugin=_message(each), extra=extra)
        raise NotFound("plugin", f"{request.type}.{request.id}")

    @functools.cached_property
    def _plugins(self) -> list[Plugin]:
        # Once: whether a snapshotter works is found by trying it.
        return plugins.plugins(self.site, set(self.site.served.values()))


def _runtime(options: Any) -> Any:
    """What a runtime can do, which clients ask of the runtime plugin. Raises InvalidArgument for another question."""
    if options.type_url.rpartition("/")[2] != types_pb2.RuntimeRequest.DESCRIPTOR.full_name:
        raise InvalidArgument("plugin options", options.type_url[:128], detail="a RuntimeRequest is expected")
    request = types_pb2.RuntimeRequest.FromString(options.value)
    check_runtime(request.runtime_path)
    info = types_pb2.RuntimeInfo(
        name=request.runtime_path or DEFAULT_RUNTIME, version=types_pb2.RuntimeVersion(version=masu.__version__)
    )
    if not runc_options_pb2.Options.FromString(request.options.value).binary_name:
        # Of somebody else's binary we know nothing; ours is this.
        document = json.dumps(features())
        info.features.CopyFrom(Any(type_url=_FEATURES, value=document.encode()))
    return Any(type_url=str(info.DESCRIPTOR.full_name), value=info.SerializeToString())


def _fields(plugin: Plugin) -> filters.Fields:
    def field(path: Sequence[str]) -> str | None:
        return {"type": plugin.type, "id": plugin.id}.get(path[0])

    return field


def _message(plugin: Plugin) -> pb.Plugin:
    message = pb.Plugin(
        type=plugin.type,
        id=plugin.id,
        requires=plugin.requires,
        exports=plugin.exports,
        capabilities=plugin.capabilities,
        platforms=[values.platform_message(host())] if plugin.of_platform else [],
    )
    if plugin.error:
        code = Code.FAILED_PRECONDITION
        message.init_err.CopyFrom(Status(code=code, message=plugin.error))
    return message
