"""The sandbox service (containerd.runtime.sandbox.v1.Sandbox): a place for the containers of a pod.

containerd's CRI has a "podsandbox" controller of its own, with a pause container, for which a shim needs nothing. With
`sandboxer = "shim"`, and for `ctr sandboxes`, it asks the shim instead; the pod's containers then come to the shim that
has the sandbox, and join the namespaces of the process it has told of. So a sandbox is a container: that of the
config.json it came with, or, as CRI sends none, one of ours, in which masu-launch does nothing under the name `pause`.
"""

from __future__ import annotations

import os
import time

from masu.api.proto import small
from masu.api.shim import options as wanted
from masu.api.shim.publisher import timestamp
from masu.api.ttrpc.server import Call, Method
from masu.errors import AlreadyExists, NotFound
from masu.linux import executable, fds
from masu.spec import jsontext, platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.api.proto.wire import Message
    from masu.api.shim.tasks import Tasks

SERVICE = "containerd.runtime.sandbox.v1.Sandbox"

# As containerd has them (core/sandbox).
CREATED, READY, NOT_READY = "SANDBOX_CREATED", "SANDBOX_READY", "SANDBOX_NOTREADY"
_SIGKILL = 9
_OOM_SCORE_ADJ = -998  # a pause container's, in Kubernetes
_POD = "runtime.v1.PodSandboxConfig"


class Sandbox:
    __slots__ = ("bundle", "created_ns", "id", "netns", "pid", "state")

    def __init__(self, id: str, bundle: str, netns: str) -> None:
        self.id = id
        self.bundle = bundle
        self.netns = netns
        self.pid = 0
        self.state = CREATED
        self.created_ns = time.time_ns()


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
        id, bundle = request.sandbox_id, request.bundle_path
        sandbox = Sandbox(id, bundle, request.netns_path)
        if self._sandboxes.setdefault(id, sandbox) is not sandbox:
            raise AlreadyExists("sandbox", id)
        try:
            mounts = request.rootfs
            if not os.path.exists(f"{bundle}/config.json"):
                _write_pause(bundle, request)
                mounts = [small.Mount(type="tmpfs", source="tmpfs", options=["mode=755", "size=64k"])]
            is_of_task = request.options is not None and wanted.type_name(request.options) == wanted.OPTIONS
            options = request.options if is_of_task else None
            task = small.CreateTaskRequest(id=id, bundle=bundle, rootfs=mounts, options=options)
            sandbox.pid = self._tasks.create(task, call).pid
        except BaseException:
            del self._sandboxes[id]
            raise
        return small.CreateSandboxResponse()

    def start(self, request: small.StartSandboxRequest, call: Call) -> small.StartSandboxResponse:
        sandbox = self._sandbox(request.sandbox_id)
        self._tasks.start(small.StartRequest(id=sandbox.id), call)
        sandbox.state = READY
        return small.StartSandboxResponse(pid=sandbox.pid, created_at=timestamp(sandbox.created_ns))

    def platform(self, request: small.PlatformRequest, _: Call) -> small.PlatformResponse:
        self._sandbox(request.sandbox_id)
        here = platform.host()
        found = small.Platform(os=here.os, architecture=here.architecture, variant=here.variant or "")
        return small.PlatformResponse(platform=found)

    def stop(self, request: small.StopSandboxRequest, call: Call) -> Message:
        sandbox = self._sandbox(request.sandbox_id)
        try:
            self._tasks.kill(small.KillRequest(id=sandbox.id, signal=_SIGKILL, all=True), call)
        except NotFound:
            pass  # it has ended
        sandbox.state = NOT_READY
        return small.StopSandboxResponse()

    def wait(self, request: small.WaitSandboxRequest, call: Call) -> Message | None:
        sandbox = self._sandbox(request.sandbox_id)
        # Field by field the same message.
        return self._tasks.wait(small.WaitRequest(id=sandbox.id), call)

    def status(self, request: small.SandboxStatusRequest, call: Call) -> small.SandboxStatusResponse:
        sandbox = self._sandbox(request.sandbox_id)
        ended = self._tasks.state(small.StateRequest(id=sandbox.id), call).exited_at
        return small.SandboxStatusResponse(
            sandbox_id=sandbox.id,
            pid=sandbox.pid,
            state=NOT_READY if ended is not None else sandbox.state,
            info={"bundle": sandbox.bundle, "netns": sandbox.netns} if request.verbose else {},
            created_at=timestamp(sandbox.created_ns),
            exited_at=ended,
        )

    def ping(self, request: small.PingRequest, _: Call) -> Message:
        self._sandbox(request.sandbox_id)
        return small.PingResponse()

    def shutdown(self, request: small.ShutdownSandboxRequest, call: Call) -> None:
        """Ends it, and forgets it; the shim leaves when it was the last."""
        if self._sandboxes.pop(request.sandbox_id, None) is not None:
            try:
                self._tasks.end(request.sandbox_id)
            except NotFound:
                pass  # containerd has deleted it as a task
        call.answer(small.ShutdownSandboxResponse())
        self._idle()

    def metrics(self, request: small.SandboxMetricsRequest, call: Call) -> small.SandboxMetricsResponse:
        sandbox = self._sandbox(request.sandbox_id)
        data = self._tasks.stats(small.StatsRequest(id=sandbox.id), call).stats
        metric = small.Metric(timestamp=timestamp(time.time_ns()), id=sandbox.id, data=data)
        return small.SandboxMetricsResponse(metrics=metric)


def _write_pause(bundle: str, request: small.CreateSandboxRequest) -> None:
    """The configuration of a container that only holds namespaces for others."""
    asked = small.PodSandboxConfig()
    if request.options is not None and wanted.type_name(request.options) == _POD:
        asked = small.PodSandboxConfig.decode(request.options.value)
    linux = asked.linux or small.LinuxPodSandboxConfig()
    namespaces: list[dict[str, str]] = [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")]
    if request.netns_path:
        namespaces.append({"type": "network", "path": request.netns_path})
    launcher = executable.launcher_path()
    config = {
        "ociVersion": "1.2.0",
        "process": {
            "args": ["/pause"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True,
            "oomScoreAdj": _own_oom_score_adj(),
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": asked.hostname,
        "annotations": dict(request.annotations),
        "mounts": [
            {"destination": "/pause", "type": "bind", "source": launcher, "options": ["bind", "ro", "nosuid", "nodev"]},
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        ],
        "linux": {
            "namespaces": namespaces,
            "sysctl": dict(linux.sysctls) if request.netns_path else {},
            "cgroupsPath": f"{linux.cgroup_parent}/{request.sandbox_id}" if linux.cgroup_parent else "",
        },
    }  # fmt: skip
    fds.atomic_write(f"{bundle}/config.json", jsontext.dumps(config).encode(), 0o600, sync=False)


def _own_oom_score_adj() -> int:
    """The kernel's last choice, as far as we may choose."""
    with open("/proc/self/oom_score_adj") as file:
        return max(int(file.read()), _OOM_SCORE_ADJ)
