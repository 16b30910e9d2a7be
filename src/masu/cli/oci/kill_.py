"""masu-oci kill"""

from __future__ import annotations

from masu.cli.oci import root_of
from masu.cli.options import Call, Command, Flag
from masu.linux import signals
from masu.runtime.container import Container
from masu.runtime.kill import kill


def run(call: Call) -> int:
    # An empty word is none, as for runc: `kill "$id" "$signal"`.
    word = (call.args[1] if len(call.args) > 1 else "") or "SIGTERM"
    # Signal 0 only asks whether somebody is there (kill(2)).
    signal = 0 if word == "0" else signals.number(word)

    def to(id: str) -> int:
        kill(Container.open(root_of(call), id), signal, everyone=call.options.on("all"))
        return 0

    if call.options.on("regex"):
        from masu.cli.oci import matching

        return matching.each(call, to)
    return to(call.args[0])


COMMAND = Command(
    "kill",
    "[command options] <container-id> [signal]",
    "sends the specified signal (default: SIGTERM) to the container's init process",
    flags=(
        Flag("all", "a", help="send the specified signal to all processes inside the container", hidden=True),
        Flag("regex", "r", help="take the id for a regular expression: every container that matches gets the signal"),
    ),
    arity=(1, 2),
    run=run,
)
