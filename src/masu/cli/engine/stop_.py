"""`masu stop`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of
from masu.cli.options import Call, Command, Flag, integer

# Of `restart`, too.
FLAGS = (
    Flag("signal", "s", value="string", help="Signal to send to the container"),
    Flag(
        "timeout",
        "t",
        value="int",
        convert=integer,
        aliases=("time",),
        help="Seconds to wait before killing the container",
    ),
)


def timeout_of(call: Call) -> int | None:
    """--timeout in seconds; None is the container's own."""
    return call.options.number("timeout") if call.options.given("timeout") else None


def run(call: Call) -> int:
    engine, timeout_s = engine_of(call), timeout_of(call)
    return each(call.args, lambda ref: engine.containers.stop(ref, timeout_s, call.options.text("signal")))


COMMAND = Command(
    "stop", "[OPTIONS] CONTAINER [CONTAINER...]", "Stop one or more running containers", flags=FLAGS, run=run
)
