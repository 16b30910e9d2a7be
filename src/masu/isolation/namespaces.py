"""The engine's containers in Linux namespaces: `runtime` makes them, masu-launch stays beside each as its monitor.

    <run root>/<id>/     the runtime's own directory (state.json, lock …) and the monitor's socket, attach.sock
    <exit path>          one JSON line, written by the monitor when the container has ended

Everything here can be done by one process and continued by another; nothing is kept in memory.
"""

from __future__ import annotations

import errno
import os

from masu.errors import InvalidArgument, KernelError, MasuError, NotFound, Unavailable
from masu.linux import cgroups, fds, pidfd, procfs
from masu.plan.host import Rootfs
from masu.runtime import delete
from masu.runtime.container import Container
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.isolation.monitors import Plumbing
    from masu.isolation.stdio import Stdio
    from masu.plan.ops import Op
    from masu.runtime.bundle import Bundle
    from masu.runtime.criu.options import CriuOptions
    from masu.spec.runtime import Process

_MAX_EXIT_BYTES = 4096
_KILL_DEADLINE_S = 5.0
_LITTLE_MEMORY_BYTES = 4 << 20
_MONITOR_COMM = "masu:[monitor]"  # as native/launch/monitor.c calls itself


class Exit:
    """How a process ended: `status` as a shell shows it, `oom` when the kernel killed for memory, RFC 3339 time."""

    __slots__ = ("exited_at", "oom", "reason", "signal", "status")

    def __init__(
        self, status: int, *, signal: int = 0, oom: bool = False, exited_at: str = "", reason: str = ""
    ) -> None:
        self.status = status
        self.signal = signal
        self.oom = oom
        self.exited_at = exited_at
        self.reason = reason

    def to_json(self) -> dict[str, object]:
        """As the monitor writes it."""
        return {
            "status": self.status,
            "signal": self.signal,
            "oom": self.oom,
            "exited_at": self.exited_at,
            **({"reason": self.reason} if self.reason else {}),
        }


class Request:
    """What is to be run. `config` is a complete config.json, or `bundle` has one that was read; `exit_command` is what
    the monitor runs after the end when nobody who was attached promised to clean up; `on_ready` runs before the program
    may (attach there); `detached` mounts what `rootfs` tells of, in no namespace, for a restore, and returns its
    descriptor; `cgroup_manager`, `no_new_keyring` and `no_pivot` are as in `runtime.create.Options`."""

    __slots__ = (
        "bundle",
        "cgroup_manager",
        "config",
        "detached",
        "exit_command",
        "exit_path",
        "gate",
        "id",
        "init",
        "no_new_keyring",
        "no_pivot",
        "on_ready",
        "rootfs",
        "seccomp_cache",
        "stdio",
    )

    def __init__(
        self,
        id: str,
        *,
        rootfs: Rootfs,
        stdio: Stdio,
        exit_path: str,
        config: dict[str, object] | None = None,
        bundle: Bundle | None = None,
        cgroup_manager: str = "cgroupfs",
        detached: Callable[[], int] | None = None,
        exit_command: tuple[str, ...] = (),
        gate: bool = False,
        init: bool = False,
        no_new_keyring: bool = False,
        no_pivot: bool = False,
        on_ready: Callable[[Container], None] | None = None,
        seccomp_cache: str = "",
    ) -> None:
        self.id = id
        self.bundle = bundle
        self.cgroup_manager = cgroup_manager
        self.config = config
        self.detached = detached
        self.no_new_keyring = no_new_keyring
        self.no_pivot = no_pivot
        self.rootfs = rootfs
        self.stdio = stdio
        self.exit_path = exit_path
        self.exit_command = exit_command
        self.gate = gate
        self.init = init
        self.on_ready = on_ready
        self.seccomp_cache = seccomp_cache


