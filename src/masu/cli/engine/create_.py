"""`masu create`."""

from __future__ import annotations

from masu.cli.engine.common import engine_of, out
from masu.cli.engine.creation import FLAGS, ensure_image, image_and_command, request_of, write_cidfile
from masu.cli.options import Call, Command


def run(call: Call) -> int:
    engine = engine_of(call)
    image, command = image_and_command(call)
    request = request_of(call, command)
    request.stdin_once = request.interactive
    ensure_image(engine, call, image)
    record = engine.containers.create(image, request, name=call.options.text("name"))
    if call.options.given("cidfile"):
        write_cidfile(call.options.text("cidfile"), record.id)
    out(f"{record.id}\n")
    return 0


COMMAND = Command(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    flags=FLAGS,
    arity=(0, None),
    interspersed=False,
    run=run,
)
