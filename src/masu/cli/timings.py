"""Where the time of a command went, as bars on standard error.

    front     the native command, until somebody could do the work
    start     the interpreter's, without a brain
    masu      our own code: reading, deciding, writing down
    kernel    masu-launch, and what it asks of the kernel for a container
    program   the container's own, while somebody watches it
"""

from __future__ import annotations

import os
import sys
from time import monotonic_ns

from masu.linux import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.cli.options import Call

_WIDTH = 40


def timed(call: Call) -> int:
    """Runs the command; then the bars."""
    begun = monotonic_ns()
    try:
        assert call.command.run is not None
        return call.command.run(call)
    finally:
        os.write(2, render(spans(begun, monotonic_ns())).encode())


def spans(begun: int, ended: int) -> list[tuple[str, int]]:
    """(name, nanoseconds), of a command that our code began and ended then."""
    found = []
    if spawn.front is not None:
        found += [("front", spawn.front.taken_ns - spawn.front.began_ns), ("masu", begun - spawn.front.taken_ns)]
    elif began := sys._xoptions.get("began"):
        found.append(("start", begun - int(began)))
    launch, session = sys.modules.get("masu.runtime.launch"), sys.modules.get("masu.cli.engine.session")
    kernel = launch.spent_ns if launch is not None else 0
    program = session.Session.ran_ns if session is not None else 0
    ours = ended - begun - kernel - program
    if found and found[-1][0] == "masu":
        ours += found.pop()[1]
    return [*found, ("masu", ours), ("kernel", kernel), ("program", program)]


def render(found: list[tuple[str, int]]) -> str:
    total = sum(ns for _, ns in found) or 1
    lines = [f"{'total':8} {total / 1e6:9.2f} ms"]
    for name, ns in found:
        if ns > 0:
            lines.append(f"{name:8} {ns / 1e6:9.2f} ms  {'█' * max(1, round(ns / total * _WIDTH))}")
    return "\n".join(lines) + "\n"
