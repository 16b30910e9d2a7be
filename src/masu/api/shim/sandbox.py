"""The sandbox service (containerd.runtime.sandbox.v1.Sandbox): a place for the containers of a pod.

containerd's CRI has a "podsandbox" controller of its own, with a pause container, for which a shim needs nothing. With
`sandboxer = "shim"` it asks the shim instead: the containers then come with Create, to the shim that has the sandbox.
A sandbox of ours is what they are to share, and for namespaces that is the network namespace that CRI has made: there
is no process to keep. With a bundle that has a config.json, it is a container like others, made and started as a task.
"""

from __future__ import annotations

import os
import time

from masu.api.proto import small
from masu.api.shim.publisher import timestamp
from masu.api.ttrpc.server import Call, Method
from masu.errors import AlreadyExists, FailedPrecondition, MasuError, NotFound
from masu.spec import platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.api.proto.wire import Message
    from masu.api.shim.tasks import Tasks

SERVICE = "containerd.runtime.sandbox.v1.Sandbox"

# As containerd has them (core/sandbox).
CREATED, READY, NOT_READY = "SANDBOX_CREATED", "SANDBOX_READY", "SANDBOX_NOTREADY"
_KILL = 9


class Sandbox:
    """`has_task`: a container was made for it, whose end is its end."""

    __slots__ = ("bundle", "created_ns", "exited_ns", "has_task", "id", "netns", "state", "waiting")

    def __init__(self, id: str, bundle: str, netns: str, *, has_task: bool) -> None:
        self.id = id
        self.bundle = bundle
        self.netns = netns
        self.has_task = has_task
        self.state = CREATED
        self.created_ns = time.time_ns()
        self.exited_ns = 0
        self.waiting: list[Call] = []


class Sandboxes:
    """Those of one namespace, beside its tasks. `idle` as for these."""

    def __init__(self, tasks: Tasks, *, idle: Callable[[], None]) -> None:
        self._tasks = tasks
        self._idle = idle
        self._sandboxes: dict[str, Sandbox] = {}

    @property
    def count(self) -> int:
        return len(self._sandboxes)

    def methods(self) -> dict[str, Method]:
        return {
            "CreateSandbox": Method(small.CreateSandboxRequest, self.create, blocks=True),
            "StartSandbox": Method(small.StartSandboxRequest, self.start, blocks=True),
            "Platform": Method(small.PlatformRequest, self.platform),
            "StopSandbox": Method(small.StopSandboxRequest, self.stop),
            "WaitSandbox": Method(small.WaitSandboxRequest, self.wait),
            "SandboxStatus": Method(small.SandboxStatusRequest, self.status),
            "PingSandbox": Method(small.PingRequest, self.ping),
            "ShutdownSandbox": Method(small.ShutdownSandboxRequest, self.shutdown, blocks=True),
            "SandboxMetrics": Method(small.SandboxMetricsRequest, self.metrics),
        }

    def _sandbox(self, id: str) -> Sandbox:
        found = self._sandboxes.get(id)
        if found is None:
            raise NotFound("sandbox", id)
        return found

    def create(self, request: small.CreateSandboxRequest, call: Call) -> Message:
        id = request.sandbox_id
        has_task = os.path.exists(f"{request.bundle_path}/config.json")
        sandbox = Sandbox(id, request.bundle_path, request.netns_path, has_task=has_task)
        if self._sandboxes.setdefault(id, sandbox) is not sandbox:
            raise AlreadyExists("sandbox", id)
        self._tasks.expected.pop(id, None)
        if has_task:
            try:
                task = small.CreateTaskRequest(
                    id=id, bundle=request.bundle_path, rootfs=request.rootfs, options=request.options
                )
                self._tasks.create(task, call)
            except BaseException:
                del self._sandboxes[id]
                raise
        return small.CreateSandboxResponse()

    def start(self, request: small.StartSandboxRequest, call: Call) -> small.StartSandboxResponse:
        sandbox = self._sandbox(request.sandbox_id)
        if sandbox.state != CREATED:
            raise FailedPrecondition("sandbox", sandbox.id, detail=f"it is {sandbox.state}")
        pid = os.getpid()
        if sandbox.has_task:
            pid = self._tasks.start(small.StartRequest(id=sandbox.id), call).pid
        sandbox.state = READY
        return small.StartSandboxResponse(pid=pid, created_at=timestamp(sandbox.created_ns))

    def platform(self, request: small.PlatformRequest, _: Call) -> small.PlatformResponse:
        self._sandbox(request.sandbox_id)
        here = platform.host()
        found = small.Platform(os=here.os, architecture=here.architecture, variant=here.variant)
        return small.PlatformResponse(platform=found)

    def stop(self, request: small.StopSandboxRequest, call: Call) -> Message:
        sandbox = self._sandbox(request.sandbox_id)
        if sandbox.has_task:
            try:
                self._tasks.kill(small.KillRequest(id=sandbox.id, signal=_KILL, all=True), call)
            except NotFound:
                pass  # it has ended
        if sandbox.state != NOT_READY:
            sandbox.state = NOT_READY
            sandbox.exited_ns = time.time_ns()
        for waiting in sandbox.waiting:
            waiting.answer(_waited(sandbox))
        sandbox.waiting = []
        return small.StopSandboxResponse()

    def wait(self, request: small.WaitSandboxRequest, call: Call) -> Message | None:
        sandbox = self._sandbox(request.sandbox_id)
        if sandbox.state == NOT_READY:
            return _waited(sandbox)
        if sandbox.has_task:
            # Field by field the same message.
            return self._tasks.wait(small.WaitRequest(id=sandbox.id), call)
        sandbox.waiting.append(call)
        return None

    def status(self, request: small.SandboxStatusRequest, _: Call) -> small.SandboxStatusResponse:
        sandbox = self._sandbox(request.sandbox_id)
        info = {"bundle": sandbox.bundle, "netns": sandbox.netns} if request.verbose else {}
        return small.SandboxStatusResponse(
            sandbox_id=sandbox.id,
            pid=os.getpid(),
            state=sandbox.state,
            info=info,
            created_at=timestamp(sandbox.created_ns),
            exited_at=timestamp(sandbox.exited_ns) if sandbox.exited_ns else None,
        )

    def ping(self, request: small.PingRequest, _: Call) -> Message:
        self._sandbox(request.sandbox_id)
        return small.PingResponse()

    def shutdown(self, request: small.ShutdownSandboxRequest, call: Call) -> Message:
        """Forgets it; the shim leaves when it was the last."""
        sandbox = self._sandboxes.get(request.sandbox_id)
        if sandbox is not None:
            self.stop(small.StopSandboxRequest(sandbox_id=sandbox.id), call)
            if sandbox.has_task:
                try:
                    self._tasks.end(sandbox.id)
                except MasuError as error:
                    if not isinstance(error, NotFound):
                        raise
            self._sandboxes.pop(sandbox.id, None)
        self._idle()
        return small.ShutdownSandboxResponse()

    def metrics(self, request: small.SandboxMetricsRequest, call: Call) -> small.SandboxMetricsResponse:
        sandbox = self._sandbox(request.sandbox_id)
        data = self._tasks.stats(small.StatsRequest(id=sandbox.id), call).stats if sandbox.has_task else None
        metric = small.Metric(timestamp=timestamp(time.time_ns()), id=sandbox.id, data=data)
        return small.SandboxMetricsResponse(metrics=metric)


def _waited(sandbox: Sandbox) -> small.WaitSandboxResponse:
    return small.WaitSandboxResponse(exit_status=0, exited_at=timestamp(sandbox.exited_ns))
