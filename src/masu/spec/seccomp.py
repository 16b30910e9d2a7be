"""`linux.seccomp`: the filter as written, in the words of libseccomp."""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.spec.fields import (
    Value,
    invalid,
    many,
    missing,
    number,
    read,
    slots,
    strings,
    text,
    u64,
    word,
    words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from masu.spec.fields import Fields

ACTIONS = (
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)
OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)
# fmt: off
ARCHITECTURES = (
    "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
)
# fmt: on
FLAG_SPEC_ALLOW = "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
FLAGS = (
    # Not in the specification; runc knows it and does nothing, for the filter is loaded with one thread running.
    "SECCOMP_FILTER_FLAG_TSYNC",
    FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)

_action = word("seccomp action", ACTIONS, "not a valid action for seccomp")
# SECCOMP_RET_DATA is 16 bits wide (seccomp(2)).
_errno = number(0, 0xFFFF)


class LinuxSeccompArg(Value):
    """Compares argument `index` (0 to 5) with `value`; SCMP_CMP_MASKED_EQ: (argument & value) == value_two."""

    FIELDS: ClassVar[Fields] = {
        "index": ("index", number(0, 5), 0),
        "value": ("value", u64, 0),
        "valueTwo": ("value_two", u64, 0),
        "op": ("op", word("seccomp operator", OPERATORS, "not a valid operator for seccomp"), None),
    }
    REQUIRED = ("index", "value", "op")
    __slots__ = slots(FIELDS)
    index: int
    value: int
    value_two: int
    op: str


class LinuxSyscall(Value):
    """One rule. Names are not looked up here: which exist depends on the architecture and libseccomp's version."""

    FIELDS: ClassVar[Fields] = {
        "names": ("names", strings, ()),
        "action": ("action", _action, None),
        "errnoRet": ("errno_ret", _errno, None),
        "args": ("args", many(LinuxSeccompArg), ()),
    }
    REQUIRED = ("action",)
    __slots__ = slots(FIELDS)
    names: tuple[str, ...]
    action: str
    errno_ret: int | None
    args: tuple[LinuxSeccompArg, ...]

    def read_old(self, name: str, value: object, where: str, warnings: list[str]) -> bool:
        if name != "name" or self.names:
            return False
        # One name a rule until 1.0.0-rc5.
        warnings.append(f'{where}: old name, now the list "names"')
        single = text(value, where, warnings)
        object.__setattr__(self, "names", (single,) if single else ())
        return True

    def check(self, where: str, warnings: list[str]) -> None:
        if not self.names:
            raise missing(f"{where}.names", "at least one name must be given")
        check_errno(self.action, self.errno_ret, f"{where}.errnoRet")


def check_errno(action: str, errno_ret: int | None, where: str) -> None:
    """An errno belongs to the actions that return one (config-linux.md, `errnoRet`)."""
    if errno_ret is None:
        return
    if action not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        raise invalid("errno", errno_ret, where, f"the action {action} does not return an errno")
    if action == "SCMP_ACT_ERRNO" and errno_ret > 4095:
        # The kernel caps it at MAX_ERRNO, silently.
        raise invalid("errno", errno_ret, where, "allowed are 0 to 4095")


class LinuxSeccomp(Value):
    """A whole filter. `flags` not given at all means SPEC_ALLOW, as in runc; an empty list means none."""

    FIELDS: ClassVar[Fields] = {
        "defaultAction": ("default_action", _action, None),
        "defaultErrnoRet": ("default_errno_ret", _errno, None),
        "architectures": ("architectures", words("seccomp architecture", ARCHITECTURES), ()),
        "flags": ("flags", words("seccomp flag", FLAGS), (FLAG_SPEC_ALLOW,)),
        "listenerPath": ("listener_path", text, None),
        "listenerMetadata": ("listener_metadata", text, None),
        "syscalls": ("syscalls", many(LinuxSyscall), ()),
    }
    __slots__ = slots(FIELDS)
    default_action: str
    default_errno_ret: int | None
    architectures: tuple[str, ...]
    flags: tuple[str, ...]
    listener_path: str | None
    listener_metadata: str | None
    syscalls: tuple[LinuxSyscall, ...]

    def check(self, where: str, warnings: list[str]) -> None:
        if self.default_action is None:
            if self.syscalls:
                raise missing(f"{where}.defaultAction")
            return
        if self.default_action == "SCMP_ACT_NOTIFY":
            # Every call of the container would wait for an agent that learns of it only through such calls.
            raise InvalidArgument(
                "seccomp action",
                self.default_action,
                where=f"{where}.defaultAction",
                detail="SCMP_ACT_NOTIFY cannot be used as default action",
            )
        check_errno(self.default_action, self.default_errno_ret, f"{where}.defaultErrnoRet")
        for index, rule in enumerate(self.syscalls):
            if rule.action != "SCMP_ACT_NOTIFY":
                continue
            if "write" in rule.names:
                # The program that loads the filter must still be able to say that it did.
                raise InvalidArgument(
                    "seccomp action",
                    rule.action,
                    where=f"{where}.syscalls[{index}]",
                    detail="SCMP_ACT_NOTIFY cannot be used for the write syscall",
                )
            if self.listener_path is None:
                raise missing(
                    f"{where}.listenerPath", f"needed by the action SCMP_ACT_NOTIFY of {where}.syscalls[{index}]"
                )
        if self.listener_metadata is not None and self.listener_path is None:
            raise missing(f"{where}.listenerPath", "must be given when listenerMetadata is")


def seccomp(value: object, where: str, warnings: list[str]) -> LinuxSeccomp | None:
    """A reader: no default action and no rules mean no filter, as in runc."""
    result = read(LinuxSeccomp, value, where, warnings)
    return None if result.default_action is None else result