def run(run_root: str, request: Request) -> tuple[Container, list[str]]:
    """Makes and starts a container (with `gate` it waits for `runtime.start`); the container and warnings.

    Returns when the program runs. Raises what kept it from running; then nothing of it is left.
    """
    # Thirty modules, which whoever lists containers does without.
    from masu.isolation.monitors import Plumbing
    from masu.runtime import create

    bundle = request.bundle or bundle_of(request)
    plumbing = Plumbing()
    try:
        options = create.Options(
            cgroup_manager=request.cgroup_manager,
            gate=request.gate,
            init=request.init,
            no_new_keyring=request.no_new_keyring,
            no_pivot=request.no_pivot,
            monitor=lambda container: _monitor(plumbing, container, request),
            on_ready=plumbing.first(request.on_ready),
            rootfs=request.rootfs,
            seccomp_cache=request.seccomp_cache,
            stdio=(plumbing.null, plumbing.null, plumbing.null),
        )
        created = create.create(run_root, request.id, bundle, options)
    except Unavailable as error:
        _suspect_memory(error, bundle)
        raise
    finally:
        plumbing.close()
    try:
        # With a gate: until the process waits there, and the monitor knows that from now on an end is the container's.
        created.launched.wait_running()
    except BaseException as error:
        created.launched.reap()
        try:
            delete.delete(created.container, force=True)
        except MasuError as failure:
            if isinstance(error, MasuError):
                error.cleanup.append(failure)
        raise
    created.launched.close()
    return created.container, created.warnings


def _suspect_memory(error: Unavailable, bundle: Bundle) -> None:
    # The monitor has removed the cgroup, and with it the count of what was killed in it.
    linux = bundle.config.linux
    memory = linux.resources.memory if linux is not None and linux.resources is not None else None
    if memory is not None and memory.limit is not None and 0 < memory.limit < _LITTLE_MEMORY_BYTES:
        error.where = "linux.resources.memory.limit"
        error.hint = f"the limit is {memory.limit} bytes, and the start alone needs about one MB"


def restore(run_root: str, request: Request, criu: CriuOptions) -> tuple[Container, list[str]]:
    """As `run`, out of a checkpoint, and without a gate: it runs as soon as it is there."""
    from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

    from masu.isolation.monitors import Plumbing
    from masu.plan.ops import NONE
    from masu.runtime import restore as runtime_restore

    bundle = request.bundle or bundle_of(request)
    plumbing = Plumbing()
    console, listener, tree = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC), NONE, -1
    try:
        if request.rootfs.mount is not None:
            assert request.detached is not None
            tree = request.detached()
        if request.stdio.terminal:
            listener, (_, path) = plumbing.console()
            console.connect(path)
        options = runtime_restore.RestoreOptions(
            criu,
            cgroup_manager=request.cgroup_manager,
            console_fd=console.fileno() if request.stdio.terminal else None,
            listener_fd=listener,
            monitor=lambda container: _monitor(plumbing, container, request),
            on_ready=plumbing.first(request.on_ready),
            stdio=(plumbing.null, plumbing.null, plumbing.null),
            tree=tree,
        )
        restored = runtime_restore.restore(run_root, request.id, bundle, options)
    finally:
        if tree >= 0:
            os.close(tree)
        console.close()
        plumbing.close()
    restored.close()
    return restored.container, restored.warnings


def bundle_of(request: Request) -> Bundle:
    """Of its `config`. Raises InvalidArgument."""
    from masu.runtime import bundle as bundles

    text = jsontext.dumps(request.config).encode()
    warnings: list[str] = []
    return bundles.Bundle(request.rootfs.path, text, bundles.parse_config(text, warnings), warnings)


def start_exec(
    container: Container,
    process: Process,
    stdio: Stdio,
    *,
    directory: str,
    seccomp_cache: str = "",
    on_ready: Callable[[int], None] | None = None,
) -> list[str]:
    """One more process in a running container, with a monitor of its own; its socket and exit file are in
    `directory`; `on_ready` gets its pid before it may run. Returns warnings when the program runs."""
    from masu.isolation.monitors import Plumbing
    from masu.runtime import execute

    plumbing = Plumbing()
    warnings: list[str] = []
    try:
        op = plumbing.operation(
            stdio,
            socket_path=directory + "/attach.sock",
            exit_path=directory + "/exit",
            pid_path=directory + "/pid",
        )
        options = execute.ExecOptions(
            monitor=op,
            monitor_fds=plumbing.fds,
            on_ready=plumbing.first(on_ready),
            seccomp_cache=seccomp_cache,
            stdio=(plumbing.null, plumbing.null, plumbing.null),
        )
        execute.execute(container, process, options, warnings).close()
    finally:
        plumbing.close()
    return warnings


def socket_path(container: Container) -> str:
    """Where the container's monitor listens."""
    return container.directory + "/attach.sock"


