"""masu-oci events"""

from __future__ import annotations

from masu.cli import units
from masu.cli.oci import root_of
from masu.cli.options import Call, Command, Flag
from masu.errors import FailedPrecondition, InvalidArgument
from masu.linux import fds
from masu.runtime import lifecycle
from masu.runtime.container import Container
from masu.runtime.events import events, stats
from masu.spec import jsontext


def run(call: Call) -> int:
    container = Container.open(root_of(call), call.args[0])
    interval_ns = call.options.number("interval")
    if interval_ns <= 0:
        raise InvalidArgument("--interval", detail="duration interval must be greater than 0")
    if container.status() == lifecycle.STOPPED:
        raise FailedPrecondition(f"container with id {container.id} is not running")
    if call.options.on("stats"):
        _write(stats(container))
        return 0
    try:
        for event in events(container, interval_ns):
            _write(event)
    except BrokenPipeError:
        return 1  # nobody listens any more
    except KeyboardInterrupt:
        return 130
    return 0


def _write(event: dict[str, object]) -> None:
    fds.write_all(1, jsontext.dumps(event).encode() + b"\n")


COMMAND = Command(
    "events",
    "[command options] <container-id>",
    "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    description="Each event is a line of JSON. Ends when the container's first process does.",
    flags=(
        Flag(
            "interval", value="value", default=5_000_000_000, convert=units.duration,
            help="time between two stats events (default: 5s)",
        ),
        Flag("stats", help="display the container's stats then exit"),
    ),
    arity=(1, 1),
    run=run,
)  # fmt: skip
