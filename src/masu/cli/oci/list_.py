"""masu-oci list"""

from __future__ import annotations

import posix as os

from masu.cli.oci import log_of, root_of
from masu.cli.options import Call, Command, Flag
from masu.errors import InvalidArgument, NotFound
from masu.runtime.container import listing
from masu.runtime.listing import row
from masu.spec import jsontext


def run(call: Call) -> int:
    root = root_of(call)
    if call.globals.given("root") and not os.access(root + "/.", os.F_OK):
        raise NotFound("state directory", root, where="--root")
    warnings: list[str] = []
    containers = listing(root, warnings)
    for warning in warnings:
        log_of(call).warning(warning)
    if call.options.on("quiet"):
        text = "".join(f"{container.id}\n" for container in containers)
    elif (format := call.options.text("format")) == "json":
        text = jsontext.dumps([row(container) for container in containers] or None) + "\n"
    elif format == "table":
        text = _table([row(container) for container in containers])
    else:
        raise InvalidArgument("invalid format option", format, where="--format", detail="allowed are table, json")
    os.write(1, text.encode())
    return 0


def _table(rows: list[dict[str, object]]) -> str:
    """runc's: columns at least 12 wide, three blanks apart, none behind the last."""
    keys = ("id", "pid", "status", "bundle", "created", "owner")
    lines = [[key.upper() for key in keys], *([str(item[key]) for key in keys] for item in rows)]
    widths = [max(12, *(len(line[i]) + 3 for line in lines)) for i in range(len(keys) - 1)] + [0]
    padded = ["".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "".join(line + "\n" for line in padded)


COMMAND = Command(
    "list",
    "[command options]",
    "lists containers started with the given --root",
    flags=(
        Flag("format", "f", value="value", default="table", help="select one of: table or json"),
        Flag("quiet", "q", help="display only container IDs"),
    ),
    arity=(0, 0),
    run=run,
)
