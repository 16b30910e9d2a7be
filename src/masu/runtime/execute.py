"""`exec`: one more process in a container that is there."""

from __future__ import annotations

import os
from errno import EAGAIN

from masu.errors import FailedPrecondition, KernelError, MasuError
from masu.linux import namespaces
from masu.plan import build as plan_build
from masu.plan.host import Wishes
from masu.runtime import facts as machine
from masu.runtime import handover, lifecycle
from masu.runtime.container import Container
from masu.runtime.create import compile_seccomp, home_of, write_pid_file
from masu.runtime.launch import INHERIT, Answers, Launched, launch
from masu.runtime.placing import move_in, resctrl_ways_in, ways_in
from masu.spec import runtime as spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.linux.cgroups import Cgroup
    from masu.plan.ops import Op
    from masu.spec.runtime import Config, Process


class ExecOptions:
    """`cgroups` are places below the container's own, as of runc's --cgroup; `on_ready` is called with the pid before
    the program may run; the rest as in `create.Options`."""

    __slots__ = (
        "cgroups", "console_fd", "ignore_paused", "monitor", "monitor_fds", "no_new_keyring",
        "on_plan", "on_ready", "on_step", "pid_file", "pidfd_socket", "preserve_fds", "seccomp_cache", "stdio",
    )  # fmt: skip

    def __init__(
        self,
        *,
        cgroups: tuple[str, ...] = (),
        console_fd: int | None = None,
        ignore_paused: bool = False,
        monitor: Op | None = None,
        monitor_fds: tuple[int, ...] = (),
        no_new_keyring: bool = False,
        on_plan: Callable[[list[Op]], None] | None = None,
        on_step: Callable[[str], None] | None = None,
        on_ready: Callable[[int], None] | None = None,
        pid_file: str = "",
        pidfd_socket: str = "",
        preserve_fds: int = 0,
        seccomp_cache: str = "",
        stdio: tuple[int, int, int] = INHERIT,
    ) -> None:
        self.cgroups = cgroups
        self.console_fd = console_fd
        self.ignore_paused = ignore_paused
        self.monitor = monitor
        self.monitor_fds = monitor_fds
        self.no_new_keyring = no_new_keyring
        self.on_plan = on_plan
        self.on_step = on_step
        self.on_ready = on_ready
        self.pid_file = pid_file
        self.pidfd_socket = pidfd_socket
        self.preserve_fds = preserve_fds
        self.seccomp_cache = seccomp_cache
        self.stdio = stdio


def execute(container: Container, process: Process, options: ExecOptions, warnings: list[str]) -> Launched:
    """Starts `process` in the container; returns when its program runs. The caller closes what is returned.

    Raises FailedPrecondition when the container has stopped or is paused, and what keeps the program from running.
    """
    status = container.status()
    if not (status == lifecycle.PAUSED and options.ignore_paused):
        lifecycle.require("exec", status, container.id)
    target = container.open_pidfd()
    if target is None:
        raise _stopped(container)
    try:
        config = container.config()
        extras = spec.extras_of(config)
        join = namespaces.differing(container.facts.pid)
        whole = container.cgroup
        cgroup = whole.sub(options.cgroups) if options.cgroups else whole.for_exec(container.facts.pid)
        mapped = bool(join & namespaces.FLAGS["user"])
        joins, cgroup_dir = ways_in(cgroup, mapped=mapped)
        brought = container.facts.unit[1] == "user"
        if brought:
            joins, cgroup_dir = (), ""
        joins, late = _late(joins, cgroup)
        wishes = Wishes(
            brought=brought,
            join_files=joins,
            cgroup_dir=cgroup_dir,
            resctrl_files=resctrl_ways_in(container),
            seccomp=compile_seccomp(config.linux.seccomp, extras, options.seccomp_cache, warnings),
            home=home_of(f"/proc/{container.facts.pid}/root", process.user.uid),
            console_fd=options.console_fd,
            preserve_fds=options.preserve_fds,
            keyring="" if options.no_new_keyring else "_ses." + container.id,
            monitor=options.monitor,
            keep_groups=extras.keep_groups,
        )
        host = machine.gather(tuple(item.type for item in process.rlimits) if mapped else ())
        keep = (target, *options.monitor_fds, *range(3, 3 + options.preserve_fds))
        if options.console_fd is not None:
            keep = (*keep, options.console_fd)

        def born(late: str, warnings: list[str]) -> Launched:
            ops = plan_build.build_exec(
                process, host, wishes, pidfd=target, join=join, mapped=mapped, config=config, warnings=warnings
            )
            if options.on_plan is not None:
                options.on_plan(ops)
            birth = _Birth(container, cgroup, config, options, warnings, late)
            return launch(ops, birth, keep=keep, stdio=options.stdio)

        try:
            launched = born(late, warnings)
        except KernelError as error:
            if error.errno != EAGAIN or not wishes.cgroup_dir or options.monitor is not None:
                raise
            # As `_late`, for v2: clone3 into a full cgroup is refused, so it is born outside and moved there.
            late, wishes.cgroup_dir = wishes.cgroup_dir, ""
            launched = born(late, [])
        try:
            launched.wait_running()
        except BaseException:
            launched.reap()
            raise
    except (MasuError, OSError) as error:
        # Whatever was asked of a process that ends meanwhile fails in a way of its own: ENOENT, ESRCH, EINVAL.
        if container.is_ending():
            raise _stopped(container) from error
        raise
    finally:
        os.close(target)
    return launched


