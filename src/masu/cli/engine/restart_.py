"""`masu restart`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of, warn
from masu.cli.options import Call, Command, Flag, integer


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    timeout_s = options.number("timeout") if options.given("timeout") else None
    return each(call.args, lambda ref: warn(engine.containers.restart(ref, timeout_s, options.text("signal")).warnings))


COMMAND = Command(
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    flags=(
        Flag("signal", "s", value="string", help="Signal to send to the container"),
        Flag(
            "timeout",
            "t",
            value="int",
            convert=integer,
            aliases=("time",),
            help="Seconds to wait before killing the container",
        ),
    ),
    run=run,
)
