"""`masu-oci`: an OCI runtime with runc's command line, JSON and exit codes. One file a verb."""

from __future__ import annotations

import posix as os

from masu import __version__
from masu.cli.oci.log import Log
from masu.cli.options import Call, Entry, Flag, Help, Program, UsageError
from masu.errors import MasuError, describe_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_VERBS = {
    "checkpoint": "checkpoint a running container",
    "create": "create a container",
    "delete": "delete any resources held by the container, often used with a detached container",
    "events": "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    "exec": "execute a new process inside the container",
    "features": "show the enabled features",
    "kill": "send the specified signal (default: SIGTERM) to the container's init process",
    "list": "list containers started with the given --root",
    "mounts": "add mounts to a container that is there, or remove them",
    "pause": "suspend all processes inside the container",
    "plan": "show what creating the container would ask of the kernel, without doing it",
    "ps": "display the processes running inside the container",
    "restore": "restore a container from a previous checkpoint",
    "resume": "resume all processes that have been previously paused",
    "run": "create and run a container",
    "spec": "create a new specification file",
    "start": "execute the user defined process in a created container",
    "state": "output the state of a container",
    "update": "update container resource constraints",
}

PROGRAM = Program(
    "masu-oci",
    "[global options] command [command options] [arguments...]",
    "Open Container Initiative runtime",
    version=f"{__version__}\nspec: 1.3.0",
    dialect="runc",
    flags=(
        Flag("debug", help="enable debug logging"),
        Flag(
            "log", value="value",
            help="where to write logs: a file, file:PATH, journald:NAME or syslog:NAME (default is '/dev/stderr')",
        ),
        Flag("log-format", value="value", default="text", help="set the log format ('text' or 'json')"),
        Flag(
            "log-level", value="value", default="warning", choices=("error", "warning", "debug"),
            help="what to write there: error, warning, or debug (as --debug)",
        ),
        Flag("root", value="value", help="root directory for storage of container state (on tmpfs)"),
        Flag("criu", value="value", hidden=True, help="obsolete; criu is looked for in PATH"),
        Flag(
            "cgroup-manager", value="value", default="cgroupfs", choices=("cgroupfs", "systemd", "disabled"),
            help="who makes the cgroup: cgroupfs, systemd (as --systemd-cgroup), or disabled for none",
        ),
        Flag("systemd-cgroup", help='enable systemd cgroup support, expects cgroupsPath "slice:prefix:name"'),
        Flag(
            "rootless", value="value", default="auto",
            help="whether permission for cgroups may be missing (true, false, auto)",
        ),
    ),
    entries=tuple(Entry(name, summary, f"masu.cli.oci.{name}_") for name, summary in _VERBS.items()),
)


def main(argv: Sequence[str]) -> int:
    """Runs one command line; the exit status."""
    log = Log()
    call = None
    try:
        call = PROGRAM.parse(argv)
        log = log_of(call)
        assert call.command.run is not None
        return call.command.run(call)
    except Help as help:
        os.write(1, help.text.encode())
        return 0
    except UsageError as error:
        log.error(str(error))
        if error.usage:
            os.write(2, error.usage.encode() + b"\n")
        return error.status
    except MasuError as error:
        if call is not None:
            place(error, call)
        log.error(str(error), error)
        return 1
    except OSError as error:
        said = describe_errno(error.errno or 0)
        log.error(f"{error.filename}: {said}" if error.filename else said)
        return 1


def place(error: MasuError, call: Call) -> None:
    """Gives `error` its place on the command line."""
    from masu.cli.oci import places  # loaded by what fails alone

    places.place(error, call, root_of(call))


def root_of(call: Call) -> str:
    """--root, by default /run/masu/oci, or below the user's own runtime directory."""
    given = call.globals.maybe("root")
    if given:
        return _absolute(given)
    runtime = environment("XDG_RUNTIME_DIR")
    if runtime.startswith("/") and _is_a_users():
        return runtime + "/masu/oci"
    return "/run/masu/oci"


def environment(name: str) -> str:
    """A variable of ours, empty when it is not set."""
    return os.environ.get(name.encode(), b"").decode("utf-8", "surrogateescape")


def _absolute(path: str) -> str:
    first, *others = path.split("/")
    if not first and not {"", ".", ".."} & set(others):
        return path  # as callers give it
    from posixpath import abspath

    return abspath(path)


def _is_a_users() -> bool:
    """Whether XDG_RUNTIME_DIR is to be believed, as in runc: the machine's root may have kept a user's by sudo, but
    root of a user namespace (rootless Podman calls us there) has nothing else, unless it says that it is root."""
    if os.geteuid() != 0:
        return True
    from masu.linux import namespaces

    return environment("USER") != "root" and not namespaces.has_every_id()


def log_of(call: Call) -> Log:
    options = call.globals
    level = "debug" if options.on("debug") else options.text("log-level")
    return Log(options.text("log"), options.text("log-format"), level=level)
