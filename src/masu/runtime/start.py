"""`start`: one byte into the FIFO that the container's first process reads.

The process keeps both ends of the FIFO open, close-on-exec. So after the byte our own end tells the rest: when no
reader is left, the program runs or the process is gone; what kept it from running is in start.err.
"""

from __future__ import annotations

import os
import select
from _struct import unpack_from

from masu.errors import FailedPrecondition, KernelError
from masu.plan.ops import Op
from masu.runtime import hooks, lifecycle
from masu.runtime.container import Container
from masu.runtime.failure import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.errors import MasuError

_MAX_ERROR_BYTES = 16384


def start(container: Container) -> list[str]:
    """Releases a created container; returns warnings of poststart hooks.

    Raises FailedPrecondition when it is not created, and what kept the program from running.
    """
    with container.lock():
        container.require("start")
        _release(container)
        os.unlink(container.fifo)
        error = _read_error(container)
    if error is not None:
        raise error
    config = container.config()
    if config.hooks is None or not config.hooks.poststart:
        return []
    return hooks.run_all_warning(config.hooks.poststart, "poststart", container.state(lifecycle.RUNNING))


def _release(container: Container) -> None:
    try:
        fd = os.open(container.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FailedPrecondition("container has stopped", container.id, detail="nobody waits for start") from error
    try:
        os.write(fd, b"\0")
        waiter = select.poll()
        waiter.register(fd, 0)  # POLLERR alone: the last reader has gone (pipe(7))
        waiter.poll()
    except BrokenPipeError:
        pass
    finally:
        os.close(fd)


def _read_error(container: Container) -> MasuError | None:
    fd = os.open(container.error_file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _MAX_ERROR_BYTES)
    finally:
        os.close(fd)
    if len(data) < 16:
        return None
    errno: int = unpack_from("<IIii", data)[2]
    config = container.config()
    if config.process is None:
        return KernelError("execve", errno=errno)
    # Only the hooks and the program itself come after the FIFO: rebuild what `explain` needs of them.
    detail = data[16:].decode("utf-8", "replace")
    if detail.startswith("hook "):
        return KernelError("startContainer hook", errno=errno, detail=detail, where="hooks.startContainer")
    return explain([Op("exec", "process.args", args=config.process.args, env=())], 0, errno, detail)
