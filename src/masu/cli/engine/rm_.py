"""`masu rm`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of
from masu.cli.options import Call, Command, Flag
from masu.errors import NotFound


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    if options.on("exited"):
        return _exited(call)
    force = options.on("force")

    def remove(ref: str) -> None:
        try:
            engine.containers.remove(ref, force=force, volumes=options.on("volumes"))
        except NotFound:
            if not force:
                raise

    status = each(call.args, remove)
    engine.containers.sweep()
    return status


def _exited(call: Call) -> int:
    """Run by a monitor after the end of a --rm container that nobody removes; quiet, since nobody listens."""
    engine = engine_of(call)
    for ref in call.args:
        try:
            engine.containers.remove(ref, volumes=True)
        except NotFound:
            continue
    return 0


COMMAND = Command(
    "rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    flags=(
        Flag("exited", hidden=True),
        Flag("force", "f", help="Force the removal of a running container (uses SIGKILL)"),
        Flag("volumes", "v", help="Remove anonymous volumes associated with the container"),
    ),
    run=run,
)
