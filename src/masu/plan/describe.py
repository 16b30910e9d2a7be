"""A plan in the words of strace: what the kernel will be asked to do, in order, and which line of config.json asks
for it."""

from __future__ import annotations

from _struct import unpack

from masu.linux import capabilities, mount, namespaces, rlimits
from masu.linux import signals as _signals
from masu.plan.ops import CONSOLE_BIND, KEEP_GROUPS, KEEP_GROUPS_IF_DENIED, NONE, TABLE, TARGET_COPY_UP, Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_RLIM_INFINITY = 0xFFFFFFFFFFFFFFFF


def describe(op: Op) -> str:
    """The operation's system calls, `; ` between them."""
    return _WORDS[op.name](op.fields)


def to_json(ops: list[Op]) -> list[dict[str, object]]:
    """The plan as data: operation, side ("host" or "container"), calls, place in config.json, fields."""
    result: list[dict[str, object]] = []
    side = "host"
    for index, op in enumerate(ops):
        fields = {key: _plain(value) for key, value in op.fields.items()}
        result.append(
            {"index": index, "op": op.name, "side": side, "calls": describe(op), "where": op.where, "fields": fields}
        )
        if op.name == "clone":
            side = "container"
    return result


def to_text(ops: list[Op]) -> str:
    """One line an operation: number, H or C, calls, and behind `#` the place in config.json."""
    lines = []
    side = "H"
    for index, op in enumerate(ops):
        text = f"{index:3} {side} {describe(op)}"
        lines.append(f"{text:<100}  # {op.where}" if op.where else text)
        if op.name == "clone":
            side = "C"
    return "\n".join(lines) + "\n"


def _processors(mask: bytes) -> str:
    """A CPU mask as the kernel lists it: 0-3,7; "all" when no bit is missing."""
    bits = int.from_bytes(mask, "little")
    if bits == (1 << 8 * len(mask)) - 1:
        return "all"
    spans: list[list[int]] = []
    for number in (n for n in range(bits.bit_length()) if bits >> n & 1):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value


def _flags(value: int, table: dict[str, int], zero: str = "0") -> str:
    names = []
    for name, bit in table.items():
        if bit and value & bit == bit:
            names.append(name)
            value &= ~bit
    if value:
        names.append(hex(value))
    return "|".join(names) or zero


def _quote(text: object) -> str:
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _array(items: tuple[str, ...]) -> str:
    return "[" + ", ".join(_quote(item) for item in items) + "]"


def _constants(module: object, prefix: str, *without: str) -> dict[str, int]:
    return {
        name: value
        for name, value in vars(module).items()
        if name.startswith(prefix) and name not in without and isinstance(value, int)
    }


_CLONE = {"CLONE_NEW" + {"network": "NET", "mount": "NS"}.get(kind, kind.upper()): flag
          for kind, flag in namespaces.FLAGS.items()}  # fmt: skip
_MOUNT_ATTR = _constants(mount, "MOUNT_ATTR_", "MOUNT_ATTR__ATIME")
_MS = _constants(mount, "MS_")
_OPEN = {"O_PATH": 0o10000000, "O_DIRECTORY": 0o200000, "O_RDWR": 2, "O_WRONLY": 1, "O_CLOEXEC": 0o2000000}
_TREE = {"OPEN_TREE_CLONE": 1, "AT_RECURSIVE": 0x8000, "AT_SYMLINK_NOFOLLOW": 0x100, "OPEN_TREE_CLOEXEC": 0o2000000}


def _file_system(f: dict[str, Any]) -> str:
    calls = [f'fsopen("{f["fstype"]}")', f'fsconfig(SET_STRING, "source", {_quote(f["source"])})']
    for word in f["options"]:
        key, equals, value = word.partition("=")
        calls.append(f'fsconfig(SET_STRING, "{key}", {_quote(value)})' if equals else f'fsconfig(SET_FLAG, "{key}")')
    attr = _flags(f["attr"], _MOUNT_ATTR)
    return "; ".join([*calls, "fsconfig(CMD_CREATE)", f"fsmount({attr})"])


