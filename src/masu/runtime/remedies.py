"""A second look at what failed, for the sentence that says what to do: loaded only then.

What is read here is read after the failure and may have changed; a remedy that cannot be found is left out.
"""

from __future__ import annotations

import errno as e
import os

from masu.errors import KernelError, MasuError, ResourceExhausted, closest
from masu.linux import capabilities, namespaces, rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.plan.ops import Op

# Options of the file systems that containers mount, beyond mount(8)'s own: Documentation/filesystems.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "tmpfs": ("size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "huge", "mpol", "inode32", "inode64", "noswap"),
    "proc": ("hidepid", "gid", "subset"),
    "devpts": ("newinstance", "ptmxmode", "mode", "uid", "gid", "max"),
    "overlay": (
        "lowerdir", "upperdir", "workdir", "redirect_dir", "index", "userxattr", "metacopy", "xino", "volatile",
        "nfs_export",
    ),
}  # fmt: skip

# Only who owns the namespace may mount these (sysfs_init_fs_context() and its like ask ns_capable()).
_BELONG_TO = {"sysfs": "network", "mqueue": "ipc", "proc": "pid"}

_REALTIME = (1, 2)  # SCHED_FIFO, SCHED_RR

# A word of masu-launch's about a program -> what to do about it.
_PROGRAMS = (
    (" is a directory", "name a program in it"),
    ("mounted noexec", "mount it without noexec, or keep the program elsewhere"),
    ("lets nobody execute it", "chmod +x it in the image"),
    ("may not be entered by", "let this user enter it (chmod), or choose another in process.user"),
    ("the process is uid", "let this user execute it (chmod), or choose another in process.user"),
    ("it is for ", "take the image for this machine's platform, or register an emulator with binfmt_misc"),
    ("names no interpreter", "name one in its first line"),
    ("carriage return", "convert it to line feeds alone, for example with dos2unix"),
    ("loader of its C library", "the program was built for another C library: take its image, or build it static"),
    (": interpreter ", "add the interpreter to the image, or name another in the #! line"),
    ("nor a script with a #! line", 'begin it with "#!/bin/sh", or name its interpreter in process.args'),
)


def for_program(detail: str) -> str:
    """The hint that goes with what masu-launch said of a program."""
    for words, hint in _PROGRAMS:
        if words in detail:
            return hint
    return ""


def look(error: KernelError, ops: list[Op], op: Op) -> None:
    """Adds to the error of operation `op` what only a look at the machine or at the other operations tells."""
    number = error.errno
    if op.name in ("mount", "new_mount"):
        _mount(error, op)
    elif op.name == "setns" and number == e.EINVAL:
        _namespace(error, ops, op)
    elif op.name == "clone" and number == e.ENOMEM:
        _dead_namespace(error, ops)
    elif op.name == "clone" and number == e.EBUSY:
        # runc's words.
        error.what, error.detail = "clone3: error adding pid 0 to cgroups", ""
        error.hint = "the cgroup passes controllers on to those below it: name one of them by --cgroup"
    elif op.name == "clone" and number == e.EAGAIN:
        _too_many_processes(error, ops)
    elif op.name == "rlimit":
        _limit(error, op)
    elif op.name == "write" and op.where == "linux.intelRdt":
        _resctrl(error)
    elif op.name == "proc_write" and op.where.startswith("linux.sysctl"):
        data = op.fields["data"]
        assert isinstance(data, bytes)
        error.detail = f'value "{data.decode()}"'
    elif op.name == "proc_write":
        _label(error, op)
    elif op.name == "open_tree" and number == e.ENOENT and op.where.startswith("linux.devices"):
        error.hint = "with a user namespace devices are bound from the host, which has none there: make it first"
    elif op.name == "scheduler" and number == e.EPERM and op.fields["policy"] in _REALTIME and _may_nice():
        error.hint = (
            "this kernel has CONFIG_RT_GROUP_SCHED: realtime needs a share of the cgroup's, which is "
            "linux.resources.cpu.realtimeRuntime on cgroup v1, and on v2 cannot be had below the top"
        )
    elif op.name == "setuser" and number == e.EINVAL:
        error.hint = "add the id to linux.uidMappings and gidMappings, or choose a mapped one"


def _resctrl(error: KernelError) -> None:
    from masu.linux import resctrl  # by whose configuration asks for shares of cache or bandwidth

    error.hint = ""
    try:
        error.detail = resctrl.last_status(resctrl.find_root())
    except MasuError:
        pass  # it has been unmounted meanwhile


def _may_nice() -> bool:
    return bool(capabilities.current().effective >> capabilities.NUMBERS["CAP_SYS_NICE"] & 1)


# What the security modules say to a label -> what that means.
_LABELS = {
    ("self/attr/apparmor/exec", e.ENOENT): "no such profile is loaded: apparmor_parser --replace FILE loads one",
    ("self/attr/apparmor/exec", e.EACCES): "the profile that masu-oci itself is under does not allow it",
    ("self/attr/exec", e.EINVAL): "the SELinux policy knows no such label",
    ("self/attr/exec", e.EACCES): "the SELinux policy does not allow it; see the audit log",
    ("self/attr/keycreate", e.EINVAL): "the SELinux policy knows no such label",
    ("self/attr/keycreate", e.EACCES): "the SELinux policy does not allow it; see the audit log",
}


def _label(error: KernelError, op: Op) -> None:
    path, data = op.fields["path"], op.fields["data"]
    assert isinstance(path, str)
    assert isinstance(data, bytes)
    error.detail = data.decode(errors="replace")
    error.hint = _LABELS.get((path, error.errno), "")


