"""Being told when the memory limit kills.

v1: an eventfd registered in cgroup.event_control with a descriptor of memory.oom_control; readable after each OOM,
and when the cgroup is removed (Documentation/admin-guide/cgroup-v1/memory.rst, section 9).
v2: memory.events wakes poll(2) with POLLPRI when one of its counters moves.
"""

from __future__ import annotations

import errno
import os
import select

from masu.errors import FailedPrecondition, KernelError
from masu.linux.cgroups.files import read, read_fd
from masu.linux.cgroups.freezer import GONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.cgroups.group import Cgroup


class OomWatch:
    """`fd` is ready for `poll_events` (POLLIN on v1, POLLPRI on v2) when there may be news; then call `news`.

    Owns its descriptors: `close()`, or use it in a `with`.
    """

    __slots__ = ("_control", "_kills", "_source", "fd", "poll_events", "version")

    def __init__(self, version: int, fd: int, source: int, control: int) -> None:
        self.version = version
        self.fd = fd
        self.poll_events = select.POLLIN if version == 1 else select.POLLPRI
        self._source = source
        self._control = control
        self._kills = _count(read_fd(source))

    def __enter__(self) -> OomWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def news(self) -> int:
        """How many processes were killed since the last call (0: an OOM without a kill, or the cgroup's end)."""
        if self.version == 1:
            try:
                os.read(self.fd, 8)
            except BlockingIOError:
                pass
        try:
            kills = _count(read_fd(self._source))
        except OSError as e:
            if e.errno in GONE:
                return 0
            raise KernelError("read", "memory.events", e.errno or 0) from e
        new, self._kills = kills - self._kills, kills
        return new

    def wait(self, deadline_s: float) -> bool:
        """Wait for `fd`; False at the deadline."""
        poller = select.poll()
        poller.register(self.fd, self.poll_events)
        return bool(poller.poll(deadline_s * 1000))

    def close(self) -> None:
        for fd in {self.fd, self._source, self._control} - {-1}:
            os.close(fd)
        self.fd = self._source = self._control = -1


def watch(group: Cgroup) -> OomWatch:
    """Raises FailedPrecondition without a memory cgroup, KernelError."""
    path = group.path("memory")
    if path is None:
        raise FailedPrecondition("memory cgroup", detail="the container has none: nothing tells of an OOM kill")
    file = "memory.events" if group.mode == "v2" else "memory.oom_control"
    opened: list[int] = []
    try:
        source = os.open(f"{path}/{file}", os.O_RDONLY | os.O_CLOEXEC)
        opened.append(source)
        if group.mode == "v2":
            return OomWatch(2, source, source, -1)
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        opened.append(fd)
        control = os.open(f"{path}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        opened.append(control)
        os.write(control, f"{fd} {source}".encode())
        return OomWatch(1, fd, source, control)
    except OSError as e:
        for each in opened:
            os.close(each)
        hint = ""
        if e.errno == errno.ENOENT and os.path.isdir(path):
            hint = "the memory controller is not passed on to this cgroup"
        raise KernelError("open", f"{path}/{file}", e.errno or 0, hint=hint) from e


def kills(group: Cgroup) -> int | None:
    path = group.path("memory")
    if path is None:
        return None
    file = "memory.events" if group.mode == "v2" else "memory.oom_control"
    try:
        return _count(read(None, f"{path}/{file}"))
    except OSError as e:
        if e.errno in GONE:
            return None
        raise KernelError("read", f"{path}/{file}", e.errno or 0) from e


def _count(text: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0
