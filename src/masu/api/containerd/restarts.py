"""Containers that are to be running, or stopped, as their labels say: containerd's restart monitor.

    containerd.io/restart.status              running or stopped, what it is to be; others are nobody's business here
    containerd.io/restart.policy              always (or none), no, unless-stopped, on-failure, on-failure:N
    containerd.io/restart.explicitly-stopped  true: `unless-stopped` leaves it so
    containerd.io/restart.count               how often it has been started again; written here
    containerd.io/restart.loguri              where its output goes

It looks now and then, as containerd does: what has just ended may be about to be removed by its client.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping

from masu.api.containerd import values
from masu.api.containerd.service import NAMESPACE_HEADER, Call, Threads
from masu.api.containerd.site import Site
from masu.api.containerd.tasks import Tasks
from masu.api.proto import tasks_pb2 as pb
from masu.engine.states import SIGKILL
from masu.engine.tasks import CREATED, PAUSED, RUNNING, STOPPED, Process
from masu.errors import MasuError, NotFound, Unavailable
from masu.snapshots import choose
from masu.store import Container

log = logging.getLogger("masud")

_LABEL = "containerd.io/restart."
POLICIES = ("no", "always", "on-failure", "unless-stopped")
_END_DEADLINE_S = 30.0


class Restarts:
    """A thread of its own between `start` and `stop`."""

    def __init__(self, site: Site, threads: Threads, interval_s: float = 10.0) -> None:
        self._site = site
        self._threads = threads
        self._tasks = Tasks(site)
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="masud-restarts", daemon=True)
        # Those that had no task at the last look: whoever has made them may be about to make that, too.
        self._without: set[tuple[str, str]] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Once, at all namespaces."""
        without: set[tuple[str, str]] = set()
        for namespace in self._site.store.namespaces():
            for record in self._site.engine(namespace).ns.containers.list():
                if not record.labels.get(f"{_LABEL}status"):
                    continue
                try:
                    self._settle(namespace, record, without)
                except MasuError as error:
                    log.warning("restart of container %s in namespace %s: %s", record.id, namespace, error)
        self._without = without

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self.look()
            except MasuError as error:
                log.error("looking for what is to be started again: %s", error)

    def _settle(self, namespace: str, record: Container, without: set[tuple[str, str]]) -> None:
        wanted = record.labels[f"{_LABEL}status"]
        try:
            task = self._site.engine(namespace).tasks.get(record.id)
        except NotFound:
            task = None
        status = task.status if task is not None else ""
        if wanted == STOPPED and status in (RUNNING, PAUSED):
            self._end(namespace, record.id)
        elif wanted == RUNNING and status not in (RUNNING, PAUSED, CREATED) and is_due(record.labels, task):
            if task is None and (namespace, record.id) not in self._without:
                without.add((namespace, record.id))
                return
            self._begin(namespace, record, task)

    def _begin(self, namespace: str, record: Container, old: Process | None) -> None:
        call, engine = self._call(namespace), self._site.engine(namespace)
        with engine.ns.transaction():
            record = engine.ns.containers.get(record.id)
            record.labels[f"{_LABEL}count"] = str(_count(record.labels) + 1)
            engine.ns.containers.update(record)
        if old is not None:
            self._tasks.delete(pb.DeleteTaskRequest(container_id=record.id), call)
        mounts = choose(engine.ns, record.snapshotter).mounts(record.snapshot_key) if record.snapshot_key else []
        uri = record.labels.get(f"{_LABEL}loguri", "")
        request = pb.CreateTaskRequest(
            container_id=record.id,
            rootfs=values.mount_messages(mounts),
            stdout=uri,
            stderr=uri,
            terminal=bool(uri) and _has_terminal(record),
        )
        self._tasks.create(request, call)
        self._tasks.start(pb.StartRequest(container_id=record.id), call)

    def _end(self, namespace: str, id: str) -> None:
        call, ended = self._call(namespace), threading.Event()

        def done(_: Process | MasuError) -> None:
            ended.set()

        self._site.exits.wait(namespace, id, "", done)
        try:
            self._tasks.kill(pb.KillRequest(container_id=id, signal=SIGKILL, all=True), call)
            if not ended.wait(_END_DEADLINE_S):
                raise Unavailable("container", id, detail="it does not end")
        finally:
            self._site.exits.forget(namespace, id, "", done)
        self._tasks.delete(pb.DeleteTaskRequest(container_id=id), call)

    def _call(self, namespace: str) -> Call:
        return Call(self._site, {NAMESPACE_HEADER: namespace}, self._threads)


def is_due(labels: Mapping[str, str], task: Process | None) -> bool:
    """Whether its policy has one started again that does not run; one without a task has ended well."""
    policy, _, most = labels.get(f"{_LABEL}policy", "").partition(":")
    if policy in ("", "always"):
        return not most
    if policy == "unless-stopped":
        return not most and labels.get(f"{_LABEL}explicitly-stopped", "").lower() not in ("1", "t", "true")
    if policy == "on-failure" and (most == "" or most.isdecimal()):
        failed = task is not None and task.exit_status != 0
        return failed and (int(most or 0) == 0 or _count(labels) < int(most))
    return False


def _count(labels: Mapping[str, str]) -> int:
    text = labels.get(f"{_LABEL}count", "")
    return int(text) if text.isdecimal() else 0


def _has_terminal(record: Container) -> bool:
    try:
        process = json.loads(record.spec or "{}").get("process") or {}
        return process.get("terminal") is True
    except (ValueError, AttributeError):
        return False
