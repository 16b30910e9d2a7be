"""prctl(2) on ourselves."""

from __future__ import annotations

from masu.errors import KernelError
from masu.linux import _sys

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def become_subreaper() -> None:
    """From now on orphans among our descendants become our children (Linux 3.4). Raises KernelError."""
    try:
        _sys.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    except OSError as e:
        raise KernelError("prctl", "PR_SET_CHILD_SUBREAPER", e.errno or 0) from e


def gain_no_privileges() -> None:
    """From now on neither the calling thread nor what it starts gains privileges by execve(2); there is no way back.
    Raises KernelError."""
    try:
        _sys.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    except OSError as e:
        raise KernelError("prctl", "PR_SET_NO_NEW_PRIVS", e.errno or 0) from e
