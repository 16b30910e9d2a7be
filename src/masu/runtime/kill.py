"""`kill`: a signal to the first process, or to all of them."""

from __future__ import annotations

import posix as os

from masu.errors import FailedPrecondition, KernelError, MasuError, NotFound
from masu.linux import pidfd
from masu.runtime import lifecycle
from masu.runtime.container import Container

_SIGKILL = 9


def kill(container: Container, signal: int, *, everyone: bool = False) -> None:
    """Sends `signal` through a pidfd, so that a reused pid is never hit.

    `everyone` signals each process of the cgroup or, without one, of the PID namespace. SIGKILL does so too where the
    container has no PID namespace of its own, since nothing else would end the rest; a frozen container is thawed for
    it, or the signal would wait.
    Raises FailedPrecondition when nothing runs.
    """
    status = container.status()
    shares_pids = signal == _SIGKILL and not _has_pid_namespace(container)
    if everyone or shares_pids:
        if container.facts.cgroup_paths and container.cgroup.pids():
            container.cgroup.kill(signal)
            return
        if everyone:
            if not container.facts.cgroup_paths:
                _signal_members(container, signal)
            return
    lifecycle.require("kill", status, container.id)
    fd = container.open_pidfd()
    if fd is None:
        raise FailedPrecondition("container not running", detail=f"container {container.id} has just stopped")
    try:
        pidfd.send_signal(fd, signal)
    except ProcessLookupError:
        raise FailedPrecondition("container not running", detail=f"container {container.id} has just stopped") from None
    except OSError as error:
        raise KernelError("pidfd_send_signal", container.facts.pid, error.errno or 0) from error
    finally:
        os.close(fd)
    if signal == _SIGKILL and status == lifecycle.PAUSED:
        container.cgroup.thaw()


def _signal_members(container: Container, signal: int) -> None:
    """To those that are there now; without a freezer one being born meanwhile may miss it."""
    from masu.linux import namespaces  # a container without a cgroup is rare

    for pid in container.pids():
        try:
            fd = pidfd.open(pid)
        except NotFound:
            continue
        try:
            # Looked at once more while it is held: the number cannot become another process's now.
            if namespaces.identity(pid, "pid") == namespaces.identity(container.facts.pid, "pid"):
                pidfd.send_signal(fd, signal)
        except (KernelError, ProcessLookupError):
            continue
        finally:
            os.close(fd)


def _has_pid_namespace(container: Container) -> bool:
    # Looked at, not parsed as a whole, which costs more than the signal.
    try:
        linux = container.config_json().get("linux")
    except (MasuError, OSError):
        return False  # unreadable: SIGKILL to everyone is right either way
    spaces = linux.get("namespaces") if isinstance(linux, dict) else None
    return isinstance(spaces, list) and any(
        isinstance(space, dict) and space.get("type") == "pid" and not space.get("path") for space in spaces
    )
