"""`masu top`."""

from __future__ import annotations

import os
import time

from masu.cli.engine.common import engine_of, out
from masu.cli.options import Call, Command
from masu.cli.table import align
from masu.errors import InvalidArgument, Unavailable

_PS = ("/usr/bin/ps", "/bin/ps")


def run(call: Call) -> int:
    from masu.engine import usage

    engine = engine_of(call)
    record = engine.containers.find(call.args[0])
    if len(call.args) > 1:
        out(_by_ps(usage.pids(engine, record), list(call.args[1:])))
        return 0
    rows = [["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]]
    today = time.strftime("%Y%m%d")
    now_ns = time.time_ns()
    for process in usage.processes(engine, record):
        began = time.localtime(process.start_ns // 1_000_000_000)
        stime = time.strftime("%H:%M" if time.strftime("%Y%m%d", began) == today else "%b%d", began)
        elapsed_s = max((now_ns - process.start_ns) / 1e9, 1e-9)
        minutes, seconds = divmod(process.cpu_seconds, 60)
        rows.append(
            [
                _user(process.uid), str(process.pid), str(process.ppid),
                str(min(int(process.cpu_seconds * 100 / elapsed_s), 99)), stime, _tty(process.tty),
                f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}", process.command,
            ]
        )  # fmt: skip
    out(align(rows))
    return 0


def _user(uid: int) -> str:
    # as the machine that looks names them, like ps
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _tty(number: int) -> str:
    if not number:
        return "?"
    major, minor = os.major(number), os.minor(number)
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major <= 143 else f"tty{minor}"


def _by_ps(pids: list[int], options: list[str]) -> str:
    """The machine's own ps with the user's options; of its lines those of the container, as Docker does."""
    import subprocess

    program = next((path for path in _PS if os.access(path, os.X_OK)), None)
    if program is None:
        raise Unavailable("ps", detail="this machine has no ps", hint="without options masu top needs none")
    done = subprocess.run(
        [program, *options], capture_output=True, text=True, check=False, env={"LC_ALL": "C", "COLUMNS": "4096"}
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise InvalidArgument("ps options", " ".join(options), detail=done.stderr.strip().partition("\n")[0])
    heading = lines[0].split()
    if "PID" not in heading:
        raise InvalidArgument("ps options", " ".join(options), detail="its output has no PID column")
    column = heading.index("PID")
    wanted = {str(pid) for pid in pids}
    rows = [heading]
    for line in lines[1:]:
        words = line.split(None, len(heading) - 1)
        if len(words) > column and words[column] in wanted:
            rows.append(["".join(c if c.isprintable() else "?" for c in word) for word in words])
    return align(rows)


COMMAND = Command(
    "top",
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    arity=(1, None),
    interspersed=False,
    run=run,
)
