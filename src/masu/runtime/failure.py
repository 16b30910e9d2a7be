"""From "operation 17, EINVAL" to a sentence: which line of config.json, which call, what the user can do.

runc's wording stays where its callers match on it (`exec: "x": executable file not found in $PATH`); ours is around it.
"""

from __future__ import annotations

import errno as e
import os

from masu.errors import FailedPrecondition, KernelError, MasuError, Unavailable, describe_errno
from masu.linux import signals
from masu.plan.ops import Op

# (operation, errno) -> hint. The detail that masu-launch sends names the component of the path or the kernel's log.
_HINTS: dict[tuple[str, int], str] = {
    ("open_tree", e.ENOENT): "the source does not exist on the host; create it first",
    ("open_tree", e.EACCES): "the source cannot be reached by this user",
    ("attach", e.ENOTDIR): "a directory is mounted onto a file, or a file onto a directory; check both ends",
    ("attach", e.EISDIR): "a directory is mounted onto a file, or a file onto a directory; check both ends",
    ("attach", e.EROFS): "the mount point is missing and its parent is read-only; create it in the image",
    ("mount", e.ENODEV): "this kernel does not know the file system type",
    ("mount", e.EINVAL): "an option that this file system does not know",
    ("mount", e.EPERM): "this file system cannot be mounted in a user namespace",
    ("mount", e.ENOTDIR): "the mount point, or what it is in, is a file; choose another destination",
    ("mount", e.EROFS): "the mount point is missing and its parent is read-only; create it in the image",
    ("mount_attr", e.EPERM): "the host has locked this attribute of the mount for user namespaces: leave it as it is",
    ("remount", e.EPERM): "the host has locked this attribute of the mount for user namespaces: leave it as it is",
    ("open_tree", e.EINVAL): "in a user namespace a tree that the host has mounted on goes only as a whole: use rbind; "
    "or the source is an unbindable mount",
    ("mount_attr", e.EINVAL): "the file system may not support this attribute or idmapped mounts",
    ("setns", e.EPERM): "joining this namespace needs CAP_SYS_ADMIN in its owner's user namespace",
    ("open", e.ENOENT): "nothing is there; was the namespace removed?",
    ("unshare", e.ENOSPC): "limit of namespaces reached: see /proc/sys/user/max_*_namespaces",
    ("unshare", e.EPERM): "user namespaces may be closed to users here: see the sysctls "
    "user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns",
    ("clone", e.ENOSPC): "limit of namespaces reached: see /proc/sys/user/max_*_namespaces",
    ("clone", e.EPERM): "making these namespaces needs CAP_SYS_ADMIN; run as root, or with a user namespace",
    ("clone", e.EAGAIN): "limit of processes reached: pids cgroup or RLIMIT_NPROC",
    ("clone", e.ENOMEM): "the cgroup's memory limit may be too low to start anything",
    ("rlimit", e.EPERM): "ask for no more than that, or run masu-oci with CAP_SYS_RESOURCE",
    ("write", e.EACCES): "lowering oom_score_adj needs CAP_SYS_RESOURCE, which this process lacks",
    ("proc_write", e.ENOENT): "this kernel, or this namespace, has no such setting; see /proc/sys",
    ("proc_write", e.EPERM): "the setting is not the namespace's own; set it on the host",
    ("proc_write", e.EACCES): "the setting is read-only in this namespace; leave it out",
    ("proc_write", e.EINVAL): "the kernel refuses the value",
    ("pivot_root", e.EINVAL): "when the host's root is an initramfs use --no-pivot",
    ("console", e.ENOENT): "a terminal needs a devpts mount at /dev/pts",
    ("chdir", e.ENOENT): "the directory does not exist in the container",
    ("chdir", e.ENOTDIR): "a directory is wanted",
    ("chdir", e.EACCES): "the user may not enter this directory",
    ("mkdir", e.EROFS): "it is missing, and what it is in is read-only; create it in the image",
    ("mkdir", e.EACCES): "the container's root may not enter this directory",
    ("mkdir", e.ENOTDIR): "a directory is wanted",
    ("symlink", e.EEXIST): "copy-symlink overwrites nothing: remove what the image has there",
    ("mknod", e.EEXIST): "choose another path, or remove what the image has there",
    ("mknod", e.ENOTDIR): "choose another path",
    ("mknod", e.EPERM): "making devices needs CAP_MKNOD and the permission of the devices cgroup",
    ("seccomp", e.EINVAL): "the filter or one of its flags is not known to this kernel",
    ("setuser", e.EINVAL): "the id is not mapped in the container's user namespace",
    ("setuser", e.EPERM): "setgroups may be denied in this user namespace",
    ("hostname", e.EPERM): "setting the host name needs a new uts namespace",
    ("scheduler", e.EPERM): "this scheduling policy needs CAP_SYS_NICE, which this process lacks",
    ("ioprio", e.EPERM): "this I/O class needs CAP_SYS_NICE, which this process lacks",
    ("caps", e.EPERM): "a capability is wanted that this process does not have itself",
    ("exec", e.ENOEXEC): "a program for this machine is wanted, or a script with a #! line",
    ("exec", e.EACCES): "the file is not executable, or its file system is mounted noexec",
}

