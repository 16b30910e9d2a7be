"""`masu exec`."""

from __future__ import annotations

import os

from masu.cli.engine.common import engine_of, say, warn
from masu.cli.options import Call, Command, Flag, UsageError
from masu.engine import notation
from masu.errors import MasuError, Unavailable


def run(call: Call) -> int:
    try:
        return _run(call)
    except MasuError as error:
        if call.globals.on("debug") or isinstance(error, UsageError):
            raise
        from masu.engine.containers import exec_exit_status

        say(f"masu: {error}")
        return exec_exit_status(error)


def _run(call: Call) -> int:
    from masu.engine import execs

    engine, options = engine_of(call), call.options
    record = engine.containers.find(call.args[0])
    env: list[str] = []
    for path in options.all("env-file"):
        env += notation.env_file(path, os.environ)
    env += [notation.env(text, os.environ) for text in options.all("env")]
    detach = options.on("detach")
    request = execs.ExecRequest(
        list(call.args[1:]),
        env=env,
        user=options.text("user"),
        workdir=options.text("workdir"),
        tty=options.on("tty"),
        interactive=options.on("interactive") and not detach,
        privileged=options.on("privileged"),
    )
    if detach:
        warn(execs.start(engine, record, request).warnings)
        return 0
    from masu.cli.engine.session import Session

    session = Session(
        stdin=request.interactive, tty=request.tty, sig_proxy=False, detach_keys=options.text("detach-keys")
    )
    started = execs.start(engine, record, request, on_ready=session.connect)
    warn(started.warnings)
    try:
        status = session.run()
    except Unavailable:
        ended = started.exit()
        status = ended.status if ended else 255
        if ended is None:
            say("masu: exec: monitor lost")
    session.close()
    if status is None:
        return 0  # detached by keys: it goes on
    execs.finish(engine, started, status)
    return status


COMMAND = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    flags=(
        Flag("detach", "d", help="Detached mode: run command in the background"),
        Flag("detach-keys", value="string", help="Override the key sequence for detaching a container"),
        Flag("env", "e", value="list", repeated=True, help="Set environment variables"),
        Flag("env-file", value="list", repeated=True, help="Read in a file of environment variables"),
        Flag("interactive", "i", help="Keep STDIN open even if not attached"),
        Flag("privileged", help="Give extended privileges to the command"),
        Flag("tty", "t", help="Allocate a pseudo-TTY"),
        Flag("user", "u", value="string", help='Username or UID (format: "<name|uid>[:<group|gid>]")'),
        Flag("workdir", "w", value="string", help="Working directory inside the container"),
    ),
    interspersed=False,
    run=run,
)
