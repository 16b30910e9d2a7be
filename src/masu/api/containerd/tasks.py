"""Tasks: containers that run, and more processes in them."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from masu.api import metrics
from masu.api.containerd import checkpoints, filters, values
from masu.api.containerd.containers import runtime_options
from masu.api.containerd.service import Call, Service
from masu.api.proto import runc_options_pb2, task_types_pb2, types_pb2
from masu.api.proto import tasks_pb2 as pb
from masu.engine import Engine, births
from masu.engine.tasks import CREATED, PAUSED, RUNNING, STOPPED, Process
from masu.errors import InvalidArgument, MasuError, NotFound, Unavailable
from masu.isolation.backend import Namespaces, by_options
from masu.isolation.stdio import StdioNames
from masu.runtime.criu.options import CriuOptions
from masu.spec import times
from masu.store import Container
from masu.store.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.isolation.backend import Isolation

_STATUS = {
    CREATED: task_types_pb2.CREATED,
    RUNNING: task_types_pb2.RUNNING,
    PAUSED: task_types_pb2.PAUSED,
    STOPPED: task_types_pb2.STOPPED,
}
_SPEC = "opencontainers/runtime-spec/1/"
_OPTIONS = runc_options_pb2.Options
_CHECKPOINT = runc_options_pb2.CheckpointOptions
# As containerd names the spec that goes with a checkpoint.
_CONFIG_TYPE = "application/vnd.containerd.container.checkpoint.config.v1+proto"
# Names that stand for containers in namespaces. (A container that `masu run` made has a name of our own.)
RUNTIMES = ("io.containerd.runc.v2", "io.containerd.runc.v1", "io.containerd.masu.v2", "masu.namespaces")


class Tasks(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Tasks"]

    def create(self, request: pb.CreateTaskRequest, call: Call) -> pb.CreateTaskResponse:
        id = request.container_id
        names = StdioNames(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        engine = call.engine
        by = _runtime(engine, engine.tasks.record(id).row, request)
        mounts = self.site.mounting.for_task(call.namespace, id, values.mounts(request.rootfs))
        try:
            with _failing("create"):
                pid = engine.tasks.create(id, mounts, names, by, _checkpoint(request, call))
        except MasuError as error:
            if error.kind != "already_exists":
                self._release(id, call)
            raise
        self.site.exits.watch(call.namespace, id)
        return pb.CreateTaskResponse(container_id=id, pid=pid)

    def start(self, request: pb.StartRequest, call: Call) -> pb.StartResponse:
        id, exec_id, engine = request.container_id, request.exec_id, call.engine
        try:
            with _failing("exec" if exec_id else "start"):
                pid = engine.execs.start(id, exec_id) if exec_id else engine.tasks.start(id)
        finally:
            # Also after a failure: who waits for it learns that it is over.
            self.site.exits.watch(call.namespace, id, exec_id)
        return pb.StartResponse(pid=pid)

    def delete(self, request: pb.DeleteTaskRequest, call: Call) -> pb.DeleteResponse:
        gone = call.engine.tasks.delete(request.container_id)
        self.site.exits.gone(call.namespace, gone)
        self._release(request.container_id, call)
        return _deleted(gone)

    def _release(self, id: str, call: Call) -> None:
        # What was mounted on the host for its root.
        try:
            self.site.mounting.deactivate(call.namespace, id)
        except NotFound:
            pass

    def delete_process(self, request: pb.DeleteProcessRequest, call: Call) -> pb.DeleteResponse:
        engine = call.engine
        engine.tasks.look(request.container_id)
        gone = engine.execs.delete(request.container_id, request.exec_id)
        self.site.exits.gone(call.namespace, gone)
        return _deleted(gone)

    def get(self, request: pb.GetRequest, call: Call) -> pb.GetResponse:
        return pb.GetResponse(process=_process(self._find(request, call)))

    def list(self, request: pb.ListTasksRequest, call: Call) -> pb.ListTasksResponse:
        return pb.ListTasksResponse(tasks=[_process(each) for each in call.engine.tasks.all()])

    def kill(self, request: pb.KillRequest, call: Call) -> Empty:
        id, exec_id, engine = request.container_id, request.exec_id, call.engine
        if exec_id:
            engine.tasks.look(id)
            engine.execs.kill(id, exec_id, request.signal)
        else:
            engine.tasks.kill(id, request.signal, everyone=request.all)
        return Empty()

    def exec(self, request: pb.ExecProcessRequest, call: Call) -> Empty:
        if not request.exec_id:
            raise InvalidArgument("exec id cannot be empty")
        names = StdioNames(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        process = _document(request.spec, "Process", "spec")
        call.engine.execs.add(request.container_id, request.exec_id, process, names)
        return Empty()

    def resize_pty(self, request: pb.ResizePtyRequest, call: Call) -> Empty:
        id, exec_id, engine = request.container_id, request.exec_id, call.engine
        rows, columns = request.height & 0xFFFF, request.width & 0xFFFF
        if exec_id:
            engine.execs.resize(id, exec_id, rows, columns)
        else:
            engine.tasks.resize(id, rows, columns)
        return Empty()

    def close_io(self, request: pb.CloseIORequest, call: Call) -> Empty:
        id, exec_id, engine = request.container_id, request.exec_id, call.engine
        if request.stdin and exec_id:
            engine.execs.close_stdin(id, exec_id)
        elif request.stdin:
            engine.tasks.close_stdin(id)
        return Empty()

    def pause(self, request: pb.PauseTaskRequest, call: Call) -> Empty:
        call.engine.tasks.pause(request.container_id)
        return Empty()

    def resume(self, request: pb.ResumeTaskRequest, call: Call) -> Empty:
        call.engine.tasks.resume(request.container_id)
        return Empty()

    def list_pids(self, request: pb.ListPidsRequest, call: Call) -> pb.ListPidsResponse:
        found, execs = call.engine.tasks.pids(request.container_id), call.engine.execs.pids(request.container_id)
        processes = []
        for pid in found:
            info = None
            if pid in execs:
                details = runc_options_pb2.ProcessDetails(exec_id=execs[pid])
                info = Any(type_url=str(details.DESCRIPTOR.full_name), value=details.SerializeToString())
            processes.append(task_types_pb2.ProcessInfo(pid=pid, info=info))
        return pb.ListPidsResponse(processes=processes)

    def checkpoint(self, request: pb.CheckpointTaskRequest, call: Call) -> pb.CheckpointTaskResponse:
        asked = _CHECKPOINT.FromString(request.options.value)
        if request.HasField("options") and not request.options.type_url.endswith(_CHECKPOINT.DESCRIPTOR.full_name):
            raise InvalidArgument("options", request.options.type_url, detail=_CHECKPOINT.DESCRIPTOR.full_name)
        id, engine = request.container_id, call.engine
        record = engine.tasks.look(id)[0]
        # CRIU's log is named in errors: it stays as long as the task.
        logs = f"{engine.directory(id)}/criu"
        made = "" if asked.image_path else tempfile.mkdtemp(prefix="checkpoint-", dir=engine.run)
        try:
            options = CriuOptions(
                image_path=asked.image_path or made,
                work_path=asked.work_path or logs,
                parent_path=asked.parent_path or request.parent_checkpoint,
                ext_unix_sk=asked.external_unix_sockets,
                file_locks=asked.file_locks,
                manage_cgroups_mode=asked.cgroups_mode,
                shell_job=asked.terminal,
                tcp_established=asked.open_tcp,
            )
            engine.tasks.checkpoint(id, options, end=asked.exit)
            if not made:
                return pb.CheckpointTaskResponse()
            spec = record.row.spec or json.dumps(births.read_config(engine, record)[0])
            packed = Any(type_url=f"types.containerd.io/{_SPEC}Spec", value=spec.encode()).SerializeToString()
            found = [checkpoints.packed(call, made), checkpoints.stored(call, _CONFIG_TYPE, io.BytesIO(packed))]
        finally:
            if made:
                remove_tree(made)
        return pb.CheckpointTaskResponse(descriptors=found)

    def update(self, request: pb.UpdateTaskRequest, call: Call) -> Empty:
        resources = _document(request.resources, "LinuxResources", "resources")
        call.engine.tasks.update(request.container_id, resources)
        return Empty()

    def metrics(self, request: pb.MetricsRequest, call: Call) -> pb.MetricsResponse:
        wanted = filters.parse(request.filters)
        engine, namespace = call.engine, call.namespace
        found = []
        for each in engine.tasks.all():
            if not wanted(filters.fields({"id": each.container_id, "namespace": namespace}, {})):
                continue
            try:
                stats, mode = engine.tasks.stats(each.container_id)
            except NotFound:
                continue  # it has stopped
            url, value = metrics.packed(stats, mode)
            seconds, nanos = divmod(time.time_ns(), times.SECOND)
            found.append(
                types_pb2.Metric(
                    timestamp=Timestamp(seconds=seconds, nanos=nanos),
                    id=each.container_id,
                    data=Any(type_url=url, value=value),
                )
            )
        return pb.MetricsResponse(metrics=found)

    async def wait(self, request: pb.WaitRequest, call: Call) -> pb.WaitResponse:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Process] = loop.create_future()

        def settle(found: Process | MasuError) -> None:
            if future.done():
                return
            if isinstance(found, MasuError):
                future.set_exception(found)
            else:
                future.set_result(found)

        def done(found: Process | MasuError) -> None:
            try:
                loop.call_soon_threadsafe(settle, found)
            except RuntimeError:
                pass  # the loop has ended, and the call with it

        who = (call.namespace, request.container_id, request.exec_id)
        try:
            await loop.run_in_executor(None, self.site.exits.wait, *who, done)
            ended = await future
        finally:
            self.site.exits.forget(*who, done)
        return pb.WaitResponse(exit_status=ended.exit_status, exited_at=values.timestamp(ended.exited_at))

    def _find(self, request: pb.GetRequest, call: Call) -> Process:
        id, exec_id, engine = request.container_id, request.exec_id, call.engine
        if not exec_id:
            return engine.tasks.get(id)
        engine.tasks.look(id)
        return engine.execs.get(id, exec_id)


class _Failed(MasuError):
    """What a container died of before it ran; to clients an unknown error, as of the runtimes that containerd calls."""

    kind = "unknown"
    verb = ""


@contextmanager
def _failing(verb: str) -> Iterator[None]:
    """Unavailable would tell a client that it is the daemon."""
    try:
        yield
    except Unavailable as error:
        raise _Failed(f"OCI runtime {verb} failed", detail=str(error)) from error


def _checkpoint(request: pb.CreateTaskRequest, call: Call) -> Callable[[str], str] | None:
    """What gives the directory of the checkpoint that the task is to come out of: a new one at the path that it is
    given, with what the content store has, or the one that the runtime's options name."""
    if request.options.type_url.endswith(_OPTIONS.DESCRIPTOR.full_name):
        named = _OPTIONS.FromString(request.options.value).criu_image_path
        if named:
            return lambda _: named
    if not request.HasField("checkpoint"):
        return None

    def unpacked(path: str) -> str:
        checkpoints.unpack(call, request.checkpoint, path)
        return path

    return unpacked


