"""`masu explain run …`."""

from __future__ import annotations

from masu.cli.engine.common import engine_of, out
from masu.cli.options import Call, Command, Flag
from masu.errors import InvalidArgument


def run(call: Call) -> int:
    from masu.cli.engine.creation import image_and_command, request_of
    from masu.engine.explain import explain
    from masu.spec import jsontext

    verb, rest = call.args[0], call.args[1:]
    if verb not in ("run", "create"):
        raise InvalidArgument(
            "command", verb, detail="only run and create are explained", hint="masu explain run IMAGE"
        )
    inner = call.program.parse([verb, *rest])
    image, command = image_and_command(inner)
    stages = explain(engine_of(call), image, request_of(inner, command))
    if call.options.on("json"):
        out(jsontext.dumps([{"stage": stage.title, "data": stage.data} for stage in stages], indent=2) + "\n")
        return 0
    for stage in stages:
        out(f"{stage.title}\n" + "".join(f"    {line}\n" for line in stage.lines) + "\n")
    return 0


COMMAND = Command(
    "explain",
    "[OPTIONS] run [RUN OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Show what each layer would do for a command, without doing it",
    flags=(Flag("json", help="As data"),),
    arity=(1, None),
    interspersed=False,
    run=run,
)
