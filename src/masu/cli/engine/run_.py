"""`masu run`."""

from __future__ import annotations

from masu.cli.engine.attach_ import attend, discard
from masu.cli.engine.common import engine_of, out, say, warn
from masu.cli.engine.creation import FLAGS, ensure_image, image_and_command, request_of, write_cidfile
from masu.cli.options import Call, Command, Flag, UsageError
from masu.errors import InvalidArgument, MasuError


def run(call: Call) -> int:
    try:
        return _run(call)
    except MasuError as error:
        if call.globals.on("debug") or isinstance(error, UsageError):
            raise
        from masu.engine.containers import exit_status  # 127, 126, or Docker's 125 for what is not the program's fault

        say(f"masu: {error}")
        return exit_status(error)


def _run(call: Call) -> int:
    options = call.options
    engine = engine_of(call)
    image, command = image_and_command(call)
    request = request_of(call, command)
    detach = options.on("detach")
    streams = {word.lower() for word in options.all("attach")}
    if detach and streams:
        raise InvalidArgument("--attach", where="--detach", detail="conflicting options: -a and -d")
    # Docker attaches stdin when it is kept open and streams are not named
    stdin = request.interactive and (not streams or "stdin" in streams)
    request.stdin_once = stdin and not detach
    session = None
    if not detach:
        from masu.cli.engine.session import Session  # not for detached ones

        session = Session(
            stdin=stdin,
            tty=request.tty,
            stdout=not streams or "stdout" in streams,
            stderr=not streams or "stderr" in streams,
            sig_proxy=options.on("sig-proxy"),
            detach_keys=options.text("detach-keys"),
        )
    ensure_image(engine, call, image)
    record = engine.containers.create(image, request, name=options.text("name"))
    try:
        if options.given("cidfile"):
            write_cidfile(options.text("cidfile"), record.id)
        if session is None:
            warn(engine.containers.start(record.id).warnings)
            out(f"{record.id}\n")
            return 0
        session.listen()
        started = engine.containers.start(record.id, on_ready=session.connect)
    except BaseException:
        # also when ctrl-c came before there was a program to pass it to
        if request.auto_remove:
            discard(engine, record)
        raise
    warn(started.warnings)
    return attend(engine, record, session, remove=request.auto_remove)


COMMAND = Command(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    flags=(
        *FLAGS,
        Flag("detach", "d", help="Run container in background and print container ID"),
        Flag("detach-keys", value="string", help="Override the key sequence for detaching a container"),
        Flag("sig-proxy", default=True, help="Proxy received signals to the process"),
    ),
    arity=(0, None),
    interspersed=False,
    description='The image "host" is this machine\'s own root file system; changes to it are kept with the container.',
    run=run,
)
