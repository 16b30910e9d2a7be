"""Namespace kinds: the words of the runtime-spec, the flags of clone(2), the files in /proc/PID/ns."""

from __future__ import annotations

import posix as os

from masu.errors import InvalidArgument, KernelError, closest
from masu.linux import _sys

CLONE_FS = 0x00000200  # unshare: root, working directory and umask of one's own
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# The spec's word -> CLONE_NEW* (config-linux.md, "Namespaces").
FLAGS: dict[str, int] = {
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "mount": CLONE_NEWNS,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}

# The spec's word -> name in /proc/PID/ns. Children's kinds (pid_for_children, time_for_children) are not listed.
NS_FILE: dict[str, str] = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}

# linux/proc_ns.h: the inode of the initial user namespace is fixed.
_INITIAL_USER_INODE = 0xEFFFFFFD


def flag(word: str, where: str = "") -> int:
    """The CLONE_NEW* flag of a spec word. Raises InvalidArgument with what is allowed."""
    number = FLAGS.get(word)
    if number is None:
        raise InvalidArgument(
            "namespace type",
            word,
            where=where,
            detail="allowed are " + ", ".join(FLAGS),
            hint=closest(word, tuple(FLAGS)),
        )
    return number


def identity(pid: int | str, word: str) -> tuple[int, int]:
    """(device, inode) of a process's namespace: equal exactly when two processes share it (namespaces(7)).

    `pid` may be "self". Raises KernelError (ENOENT: no such process or kind; EACCES: not ours to look at).
    """
    path = f"/proc/{pid}/ns/{NS_FILE[word]}"
    try:
        facts = os.stat(path)
    except OSError as e:
        raise KernelError("stat", path, e.errno or 0) from e
    return facts.st_dev, facts.st_ino


def is_own(path: str, word: str) -> bool:
    """Whether the namespace file at `path` is of the namespace that the caller is in; False where there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return False
    return (facts.st_dev, facts.st_ino) == identity("self", word)


def members(pid: int, word: str) -> list[int]:
    """The processes that share a namespace with `pid`, as far as we may look at them; none when it is our own."""
    try:
        wanted = identity(pid, word)
    except KernelError:
        return []
    if wanted == identity("self", word):
        return []
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _is_in(name, word, wanted)]


def _is_in(pid: str, word: str, wanted: tuple[int, int]) -> bool:
    try:
        return identity(pid, word) == wanted
    except KernelError:
        return False  # gone, or somebody else's


def differing(pid: int, words: tuple[str, ...] | None = None) -> int:
    """Mask of CLONE_NEW* flags in which `pid` is not where the caller is: what setns(2) on its pidfd must name.

    A joined user namespace equal to one's own would be EINVAL, so equal ones are left out. Kinds that the kernel
    does not have (time before 5.6) are skipped.
    """
    mask = 0
    for word in words or tuple(FLAGS):
        try:
            own = identity("self", word)
        except KernelError:
            continue
        if identity(pid, word) != own:
            mask |= FLAGS[word]
    return mask


def in_initial_user_namespace() -> bool:
    """Whether the caller is in the first user namespace, the only one that may mknod(2) and the like."""
    try:
        return os.stat("/proc/self/ns/user").st_ino == _INITIAL_USER_INODE
    except OSError:
        # A kernel without CONFIG_USER_NS has no such file, and only the one.
        return True


def has_every_id() -> bool:
    """Whether the caller's user namespace maps each id to itself, as the first one does and an engine's may."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read(4096).split() == ["0", "0", str(0xFFFFFFFF)]
    except OSError:
        return True  # a kernel without CONFIG_USER_NS


def kind_of(fd: int) -> int:
    """The CLONE_NEW* flag of an open namespace file: ioctl_ns(2) NS_GET_NSTYPE, Linux 4.11.

    Raises KernelError ENOTTY when the descriptor is not a namespace.
    """
    import fcntl  # an extension of its own; wanted only where a path from the user is checked

    try:
        return fcntl.ioctl(fd, 0xB703)
    except OSError as e:
        raise KernelError("ioctl NS_GET_NSTYPE", fd, e.errno or 0) from e


def join(fd: int, flags: int = 0) -> None:
    """setns(2) for the calling thread. Raises KernelError."""
    try:
        _sys.setns(fd, flags)
    except OSError as e:
        raise KernelError("setns", fd, e.errno or 0) from e


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread. Raises KernelError."""
    try:
        _sys.unshare(flags)
    except OSError as e:
        raise KernelError("unshare", hex(flags), e.errno or 0) from e
