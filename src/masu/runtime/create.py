"""`create`: from a bundle to a process that waits for `start`.

    read and check config.json       nothing has been touched yet
    state directory, state.json      from here a killed create is found and cleaned by the next one
    cgroups made and limited
    plan built, masu-launch run      namespaces, mounts, hooks; the process reports ready
    state.json with the pid, pid file
    GO                               the process waits at the FIFO (or runs, for `run` without one)

Each step registers how to undo it; whatever fails, all of it is undone in reverse, and both errors are told.
"""

from __future__ import annotations

import errno
import os

from masu.errors import KernelError, MasuError
from masu.linux import cgroups, fds, namespaces, passwd, procfs
from masu.plan import build as plan_build
from masu.plan.host import Host, Rootfs, Seccomp, Wishes
from masu.plan.mounts import id_map, inside_root
from masu.runtime import facts as machine
from masu.runtime import lifecycle
from masu.runtime.bundle import Bundle
from masu.runtime.container import LATE_HOOKS, Container, Facts, check_id
from masu.runtime.launch import INHERIT, Answers, Launched, launch
from masu.runtime.placing import foretell, limit_processes, make_cgroup, make_resctrl, resctrl_ways_in, ways_in
from masu.spec import jsontext, times
from masu.spec import runtime as spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.linux.cgroups import Cgroup
    from masu.plan.ops import Op
    from masu.runtime.scope import Scope
    from masu.spec.extras import Extras
    from masu.spec.mounts import Mount
    from masu.spec.runtime import Config, LinuxSeccomp

_PASSWD_IS_IN = ("/etc", passwd.PASSWD)


class Options:
    """What the caller of `create` chooses; see runc's flags of the same names.

    `console_fd` is the connected console socket. `gate` False runs the program at once, without the FIFO. `rootfs`
    replaces root.path by mounts of a snapshotter; `rootless` says whether permission for cgroups may be missing (None:
    find out). `monitor` gives the operation that makes masu-launch stay as the container's monitor, and the fds it
    inherits. `notify` gives the container a socket on which to say that it is ready (`runtime.notify`). `on_plan` sees
    the plan before it is carried out, `on_step` hears how far it has come, `on_ready` is called before the program may
    run. `cgroup_manager` is "cgroupfs", "systemd" (the cgroup is a unit of its) or "disabled" (there is none: the
    processes stay in the caller's).
    """

    __slots__ = (
        "cgroup_manager", "console_fd", "gate", "init", "monitor", "no_new_keyring", "no_pivot", "notify", "on_plan",
        "on_ready", "on_step", "pid_file", "pidfd_socket", "preserve_fds", "rootfs", "rootless", "seccomp_cache",
        "stdio",
    )  # fmt: skip

    def __init__(
        self,
        *,
        cgroup_manager: str = "cgroupfs",
        console_fd: int | None = None,
        gate: bool = True,
        init: bool = False,
        monitor: Callable[[Container], tuple[Op, tuple[int, ...]]] | None = None,
        no_new_keyring: bool = False,
        no_pivot: bool = False,
        notify: bool = False,
        on_plan: Callable[[list[Op]], None] | None = None,
        on_step: Callable[[str], None] | None = None,
        on_ready: Callable[[Container], None] | None = None,
        pid_file: str = "",
        pidfd_socket: str = "",
        preserve_fds: int = 0,
        rootfs: Rootfs | None = None,
        rootless: bool | None = None,
        seccomp_cache: str = "",
        stdio: tuple[int, int, int] = INHERIT,
    ) -> None:
        self.cgroup_manager = cgroup_manager
        self.console_fd = console_fd
        self.gate = gate
        self.init = init
        self.monitor = monitor
        self.no_new_keyring = no_new_keyring
        self.no_pivot = no_pivot
        self.notify = notify
        self.on_plan = on_plan
        self.on_step = on_step
        self.on_ready = on_ready
        self.pid_file = pid_file
        self.pidfd_socket = pidfd_socket
        self.preserve_fds = preserve_fds
        self.rootfs = rootfs
        self.rootless = rootless
        self.seccomp_cache = seccomp_cache
        self.stdio = stdio


