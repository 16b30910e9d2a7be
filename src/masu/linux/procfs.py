"""Facts about processes, read from /proc (proc(5)).

A pid alone names nobody: it is given anew when its process is gone. The pair (pid, start time) is a process for as
long as the machine runs, and with the boot id for ever.
"""

from __future__ import annotations

import posix as os

from masu.errors import KernelError, NotFound

# Bounds: the longest that the kernel writes is far below.
_LIMIT_BYTES = 1 << 16
_LONG_LIMIT_BYTES = 4 << 20

_ABSENT = (2, 3)  # ENOENT: no such process; ESRCH: it went while we read

_PF_EXITING = 0x4  # of the flags in /proc/PID/stat (include/linux/sched.h)

_boot_id = ""


class Stat:
    """/proc/PID/stat. Times are in clock ticks (sysconf _SC_CLK_TCK), `start_time` since boot.

    `state` is one letter: R running, S sleeping, D in the kernel, T stopped, t traced, Z zombie, X dead. `exiting`
    is set from the first step of its end, when it still looks alive but loses its root and its namespaces.
    """

    __slots__ = (
        "comm",
        "exiting",
        "pgrp",
        "pid",
        "ppid",
        "rss_pages",
        "session",
        "start_time",
        "state",
        "stime",
        "threads",
        "tty",
        "utime",
        "vsize_bytes",
    )

    def __init__(self, text: str) -> None:
        # comm may hold anything, ") R 1" too; the last parenthesis ends it.
        head, _, rest = text.rpartition(")")
        pid, _, comm = head.partition("(")
        words = rest.split()
        if len(words) < 22:
            raise ValueError(text)
        self.pid = int(pid)
        self.comm = comm
        self.state = words[0]
        self.ppid = int(words[1])
        self.pgrp = int(words[2])
        self.session = int(words[3])
        self.tty = int(words[4])
        self.exiting = bool(int(words[6]) & _PF_EXITING)
        self.utime = int(words[11])
        self.stime = int(words[12])
        self.threads = int(words[17])
        self.start_time = int(words[19])
        self.vsize_bytes = int(words[20])
        self.rss_pages = int(words[21])

    @property
    def is_ending(self) -> bool:
        """Whether it is on its way out, or a zombie."""
        return self.exiting or self.state in "ZX"


class Identity:
    """One process of this boot: (pid, start time)."""

    __slots__ = ("pid", "start_time")

    def __init__(self, pid: int, start_time: int) -> None:
        self.pid = pid
        self.start_time = start_time

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and (self.pid, self.start_time) == (other.pid, other.start_time)

    def __hash__(self) -> int:
        return hash((self.pid, self.start_time))

    def __repr__(self) -> str:
        return f"Identity({self.pid}, {self.start_time})"

    def is_running(self) -> bool:
        """Whether this very process is there and is no zombie."""
        try:
            seen = stat(self.pid)
        except NotFound:
            return False
        return seen.start_time == self.start_time and seen.state not in "ZX"


def read(pid: int | str, name: str, limit_bytes: int = _LIMIT_BYTES) -> str:
    """The text of /proc/PID/NAME. Raises NotFound when the process is gone, KernelError otherwise."""
    path = f"/proc/{pid}/{name}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            chunks = []
            while limit_bytes > 0 and (chunk := os.read(fd, min(limit_bytes, 1 << 16))):
                chunks.append(chunk)
                limit_bytes -= len(chunk)
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno in _ABSENT and not os.access(f"/proc/{pid}/stat", os.F_OK):
            raise NotFound("process", pid) from e
        raise KernelError("read", path, e.errno or 0) from e
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def stat(pid: int | str = "self") -> Stat:
    """Raises NotFound when there is no such process."""
    try:
        return Stat(read(pid, "stat"))
    except ValueError as e:
        raise KernelError("read", f"/proc/{pid}/stat", detail="not understood") from e


def start_time(pid: int) -> int:
    """In clock ticks since boot. Raises NotFound."""
    return stat(pid).start_time


def is_alive(pid: int, start_time: int) -> bool:
    """Whether this very process is there; a zombie is not."""
    return Identity(pid, start_time).is_running()


def is_ending(pid: int, start_time: int) -> bool:
    """Whether this very process is gone or on its way out."""
    try:
        seen = stat(pid)
    except NotFound:
        return True
    return seen.start_time != start_time or seen.is_ending


