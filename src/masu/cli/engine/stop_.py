"""`masu stop`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of
from masu.cli.options import Call, Command, Flag, integer


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    timeout_s = options.number("timeout") if options.given("timeout") else None
    return each(call.args, lambda ref: engine.containers.stop(ref, timeout_s, options.text("signal")))


COMMAND = Command(
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
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
