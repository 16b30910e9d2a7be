"""Socket activation (sd_listen_fds(3)): a socket that the service manager has opened, and who came to it first.

gRPC cannot be given a descriptor to listen on. So it listens on a socket of its own in the state directory, and each
connection to the inherited one is passed on to it, byte for byte:

    client ──► inherited socket (fd 3) ──► relay ──► state/activated.sock ──► gRPC
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any

from masu.errors import FailedPrecondition

_FIRST_FD = 3
_CHUNK_BYTES = 256 << 10
# The path is the service manager's: from Python 3.13 on a server would remove it at its end.
_KEPT: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


def inherited() -> socket.socket | None:
    """The socket that was passed to this process, if one was. Raises FailedPrecondition for more than one, or for what
    is no listening unix socket."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return None
    count = os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", None)
    if count == "0":
        return None
    if count != "1":
        raise FailedPrecondition("socket activation", count, detail="one socket is expected")
    os.set_inheritable(_FIRST_FD, False)
    found = socket.socket(fileno=_FIRST_FD)
    if found.family != socket.AF_UNIX or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise FailedPrecondition("socket activation", detail="a listening unix socket is expected")
    return found


class Relay:
    """Passes connections on, until `close`."""

    def __init__(self, server: asyncio.Server, connections: set[asyncio.Task[None]]) -> None:
        self._server = server
        self._connections = connections

    @classmethod
    async def start(cls, listening: socket.socket, path: str) -> Relay:
        connections: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await _relay(reader, writer, path)
            finally:
                connections.discard(task)

        return cls(await asyncio.start_unix_server(connected, sock=listening, **_KEPT), connections)

    async def close(self) -> None:
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    try:
        there, back = await asyncio.open_unix_connection(path)
    except OSError:
        writer.close()
        return
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, back))
            group.create_task(_copy(there, writer))
    except* OSError:
        pass
    finally:
        back.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
