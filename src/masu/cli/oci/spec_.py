"""masu-oci spec"""

from __future__ import annotations

import os

from masu.cli.oci.create_ import BUNDLE
from masu.cli.options import Call, Command, Flag
from masu.errors import AlreadyExists
from masu.linux import cgroups
from masu.spec import jsontext
from masu.spec import runtime as spec


def run(call: Call) -> int:
    path = os.path.join(call.options.text("bundle"), call.options.text("file"))
    document = spec.default_config(rootless=call.options.on("rootless"), cgroup2=cgroups.detect().mode == "v2")
    text = jsontext.dumps(document, indent="\t")
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise AlreadyExists(f"File {call.options.text('file')}", detail="Remove it first", where=path) from None
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    return 0


COMMAND = Command(
    "spec",
    "[command options]",
    "create a new specification file",
    flags=(
        BUNDLE,
        Flag("file", "f", value="value", default="config.json", help="name of the file in the bundle, or its path"),
        Flag("rootless", help="generate a configuration for a rootless container"),
    ),
    arity=(0, 0),
    run=run,
)
