"""Resource limits: the spec's names and the kernel's numbers (getrlimit(2))."""

from __future__ import annotations

from masu.errors import InvalidArgument, closest

# asm-generic/resource.h; the same on every architecture masu runs on (alpha, mips and sparc differ).
NUMBERS: dict[str, int] = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

INFINITY = 0xFFFFFFFFFFFFFFFF


def number(name: str, where: str = "") -> int:
    """The number of "RLIMIT_NOFILE". Raises InvalidArgument with what is allowed (config.md, "POSIX process")."""
    found = NUMBERS.get(name)
    if found is None:
        raise InvalidArgument(
            "rlimit", name, where=where, detail="allowed are " + ", ".join(NUMBERS), hint=closest(name, tuple(NUMBERS))
        )
    return found


def current(name: str) -> tuple[int, int]:
    """(soft, hard) of the calling process, INFINITY for no limit."""
    import resource  # an extension of its own; rarely asked

    soft, hard = resource.getrlimit(NUMBERS[name])
    return soft & INFINITY, hard & INFINITY
