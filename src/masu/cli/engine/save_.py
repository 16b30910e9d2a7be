"""`masu save`."""

from __future__ import annotations

import os

from masu.cli import thirdparty
from masu.cli.engine.common import engine_of
from masu.cli.options import Call, Command, Flag
from masu.errors import InvalidArgument


def run(call: Call) -> int:
    thirdparty.enable()
    options = call.options
    out: str | int = options.text("output")
    if not out:
        if os.isatty(1):
            raise InvalidArgument(
                "output",
                where="--output",
                detail="cowardly refusing to save to a terminal",
                hint="use -o FILE or redirect",
            )
        out = 1
    form = options.text("format")
    engine_of(call).images.save(call.args, out, format=form, platform=options.text("platform"))
    return 0


COMMAND = Command(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    flags=(
        Flag("format", value="string", default="docker-archive", choices=("docker-archive", "oci-archive", "oci-dir"),
             help="Save image to docker-archive, oci-archive or oci-dir"),
        Flag("output", "o", value="string", help="Write to a file, instead of STDOUT"),
        Flag("platform", value="string", help="Save only the given platform"),
    ),
    run=run,
)  # fmt: skip
