"""Processes by descriptor: a pidfd stays with its process, whatever becomes of the number (pidfd_open(2))."""

from __future__ import annotations

import _signal
import errno
import posix as os

from masu.errors import KernelError, NotFound
from masu.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.procfs import Identity

_CLD_EXITED = 1
_CLD_DUMPED = 3


class Exit:
    """How a process ended: `code` of exit(3), or `signal` that killed it (and `core` whether it dumped)."""

    __slots__ = ("code", "core", "pid", "signal")

    def __init__(self, pid: int, *, code: int = 0, signal: int = 0, core: bool = False) -> None:
        self.pid = pid
        self.code = code
        self.signal = signal
        self.core = core

    def status(self) -> int:
        """As a shell says it: the code, or 128 + signal."""
        return 128 + self.signal if self.signal else self.code

    def __repr__(self) -> str:
        return f"Exit({self.pid}, code={self.code}, signal={self.signal})"


def open(pid: int) -> int:
    """A pidfd, close-on-exec. Raises NotFound when there is no such process (a zombie still is one), KernelError."""
    try:
        return os.pidfd_open(pid)
    except OSError as e:
        if e.errno in (errno.ESRCH, errno.EINVAL):
            raise NotFound("process", pid) from e
        raise KernelError("pidfd_open", pid, e.errno or 0) from e


def open_identity(identity: Identity) -> int:
    """The pidfd of one process and no other that took its number: the start time is looked at after the open, when
    the number can no longer change hands unseen. Raises NotFound, KernelError."""
    fd = open(identity.pid)
    try:
        if procfs.stat(identity.pid).start_time != identity.start_time:
            raise NotFound("process", identity.pid, detail="its number belongs to another one now")
        if has_exited(fd):
            # The number may have been given away between the two calls, but then this one has exited.
            raise NotFound("process", identity.pid)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_checked(pid: int, start_time: int) -> int | None:
    """As `open_identity`, None when that process is gone."""
    try:
        return open_identity(procfs.Identity(pid, start_time))
    except NotFound:
        return None


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal; 0 only asks. Raises ProcessLookupError when the process is gone already, KernelError."""
    try:
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise
    except OSError as e:
        raise KernelError("pidfd_send_signal", number, e.errno or 0) from e


def has_exited(pidfd: int) -> bool:
    """Whether the process has ended, reaped or not."""
    return wait_exited(pidfd, 0)


def wait_exited(pidfd: int, timeout_s: float | None = None) -> bool:
    """Wait until the process has ended (all its threads); False when the time ran out. It is not reaped."""
    from select import poll  # built in, or an extension of its own in some builds

    poller = poll()
    poller.register(pidfd, 1)  # POLLIN
    return bool(poller.poll(None if timeout_s is None else max(0, int(timeout_s * 1000 + 0.999))))


def reap(pidfd: int, *, block: bool = True) -> Exit | None:
    """Reap a child of ours: how it ended, or None when `block` is False and it has not.

    Raises KernelError ECHILD for who is not our child or was reaped before.
    """
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | (0 if block else os.WNOHANG))
    except OSError as e:
        raise KernelError("waitid", "", e.errno or 0) from e
    if result is None:
        return None
    if result.si_code == _CLD_EXITED:
        return Exit(result.si_pid, code=result.si_status)
    return Exit(result.si_pid, signal=result.si_status, core=result.si_code == _CLD_DUMPED)


def get_fd(pidfd: int, target_fd: int) -> int:
    """A copy of another process's descriptor, close-on-exec (ptrace rights wanted, pidfd_getfd(2)). KernelError."""
    from masu.linux import _sys  # an extension is opened, which few need

    try:
        return _sys.pidfd_getfd(pidfd, target_fd)
    except OSError as e:
        raise KernelError("pidfd_getfd", target_fd, e.errno or 0) from e
