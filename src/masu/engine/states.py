"""What a container is doing, by looking: its process, its monitor, the file the monitor writes at the end.

    run directory   first process   exit file   the container is
    -               -               -           created (or, with a start on record, lost in a power cut)
    there           alive           -           running, paused
    there           dead            there       exited
    there           dead            -           exiting while its monitor lives; lost when that is dead too

"Lost" is recorded once as exit status 255 with the reason. Whoever first sees an exit that the store does not know
adds it there, with containerd's event: exits that happened while no masu was looking are not forgotten.
"""

from __future__ import annotations

import _signal
import errno
import os

from masu.errors import DataLoss, KernelError, NotFound, ResourceExhausted, Unavailable
from masu.isolation import namespaces
from masu.isolation.attach import Attachment
from masu.linux import fds
from masu.runtime import lifecycle
from masu.runtime.container import Container
from masu.spec import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.engine import Engine
    from masu.engine.records import Record
    from masu.isolation.namespaces import Exit

CREATED, RUNNING, PAUSED, EXITED = "created", "running", "paused", "exited"

# A monitor that has seen its process end drains pipes and removes cgroups before it says so.
_MONITOR_DEADLINE_S = 10.0


class State:
    """One look. `container` is the runtime's side while there is a run directory; times are RFC 3339 or empty."""

    __slots__ = ("container", "error", "exit_code", "finished_at", "oom", "pid", "reason", "started_at", "status")

    def __init__(self, status: str, *, container: Container | None = None, started_at: str = "") -> None:
        self.status = status
        self.container = container
        self.started_at = started_at
        self.pid = 0
        self.exit_code = 0
        self.finished_at = ""
        self.oom = False
        self.reason = ""
        self.error = ""

    @property
    def is_up(self) -> bool:
        return self.status in (RUNNING, PAUSED)


def exit_path(engine: Engine, id: str) -> str:
    return engine.directory(id) + "/exit"


def open_runtime(engine: Engine, id: str) -> Container | None:
    """The runtime's side of a container, or None when there is none."""
    try:
        return Container.open(engine.run_root, id)
    except NotFound:
        return None


def look(engine: Engine, record: Record, *, settle: bool = True, patience_s: float = _MONITOR_DEADLINE_S) -> State:
    """The container's state now; with `settle` an exit that the store does not know yet is recorded.

    A container whose process is gone, but whose monitor does not come to its end within `patience_s` (somebody else
    holds its pipes), counts as running: nothing is known of its end yet, and a listing must not wait for it.
    """
    try:
        container = open_runtime(engine, record.id)
    except DataLoss:
        # a torn state.json: `create` writes it twice, and a process that wrote it once is not a container yet
        container = None
    task = record.task
    state = State(CREATED, container=container, started_at=str(task.get("started_at", "")))
    state.error = str(task.get("error", ""))
    if container is not None:
        status = container.status()
        if status in (lifecycle.RUNNING, lifecycle.PAUSED) and namespaces.has_lost_monitor(container):
            # A program that gained privileges at its exec has lost its parent-death signal (prctl(2)).
            namespaces.end_orphan(container)
        elif status in (lifecycle.RUNNING, lifecycle.PAUSED):
            state.status = PAUSED if status == lifecycle.PAUSED else RUNNING
            state.pid = container.facts.pid
            state.started_at = state.started_at or container.facts.created
            state.error = ""
            return state
        elif status != lifecycle.STOPPED:
            return state
    if state.error:
        state.exit_code = _number(task.get("status"))
        return state
    if record.is_foreign and not task:
        return state  # no task, or none yet; files may be left of one that is being deleted
    try:
        ended = _ended(engine, record, container, patience_s)
    except Unavailable:
        assert container is not None
        state.status, state.pid = RUNNING, container.facts.pid
        return state
    if ended is None:
        return state
    state.status = EXITED
    state.started_at = state.started_at or (container.facts.created if container is not None else "")
    state.exit_code = ended.status
    state.finished_at = ended.exited_at
    state.oom = ended.oom
    state.reason = ended.reason
    if settle and not isinstance(task.get("exit"), dict):
        try:
            record_exit(engine, record, ended)
        except ResourceExhausted:
            pass  # a full disk must not keep anybody from looking: the exit file has it, for who looks later
    return state


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _ended(engine: Engine, record: Record, container: Container | None, patience_s: float) -> Exit | None:
    """How the last start ended; None when there was none."""
    path = exit_path(engine, record.id)
    found = namespaces.read_exit(path)
    if found is not None:
        return found
    known = record.task.get("exit")
    if isinstance(known, dict):
        return _from_task(known)
    if container is None:
        # Started, but neither a run directory nor an end: the machine went down meanwhile.
        if not record.task.get("started_at") or _is_stale(engine, record):
            return None
        return _write_lost(record, path)
    if not container.facts.pid:
        return None  # a start that was killed before the program ran
    wait_monitor(container, patience_s)
    # On a full disk the monitor writes it into the run directory.
    found = namespaces.read_exit(path) or namespaces.read_exit(container.directory + "/exit")
    if found is None and namespaces.was_undone(container):
        return None  # as is one that was killed a moment later
    return found or (None if _is_stale(engine, record) else _write_lost(record, path))


