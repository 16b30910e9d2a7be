"""`masu start`."""

from __future__ import annotations

from masu.cli.engine.common import each, engine_of, out, warn
from masu.cli.options import Call, Command, Flag
from masu.errors import FailedPrecondition, InvalidArgument


def run(call: Call) -> int:
    engine = engine_of(call)
    attached = call.options.on("attach") or call.options.on("interactive")
    if attached:
        if len(call.args) > 1:
            raise InvalidArgument(
                "container", where="--attach", detail="you cannot start and attach multiple containers at once"
            )
        from masu.cli.engine.attach_ import attend
        from masu.cli.engine.session import Session

        record = engine.containers.find(call.args[0])
        session = Session(
            stdin=call.options.on("interactive") and record.request.interactive,
            tty=record.request.tty,
            sig_proxy=call.options.on("sig-proxy"),
            detach_keys=call.options.text("detach-keys"),
        )
        warn(engine.containers.start(record.id, on_ready=session.connect).warnings)
        return attend(engine, record, session, remove=record.request.auto_remove)

    def start(ref: str) -> None:
        record = engine.containers.find(ref)
        if engine.containers.state(record).is_up:
            return  # Docker's: starting what runs is no error
        try:
            warn(engine.containers.start(record.id).warnings)
        except FailedPrecondition:
            if not engine.containers.state(record).is_up:
                raise

    status = each(call.args, start, echo=False)
    if not status:
        out("".join(f"{ref}\n" for ref in call.args))
    return status


COMMAND = Command(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    flags=(
        Flag("attach", "a", help="Attach STDOUT/STDERR and forward signals"),
        Flag("detach-keys", value="string", help="Override the key sequence for detaching a container"),
        Flag("interactive", "i", help="Attach container's STDIN"),
        Flag("sig-proxy", default=True, hidden=True),
    ),
    run=run,
)