def _mount(f: dict[str, Any]) -> str:
    up = "; copy up what is there" if f["flags"] & TARGET_COPY_UP else ""
    return f"{_file_system(f)}; move_mount(-> {_quote(f['target'])}){up}"


def _attributes(f: dict[str, Any]) -> str:
    parts = []
    if f["set"] & ~mount.MOUNT_ATTR_IDMAP:
        parts.append("attr_set=" + _flags(f["set"], _MOUNT_ATTR))
    if f["clear"]:
        parts.append("attr_clr=" + _flags(f["clear"], _MOUNT_ATTR))
    if f.get("propagation"):
        parts.append("propagation=" + _flags(f["propagation"], _MS))
    if f.get("userns", NONE) != NONE:
        parts.append(f"attr_set=MOUNT_ATTR_IDMAP, userns_fd=slot {f['userns']}")
    return "{" + ", ".join(parts) + "}"


def _mount_setattr(f: dict[str, Any]) -> str:
    flags = "AT_EMPTY_PATH|AT_RECURSIVE" if f["recursive"] else "AT_EMPTY_PATH"
    return f"mount_setattr(slot {f['slot']}, {flags}, {_attributes(f)})"


def _remount(f: dict[str, Any]) -> str:
    calls = [f"mount_setattr({_quote(f['target'])}, {'AT_RECURSIVE' if f['recursive'] else '0'}, {_attributes(f)})"]
    calls += [f'fsconfig(SET "{word}")' for word in f["options"]]
    return "; ".join(calls)


def _mknod(f: dict[str, Any]) -> str:
    rdev, mode = f["rdev"], f["mode"]
    major = (rdev >> 8 & 0xFFF) | (rdev >> 32 & ~0xFFF)
    minor = (rdev & 0xFF) | (rdev >> 12 & ~0xFF)
    kind = {0o020000: "S_IFCHR", 0o060000: "S_IFBLK", 0o010000: "S_IFIFO"}.get(mode & 0o170000, "?")
    owner = f"; chown({f['uid']}, {f['gid']})" if f["uid"] or f["gid"] else ""
    return f"mknodat({_quote(f['path'])}, {kind}|{mode & 0o7777:#o}, makedev({major}, {minor})){owner}"


def _rlimit(f: dict[str, Any]) -> str:
    name = next((key for key, number in rlimits.NUMBERS.items() if number == f["resource"]), str(f["resource"]))

    def value(number: int) -> str:
        return "RLIM_INFINITY" if number == _RLIM_INFINITY else str(number)

    return f"prlimit64(0, {name}, {{rlim_cur={value(f['soft'])}, rlim_max={value(f['hard'])}}})"


def _setuser(f: dict[str, Any]) -> str:
    groups = unpack(f"<{len(f['groups']) // 4}I", f["groups"])
    may_fail = ", unless denied" if f["keep_groups"] == KEEP_GROUPS_IF_DENIED else ""
    first = f"setgroups({len(groups)}, [{', '.join(map(str, groups))}]){may_fail}; "
    if f["keep_groups"] == KEEP_GROUPS:
        first = ""
    return f"{first}setresgid({f['gid']}, …); setresuid({f['uid']}, …)"


def _caps(f: dict[str, Any]) -> str:
    sets = [f"{name}={_capability_names(f[name])}" for name in ("effective", "permitted", "inheritable", "ambient")]
    return f"capset({{{', '.join(sets)}}})"


def _capability_names(bits: int) -> str:
    return "|".join(capabilities.names(bits)) or "0"


def _clone(f: dict[str, Any]) -> str:
    into = "" if f["cgroup"] == NONE else f", cgroup=slot {f['cgroup']}"
    extra = "CLONE_PARENT|CLONE_PIDFD" + ("" if f["cgroup"] == NONE else "|CLONE_INTO_CGROUP")
    return f"clone3({{flags={_flags(f['flags'], _CLONE, '')}{'|' if f['flags'] else ''}{extra}{into}}})"


