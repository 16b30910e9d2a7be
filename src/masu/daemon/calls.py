"""Counted calls: how many of each method have begun, and how they ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from masu.api.containerd.service import Method

# name, labels, value: as Prometheus has it.
Sample = tuple[str, dict[str, str], float]


class Calls:
    """Counts the calls of a server; of one thread."""

    def __init__(self) -> None:
        self.started: Counter[tuple[str, str, str]] = Counter()
        self.handled: Counter[tuple[str, str, str, str]] = Counter()

    def begin(self, service: str, method: Method) -> None:
        self.started[_kind(method), service, method.name] += 1

    def end(self, service: str, method: Method, code: str) -> None:
        """`code` as gRPC names it, NOT_FOUND."""
        self.handled[_go_name(code), _kind(method), service, method.name] += 1

    def samples(self) -> Iterator[Sample]:
        for (kind, service, method), count in sorted(self.started.items()):
            labels = {"grpc_type": kind, "grpc_service": service, "grpc_method": method}
            yield "grpc_server_started_total", labels, count
        for (code, kind, service, method), count in sorted(self.handled.items()):
            labels = {"grpc_code": code, "grpc_type": kind, "grpc_service": service, "grpc_method": method}
            yield "grpc_server_handled_total", labels, count


def _kind(method: Method) -> str:
    return {
        (False, False): "unary",
        (False, True): "server_stream",
        (True, False): "client_stream",
        (True, True): "bidi_stream",
    }[method.streams_in, method.streams_out]


def _go_name(code: str) -> str:
    """As Go has it, and so containerd's metrics: NotFound."""
    if code in ("OK", "CANCELLED"):
        return {"OK": "OK", "CANCELLED": "Canceled"}[code]
    return "".join(word.capitalize() for word in code.split("_"))
