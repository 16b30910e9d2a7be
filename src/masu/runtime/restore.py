"""`restore`: a container out of a checkpoint, with the configuration of a bundle.

    masu-oci                                        criu swrk, in a mount namespace of its own, in the cgroup
      the checkpoint's files looked at
      state directory, cgroups made and limited
      sources of mounts laid out (criu.mounts)
      RESTORE ─────────────────────────────────────►  makes namespaces
      ◄── "setup-namespaces", pid                     (prestart and createRuntime hooks)
                                                      mounts, processes, memory, files
      ◄── "orphan-pts-master" + fd                    the terminal, for the console socket
      ◄── "post-restore", pid                         all is there and nothing has run yet:
      namespaces and mounts verified; state.json with the pid, pid file
                                                      credentials, seccomp
      ◄── "pre-resume"                                verified as well
      ◄── answer: the processes run

The restored process is our child (`rst_sibling`), as after a create. Whatever fails, nothing of it is left.

With a monitor it is that one's: masu-launch clones CRIU beside the stage (native/launch/runtime.c), and all of the
conversation takes place where the stage waits for the host (SYNC "criu").
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_STREAM, socket

from masu.errors import InvalidArgument, MasuError, NotFound, Unimplemented
from masu.linux import cgroups, fds, namespaces, pidfd, procfs, spawn
from masu.plan.build import SYNC_CRIU, SYNC_MEMORY
from masu.plan.ops import NONE, Op
from masu.runtime import facts as machine
from masu.runtime import lifecycle, notify
from masu.runtime.container import Container, check_id
from masu.runtime.create import Undo, begin, check_sysctls, write_pid_file
from masu.runtime.criu import images as image_files
from masu.runtime.criu import mounts, rpc, verify
from masu.runtime.criu.images import Directory
from masu.runtime.criu.options import CriuOptions, common, external
from masu.runtime.launch import INHERIT, Answers, launch
from masu.runtime.placing import foretell, limit_processes, make_cgroup, make_resctrl, move_in, resctrl_ways_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.linux.cgroups import Cgroup
    from masu.runtime.bundle import Bundle
    from masu.runtime.scope import Scope
    from masu.spec.runtime import Config

_SIGKILL = 9


class RestoreOptions:
    """`criu` as in a checkpoint; `tree` is a detached mount that is the root, -1 for the bundle's; `listener_fd` with a
    monitor is where the other end of `console_fd` is accepted; the rest as in `create.Options`."""

    __slots__ = (
        "cgroup_manager", "console_fd", "criu", "listener_fd", "monitor", "notify", "on_ready", "pid_file", "rootless",
        "stdio", "tree",
    )  # fmt: skip

    def __init__(
        self,
        criu: CriuOptions,
        *,
        console_fd: int | None = None,
        notify: bool = False,
        on_ready: Callable[[Container], None] | None = None,
        pid_file: str = "",
        rootless: bool | None = None,
        stdio: tuple[int, int, int] = INHERIT,
        cgroup_manager: str = "cgroupfs",
        listener_fd: int = NONE,
        monitor: Callable[[Container], tuple[Op, tuple[int, ...]]] | None = None,
        tree: int = -1,
    ) -> None:
        self.criu = criu
        self.console_fd = console_fd
        self.notify = notify
        self.on_ready = on_ready
        self.pid_file = pid_file
        self.rootless = rootless
        self.stdio = stdio
        self.cgroup_manager = cgroup_manager
        self.listener_fd = listener_fd
        self.monitor = monitor
        self.tree = tree


class Restored:
    """A container that runs again: its first process is our child; the owner closes `pidfd`."""

    __slots__ = ("container", "pid", "pidfd", "warnings")

    def __init__(self, container: Container, warnings: list[str]) -> None:
        self.container = container
        self.pid = 0
        self.pidfd = -1
        self.warnings = warnings

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def reap(self) -> None:
        """Kills it, waits for it, closes."""
        if self.pidfd < 0:
            return
        try:
            pidfd.send_signal(self.pidfd, _SIGKILL)
        except ProcessLookupError:
            pass
        try:
            spawn.wait(self.pid)
        except ChildProcessError:
            pass
        self.close()


def restore(root: str, id: str, bundle: Bundle, options: RestoreOptions) -> Restored:
    """Makes the container `id` under `root` out of the checkpoint. Raises what is wrong with that, FailedPrecondition
    when CRIU failed (the detail is what its log says), and the errors of every layer below; then nothing is left."""
    config = bundle.config
    check_sysctls(config)
    if config.process is None:
        raise InvalidArgument("config.json", where="process", detail="there is no process to restore")
    if not any(space.type == "mount" for space in config.linux.namespaces):
        raise Unimplemented("restore", where="linux.namespaces", detail="into the mount namespace of the host")
    with Directory(options.criu.image_path, "--image-path", make=False) as images:
        image_files.check(images, lazy=options.criu.lazy_pages)
        descriptors = image_files.read_descriptors(images)
        if not options.criu.work_path:
            image_files.remove_written(images, image_files.RESTORE_LOG, image_files.RESTORE_STATS)
            return _make(root, id, bundle, options, images, images, descriptors)
        with Directory(options.criu.work_path, "--work-path", make=True) as work:
            image_files.remove_written(work, image_files.RESTORE_LOG, image_files.RESTORE_STATS)
            return _make(root, id, bundle, options, images, work, descriptors)


def _make(
    root: str,
    id: str,
    bundle: Bundle,
    options: RestoreOptions,
    images: Directory,
    work: Directory,
    descriptors: list[str],
) -> Restored:
    config, warnings = bundle.config, bundle.warnings
    request = common(options.criu, image_files.RESTORE_LOG, config)
    criu = rpc.find()
    with rpc.Criu(criu) as asked:
        asked.require()
    check_id(id)
    layout = cgroups.detect()
    host = machine.gather(layout=layout)
    if options.rootless is not None:
        host.rootless = options.rootless
    manager = options.cgroup_manager
    places = foretell(config, id, layout, manager=manager, rootless=host.rootless)
    container = begin(root, id, bundle, bundle.rootfs, places)
    undo = Undo()
    undo.add(container.remove_directory)
    restored = Restored(container, warnings)
    try:
        with container.lock():
            fds.atomic_write(container.directory + "/config.json", bundle.text, 0o600, sync=False)
            if options.notify:
                config = notify.with_directory(config, container)
            make_resctrl(container, config, undo)
            cgroup, scope = make_cgroup(container, config, host, undo, warnings, manager=manager, layout=layout)
            undo.add(restored.reap)
            if not options.notify:
                config = notify.for_restore(config, container, bundle.rootfs, tree=options.tree)
            try:
                _Birth(restored, config, options, scope, undo).run(criu, request, cgroup, images, work, descriptors)
                if scope is not None:
                    scope.close()
            except rpc.Failed as error:
                image_files.quote_log(error, work, image_files.RESTORE_LOG)
                if "Permission denied" in error.detail and config.linux.uid_mappings:
                    # CRIU opens images and files of the host's stdio as it.
                    error.hint = f"root of the container's user namespace must be able to read them; {error.hint}"
                elif "No mapping for" in error.detail:
                    error.hint = f"restore it with the mounts that it was made with; {error.hint}"
                raise
    except BaseException as error:
        undo.run(error)
        raise
    return restored


class _Conversation(Answers):
    """With CRIU, while the stage beside it waits."""

    def __init__(self, ours: socket, theirs: socket, converse: Callable[[rpc.Criu], None]) -> None:
        super().__init__([])
        self._ours = ours
        self._theirs = theirs
        self._converse = converse

    def sync(self, name: str, pid: int) -> bytes:
        if name == SYNC_MEMORY:
            return b""  # the monitor's operation has what tells of it
        if name != SYNC_CRIU:
            return super().sync(name, pid)
        self._theirs.close()  # or its end would not be seen
        self._converse(rpc.Lent(self._ours, pid))
        return b""


class _Birth:
    """The host's part while CRIU raises the container."""

    def __init__(
        self, restored: Restored, config: Config, options: RestoreOptions, scope: Scope | None, undo: Undo
    ) -> None:
        self.restored = restored
        self.scope = scope
        self.container = restored.container
        self.config = config
        self.undo = undo
        self.options = options
        self._keep: list[int] = []
        self._close: list[int] = []
        self._verifier: verify.Verifier | None = None

    def run(
        self,
        criu: str,
        request: rpc.Options,
        cgroup: Cgroup,
        images: Directory,
        work: Directory,
        descriptors: list[str],
    ) -> None:
        request.set(rst_sibling=True, evasive_devices=True, tcp_close=self.options.criu.tcp_close)
        if self.options.criu.lsm_profile:
            request.set(lsm_profile=self.options.criu.lsm_profile)
        if self.options.criu.lsm_mount_context:
            request.set(lsm_mount_context=self.options.criu.lsm_mount_context)
        given = image_files.outside(descriptors)
        for number, name in given:
            request.add("inherit_fd", name, number)
        try:
            self._give_namespaces(request)
            container, tree = self.container, self.options.tree
            with mounts.Staging(container.directory, container.facts.rootfs, self.config, cgroup, tree=tree) as staging:
                directories = [staging.open(images), staging.open(work)]
                self._close += directories
                request.set(root=staging.root, images_dir_fd=directories[0], work_dir_fd=directories[1])
                for name, path in staging.names.items():
                    request.add("ext_mnt", name, path)
                if self.options.monitor is None:
                    running = self._start(criu)
                else:
                    space = staging.space()
                    self._close.append(space)
            left_out = frozenset(("cgroup",)) if self.options.criu.manage_cgroups_mode == "ignore" else frozenset(())
            self._verifier = verify.Verifier(
                self.config, cgroup, staging, left_out=left_out, lsm_profile=self.options.criu.lsm_profile
            )

            def converse(running: rpc.Criu) -> None:
                with running:
                    its = procfs.stdio(running.pid)
                    taken = {number for number, _ in given}
                    container.facts.stdio = [its[n] if n in taken else name for n, name in enumerate(descriptors)]
                    self._enter(cgroup, running.pid)
                    for controller, path in procfs.cgroup_membership(running.pid).items():
                        request.add("cg_root", controller, path)
                    running.run(rpc.RESTORE, request, self._notified)

            if self.options.monitor is None:
                converse(running)
            else:
                monitor, fds_of_monitor = self.options.monitor(container)
                self._launch(criu, space, monitor, fds_of_monitor, converse)
        finally:
            for fd in (*self._keep, *self._close):
                os.close(fd)

    def _start(self, criu: str) -> rpc.Criu:
        return rpc.Criu(
            criu, keep=tuple(self._keep), stdio=self.options.stdio, no_new_privileges=self._gains_no_privileges()
        )

    def _gains_no_privileges(self) -> bool:
        return self.config.process is not None and self.config.process.no_new_privileges

    def _launch(
        self,
        criu: str,
        space: int,
        monitor: Op,
        fds_of_monitor: tuple[int, ...],
        converse: Callable[[rpc.Criu], None],
    ) -> None:
        """A monitor, and CRIU as its child in the mount namespace `space`."""
        ours, theirs = rpc.pair()
        self.options.pid_file = self.container.directory + "/runtime.pid"
        raising = Op(
            "criu",
            args=(criu, "swrk", str(theirs.fileno())),
            env=tuple(f"{name}={value}" for name, value in os.environ.items()),
            pid_path=self.options.pid_file,
            space_slot=0,
            no_new_privs=int(self._gains_no_privileges()),
            console_fd=self.options.listener_fd,
        )
        try:
            launch(
                [monitor, Op("adopt", slot=0, fd=space), raising],
                _Conversation(ours, theirs, converse),
                keep=(*fds_of_monitor, theirs.fileno(), space, *self._keep),
                stdio=self.options.stdio,
            ).close()
        finally:
            ours.close()
            theirs.close()

    def _give_namespaces(self, request: rpc.Options) -> None:
        outside = {path for _, _, path in external(self.config)}
        for word, key, path in external(self.config):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                what = f"Requested {'network' if word == 'net' else word} namespace"
                raise NotFound(what, path, error.errno or 0, where="linux.namespaces") from error
            self._keep.append(fd)
            request.add("inherit_fd", key, fd)
        for index, space in enumerate(self.config.linux.namespaces):
            if not space.path or space.path in outside:
                continue
            if space.type == "cgroup":
                where = f"linux.namespaces[{index}]"
                raise Unimplemented("restoring into a cgroup namespace", space.path, where=where)
            request.add("join_ns", "mnt" if space.type == "mount" else space.type, space.path)

    def _notified(self, script: str, pid: int, received: list[int]) -> None:
        if script == "setup-namespaces":
            self.restored.pid, self.restored.pidfd = pid, pidfd.open(pid)
            self._set_up_network(pid)
            self._run_hooks(pid)
        elif script == "orphan-pts-master":
            self._send_terminal(received)
        elif script == "post-restore":
            assert self._verifier is not None
            self._verifier.check_places(pid)
            self._is_there(pid)
        elif script == "pre-resume":
            self._check_credentials()

    def _set_up_network(self, pid: int) -> None:
        """What CRIU leaves out of a network namespace that is made anew; hooks may add to it."""
        if not any(space.type == "network" and not space.path for space in self.config.linux.namespaces):
            return
        if namespaces.identity(pid, "network") == namespaces.identity("self", "network"):
            return  # the checkpoint will have none: it is refused when all is there
        from masu.linux import netdevice  # by whose network is their own

        netdevice.raise_loopback(pid)
        netdevice.move_all(self.config.linux.net_devices, pid, where="linux.netDevices")

    def _run_hooks(self, pid: int) -> None:
        if self.config.hooks is None:
            return
        from masu.runtime import hooks  # by whose configuration has some

        config, container = self.config, self.container
        self.undo.add_last(lambda: hooks.run_undoing(config, container.state(lifecycle.STOPPED)))
        hooks.run_creating(config, container.state(lifecycle.CREATING, pid))

    def _check_credentials(self) -> None:
        assert self._verifier is not None
        try:
            self._verifier.check_credentials(self.restored.pid)
        except (MasuError, OSError):
            # CRIU goes on whatever the answer to this one is. They are stopped, and die before they run.
            self.container.cgroup.kill()
            raise

    def _send_terminal(self, received: list[int]) -> None:
        if self.options.console_fd is None or not received:
            raise InvalidArgument(
                "process.terminal",
                detail="the checkpoint is of a container with a terminal, config.json has none",
                hint="restore it with the configuration that it was made with",
            )
        # A copy: the caller closes its own.
        console = socket(AF_UNIX, SOCK_STREAM, 0, os.dup(self.options.console_fd))
        try:
            fds.send_fds(console, b"/dev/ptmx", received[:1])
        finally:
            console.close()

    def _is_there(self, pid: int) -> None:
        container = self.container
        if self.restored.pidfd < 0:  # without a namespace of its own there was no "setup-namespaces"
            self.restored.pid, self.restored.pidfd = pid, pidfd.open(pid)
        limit_processes(container, self.config, self.restored.warnings, self.scope)
        container.facts.pid = pid
        container.facts.start_time = procfs.start_time(pid)
        container.save()
        if self.options.pid_file:
            write_pid_file(self.options.pid_file, pid)
        if self.options.on_ready is not None:
            self.options.on_ready(container)

    def _enter(self, cgroup: Cgroup, pid: int) -> None:
        """CRIU goes into the groups; what it raises is born there."""
        for path in cgroup.join_files():
            move_in(path, pid)
        for path in resctrl_ways_in(self.container):
            move_in(path, pid, "linux.intelRdt")
