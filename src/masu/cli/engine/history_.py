"""`masu history`."""

from __future__ import annotations

import time

from masu.cli import units
from masu.cli.engine.common import engine_of, out
from masu.cli.options import Call, Command, Flag
from masu.cli.table import Listing
from masu.errors import InvalidArgument
from masu.spec import times

_LISTING = Listing(
    (
        ("ID", "IMAGE"), ("CreatedSince", "CREATED"), ("CreatedBy", "CREATED BY"), ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ),
    (("CreatedAt", "CREATED AT"),),
)  # fmt: skip
_SHOWN = 45


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    full, human = options.on("no-trunc"), options.on("human")
    now_ns = time.time_ns()
    rows: list[dict[str, object]] = []
    for step in engine.images.history(call.args[0]):
        id = str(step.get("id", "<missing>"))
        created = _ns(str(step["created"]))
        by = "".join(c if c.isprintable() else " " for c in str(step["created_by"]))
        size = step["size_bytes"]
        assert isinstance(size, int)
        rows.append(
            {
                "ID": id if full else id.removeprefix("sha256:")[:12] if "id" in step else id,
                "CreatedSince": (units.ago(created, now_ns) if created else "N/A") if human else str(step["created"]),
                "CreatedAt": str(step["created"]),
                "CreatedBy": by if full or len(by) <= _SHOWN else by[: _SHOWN - 1] + "…",
                "Size": units.human_size(size, 3) if human else str(size),
                "Comment": step["comment"],
            }
        )
    if options.on("quiet"):
        out("".join(f"{row['ID']}\n" for row in rows))
        return 0
    out(_LISTING.render(rows, options.text("format")))
    return 0


def _ns(text: str) -> int:
    try:
        return times.parse(text) if text else 0
    except InvalidArgument:
        return 0


COMMAND = Command(
    "history",
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    flags=(
        Flag("format", value="string", help="Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
        Flag("human", "H", default=True, help="Print sizes and dates in human readable format"),
        Flag("no-trunc", help="Don't truncate output"),
        Flag("quiet", "q", help="Only show image IDs"),
    ),
    run=run,
)
