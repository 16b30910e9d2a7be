"""`masu import`."""

from __future__ import annotations

from masu.cli import thirdparty
from masu.cli.engine.common import engine_of, out
from masu.cli.options import Call, Command, Flag
from masu.errors import Unimplemented


def run(call: Call) -> int:
    thirdparty.enable()
    options = call.options
    source: str | int = call.args[0]
    if call.args[0] == "-":
        source = 0
    elif "://" in call.args[0]:
        raise Unimplemented("import", call.args[0], detail="from a URL", hint=f"curl -L {call.args[0]} | masu import -")
    image = engine_of(call).images.import_archive(
        source,
        call.args[1] if len(call.args) > 1 else "",
        changes=options.all("change"),
        message=options.text("message"),
        platform=options.text("platform"),
    )
    out(f"{image.id}\n")
    return 0


COMMAND = Command(
    "import",
    "[OPTIONS] file|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    flags=(
        Flag("change", "c", value="list", repeated=True, help="Apply Dockerfile instruction to the created image"),
        Flag("message", "m", value="string", help="Set commit message for imported image"),
        Flag("platform", value="string", help="Set platform of the image"),
    ),
    run=run,
)
