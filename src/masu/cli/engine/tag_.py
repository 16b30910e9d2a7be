"""`masu tag`."""

from __future__ import annotations

from masu.cli.engine.common import engine_of
from masu.cli.options import Call, Command


def run(call: Call) -> int:
    engine_of(call).images.tag(call.args[0], call.args[1])
    return 0


COMMAND = Command(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    run=run,
)