def _console(f: dict[str, Any]) -> str:
    to = "the monitor" if f["slot"] == NONE else f"slot {f['slot']}"
    size = f"; ioctl(TIOCSWINSZ, {f['rows']}x{f['columns']})" if f["rows"] or f["columns"] else ""
    bind = '; move_mount(pts -> "/dev/console")' if f["flags"] & CONSOLE_BIND else ""
    return f'open("/dev/ptmx"); ioctl(TIOCGPTPEER){size}{bind}; sendmsg({to}, SCM_RIGHTS); ioctl(TIOCSCTTY)'


def _monitor(f: dict[str, Any]) -> str:
    log = f", log {_quote(f['log_path'])}" if f["log_path"] else ""
    return f"fork(); setsid(); prctl(PR_SET_CHILD_SUBREAPER){log}, exit status to {_quote(f['exit_path'])}"


def _signal(number: int) -> str:
    return _signals.name(number)


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "monitor": _monitor,
    "runtime": lambda f: f"fork(); execve({' '.join(f['args'])}); pid from {_quote(f['pid_path'])}",
    "criu": lambda f: f"clone3(CLONE_PARENT); execve({' '.join(f['args'])}); pid from {_quote(f['pid_path'])}",
    "adopt": lambda f: f"fd {f['fd']} = slot {f['slot']}",
    "open": lambda f: f"open({_quote(f['path'])}, {_flags(f['flags'], _OPEN, 'O_RDONLY')}) = slot {f['slot']}",
    "open_tree": lambda f: f"open_tree({_quote(f['path'])}, {_flags(f['flags'], _TREE)}) = slot {f['slot']}",
    "new_mount": lambda f: f"{_file_system(f)} = slot {f['slot']}",
    "idmap_userns": lambda f: (
        f"clone(CLONE_NEWUSER); uid_map {_quote(f['uid_map'])}; gid_map {_quote(f['gid_map'])} = slot {f['slot']}"
    ),
    "mount_attr": _mount_setattr,
    "setns": lambda f: f"setns(slot {f['slot']}, {_flags(f['nstype'], _CLONE)})",
    "unshare": lambda f: f"unshare({_flags(f['flags'], _CLONE)})",
    "sync": lambda f: f"wait for the host: {f['name']}",
    "write": lambda f: f"write(open({_quote(f['path'])}), {_quote(f['data'].decode('utf-8', 'replace'))})",
    "become": lambda f: f"setresgid({f['gid']}, …); setresuid({f['uid']}, …)",
    "rlimit": _rlimit,
    "scheduler": lambda f: (
        f"sched_setattr(policy={f['policy']}, nice={f['nice'] - (1 << 64) if f['nice'] >> 63 else f['nice']}, "
        f"priority={f['priority']}, flags={f['flags']:#x})"
    ),
    "ioprio": lambda f: f"ioprio_set(IOPRIO_WHO_PROCESS, 0, class {f['value'] >> 13}, level {f['value'] & 0x1FFF})",
    "personality": lambda f: f"personality({f['value']:#x})",
    "mempolicy": lambda f: f"set_mempolicy({f['mode']:#x}, {f['nodes'].hex() or 'NULL'})",
    "affinity": lambda f: f"sched_setaffinity(0, {_processors(f['mask'])})",
    "keyring": lambda f: f"keyctl(KEYCTL_JOIN_SESSION_KEYRING, {_quote(f['name'])})",
    "clone": _clone,
    "setsid": lambda f: "setsid()",
    "pdeathsig": lambda f: f"prctl(PR_SET_PDEATHSIG, {_signal(f['signal'])})",
    "root_propagation": lambda f: f'mount(NULL, "/", NULL, {_flags(f["flags"], _MS)}, NULL)',
    "root_attach": lambda f: f"move_mount(slot {f['slot']} -> {_quote(f['path'] or '/')}) = root",
    "procfs": lambda f: 'fsopen("proc"); fsconfig(CMD_CREATE); fsmount() = our own /proc',
    "mount": _mount,
    "attach": lambda f: f"move_mount(slot {f['slot']} -> {_quote(f['target'])})",
    "remount": _remount,
    "propagation": lambda f: f"mount(NULL, {_quote(f['target'])}, NULL, {_flags(f['flags'], _MS)}, NULL)",
    "mkdir": lambda f: f"mkdirat({_quote(f['path'])}, {f['mode']:#o})",
    "mknod": _mknod,
    "symlink": lambda f: f"symlinkat({_quote(f['target'])}, {_quote(f['path'])})",
    "console": _console,
    "stdio": lambda f: f"dup3(slots {f['stdin']}, {f['stdout']}, {f['stderr']} -> 0, 1, 2)",
    "pivot_root": lambda f: 'fchdir(root); pivot_root(".", "."); umount2(".", MNT_DETACH)',
    "chroot": lambda f: 'fchdir(root); mount(".", "/", MS_MOVE); chroot(".")',
    "root_readonly": lambda f: 'mount_setattr("/", {attr_set=MOUNT_ATTR_RDONLY})',
    "mask": lambda f: f"move_mount(empty tmpfs or /dev/null -> {_quote(f['path'])})",
    "readonly": lambda f: (
        f"open_tree({_quote(f['path'])}, OPEN_TREE_CLONE); mount_setattr({{attr_set=MOUNT_ATTR_RDONLY}}); move_mount()"
    ),
    "proc_write": lambda f: f"write(open({_quote('/proc/' + f['path'])}), {_quote(f['data'].decode())})",
    "hostname": lambda f: f"sethostname({_quote(f['name'])})",
    "domainname": lambda f: f"setdomainname({_quote(f['name'])})",
    "no_new_privs": lambda f: "prctl(PR_SET_NO_NEW_PRIVS, 1)",
    "seccomp": lambda f: (
        f"seccomp(SECCOMP_SET_MODE_FILTER, {f['flags']:#x}, {len(f['program']) // 8} instructions)"
        + (" = listener to the host" if f["notify"] else "")
    ),
    "bounding": lambda f: f"prctl(PR_CAPBSET_DROP, all but {_capability_names(f['capabilities'])})",
    "setuser": _setuser,
    "caps": _caps,
    "umask": lambda f: f"umask({f['mask']:#o})",
    "chdir": lambda f: f"chdir({_quote(f['path'])}); getcwd() must be inside the root",
    "find_program": lambda f: f"access({_quote(f['program'])}, X_OK) along PATH={_quote(f['path'])}",
    "close_fds": lambda f: f"close_range({3 + f['keep']}, ~0, CLOSE_RANGE_CLOEXEC)",
    "hook": lambda f: f"fork(); execve({_quote(f['path'])}, {_array(f['args'])}); state on stdin",
    "ready": lambda f: "tell the host: ready; wait for its word",
    "wait_start": lambda f: f"read(slot {f['slot']}): wait for `start`",
    "init": lambda f: "fork(); stay as PID 1, pass signals on, reap",
    "exec": lambda f: f"execve({_quote(f['args'][0])}, {_array(f['args'])}, {len(f['env'])} variables)",
    "loopback": lambda f: 'ioctl(SIOCSIFFLAGS, "lo", IFF_UP)',
    "label": lambda f: f"setxattr({_quote(f['target'])} in the root, security.selinux, {_quote(f['label'])})",
    "open_tree_inside": lambda f: f"slot {f['slot']} = open_tree({_quote(f['path'])} in the root, {f['flags']:#x})",
    "umount": lambda f: f"umount2({_quote(f['target'])}, MNT_DETACH|UMOUNT_NOFOLLOW)",
    "enter_root": lambda f: f"chroot({_quote(f['path'])})" + (" where it is there" if f["optional"] else ""),
    "stdio_owner": lambda f: f"fchown(0, 1, 2; {f['uid']}:{f['gid']})",
    "dumpable": lambda f: "prctl(PR_SET_DUMPABLE, 1): for whoever starts us without root",
}
assert set(_WORDS) == set(TABLE)
