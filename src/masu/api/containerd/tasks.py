"""Tasks: containers that run, and more processes in them."""

from __future__ import annotations

import asyncio
import json
import time

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from masu.api import metrics
from masu.api.containerd import filters, values
from masu.api.containerd.service import Call, Service
from masu.api.proto import runc_options_pb2, task_types_pb2, types_pb2
from masu.api.proto import tasks_pb2 as pb
from masu.engine.tasks import CREATED, PAUSED, RUNNING, STOPPED, Process, TaskIO
from masu.errors import InvalidArgument, MasuError, NotFound, Unimplemented
from masu.spec import times

_STATUS = {
    CREATED: task_types_pb2.CREATED,
    RUNNING: task_types_pb2.RUNNING,
    PAUSED: task_types_pb2.PAUSED,
    STOPPED: task_types_pb2.STOPPED,
}
_SPEC = "opencontainers/runtime-spec/1/"


class Tasks(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Tasks"]

    def create(self, request: pb.CreateTaskRequest, call: Call) -> pb.CreateTaskResponse:
        if request.HasField("checkpoint"):
            raise Unimplemented("restore of a task", request.container_id)
        id = request.container_id
        io = TaskIO(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        pid = call.engine.tasks.create(id, values.mounts(request.rootfs), io)
        self.site.exits.watch(call.namespace, id)
        return pb.CreateTaskResponse(container_id=id, pid=pid)

    def start(self, request: pb.StartRequest, call: Call) -> pb.StartResponse:
        id, exec_id, engine = request.container_id, request.exec_id, call.engine
        try:
            pid = engine.execs.start(id, exec_id) if exec_id else engine.tasks.start(id)
        finally:
            # Also after a failure: who waits for it learns that it is over.
            self.site.exits.watch(call.namespace, id, exec_id)
        return pb.StartResponse(pid=pid)

    def delete(self, request: pb.DeleteTaskRequest, call: Call) -> pb.DeleteResponse:
        gone = call.engine.tasks.delete(request.container_id)
        self.site.exits.gone(call.namespace, gone)
        return _deleted(gone)

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
        io = TaskIO(request.stdin, request.stdout, request.stderr, terminal=request.terminal)
        process = _document(request.spec, "Process", "spec")
        call.engine.execs.add(request.container_id, request.exec_id, process, io)
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
        call.engine.tasks.look(request.container_id)
        raise Unimplemented("checkpoint of a task", request.container_id)

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
