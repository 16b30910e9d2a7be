"""gRPC: services on listening sockets, for as many clients as come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from masu.api.containerd.service import Service
from masu.api.containerd.site import Site
from masu.daemon.calls import Calls
from masu.daemon.connection import Client, Limits, Served
from masu.daemon.listener import Listener, most_connections
from masu.daemon.threads import Threads
from masu.errors import Unavailable

if TYPE_CHECKING:
    import ssl

# containerd's defaults.
MESSAGE_BYTES = 16 << 20
MAX_STREAMS = 1000


class _Named(Client):
    """A connection by TLS, of a client that has to be `name`, unless that is "". It is verified by then."""

    def __init__(self, served: Served, name: str) -> None:
        super().__init__(served)
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        certificate = transport.get_extra_info("peercert") or {}
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        if self._name and self._name not in names:
            cast(asyncio.Transport, transport).abort()
            return
        super().connection_made(transport)


class Server:
    """Services for one site. `threads` is the caller's to close, after the server."""

    def __init__(self, site: Site, services: Iterable[Service], threads: Threads, limits: Limits) -> None:
        self.calls = Calls()
        paths = {
            f"/{service.name()}/{method.name}": (service.name(), method)
            for service in services
            for method in service.methods()
        }
        self._served = Served(site, paths, threads, self.calls, limits)
        self._listeners: list[Listener] = []
        self._most = most_connections()

    def listen(self, bound: socket.socket) -> None:
        """From now on whoever connects to `bound` is served."""
        self._listen(bound, lambda: Client(self._served))

    async def listen_tcp(self, host: str, port: int, context: ssl.SSLContext, common_name: str = "") -> None:
        """Likewise by TLS. With `common_name` only clients whose certificate bears it. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            bound = [socket.create_server(address[:2], family=family) for family, _, _, _, address in found]
        except OSError as error:
            raise Unavailable("address", f"{host}:{port}", error.errno or 0) from error
        for each in bound:
            self._listen(each, lambda: _Named(self._served, common_name), context)

    def _listen(self, bound: socket.socket, make: Callable[[], Client], context: ssl.SSLContext | None = None) -> None:
        self._listeners.append(Listener(bound, make, lambda: self._most - len(self._served.connections), context))

    async def stop(self, grace_s: float) -> None:
        """No new calls; those that go on have `grace_s` seconds."""
        served = self._served
        served.is_stopping = True
        for listener in self._listeners:
            listener.close()
        connections = list(served.connections)
        try:
            async with asyncio.timeout(grace_s):
                await self._all_ended(connections)
        except TimeoutError:
            pass
        for connection in connections:
            connection.close()
        await self._all_ended(connections)

    async def _all_ended(self, connections: Iterable[Client]) -> None:
        while any(each.running for each in connections):
            self._served.ended.clear()
            await self._served.ended.wait()
