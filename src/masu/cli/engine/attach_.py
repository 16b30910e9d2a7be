"""`masu attach`, and what follows the end of an attached session."""

from __future__ import annotations

from masu.cli.engine.common import engine_of, say
from masu.cli.options import Call, Command, Flag
from masu.errors import FailedPrecondition, NotFound, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.cli.engine.session import Session
    from masu.engine import Engine
    from masu.engine.records import Record


def run(call: Call) -> int:
    from masu.cli.engine.session import Session

    engine = engine_of(call)
    record = engine.containers.find(call.args[0])
    state = engine.containers.state(record)
    if state.status == "paused":
        raise FailedPrecondition("container", record.name, detail="is paused, unpause it before attaching")
    if not state.is_up:
        raise FailedPrecondition("container", record.name, detail="is not running, start it before attaching")
    session = Session(
        stdin=record.request.interactive and not call.options.on("no-stdin"),
        tty=record.request.tty,
        sig_proxy=call.options.on("sig-proxy") and not record.request.tty,
        detach_keys=call.options.text("detach-keys"),
    )
    session.connect(engine.containers.socket_path(record))
    return attend(engine, record, session, remove=False)


def attend(engine: Engine, record: Record, session: Session, *, remove: bool) -> int:
    """The session's loop, then the exit status; with `remove` the container goes away after its end."""
    try:
        status = session.run()
        if status is None:
            return 0  # detached by keys: it goes on
        if remove:
            session.promise_cleanup()
    except Unavailable:
        # the monitor was killed: the container went with it, and looking records that
        state = engine.containers.wait(record.id)
        say(f"masu: container {record.name}: {state.reason or 'ended'}")
        status = state.exit_code
    if remove:
        discard(engine, record)
    session.close()
    return status


def discard(engine: Engine, record: Record) -> None:
    """Removes a --rm container and its nameless volumes; somebody else may have been faster."""
    try:
        engine.containers.remove(record.id, force=True, volumes=True)
    except NotFound:
        pass


COMMAND = Command(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    flags=(
        Flag("detach-keys", value="string", help="Override the key sequence for detaching a container"),
        Flag("no-stdin", help="Do not attach STDIN"),
        Flag("sig-proxy", default=True, help="Proxy all received signals to the process"),
    ),
    run=run,
)
