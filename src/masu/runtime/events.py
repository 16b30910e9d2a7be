"""What happens to a container, as it happens (`events`): usage at intervals, kills for want of memory."""

from __future__ import annotations

import os
import select
import time

from masu.errors import FailedPrecondition, MasuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from masu.linux.cgroups.oom import OomWatch
    from masu.runtime.container import Container

    Event = dict[str, object]

NO_CGROUP_HINT = "without root a container gets a cgroup only where one is delegated to its user"


def stats(container: Container) -> Event:
    """The present usage as runc's `stats` event. Raises FailedPrecondition (no cgroup), KernelError."""
    if not container.facts.cgroup_paths:
        raise FailedPrecondition(
            "cgroup", detail=f"container {container.id} has none, and so no figures", hint=NO_CGROUP_HINT
        )
    data = container.cgroup.stats().to_events()
    if (group := container.resctrl) is not None:
        data["intel_rdt"] = group.stats()
    return {"type": "stats", "id": container.id, "data": data}


def events(container: Container, interval_ns: int) -> Iterator[Event]:
    """`stats` after each interval and `oom` after each kill, until the container's first process ends.

    Raises FailedPrecondition when the container has no memory cgroup, KernelError.
    """
    first_process = container.open_pidfd()
    if first_process is None:
        return
    try:
        with container.cgroup.oom_watch() as watch:
            yield from _until_its_end(container, first_process, watch, interval_ns)
    finally:
        os.close(first_process)


def _until_its_end(container: Container, first_process: int, watch: OomWatch, interval_ns: int) -> Iterator[Event]:
    poller = select.poll()
    poller.register(first_process, select.POLLIN)
    poller.register(watch.fd, watch.poll_events)
    due = time.monotonic_ns() + interval_ns
    while True:
        ready = {fd for fd, _ in poller.poll(max(0, due - time.monotonic_ns()) / 1e6)}
        # Looked at before the end is: the kill that ended the container is news, too.
        for _ in range(watch.news()):
            yield {"type": "oom", "id": container.id}
        if first_process in ready:
            return
        if time.monotonic_ns() >= due:
            try:
                yield stats(container)
            except MasuError:
                if container.is_alive():
                    raise
                return  # its cgroup went between two looks
            due += interval_ns
