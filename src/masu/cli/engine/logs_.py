"""`masu logs`."""

from __future__ import annotations

from masu.cli import units
from masu.cli.engine.common import engine_of
from masu.cli.options import Call, Command, Flag, natural
from masu.linux import fds


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    record = engine.containers.find(call.args[0])
    entries = engine.containers.logs(
        record,
        tail=_number(options.value("tail")),
        since_ns=_number(options.value("since")),
        until_ns=_number(options.value("until")),
        follow=options.on("follow"),
    )
    stamped = options.on("timestamps")
    # one write for a batch of records of one stream; a terminal gets both streams through stdout
    outputs = {"stdout": 1, "stderr": 1 if record.request.tty else 2}
    fresh = {1: True, 2: True}
    for batch in entries:
        pending: list[bytes] = []
        current = 1
        for entry in batch:
            fd = outputs[entry.stream]
            if fd != current and pending:
                fds.write_all(current, b"".join(pending))
                pending = []
            current = fd
            if stamped and fresh[fd]:
                pending.append(entry.time + b" ")
            fresh[fd] = entry.data.endswith(b"\n")
            pending.append(entry.data)
        if pending:
            fds.write_all(current, b"".join(pending))
    return 0


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _tail(text: str) -> object:
    return None if text == "all" else natural(text)


COMMAND = Command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    flags=(
        Flag("follow", "f", help="Follow log output"),
        Flag("since", value="string", convert=units.moment,
             help='Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'),
        Flag("tail", "n", value="string", convert=_tail,
             help='Number of lines to show from the end of the logs (default "all")'),
        Flag("timestamps", "t", help="Show timestamps"),
        Flag("until", value="string", convert=units.moment,
             help='Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'),
    ),
    run=run,
)  # fmt: skip
