"""The task service (containerd.task.v2.Task and v3): what containerd asks of a shim, and the events it is told.

What may take long, since something is started, removed or waited for, runs in a thread of its own (`blocks`); all else,
and every end of a process, in the loop's thread.
"""

from __future__ import annotations

import os
import posixpath

from masu.api.proto import small
from masu.api.shim import options as wanted
from masu.api.shim import rootfs
from masu.api.shim.processes import CREATED, RUNNING, STOPPED, Process, Task, adopt
from masu.api.shim.publisher import timestamp
from masu.api.shim.records import ROOT_FILE, RUN_ROOT, Record
from masu.api.ttrpc.loop import READ
from masu.api.ttrpc.server import Call, Method
from masu.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    MasuError,
    NotFound,
    Unavailable,
)
from masu.isolation import backend, namespaces
from masu.isolation.stdio import Stdio, StdioNames
from masu.linux import fds
from masu.plan.host import Rootfs
from masu.runtime import bundle as bundles
from masu.runtime import lifecycle
from masu.runtime.container import Container, check_id, remove_directory
from masu.spec import jsontext
from masu.spec import runtime as spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.api.proto.wire import Message
    from masu.api.shim.publisher import Publisher
    from masu.api.ttrpc.loop import Loop
    from masu.isolation.backend import Isolation

SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")

_SIGKILL = 9
_END_DEADLINE_S = 10.0

_UNKNOWN, _CREATED, _RUNNING, _STOPPED, _PAUSED = range(5)  # containerd.v1.types.Status
_STATUS = {CREATED: _CREATED, RUNNING: _RUNNING, STOPPED: _STOPPED}


class RuntimeFailed(MasuError):
    """In the words of containerd's own shim, on which clients match."""

    verb = ""


