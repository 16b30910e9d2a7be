"""`masu rmi`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of, out
from masu.cli.engine.images_ import names
from masu.cli.options import Call, Command, Flag
from masu.errors import NotFound


def run(call: Call) -> int:
    engine = engine_of(call)
    force = call.options.on("force")

    def remove(ref: str) -> None:
        try:
            done = engine.images.remove(ref, force=force)
        except NotFound:
            if force:
                return
            raise
        for name in done.untagged:
            repository, tag = names(name)
            out(f"Untagged: {name if repository == '<none>' or tag == '<none>' else f'{repository}:{tag}'}\n")
        for id in done.deleted:
            out(f"Deleted: {id}\n")

    return each(call.args, remove, echo=False)


COMMAND = Command(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    flags=(Flag("force", "f", help="Force removal of the image"),),
    run=run,
)
