"""masu-oci pause"""

from __future__ import annotations

from masu.cli.oci import root_of
from masu.cli.options import Call, Command
from masu.runtime.container import Container


def run(call: Call) -> int:
    container = Container.open(root_of(call), call.args[0])
    with container.hold():
        container.require("pause")
        container.cgroup.freeze()
    return 0


COMMAND = Command("pause", "<container-id>", "suspends all processes inside the container", arity=(1, 1), run=run)
