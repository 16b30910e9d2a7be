"""What a monitor needs to do its part: descriptors that it inherits, and its operation in the plan."""

from __future__ import annotations

import os
from _socket import SOCK_STREAM

from masu.isolation import attach
from masu.isolation.stdio import Stdio, open_named
from masu.linux import cgroups
from masu.plan.ops import (
    MONITOR_COPY,
    MONITOR_EPHEMERAL,
    MONITOR_OPEN_STDIN,
    MONITOR_STDIN_ONCE,
    MONITOR_TERMINAL,
    NONE,
    OOM_CONTROL,
    OOM_MEMORY_EVENTS,
    OOM_NONE,
    Op,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


class Plumbing:
    """The fds a monitor inherits; all are closed here once masu-launch has its own."""

    def __init__(self) -> None:
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._open = [self.null]
        self._sockets: list[str] = []
        self.fds: tuple[int, ...] = ()

    def _keep(self, *fds: int) -> None:
        self._open += fds
        self.fds += fds

    def operation(
        self,
        stdio: Stdio,
        *,
        socket_path: str,
        exit_path: str,
        pid_path: str,
        cgroup: cgroups.Cgroup | None = None,
        exit_command: tuple[str, ...] = (),
    ) -> Op:
        listener = attach.listen(socket_path).detach()
        self._keep(listener)
        oom_kind, oom_fd, oom_watch = _open_oom(cgroup) if cgroup is not None else (OOM_NONE, NONE, NONE)
        self._keep(*(fd for fd in (oom_fd, oom_watch) if fd != NONE))
        named = open_named(stdio)
        self._keep(*named.fds)
        flags = MONITOR_TERMINAL if stdio.terminal else 0
        flags |= MONITOR_OPEN_STDIN if stdio.open_stdin else 0
        flags |= MONITOR_STDIN_ONCE if stdio.stdin_once else 0
        flags |= MONITOR_EPHEMERAL if stdio.ephemeral else 0
        flags |= MONITOR_COPY if stdio.is_named else 0
        return Op(
            "monitor",
            flags=flags,
            log_path=stdio.log_path,
            log_max_bytes=stdio.log_max_bytes,
            log_max_files=stdio.log_max_files,
            listen_fd=listener,
            exit_path=exit_path,
            pid_path=pid_path,
            stdin_fd=_or_none(named.stdin),
            stdout_fd=_or_none(named.stdout),
            stderr_fd=_or_none(named.stderr),
            stdin_keep_fd=_or_none(named.stdin_keep),
            oom_fd=oom_fd,
            oom_kind=oom_kind,
            oom_watch_fd=oom_watch,
            kill_path=_kill_file(cgroup) if cgroup is not None else "",
            cgroups=tuple(cgroup.paths().values()) if cgroup is not None else (),
            exit_command=exit_command,
            leave=ways_out(),
            logger=named.logger,
            logger_env=named.logger_env,
        )

    def console(self) -> tuple[int, list[str]]:
        """A socket to which another runtime sends a terminal's master, and the flag that names it. The path has to be
        short (unix(7)), so it is none of the container's directory."""
        path = f"/run/masu-{os.urandom(6).hex()}.sock"
        fd = attach.listen(path, SOCK_STREAM).detach()
        self._sockets.append(path)
        self._keep(fd)
        return fd, ["--console-socket", path]

    def first(self, then: Callable[[T], None] | None) -> Callable[[T], None]:
        """`then`, after our copies are closed: who attaches to a monitor could not see it die while somebody else holds
        the socket that it listens at."""

        def closed(value: T) -> None:
            self._close_fds()
            if then is not None:
                then(value)

        return closed

    def _close_fds(self) -> None:
        for fd in self._open:
            os.close(fd)
        self._open = []

    def close(self) -> None:
        self._close_fds()
        for path in self._sockets:
            os.unlink(path)
        self._sockets = []


def _or_none(fd: int) -> int:
    return NONE if fd < 0 else fd


def _open_oom(cgroup: cgroups.Cgroup) -> tuple[int, int, int]:
    """(kind, the file whose line `oom_kill N` tells how many processes died for memory, an eventfd that wakes for it
    or NONE). See OOM_CONTROL and OOM_MEMORY_EVENTS."""
    path = cgroup.path("memory")
    if path is None:
        return OOM_NONE, NONE, NONE
    kind = OOM_MEMORY_EVENTS if cgroup.mode == "v2" else OOM_CONTROL
    name = "memory.events" if kind == OOM_MEMORY_EVENTS else "memory.oom_control"
    try:
        counter = os.open(f"{path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return OOM_NONE, NONE, NONE
    return kind, counter, _register_eventfd(path, counter) if kind == OOM_CONTROL else NONE


def _register_eventfd(path: str, counter: int) -> int:
    """An eventfd that the kernel counts up when memory is short (memcg v1, "OOM Control"); NONE where it refuses."""
    watch = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(path + "/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(control, b"%d %d" % (watch, counter))
        finally:
            os.close(control)
    except OSError:
        os.close(watch)
        return NONE
    return watch


def _kill_file(cgroup: cgroups.Cgroup) -> str:
    path = f"{cgroup.path()}/cgroup.kill"
    return path if cgroup.path() and os.path.exists(path) else ""


def ways_out() -> tuple[str, ...]:
    """Files that take the monitor out of its caller's cgroup, where a service manager would kill it with the caller.

    None where it is at the top already: for each process that moves, the kernel waits until no processor is in a
    fork (cgroup_attach_lock, ten milliseconds), but for a thread by itself by way of v1's `tasks`.
    """
    layout = cgroups.detect()
    found = []
    for name, file in (("", "cgroup.procs"), ("name=systemd", "tasks")):
        mount = layout.hierarchies().get(name)
        if mount is not None and layout.own_directory(name) != mount.path:
            found.append(f"{mount.path}/{file}")
    return tuple(found)
