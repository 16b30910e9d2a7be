"""The process: limits, identity, what it may do, and the program itself. Used for a container's first process
and, with the same code, for `exec`."""

from __future__ import annotations

from _struct import pack
from os import O_CLOEXEC, O_RDWR

from masu.errors import InvalidArgument, closest
from masu.linux import capabilities, rlimits
from masu.plan import labels
from masu.plan.draft import Draft
from masu.plan.host import Host, Wishes
from masu.plan.ops import CONSOLE_BIND, CONSOLE_CTTY, KEEP_GROUPS, KEEP_GROUPS_IF_DENIED, NONE, Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.process import Scheduler
    from masu.spec.runtime import LinuxMemoryPolicy, Process

_SIGKILL = 9
# The kernel takes as many bits as it has processors (sched_setaffinity(2)) and keeps to the cpuset.
_ALL_PROCESSORS = b"\xff" * 1024

# sched(7), linux/sched.h
_SCHED_POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}  # fmt: skip
_SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
# ioprio_set(2)
_IOPRIO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
# personality(2)
_PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}
# set_mempolicy(2)
_MEMPOLICY_MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
_MEMPOLICY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15,
}  # fmt: skip


class ProcessPlan:
    """What `add_process` needs besides `process` itself.

    `keep_groups`: the container may be in a user namespace that denies setgroups(2); where no group is asked for,
    those of the caller stay then, as they must (user_namespaces(7)). `dumpable`: somebody without root starts it, who
    may look at it only while it is so, before the program runs as well (slirp4netns, hooks). `told`: what there is to
    say of its capabilities was said when the container was made."""

    __slots__ = (
        "dumpable",
        "keep_groups",
        "mapped",
        "memory_policy",
        "new_mount_namespace",
        "personality",
        "personality_where",
        "told",
        "warnings",
        "where",
    )

    def __init__(
        self,
        where: str,
        *,
        mapped: bool,
        dumpable: bool = False,
        keep_groups: bool,
        warnings: list[str],
        told: bool = False,
        new_mount_namespace: bool = True,
        personality: str = "",
        memory_policy: LinuxMemoryPolicy | None = None,
    ) -> None:
        self.where = where
        self.mapped = mapped
        self.dumpable = dumpable
        self.keep_groups = keep_groups
        self.warnings = warnings
        self.told = told
        self.new_mount_namespace = new_mount_namespace
        self.personality = personality
        self.memory_policy = memory_policy


def add_outside(draft: Draft, process: Process, host: Host, around: ProcessPlan) -> None:
    """What needs the host's power or the host's /proc; all of it is inherited by the container's process."""
    where = around.where
    if process.oom_score_adj is not None:
        draft.prepare.append(
            Op("write", where + ".oomScoreAdj", path="/proc/self/oom_score_adj", data=b"%d" % process.oom_score_adj)
        )
    if around.mapped:
        # A mapped root has no CAP_SYS_RESOURCE or CAP_SYS_NICE over the host's limits (capabilities(7)): hard limits
        # are raised here, and set to what is wanted inside, where a low one no longer harms our own work.
        draft.prepare += _raised_limits(process, host, where) + _scheduling(process, where, forked=True)


def add_exec_affinity(draft: Draft, process: Process, where: str) -> None:
    """execCPUAffinity.initial: where an exec runs before it is in the container's cgroup (config.md, "Process")."""
    affinity = process.exec_cpu_affinity
    if affinity is not None and affinity.initial:
        draft.prepare.append(Op("affinity", where + ".execCPUAffinity.initial", mask=cpu_mask(affinity.initial, where)))


def add_affinity(draft: Draft, process: Process, where: str, *, one_more: bool = False) -> None:
    """Which processors the program may use, once it is in its cgroup. Whoever started us may have been bound to a
    few of them; the container is not, except by its cpuset. `one_more` is for `exec`, which may ask for its own."""
    affinity = process.exec_cpu_affinity if one_more else None
    if affinity is not None and affinity.final:
        where += ".execCPUAffinity.final"
        draft.inside.append(Op("affinity", where, mask=cpu_mask(affinity.final, where)))
    elif affinity is None or not affinity.initial:
        draft.inside.append(Op("affinity", mask=_ALL_PROCESSORS))


