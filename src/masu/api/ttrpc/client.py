"""A client that waits for its answers: one call at a time, on one connection."""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket
from time import monotonic

from masu.api.ttrpc.codec import Answered, ClientSide
from masu.api.ttrpc.status import error_of
from masu.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, TypeVar

    from masu.api.proto.wire import Message

    Answer = TypeVar("Answer", bound=Message)

_CHUNK = 65536


class Client:
    """`address` is a path, `unix://` in front or not; "@name" an abstract socket. Use `with`, or close it.

    Raises Unavailable when nobody listens there.
    """

    def __init__(self, address: str, *, timeout_s: float = 10.0) -> None:
        path = address.removeprefix("unix://")
        self.address = path
        self._timeout_s = timeout_s
        self._side = ClientSide()
        self._socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(f"\0{path[1:]}" if path.startswith("@") else path)
        except OSError as error:
            self._socket.close()
            raise Unavailable("server", path, error.errno or 0) from error

    def call(
        self,
        service: str,
        method: str,
        request: Message,
        answer: type[Answer],
        *,
        metadata: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Raises the kind of error that the server tells of, Unavailable when it hangs up or is too slow.

        After Unavailable the connection is of no more use.
        """
        what = f"{service}/{method}"
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        until = monotonic() + limit_s
        stream, data = self._side.call(
            service, method, request.encode(), timeout_ns=int(limit_s * 1e9), metadata=metadata
        )
        try:
            self._socket.settimeout(limit_s)
            self._socket.sendall(data)
            while True:
                self._socket.settimeout(max(until - monotonic(), 0.001))
                data = self._socket.recv(_CHUNK)
                if not data:
                    raise Unavailable(what, detail=f"{self.address} has hung up")
                for event in self._side.receive(data):
                    if isinstance(event, Answered) and event.stream == stream:
                        if event.status is not None:
                            raise error_of(event.status, what)
                        return answer.decode(event.payload)
        except TimeoutError as error:
            raise Unavailable(what, detail=f"no answer from {self.address} within {limit_s:g} s") from error
        except OSError as error:
            raise Unavailable(what, self.address, error.errno or 0) from error

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
