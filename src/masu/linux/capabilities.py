"""Capabilities: names, bit masks, the sets of a process (capabilities(7))."""

from __future__ import annotations

from masu.errors import KernelError
from masu.linux import _sys

_NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

# linux/capability.h: name -> number, up to CAP_CHECKPOINT_RESTORE (40, Linux 5.9).
NUMBERS: dict[str, int] = {name: number for number, name in enumerate(_NAMES)}

# prctl(2)
_PR_CAPBSET_READ = 23
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_IS_SET = 1

_last_cap = -1


class Sets:
    """The five sets of a thread, each a mask with bit 1 << number."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, *, effective: int, permitted: int, inheritable: int, bounding: int, ambient: int) -> None:
        self.effective = effective
        self.permitted = permitted
        self.inheritable = inheritable
        self.bounding = bounding
        self.ambient = ambient

    def __repr__(self) -> str:
        return "Sets(" + ", ".join(f"{name}={getattr(self, name):#x}" for name in self.__slots__) + ")"


def bits(names: tuple[str, ...], where: str, warnings: list[str]) -> int:
    """The mask of these names. Names that nobody or that this kernel does not know are left out with a warning in
    `warnings` (config.md: the runtime MUST log a warning for what cannot be mapped), spelled with `where`.

    Case and a missing "CAP_" are forgiven, as runc and Docker's --cap-add do.
    """
    mask = 0
    last = last_cap()
    for index, name in enumerate(names):
        number = number_of(name)
        if number is None:
            warnings.append(f"{where}[{index}]: unknown capability {_shown(name)}; ignored")
        elif number > last:
            warnings.append(f"{where}[{index}]: this kernel does not know {_NAMES[number]}; ignored")
        else:
            mask |= 1 << number
    return mask


def number_of(name: str) -> int | None:
    """The number of a name, or None."""
    number = NUMBERS.get(name)
    if number is None:
        upper = name.upper()
        number = NUMBERS.get(upper if upper.startswith("CAP_") else "CAP_" + upper)
    return number


def names(mask: int) -> list[str]:
    """The names in a mask, by number; a bit newer than the table is shown as CAP_<number>."""
    found = []
    number = 0
    while mask:
        if mask & 1:
            found.append(_NAMES[number] if number < len(_NAMES) else f"CAP_{number}")
        mask >>= 1
        number += 1
    return found


def last_cap() -> int:
    """The highest capability this kernel knows (never above 63). Asked once per process."""
    global _last_cap
    if _last_cap < 0:
        _last_cap = _probe_last_cap()
    return _last_cap


def _probe_last_cap() -> int:
    # prctl answers without /proc, and EINVAL beyond the last one (capabilities(7)); the probe starts where
    # today's kernels end, so it takes two calls.
    number = len(_NAMES) - 1
    while number < 63 and _known(number + 1):
        number += 1
    while number > 0 and not _known(number):
        number -= 1
    return number


def _known(number: int) -> bool:
    try:
        _sys.prctl(_PR_CAPBSET_READ, number)
    except OSError:
        return False
    return True


def all_known() -> int:
    """The mask of everything this kernel knows."""
    return (1 << (last_cap() + 1)) - 1


def current() -> Sets:
    """The calling thread's sets. Raises KernelError."""
    try:
        effective, permitted, inheritable = _sys.capget()
        return Sets(
            effective=effective, permitted=permitted, inheritable=inheritable, bounding=bounding(), ambient=_ambient()
        )
    except OSError as e:
        raise KernelError("capget", "", e.errno or 0) from e


def bounding() -> int:
    """The calling thread's bounding set: what none of its descendants can ever have more than."""
    mask = 0
    for number in range(last_cap() + 1):
        if _sys.prctl(_PR_CAPBSET_READ, number):
            mask |= 1 << number
    return mask


def _ambient() -> int:
    mask = 0
    for number in range(last_cap() + 1):
        if _sys.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_IS_SET, number):
            mask |= 1 << number
    return mask


def _shown(name: str) -> str:
    return f'"{name}"' if name.isprintable() else repr(name)