def add_identity(draft: Draft, process: Process, host: Host, wishes: Wishes, around: ProcessPlan) -> None:
    """From limits to the moment before the program is looked for, in the one order that works: what needs a
    capability comes before the capabilities go, the seccomp filter as late as its rules allow."""
    where, inside = around.where, draft.inside
    if process.no_new_privileges:
        inside.append(Op("no_new_privs", where + ".noNewPrivileges"))
    inside += _reset_on_fork(process, where) if around.mapped else _scheduling(process, where)
    if around.memory_policy is not None:
        inside.append(_memory_policy(around.memory_policy))
    if around.personality:
        inside.append(_personality(around.personality))
    inside += labels.of_process(process, host, where)
    inside += _rlimits(process, where)
    inside.append(Op("close_fds", keep=wishes.preserve_fds))
    user = process.user
    inside.append(Op("umask", where + ".user.umask", mask=0o022 if user.umask is None else user.umask))
    inside.append(Op("stdio_owner", where + ".user", uid=user.uid, gid=user.gid))
    # Before a filter, which may refuse what it takes to see where one is.
    inside.append(Op("chdir", where + ".cwd", path=process.cwd))
    # Without no_new_privs a filter can be loaded only while CAP_SYS_ADMIN is there (seccomp(2)). What follows it must
    # do with old system calls: filters written before close_range(2) or openat2(2) answer those with ENOSYS.
    if wishes.seccomp is not None and not process.no_new_privileges:
        inside.append(_seccomp(wishes))
    _add_user(draft, process, host, wishes, around)
    if wishes.seccomp is not None and process.no_new_privileges:
        inside.append(_seccomp(wishes))


def _add_user(draft: Draft, process: Process, host: Host, wishes: Wishes, around: ProcessPlan) -> None:
    where, inside, user = around.where, draft.inside, process.user
    bounding, effective, permitted, inheritable, ambient = _capability_sets(process, host, around)
    inside.append(Op("bounding", where + ".capabilities.bounding", capabilities=bounding))
    groups = pack(f"<{len(user.additional_gids)}I", *user.additional_gids)
    keep = KEEP_GROUPS if wishes.keep_groups else KEEP_GROUPS_IF_DENIED if around.keep_groups and not groups else 0
    inside.append(Op("setuser", where + ".user", uid=user.uid, gid=user.gid, groups=groups, keep_groups=keep))
    inside.append(
        Op(
            "caps",
            where + ".capabilities",
            effective=effective,
            permitted=permitted,
            inheritable=inheritable,
            ambient=ambient,
        )
    )
    if around.dumpable:
        inside.append(Op("dumpable"))  # now, for a change of identity takes it back


def _capability_sets(process: Process, host: Host, around: ProcessPlan) -> tuple[int, int, int, int, int]:
    wanted = process.capabilities
    if wanted is None:
        # No section means no capability, as in runc: not all those of whoever started us.
        return 0, 0, 0, 0, 0
    path = around.where + ".capabilities"
    # For CRI-O our standard error is an exec's, too, and what was told once would be told each time.
    warnings = [] if around.told else around.warnings

    def bits(name: str, names: tuple[str, ...]) -> int:
        return capabilities.bits(names, f"{path}.{name}", warnings)

    bounding = bits("bounding", wanted.bounding)
    permitted = bits("permitted", wanted.permitted)
    effective = bits("effective", wanted.effective)
    inheritable = bits("inheritable", wanted.inheritable)
    ambient = bits("ambient", wanted.ambient)
    missing = 0
    if not around.mapped:
        # What the machine itself lacks cannot be given: root in a container of a CI service often has a
        # reduced bounding set. The kernel would answer with a bare EPERM.
        missing = (bounding | permitted | effective) & ~host.bounding
        if missing:
            warnings.append(
                f"{path}: this process itself lacks {', '.join(capabilities.names(missing))}; "
                "the container runs without"
            )
        bounding, permitted, effective = bounding & host.bounding, permitted & host.bounding, effective & host.bounding
    inheritable &= bounding
    # capabilities(7), "Ambient": only what is both permitted and inheritable can be raised.
    # One line for all of them: Buildah asks for fourteen in each step of a build.
    if lost := capabilities.names(ambient & ~(inheritable & permitted | missing)):
        warnings.append(
            f"{path}.ambient: can't raise ambient capability {', '.join(lost)}: not both permitted and inheritable"
        )
    return bounding, effective, permitted, inheritable, ambient & inheritable & permitted


def add_console(draft: Draft, process: Process, wishes: Wishes, around: ProcessPlan) -> None:
    """A terminal: its master goes to the caller's console socket, or to the monitor."""
    if not process.terminal:
        return
    slot = NONE
    if wishes.console_fd is not None:
        slot = draft.slot()
        draft.prepare.append(Op("adopt", around.where + ".terminal", slot=slot, fd=wishes.console_fd))
    size = process.console_size
    flags = CONSOLE_CTTY | (CONSOLE_BIND if around.new_mount_namespace else 0)
    draft.inside.append(
        Op(
            "console",
            around.where + ".terminal",
            slot=slot,
            rows=size.height if size else 0,
            columns=size.width if size else 0,
            flags=flags,
        )
    )


def add_program(draft: Draft, process: Process, wishes: Wishes, around: ProcessPlan) -> tuple[Op, Op]:
    """The lookup, `ready`, the wait for `start`; returns (the lookup, the exec) for who adds hooks between."""
    where, inside = around.where, draft.inside
    env = _environment(process.env, wishes.home)
    path = next((item[5:] for item in env if item.startswith("PATH=")), "")
    find = Op("find_program", where + ".args[0]", program=process.args[0], path=path)
    inside.append(find)
    if wishes.monitor is not None:
        inside.append(Op("pdeathsig", signal=_SIGKILL))
    inside.append(Op("ready"))
    if wishes.fifo:
        fifo = draft.slot()
        draft.prepare.append(Op("open", slot=fifo, path=wishes.fifo, flags=O_RDWR | O_CLOEXEC))
        inside.append(Op("wait_start", slot=fifo))
    return find, Op("exec", where + ".args", args=process.args, env=env)


