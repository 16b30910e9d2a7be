"""Tasks: what containerd's API calls the run of a container, from `create` to `delete`.

            create                start                 exit                delete
    (none) --------> created -----------> running --------------> stopped --------> (none)
                        |                  |   ^                     ^
                        |            pause v   | resume              |
                        |                 paused                     |
                        +------------------- kill -------------------+

What a task is doing is found by looking, as for every container (`states`): a created one waits at the runtime's FIFO,
its monitor is there already. So whoever made it may be killed, and the next one goes on. What is noted in the record
(`masu.task`) is what cannot be seen: the names of its stdio, when it was created, that it was deleted.

One that is to come out of a checkpoint has no process before `start`, which restores it; until then all that there is
of it is noted.

A container that `masu run` has made has a task while it runs and until it is started again or the task is deleted; so
containerd's clients see it, stop it and attach to it. One lock a container (`states.Held`), never held while waiting
for the container itself.
"""

from __future__ import annotations

import os

from masu.engine import births, foreign, states
from masu.engine.records import Record
from masu.engine.states import Held, State
from masu.errors import AlreadyExists, DataLoss, FailedPrecondition, MasuError, NotFound, Unavailable
from masu.isolation import backend, namespaces
from masu.isolation.attach import Attachment
from masu.isolation.stdio import Stdio, StdioNames
from masu.spec import times
from masu.store.db import from_os_error
from masu.store.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from masu.engine.engine import Engine
    from masu.isolation.backend import Isolation
    from masu.isolation.namespaces import Exit
    from masu.linux.cgroups.stats import Stats
    from masu.plan.host import Rootfs
    from masu.runtime.container import Container as Runtime
    from masu.runtime.criu.options import CriuOptions
    from masu.snapshots import Mount

CREATED, RUNNING, PAUSED, STOPPED = "created", "running", "paused", "stopped"
_MONITOR_DEADLINE_S = 10.0


class Process:
    """One look at a task's first process, or at one of its execs (`exec_id`). `exited_at` is RFC 3339, "" while it has
    not."""

    __slots__ = ("container_id", "exec_id", "exit_status", "exited_at", "io", "pid", "status")

    def __init__(self, container_id: str, exec_id: str, status: str, pid: int, io: StdioNames) -> None:
        self.container_id = container_id
        self.exec_id = exec_id
        self.status = status
        self.pid = pid
        self.io = io
        self.exit_status = 0
        self.exited_at = ""

    def ended(self, how: Exit) -> Process:
        self.status = STOPPED
        self.exit_status = how.status
        self.exited_at = how.exited_at
        return self


