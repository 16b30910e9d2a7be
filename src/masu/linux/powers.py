"""What a process may do, as far as /proc can tell.

Two processes with the same powers can stand in for each other: same namespaces and root directory, so that every path
and pid means the same; same ids, groups, capabilities and security label, so that the kernel answers both alike. What
/proc does not show (Landlock domains) is for ptrace(2)'s access check to tell: who can read another's descriptors here
and be read has no less and no more than that.
"""

from __future__ import annotations

import os

from masu.linux import _sys

# Also those of children to come: unshare(2) has set them apart.
_SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts")
_LINES = (
    b"Uid", b"Gid", b"Groups", b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb", b"NoNewPrivs", b"Seccomp",
    b"Seccomp_filters",
)  # fmt: skip
_LABELS = ("attr/current", "attr/exec")
_LIMIT_BYTES = 1 << 16


TYPE_CHECKING = False
if TYPE_CHECKING:
    Powers = dict[str, bytes | str | tuple[int, ...]]


def status(proc: int) -> dict[bytes, bytes]:
    """What /proc/PID/status says, by name; `proc` is the open directory /proc/PID. Raises OSError when it is gone."""
    lines = (line.partition(b":") for line in _read(proc, "status").split(b"\n"))
    return {name: value.strip() for name, _, value in lines}


def of(proc: int, said: dict[bytes, bytes]) -> Powers:
    """The powers of a process by name; `proc` is its open directory /proc/PID, `said` its status.

    Raises OSError when it is gone, or not ours to look at.
    """
    found: Powers = {}
    for name in _SPACES:
        found[name] = os.readlink("ns/" + name, dir_fd=proc)
    root = os.stat("root", dir_fd=proc)
    # A bind mount of the same directory elsewhere is not the same place: other mounts lie on it.
    found["root"] = (root.st_dev, root.st_ino, _sys.mount_of(proc, "root", 0)[0])
    for line in _LINES:
        if line in said:
            found[line.decode()] = said[line]
    for name in _LABELS:
        try:
            found[name] = _read(proc, name)
        except OSError:
            found[name] = b""  # no security module
    return found


def difference(one: Powers, two: Powers) -> str:
    """The name of a power that both do not have alike, "" when there is none. No seccomp filter is like another."""
    for name, value in one.items():
        if two.get(name) != value:
            return name
    return "" if one.get("Seccomp") == b"0" and len(one) == len(two) else "Seccomp"


def _read(proc: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return os.read(fd, _LIMIT_BYTES)
    finally:
        os.close(fd)
