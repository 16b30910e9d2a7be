"""gRPC's reflection: which services there are, and the descriptors of their messages (grpcurl, grpc_cli).

File names in it are those of our own .proto files; names of services and messages are the public ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from masu.api.containerd.service import Call, Service
from masu.api.grpc.status import Code
from masu.api.proto import reflection_pb2 as pb


class Reflection(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ServerReflection"]
    PLUGIN = "reflection"

    async def server_reflection_info(
        self, requests: AsyncIterator[pb.ServerReflectionRequest], call: Call
    ) -> AsyncIterator[pb.ServerReflectionResponse]:
        async for request in requests:
            answer = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
            self._answer(request, answer)
            yield answer

    def _answer(self, request: pb.ServerReflectionRequest, answer: pb.ServerReflectionResponse) -> None:
        pool = descriptor_pool.Default()
        try:
            match request.WhichOneof("message_request"):
                case "list_services":
                    names = sorted(self.site.served)
                    answer.list_services_response.service.extend(pb.ServiceResponse(name=name) for name in names)
                case "file_by_filename":
                    _files(pool.FindFileByName(request.file_by_filename), answer)
                case "file_containing_symbol":
                    _files(pool.FindFileContainingSymbol(request.file_containing_symbol), answer)
                case "all_extension_numbers_of_type":
                    # There are no extensions in proto3 but of options.
                    pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
                    answer.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
                case _:
                    raise KeyError(request.file_containing_extension.containing_type)
        except KeyError as error:
            code = Code.NOT_FOUND
            answer.error_response.CopyFrom(pb.ErrorResponse(error_code=code, error_message=f"not found: {error}"))


class OldReflection(Reflection):
    """The same by the name that it had first, which most clients still ask for."""

    @classmethod
    def name(cls) -> str:
        return "grpc.reflection.v1alpha.ServerReflection"


def _files(file: FileDescriptor, answer: pb.ServerReflectionResponse) -> None:
    # With all that it imports: who asks would ask for each.
    seen: dict[str, bytes] = {}
    todo = [file]
    while todo:
        each = todo.pop()
        if each.name not in seen:
            seen[each.name] = each.serialized_pb
            todo.extend(each.dependencies)
    answer.file_descriptor_response.file_descriptor_proto.extend(seen.values())
