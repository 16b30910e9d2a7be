"""A gRPC client of any service, by its descriptor: what the real clients cannot be brought to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

_ANY_SIZE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Client:
    """One connection. `client(SERVICE, "Method", request, namespace="x")` is a call; of streams an iterator, which has
    `cancel()`. Raises grpc.RpcError."""

    def __init__(self, socket: Path) -> None:
        # A connection of its own, not one that grpc shares between channels of one address; and a window for what has
        # not been read that does not grow.
        options = [*_ANY_SIZE, ("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
        self.channel = grpc.insecure_channel(f"unix:{socket}", options=options)

    def __call__(
        self,
        service: ServiceDescriptor,
        method: str,
        request: Any,
        *,
        namespace: str = "default",
        lease: str = "",
        timeout_s: float | None = None,
    ) -> Any:
        rpc = service.methods_by_name[method]
        kind = f"{'stream' if rpc.client_streaming else 'unary'}_{'stream' if rpc.server_streaming else 'unary'}"
        call = getattr(self.channel, kind)(
            f"/{service.full_name}/{method}",
            request_serializer=GetMessageClass(rpc.input_type).SerializeToString,
            response_deserializer=GetMessageClass(rpc.output_type).FromString,
        )
        headers = [("containerd-namespace", namespace)] if namespace else []
        if lease:
            headers.append(("containerd-lease", lease))
        given = _each(request) if rpc.client_streaming else request
        return call(given, metadata=headers, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()


def _each(requests: Iterable[Any]) -> Iterator[Any]:
    yield from requests