def identity(pid: int) -> Identity:
    """Raises NotFound."""
    return Identity(pid, stat(pid).start_time)


def is_zombie(pid: int) -> bool:
    """Whether it has ended and waits to be reaped. Raises NotFound."""
    return stat(pid).state in "ZX"


def boot_id() -> str:
    """A UUID, new with every boot: what makes start times comparable. Read once."""
    global _boot_id
    if not _boot_id:
        _boot_id = read("sys", "kernel/random/boot_id", 64).strip()
    return _boot_id


def status(pid: int | str = "self") -> dict[str, str]:
    """/proc/PID/status as a dict; a newline in the name is escaped by the kernel. Raises NotFound."""
    found = {}
    for line in read(pid, "status").split("\n"):
        key, colon, value = line.partition(":")
        if colon:
            found[key] = value.strip()
    return found


def status_uids(pid: int | str = "self") -> tuple[int, int, int, int]:
    """(real, effective, saved, file system) user ids. Raises NotFound."""
    return _four(status(pid).get("Uid", ""), pid)


def status_gids(pid: int | str = "self") -> tuple[int, int, int, int]:
    """(real, effective, saved, file system) group ids. Raises NotFound."""
    return _four(status(pid).get("Gid", ""), pid)


def _four(text: str, pid: int | str) -> tuple[int, int, int, int]:
    words = text.split()
    if len(words) != 4:
        raise KernelError("read", f"/proc/{pid}/status", detail="not understood")
    real, effective, saved, fs = (int(word) for word in words)
    return real, effective, saved, fs


def children(pid: int | str = "self") -> list[int]:
    """Direct children of all its threads, those not yet reaped among them. Exact only for a process that does not
    fork meanwhile, such as a frozen one (proc_pid_task_tid_children(5)). Raises NotFound."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError as e:
        if e.errno in _ABSENT:
            raise NotFound("process", pid) from e
        raise KernelError("listdir", f"/proc/{pid}/task", e.errno or 0) from e
    found = []
    for thread in threads:
        try:
            found += [int(word) for word in read(pid, f"task/{thread}/children", _LONG_LIMIT_BYTES).split()]
        except NotFound:
            raise
        except KernelError as e:
            if e.errno not in _ABSENT:  # a thread that ended
                raise
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, parents first."""
    found = children(pid)
    for child in found:  # grows while we walk
        try:
            found += children(child)
        except NotFound:
            continue
    return found


def stdio(pid: int | str = "self") -> list[str]:
    """What a process has as 0, 1 and 2, "" for one that is closed: what the link says ("pipe:[7]"), but for regular
    files and memory devices, whose paths mean nothing in another mount namespace, "file[mount id:inode]" in
    hexadecimal, as CRIU names them. Raises NotFound, KernelError."""
    names = []
    for number in range(3):
        link = f"/proc/{pid}/fd/{number}"
        try:
            name, facts = os.readlink(link), os.stat(link)
        except FileNotFoundError:
            names.append("")
            continue
        except OSError as e:
            raise KernelError("readlink", link, e.errno or 0) from e
        kind = facts.st_mode & 0o170000
        if kind == 0o100000 or (kind == 0o020000 and os.major(facts.st_rdev) == 1):
            _, found, rest = read(pid, f"fdinfo/{number}").partition("mnt_id:")
            mount_id = rest.split("\n", 1)[0].strip() if found else "0"
            name = f"file[{int(mount_id):x}:{facts.st_ino:x}]"
        names.append(name)
    return names


def cgroup_membership(pid: int | str = "self") -> dict[str, str]:
    """/proc/PID/cgroup: controller -> path below that hierarchy's mount; "" is the v2 hierarchy, "name=systemd" and
    the like are v1 hierarchies without a controller (cgroups(7)). Raises NotFound."""
    return parse_cgroup(read(pid, "cgroup"))


def parse_cgroup(text: str) -> dict[str, str]:
    found = {}
    for line in text.split("\n"):
        _, colon, rest = line.partition(":")
        controllers, second, path = rest.partition(":")
        if colon and second:
            for controller in controllers.split(","):
                found[controller] = path
    return found


def cmdline(pid: int | str) -> list[str]:
    """The arguments, [] for a zombie or a kernel thread. Bounded. Raises NotFound."""
    text = read(pid, "cmdline", _LONG_LIMIT_BYTES)
    return text.removesuffix("\0").split("\0") if text else []


def pids() -> list[int]:
    """All processes of this PID namespace, as /proc lists them."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