def _runtime(engine: Engine, row: Container, request: pb.CreateTaskRequest) -> Isolation:
    """Our own runtime, or another one when the options name it; the task's count more than the container's. Raises
    NotFound without such a binary, InvalidArgument for a runtime that is none of namespaces."""
    check_runtime(row.runtime)
    given = (request.options if request.HasField("options") else None, runtime_options(row))
    for options in given:
        if options is None or not options.type_url.endswith(_OPTIONS.DESCRIPTOR.full_name):
            continue
        return by_options(_OPTIONS.FromString(options.value), engine.run + "/runtimes", engine.namespace)
    return Namespaces()


def check_runtime(name: str) -> None:
    """Raises InvalidArgument for a runtime that is none of namespaces; "" is ours."""
    if name and name not in RUNTIMES:
        raise InvalidArgument("runtime", name, detail=f"known are {', '.join(RUNTIMES)}")


def _process(found: Process) -> task_types_pb2.Process:
    return task_types_pb2.Process(
        container_id=found.container_id if found.exec_id else "",
        id=found.exec_id or found.container_id,
        pid=found.pid,
        status=_STATUS[found.status],
        stdin=found.io.stdin,
        stdout=found.io.stdout,
        stderr=found.io.stderr,
        terminal=found.io.terminal,
        exit_status=found.exit_status,
        exited_at=values.timestamp(found.exited_at),
    )


def _deleted(gone: Process) -> pb.DeleteResponse:
    return pb.DeleteResponse(
        id=gone.exec_id or gone.container_id,
        pid=gone.pid,
        exit_status=gone.exit_status,
        exited_at=values.timestamp(gone.exited_at),
    )


def _document(given: Any, name: str, where: str) -> dict[str, object]:
    """The JSON of a part of a spec. Raises InvalidArgument."""
    if not given.type_url.endswith(_SPEC + name):
        raise InvalidArgument(where, given.type_url, detail=f"{_SPEC}{name} is wanted")
    try:
        found = json.loads(given.value)
    except ValueError as error:
        raise InvalidArgument(where, detail=f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidArgument(where, detail="an object is wanted")
    return found
