"""`masu restart`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of, warn
from masu.cli.engine.stop_ import FLAGS, timeout_of
from masu.cli.options import Call, Command


def run(call: Call) -> int:
    engine, timeout_s, signal = engine_of(call), timeout_of(call), call.options.text("signal")
    return each(call.args, lambda ref: warn(engine.containers.restart(ref, timeout_s, signal).warnings))


COMMAND = Command(
    "restart", "[OPTIONS] CONTAINER [CONTAINER...]", "Restart one or more containers", flags=FLAGS, run=run
)
