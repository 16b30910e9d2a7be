"""masu-oci start"""

from __future__ import annotations

from masu.cli.oci import environment, log_of, root_of
from masu.cli.options import Call, Command
from masu.runtime.container import Container
from masu.runtime.start import start


def run(call: Call) -> int:
    container = Container.open(root_of(call), call.args[0])
    for warning in start(container, service_manager=environment("NOTIFY_SOCKET")):
        log_of(call).warning(warning)
    return 0


COMMAND = Command(
    "start", "<container-id>", "executes the user defined process in a created container", arity=(1, 1), run=run
)
