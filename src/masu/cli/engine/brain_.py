"""`masu brain status|stop`: the interpreters that wait for this user's commands (masu.cli.brain)."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket
from _struct import pack

from masu.cli.engine.common import out
from masu.cli.options import Call, Command, Flag
from masu.cli.table import Listing
from masu.errors import InvalidArgument, closest
from masu.linux.front import ASK_LEAVE, ASK_STATUS, MESSAGE_LIMIT
from masu.spec import jsontext

_ACTIONS = ("status", "stop")
_LISTING = Listing(
    (("Pid", "PID"), ("Version", "VERSION"), ("Calls", "CALLS"), ("Memory", "MEMORY"), ("Started", "STARTED"),
     ("Package", "PACKAGE")), (("Socket", "SOCKET"), ("StartedAt", "STARTED AT")),
)  # fmt: skip
_PATIENCE_S = 10


def run(call: Call) -> int:
    action = call.args[0]
    if action not in _ACTIONS:
        detail = f"want one of {', '.join(_ACTIONS)}"
        raise InvalidArgument("command", action, where="brain", detail=detail, hint=closest(action, _ACTIONS))
    found = [(path, about) for path in _sockets() if (about := _ask(path, action)) is not None]
    if action == "stop":
        # It takes no call from now on, and ends with the last that it has: this one, perhaps.
        out("".join(f"{about['pid']}\n" for _, about in found))
        return 0
    out(_LISTING.render([_row(path, about) for path, about in found], call.options.text("format")))
    return 0


def _sockets() -> list[str]:
    """Where brains of this user's may listen (native/front/home.c)."""
    places = []
    for runtime in ("/run", os.environ.get("XDG_RUNTIME_DIR", "")):
        folder = runtime + "/masu/brain"
        try:
            places += [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if not name.endswith(".lock")]
        except OSError:
            continue
    return places


def _ask(path: str, action: str) -> dict[str, object] | None:
    """What a brain says of itself; None where there is none any more, or none that answers."""
    connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        connection.settimeout(_PATIENCE_S)
        connection.connect(path)
        if not connection.recv(MESSAGE_LIMIT):
            return None
        connection.send(pack("<IIII", ASK_LEAVE if action == "stop" else ASK_STATUS, 0, 0, 0))
        answer = connection.recv(MESSAGE_LIMIT)
    except OSError:
        return None
    finally:
        connection.close()
    about = jsontext.loads(answer, name=path) if answer else None
    return about if isinstance(about, dict) else None


def _row(path: str, about: dict[str, object]) -> dict[str, object]:
    from masu.cli.units import ago, human_size
    from masu.spec import times

    started = str(about.get("started"))
    return {
        "Pid": str(about.get("pid")),
        "Version": str(about.get("version")),
        "Calls": str(about.get("calls")),
        "Memory": human_size(_memory(about.get("pid"))),
        "Started": ago(times.parse(started)),
        "Package": str(about.get("package")),
        "Socket": path,
        "StartedAt": started,
    }


def _memory(pid: object) -> int:
    """Bytes that it and its spares have in memory, what they share counted once."""
    total = 0
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            pids = [str(pid), *file.read().split()]
    except OSError:
        return 0
    for one in pids:
        try:
            with open(f"/proc/{one}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total * 1024


COMMAND = Command(
    "brain",
    "status|stop [OPTIONS]",
    "Show or end the interpreters that wait for commands",
    flags=(Flag("format", value="string", help="Format output: json, a template, or table and a template"),),
    arity=(1, 1),
    description=(
        "A brain is a running interpreter of this user's that commands are handed to, started by the first one and "
        "gone after a minute without any. MASU_BRAIN=off goes without, require wants one, auto (the default) takes "
        "one that is there."
    ),
    run=run,
)
