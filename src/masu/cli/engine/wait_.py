"""`masu wait`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of, out
from masu.cli.options import Call, Command


def run(call: Call) -> int:
    engine = engine_of(call)
    return each(call.args, lambda ref: out(f"{engine.containers.wait(ref).exit_code}\n"), echo=False)


COMMAND = Command(
    "wait",
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    run=run,
)
