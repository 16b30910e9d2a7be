"""What a service manager is told: sd_notify(3)."""

from __future__ import annotations

import os
import socket
import time


def notify(*lines: str) -> None:
    """Sends `lines` ("READY=1") to NOTIFY_SOCKET, if there is one. Nobody listening is no error."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as talk:
        try:
            talk.sendto("\n".join(lines).encode(), "\0" + path[1:] if path.startswith("@") else path)
        except OSError:
            pass


def reloading() -> None:
    """Since v253 the manager wants to know since when (CLOCK_MONOTONIC, in µs)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