class Tasks:
    """The tasks of one engine. Ids are whole ids; execs are in `taskexecs`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- looking ---

    def record(self, id: str) -> Record:
        """Raises NotFound without such a container."""
        try:
            return Record(self._engine.ns.containers.get(id))
        except NotFound:
            raise NotFound(f'container "{id}" in namespace "{self._engine.namespace}"') from None

    def look(self, id: str) -> tuple[Record, State]:
        """The container and what its task is doing. Raises NotFound when it has none."""
        record = self.record(id)
        state = states.look(self._engine, record)
        if not _has_task(record, state):
            raise NotFound(f"task {id} not found")
        return record, state

    def get(self, id: str) -> Process:
        record, state = self.look(id)
        return _process(record, state)

    def all(self) -> list[Process]:
        """Of every container that has one, oldest first."""
        found = []
        for record in self._engine.containers.all():
            try:
                state = states.look(self._engine, record, patience_s=0.3)
            except NotFound:
                continue  # removed while we looked
            if _has_task(record, state):
                found.append(_process(record, state))
        return found

    def attach(self, id: str, flags: int = 0) -> Attachment | None:
        """A connection to the task's monitor, which tells of its end; None when that is over."""
        runtime = states.open_runtime(self._engine, id)
        return None if runtime is None else connect(namespaces.socket_path(runtime), flags)

    # --- its life ---

    def create(
        self,
        id: str,
        mounts: Sequence[Mount],
        io: StdioNames,
        by: Isolation | None = None,
        checkpoint: Callable[[str], str] | None = None,
    ) -> int:
        """Makes the container and its first process, which waits for `start`; the process's pid. `by` is who makes it,
        None for our own runtime. With `checkpoint` it is made by `start` out of the directory which that returns, and
        the pid is 0; it may make one at the path that it is given, which goes with the task.

        Raises NotFound, AlreadyExists when it has a task, and what keeps the process from being made; then nothing is
        left.
        """
        engine = self._engine
        record = self.record(id)
        births.make_directory(engine, id)
        with Held(engine, id, create=True):
            record = self.record(id)
            if _has_task(record, states.look(engine, record)):
                raise AlreadyExists(f"task {id}")
            if checkpoint is not None:
                births.clear_before_start(engine, record)
                self._note_created(
                    record, mounts, io, 0, f"{engine.run_root}/{id}", self._restoring(id, by, checkpoint)
                )
                return 0
            return self._create(record, mounts, io, by).facts.pid

    def _create(self, record: Record, mounts: Sequence[Mount], io: StdioNames, by: Isolation | None = None) -> Runtime:
        births.clear_before_start(self._engine, record)
        isolation = by or backend.Namespaces()
        runtime = self._run(record, mounts, io, lambda request: isolation.run(self._engine.run_root, request))
        self._note_created(record, mounts, io, runtime.facts.pid, runtime.facts.bundle)
        return runtime

    def _restoring(self, id: str, by: Isolation | None, checkpoint: Callable[[str], str]) -> dict[str, object]:
        path = births.checkpoint_path(self._engine, id)
        try:
            return {"checkpoint": checkpoint(path), "by": (by or backend.Namespaces()).to_json()}
        except BaseException:
            if os.path.isdir(path):
                remove_tree(path)
            raise

    def _note_created(
        self,
        record: Record,
        mounts: Sequence[Mount],
        io: StdioNames,
        pid: int,
        bundle: str,
        restoring: dict[str, object] | None = None,
    ) -> None:
        rootfs = [{"type": m.type, "source": m.source, "target": m.target, "options": list(m.options)} for m in mounts]
        note: dict[str, object] = {"created_at": times.now(), "pid": pid, "io": io.to_json()}
        event = {"container_id": record.id, "bundle": bundle, "rootfs": rootfs, "io": io.to_json(), "pid": pid}
        if restoring is not None:
            note["restore"] = {"rootfs": rootfs, **restoring}
            event["checkpoint"] = restoring["checkpoint"]
        with self._engine.ns.transaction():
            self._note(record, note)
            self._engine.ns.events.publish("/tasks/create", event)

    def _run(
        self,
        record: Record,
        mounts: Sequence[Mount],
        io: StdioNames,
        run: Callable[[namespaces.Request], tuple[Runtime, list[str]]],
        on_ready: Callable[[Runtime], None] | None = None,
    ) -> Runtime:
        engine, id = self._engine, record.id
        request = record.request
        try:
            config, rootfs = self._parts(record, mounts)
            stdio = Stdio(
                terminal=foreign.process_of(config).get("terminal") is True,
                log_path=engine.directory(id) + "/log",
                log_max_bytes=request.log_max_bytes or births.DEFAULT_LOG_BYTES,
                log_max_files=request.log_max_files or births.DEFAULT_LOG_FILES,
                stdin=io.stdin,
                stdout=io.stdout,
                stderr=io.stderr,
                owner=(id, engine.namespace),
                hold_stdin=False,
            )
            made = namespaces.Request(
                id,
                bundle=foreign.bundle_of(engine, record, config),
                detached=lambda: _detached(rootfs),
                on_ready=on_ready,
                rootfs=rootfs,
                stdio=stdio,
                exit_path=states.exit_path(engine, id),
                gate=True,
                init=request.init,
                seccomp_cache=births.seccomp_cache(engine),
            )
            return run(made)[0]
        except BaseException as error:
            try:
                foreign.remove_bundle(engine, id)
            except MasuError as failure:
                if isinstance(error, MasuError):
                    error.cleanup.append(failure)
            if isinstance(error, OSError):
                raise from_os_error(error, engine.run) from error
            raise

    def _parts(self, record: Record, mounts: Sequence[Mount]) -> tuple[dict[str, object], Rootfs]:
        if record.is_foreign:
            config = foreign.config_of(self._engine, record)
            rootfs = foreign.place_root(self._engine, record, config, mounts)
            foreign.add_home(config, rootfs)
            return config, rootfs
        config, _ = births.read_config(self._engine, record)
        return config, births.rootfs_of(self._engine, record)

    def start(self, id: str) -> int:
        """Lets a created one run; its pid. Raises FailedPrecondition when it is not created, and what keeps its program
        from running."""
        self.look(id)
        with Held(self._engine, id):
            record, state = self.look(id)
            if state.status == states.CREATED and _to_restore(record):
                return self._restore(record).facts.pid
            if state.status != states.CREATED or state.container is None:
                raise FailedPrecondition(f"cannot start a {_process(record, state).status} process")
            self._start(record, state.container)
            return state.container.facts.pid

    def _start(self, record: Record, runtime: Runtime) -> None:
        self._hold_stdin(record, runtime)
        self._note_started(record, runtime)
        backend.of(runtime).start(runtime)

    def _hold_stdin(self, record: Record, runtime: Runtime) -> None:
        if StdioNames.from_json(record.task.get("io")).stdin:
            namespaces.hold_stdin(runtime)

    def _note_started(self, record: Record, runtime: Runtime) -> None:
        """First: its exit may be seen by others before anything that is told after."""
        pid = runtime.facts.pid
        with self._engine.ns.transaction():
            self._note(record, {**record.task, "started_at": times.now(), "pid": pid})
            self._engine.ns.events.publish("/tasks/start", {"container_id": record.id, "pid": pid})

    def _restore(self, record: Record) -> Runtime:
        from masu.runtime.criu.options import CriuOptions  # rarely asked for
        from masu.snapshots import Mount

        noted = _to_restore(record)
        before = record.task
        data, given = noted.get("by"), noted.get("rootfs")
        by = backend.from_json(data if isinstance(data, dict) else {})
        mounts = [Mount(**item) for item in given] if isinstance(given, list) else []
        criu = CriuOptions(image_path=str(noted.get("checkpoint")))
        try:
            runtime = self._run(
                record,
                mounts,
                StdioNames.from_json(before.get("io")),
                lambda request: by.restore(self._engine.run_root, request, criu),
                lambda runtime: self._note_started(record, runtime),
            )
        except BaseException:
            if record.task is not before:
                self._note(record, before)
            raise
        self._hold_stdin(record, runtime)
        births.remove_checkpoint(self._engine, record.id)
        return runtime

    def run_held(self, record: Record, on_ready: Callable[[str], None] | None) -> Runtime:
        """Both, for who holds the container's lock and has looked: `masu start`. `on_ready` gets the monitor's socket
        before the program may run."""
        runtime = self._create(record, (), StdioNames())
        if on_ready is not None:
            on_ready(namespaces.socket_path(runtime))
        self._start(record, runtime)
        return runtime

    def kill(self, id: str, signal: int, *, everyone: bool = False) -> None:
        """Raises NotFound when the process has ended already."""
        _, state = self.look(id)
        if state.container is None or state.status == states.EXITED:
            raise NotFound("process already finished")
        try:
            backend.of(state.container).kill(state.container, signal, everyone=everyone)
        except FailedPrecondition:
            raise NotFound("process already finished") from None

    def pause(self, id: str) -> None:
        with Held(self._engine, self.look(id)[0].id):
            record, state = self.look(id)
            if state.status != states.RUNNING or state.container is None:
                raise FailedPrecondition(f"cannot pause a {_process(record, state).status} container")
            backend.of(state.container).pause(state.container)
            self._engine.ns.events.publish("/tasks/paused", {"container_id": id})

    def resume(self, id: str) -> None:
        with Held(self._engine, self.look(id)[0].id):
            record, state = self.look(id)
            if state.status != states.PAUSED or state.container is None:
                raise FailedPrecondition(f"cannot resume a {_process(record, state).status} process")
            backend.of(state.container).resume(state.container)
            self._engine.ns.events.publish("/tasks/resumed", {"container_id": id})

    def update(self, id: str, resources: dict[str, object]) -> list[str]:
        """New limits, an object as `linux.resources` of a spec; returns warnings."""
        _, state = self.look(id)
        if state.container is None or state.status == states.EXITED:
            raise FailedPrecondition("cannot update a stopped container")
        return backend.of(state.container).update(state.container, resources)

    def pids(self, id: str) -> list[int]:
        """All its processes, those of execs among them; none once it has stopped."""
        _, state = self.look(id)
        if state.container is None or state.status == states.EXITED:
            return []
        return state.container.pids()

    def stats(self, id: str) -> tuple[Stats, str]:
        """What it uses, and the mode of its cgroups. Raises NotFound when it has none (any more)."""
        _, state = self.look(id)
        if state.container is None or not state.container.facts.cgroup_paths or not state.container.cgroup.exists():
            raise NotFound("cgroup does not exist")
        return state.container.cgroup.stats(), state.container.cgroup.mode

    def checkpoint(self, id: str, options: CriuOptions, *, end: bool = False) -> None:
        """CRIU writes it down to `options.image_path`; with `end` it has ended then, else it runs on, as it does after
        an error: FailedPrecondition without a CRIU that works here, and for what CRIU cannot write down."""
        _, state = self.look(id)
        runtime = state.container
        if runtime is None or not state.is_up:
            raise FailedPrecondition(f"cannot checkpoint a {_process(self.record(id), state).status} container")
        backend.of(runtime).checkpoint(runtime, options, leave_running=not end)
        self._engine.ns.events.publish("/tasks/checkpointed", {"container_id": id, "checkpoint": options.image_path})

    def note_oom(self, id: str) -> None:
        """A process was killed for want of memory: published when it happens, and not once more with the exit."""
        with self._engine.ns.transaction():
            record = self.record(id)
            if not isinstance(record.task.get("exit"), dict):
                self._note(record, {**record.task, "oom_told": True})
                self._engine.ns.events.publish("/tasks/oom", {"container_id": id})

    def delete(self, id: str) -> Process:
        """Removes a task that has stopped, or was never started; how it ended. Raises FailedPrecondition."""
        engine = self._engine
        self.look(id)
        with Held(engine, id):
            record, state = self.look(id)
            if state.is_up:
                raise FailedPrecondition(f"cannot delete a {_process(record, state).status} process")
            if state.status == states.CREATED and state.container is not None:
                state = self._end_created(record, state.container)
            gone = _process(record, state)
            births.clear_runtime(engine, id)
            with engine.ns.transaction(freeing=True):
                self._note(record, {} if record.is_foreign else {**record.task, "deleted": True})
                engine.ns.events.publish(
                    "/tasks/delete",
                    {
                        "container_id": id,
                        "pid": gone.pid,
                        "exit_status": gone.exit_status,
                        "exited_at": gone.exited_at or times.now(),
                    },
                )
            if record.is_foreign:
                remove_tree(engine.directory(id))
        return gone

    def forget(self, id: str) -> None:
        """The record has gone: so does what a killed `create` has left, but not a container that runs."""
        engine = self._engine
        try:
            with Held(engine, id):
                runtime = states.open_runtime(engine, id)
                if runtime is None or not runtime.is_alive():
                    births.clear_runtime(engine, id)
                    remove_tree(engine.directory(id))
        except (NotFound, DataLoss):
            pass  # nothing is there; `Containers.sweep` has the rest

    def _end_created(self, record: Record, runtime: Runtime) -> State:
        try:
            backend.of(runtime).kill(runtime, states.SIGKILL)
        except FailedPrecondition:
            pass  # it has ended by itself
        states.wait_monitor(runtime, _MONITOR_DEADLINE_S)
        return states.look(self._engine, record)

    def _note(self, record: Record, task: dict[str, object]) -> None:
        """Replaces what is noted of the task in the record."""
        with self._engine.ns.transaction():
            fresh = Record(self._engine.ns.containers.get(record.id))
            fresh.task = record.task = task
            self._engine.ns.containers.update(fresh.pack(), publish=False)

    # --- stdio ---

    def resize(self, id: str, rows: int, columns: int) -> None:
        self.look(id)
        with_monitor(self.attach(id), lambda monitor: monitor.resize(rows, columns))

    def close_stdin(self, id: str) -> None:
        """stdin ends as soon as whoever writes there has gone."""
        from masu.isolation.attach import STDIN

        self.look(id)
        with_monitor(self.attach(id, STDIN), lambda monitor: monitor.close_stdin())


