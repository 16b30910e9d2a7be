"""`masu events`."""

from __future__ import annotations

import select
import time

from masu.cli import units
from masu.cli.engine.common import engine_of, filters, out
from masu.cli.options import Call, Command, Flag
from masu.spec import jsontext, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.store import Event

_LOOK_MS = 200
_FILTERS = ("container", "topic")


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    wanted = filters(options.all("filter"), _FILTERS)
    since, until = options.value("since"), options.value("until")
    events = engine.ns.events
    seq = 0 if since is not None else events.last()
    poll = select.poll()
    while True:
        batch = events.since(seq)
        for event in batch:
            seq = event.seq
            at = times.parse(event.time)
            if isinstance(since, int) and at < since:
                continue
            if isinstance(until, int) and at > until:
                return 0
            if _matches(event, wanted):
                out(_line(event, options.text("format")))
        if not batch:
            if isinstance(until, int) and time.time_ns() >= until:
                return 0
            poll.poll(_LOOK_MS)


def _matches(event: Event, wanted: dict[str, list[str]]) -> bool:
    ids = [str(event.payload.get(key, "")) for key in ("container_id", "id")]
    if "container" in wanted and not any(id and id.startswith(v) for id in ids for v in wanted["container"]):
        return False
    return "topic" not in wanted or any(event.topic.startswith(v) for v in wanted["topic"])


def _line(event: Event, form: str) -> str:
    facts: dict[str, object] = {
        "Timestamp": event.time, "Namespace": event.namespace, "Topic": event.topic, "Event": event.payload,
        "Seq": event.seq,
    }  # fmt: skip
    if form == "json":
        return jsontext.dumps(facts) + "\n"
    if form:
        from masu.cli.table import render_each

        return render_each([facts], form, jsontext.dumps)
    return f"{event.time} {event.namespace} {event.topic} {jsontext.dumps(event.payload)}\n"


COMMAND = Command(
    "events",
    "[OPTIONS]",
    "Get events",
    flags=(
        Flag("filter", "f", value="filter", repeated=True, help="Filter output: " + ", ".join(_FILTERS)),
        Flag("format", value="string", help="Format output: 'json', or a Go template"),
        Flag("since", value="string", convert=units.moment, help="Show all events created since timestamp"),
        Flag("until", value="string", convert=units.moment, help="Stream events until this timestamp"),
    ),
    run=run,
)