def _mount(error: KernelError, op: Op) -> None:
    kind = str(op.fields["fstype"])
    if error.errno == e.ENODEV:
        error.where = op.where + ".type"
        error.hint = closest(kind, tuple(_file_systems())) or "is its module loaded? see /proc/filesystems"
        return
    if error.errno == e.EPERM and kind in _BELONG_TO:
        owner = _BELONG_TO[kind]
        error.hint = f'{kind} belongs to the {owner} namespace: add {{"type": "{owner}"}} to linux.namespaces'
        return
    before, found, rest = error.detail.partition('option "')
    word, _, said = rest.partition('"')
    if error.errno != e.EINVAL or before or not found:
        return
    error.where = op.where + ".options"
    known = _OPTIONS.get(kind, ())
    if "Unknown parameter" in said:
        error.hint = closest(word.partition("=")[0], known) or error.hint
        if known:
            error.hint += f"; {kind} knows {', '.join(known)}"
    elif "Invalid gid" in said or "Invalid uid" in said:
        error.hint = f"add the id to linux.{said.split('Invalid ')[1][:3]}Mappings, or leave the option out"
    else:
        error.hint = "the file system knows the option, but not this value"


def _file_systems() -> list[str]:
    try:
        with open("/proc/filesystems", encoding="ascii") as lines:
            return [line.split()[-1] for line in lines]
    except OSError:
        return []


def _namespace(error: KernelError, ops: list[Op], op: Op) -> None:
    """Says what the file is that could not be joined."""
    path = _path_of(ops, op)
    if not path:
        return
    wanted = _kind(op.fields["nstype"])
    error.obj = path
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    try:
        found = _kind(namespaces.kind_of(fd))
    except KernelError:
        error.detail, error.hint = "it is not a namespace", "name a file like /proc/PID/ns/… or a bind mount of one"
        return
    finally:
        os.close(fd)
    if found != wanted:
        error.detail, error.hint = f"it is a namespace of type {found}, not {wanted}", "correct its type or its path"
    else:
        error.detail, error.hint = "we are in it already", "leave its path out of linux.namespaces"


def _kind(flag: object) -> str:
    return next((word for word, number in namespaces.FLAGS.items() if number == flag), str(flag))


def _path_of(ops: list[Op], op: Op) -> str:
    """The path that was opened into the slot that `op` uses."""
    for other in ops:
        if other.name == "open" and other.fields["slot"] == op.fields["slot"]:
            return str(other.fields["path"])
    return ""


def _dead_namespace(error: KernelError, ops: list[Op]) -> None:
    # alloc_pid(), kernel/pid.c: nobody is born in a pid namespace whose first process has gone.
    for op in ops:
        if op.name == "setns" and op.fields["nstype"] == namespaces.CLONE_NEWPID:
            error.where, error.detail = op.where, f"into the pid namespace {_path_of(ops, op)}"
            error.hint = "the first process of the pid namespace has ended: name that of a running process"


def _too_many_processes(error: KernelError, ops: list[Op]) -> None:
    """Names the pids cgroup that is full, the container's own or one above it."""
    for path in _cgroups(ops):
        own = path
        while limit := _read(path + "/pids.max"):
            count = _read(path + "/pids.current")
            if limit.isdigit() and count.isdigit() and int(count) + 1 >= int(limit):
                error.detail = f"the cgroup {path} has {count} processes and may have {limit}"
                if path == own:
                    error.where = "linux.resources.pids.limit"
                    error.hint = "raise it: masu-oci update --pids-limit N ID"
                else:
                    error.where = "linux.cgroupsPath"
                    error.hint = "raise its pids.max, or choose another place in linux.cgroupsPath"
                return
            path = os.path.dirname(path)


def _limit(error: KernelError, op: Op) -> None:
    error.obj = next((name for name, number in rlimits.NUMBERS.items() if number == op.fields["resource"]), "")
    if error.errno != e.EPERM or error.obj != "RLIMIT_NOFILE":
        return
    most, hard = _read("/proc/sys/fs/nr_open"), op.fields["hard"]
    if most.isdigit() and isinstance(hard, int) and hard > int(most):
        error.detail = f"the hard limit is to be {hard}, the kernel allows {most}"
        error.hint = "ask for less, or raise the sysctl fs.nr_open on the host"


def killed_for_memory(ops: list[Op]) -> MasuError | None:
    """The error of a first process that vanished, when its cgroup has had to kill for its memory limit."""
    for path in _cgroups(ops):
        events = _read(path + "/memory.oom_control") + "\n" + _read(path + "/memory.events")
        killed = [line.split()[1] for line in events.splitlines() if line.startswith("oom_kill ")]
        limit = _read(path + "/memory.limit_in_bytes") or _read(path + "/memory.max")
        if killed and killed[0] != "0":
            return ResourceExhausted(
                "container's first process",
                where="linux.resources.memory.limit",
                # runc's sentence.
                detail=f"container init was OOM-killed (memory limit too low?): the limit is {limit} bytes",
                hint="ask for some MB more: the start alone needs about one",
            )
    return None


def _cgroups(ops: list[Op]) -> list[str]:
    """The cgroups that the plan joins: v1 by its tasks files, v2 by being cloned into it."""
    return [
        str(op.fields["path"]) if op.name == "open" else os.path.dirname(str(op.fields["path"]))
        for op in ops
        if op.where == "linux.cgroupsPath" and op.name in ("open", "write")
    ]


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(4096).strip()
    except (OSError, UnicodeError):
        return ""