def _environment(given: tuple[str, ...], home: str) -> tuple[str, ...]:
    """Each name once, with the value given last (a program would see the first); HOME, where empty, from passwd."""
    values = {item.partition("=")[0]: item for item in given}
    if home and values.get("HOME", "HOME=") == "HOME=":
        values.pop("HOME", None)
        values["HOME"] = "HOME=" + home
    return tuple(values.values())


def _seccomp(wishes: Wishes) -> Op:
    assert wishes.seccomp is not None
    filter = wishes.seccomp
    return Op("seccomp", "linux.seccomp", program=filter.program, flags=filter.flags, notify=int(filter.notify))


def _rlimits(process: Process, where: str) -> list[Op]:
    return [
        Op(
            "rlimit",
            f"{where}.rlimits[{index}]",
            resource=rlimits.NUMBERS[item.type],
            soft=item.soft,
            hard=item.hard,
        )
        for index, item in enumerate(process.rlimits)
    ]


def _raised_limits(process: Process, host: Host, where: str) -> list[Op]:
    """Hard limits that are above the present ones; the soft ones stay."""
    ops = []
    for index, item in enumerate(process.rlimits):
        number = rlimits.NUMBERS[item.type]
        soft, hard = host.rlimits.get(number, (item.hard, item.hard))
        if item.hard > hard:
            ops.append(Op("rlimit", f"{where}.rlimits[{index}]", resource=number, soft=soft, hard=item.hard))
    return ops


def _scheduler(scheduler: Scheduler, where: str, without: int = 0) -> Op:
    flags = 0
    for index, word in enumerate(scheduler.flags):
        flags |= _word(_SCHED_FLAGS, word, f"{where}.scheduler.flags[{index}]")
    return Op(
        "scheduler",
        where + ".scheduler",
        policy=_word(_SCHED_POLICIES, scheduler.policy, where + ".scheduler.policy"),
        nice=(scheduler.nice or 0) & 0xFFFFFFFFFFFFFFFF,
        priority=scheduler.priority or 0,
        flags=flags & ~without,
        runtime=scheduler.runtime or 0,
        deadline=scheduler.deadline or 0,
        period=scheduler.period or 0,
    )


def _reset_on_fork(process: Process, where: str) -> list[Op]:
    # The same policy again with this flag needs no capability (sched(7)).
    scheduler = process.scheduler
    if scheduler is None or "SCHED_FLAG_RESET_ON_FORK" not in scheduler.flags:
        return []
    return [_scheduler(scheduler, where)]


def _scheduling(process: Process, where: str, *, forked: bool = False) -> list[Op]:
    """`forked`: the container's process is still to be cloned, which the flag that resets on fork must not see."""
    ops = []
    if process.scheduler:
        without = _SCHED_FLAGS["SCHED_FLAG_RESET_ON_FORK"] if forked else 0
        ops.append(_scheduler(process.scheduler, where, without))
    if priority := process.io_priority:
        number = _word(_IOPRIO_CLASSES, priority.class_, where + ".ioPriority.class")
        ops.append(Op("ioprio", where + ".ioPriority", value=number << 13 | (priority.priority or 0)))
    return ops


def _personality(domain: str) -> Op:
    where = "linux.personality.domain"
    return Op("personality", where, value=_word(_PERSONALITIES, domain, where))


def _memory_policy(policy: LinuxMemoryPolicy) -> Op:
    where = "linux.memoryPolicy"
    mode = _word(_MEMPOLICY_MODES, policy.mode, where + ".mode")
    for index, word in enumerate(policy.flags):
        mode |= _word(_MEMPOLICY_FLAGS, word, f"{where}.flags[{index}]")
    return Op("mempolicy", where, mode=mode, nodes=cpu_mask(policy.nodes, where + ".nodes") if policy.nodes else b"")


def _word(table: dict[str, int], word: str, where: str) -> int:
    number = table.get(word)
    if number is None:
        raise InvalidArgument(
            "value", word, where=where, detail="allowed are " + ", ".join(table), hint=closest(word, tuple(table))
        )
    return number


def cpu_mask(text: str, where: str) -> bytes:
    """ "0-3,7" as a bit mask, least significant byte first, a multiple of 8 bytes long."""
    mask = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InvalidArgument("CPU list", text, where=where, detail="expected numbers and ranges such as 0-3,7")
        low, high = int(first), int(last or first)
        if high < low or high > 8191:
            raise InvalidArgument("CPU list", text, where=where, detail=f"range {part} is empty or beyond 8191")
        mask |= ((1 << (high - low + 1)) - 1) << low
    size = (mask.bit_length() + 63) // 64 * 8
    return mask.to_bytes(max(size, 8), "little")
