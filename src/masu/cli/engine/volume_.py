"""`masu volume ls|create|inspect|rm`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of, out
from masu.cli.options import Call, Command, Flag
from masu.cli.table import Listing
from masu.engine import notation
from masu.errors import InvalidArgument, closest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.volumes import Volume

_LISTING = Listing(
    (("Driver", "DRIVER"), ("Name", "VOLUME NAME")), (("Mountpoint", "MOUNTPOINT"), ("Labels", "LABELS"))
)
_ACTIONS = ("ls", "create", "inspect", "rm")


def shown(volume: Volume) -> dict[str, object]:
    """docker volume inspect's object."""
    return {
        "CreatedAt": volume.created_at,
        "Driver": "local",
        "Labels": volume.labels or None,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    action, names = call.args[0], call.args[1:]
    if action == "ls":
        volumes = engine.volumes.all()
        if options.on("quiet"):
            out("".join(f"{volume.name}\n" for volume in volumes))
            return 0
        rows = [{**shown(v), "Labels": ",".join(f"{k}={x}" for k, x in sorted(v.labels.items()))} for v in volumes]
        out(_LISTING.render(rows, options.text("format")))
        return 0
    if action == "create":
        labels = dict(notation.label(text) for text in options.all("label"))
        for name in names or ("",):
            out(engine.volumes.ensure(name, labels=labels).name + "\n")
        return 0
    if action == "inspect":
        from masu.spec import jsontext

        found: list[object] = [shown(engine.volumes.get(name)) for name in names]
        if options.text("format"):
            from masu.cli.table import render_each

            out(render_each(found, options.text("format"), jsontext.dumps))
        else:
            out(jsontext.dumps(found, indent=4) + "\n")
        return 0
    if action == "rm":
        users: dict[str, list[str]] = {}
        for record in engine.containers.all():
            for volume in record.volumes:
                users.setdefault(str(volume["name"]), []).append(record.name)
        return each(names, lambda name: engine.volumes.remove(name, users.get(name, [])))
    raise InvalidArgument("action", action, hint=closest(action, _ACTIONS) or "actions: " + ", ".join(_ACTIONS))


COMMAND = Command(
    "volume",
    "ls|create|inspect|rm [OPTIONS] [VOLUME...]",
    "Manage volumes",
    flags=(
        Flag("format", "f", value="string", help="Format output using a Go template, or 'json'"),
        Flag("label", value="list", repeated=True, help="Set metadata for a volume"),
        Flag("quiet", "q", help="Only display volume names"),
    ),
    arity=(1, None),
    run=run,
)