def hold_stdin(container: Container) -> None:
    """From now on stdin does not end with whoever writes to its FIFO (`Stdio.hold_stdin` False); returns when it is so,
    or when there is no monitor any more."""
    from masu.isolation.attach import Attachment

    try:
        with Attachment.connect(socket_path(container), 0) as monitor:
            monitor.wait_attached()
            monitor.hold_stdin()
    except (NotFound, Unavailable, OSError):
        pass  # it has just ended, and its container with it; or it is of before, and holds it from the beginning


def has_lost_monitor(container: Container) -> bool:
    """Whether the container's monitor is known to be dead. It notes itself beside the container's first process."""
    noted = read_noted(container.directory)
    return len(noted) > 1 and not procfs.is_alive(*noted[1])


def was_undone(container: Container) -> bool:
    """Whether a start that came to nothing was undone by its monitor: it has taken back the note of itself."""
    return len(read_noted(container.directory)) < 2


def read_noted(directory: str) -> list[tuple[int, int]]:
    """(pid, start time) of a first process and of its monitor, as that has noted them in `directory`/pid; [] when it
    has not yet, or no longer."""
    try:
        lines = fds.read_bounded(directory + "/pid", 256).split(b"\n")
        return [(int(pid), int(start_time)) for pid, start_time in (line.split() for line in lines[:2])]
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []


def end_orphan(container: Container) -> None:
    """Kills all of a container that has lost its monitor, and waits for the end of its first process."""
    fd = container.open_pidfd()
    try:
        if container.facts.cgroup_paths:
            container.cgroup.kill()
        if fd is not None:
            if not container.facts.cgroup_paths:
                pidfd.send_signal(fd, 9)
            pidfd.wait_exited(fd, _KILL_DEADLINE_S)
    except ProcessLookupError:
        pass
    finally:
        if fd is not None:
            os.close(fd)


def end_remains(cgroups_path: str, id: str) -> None:
    """Kills what still runs of a container of which nothing but its cgroups is known, and removes these."""
    paths = cgroups.predict(cgroups_path, id)
    remains = cgroups.Cgroup({name: path for name, path in paths.items() if os.path.isdir(path)})
    if not remains.exists():
        return
    monitors = _monitors_of(remains.pids())
    try:
        remains.kill()
        # Each of them removes the cgroups when its process has ended: not those of a container that comes next.
        for fd in monitors:
            pidfd.wait_exited(fd, _KILL_DEADLINE_S)
        remains.delete(_KILL_DEADLINE_S)
    finally:
        for fd in monitors:
            os.close(fd)


def _monitors_of(pids: list[int]) -> list[int]:
    """Pidfds of the monitors whose children these are."""
    found = []
    for pid in pids:
        try:
            who = procfs.stat(procfs.stat(pid).ppid)
        except NotFound:
            continue
        if who.comm == _MONITOR_COMM and (fd := pidfd.open_checked(who.pid, who.start_time)) is not None:
            found.append(fd)
    return found


def read_exit(path: str) -> Exit | None:
    """What the monitor wrote at the end, None when it has not (yet), or when the disk has lost it."""
    try:
        data = jsontext.loads(fds.read_bounded(path, _MAX_EXIT_BYTES), name=path)
        if not isinstance(data, dict) or not isinstance(data["status"], int):
            return None
        return Exit(
            data["status"],
            signal=data["signal"],
            oom=data["oom"],
            exited_at=data["exited_at"],
            reason=data.get("reason", ""),
        )
    except (FileNotFoundError, InvalidArgument, KeyError):
        return None


def write_lost(path: str, exited_at: str) -> Exit:
    """Records the end of a container whose monitor was killed: status 255, reason "monitor lost". On a full disk that
    is not on record until somebody looks when there is room again."""
    lost = Exit(255, exited_at=exited_at, reason="monitor lost")
    try:
        write_exit(path, lost)
    except KernelError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    return lost


def write_exit(path: str, how: Exit) -> None:
    """An end that no monitor has seen."""
    fds.atomic_write(path, jsontext.dumps(how.to_json()).encode() + b"\n", 0o600)


def _monitor(plumbing: Plumbing, container: Container, request: Request) -> tuple[Op, tuple[int, ...]]:
    op = plumbing.operation(
        request.stdio,
        socket_path=socket_path(container),
        exit_path=request.exit_path,
        pid_path=container.directory + "/pid",
        cgroup=container.cgroup if container.facts.cgroup_paths else None,
        exit_command=request.exit_command,
    )
    return op, plumbing.fds
