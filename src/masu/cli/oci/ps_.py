"""masu-oci ps"""

from __future__ import annotations

import os

from masu.cli.oci import root_of
from masu.cli.options import Call, Command, Flag
from masu.errors import InvalidArgument, Unavailable
from masu.runtime.container import Container
from masu.spec import jsontext


def run(call: Call) -> int:
    container = Container.open(root_of(call), call.args[0])
    container.require("ps")
    pids = container.pids()
    format = call.options.text("format")
    if format == "json":
        os.write(1, jsontext.dumps(pids).encode() + b"\n")
        return 0
    if format != "table":
        raise InvalidArgument("invalid format option", format, where="--format", detail="allowed are table, json")
    os.write(1, _table(pids, list(call.args[1:]) or ["-ef"]).encode())
    return 0


def _table(pids: list[int], options: list[str]) -> str:
    """The lines of ps(1) that belong to these pids, found by its PID column."""
    import subprocess  # only this verb, and only its table, runs another program

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable("ps", detail="not installed", hint="apt install procps, or use --format json") from None
    if done.returncode != 0:
        raise Unavailable("ps " + " ".join(options), detail=done.stderr.strip() or f"exit status {done.returncode}")
    lines = done.stdout.splitlines()
    header = lines[0].split()
    if "PID" not in header:
        raise InvalidArgument("ps options", " ".join(options), detail="couldn't find PID field in ps output")
    column = header.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = [line for line in lines[1:] if len(fields := line.split()) > column and fields[column] in wanted]
    return "\n".join([lines[0], *kept]) + "\n"


COMMAND = Command(
    "ps",
    "[command options] <container-id> [ps options]",
    "ps displays the processes running inside a container",
    flags=(Flag("format", "f", value="value", default="table", help="select one of: table or json"),),
    arity=(1, None),
    interspersed=False,
    run=run,
)
