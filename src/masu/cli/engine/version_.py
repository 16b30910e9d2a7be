"""`masu version`."""

from __future__ import annotations

import os
import sys

from masu import __version__
from masu.cli.engine.common import out
from masu.cli.options import Call, Command, Flag
from masu.spec import jsontext


def run(call: Call) -> int:
    system = os.uname()
    python = ".".join(str(part) for part in sys.version_info[:3])
    facts: dict[str, object] = {
        "Version": __version__,
        "OCI runtime-spec": "1.3.0",
        "OCI image-spec": "1.1.0",
        "Python": python,
        "Kernel": system.release,
        "OS/Arch": f"linux/{system.machine}",
    }
    form = call.options.text("format")
    if form:
        from masu.cli.table import render_each

        out(render_each([facts], form, jsontext.dumps))
        return 0
    out("".join(f"{key + ':':<18}{value}\n" for key, value in facts.items()))
    return 0


COMMAND = Command(
    "version",
    "[OPTIONS]",
    "Show the version",
    flags=(Flag("format", "f", value="string", help="Format output using a Go template, or 'json'"),),
    run=run,
)
