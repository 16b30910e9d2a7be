"""`masu kill`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of
from masu.cli.options import Call, Command, Flag


def run(call: Call) -> int:
    engine = engine_of(call)
    signal = call.options.text("signal")
    return each(call.args, lambda ref: engine.containers.kill(ref, signal))


COMMAND = Command(
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    flags=(Flag("signal", "s", value="string", default="KILL", help="Signal to send to the container"),),
    run=run,
)
