"""`masu container VERB` and `masu image VERB`: Docker's longer spellings of the same verbs."""

from __future__ import annotations

from masu.cli.options import Call, Command, UsageError
from masu.errors import closest

_CONTAINER = (
    "attach", "cp", "create", "exec", "inspect", "kill", "logs", "pause", "rename", "restart", "rm", "run", "start",
    "stats", "stop", "top", "unpause", "wait",
)  # fmt: skip
VERBS: dict[str, dict[str, str]] = {
    "container": {**{name: name for name in _CONTAINER}, "ls": "ps", "list": "ps", "ps": "ps"},
    "image": {
        **{name: name for name in ("history", "import", "inspect", "load", "pull", "push", "save", "tag")},
        "ls": "images",
        "list": "images",
        "rm": "rmi",
        "remove": "rmi",
    },
}


def command(noun: str) -> Command:
    """The command that passes on to the verb of its first argument."""
    verbs = VERBS[noun]

    def run(call: Call) -> int:
        verb = verbs.get(call.args[0])
        if verb is None:
            hint = closest(call.args[0], tuple(verbs)) or "verbs: " + ", ".join(sorted(verbs))
            raise UsageError(f"unknown command: masu {noun} {call.args[0]}", hint=hint)
        inner = call.program.parse([verb, *call.args[1:]])
        inner.globals = call.globals
        assert inner.command.run is not None
        return inner.command.run(inner)

    return Command(
        noun,
        "COMMAND [ARG...]",
        f"Manage {noun}s: {', '.join(sorted(set(verbs)))}",
        arity=(1, None),
        interspersed=False,
        run=run,
    )