def _is_stale(engine: Engine, record: Record) -> bool:
    """Whether the start that the record tells of has been deleted or followed by another since it was read."""
    from masu.engine.records import Record

    try:
        fresh = Record(engine.ns.containers.get(record.id))
    except NotFound:
        return False  # told when the end is written: the directory has gone
    return fresh.task.get("started_at") != record.task.get("started_at")


def _write_lost(record: Record, path: str) -> Exit:
    try:
        return namespaces.write_lost(path, times.now())
    except KernelError as error:
        if error.errno == errno.ENOENT:
            raise NotFound("container", record.name, detail="it has just been removed") from error
        raise


def _from_task(data: dict[str, object]) -> Exit:
    return namespaces.Exit(
        _number(data.get("status")),
        signal=_number(data.get("signal")),
        oom=data.get("oom") is True,
        exited_at=str(data.get("exited_at", "")),
        reason=str(data.get("reason", "")),
    )


def wait_monitor(container: Container, deadline_s: float | None) -> int | None:
    """Waits until the container's monitor says that it has ended; its exit status, None when there is no monitor.

    Raises Unavailable when the deadline passes.
    """
    try:
        attachment = Attachment.connect(namespaces.socket_path(container), 0)
    except (NotFound, Unavailable, FileNotFoundError):
        return None
    with attachment:
        told, status = attachment.wait_told(deadline_s)
    if not told:
        raise Unavailable("monitor", container.id, detail=f"does not end within {deadline_s:g} s")
    return status


def record_exit(engine: Engine, record: Record, ended: Exit) -> None:
    """Notes an exit in the store and publishes it, unless somebody has done so for this start."""
    if os.path.isdir(f"{engine.run}/execs/{engine.namespace}/{record.id}"):
        from masu.engine import taskexecs  # by whose containers have some

        taskexecs.settle_all(engine, record.id)
    with engine.ns.transaction():
        try:
            row = engine.ns.containers.get(record.id)
        except NotFound:
            return
        from masu.engine.records import Record

        fresh = Record(row)
        gone = fresh.is_foreign and not fresh.task  # its task has been deleted, what it left is about to go
        if gone or "exit" in fresh.task or fresh.task.get("started_at") != record.task.get("started_at"):
            record.task = fresh.task
            return
        fresh.task["exit"] = ended.to_json()
        engine.ns.containers.update(fresh.pack(), publish=False)
        publish_exit(engine, fresh, ended)
        record.task = fresh.task


def publish_exit(engine: Engine, record: Record, ended: Exit) -> None:
    """containerd's TaskExit (and TaskOOM), at the time it happened."""
    if ended.oom and record.task.get("oom_told") is not True:
        engine.ns.events.publish("/tasks/oom", {"container_id": record.id}, time=ended.exited_at)
    engine.ns.events.publish(
        "/tasks/exit",
        {
            "container_id": record.id,
            "id": record.id,
            "pid": _number(record.task.get("pid")),
            "exit_status": ended.status,
            "exited_at": ended.exited_at,
        },
        time=ended.exited_at,
    )


class Held:
    """The lock of one container, for whoever changes it; never held while waiting for the container itself."""

    __slots__ = ("_fd", "_path")

    def __init__(self, engine: Engine, id: str, *, create: bool = False) -> None:
        self._path = engine.directory(id) + "/lock"
        try:
            self._fd = fds.lock_file(self._path, create=create)
        except FileNotFoundError as error:
            raise NotFound("container", id, detail="it has just been removed") from error

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


SIGTERM, SIGKILL = int(_signal.SIGTERM), int(_signal.SIGKILL)
