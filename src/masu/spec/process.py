"""`process`: who runs what, with which rights and limits."""

from __future__ import annotations

from masu.errors import InvalidArgument, closest
from masu.spec.fields import (
    U16,
    U32,
    Value,
    boolean,
    cpu_list,
    each,
    i32,
    invalid,
    line,
    many,
    missing,
    number,
    numeric_id,
    one,
    read,
    shown,
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

# capabilities(7), by number; the last came with Linux 5.9.
# fmt: off
CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
    "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)
# fmt: on
_KNOWN_CAPABILITIES = frozenset(CAPABILITIES)

# getrlimit(2).
# fmt: off
RLIMITS = (
    "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
    "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
)
# fmt: on

SCHEDULER_POLICIES = (
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
)
SCHEDULER_FLAGS = (
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
)
IO_CLASSES = ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")


class Box(Value):
    """Size of a terminal in characters. What struct winsize cannot hold (16 bits each) is refused where there is a
    terminal."""

    FIELDS: ClassVar[Fields] = {
        "height": ("height", number(0, U32), 0),
        "width": ("width", number(0, U32), 0),
    }
    REQUIRED = ("height", "width")
    __slots__ = slots(FIELDS)
    height: int
    width: int


class User(Value):
    """Ids inside the container's user namespace. `umask` None leaves the caller's; `username` is Windows's."""

    FIELDS: ClassVar[Fields] = {
        "uid": ("uid", numeric_id, 0),
        "gid": ("gid", numeric_id, 0),
        "umask": ("umask", number(0, 0o777), None),
        "additionalGids": ("additional_gids", each(numeric_id), ()),
        "username": ("username", text, None),
    }
    REQUIRED = ("uid", "gid")
    __slots__ = slots(FIELDS)
    uid: int
    gid: int
    umask: int | None
    additional_gids: tuple[int, ...]
    username: str | None


def _capability_set(value: object, where: str, warnings: list[str]) -> tuple[str, ...]:
    # What the kernel does not know is left out with a warning, never an error (config.md, "capabilities").
    names = strings(value, where, warnings)
    if _KNOWN_CAPABILITIES.issuperset(names):
        return names
    unknown = [(index, name) for index, name in enumerate(names) if name not in _KNOWN_CAPABILITIES]
    for count, (index, name) in enumerate(unknown):
        full = "CAP_" + name[:32].upper()
        hint = f'did you mean "{full}"?' if full in _KNOWN_CAPABILITIES else ""
        if not hint and count < 8:  # looking for the closest is slow
            hint = closest(name[:32], CAPABILITIES)
        warnings.append(
            f"{where}[{index}]: ignoring unknown or unavailable capability {shown(name)}{f' ({hint})' if hint else ''}"
        )
    return tuple([name for name in names if name in _KNOWN_CAPABILITIES])


class LinuxCapabilities(Value):
    """The five sets, as names that capabilities(7) knows."""

    FIELDS: ClassVar[Fields] = {
        "bounding": ("bounding", _capability_set, ()),
        "effective": ("effective", _capability_set, ()),
        "inheritable": ("inheritable", _capability_set, ()),
        "permitted": ("permitted", _capability_set, ()),
        "ambient": ("ambient", _capability_set, ()),
    }
    __slots__ = slots(FIELDS)
    bounding: tuple[str, ...]
    effective: tuple[str, ...]
    inheritable: tuple[str, ...]
    permitted: tuple[str, ...]
    ambient: tuple[str, ...]


def _capabilities(value: object, where: str, warnings: list[str]) -> LinuxCapabilities:
    if isinstance(value, list):
        # Until 1.0.0-rc5 one list stood for what was bounding, effective and permitted. Ambient did not exist yet,
        # and inheritable is left empty on purpose (CVE-2022-29162).
        warnings.append(f"{where}: one flat list is the form of runtime-spec before 1.0.0-rc5")
        names = _capability_set(value, where, warnings)
        return LinuxCapabilities(bounding=names, effective=names, permitted=names)
    return read(LinuxCapabilities, value, where, warnings)


class POSIXRlimit(Value):
    """`soft` and `hard` are unsigned 64-bit; 18446744073709551615 is RLIM_INFINITY."""

    FIELDS: ClassVar[Fields] = {
        "type": ("type", word("rlimit", RLIMITS, "wrong rlimit value"), None),
        "hard": ("hard", u64, None),
        "soft": ("soft", u64, None),
    }
    REQUIRED = ("type", "hard", "soft")
    __slots__ = slots(FIELDS)
    type: str
    hard: int
    soft: int

    def check(self, where: str, warnings: list[str]) -> None:
        if self.soft > self.hard:
            raise invalid("soft limit", self.soft, f"{where}.soft", f"above the hard limit {self.hard}")


_read_rlimits = many(POSIXRlimit)


def _rlimits(value: object, where: str, warnings: list[str]) -> tuple[POSIXRlimit, ...]:
    rlimits: tuple[POSIXRlimit, ...] = _read_rlimits(value, where, warnings)  # type: ignore[assignment]
    seen: dict[str, int] = {}
    for index, rlimit in enumerate(rlimits):
        if rlimit.type in seen:
            raise invalid(
                "rlimit", rlimit.type, f"{where}[{index}].type", f"given twice, first in {where}[{seen[rlimit.type]}]"
            )
        seen[rlimit.type] = index
    return rlimits


class Scheduler(Value):
    """sched_setattr(2). `runtime`, `deadline`, `period` are nanoseconds."""

    FIELDS: ClassVar[Fields] = {
        "policy": ("policy", word("scheduler policy", SCHEDULER_POLICIES), None),
        "nice": ("nice", i32, 0),
        "priority": ("priority", i32, 0),
        "flags": ("flags", words("scheduler flag", SCHEDULER_FLAGS), ()),
        "runtime": ("runtime", u64, 0),
        "deadline": ("deadline", u64, 0),
        "period": ("period", u64, 0),
    }
    __slots__ = slots(FIELDS)
    policy: str
    nice: int
    priority: int
    flags: tuple[str, ...]
    runtime: int
    deadline: int
    period: int

    def check(self, where: str, warnings: list[str]) -> None:
        policy = self.policy
        if policy is None:
            raise missing(f"{where}.policy", "scheduler policy is required")
        if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= self.nice <= 19:
            raise invalid(
                "nice", self.nice, f"{where}.nice", f"allowed are -20 to 19 when scheduler.policy is {policy}"
            )
        if policy in ("SCHED_FIFO", "SCHED_RR"):
            if not 1 <= self.priority <= 99:
                raise invalid("priority", self.priority, f"{where}.priority", f"{policy} takes 1 to 99")
        elif self.priority:
            raise invalid(
                "priority",
                self.priority,
                f"{where}.priority",
                "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
            )
        if policy == "SCHED_DEADLINE":
            # __checkparam_dl(), kernel/sched/deadline.c: at least 1024 ns, the top bit clear.
            if not 1024 <= self.runtime <= self.deadline < 1 << 63:
                raise invalid(
                    "runtime", self.runtime, f"{where}.runtime", f"allowed are 1024 to the deadline {self.deadline}"
                )
            if self.period and not self.deadline <= self.period < 1 << 63:
                raise invalid("period", self.period, f"{where}.period", f"below the deadline {self.deadline}")
        elif self.runtime or self.deadline or self.period:
            raise InvalidArgument(
                "scheduler policy",
                policy,
                where=f"{where}.policy",
                detail="scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
            )


class LinuxIOPriority(Value):
    """ioprio_set(2): `priority` 0 (highest) to 7."""

    FIELDS: ClassVar[Fields] = {
        "class": ("class_", word("ioPriority.Class", IO_CLASSES), None),
        "priority": ("priority", number(0, 7), 0),
    }
    REQUIRED = ("class", "priority")
    __slots__ = slots(FIELDS)
    class_: str
    priority: int


def _cpus(value: object, where: str, warnings: list[str]) -> str | None:
    result = text(value, where, warnings)
    if result and not cpu_list(result, where, "CPU list"):
        raise invalid("CPU list", result, where, "no members found in set")
    return result


class CPUAffinity(Value):
    """CPU lists ("0-3,7") of an exec'd process before and after it enters the container's cgroup."""

    FIELDS: ClassVar[Fields] = {"initial": ("initial", _cpus, None), "final": ("final", _cpus, None)}
    __slots__ = slots(FIELDS)
    initial: str | None
    final: str | None


class Process(Value):
    """What runs in the container; `user` is never None. `args`, `env` are as execve(2) takes them."""

    FIELDS: ClassVar[Fields] = {
        "terminal": ("terminal", boolean, False),
        "consoleSize": ("console_size", one(Box), None),
        "user": ("user", one(User), User()),
        "args": ("args", strings, ()),
        "commandLine": ("command_line", text, None),
        "env": ("env", strings, ()),
        "cwd": ("cwd", text, None),
        "capabilities": ("capabilities", _capabilities, None),
        "rlimits": ("rlimits", _rlimits, ()),
        "noNewPrivileges": ("no_new_privileges", boolean, False),
        "apparmorProfile": ("apparmor_profile", line, None),
        "oomScoreAdj": ("oom_score_adj", number(-1000, 1000), None),
        "scheduler": ("scheduler", one(Scheduler), None),
        "selinuxLabel": ("selinux_label", line, None),
        "ioPriority": ("io_priority", one(LinuxIOPriority), None),
        "execCPUAffinity": ("exec_cpu_affinity", one(CPUAffinity), None),
    }
    REQUIRED = ("user", "cwd")
    __slots__ = slots(FIELDS)
    terminal: bool
    console_size: Box | None
    user: User
    args: tuple[str, ...]
    command_line: str | None
    env: tuple[str, ...]
    cwd: str
    capabilities: LinuxCapabilities | None
    rlimits: tuple[POSIXRlimit, ...]
    no_new_privileges: bool
    apparmor_profile: str | None
    oom_score_adj: int | None
    scheduler: Scheduler | None
    selinux_label: str | None
    io_priority: LinuxIOPriority | None
    exec_cpu_affinity: CPUAffinity | None


def check_linux_process(process: Process, where: str) -> None:
    """What must hold of a process on Linux beyond the types; raises InvalidArgument."""
    size = process.console_size
    # Without a terminal it must be ignored (config.md, "Process").
    if process.terminal and size is not None and (size.height | size.width) > U16:
        detail = "a terminal has at most 65535 rows and columns"
        raise invalid("size", f"{size.height} x {size.width}", f"{where}.consoleSize", detail)
    if process.cwd[:1] != "/":
        raise invalid("cwd", process.cwd, f"{where}.cwd", "Cwd must be an absolute path")
    if not process.args:
        raise missing(f"{where}.args", "args must not be empty")
    for index, entry in enumerate(process.env):
        if entry.find("=") < 1:
            detail = "name cannot be empty" if entry[:1] == "=" else "missing '='"
            raise invalid(
                "environment variable", entry, f"{where}.env[{index}]", detail, "entries have the form NAME=value"
            )
