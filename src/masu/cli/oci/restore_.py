"""masu-oci restore"""

from __future__ import annotations

import os

from masu.cli.oci import log_of, root_of
from masu.cli.oci.activation import is_meant_for_us
from masu.cli.oci.checkpoint_ import CRIU_FLAGS, check_root, criu_options
from masu.cli.oci.create_ import (
    BUNDLE,
    CONFIG,
    CONSOLE_SOCKET,
    PID_FILE,
    cgroup_manager_of,
    connect_console,
    new_console,
    rootless_of,
)
from masu.cli.oci.foreground import wait
from masu.cli.options import Call, Command, Flag
from masu.cli.signals import Signals
from masu.linux import process
from masu.runtime import bundle as bundles
from masu.runtime.delete import delete
from masu.runtime.restore import RestoreOptions, restore


def run(call: Call) -> int:
    check_root(call)
    log, options = log_of(call), call.options
    wanted = criu_options(call)
    wanted.lsm_profile = options.text("lsm-profile")
    wanted.tcp_close = options.on("tcp-close")
    wanted.lsm_mount_context = options.text("lsm-mount-context")
    bundle = bundles.read(options.text("bundle"), options.text("config"))
    detached = options.on("detach")
    terminal = bundle.config.process is not None and bundle.config.process.terminal
    console = connect_console(call, terminal, detached=detached)
    ours = new_console() if terminal and not detached else None
    if ours is not None:
        console = ours.theirs
    manager = os.environ.get("NOTIFY_SOCKET", "")
    if "LISTEN_FDS" in os.environ and is_meant_for_us():
        log.warning("LISTEN_FDS: not passed on, the container has the sockets that it was checkpointed with")
    signals = None if detached else Signals()
    if not detached and not options.on("no-subreaper"):
        process.become_subreaper()
    restored = restore(
        root_of(call),
        call.args[0],
        bundle,
        RestoreOptions(
            wanted,
            console_fd=console,
            on_ready=(lambda _: ours.prepare()) if ours is not None else None,
            pid_file=options.text("pid-file"),
            cgroup_manager=cgroup_manager_of(call),
            notify=bool(manager),
            rootless=rootless_of(call),
        ),
    )
    if manager:
        from masu.runtime import notify  # by whom a service manager has started

        pid = restored.pid if detached else os.getpid()
        notify.announce(manager, pid, restored.warnings, wait=detached)
    if console is not None:
        os.close(console)
    for warning in restored.warnings:
        log.warning(warning)
    if signals is None:
        restored.close()
        return 0
    try:
        status = wait(restored, signals, ours)
    except BaseException:
        restored.reap()
        delete(restored.container, force=True)
        raise
    for warning in delete(restored.container, force=True):
        log.warning(warning)
    return status


COMMAND = Command(
    "restore",
    "[command options] <container-id>",
    "restores the saved state of the container instance that was previously saved using the checkpoint command",
    flags=(
        *CRIU_FLAGS,
        BUNDLE,
        CONFIG,
        CONSOLE_SOCKET,
        PID_FILE,
        Flag("detach", "d", help="detach from the container's process"),
        Flag("no-subreaper", help="disable the use of the subreaper used to reap reparented processes"),
        Flag("no-pivot", help="do not use pivot root to jail process inside rootfs"),
        Flag("tcp-close", help="restore connected tcp sockets as closed ones"),
        Flag("lsm-profile", value="value", help="LSM profile to be used during restore, in the form TYPE:NAME"),
        Flag("lsm-mount-context", value="value", help="LSM mount context to be used during restore"),
    ),
    arity=(1, 1),
    run=run,
)
