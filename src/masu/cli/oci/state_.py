"""masu-oci state"""

from __future__ import annotations

import posix as os

from masu.cli.oci import root_of
from masu.cli.options import Call, Command
from masu.runtime.container import Container
from masu.runtime.listing import row
from masu.spec import jsontext


def run(call: Call) -> int:
    container = Container.open(root_of(call), call.args[0])
    os.write(1, jsontext.dumps(row(container, owner=False), indent=2).encode())
    return 0


COMMAND = Command("state", "<container-id>", "output the state of a container", arity=(1, 1), run=run)