def connect(path: str, flags: int) -> Attachment | None:
    """A monitor's socket; None when nobody listens there (any more)."""
    try:
        return Attachment.connect(path, flags)
    except (NotFound, Unavailable, FileNotFoundError):
        return None


def with_monitor(monitor: Attachment | None, say: Callable[[Attachment], None]) -> None:
    """Says something to a monitor, if it is there, and has been heard."""
    if monitor is None:
        return
    with monitor:
        try:
            monitor.wait_attached()
            say(monitor)
        except (MasuError, OSError):
            pass  # it has just ended, and its container with it


def _to_restore(record: Record) -> dict[str, object]:
    """What is noted of a task that `start` makes out of a checkpoint; {} for others, and when it has been made."""
    noted = record.task.get("restore")
    return noted if isinstance(noted, dict) and "started_at" not in record.task else {}


def _detached(rootfs: Rootfs) -> int:
    from masu.engine import hostroot  # for a restore

    return hostroot.detached(rootfs)


def _has_task(record: Record, state: State) -> bool:
    task = record.task
    if task.get("deleted") is True and state.container is None:
        return False
    if record.is_foreign and not task:
        # Made a moment ago, and about to be noted; or what a killed `create` has left.
        return state.container is not None and state.container.is_alive()
    if state.container is not None:
        return state.is_up or state.status == states.EXITED or bool(state.container.facts.pid)
    return "started_at" in task or "exit" in task or "restore" in task


def _process(record: Record, state: State) -> Process:
    pid = record.task.get("pid")
    if state.container is not None:
        pid = state.container.facts.pid
    status = {states.CREATED: CREATED, states.RUNNING: RUNNING, states.PAUSED: PAUSED}.get(state.status, STOPPED)
    io = StdioNames.from_json(record.task.get("io"))
    found = Process(record.id, "", status, pid if isinstance(pid, int) else 0, io)
    if status == STOPPED:
        found.exit_status, found.exited_at = state.exit_code, state.finished_at
    return found
