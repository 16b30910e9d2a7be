"""masu-oci create"""

from __future__ import annotations

import os

from masu.cli.oci import log_of, root_of
from masu.cli.options import FALSE, TRUE, Call, Command, Flag, natural
from masu.errors import InvalidArgument
from masu.runtime import bundle as bundles
from masu.runtime import create, handover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.cli.oci.console import Console
    from masu.plan.ops import Op

BUNDLE = Flag(
    "bundle",
    "b",
    value="value",
    default=".",
    help="path to the root of the bundle directory, defaults to the current one",
)
CONFIG = Flag(
    "config", "f", value="value", default="config.json", help="name of the configuration in the bundle, or its path"
)
CONSOLE_SOCKET = Flag(
    "console-socket", value="value",
    help="path to an AF_UNIX socket which will receive the master end of the console's pseudoterminal",
)  # fmt: skip
PIDFD_SOCKET = Flag(
    "pidfd-socket", value="value", help="path to an AF_UNIX socket which will receive a pidfd of the init process"
)
PID_FILE = Flag("pid-file", value="value", help="specify the file to write the process id to")
PRESERVE_FDS = Flag(
    "preserve-fds", value="value", default=0, convert=natural,
    help="pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)",
)  # fmt: skip
CREATE_FLAGS = (
    BUNDLE,
    CONFIG,
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    PID_FILE,
    Flag("no-pivot", help="do not use pivot root to jail process inside rootfs"),
    Flag("no-new-keyring", help="do not create a new session keyring for the container"),
    PRESERVE_FDS,
)


def run(call: Call) -> int:
    passed = passed_fds(call)
    log = log_of(call)
    bundle = bundles.read(call.options.text("bundle"), call.options.text("config"))
    add_environment(bundle, passed.env)
    console = connect_console(call, bundle.config.process is not None and bundle.config.process.terminal)
    created = create.create(root_of(call), call.args[0], bundle, options_of(call, passed, console=console))
    created.launched.close()
    for warning in created.warnings:
        log.warning(warning)
    return 0


def options_of(call: Call, passed: Passed, *, console: int | None, gate: bool = True) -> create.Options:
    options = call.options
    return create.Options(
        cgroup_manager=cgroup_manager_of(call),
        console_fd=console,
        gate=gate,
        on_plan=plan_teller(call),
        on_step=log_of(call).debug,
        no_new_keyring=options.on("no-new-keyring"),
        no_pivot=options.on("no-pivot"),
        notify=bool(os.environ.get("NOTIFY_SOCKET")),
        pid_file=options.text("pid-file"),
        pidfd_socket=options.text("pidfd-socket"),
        preserve_fds=passed.count,
        rootless=rootless_of(call),
        seccomp_cache=seccomp_cache(root_of(call)),
    )


def cgroup_manager_of(call: Call) -> str:
    """--systemd-cgroup, or crun's --cgroup-manager."""
    return "systemd" if call.globals.on("systemd-cgroup") else call.globals.text("cgroup-manager")


def rootless_of(call: Call) -> bool | None:
    """--rootless; None is "auto"."""
    text = call.globals.text("rootless")
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    if text != "auto":
        raise InvalidArgument("--rootless", text, detail="allowed are true, false, auto")
    return None


def plan_teller(call: Call) -> Callable[[list[Op]], None] | None:
    """For a log that wants to know: each operation of the plan as a line, the command that shows it again, and of some
    what runc says of it."""
    log = log_of(call)
    if not log.tells("debug"):
        return None

    def tell(ops: list[Op]) -> None:
        from masu.plan import describe

        for line in describe.to_text(ops).splitlines():
            log.debug(line)
        for op in ops:
            mask = op.fields.get("mask")
            if op.name == "seccomp":
                log.debug(f"seccomp filter flags: {op.fields['flags']!r}")
            elif op.name == "affinity" and op.where.endswith(".initial") and isinstance(mask, bytes):
                log.debug(f"nsexec: affinity: {int.from_bytes(mask, 'little'):#x}")
        log.debug("nsexec container setup: masu-launch begins")

    return tell


def seccomp_cache(root: str) -> str:
    """Compiled filters live beside the containers' directory, not among them."""
    return root.rstrip("/") + "-cache/seccomp"


class Passed:
    """The fds from 3 on that the program gets: how many, and what its environment says of them."""

    __slots__ = ("count", "env")

    def __init__(self, count: int, env: tuple[str, ...] = ()) -> None:
        self.count = count
        self.env = env


def passed_fds(call: Call, *, first_process: bool = True) -> Passed:
    """Those of $LISTEN_FDS, then those of --preserve-fds.

    To be asked before a verb opens anything: a number that is free now would be a descriptor of our own later, and go
    into the container in place of what the caller has forgotten to open. Raises InvalidArgument when one of
    --preserve-fds is not open.
    """
    preserve = call.options.number("preserve-fds")
    listening = Passed(0)
    if "LISTEN_FDS" in os.environ:
        from masu.cli.oci import activation  # by whom a service manager has started with sockets

        listening = activation.listening(log_of(call), first_process=first_process, complete=preserve > 0)
    first = 3 + listening.count
    for fd in range(first, first + preserve):
        if not is_open(fd):
            raise InvalidArgument("--preserve-fds", preserve, detail=f"file descriptor {fd} is not open")
    return Passed(listening.count + preserve, listening.env)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def add_environment(bundle: bundles.Bundle, env: tuple[str, ...]) -> None:
    """To the first process alone: what `exec` takes from is the config.json as it was given."""
    config = bundle.config
    if env and config.process is not None:
        bundle.config = config.replace(process=config.process.replace(env=(*config.process.env, *env)))


def new_console() -> Console:
    """For a container in the foreground, whose terminal is ours."""
    from masu.cli.oci.console import Console  # with termios: only where there is a terminal

    return Console()


def connect_console(call: Call, terminal: bool, *, detached: bool = True) -> int | None:
    """The connected console socket. Terminal and socket must go together, as runc asks."""
    path = call.options.maybe("console-socket")
    if detached and terminal and not path:
        raise InvalidArgument(
            "terminal", detail="cannot allocate tty if runc will detach without setting console socket",
            where="process.terminal", hint="give --console-socket, or set terminal to false",
        )  # fmt: skip
    if path and not (detached and terminal):
        raise InvalidArgument(
            "console socket", path, detail="cannot use console socket if runc will not detach or allocate tty",
            where="--console-socket", hint="leave it out, or set process.terminal to true and detach",
        )  # fmt: skip
    if not path:
        return None
    return handover.connect(path, "--console-socket").detach()


COMMAND = Command(
    "create",
    "[command options] <container-id>",
    "create a container",
    flags=(*CREATE_FLAGS, Flag("no-subreaper", hidden=True, help="crun's, and ignored there, too")),
    arity=(1, 1),
    run=run,
)
