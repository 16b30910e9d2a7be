"""prctl(2) on ourselves, or on the front that stands for us."""

from __future__ import annotations

from masu.errors import KernelError
from masu.linux import _sys, spawn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def become_subreaper() -> None:
    """From now on orphans among our descendants become our children (Linux 3.4). Raises KernelError."""
    if spawn.front is not None:
        spawn.front.become_subreaper()
        return
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def die_with_parent(number: int) -> None:
    """Signal `number` comes when the parent ends (its thread that forked us), 0 for none. Raises KernelError."""
    _prctl(_PR_SET_PDEATHSIG, number, "PR_SET_PDEATHSIG")


def set_name(name: str) -> None:
    """What ps(1) shows as comm, 15 bytes of it."""
    _sys.set_process_name(name)


def gain_no_privileges() -> None:
    """From now on neither the calling thread nor what it starts gains privileges by execve(2); there is no way back.
    Raises KernelError."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def _prctl(option: int, value: int, name: str) -> None:
    try:
        _sys.prctl(option, value)
    except OSError as e:
        raise KernelError("prctl", name, e.errno or 0) from e