class Created:
    """A container whose process is ready, its launch (the caller closes it), and what was only warned of."""

    __slots__ = ("container", "launched", "warnings")

    def __init__(self, container: Container, launched: Launched, warnings: list[str]) -> None:
        self.container = container
        self.launched = launched
        self.warnings = warnings


def create(root: str, id: str, bundle: Bundle, options: Options) -> Created:
    """Makes the container `id` under `root`. Raises the errors of every layer below; then nothing is left."""
    config = bundle.config
    warnings = bundle.warnings
    check_sysctls(config)
    check_id(id)
    rootfs = options.rootfs or Rootfs(bundle.rootfs)
    layout = cgroups.detect()
    host = machine.gather(_limits_to_raise(config), config.mounts, layout=layout)
    if options.rootless is not None:
        host.rootless = options.rootless
    places = foretell(config, id, layout, manager=options.cgroup_manager, rootless=host.rootless)
    container = begin(root, id, bundle, rootfs.path, places)
    undo = Undo()
    undo.add(container.remove_directory)
    try:
        with container.lock():
            _write(container.directory + "/config.json", bundle.text)
            if options.notify:
                from masu.runtime import notify  # by whom a service manager has started

                config = notify.with_directory(config, container)
            make_resctrl(container, config, undo)
            cgroup, scope = make_cgroup(
                container, config, host, undo, warnings, manager=options.cgroup_manager, layout=layout
            )
            monitor, fds_of_monitor = options.monitor(container) if options.monitor is not None else (None, ())
            extras = bundle.extras
            wishes = _wishes(container, config, extras, cgroup, options, rootfs, host, monitor, warnings)
            if scope is not None and scope.unit.user:
                # We have no right to move it there ourselves.
                wishes.join_files, wishes.cgroup_dir, wishes.brought = (), "", True
            ops = plan_build.build(config, rootfs, host, wishes, warnings)
            container.facts.wait_index = next((i for i, op in enumerate(ops) if op.name == "wait_start"), 0)
            answers = _Birth(container, config, extras, options, warnings, scope, undo)
            keep = (*fds_of_monitor, *range(3, 3 + options.preserve_fds))
            if options.console_fd is not None:
                keep = (*keep, options.console_fd)
            if options.on_plan is not None:
                options.on_plan(ops)
            launched = launch(ops, answers, keep=keep, stdio=options.stdio)
            if scope is not None:
                scope.close()
    except BaseException as error:
        undo.run(error)
        raise
    return Created(container, launched, warnings)


def begin(root: str, id: str, bundle: Bundle, rootfs: str, cgroup_paths: dict[str, str]) -> Container:
    """The container as it is in the beginning: a directory of its own, and where its cgroups will be. Raises
    AlreadyExists, InvalidArgument."""
    config = bundle.config
    return Container.make(
        root,
        Facts(
            id=id,
            bundle=bundle.path,
            rootfs=rootfs,
            created=times.now(),
            oci_version=config.oci_version,
            annotations=dict(config.annotations),
            cgroup_paths=cgroup_paths,
            hooks=[kind for kind in LATE_HOOKS if config.hooks is not None and getattr(config.hooks, kind)],
            owner_uid=os.geteuid(),
            creator=(os.getpid(), procfs.start_time(os.getpid())),
        ),
    )


def check_sysctls(config: Config) -> None:
    """A namespace joined by its path may be the host's own; the check of the config alone cannot know (CVE-2022-0532).
    Raises InvalidArgument."""
    spaces = config.linux.namespaces
    if config.linux.sysctl and any(space.path for space in spaces):
        own = frozenset(item.type for item in spaces if not (item.path and namespaces.is_own(item.path, item.type)))
        for key in config.linux.sysctl:
            spec.check_sysctl(key, own)


