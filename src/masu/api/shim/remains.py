"""The end of a container whose shim is no more: what containerd has `containerd-shim-masu-v2 delete` do.

After kill -9 of anything whatever: the container is ended, what it had is taken away, and how it ended is told.
"""

from __future__ import annotations

import time

from masu.api.proto import small
from masu.api.shim import rootfs
from masu.api.shim.publisher import timestamp
from masu.errors import MasuError, NotFound, Unavailable
from masu.isolation import backend, namespaces
from masu.isolation.attach import Attachment
from masu.runtime import bundle as bundles
from masu.runtime.container import Container
from masu.spec import jsontext, times

_MONITOR_DEADLINE_S = 5.0
_KILLED = 128 + 9


def clear(root: str, id: str, bundle: str) -> tuple[small.DeleteResponse, list[str]]:
    """Ends and removes the container `id`, if there is one; how it ended, and warnings."""
    warnings: list[str] = []
    response = small.DeleteResponse(exit_status=_KILLED, exited_at=timestamp(time.time_ns()))
    container: Container | None
    try:
        container = Container.open(root, id)
    except MasuError:
        try:
            # Not even its facts: the shim was killed between making the directory and writing them down, or while.
            container = Container.salvage(root, id)
        except NotFound:
            container = None
    if container is not None:
        response.pid = container.facts.pid
        if container.facts.pid:
            namespaces.end_orphan(container)
            _wait_monitor(container)
        else:
            namespaces.end_remains(_cgroups_path(bundle), id)  # killed while it was being made
        ended = namespaces.read_exit(f"{container.directory}/exit")
        if ended is not None:
            response.exit_status = ended.status
            response.exited_at = timestamp(times.parse(ended.exited_at))
        try:
            warnings += backend.of(container).delete(container)
        except NotFound:
            pass
    rootfs.unmount_all(f"{bundle}/rootfs")
    return response, warnings


def _cgroups_path(bundle: str) -> str:
    try:
        config = jsontext.loads(bundles.read_config(bundle), name="config.json")
    except MasuError:
        return ""
    linux = config.get("linux") if isinstance(config, dict) else None
    path = linux.get("cgroupsPath") if isinstance(linux, dict) else None
    return path if isinstance(path, str) else ""


def _wait_monitor(container: Container) -> None:
    """Until the monitor has written down the end, and taken the cgroups away."""
    try:
        with Attachment.connect(namespaces.socket_path(container), 0) as attachment:
            attachment.wait_told(_MONITOR_DEADLINE_S)
    except (NotFound, Unavailable, FileNotFoundError):
        pass  # it has gone already
