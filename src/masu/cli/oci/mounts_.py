"""masu-oci mounts add|remove"""

from __future__ import annotations

from masu.cli.oci import log_of, root_of
from masu.cli.options import Call, Command
from masu.errors import InvalidArgument
from masu.runtime import mounting
from masu.runtime.container import Container

_ACTIONS = {"add": mounting.add, "remove": mounting.remove}


def run(call: Call) -> int:
    word, id, file = call.args
    action = _ACTIONS.get(word)
    if action is None:
        raise InvalidArgument("mounts", word, detail="allowed are add, remove")
    log = log_of(call)
    for warning in action(Container.open(root_of(call), id), mounting.read_mounts(file)):
        log.warning(warning)
    return 0


COMMAND = Command(
    "mounts",
    "add|remove <container-id> FILE",
    "add mounts to a container that is there, or remove them",
    description=(
        'FILE is a list in JSON, in the form of "mounts" in config.json. `remove` looks at the destinations alone.\n'
        "As crun's command of this name."
    ),
    arity=(3, 3),
    run=run,
)
