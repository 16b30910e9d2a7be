"""`delete`: what is left of a container goes away: processes, cgroups, its directory; then the poststop hooks."""

from __future__ import annotations

import posix as os

from masu.errors import DataLoss, MasuError
from masu.linux import pidfd
from masu.runtime import lifecycle
from masu.runtime.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import Config

_KILL_DEADLINE_S = 10.0


def delete(container: Container, *, force: bool = False) -> list[str]:
    """Removes a stopped or created container, with `force` any; returns warnings, those of poststop hooks among them.

    Raises FailedPrecondition for one that runs; KernelError when a process does not die or a cgroup stays busy.
    """
    with container.hold():
        status = container.status()
        if not force:
            lifecycle.require("delete", status, container.id)
        if status != lifecycle.STOPPED:
            _end(container)
        config = _config_with_hooks(container)
        # Also processes that outlived the first one: without a PID namespace of their own nobody killed them.
        warnings = container.remove_groups()
        state = container.state(lifecycle.STOPPED)
        container.remove_directory()
    if config is None:
        return warnings
    from masu.runtime import hooks  # by whose configuration has some

    return warnings + hooks.run_all_warning(config, "poststop", state)


def _end(container: Container) -> None:
    fd = container.open_pidfd()
    if fd is None:
        return
    try:
        pidfd.send_signal(fd, 9)
        if container.facts.cgroup_paths:
            container.cgroup.thaw()
        if not pidfd.wait_exited(fd, _KILL_DEADLINE_S):
            raise DataLoss(
                "container",
                container.id,
                detail="its first process does not die of SIGKILL",
                hint=f"it hangs in the kernel; see /proc/{container.facts.pid}/stack",
            )
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def _config_with_hooks(container: Container) -> Config | None:
    """The configuration when it has poststop hooks."""
    try:
        return container.config() if container.has_hooks("poststop") else None
    except (MasuError, OSError):
        # A torn configuration must not keep the rest from being removed.
        return None
