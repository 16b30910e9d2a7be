"""Listening sockets of the event loop: who comes is accepted, as long as there are descriptors for work, too.

asyncio's own server accepts until its backlog is through, and with all descriptors taken it says so for each of them,
every second; and nothing would be left to open a file with for those that are there.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable

from masu.daemon.sockets import BACKLOG

log = logging.getLogger("masud")
_AGAIN_S = 1.0
# accept4(2) passes on what has happened to the one that is accepted.
_OF_THE_CLIENT = (BlockingIOError, InterruptedError, ConnectionError)


def most_connections() -> int:
    """Of all listeners for gRPC together: half of the descriptors that this process may have. ttrpc has as many again
    as half of that."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


class Listener:
    """`sock` is bound; `make` makes the protocol of a connection; `room` is for how many more, else they wait. Serves
    until `close`, which closes `sock`."""

    def __init__(
        self,
        sock: socket.socket,
        make: Callable[[], asyncio.Protocol],
        room: Callable[[], int],
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._sock = sock
        self._make = make
        self._room = room
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._is_waiting = False
        self._beginning: set[asyncio.Task[None]] = set()
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        if self._room() <= len(self._beginning):
            self._wait("there are as many as there may be (half of RLIMIT_NOFILE)")
            return
        try:
            talk, _ = self._sock.accept()
        except _OF_THE_CLIENT:
            return
        except OSError as error:
            self._wait(f"accept: {error.strerror}")
            return
        self._is_waiting = False
        talk.setblocking(False)
        beginning = self._loop.create_task(self._begin(talk))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)

    def _wait(self, why: str) -> None:
        if not self._is_waiting:
            log.warning("clients wait: %s", why)
        self._is_waiting = True
        self._loop.remove_reader(self._sock)
        self._again = self._loop.call_later(_AGAIN_S, self._loop.add_reader, self._sock, self._accept)

    async def _begin(self, talk: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, talk, ssl=self._context)
        except OSError as error:  # its handshake has failed
            log.debug("gRPC: %s", error)
            talk.close()
