"""masu-oci ps"""

from __future__ import annotations

import posix as os

from masu.cli.oci import root_of
from masu.cli.options import Call, Command, Flag
from masu.errors import InvalidArgument, Unavailable
from masu.linux import fds, spawn
from masu.runtime.container import Container
from masu.spec import jsontext

_MAX_OUTPUT = 64 << 20
_PLACES = "/bin:/usr/bin"  # without a PATH, as execvp(3)


def run(call: Call) -> int:
    container = Container.open(root_of(call), call.args[0])
    container.require("ps")
    pids = container.pids()
    format = call.options.text("format")
    if format == "json":
        os.write(1, jsontext.dumps(pids).encode() + b"\n")
        return 0
    if format != "table":
        raise InvalidArgument("invalid format option", format, where="--format", detail="allowed are table, json")
    fds.write_all(1, _table(pids, list(call.args[1:]) or ["-ef"]).encode("utf-8", "surrogateescape"))
    return 0


def _table(pids: list[int], options: list[str]) -> str:
    """The lines of ps(1) that belong to these pids, found by its PID column."""
    program = spawn.find("ps", _PLACES)
    if not program:
        raise Unavailable("ps", detail="not installed", hint="apt install procps, or use --format json")
    environment = [(name + b"=" + value).decode("utf-8", "surrogateescape") for name, value in os.environ.items()]
    out, words = fds.memfd("ps", b"", sealed=False), fds.memfd("ps errors", b"", sealed=False)
    try:
        pid = spawn.spawn(program, ["ps", *options], environment, stdio=(spawn.INHERIT, out, words))
        _, status = spawn.wait(pid)
        text, said = (_text(fd) for fd in (out, words))
    finally:
        os.close(out)
        os.close(words)
    if status != 0:
        exited = f"exit status {os.waitstatus_to_exitcode(status)}"
        raise Unavailable("ps " + " ".join(options), detail=said.strip() or exited)
    lines = text.splitlines()
    header = lines[0].split()
    if "PID" not in header:
        raise InvalidArgument("ps options", " ".join(options), detail="couldn't find PID field in ps output")
    column = header.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = [line for line in lines[1:] if len(fields := line.split()) > column and fields[column] in wanted]
    return "\n".join([lines[0], *kept]) + "\n"


def _text(fd: int) -> str:
    os.lseek(fd, 0, 0)
    return fds.read_all(fd, _MAX_OUTPUT, "ps").decode("utf-8", "surrogateescape")


COMMAND = Command(
    "ps",
    "[command options] <container-id> [ps options]",
    "ps displays the processes running inside a container",
    flags=(Flag("format", "f", value="value", default="table", help="select one of: table or json"),),
    arity=(1, None),
    interspersed=False,
    run=run,
)
