"""`start`: one byte into the FIFO that the container's first process reads.

The process keeps both ends of the FIFO open, close-on-exec. So after the byte the FIFO tells the rest: when no writer
is left, the program runs or the process is gone; what kept it from running it has written there.
"""

from __future__ import annotations

import posix as os
import select

from masu.errors import FailedPrecondition, KernelError, MasuError
from masu.runtime import lifecycle
from masu.runtime.container import Container

_SIGKILL = 9
_MAX_ERROR_BYTES = 16 + 2048  # DETAIL_LIMIT (launch.h)


def start(container: Container, *, service_manager: str = "") -> list[str]:
    """Releases a created container and runs its poststart hooks; returns warnings.

    `service_manager` is the address of its NOTIFY_SOCKET: then this returns when the manager knows that the container
    is ready, or when its first process has ended.
    Raises FailedPrecondition when it is not created, what kept the program from running, and the first poststart hook
    that fails; then the container has been stopped.
    """
    warnings: list[str] = []
    relay = None
    try:
        with container.hold():
            container.require("start")
            if service_manager:
                from masu.runtime import notify

                relay = notify.relay(container, service_manager, warnings)
            said = _release(container)
            os.unlink(container.fifo)
        if error := _error(container, said):
            raise error
        run_poststart(container)
        if relay is not None:
            relay.wait(container)
    finally:
        if relay is not None:
            relay.close()
    return warnings


def run_poststart(container: Container) -> None:
    """Since 1.3 of the specification a failing poststart hook stops the container (runtime.md, "Lifecycle"); before,
    it was only worth a warning."""
    if not container.has_hooks("poststart"):
        return
    from masu.runtime import hooks
    from masu.runtime.kill import kill

    try:
        hooks.run_all(container.config(), "poststart", container.state(lifecycle.RUNNING))
    except MasuError as error:
        try:
            kill(container, _SIGKILL, everyone=True)
        except FailedPrecondition:
            pass  # it has ended by itself
        except MasuError as failure:
            error.cleanup.append(failure)
        raise


def _release(container: Container) -> bytes:
    """Sends the byte and waits for the program to run, or for the process to end; returns what it said."""
    try:
        fd = os.open(container.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FailedPrecondition("container has stopped", container.id, detail="nobody waits for start") from error
    try:
        answers = os.open(container.fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(fd, b"\0")
    finally:
        os.close(fd)
    try:
        waiter = select.poll()
        waiter.register(answers, 0)  # POLLHUP alone: the last writer has gone (pipe(7)); the byte is not for us
        waiter.poll()
        return os.read(answers, _MAX_ERROR_BYTES)
    except BlockingIOError:
        return b""  # nothing was said, and somebody who asks for the status (Container.status) has just become a writer
    finally:
        os.close(answers)


def _error(container: Container, said: bytes) -> MasuError | None:
    if len(said) < 16:  # nothing, or our own byte, which nobody has taken
        return None
    from _struct import unpack_from

    from masu.plan.ops import Op
    from masu.runtime.failure import explain

    _, index, errno, _ = unpack_from("<IIii", said)
    config = container.config()
    if config.process is None:
        return KernelError("execve", errno=errno)
    # Only the startContainer hooks and the program itself come after the FIFO: rebuild what `explain` needs of them.
    detail = said[16:].decode("utf-8", "replace")
    hooks_ = config.hooks.start_container if config.hooks is not None else ()
    ops = [Op("hook", f"hooks.startContainer[{number}]", path=hook.path) for number, hook in enumerate(hooks_)]
    ops.append(Op("exec", "process.args", args=config.process.args, env=()))
    return explain(ops, min(index - container.facts.wait_index - 1, len(hooks_)), errno, detail)
