"""`masu load`."""

from __future__ import annotations

import os

from masu.cli import thirdparty
from masu.cli.engine.common import engine_of, out
from masu.cli.engine.images_ import names
from masu.cli.options import Call, Command, Flag
from masu.errors import InvalidArgument


def run(call: Call) -> int:
    thirdparty.enable()
    options = call.options
    source: str | int = options.text("input")
    if not source:
        if os.isatty(0):
            raise InvalidArgument(
                "input",
                where="--input",
                detail="requested load from stdin, but stdin is a terminal",
                hint="use -i FILE",
            )
        source = 0
    for name in engine_of(call).images.load_archive(source, platform=options.text("platform")):
        repository, tag = names(name)
        if options.on("quiet"):
            continue
        if repository == "<none>":
            out(f"Loaded image ID: {name.rpartition('@')[2]}\n")
        else:
            out(f"Loaded image: {repository}:{tag}\n" if tag != "<none>" else f"Loaded image: {name}\n")
    return 0


COMMAND = Command(
    "load",
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    flags=(
        Flag("input", "i", value="string", help="Read from tar archive file or OCI layout directory, instead of STDIN"),
        Flag("platform", value="string", help="Load only the given platform"),
        Flag("quiet", "q", help="Suppress the load output"),
    ),
    run=run,
)
