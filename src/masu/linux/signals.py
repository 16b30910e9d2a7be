"""Signal names and numbers, without importing `signal` (which brings enum).

Numbers are those of x86, arm, riscv, s390, powerpc and loongarch (signal(7)); alpha, mips, parisc and sparc, which
masu does not run on, have others.
"""

from __future__ import annotations

from masu.errors import InvalidArgument, closest

NUMBERS: dict[str, int] = {
    "SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGIOT": 6, "SIGBUS": 7,
    "SIGFPE": 8, "SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14,
    "SIGTERM": 15, "SIGSTKFLT": 16, "SIGCHLD": 17, "SIGCLD": 17, "SIGCONT": 18, "SIGSTOP": 19, "SIGTSTP": 20,
    "SIGTTIN": 21, "SIGTTOU": 22, "SIGURG": 23, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGVTALRM": 26, "SIGPROF": 27,
    "SIGWINCH": 28, "SIGIO": 29, "SIGPOLL": 29, "SIGPWR": 30, "SIGSYS": 31, "SIGUNUSED": 31,
}  # fmt: skip

# 32 and 33 belong to the threads library; SIGRTMIN as programs see it is 34 (signal(7), nptl(7)).
RTMIN = 34
RTMAX = 64

_ALIASES = ("SIGIOT", "SIGCLD", "SIGPOLL", "SIGUNUSED")
_BY_NUMBER = {number: name for name, number in NUMBERS.items() if name not in _ALIASES}


def number(text: str, where: str = "") -> int:
    """The number of "SIGTERM", "term", "15", "RTMIN+3", "SIGRTMAX-1". Raises InvalidArgument.

    Accepts 1 to 64; 0 is not a signal to send. An image's STOPSIGNAL comes through here, so nothing lenient:
    no spaces, no signs before a number.
    """
    if text.isascii() and text.isdecimal():
        value = int(text) if len(text) <= 3 else 0
        if 1 <= value <= RTMAX:
            return value
        raise InvalidArgument("signal", text, where=where, detail=f"numbers are 1 to {RTMAX}")
    name = text.upper()
    if not name.startswith("SIG"):
        name = "SIG" + name
    if name in NUMBERS:
        return NUMBERS[name]
    value = _realtime(name)
    if value:
        return value
    raise InvalidArgument("signal", text, where=where, hint=closest(name, tuple(NUMBERS)))


def _realtime(name: str) -> int:
    base, sign, step = {"SIGRTMIN": (RTMIN, "+", 1), "SIGRTMAX": (RTMAX, "-", -1)}.get(name[:8], (0, "", 0))
    rest = name[8:]
    if not base or not rest:
        return base
    digits = rest[1:]
    if rest[0] != sign or not digits.isascii() or not digits.isdecimal() or len(digits) > 2:
        return 0
    value = base + step * int(digits)
    return value if RTMIN <= value <= RTMAX else 0


def name(number: int) -> str:
    """"SIGTERM" for 15, "SIGRTMIN+3" for 37, the number itself for what has no name."""
    if number in _BY_NUMBER:
        return _BY_NUMBER[number]
    if RTMIN <= number <= RTMAX:
        # From the nearer end, as `kill -l` of bash.
        middle = (RTMIN + RTMAX) // 2
        base, step = ("SIGRTMIN", number - RTMIN) if number <= middle else ("SIGRTMAX", number - RTMAX)
        return base if step == 0 else f"{base}{step:+}"
    return str(number)


def names() -> list[str]:
    """The usual names, by number: what `kill -l` lists."""
    return [_BY_NUMBER[number] for number in sorted(_BY_NUMBER)]