# What a user namespace may mount only together with a namespace of its own (user_namespaces(7)).
_MOUNT_OWNERS = {
    "sysfs": 'it wants a network namespace of the container\'s own; or bind the host\'s: "rbind", "ro"',
    "mqueue": "it wants an ipc namespace of the container's own",
    "proc": "it wants a pid namespace of the container's own, and the procfs here must not be covered in parts",
    "cgroup": "it wants a cgroup namespace of the container's own",
    "cgroup2": "it wants a cgroup namespace of the container's own",
}

_SYSCALLS: dict[str, str] = {
    "attach": "move_mount", "mount_attr": "mount_setattr", "new_mount": "fsopen", "clone": "clone3",
    "proc_write": "write", "hostname": "sethostname", "domainname": "setdomainname", "mask": "mask path",
    "readonly": "read-only path", "setuser": "setresuid", "caps": "capset", "rlimit": "setrlimit",
    "scheduler": "sched_setattr", "ioprio": "ioprio_set", "root_attach": "move_mount", "mknod": "mknodat",
    "mkdir": "mkdirat", "label": "fsetxattr", "symlink": "symlinkat", "exec": "execve", "keyring": "keyctl",
    "bounding": "prctl",
    "root_propagation": "mount", "propagation": "mount", "root_readonly": "mount_setattr",
}  # fmt: skip


class HookError(Unavailable):
    """A hook that failed; the sentence begins as runc's, which says what the hook did after the colon."""

    def message(self) -> str:
        parts = [f"{self.what}: {self.obj}"]
        if self.errno:
            parts.append(describe_errno(self.errno))
        if self.detail:
            parts.append(self.detail)
        return ": ".join(parts)


def hook_error(kind: str, number: int, path: str, errno: int = 0, *, detail: str = "") -> HookError:
    """Of hook `number` among hooks.`kind`."""
    where, hint = f"hooks.{kind}[{number}]", ""
    if errno == e.ENOENT:
        hint = f"the path is looked up {'in the container' if kind == 'startContainer' else 'on the host'}"
    elif detail.startswith(("not done", "the hook did not end")):
        hint = f"raise {where}.timeout, or make it quicker"
    return HookError(f"error running {kind} hook #{number}", path, errno, detail=detail, where=where, hint=hint)


class ProgramError(FailedPrecondition):
    """The program itself cannot be run; the sentence is runc's, which says the errno in its own words."""

    def message(self) -> str:
        return f"{self.what}: {self.detail}" if self.detail else self.what


_SCHED_DEADLINE = 6

# Which field names the object the operation is about.
_OBJECTS = ("target", "path", "name", "uid_map", "flags")


