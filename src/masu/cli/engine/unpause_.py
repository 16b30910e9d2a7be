"""`masu unpause`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of
from masu.cli.options import Call, Command


def run(call: Call) -> int:
    engine = engine_of(call)
    return each(call.args, engine.containers.unpause)


COMMAND = Command("unpause", "CONTAINER [CONTAINER...]", "Unpause all processes within one or more containers", run=run)