class Tasks:
    """All tasks of one containerd namespace. `idle` is called when the last one has gone and containerd is done."""

    def __init__(
        self,
        loop: Loop,
        publisher: Publisher,
        namespace: str,
        *,
        idle: Callable[[], None],
        log: Callable[[str, str, str], None],
    ) -> None:
        """`log` gets the bundle that it is about, the level and the text."""
        self._loop = loop
        self._publisher = publisher
        self._namespace = namespace
        self._idle = idle
        self._log = log
        self._tasks: dict[str, Task] = {}
        # Containers that `start` was called for: when (CLOCK_MONOTONIC).
        self.expected: dict[str, float] = {}
        self.default_root = f"{RUN_ROOT}/{namespace}"

    @property
    def count(self) -> int:
        return len(self._tasks)

    def methods(self) -> dict[str, Method]:
        return {
            "State": Method(small.StateRequest, self.state),
            "Create": Method(small.CreateTaskRequest, self.create, blocks=True),
            "Start": Method(small.StartRequest, self.start, blocks=True),
            "Delete": Method(small.DeleteRequest, self.delete, blocks=True),
            "Pids": Method(small.PidsRequest, self.pids),
            "Pause": Method(small.PauseRequest, self.pause, blocks=True),
            "Resume": Method(small.ResumeRequest, self.resume, blocks=True),
            "Checkpoint": Method(small.CheckpointTaskRequest, self.checkpoint, blocks=True),
            "Kill": Method(small.KillRequest, self.kill, blocks=True),
            "Exec": Method(small.ExecProcessRequest, self.exec),
            "ResizePty": Method(small.ResizePtyRequest, self.resize_pty),
            "CloseIO": Method(small.CloseIORequest, self.close_io, blocks=True),
            "Update": Method(small.UpdateTaskRequest, self.update, blocks=True),
            "Wait": Method(small.WaitRequest, self.wait),
            "Stats": Method(small.StatsRequest, self.stats),
            "Connect": Method(small.ConnectRequest, self.connect),
            "Shutdown": Method(small.ShutdownRequest, self.shutdown),
        }

    def _task(self, id: str) -> Task:
        task = self._tasks.get(id)
        if task is None:
            check_id(id)
            task = self._adopt(id)
        return task

    def _adopt(self, id: str) -> Task:
        # Of a shim that was killed: containerd may ask for it before it has it cleaned up.
        task = self._tasks.setdefault(id, adopt(self.default_root, id))
        for process in (*task.execs.values(), task.init):
            if process.attachment is not None:
                self._loop.call(lambda process=process: self._watch(task, process))  # type: ignore[misc]
        return task

    # --- create and start ---

    def create(self, request: small.CreateTaskRequest, _: Call) -> small.CreateTaskResponse:
        check_id(request.id)
        options = wanted.runtime_options(request.options)
        by = wanted.isolation(options, self._namespace)
        stdio = StdioNames(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        root = self.default_root
        if options.root and isinstance(by, backend.Namespaces):
            root = posixpath.join(options.root, self._namespace)
            fds.atomic_write(f"{request.bundle}/{ROOT_FILE}", root.encode(), 0o600, sync=False)  # for `delete`
        record = Record(request.bundle, stdio, mounted=False)
        task = Task(request.id, record, Process("", stdio, f"{root}/{request.id}"))
        self.expected.pop(request.id, None)
        if self._tasks.setdefault(request.id, task) is not task:
            raise AlreadyExists("task", request.id)
        try:
            with task.lock:
                self._make(task, request, root, by, options.criu_work_path)
        except BaseException:
            del self._tasks[request.id]
            task.init.detach()
            raise
        init = task.init
        self._publisher.publish(
            small.TaskCreate(
                container_id=task.id,
                bundle=request.bundle,
                rootfs=request.rootfs,
                io=small.TaskIO(stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr, terminal=stdio.terminal),
                checkpoint=request.checkpoint,
                pid=init.pid,
            )
        )
        self._loop.call(lambda: self._watch(task, init))
        return small.CreateTaskResponse(pid=init.pid)

    def _make(self, task: Task, request: small.CreateTaskRequest, root: str, by: Isolation, work_path: str) -> None:
        mounts = rootfs.of_request(request.rootfs)
        target = f"{request.bundle}/rootfs"
        try:
            bundle = _read_bundle(request.bundle, has_mounts=bool(mounts))
            made = rootfs.private(mounts, bundle.config, request.bundle)
            if made is None:
                rootfs.mount_all(mounts, target)
                task.record.mounted = bool(mounts)
                made = Rootfs(bundle.rootfs)
            wish = namespaces.Request(
                task.id,
                bundle=bundle,
                detached=lambda: rootfs.detached(made),
                rootfs=made,
                stdio=_monitored(task.record.stdio, task.id, self._namespace, hold_stdin=False),
                exit_path=f"{root}/{task.id}/exit",
                on_ready=lambda container: _note(task, container),
                seccomp_cache=f"{RUN_ROOT}/.seccomp",
            )
            if request.checkpoint:
                task.restore = _restoring(by, root, wish, request.checkpoint, work_path)
                return
            container, warnings = by.run(root, wish)
        except MasuError as error:
            if task.record.mounted:
                try:
                    rootfs.unmount_all(target)
                except MasuError as failure:
                    error.cleanup.append(failure)
            raise RuntimeFailed("OCI runtime create failed", detail=str(error)) from error
        self._made(task, container, warnings)

    def _made(self, task: Task, container: Container, warnings: list[str]) -> None:
        for warning in warnings:
            self._log(task.record.bundle, "warning", warning)
        task.container = container
        task.init.pid = container.facts.pid

    def start(self, request: small.StartRequest, _: Call) -> small.StartResponse:
        task = self._task(request.id)
        process = task.process(request.exec_id)
        with task.lock:
            if process.status == RUNNING:
                raise FailedPrecondition("cannot start a running process")
            if process.status == STOPPED:
                raise FailedPrecondition("cannot start a stopped process")
            process.held = True
            try:
                if process is task.init:
                    self._start_init(task)
                else:
                    self._start_exec(task, process)
            finally:
                self._loop.call(lambda: self._release(task, process))
        return small.StartResponse(pid=process.pid)

    def _start_init(self, task: Task) -> None:
        if task.restore is not None:
            try:
                self._made(task, *task.restore())
            except MasuError as error:
                task.init.detach()
                raise RuntimeFailed("OCI runtime restore failed", detail=str(error)) from error
            _hold_stdin(task)
            task.restore = None
        else:
            try:
                container = task.made()
                _hold_stdin(task)
                warnings = backend.of(container).start(container)
            except MasuError as error:
                raise RuntimeFailed("OCI runtime start failed", detail=str(error)) from error
            for warning in warnings:
                self._log(task.record.bundle, "warning", warning)
        task.init.status = RUNNING
        self._publisher.publish(small.TaskStart(container_id=task.id, pid=task.init.pid))

    def _start_exec(self, task: Task, process: Process) -> None:
        if task.init.status == STOPPED:
            raise FailedPrecondition(f"container {task.id} init process is not running")
        container = task.made()
        try:
            os.makedirs(process.directory, 0o700, exist_ok=True)
            warnings = backend.of(container).exec(
                container,
                process.spec,
                _monitored(process.stdio, task.id, self._namespace),
                directory=process.directory,
                on_ready=process.born,
                seccomp_cache=f"{RUN_ROOT}/.seccomp",
            )
        except MasuError as error:
            process.detach()
            raise RuntimeFailed("OCI runtime exec failed", detail=str(error)) from error
        for warning in warnings:
            self._log(task.record.bundle, "warning", warning)
        process.status = RUNNING
        self._publisher.publish(small.TaskExecStarted(container_id=task.id, exec_id=process.id, pid=process.pid))

    def exec(self, request: small.ExecProcessRequest, _: Call) -> Message:
        task = self._task(request.id)
        task.made()
        if not request.exec_id:
            raise InvalidArgument("exec id", detail="none given")
        check_id(request.exec_id)
        if request.exec_id in task.execs:
            raise AlreadyExists(f"id {request.exec_id}")
        if task.init.status == STOPPED:
            raise FailedPrecondition("cannot exec in a stopped state")
        data = jsontext.loads(request.spec.value if request.spec is not None else b"", name="process")
        if not isinstance(data, dict):
            raise InvalidArgument("process", detail="an object is wanted")
        data["terminal"] = request.terminal
        spec.parse_process(data, "process")
        stdio = StdioNames(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        directory = f"{task.init.directory}/execs/{request.exec_id}"
        task.execs[request.exec_id] = Process(request.exec_id, stdio, directory, spec=data)
        self._publisher.publish(small.TaskExecAdded(container_id=task.id, exec_id=request.exec_id))
        return small.Empty()

    # --- the end of processes, in the loop's thread ---

    def _watch(self, task: Task, process: Process) -> None:
        if process.attachment is not None and not process.watched and not process.held:
            process.watched = True
            self._loop.watch(process.attachment.fd, READ, lambda _: self._hear(task, process))

    def _unwatch(self, process: Process) -> None:
        if process.attachment is not None and process.watched:
            process.watched = False
            self._loop.unwatch(process.attachment.fd)

    def _hear(self, task: Task, process: Process) -> None:
        if process.held:
            self._unwatch(process)  # until the start is over
            return
        kind, status = process.hear()
        if kind == "m":
            self._publisher.publish(small.TaskOOM(container_id=task.id))
        if kind in ("x", ""):
            self._unwatch(process)
            self._ended(task, process, status)

    def _release(self, task: Task, process: Process) -> None:
        """A start is over, well or not."""
        process.held = False
        if process.status == RUNNING and process.attachment is None:
            self._ended(task, process, None)  # before we could listen
        self._watch(task, process)
        self._end_init(task)

    def _forget(self, process: Process) -> None:
        """It has been removed: whoever waits for it is answered, also when it was never started."""
        self._unwatch(process)
        process.detach()
        response = self._waited(process)
        for call in process.waiting:
            call.answer(response)
        process.waiting = []

    def _ended(self, task: Task, process: Process, told: int | None) -> None:
        if process is task.init:
            if any(other.status == RUNNING or other.held for other in task.execs.values()):
                task.init_told = (told,)  # they end with it, and are told of first
                return
            if told is None and task.container is not None:
                namespaces.end_orphan(task.container)
        process.end(told)
        self._forget(process)
        self._publisher.publish(
            small.TaskExit(
                container_id=task.id,
                id=process.id or task.id,
                pid=process.pid,
                exit_status=process.exit_code,
                exited_at=timestamp(process.exited_at_ns),
            )
        )
        self._end_init(task)

    def _end_init(self, task: Task) -> None:
        """What was told of a container's end, when nothing is to be told before it any more."""
        if task.init_told is not None:
            (told,), task.init_told = task.init_told, None
            self._ended(task, task.init, told)

    def _waited(self, process: Process) -> small.WaitResponse:
        return small.WaitResponse(exit_status=process.exit_code, exited_at=timestamp(process.exited_at_ns))

    # --- delete ---

    def delete(self, request: small.DeleteRequest, _: Call) -> small.DeleteResponse:
        task = self._task(request.id)
        process = task.process(request.exec_id)
        with task.lock:
            if process.status == RUNNING:
                raise FailedPrecondition("cannot delete a running process")
            process.held = True  # one that was never started ends now: nobody is told of that
            try:
                if process is task.init:
                    self._delete_task(task)
                else:
                    remove_directory(process.directory)
                    task.execs.pop(request.exec_id, None)
            except BaseException:
                self._loop.call(lambda: self._release(task, process))
                raise
            self._loop.call(lambda: self._forget(process))
        return small.DeleteResponse(
            pid=process.pid,
            exit_status=process.exit_code,
            exited_at=timestamp(process.exited_at_ns) if process.exit is not None else None,
        )

    def _delete_task(self, task: Task) -> None:
        try:
            container = task.made()
            for warning in backend.of(container).delete(container):
                self._log(task.record.bundle, "warning", warning)
        except NotFound:
            pass  # a checkpoint has taken it away
        if task.record.mounted:
            rootfs.unmount_all(f"{task.record.bundle}/rootfs")
        init = task.init
        self._tasks.pop(task.id, None)
        self._publisher.publish(
            small.TaskDelete(
                container_id=task.id,
                pid=init.pid,
                exit_status=init.exit_code,
                exited_at=timestamp(init.exited_at_ns) if init.exit is not None else None,
            )
        )

    def end(self, id: str) -> None:
        """Kills a task, waits for its end, removes it. Raises NotFound, DataLoss when it does not die."""
        task = self._task(id)
        container = task.made()
        try:
            backend.of(container).kill(container, _SIGKILL, everyone=True)
        except FailedPrecondition:
            pass  # it has ended by itself
        if not task.init.ended.acquire(timeout=_END_DEADLINE_S):
            raise DataLoss("task", id, detail="it does not end")
        with task.lock:
            self._delete_task(task)

    # --- what is asked of those that are there ---

    def state(self, request: small.StateRequest, _: Call) -> small.StateResponse:
        task = self._task(request.id)
        process = task.process(request.exec_id)
        status = _STATUS[process.status]
        if status != _STOPPED and task.restore is None and task.made().status() == lifecycle.PAUSED:
            status = _PAUSED
        stdio = process.stdio
        return small.StateResponse(
            id=process.id or task.id,
            bundle=task.record.bundle,
            pid=process.pid,
            status=status,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            terminal=stdio.terminal,
            exit_status=process.exit_code,
            exited_at=timestamp(process.exited_at_ns) if process.exit is not None else None,
            exec_id=process.id,
        )

    def wait(self, request: small.WaitRequest, call: Call) -> small.WaitResponse | None:
        process = self._task(request.id).process(request.exec_id)
        if process.status == STOPPED:
            return self._waited(process)
        process.waiting.append(call)
        return None

    def kill(self, request: small.KillRequest, _: Call) -> Message:
        task = self._task(request.id)
        process = task.process(request.exec_id)
        if process.status == STOPPED:
            raise NotFound("process already finished")
        if process is not task.init:
            if process.status == CREATED:
                raise FailedPrecondition("process not created")
            process.signal(request.signal)
            return small.Empty()
        container = task.made()
        try:
            backend.of(container).kill(container, request.signal, everyone=request.all)
        except FailedPrecondition as error:
            raise NotFound("process already finished", detail=str(error)) from error
        return small.Empty()

    def pids(self, request: small.PidsRequest, _: Call) -> small.PidsResponse:
        task = self._task(request.id)
        execs = {process.pid: process.id for process in task.execs.values() if process.status == RUNNING}
        found = []
        for pid in task.made().pids():
            info = None
            if (exec_id := execs.get(pid)) is not None:
                details = small.ProcessDetails(exec_id=exec_id)
                info = small.Any(type_url=wanted.PROCESS_DETAILS, value=details.encode())
            found.append(small.ProcessInfo(pid=pid, info=info))
        return small.PidsResponse(processes=found)

    def pause(self, request: small.PauseRequest, _: Call) -> Message:
        container = self._task(request.id).made()
        with container.hold():
            backend.of(container).pause(container)
        self._publisher.publish(small.TaskPaused(container_id=request.id))
        return small.Empty()

    def resume(self, request: small.ResumeRequest, _: Call) -> Message:
        container = self._task(request.id).made()
        with container.hold():
            backend.of(container).resume(container)
        self._publisher.publish(small.TaskResumed(container_id=request.id))
        return small.Empty()

    def resize_pty(self, request: small.ResizePtyRequest, _: Call) -> Message:
        process = self._task(request.id).process(request.exec_id)
        if process.status == STOPPED:
            raise FailedPrecondition("cannot resize a stopped container")
        if process.attachment is not None:
            try:
                process.attachment.resize(request.height & 0xFFFF, request.width & 0xFFFF)
            except Unavailable as error:
                raise NotFound("process already finished") from error
        return small.Empty()

    def close_io(self, request: small.CloseIORequest, _: Call) -> Message:
        process = self._task(request.id).process(request.exec_id)
        if request.stdin:
            process.close_stdin()
        return small.Empty()

    def update(self, request: small.UpdateTaskRequest, _: Call) -> Message:
        task = self._task(request.id)
        data = jsontext.loads(request.resources.value if request.resources is not None else b"", name="resources")
        if not isinstance(data, dict):
            raise InvalidArgument("resources", detail="an object is wanted")
        container = task.made()
        for warning in backend.of(container).update(container, data):
            self._log(task.record.bundle, "warning", warning)
        return small.Empty()

    def checkpoint(self, request: small.CheckpointTaskRequest, _: Call) -> Message:
        from masu.runtime.criu.options import CriuOptions  # rarely asked for

        task = self._task(request.id)
        container = task.made()
        asked = wanted.checkpoint_options(request.options)
        criu = CriuOptions(
            image_path=request.path,
            work_path=asked.work_path,
            parent_path=asked.parent_path,
            ext_unix_sk=asked.external_unix_sockets,
            file_locks=asked.file_locks,
            manage_cgroups_mode=asked.cgroups_mode,
            shell_job=asked.terminal,
            tcp_established=asked.open_tcp,
        )
        try:
            backend.of(container).checkpoint(container, criu, leave_running=not asked.exit)
        except MasuError as error:
            raise RuntimeFailed("OCI runtime checkpoint failed", detail=str(error)) from error
        self._publisher.publish(small.TaskCheckpointed(container_id=task.id, checkpoint=request.path))
        return small.Empty()

    def stats(self, request: small.StatsRequest, _: Call) -> small.StatsResponse:
        from masu.api import metrics  # by whom figures are wanted

        container = self._task(request.id).made()
        if not container.facts.cgroup_paths or not container.cgroup.exists():
            raise NotFound("cgroup does not exist")
        url, value = metrics.packed(container.cgroup.stats(), container.cgroup.mode)
        return small.StatsResponse(stats=small.Any(type_url=url, value=value))

    def connect(self, request: small.ConnectRequest, _: Call) -> small.ConnectResponse:
        try:
            pid = self._task(request.id).init.pid
        except MasuError:
            pid = 0
        return small.ConnectResponse(shim_pid=os.getpid(), task_pid=pid)

    def shutdown(self, _: small.ShutdownRequest, call: Call) -> None:
        call.answer(small.Empty())
        if not self._tasks:
            self._idle()


def _read_bundle(path: str, *, has_mounts: bool) -> bundles.Bundle:
    """The bundle; its root file system need not be there when it is only to be mounted."""
    if not has_mounts:
        return bundles.read(path)
    text = bundles.read_config(path)
    warnings: list[str] = []
    return bundles.Bundle(path, text, bundles.parse_config(text, warnings), warnings)


def _hold_stdin(task: Task) -> None:
    if task.record.stdio.stdin:
        namespaces.hold_stdin(task.made())


def _monitored(stdio: StdioNames, id: str, namespace: str, *, hold_stdin: bool = True) -> Stdio:
    """Output that nobody reads makes the container wait, as with containerd's own shim."""
    return Stdio(
        terminal=stdio.terminal,
        ephemeral=True,
        stdin=stdio.stdin,
        stdout=stdio.stdout,
        stderr=stdio.stderr,
        owner=(id, namespace),
        patient=True,
        hold_stdin=hold_stdin,
    )


def _restoring(
    by: Isolation, root: str, wish: namespaces.Request, checkpoint: str, work_path: str
) -> Callable[[], tuple[Container, list[str]]]:
    from masu.runtime.criu.options import CriuOptions  # rarely asked for

    criu = CriuOptions(image_path=checkpoint, work_path=work_path)
    return lambda: by.restore(root, wish, criu)


def _note(task: Task, container: Container) -> None:
    """Before the program may run: what the next shim has to know, and who tells us of the end."""
    task.record.save(container.directory)
    task.init.attach()
