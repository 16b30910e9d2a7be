"""Socket activation (sd_listen_fds(3)): a socket that the service manager has opened, and who came to it first."""

from __future__ import annotations

import os
import socket

from masu.errors import FailedPrecondition

_FIRST_FD = 3


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
