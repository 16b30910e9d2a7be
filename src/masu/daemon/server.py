"""gRPC: services on listening sockets, for as many clients as come."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from masu.api.containerd.service import Service
from masu.api.containerd.site import Site
from masu.daemon.calls import Calls
from masu.daemon.connection import Client, Limits, Served
from masu.daemon.threads import Threads
from masu.errors import Unavailable

if TYPE_CHECKING:
    import ssl

# containerd's defaults.
MESSAGE_BYTES = 16 << 20
MAX_STREAMS = 1000
_BACKLOG = 4096
# The path is its maker's: from Python 3.13 on asyncio would remove it at its end.
_KEPT: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


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
        self._listeners: list[asyncio.Server] = []

    async def listen(self, bound: socket.socket) -> None:
        """From now on whoever connects to `bound` is served."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_unix_server(lambda: Client(self._served), sock=bound, backlog=_BACKLOG, **_KEPT)
        self._listeners.append(listener)

    async def listen_tcp(self, host: str, port: int, context: ssl.SSLContext, common_name: str = "") -> None:
        """Likewise by TLS. With `common_name` only clients whose certificate bears it. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(
                lambda: _Named(self._served, common_name), host or None, port, ssl=context, backlog=_BACKLOG
            )
        except OSError as error:
            raise Unavailable("address", f"{host}:{port}", error.errno or 0) from error
        self._listeners.append(listener)

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
