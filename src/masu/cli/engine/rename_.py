"""`masu rename`."""

from __future__ import annotations

from masu.cli.engine.common import engine_of
from masu.cli.options import Call, Command


def run(call: Call) -> int:
    engine_of(call).containers.rename(call.args[0], call.args[1])
    return 0


COMMAND = Command("rename", "CONTAINER NEW_NAME", "Rename a container", run=run)
