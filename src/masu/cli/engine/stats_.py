"""`masu stats`."""

from __future__ import annotations

import select

from masu.cli import units
from masu.cli.engine.common import engine_of, out
from masu.cli.options import Call, Command, Flag
from masu.cli.table import Listing
from masu.errors import FailedPrecondition, MasuError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine import Engine
    from masu.engine.records import Record
    from masu.engine.usage import Usage

_LISTING = Listing(
    (
        ("ID", "CONTAINER ID"), ("Name", "NAME"), ("CPUPerc", "CPU %"), ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"), ("NetIO", "NET I/O"), ("BlockIO", "BLOCK I/O"), ("PIDs", "PIDS"),
    ),
    (("Container", "CONTAINER"),),
)  # fmt: skip
# Docker's daemon takes a sample a second
_INTERVAL_S = 1.0


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    everything = options.on("all")

    def chosen() -> list[Record]:
        if call.args:
            return [engine.containers.find(ref) for ref in call.args]
        return engine.containers.all()

    records = chosen()
    before = {record.id: _measure(engine, record) for record in records}
    stream = not options.on("no-stream")
    poll = select.poll()
    while True:
        poll.poll(int(_INTERVAL_S * 1000))
        try:
            records = chosen()
        except NotFound:
            return 0  # removed while it was watched
        after = {record.id: _measure(engine, record) for record in records}
        shown = [record for record in records if after[record.id] or everything or call.args]
        rows = [_row(record, before.get(record.id), after[record.id], full=options.on("no-trunc")) for record in shown]
        text = _LISTING.render(rows, options.text("format"))
        if not stream:
            out(text)
            return 0
        # from the top-left corner, and nothing old below
        out("\x1b[H\x1b[2J" + text if not options.text("format") else text)
        before = after


def _measure(engine: Engine, record: Record) -> Usage | None:
    from masu.engine import usage

    try:
        return usage.measure(engine.containers.state(record))
    except FailedPrecondition:
        return None
    except MasuError:
        return None  # its cgroup went away while we read


def _row(record: Record, before: Usage | None, after: Usage | None, *, full: bool) -> dict[str, object]:
    from masu.engine import usage

    cpu = usage.cpu_percent(before, after) if before and after else None
    memory = after.memory if after else None
    limit = after.memory_limit if after else 0
    id = record.id if full else record.id[:12]
    return {
        "Container": id,
        "ID": id,
        "Name": record.name,
        "CPUPerc": "--" if cpu is None else f"{cpu:.2f}%",
        "MemUsage": "-- / --" if memory is None else f"{units.binary_size(memory)} / {units.binary_size(limit)}",
        "MemPerc": "--" if memory is None or not limit else f"{memory / limit * 100:.2f}%",
        "NetIO": _pair(after.net_in, after.net_out) if after else "-- / --",
        "BlockIO": _pair(after.block_read, after.block_write) if after else "-- / --",
        "PIDs": "--" if after is None or after.pids is None else str(after.pids),
    }


def _pair(left: int | None, right: int | None) -> str:
    if left is None or right is None:
        return "-- / --"
    return f"{units.human_size(left, 3)} / {units.human_size(right, 3)}"


COMMAND = Command(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    flags=(
        Flag("all", "a", help="Show all containers (default shows just running)"),
        Flag("format", value="string", help="Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
        Flag("no-stream", help="Disable streaming stats and only pull the first result"),
        Flag("no-trunc", help="Do not truncate output"),
    ),
    run=run,
)
