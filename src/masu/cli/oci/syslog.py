"""The machine's own logs as the place for messages: `--log journald:NAME`, `--log syslog:NAME`.

Both are sockets that take a message a datagram: /dev/log in the form of RFC 3164, as syslog(3) writes it, and
journald's own in fields (systemd.io, "Native Journal Protocol"), each with its length: a message may have many lines.
"""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

from masu.errors import InvalidArgument, KernelError

_SYSLOG = "/dev/log"
_JOURNAL = "/run/systemd/journal/socket"
_SEND_S = 5.0
# syslog(3): LOG_ERR, LOG_WARNING, LOG_DEBUG
_PRIORITIES = {"error": 3, "warning": 4, "debug": 7}
_LOG_USER = 1 << 3


class Service:
    """A connection to one of them; `name` is who speaks."""

    __slots__ = ("_journal", "_name", "_socket")

    def __init__(self, connection: socket, name: str, *, journal: bool) -> None:
        self._socket = connection
        self._name = name
        self._journal = journal

    def send(self, level: str, message: str) -> None:
        """What cannot be sent is lost: there is no other place for it, and the work goes on."""
        priority = _PRIORITIES[level]
        if self._journal:
            fields = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": self._name}
            data = b"".join(_field(key, text) for key, text in fields.items())
        else:
            now = time.strftime("%b %e %H:%M:%S")
            data = f"<{_LOG_USER | priority}>{now} {self._name}[{os.getpid()}]: {message}".encode("utf-8", "replace")
        try:
            self._socket.send(data)
        except OSError:
            pass


def _field(key: str, text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return key.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def connect(place: str) -> Service:
    """`place` is "journald:NAME" or "syslog:NAME". Raises InvalidArgument without a name, KernelError when nobody
    listens."""
    kind, _, name = place.partition(":")
    if not name or not name.isprintable() or len(name) > 64:
        detail = f"a name of at most 64 letters is wanted: {kind}:NAME"
        raise InvalidArgument("log", place, where="--log", detail=detail)
    path = _JOURNAL if kind == "journald" else _SYSLOG
    connection = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        connection.settimeout(_SEND_S)
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise KernelError("connect", path, error.errno or 0, where="--log", hint=f"is there a {kind} here?") from error
    return Service(connection, name, journal=kind == "journald")