class Undo:
    """How to undo what was done, last first."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def add(self, step: Callable[[], object]) -> None:
        self._steps.append(step)

    def add_last(self, step: Callable[[], object]) -> None:
        """What is to be done when all else has been undone."""
        self._steps.insert(0, step)

    def run(self, error: BaseException) -> None:
        for step in reversed(self._steps):
            try:
                step()
            except (MasuError, OSError) as failure:
                if isinstance(error, MasuError):
                    error.cleanup.append(failure)


class _Birth(Answers):
    """The host's part while the container is born."""

    def __init__(
        self,
        container: Container,
        config: Config,
        extras: Extras,
        options: Options,
        warnings: list[str],
        scope: Scope | None,
        undo: Undo,
    ) -> None:
        super().__init__(warnings)
        self.container = container
        self.config = config
        self.extras = extras
        self.options = options
        self.scope = scope
        self.undo = undo
        self.listener_fd = -1

    def sync(self, name: str, pid: int) -> bytes:
        config = self.config
        if name == plan_build.SYNC_CGROUP:
            assert self.scope is not None
            self.scope.bring(pid)
            return b""
        if name == plan_build.SYNC_MAP:
            from masu.linux import idmap  # these are imported by whose configuration asks for them

            linux = config.linux
            idmap.write(pid, id_map(linux.uid_mappings), id_map(linux.gid_mappings))
            return b""
        if name == plan_build.SYNC_NETWORK:
            from masu.linux import netdevice

            netdevice.move_all(config.linux.net_devices, pid, where="linux.netDevices")
            return b""
        if name == plan_build.SYNC_RUNTIME_HOOKS:
            return self._run_hooks(pid)
        return super().sync(name, pid)

    def _run_hooks(self, pid: int) -> bytes:
        config, container = self.config, self.container
        state = container.state(lifecycle.CREATING, pid)
        if config.hooks is not None:
            from masu.runtime import hooks

            self.undo.add_last(lambda: hooks.run_undoing(config, container.state(lifecycle.STOPPED)))
            hooks.run_creating(config, state)
        # The payload is what the container's own hooks find on stdin.
        return jsontext.dumps(state).encode()

    def ready(self, pid: int, pidfd: int) -> bytes:
        container, options = self.container, self.options
        limit_processes(container, self.config, self.warnings, self.scope)
        _compare_mappings(self.config, pid, self.warnings)
        container.facts.pid = pid
        container.facts.start_time = procfs.start_time(pid)
        try:
            container.facts.stdio = procfs.stdio(pid)
        except KernelError:
            # Another user's are out of sight without CAP_SYS_PTRACE, and so is a checkpoint, which would ask for them.
            pass
        container.save()
        if options.pid_file:
            write_pid_file(options.pid_file, pid)
        if pidfd_socket := options.pidfd_socket or self.extras.pidfd_receiver:
            from masu.runtime import handover

            handover.send_pidfd(pidfd_socket, pidfd)
        if self.listener_fd >= 0:
            from masu.runtime import handover

            assert self.config.linux.seccomp is not None
            state = container.state(lifecycle.CREATING, pid)
            handover.send_listener(self.config.linux.seccomp, state, pid, self.listener_fd)
            os.close(self.listener_fd)
        if options.on_ready is not None:
            options.on_ready(container)
        self.step("init: closing the pipe to signal completion")
        return b""

    def step(self, text: str) -> None:
        if self.options.on_step is not None:
            self.options.on_step(text)

    def listener(self, fd: int) -> None:
        self.listener_fd = fd


def write_pid_file(path: str, pid: int) -> None:
    """The pid as text, atomically, as callers that poll for the file expect."""
    try:
        fds.atomic_write(path, str(pid).encode(), 0o644, sync=False)
    except KernelError as error:
        hint = "create its directory first" if error.errno == errno.ENOENT else ""
        raise KernelError("write", path, error.errno, where="--pid-file", hint=hint) from error


