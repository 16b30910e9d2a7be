"""`masu inspect`."""

from __future__ import annotations

from masu.cli.engine.common import engine_of, out, say
from masu.cli.options import Call, Command, Flag
from masu.errors import InvalidArgument, MasuError, NotFound
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine import Engine


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    kind = options.text("type")
    if options.on("files"):
        from masu.engine import filetree

        for ref in call.args:
            out("\n".join(filetree.lines(engine, engine.containers.find(ref))) + "\n")
        return 0
    found: list[object] = []
    status = 0
    for ref in call.args:
        try:
            found.append(_find(engine, ref, kind, size=options.on("size")))
        except MasuError as error:
            say(f"masu: {error}")
            status = 1
    form = options.text("format")
    if form:
        from masu.cli.table import render_each

        out(render_each(found, form, jsontext.dumps))
    else:
        out(jsontext.dumps(found, indent=4) + "\n")
    return status


def _find(engine: Engine, ref: str, kind: str, *, size: bool) -> object:
    """Docker looks for a container first, then an image, then a volume."""
    if kind in ("", "container"):
        try:
            record = engine.containers.find(ref)
        except (NotFound, InvalidArgument):
            if kind:
                raise
        else:
            from masu.engine import inspection

            shown = inspection.container(engine, record)
            if size:
                shown["SizeRw"] = engine.containers.size_bytes(record)
            return shown
    if kind in ("", "image"):
        try:
            return engine.images.inspect(ref)
        except (NotFound, InvalidArgument):
            if kind:
                raise
    if kind in ("", "volume"):
        from masu.cli.engine.volume_ import shown as shown_volume

        try:
            return shown_volume(engine.volumes.get(ref))
        except (NotFound, InvalidArgument):
            if kind:
                raise
    raise NotFound("object", ref, detail="no container, image or volume is called so")


COMMAND = Command(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on containers and images",
    flags=(
        Flag("format", "f", value="string", help="Format output using a Go template, or 'json'"),
        Flag("files", help="Print the tree of files behind a container instead"),
        Flag("size", "s", help="Display total file sizes if the type is container"),
        Flag(
            "type",
            value="string",
            choices=("container", "image", "volume"),
            help="Only inspect objects of the given type",
        ),
    ),
    run=run,
)
