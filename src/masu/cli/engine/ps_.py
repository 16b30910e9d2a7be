"""`masu ps`."""

from __future__ import annotations

import time

from masu.cli import units
from masu.cli.engine.common import engine_of, filters, labels_match, out
from masu.cli.options import Call, Command, Flag, integer
from masu.cli.table import Listing
from masu.errors import NotFound
from masu.spec import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.engine import Engine
    from masu.engine.records import Record
    from masu.engine.states import State

LISTING = Listing(
    (
        ("ID", "CONTAINER ID"), ("Image", "IMAGE"), ("Command", "COMMAND"), ("RunningFor", "CREATED"),
        ("Status", "STATUS"), ("Ports", "PORTS"), ("Names", "NAMES"),
    ),
    (
        ("CreatedAt", "CREATED AT"), ("Labels", "LABELS"), ("LocalVolumes", "LOCAL VOLUMES"), ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"), ("Platform", "PLATFORM"), ("Size", "SIZE"), ("State", "STATE"),
    ),
)  # fmt: skip
_WITH_SIZE = Listing((*LISTING.columns, ("Size", "SIZE")), tuple(LISTING.headings.items()))
# For a container between its end and its monitor's; a listing does not hang for one of many.
_PATIENCE_S = 0.3
_FILTERS = ("id", "name", "label", "status", "exited", "ancestor", "volume", "network")


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    wanted = filters(options.all("filter"), _FILTERS)
    last = options.number("last") if options.given("last") else (1 if options.on("latest") else -1)
    everything = options.on("all") or last >= 0 or "status" in wanted or "exited" in wanted
    found: list[tuple[Record, State]] = []
    for record in reversed(engine.containers.all()):
        try:
            state = engine.containers.state(record, patience_s=_PATIENCE_S)
        except NotFound:
            continue  # removed while we looked
        if (state.is_up or everything) and _matches(record, state, wanted):
            found.append((record, state))
            if last >= 0 and len(found) >= last:
                break
    if options.on("quiet"):
        out("".join((r.id if options.on("no-trunc") else r.id[:12]) + "\n" for r, _ in found))
        return 0
    now_ns = time.time_ns()
    full, size = options.on("no-trunc"), options.on("size")
    rows = [row(engine, record, state, now_ns, full=full, size=size) for record, state in found]
    out((_WITH_SIZE if size else LISTING).render(rows, options.text("format")))
    return 0


def _matches(record: Record, state: State, wanted: dict[str, list[str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "id": lambda value: record.id.startswith(value),
        "name": lambda value: value.removeprefix("/") in record.name,
        "status": lambda value: state.status == value,
        "exited": lambda value: state.status == "exited" and str(state.exit_code) == value,
        "ancestor": lambda value: value in (record.image.name, record.image.id) or record.row.image == value,
        "volume": lambda value: any(value in (v["name"], v["target"]) for v in record.volumes),
        "network": lambda value: record.request.network == value,
    }
    for key, values in wanted.items():
        if key == "label":
            if not labels_match({**record.image.defaults.labels, **record.request.labels}, values):
                return False
        elif not any(tests[key](value) for value in values):
            return False
    return True


def row(engine: Engine, record: Record, state: State, now_ns: int, *, full: bool, size: bool) -> dict[str, object]:
    """What one container shows; the fields are docker ps's."""
    created_ns = times.parse(record.row.created_at)
    command = " ".join(engine.containers.arguments(record))
    if not full and len(command) > 20:
        command = command[:19] + "…"
    mounts = [str(v["name"])[:12] for v in record.volumes] + [
        m.source for m in record.request.mounts if m.kind == "bind"
    ]
    labels = {**record.image.defaults.labels, **record.request.labels}
    return {
        "ID": record.id if full else record.id[:12],
        "Image": _image(record, full=full),
        "Command": '"' + "".join(c if c.isprintable() and c != '"' else "?" for c in command) + '"',
        "RunningFor": units.ago(created_ns, now_ns),
        "CreatedAt": times.local(created_ns),
        "Status": describe(state, now_ns),
        "State": state.status,
        "Ports": ", ".join(record.image.defaults.exposed_ports)
        if state.is_up and record.request.network == "host"
        else "",
        "Names": record.name,
        "Labels": ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "LocalVolumes": str(len(record.volumes)),
        "Mounts": ",".join(mounts),
        "Networks": record.request.network or "none",
        "Platform": "linux",
        "Size": units.human_size(engine.containers.size_bytes(record)) if size else "0B",
    }


def _image(record: Record, *, full: bool) -> str:
    if record.image.kind == "image":
        from masu.spec import reference

        try:
            return reference.parse(record.image.name).familiar().removesuffix(":latest")
        except ValueError:
            return record.image.name
    return record.image.name


def describe(state: State, now_ns: int) -> str:
    """`Up 5 minutes`, `Exited (0) 2 hours ago`, `Created`."""
    if state.is_up:
        since = units.human_duration(now_ns - times.parse(state.started_at)) if state.started_at else ""
        return f"Up {since}" + (" (Paused)" if state.status == "paused" else "")
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {units.ago(times.parse(state.finished_at), now_ns)}"
    return "Created"


COMMAND = Command(
    "ps",
    "[OPTIONS]",
    "List containers",
    flags=(
        Flag("all", "a", help="Show all containers (default shows just running)"),
        Flag("filter", "f", value="filter", repeated=True, help="Filter output: " + ", ".join(_FILTERS)),
        Flag("format", value="string", help="Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
        Flag(
            "last",
            "n",
            value="int",
            default=-1,
            convert=integer,
            help="Show n last created containers (includes all states)",
        ),
        Flag("latest", "l", help="Show the latest created container (includes all states)"),
        Flag("no-trunc", help="Don't truncate output"),
        Flag("quiet", "q", help="Only display container IDs"),
        Flag("size", "s", help="Display total file sizes"),
    ),
    aliases=("list", "ls"),
    run=run,
)