def explain(ops: list[Op], index: int, errno: int, detail: str) -> MasuError:
    """The error that the failure of operation `index` means to the user."""
    if errno == e.EBADMSG and detail.startswith("malformed plan"):
        return KernelError("masu-launch", errno=errno, detail=detail, hint="this masu and its masu-launch do not match")
    if not 0 <= index < len(ops):
        return KernelError("masu-launch", errno=errno, detail=detail or f"operation {index}, which was not in the plan")
    op = ops[index]
    if op.name in ("find_program", "exec"):
        return _explain_program(op, errno, detail)
    if op.name == "hook":
        kind = op.where.partition(".")[2].partition("[")[0]
        number = int(op.where.rpartition("[")[2].rstrip("]"))
        # EIO and ETIMEDOUT are masu-launch's own, for hooks that ran; then the detail says all.
        ran = errno in (e.EIO, e.ETIMEDOUT)
        return hook_error(kind, number, str(op.fields["path"]), 0 if ran else errno, detail=_named_signal(detail))
    obj = str(next((op.fields[name] for name in _OBJECTS if isinstance(op.fields.get(name), str)), ""))
    if op.name == "proc_write":
        obj = "/proc/" + obj
    hint = _HINTS.get((op.name, errno), "")
    if op.name == "mount" and errno == e.EPERM:
        hint = _MOUNT_OWNERS.get(str(op.fields["fstype"]), hint)
    if op.name == "scheduler" and errno == e.EPERM and op.fields["policy"] == _SCHED_DEADLINE:
        hint += "; process scheduler can't be used together with AllowedCPUs: a deadline needs every processor"
    # masu-launch names the component of a path that it was stuck at: said once when that is the whole.
    detail = "" if detail == obj else detail
    error = KernelError(_SYSCALLS.get(op.name, op.name), obj, errno, detail=detail, where=op.where, hint=hint)
    from masu.runtime import remedies  # loaded by what fails alone

    remedies.look(error, ops, op)
    return error


def signal_words(number: int) -> str:
    """ "SIGSYS, bad system call" for 31."""
    import _signal

    return f"{signals.name(number)}, {(_signal.strsignal(number) or 'unknown signal').lower()}"


def _named_signal(detail: str) -> str:
    """masu-launch knows signals by number: "the hook was killed by signal 31: what it said"."""
    before, found, rest = detail.partition("killed by signal ")
    digits = rest.partition(":")[0]
    if not found or not digits.isdecimal() or len(digits) > 2 or not 1 <= int(digits) <= signals.RTMAX:
        return detail
    return f"{before}{found}{digits} ({signal_words(int(digits))}){rest[len(digits) :]}"


def _explain_program(op: Op, errno: int, detail: str) -> MasuError:
    from masu.runtime import remedies

    if op.name == "exec":
        return _explain_exec(op, errno, detail)
    program = str(op.fields["program"])
    what = f'exec: "{program}"' if program.isprintable() else f"exec: {program!r}"
    if errno == e.ENOENT:
        if "/" in program:
            more = f": {detail}" if detail not in ("", program) else ""
            return ProgramError(
                what,
                errno=errno,
                detail=f"stat {program}: no such file or directory{more}",
                where=op.where,
                hint="the path is looked up inside the container",
            )
        return ProgramError(
            what,
            errno=errno,
            detail="executable file not found in $PATH",
            where=op.where,
            hint="PATH is " + str(op.fields["path"]) if op.fields["path"] else "PATH is not set: add it to process.env",
        )
    if errno in (e.EACCES, e.EISDIR):
        return ProgramError(
            what,
            errno=errno,
            detail="permission denied" + (f": {detail}" if detail and detail != program else ""),
            where=op.where,
            hint=remedies.for_program(detail),
        )
    return ProgramError(what, errno=errno, detail=detail, where=op.where)


def _explain_exec(op: Op, errno: int, detail: str) -> MasuError:
    arguments = op.fields["args"]
    assert isinstance(arguments, tuple)
    what = f"exec {arguments[0]}" if arguments[0].isprintable() else f"exec {arguments[0]!r}"
    said = {e.ENOENT: "no such file or directory", e.EACCES: "permission denied", e.ENOEXEC: "exec format error"}
    text = f"{what}: {said.get(errno, os.strerror(errno))}"
    from masu.runtime import remedies

    hint = remedies.for_program(detail) or _HINTS.get(("exec", errno), "")
    return ProgramError(text, errno=errno, detail=detail, where=op.where, hint=hint)


def unexpected_end(pid: int, ops: list[Op]) -> MasuError:
    """The socket was closed before `ready`: the process died, most often killed for memory."""
    from masu.runtime import remedies

    return remedies.killed_for_memory(ops) or Unavailable(
        "container's first process",
        pid or "",
        detail="it died before it was ready",
        hint="killed by the kernel or by somebody else? see dmesg",
    )


def exit_status(error: BaseException) -> int:
    """127 for a program that is not there, 126 for one that cannot be run, else 0 (the caller's own choice)."""
    if isinstance(error, ProgramError):
        return 127 if error.errno == e.ENOENT else 126
    return 0