def _compare_mappings(config: Config, pid: int, warnings: list[str]) -> None:
    """containerd and CRI-O name a user namespace to join and its mappings, too; a warning when it has others.

    As runc, which takes no offence: once it ignored them.
    """
    namespace = config.linux.namespace("user")
    if namespace is None or namespace.path is None:
        return
    for kind, given in (("uid", config.linux.uid_mappings), ("gid", config.linux.gid_mappings)):
        if given:
            from masu.linux import idmap

            own = sorted(idmap.text(idmap.of_process(pid, kind)).splitlines())
            if own != sorted(idmap.text(given).splitlines()):
                which = f"the user namespace {namespace.path} has others, which count: {', '.join(own)}"
                warnings.append(f"linux.{kind}Mappings: {which}")


def _limits_to_raise(config: Config) -> tuple[str, ...]:
    """The limits that have to be raised before a user namespace is entered, when there is one."""
    if config.process is None or all(space.type != "user" for space in config.linux.namespaces):
        return ()
    return tuple(item.type for item in config.process.rlimits)


def _wishes(
    container: Container,
    config: Config,
    extras: Extras,
    cgroup: Cgroup,
    options: Options,
    rootfs: Rootfs,
    host: Host,
    monitor: Op | None,
    warnings: list[str],
) -> Wishes:
    assert config.process is not None
    fifo = ""
    if options.gate:
        fifo = container.fifo
        os.mkfifo(fifo, 0o600)
    for path in filter(None, (extras.hooks_stdout, extras.hooks_stderr)):
        from masu.runtime import hooks

        os.close(hooks.open_output(path, "annotations"))
    joins, cgroup_dir = ways_in(cgroup, mapped=plan_build.Spaces(config, host).mapped)
    return Wishes(
        cgroup_paths=cgroup.paths(),
        join_files=joins,
        cgroup_dir=cgroup_dir,
        resctrl_files=resctrl_ways_in(container),
        seccomp=compile_seccomp(config.linux.seccomp, extras, options.seccomp_cache, warnings),
        home="" if rootfs.mount is not None else home_of(rootfs.path, config.process.user.uid, config.mounts),
        fifo=fifo,
        console_fd=options.console_fd,
        preserve_fds=options.preserve_fds,
        no_pivot=options.no_pivot,
        keyring="" if options.no_new_keyring else "_ses." + container.id,
        init=options.init,
        monitor=monitor,
        keep_groups=extras.keep_groups,
        hooks_stdout=extras.hooks_stdout,
        hooks_stderr=extras.hooks_stderr,
    )


def compile_seccomp(section: LinuxSeccomp | None, extras: Extras, cache: str, warnings: list[str]) -> Seccomp | None:
    """The filter of linux.seccomp, from the cache when it was compiled before."""
    if extras.seccomp_bpf is not None:
        return Seccomp(extras.seccomp_bpf)
    if section is None:
        return None
    from masu.linux import seccomp

    compiled = seccomp.compile(section, cache_dir=cache or None, strict=extras.seccomp_strict)
    warnings += compiled.warnings
    return Seccomp(compiled.program, compiled.flags, notify=compiled.notify)


def home_of(rootfs: str, uid: int, mounts: tuple[Mount, ...] = ()) -> str:
    """HOME as the passwd has it that the container will see, "/" when it says nothing (runc does the same). That is
    the image's own, or what is bound over it."""
    folder, path = rootfs, passwd.PASSWD
    for mount in mounts:
        if mount.is_bind and mount.source and (target := inside_root(mount.destination, rootfs)) in _PASSWD_IS_IN:
            folder, path = mount.source, passwd.PASSWD[len(target) :]
    if not path:
        folder, _, path = os.path.realpath(folder).rpartition("/")
    try:
        fd = os.open(folder or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return "/"
    try:
        return passwd.home(fd, uid, path) or "/"
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fds.write_all(fd, data)
    except OSError as error:
        raise KernelError("write", path, error.errno or 0) from error
    finally:
        os.close(fd)
