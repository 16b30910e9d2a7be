"""The process that we are, or the front that stands for us: prctl(2), madvise(2)."""

from __future__ import annotations

from masu.errors import KernelError
from masu.linux import _sys, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_MADV_POPULATE_READ, _MADV_POPULATE_WRITE = 22, 23  # Linux 5.14
_PIECE_BYTES = 256 << 10


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


def own_memory(enough: Callable[[], bool]) -> None:
    """Takes copies of all pages that we share with our parent since fork(2), and would copy one by one when we write;
    and has programs and libraries at hand, whose pages fork(2) leaves to be found again. A piece at a time, a tenth
    of a millisecond each, until `enough` says so. Without effect where the kernel lacks memory for it."""
    pieces: list[tuple[int, int, int]] = []
    with open("/proc/self/maps") as maps:
        for line in maps.read().splitlines():
            addresses, mode, _ = line.split(None, 2)
            how = {"rw-p": _MADV_POPULATE_WRITE, "r-xp": _MADV_POPULATE_READ}.get(mode)
            if how is not None:
                begin, end = (int(number, 16) for number in addresses.split("-"))
                pieces += [(how, at, min(_PIECE_BYTES, end - at)) for at in range(begin, end, _PIECE_BYTES)]
    pieces.sort()  # what costs little comes first
    for how, begin, size in pieces:
        if enough():
            return
        try:
            _sys.madvise(begin, size, how)
        except OSError:
            continue


def _prctl(option: int, value: int, name: str) -> None:
    try:
        _sys.prctl(option, value)
    except OSError as e:
        raise KernelError("prctl", name, e.errno or 0) from e
