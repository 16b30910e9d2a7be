"""masu-oci run"""

from __future__ import annotations

import os

from masu.cli.oci import log_of, root_of
from masu.cli.oci.create_ import (
    CREATE_FLAGS,
    add_environment,
    connect_console,
    new_console,
    options_of,
    passed_fds,
)
from masu.cli.oci.foreground import wait
from masu.cli.options import Call, Command, Flag
from masu.cli.signals import Signals
from masu.linux import process
from masu.runtime import bundle as bundles
from masu.runtime import create
from masu.runtime.delete import delete
from masu.runtime.start import run_poststart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.runtime.container import Container
    from masu.runtime.notify import Relay


def run(call: Call) -> int:
    passed = passed_fds(call)
    log = log_of(call)
    bundle = bundles.read(call.options.text("bundle"), call.options.text("config"))
    add_environment(bundle, passed.env)
    config = bundle.config
    detached = call.options.on("detach")
    terminal = config.process is not None and config.process.terminal
    console = connect_console(call, terminal, detached=detached)
    ours = new_console() if terminal and not detached else None
    if ours is not None:
        console = ours.theirs
    signals = None if detached else Signals()
    if not detached and not call.options.on("no-subreaper"):
        process.become_subreaper()
    options = options_of(call, passed, console=console, gate=False)
    relay: Relay | None = None
    untold: list[str] = []

    def on_ready(container: Container) -> None:
        nonlocal relay
        if ours is not None:
            ours.prepare()
        if options.notify:
            from masu.runtime import notify  # by whom a service manager has started

            relay = notify.relay(container, os.environ["NOTIFY_SOCKET"], untold)

    options.on_ready = on_ready
    created = create.create(root_of(call), call.args[0], bundle, options)
    if console is not None:
        os.close(console)
    for warning in created.warnings:
        log.warning(warning)
    try:
        created.launched.wait_running()
        run_poststart(created.container)
        if signals is None:
            if relay is not None:
                relay.wait(created.container)
            return 0
        status = wait(created.launched, signals, ours, relay)
    except BaseException:
        if ours is not None:
            ours.pass_rest()
        created.launched.reap()
        delete(created.container, force=True)
        raise
    finally:
        for warning in untold:
            log.warning(warning)
    if not call.options.on("keep"):
        for warning in delete(created.container, force=True):
            log.warning(warning)
    return status


COMMAND = Command(
    "run",
    "[command options] <container-id>",
    "create and run a container",
    flags=(
        *CREATE_FLAGS,
        Flag("detach", "d", help="detach from the container's process"),
        Flag("keep", help="do not delete the container after it exits"),
        Flag("no-subreaper", help="disable the use of the subreaper used to reap reparented processes"),
    ),
    arity=(1, 1),
    run=run,
)
