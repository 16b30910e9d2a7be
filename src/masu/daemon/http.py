"""Small HTTP servers beside gRPC: metrics on a TCP port, debugging on a unix socket."""

from __future__ import annotations

from aiohttp import web

from masu.daemon.sockets import Place
from masu.errors import InvalidArgument, Unavailable


class Http:
    """One server; `close` ends it."""

    def __init__(self, runner: web.AppRunner, place: Place | None) -> None:
        self._runner = runner
        self._place = place

    @classmethod
    async def on_port(cls, application: web.Application, address: str) -> Http:
        """`host:port`, an IPv6 address in brackets. Raises InvalidArgument, Unavailable when it is taken."""
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise InvalidArgument("address", address, detail="host:port is expected")
        runner = await cls._runner_of(application)
        try:
            await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        except OSError as error:
            await runner.cleanup()
            raise Unavailable("address", address, error.errno or 0) from error
        return cls(runner, None)

    @classmethod
    async def on_socket(cls, application: web.Application, path: str, uid: int = 0, gid: int = 0) -> Http:
        """Raises what `Place` does."""
        runner = await cls._runner_of(application)
        place = Place(path, uid, gid)
        await web.SockSite(runner, place.bind()).start()
        return cls(runner, place)

    @staticmethod
    async def _runner_of(application: web.Application) -> web.AppRunner:
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        return runner

    async def close(self) -> None:
        await self._runner.cleanup()
        if self._place is not None:
            self._place.close()