def completed(process: Process, container: Container) -> Process:
    """What `process` does not speak of is as confined as the container's own process, as in runc."""
    own = container.config().process
    if own is None:
        return process
    return process.replace(
        capabilities=process.capabilities or own.capabilities,
        rlimits=process.rlimits or own.rlimits,
        apparmor_profile=process.apparmor_profile or own.apparmor_profile,
        selinux_label=process.selinux_label or own.selinux_label,
    )


def _late(joins: tuple[str, ...], cgroup: Cgroup) -> tuple[tuple[str, ...], str]:
    """Apart from the rest the place in v1's pids hierarchy. Cloning in a cgroup that has as many processes as it may is
    EAGAIN, moving a process there is not (cgroup v1 pids, "Organisational operations"): whoever looks after a
    container that is full can still come in, as with runc."""
    place = cgroup.paths().get("pids", "")
    late = tuple(file for file in joins if place and file.startswith(place + "/"))
    return tuple(file for file in joins if file not in late), place if late else ""


def _stopped(container: Container) -> FailedPrecondition:
    return FailedPrecondition(
        "cannot exec in a stopped container", detail=f"container {container.id} has just stopped"
    )


class _Birth(Answers):
    def __init__(
        self,
        container: Container,
        cgroup: Cgroup,
        config: Config,
        options: ExecOptions,
        warnings: list[str],
        late: str = "",
    ) -> None:
        super().__init__(warnings)
        self.late = late
        self.cgroup = cgroup
        self.container = container
        self.config = config
        self.options = options
        self.listener_fd = -1

    def sync(self, name: str, pid: int) -> bytes:
        if name != plan_build.SYNC_CGROUP:
            return super().sync(name, pid)
        from masu.runtime import scope  # by whose containers are systemd's

        scope.bring(self.container, self.cgroup, pid)
        return b""

    def ready(self, pid: int, pidfd: int) -> bytes:
        if self.late:
            move_in(self.late + "/cgroup.procs", pid)
        if self.options.pid_file:
            write_pid_file(self.options.pid_file, pid)
        if self.options.pidfd_socket:
            handover.send_pidfd(self.options.pidfd_socket, pidfd)
        if self.listener_fd >= 0:
            assert self.config.linux.seccomp is not None
            handover.send_listener(self.config.linux.seccomp, self.container.state(), pid, self.listener_fd)
            os.close(self.listener_fd)
        if self.options.on_ready is not None:
            self.options.on_ready(pid)
        self.step("setns_init: about to exec")
        return b""

    def step(self, text: str) -> None:
        if self.options.on_step is not None:
            self.options.on_step(text)

    def listener(self, fd: int) -> None:
        self.listener_fd = fd
