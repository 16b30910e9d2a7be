"""What a running container uses, and what runs in it."""

from __future__ import annotations

import os
import time

from masu.engine import states
from masu.errors import FailedPrecondition, MasuError, NotFound
from masu.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.engine import Engine
    from masu.engine.records import Record
    from masu.engine.states import State
    from masu.linux.cgroups.stats import Stats

_UNLIMITED = 1 << 60  # v1 writes LONG_MAX rounded to pages, v2 "max"
_MAX_PROCESSES = 100_000


class Usage:
    """One look, in bytes, nanoseconds and counts; None where this machine does not count it.

    `memory` is what cannot be taken back (usage without inactive file pages, as docker stats shows it).
    """

    __slots__ = (
        "at_ns",
        "block_read",
        "block_write",
        "cpu_ns",
        "memory",
        "memory_limit",
        "net_in",
        "net_out",
        "pids",
        "raw",
    )

    def __init__(self, raw: Stats, pid: int, machine_memory: int) -> None:
        self.at_ns = time.monotonic_ns()
        self.raw = raw
        self.cpu_ns = raw.cpu.total_ns if raw.cpu else None
        self.pids = raw.pids.current if raw.pids else None
        self.memory: int | None = None
        self.memory_limit = machine_memory
        if raw.memory:
            inactive = raw.memory.raw.get("total_inactive_file", raw.memory.raw.get("inactive_file", 0))
            self.memory = max(raw.memory.usage.usage - inactive, 0)
            if raw.memory.usage.limit < _UNLIMITED:
                self.memory_limit = min(raw.memory.usage.limit, machine_memory)
        self.block_read = self.block_write = None
        if raw.io:
            self.block_read = sum(e.value for e in raw.io.io_service_bytes if e.op.lower() == "read")
            self.block_write = sum(e.value for e in raw.io.io_service_bytes if e.op.lower() == "write")
        self.net_in, self.net_out = _network(pid)


def measure(state: State) -> Usage:
    """Raises FailedPrecondition when the container does not run."""
    if not state.is_up or state.container is None:
        raise FailedPrecondition("container", detail="is not running")
    return Usage(state.container.cgroup.stats(), state.pid, _machine_memory())


def cpu_percent(before: Usage, after: Usage) -> float | None:
    """Of one processor, so two busy ones are 200 %."""
    if before.cpu_ns is None or after.cpu_ns is None or after.at_ns <= before.at_ns:
        return None
    return max(after.cpu_ns - before.cpu_ns, 0) / (after.at_ns - before.at_ns) * 100


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _network(pid: int) -> tuple[int | None, int | None]:
    """Bytes received and sent by the interfaces of the process's network namespace, loopback left out."""
    try:
        text = procfs.read(pid, "net/dev")
    except MasuError:
        return None, None
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        if name.strip() != "lo" and len(words) >= 9:
            received += int(words[0])
            sent += int(words[8])
    return received, sent


class Process:
    """A line of `top`."""

    __slots__ = ("command", "cpu_seconds", "pid", "ppid", "start_ns", "tty", "uid")

    def __init__(self, stat: procfs.Stat, uid: int, command: str, boot_ns: int) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        self.pid = stat.pid
        self.ppid = stat.ppid
        self.uid = uid
        self.cpu_seconds = (stat.utime + stat.stime) // ticks
        self.start_ns = boot_ns + stat.start_time * 1_000_000_000 // ticks
        self.tty = stat.tty
        self.command = command


def pids(engine: Engine, record: Record) -> list[int]:
    """The pids, as this machine sees them, of all processes of a container. Raises FailedPrecondition."""
    state = states.look(engine, record)
    if not state.is_up or state.container is None:
        raise FailedPrecondition("container", record.name, detail="is not running")
    return sorted(state.container.cgroup.pids())[:_MAX_PROCESSES]


def processes(engine: Engine, record: Record) -> list[Process]:
    """All processes of a container. Raises FailedPrecondition when it does not run."""
    boot_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    found: list[Process] = []
    for pid in pids(engine, record):
        try:
            stat = procfs.stat(pid)
            words = procfs.cmdline(pid)
            uid = procfs.status_uids(pid)[1]
        except (NotFound, MasuError):
            continue  # gone meanwhile
        # the words are the container's: nothing of them may act on a terminal
        command = " ".join(words) if words else f"[{stat.comm}]"
        shown = "".join(c if c.isprintable() else "?" for c in command)
        found.append(Process(stat, uid, shown, boot_ns))
    return found
