"""Messages for `wire`, made from the .proto files beside it (tools/protoc)."""

from __future__ import annotations

from masu.api.proto import wire as _

TYPE_CHECKING = False

class KeyValue(_.Message):
    __slots__ = ("key", "value")
    FIELDS = {
        1: ("key", _.STRING, _.ONE, None),
        2: ("value", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        key: str
        value: str

        def __init__(
            self,
            *,
            key: str | None = None,
            value: str | None = None,
        ) -> None: ...

class Request(_.Message):
    __slots__ = ("metadata", "method", "payload", "service", "timeout_nano")
    FIELDS = {
        1: ("service", _.STRING, _.ONE, None),
        2: ("method", _.STRING, _.ONE, None),
        3: ("payload", _.BYTES, _.ONE, None),
        4: ("timeout_nano", _.INT64, _.ONE, None),
        5: ("metadata", _.MESSAGE, _.MANY, KeyValue),
    }
    if TYPE_CHECKING:
        service: str
        method: str
        payload: bytes
        timeout_nano: int
        metadata: list[KeyValue]

        def __init__(
            self,
            *,
            service: str | None = None,
            method: str | None = None,
            payload: bytes | None = None,
            timeout_nano: int | None = None,
            metadata: list[KeyValue] | None = None,
        ) -> None: ...

class Any(_.Message):
    __slots__ = ("type_url", "value")
    FIELDS = {
        1: ("type_url", _.STRING, _.ONE, None),
        2: ("value", _.BYTES, _.ONE, None),
    }
    if TYPE_CHECKING:
        type_url: str
        value: bytes

        def __init__(
            self,
            *,
            type_url: str | None = None,
            value: bytes | None = None,
        ) -> None: ...

class Status(_.Message):
    __slots__ = ("code", "details", "message")
    FIELDS = {
        1: ("code", _.INT32, _.ONE, None),
        2: ("message", _.STRING, _.ONE, None),
        3: ("details", _.MESSAGE, _.MANY, Any),
    }
    if TYPE_CHECKING:
        code: int
        message: str
        details: list[Any]

        def __init__(
            self,
            *,
            code: int | None = None,
            message: str | None = None,
            details: list[Any] | None = None,
        ) -> None: ...

class Response(_.Message):
    __slots__ = ("payload", "status")
    FIELDS = {
        1: ("status", _.MESSAGE, _.ONE, Status),
        2: ("payload", _.BYTES, _.ONE, None),
    }
    if TYPE_CHECKING:
        status: Status | None
        payload: bytes

        def __init__(
            self,
            *,
            status: Status | None = None,
            payload: bytes | None = None,
        ) -> None: ...

class Mount(_.Message):
    __slots__ = ("options", "source", "target", "type")
    FIELDS = {
        1: ("type", _.STRING, _.ONE, None),
        2: ("source", _.STRING, _.ONE, None),
        3: ("target", _.STRING, _.ONE, None),
        4: ("options", _.STRING, _.MANY, None),
    }
    if TYPE_CHECKING:
        type: str
        source: str
        target: str
        options: list[str]

        def __init__(
            self,
            *,
            type: str | None = None,
            source: str | None = None,
            target: str | None = None,
            options: list[str] | None = None,
        ) -> None: ...

class CreateTaskRequest(_.Message):
    __slots__ = ("bundle", "checkpoint", "id", "options", "parent_checkpoint", "rootfs", "stderr", "stdin", "stdout", "terminal")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("bundle", _.STRING, _.ONE, None),
        3: ("rootfs", _.MESSAGE, _.MANY, Mount),
        4: ("terminal", _.BOOL, _.ONE, None),
        5: ("stdin", _.STRING, _.ONE, None),
        6: ("stdout", _.STRING, _.ONE, None),
        7: ("stderr", _.STRING, _.ONE, None),
        8: ("checkpoint", _.STRING, _.ONE, None),
        9: ("parent_checkpoint", _.STRING, _.ONE, None),
        10: ("options", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        id: str
        bundle: str
        rootfs: list[Mount]
        terminal: bool
        stdin: str
        stdout: str
        stderr: str
        checkpoint: str
        parent_checkpoint: str
        options: Any | None

        def __init__(
            self,
            *,
            id: str | None = None,
            bundle: str | None = None,
            rootfs: list[Mount] | None = None,
            terminal: bool | None = None,
            stdin: str | None = None,
            stdout: str | None = None,
            stderr: str | None = None,
            checkpoint: str | None = None,
            parent_checkpoint: str | None = None,
            options: Any | None = None,
        ) -> None: ...

class CreateTaskResponse(_.Message):
    __slots__ = ("pid",)
    FIELDS = {
        1: ("pid", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        pid: int

        def __init__(
            self,
            *,
            pid: int | None = None,
        ) -> None: ...

class StartRequest(_.Message):
    __slots__ = ("exec_id", "id")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        exec_id: str

        def __init__(
            self,
            *,
            id: str | None = None,
            exec_id: str | None = None,
        ) -> None: ...

class StartResponse(_.Message):
    __slots__ = ("pid",)
    FIELDS = {
        1: ("pid", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        pid: int

        def __init__(
            self,
            *,
            pid: int | None = None,
        ) -> None: ...

class DeleteRequest(_.Message):
    __slots__ = ("exec_id", "id")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        exec_id: str

        def __init__(
            self,
            *,
            id: str | None = None,
            exec_id: str | None = None,
        ) -> None: ...

class Timestamp(_.Message):
    __slots__ = ("nanos", "seconds")
    FIELDS = {
        1: ("seconds", _.INT64, _.ONE, None),
        2: ("nanos", _.INT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        seconds: int
        nanos: int

        def __init__(
            self,
            *,
            seconds: int | None = None,
            nanos: int | None = None,
        ) -> None: ...

class DeleteResponse(_.Message):
    __slots__ = ("exit_status", "exited_at", "pid")
    FIELDS = {
        1: ("pid", _.UINT32, _.ONE, None),
        2: ("exit_status", _.UINT32, _.ONE, None),
        3: ("exited_at", _.MESSAGE, _.ONE, Timestamp),
    }
    if TYPE_CHECKING:
        pid: int
        exit_status: int
        exited_at: Timestamp | None

        def __init__(
            self,
            *,
            pid: int | None = None,
            exit_status: int | None = None,
            exited_at: Timestamp | None = None,
        ) -> None: ...

class ExecProcessRequest(_.Message):
    __slots__ = ("exec_id", "id", "spec", "stderr", "stdin", "stdout", "terminal")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
        3: ("terminal", _.BOOL, _.ONE, None),
        4: ("stdin", _.STRING, _.ONE, None),
        5: ("stdout", _.STRING, _.ONE, None),
        6: ("stderr", _.STRING, _.ONE, None),
        7: ("spec", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        id: str
        exec_id: str
        terminal: bool
        stdin: str
        stdout: str
        stderr: str
        spec: Any | None

        def __init__(
            self,
            *,
            id: str | None = None,
            exec_id: str | None = None,
            terminal: bool | None = None,
            stdin: str | None = None,
            stdout: str | None = None,
            stderr: str | None = None,
            spec: Any | None = None,
        ) -> None: ...

class StateRequest(_.Message):
    __slots__ = ("exec_id", "id")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        exec_id: str

        def __init__(
            self,
            *,
            id: str | None = None,
            exec_id: str | None = None,
        ) -> None: ...

class StateResponse(_.Message):
    __slots__ = ("bundle", "exec_id", "exit_status", "exited_at", "id", "pid", "status", "stderr", "stdin", "stdout", "terminal")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("bundle", _.STRING, _.ONE, None),
        3: ("pid", _.UINT32, _.ONE, None),
        4: ("status", _.ENUM, _.ONE, None),
        5: ("stdin", _.STRING, _.ONE, None),
        6: ("stdout", _.STRING, _.ONE, None),
        7: ("stderr", _.STRING, _.ONE, None),
        8: ("terminal", _.BOOL, _.ONE, None),
        9: ("exit_status", _.UINT32, _.ONE, None),
        10: ("exited_at", _.MESSAGE, _.ONE, Timestamp),
        11: ("exec_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        bundle: str
        pid: int
        status: int
        stdin: str
        stdout: str
        stderr: str
        terminal: bool
        exit_status: int
        exited_at: Timestamp | None
        exec_id: str

        def __init__(
            self,
            *,
            id: str | None = None,
            bundle: str | None = None,
            pid: int | None = None,
            status: int | None = None,
            stdin: str | None = None,
            stdout: str | None = None,
            stderr: str | None = None,
            terminal: bool | None = None,
            exit_status: int | None = None,
            exited_at: Timestamp | None = None,
            exec_id: str | None = None,
        ) -> None: ...

class KillRequest(_.Message):
    __slots__ = ("all", "exec_id", "id", "signal")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
        3: ("signal", _.UINT32, _.ONE, None),
        4: ("all", _.BOOL, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        exec_id: str
        signal: int
        all: bool

        def __init__(
            self,
            *,
            id: str | None = None,
            exec_id: str | None = None,
            signal: int | None = None,
            all: bool | None = None,
        ) -> None: ...

class ResizePtyRequest(_.Message):
    __slots__ = ("exec_id", "height", "id", "width")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
        3: ("width", _.UINT32, _.ONE, None),
        4: ("height", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        exec_id: str
        width: int
        height: int

        def __init__(
            self,
            *,
            id: str | None = None,
            exec_id: str | None = None,
            width: int | None = None,
            height: int | None = None,
        ) -> None: ...

class CloseIORequest(_.Message):
    __slots__ = ("exec_id", "id", "stdin")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
        3: ("stdin", _.BOOL, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        exec_id: str
        stdin: bool

        def __init__(
            self,
            *,
            id: str | None = None,
            exec_id: str | None = None,
            stdin: bool | None = None,
        ) -> None: ...

class PidsRequest(_.Message):
    __slots__ = ("id",)
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str

        def __init__(
            self,
            *,
            id: str | None = None,
        ) -> None: ...

class ProcessInfo(_.Message):
    __slots__ = ("info", "pid")
    FIELDS = {
        1: ("pid", _.UINT32, _.ONE, None),
        2: ("info", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        pid: int
        info: Any | None

        def __init__(
            self,
            *,
            pid: int | None = None,
            info: Any | None = None,
        ) -> None: ...

class PidsResponse(_.Message):
    __slots__ = ("processes",)
    FIELDS = {
        1: ("processes", _.MESSAGE, _.MANY, ProcessInfo),
    }
    if TYPE_CHECKING:
        processes: list[ProcessInfo]

        def __init__(
            self,
            *,
            processes: list[ProcessInfo] | None = None,
        ) -> None: ...

class PauseRequest(_.Message):
    __slots__ = ("id",)
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str

        def __init__(
            self,
            *,
            id: str | None = None,
        ) -> None: ...

class ResumeRequest(_.Message):
    __slots__ = ("id",)
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str

        def __init__(
            self,
            *,
            id: str | None = None,
        ) -> None: ...

class CheckpointTaskRequest(_.Message):
    __slots__ = ("id", "options", "path")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("path", _.STRING, _.ONE, None),
        3: ("options", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        id: str
        path: str
        options: Any | None

        def __init__(
            self,
            *,
            id: str | None = None,
            path: str | None = None,
            options: Any | None = None,
        ) -> None: ...

class UpdateTaskRequestAnnotationsEntry(_.Message):
    __slots__ = ("key", "value")
    FIELDS = {
        1: ("key", _.STRING, _.ONE, None),
        2: ("value", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        key: str
        value: str

        def __init__(
            self,
            *,
            key: str | None = None,
            value: str | None = None,
        ) -> None: ...

class UpdateTaskRequest(_.Message):
    __slots__ = ("annotations", "id", "resources")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("resources", _.MESSAGE, _.ONE, Any),
        3: ("annotations", _.MESSAGE, _.MAP, UpdateTaskRequestAnnotationsEntry),
    }
    if TYPE_CHECKING:
        id: str
        resources: Any | None
        annotations: dict[str, str]

        def __init__(
            self,
            *,
            id: str | None = None,
            resources: Any | None = None,
            annotations: dict[str, str] | None = None,
        ) -> None: ...

class WaitRequest(_.Message):
    __slots__ = ("exec_id", "id")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        exec_id: str

        def __init__(
            self,
            *,
            id: str | None = None,
            exec_id: str | None = None,
        ) -> None: ...

class WaitResponse(_.Message):
    __slots__ = ("exit_status", "exited_at")
    FIELDS = {
        1: ("exit_status", _.UINT32, _.ONE, None),
        2: ("exited_at", _.MESSAGE, _.ONE, Timestamp),
    }
    if TYPE_CHECKING:
        exit_status: int
        exited_at: Timestamp | None

        def __init__(
            self,
            *,
            exit_status: int | None = None,
            exited_at: Timestamp | None = None,
        ) -> None: ...

class StatsRequest(_.Message):
    __slots__ = ("id",)
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str

        def __init__(
            self,
            *,
            id: str | None = None,
        ) -> None: ...

class StatsResponse(_.Message):
    __slots__ = ("stats",)
    FIELDS = {
        1: ("stats", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        stats: Any | None

        def __init__(
            self,
            *,
            stats: Any | None = None,
        ) -> None: ...

class ConnectRequest(_.Message):
    __slots__ = ("id",)
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str

        def __init__(
            self,
            *,
            id: str | None = None,
        ) -> None: ...

class ConnectResponse(_.Message):
    __slots__ = ("shim_pid", "task_pid", "version")
    FIELDS = {
        1: ("shim_pid", _.UINT32, _.ONE, None),
        2: ("task_pid", _.UINT32, _.ONE, None),
        3: ("version", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        shim_pid: int
        task_pid: int
        version: str

        def __init__(
            self,
            *,
            shim_pid: int | None = None,
            task_pid: int | None = None,
            version: str | None = None,
        ) -> None: ...

class ShutdownRequest(_.Message):
    __slots__ = ("id", "now")
    FIELDS = {
        1: ("id", _.STRING, _.ONE, None),
        2: ("now", _.BOOL, _.ONE, None),
    }
    if TYPE_CHECKING:
        id: str
        now: bool

        def __init__(
            self,
            *,
            id: str | None = None,
            now: bool | None = None,
        ) -> None: ...

class Empty(_.Message):
    __slots__ = ()

class CreateSandboxRequestAnnotationsEntry(_.Message):
    __slots__ = ("key", "value")
    FIELDS = {
        1: ("key", _.STRING, _.ONE, None),
        2: ("value", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        key: str
        value: str

        def __init__(
            self,
            *,
            key: str | None = None,
            value: str | None = None,
        ) -> None: ...

class CreateSandboxRequest(_.Message):
    __slots__ = ("annotations", "bundle_path", "netns_path", "options", "rootfs", "sandbox_id")
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
        2: ("bundle_path", _.STRING, _.ONE, None),
        3: ("rootfs", _.MESSAGE, _.MANY, Mount),
        4: ("options", _.MESSAGE, _.ONE, Any),
        5: ("netns_path", _.STRING, _.ONE, None),
        6: ("annotations", _.MESSAGE, _.MAP, CreateSandboxRequestAnnotationsEntry),
    }
    if TYPE_CHECKING:
        sandbox_id: str
        bundle_path: str
        rootfs: list[Mount]
        options: Any | None
        netns_path: str
        annotations: dict[str, str]

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
            bundle_path: str | None = None,
            rootfs: list[Mount] | None = None,
            options: Any | None = None,
            netns_path: str | None = None,
            annotations: dict[str, str] | None = None,
        ) -> None: ...

class CreateSandboxResponse(_.Message):
    __slots__ = ()

class StartSandboxRequest(_.Message):
    __slots__ = ("sandbox_id",)
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        sandbox_id: str

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
        ) -> None: ...

class StartSandboxResponse(_.Message):
    __slots__ = ("created_at", "pid", "spec")
    FIELDS = {
        1: ("pid", _.UINT32, _.ONE, None),
        2: ("created_at", _.MESSAGE, _.ONE, Timestamp),
        3: ("spec", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        pid: int
        created_at: Timestamp | None
        spec: Any | None

        def __init__(
            self,
            *,
            pid: int | None = None,
            created_at: Timestamp | None = None,
            spec: Any | None = None,
        ) -> None: ...

class PlatformRequest(_.Message):
    __slots__ = ("sandbox_id",)
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        sandbox_id: str

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
        ) -> None: ...

class Platform(_.Message):
    __slots__ = ("architecture", "os", "os_features", "os_version", "variant")
    FIELDS = {
        1: ("os", _.STRING, _.ONE, None),
        2: ("architecture", _.STRING, _.ONE, None),
        3: ("variant", _.STRING, _.ONE, None),
        4: ("os_version", _.STRING, _.ONE, None),
        5: ("os_features", _.STRING, _.MANY, None),
    }
    if TYPE_CHECKING:
        os: str
        architecture: str
        variant: str
        os_version: str
        os_features: list[str]

        def __init__(
            self,
            *,
            os: str | None = None,
            architecture: str | None = None,
            variant: str | None = None,
            os_version: str | None = None,
            os_features: list[str] | None = None,
        ) -> None: ...

class PlatformResponse(_.Message):
    __slots__ = ("platform",)
    FIELDS = {
        1: ("platform", _.MESSAGE, _.ONE, Platform),
    }
    if TYPE_CHECKING:
        platform: Platform | None

        def __init__(
            self,
            *,
            platform: Platform | None = None,
        ) -> None: ...

class StopSandboxRequest(_.Message):
    __slots__ = ("sandbox_id", "timeout_secs")
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
        2: ("timeout_secs", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        sandbox_id: str
        timeout_secs: int

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
            timeout_secs: int | None = None,
        ) -> None: ...

class StopSandboxResponse(_.Message):
    __slots__ = ()

class WaitSandboxRequest(_.Message):
    __slots__ = ("sandbox_id",)
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        sandbox_id: str

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
        ) -> None: ...

class WaitSandboxResponse(_.Message):
    __slots__ = ("exit_status", "exited_at")
    FIELDS = {
        1: ("exit_status", _.UINT32, _.ONE, None),
        2: ("exited_at", _.MESSAGE, _.ONE, Timestamp),
    }
    if TYPE_CHECKING:
        exit_status: int
        exited_at: Timestamp | None

        def __init__(
            self,
            *,
            exit_status: int | None = None,
            exited_at: Timestamp | None = None,
        ) -> None: ...

class SandboxStatusRequest(_.Message):
    __slots__ = ("sandbox_id", "verbose")
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
        2: ("verbose", _.BOOL, _.ONE, None),
    }
    if TYPE_CHECKING:
        sandbox_id: str
        verbose: bool

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
            verbose: bool | None = None,
        ) -> None: ...

class SandboxStatusResponseInfoEntry(_.Message):
    __slots__ = ("key", "value")
    FIELDS = {
        1: ("key", _.STRING, _.ONE, None),
        2: ("value", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        key: str
        value: str

        def __init__(
            self,
            *,
            key: str | None = None,
            value: str | None = None,
        ) -> None: ...

class SandboxStatusResponse(_.Message):
    __slots__ = ("created_at", "exited_at", "extra", "info", "pid", "sandbox_id", "state")
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
        2: ("pid", _.UINT32, _.ONE, None),
        3: ("state", _.STRING, _.ONE, None),
        4: ("info", _.MESSAGE, _.MAP, SandboxStatusResponseInfoEntry),
        5: ("created_at", _.MESSAGE, _.ONE, Timestamp),
        6: ("exited_at", _.MESSAGE, _.ONE, Timestamp),
        7: ("extra", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        sandbox_id: str
        pid: int
        state: str
        info: dict[str, str]
        created_at: Timestamp | None
        exited_at: Timestamp | None
        extra: Any | None

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
            pid: int | None = None,
            state: str | None = None,
            info: dict[str, str] | None = None,
            created_at: Timestamp | None = None,
            exited_at: Timestamp | None = None,
            extra: Any | None = None,
        ) -> None: ...

class PingRequest(_.Message):
    __slots__ = ("sandbox_id",)
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        sandbox_id: str

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
        ) -> None: ...

class PingResponse(_.Message):
    __slots__ = ()

class ShutdownSandboxRequest(_.Message):
    __slots__ = ("sandbox_id",)
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        sandbox_id: str

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
        ) -> None: ...

class ShutdownSandboxResponse(_.Message):
    __slots__ = ()

class SandboxMetricsRequest(_.Message):
    __slots__ = ("sandbox_id",)
    FIELDS = {
        1: ("sandbox_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        sandbox_id: str

        def __init__(
            self,
            *,
            sandbox_id: str | None = None,
        ) -> None: ...

class Metric(_.Message):
    __slots__ = ("data", "id", "timestamp")
    FIELDS = {
        1: ("timestamp", _.MESSAGE, _.ONE, Timestamp),
        2: ("id", _.STRING, _.ONE, None),
        3: ("data", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        timestamp: Timestamp | None
        id: str
        data: Any | None

        def __init__(
            self,
            *,
            timestamp: Timestamp | None = None,
            id: str | None = None,
            data: Any | None = None,
        ) -> None: ...

class SandboxMetricsResponse(_.Message):
    __slots__ = ("metrics",)
    FIELDS = {
        1: ("metrics", _.MESSAGE, _.ONE, Metric),
    }
    if TYPE_CHECKING:
        metrics: Metric | None

        def __init__(
            self,
            *,
            metrics: Metric | None = None,
        ) -> None: ...

class Extension(_.Message):
    __slots__ = ("value",)
    FIELDS = {
        1: ("value", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        value: Any | None

        def __init__(
            self,
            *,
            value: Any | None = None,
        ) -> None: ...

class BootstrapParams(_.Message):
    __slots__ = ("containerd_binary", "containerd_grpc_address", "containerd_ttrpc_address", "containerd_version", "extensions", "instance_id", "log_level", "namespace", "socket_dir")
    FIELDS = {
        1: ("instance_id", _.STRING, _.ONE, None),
        2: ("namespace", _.STRING, _.ONE, None),
        3: ("log_level", _.ENUM, _.ONE, None),
        4: ("containerd_version", _.STRING, _.ONE, None),
        5: ("containerd_ttrpc_address", _.STRING, _.ONE, None),
        6: ("containerd_grpc_address", _.STRING, _.ONE, None),
        7: ("containerd_binary", _.STRING, _.ONE, None),
        8: ("extensions", _.MESSAGE, _.MANY, Extension),
        9: ("socket_dir", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        instance_id: str
        namespace: str
        log_level: int
        containerd_version: str
        containerd_ttrpc_address: str
        containerd_grpc_address: str
        containerd_binary: str
        extensions: list[Extension]
        socket_dir: str

        def __init__(
            self,
            *,
            instance_id: str | None = None,
            namespace: str | None = None,
            log_level: int | None = None,
            containerd_version: str | None = None,
            containerd_ttrpc_address: str | None = None,
            containerd_grpc_address: str | None = None,
            containerd_binary: str | None = None,
            extensions: list[Extension] | None = None,
            socket_dir: str | None = None,
        ) -> None: ...

class BootstrapResultMetadataEntry(_.Message):
    __slots__ = ("key", "value")
    FIELDS = {
        1: ("key", _.STRING, _.ONE, None),
        2: ("value", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        key: str
        value: str

        def __init__(
            self,
            *,
            key: str | None = None,
            value: str | None = None,
        ) -> None: ...

class BootstrapResult(_.Message):
    __slots__ = ("address", "capabilities", "metadata", "protocol", "version")
    FIELDS = {
        1: ("version", _.INT32, _.ONE, None),
        2: ("address", _.STRING, _.ONE, None),
        3: ("protocol", _.STRING, _.ONE, None),
        4: ("capabilities", _.ENUM, _.MANY, None),
        5: ("metadata", _.MESSAGE, _.MAP, BootstrapResultMetadataEntry),
    }
    if TYPE_CHECKING:
        version: int
        address: str
        protocol: str
        capabilities: list[int]
        metadata: dict[str, str]

        def __init__(
            self,
            *,
            version: int | None = None,
            address: str | None = None,
            protocol: str | None = None,
            capabilities: list[int] | None = None,
            metadata: dict[str, str] | None = None,
        ) -> None: ...

class Options(_.Message):
    __slots__ = ("binary_name", "criu_image_path", "criu_path", "criu_work_path", "io_gid", "io_uid", "no_new_keyring", "no_pivot_root", "root", "shim_cgroup", "systemd_cgroup", "task_api_address", "task_api_version")
    FIELDS = {
        1: ("no_pivot_root", _.BOOL, _.ONE, None),
        2: ("no_new_keyring", _.BOOL, _.ONE, None),
        3: ("shim_cgroup", _.STRING, _.ONE, None),
        4: ("io_uid", _.UINT32, _.ONE, None),
        5: ("io_gid", _.UINT32, _.ONE, None),
        6: ("binary_name", _.STRING, _.ONE, None),
        7: ("root", _.STRING, _.ONE, None),
        8: ("criu_path", _.STRING, _.ONE, None),
        9: ("systemd_cgroup", _.BOOL, _.ONE, None),
        10: ("criu_image_path", _.STRING, _.ONE, None),
        11: ("criu_work_path", _.STRING, _.ONE, None),
        12: ("task_api_address", _.STRING, _.ONE, None),
        13: ("task_api_version", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        no_pivot_root: bool
        no_new_keyring: bool
        shim_cgroup: str
        io_uid: int
        io_gid: int
        binary_name: str
        root: str
        criu_path: str
        systemd_cgroup: bool
        criu_image_path: str
        criu_work_path: str
        task_api_address: str
        task_api_version: int

        def __init__(
            self,
            *,
            no_pivot_root: bool | None = None,
            no_new_keyring: bool | None = None,
            shim_cgroup: str | None = None,
            io_uid: int | None = None,
            io_gid: int | None = None,
            binary_name: str | None = None,
            root: str | None = None,
            criu_path: str | None = None,
            systemd_cgroup: bool | None = None,
            criu_image_path: str | None = None,
            criu_work_path: str | None = None,
            task_api_address: str | None = None,
            task_api_version: int | None = None,
        ) -> None: ...

class CheckpointOptions(_.Message):
    __slots__ = ("cgroups_mode", "empty_namespaces", "exit", "external_unix_sockets", "file_locks", "image_path", "open_tcp", "parent_path", "terminal", "work_path")
    FIELDS = {
        1: ("exit", _.BOOL, _.ONE, None),
        2: ("open_tcp", _.BOOL, _.ONE, None),
        3: ("external_unix_sockets", _.BOOL, _.ONE, None),
        4: ("terminal", _.BOOL, _.ONE, None),
        5: ("file_locks", _.BOOL, _.ONE, None),
        6: ("empty_namespaces", _.STRING, _.MANY, None),
        7: ("cgroups_mode", _.STRING, _.ONE, None),
        8: ("image_path", _.STRING, _.ONE, None),
        9: ("work_path", _.STRING, _.ONE, None),
        10: ("parent_path", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        exit: bool
        open_tcp: bool
        external_unix_sockets: bool
        terminal: bool
        file_locks: bool
        empty_namespaces: list[str]
        cgroups_mode: str
        image_path: str
        work_path: str
        parent_path: str

        def __init__(
            self,
            *,
            exit: bool | None = None,
            open_tcp: bool | None = None,
            external_unix_sockets: bool | None = None,
            terminal: bool | None = None,
            file_locks: bool | None = None,
            empty_namespaces: list[str] | None = None,
            cgroups_mode: str | None = None,
            image_path: str | None = None,
            work_path: str | None = None,
            parent_path: str | None = None,
        ) -> None: ...

class ProcessDetails(_.Message):
    __slots__ = ("exec_id",)
    FIELDS = {
        1: ("exec_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        exec_id: str

        def __init__(
            self,
            *,
            exec_id: str | None = None,
        ) -> None: ...

class CreateOptions(_.Message):
    __slots__ = ("cgroups_mode", "criu_image_path", "criu_work_path", "empty_namespaces", "external_unix_sockets", "file_locks", "io_gid", "io_uid", "no_new_keyring", "no_pivot_root", "open_tcp", "shim_cgroup", "terminal")
    FIELDS = {
        1: ("no_pivot_root", _.BOOL, _.ONE, None),
        2: ("open_tcp", _.BOOL, _.ONE, None),
        3: ("external_unix_sockets", _.BOOL, _.ONE, None),
        4: ("terminal", _.BOOL, _.ONE, None),
        5: ("file_locks", _.BOOL, _.ONE, None),
        6: ("empty_namespaces", _.STRING, _.MANY, None),
        7: ("cgroups_mode", _.STRING, _.ONE, None),
        8: ("no_new_keyring", _.BOOL, _.ONE, None),
        9: ("shim_cgroup", _.STRING, _.ONE, None),
        10: ("io_uid", _.UINT32, _.ONE, None),
        11: ("io_gid", _.UINT32, _.ONE, None),
        12: ("criu_work_path", _.STRING, _.ONE, None),
        13: ("criu_image_path", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        no_pivot_root: bool
        open_tcp: bool
        external_unix_sockets: bool
        terminal: bool
        file_locks: bool
        empty_namespaces: list[str]
        cgroups_mode: str
        no_new_keyring: bool
        shim_cgroup: str
        io_uid: int
        io_gid: int
        criu_work_path: str
        criu_image_path: str

        def __init__(
            self,
            *,
            no_pivot_root: bool | None = None,
            open_tcp: bool | None = None,
            external_unix_sockets: bool | None = None,
            terminal: bool | None = None,
            file_locks: bool | None = None,
            empty_namespaces: list[str] | None = None,
            cgroups_mode: str | None = None,
            no_new_keyring: bool | None = None,
            shim_cgroup: str | None = None,
            io_uid: int | None = None,
            io_gid: int | None = None,
            criu_work_path: str | None = None,
            criu_image_path: str | None = None,
        ) -> None: ...

class Envelope(_.Message):
    __slots__ = ("event", "namespace", "timestamp", "topic")
    FIELDS = {
        1: ("timestamp", _.MESSAGE, _.ONE, Timestamp),
        2: ("namespace", _.STRING, _.ONE, None),
        3: ("topic", _.STRING, _.ONE, None),
        4: ("event", _.MESSAGE, _.ONE, Any),
    }
    if TYPE_CHECKING:
        timestamp: Timestamp | None
        namespace: str
        topic: str
        event: Any | None

        def __init__(
            self,
            *,
            timestamp: Timestamp | None = None,
            namespace: str | None = None,
            topic: str | None = None,
            event: Any | None = None,
        ) -> None: ...

class ForwardRequest(_.Message):
    __slots__ = ("envelope",)
    FIELDS = {
        1: ("envelope", _.MESSAGE, _.ONE, Envelope),
    }
    if TYPE_CHECKING:
        envelope: Envelope | None

        def __init__(
            self,
            *,
            envelope: Envelope | None = None,
        ) -> None: ...

class LinuxPodSandboxConfigSysctlsEntry(_.Message):
    __slots__ = ("key", "value")
    FIELDS = {
        1: ("key", _.STRING, _.ONE, None),
        2: ("value", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        key: str
        value: str

        def __init__(
            self,
            *,
            key: str | None = None,
            value: str | None = None,
        ) -> None: ...

class LinuxPodSandboxConfig(_.Message):
    __slots__ = ("cgroup_parent", "sysctls")
    FIELDS = {
        1: ("cgroup_parent", _.STRING, _.ONE, None),
        3: ("sysctls", _.MESSAGE, _.MAP, LinuxPodSandboxConfigSysctlsEntry),
    }
    if TYPE_CHECKING:
        cgroup_parent: str
        sysctls: dict[str, str]

        def __init__(
            self,
            *,
            cgroup_parent: str | None = None,
            sysctls: dict[str, str] | None = None,
        ) -> None: ...

class PodSandboxConfig(_.Message):
    __slots__ = ("hostname", "linux")
    FIELDS = {
        2: ("hostname", _.STRING, _.ONE, None),
        8: ("linux", _.MESSAGE, _.ONE, LinuxPodSandboxConfig),
    }
    if TYPE_CHECKING:
        hostname: str
        linux: LinuxPodSandboxConfig | None

        def __init__(
            self,
            *,
            hostname: str | None = None,
            linux: LinuxPodSandboxConfig | None = None,
        ) -> None: ...

class GenericOptions(_.Message):
    __slots__ = ("config_body", "config_path", "type_url")
    FIELDS = {
        1: ("type_url", _.STRING, _.ONE, None),
        2: ("config_path", _.STRING, _.ONE, None),
        3: ("config_body", _.BYTES, _.ONE, None),
    }
    if TYPE_CHECKING:
        type_url: str
        config_path: str
        config_body: bytes

        def __init__(
            self,
            *,
            type_url: str | None = None,
            config_path: str | None = None,
            config_body: bytes | None = None,
        ) -> None: ...

class TaskIO(_.Message):
    __slots__ = ("stderr", "stdin", "stdout", "terminal")
    FIELDS = {
        1: ("stdin", _.STRING, _.ONE, None),
        2: ("stdout", _.STRING, _.ONE, None),
        3: ("stderr", _.STRING, _.ONE, None),
        4: ("terminal", _.BOOL, _.ONE, None),
    }
    if TYPE_CHECKING:
        stdin: str
        stdout: str
        stderr: str
        terminal: bool

        def __init__(
            self,
            *,
            stdin: str | None = None,
            stdout: str | None = None,
            stderr: str | None = None,
            terminal: bool | None = None,
        ) -> None: ...

class TaskCreate(_.Message):
    __slots__ = ("bundle", "checkpoint", "container_id", "io", "pid", "rootfs")
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
        2: ("bundle", _.STRING, _.ONE, None),
        3: ("rootfs", _.MESSAGE, _.MANY, Mount),
        4: ("io", _.MESSAGE, _.ONE, TaskIO),
        5: ("checkpoint", _.STRING, _.ONE, None),
        6: ("pid", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str
        bundle: str
        rootfs: list[Mount]
        io: TaskIO | None
        checkpoint: str
        pid: int

        def __init__(
            self,
            *,
            container_id: str | None = None,
            bundle: str | None = None,
            rootfs: list[Mount] | None = None,
            io: TaskIO | None = None,
            checkpoint: str | None = None,
            pid: int | None = None,
        ) -> None: ...

class TaskStart(_.Message):
    __slots__ = ("container_id", "pid")
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
        2: ("pid", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str
        pid: int

        def __init__(
            self,
            *,
            container_id: str | None = None,
            pid: int | None = None,
        ) -> None: ...

class TaskDelete(_.Message):
    __slots__ = ("container_id", "exit_status", "exited_at", "id", "pid")
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
        2: ("pid", _.UINT32, _.ONE, None),
        3: ("exit_status", _.UINT32, _.ONE, None),
        4: ("exited_at", _.MESSAGE, _.ONE, Timestamp),
        5: ("id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str
        pid: int
        exit_status: int
        exited_at: Timestamp | None
        id: str

        def __init__(
            self,
            *,
            container_id: str | None = None,
            pid: int | None = None,
            exit_status: int | None = None,
            exited_at: Timestamp | None = None,
            id: str | None = None,
        ) -> None: ...

class TaskExit(_.Message):
    __slots__ = ("container_id", "exit_status", "exited_at", "id", "pid")
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
        2: ("id", _.STRING, _.ONE, None),
        3: ("pid", _.UINT32, _.ONE, None),
        4: ("exit_status", _.UINT32, _.ONE, None),
        5: ("exited_at", _.MESSAGE, _.ONE, Timestamp),
    }
    if TYPE_CHECKING:
        container_id: str
        id: str
        pid: int
        exit_status: int
        exited_at: Timestamp | None

        def __init__(
            self,
            *,
            container_id: str | None = None,
            id: str | None = None,
            pid: int | None = None,
            exit_status: int | None = None,
            exited_at: Timestamp | None = None,
        ) -> None: ...

class TaskOOM(_.Message):
    __slots__ = ("container_id",)
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str

        def __init__(
            self,
            *,
            container_id: str | None = None,
        ) -> None: ...

class TaskExecAdded(_.Message):
    __slots__ = ("container_id", "exec_id")
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str
        exec_id: str

        def __init__(
            self,
            *,
            container_id: str | None = None,
            exec_id: str | None = None,
        ) -> None: ...

class TaskExecStarted(_.Message):
    __slots__ = ("container_id", "exec_id", "pid")
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
        2: ("exec_id", _.STRING, _.ONE, None),
        3: ("pid", _.UINT32, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str
        exec_id: str
        pid: int

        def __init__(
            self,
            *,
            container_id: str | None = None,
            exec_id: str | None = None,
            pid: int | None = None,
        ) -> None: ...

class TaskPaused(_.Message):
    __slots__ = ("container_id",)
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str

        def __init__(
            self,
            *,
            container_id: str | None = None,
        ) -> None: ...

class TaskResumed(_.Message):
    __slots__ = ("container_id",)
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str

        def __init__(
            self,
            *,
            container_id: str | None = None,
        ) -> None: ...

class TaskCheckpointed(_.Message):
    __slots__ = ("checkpoint", "container_id")
    FIELDS = {
        1: ("container_id", _.STRING, _.ONE, None),
        2: ("checkpoint", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        container_id: str
        checkpoint: str

        def __init__(
            self,
            *,
            container_id: str | None = None,
            checkpoint: str | None = None,
        ) -> None: ...

class RuntimeVersion(_.Message):
    __slots__ = ("revision", "version")
    FIELDS = {
        1: ("version", _.STRING, _.ONE, None),
        2: ("revision", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        version: str
        revision: str

        def __init__(
            self,
            *,
            version: str | None = None,
            revision: str | None = None,
        ) -> None: ...

class RuntimeInfoAnnotationsEntry(_.Message):
    __slots__ = ("key", "value")
    FIELDS = {
        1: ("key", _.STRING, _.ONE, None),
        2: ("value", _.STRING, _.ONE, None),
    }
    if TYPE_CHECKING:
        key: str
        value: str

        def __init__(
            self,
            *,
            key: str | None = None,
            value: str | None = None,
        ) -> None: ...

class RuntimeInfo(_.Message):
    __slots__ = ("annotations", "features", "name", "options", "version")
    FIELDS = {
        1: ("name", _.STRING, _.ONE, None),
        2: ("version", _.MESSAGE, _.ONE, RuntimeVersion),
        3: ("options", _.MESSAGE, _.ONE, Any),
        4: ("features", _.MESSAGE, _.ONE, Any),
        5: ("annotations", _.MESSAGE, _.MAP, RuntimeInfoAnnotationsEntry),
    }
    if TYPE_CHECKING:
        name: str
        version: RuntimeVersion | None
        options: Any | None
        features: Any | None
        annotations: dict[str, str]

        def __init__(
            self,
            *,
            name: str | None = None,
            version: RuntimeVersion | None = None,
            options: Any | None = None,
            features: Any | None = None,
            annotations: dict[str, str] | None = None,
        ) -> None: ...

NAMES: dict[str, type[_.Message]] = {
    "ttrpc.Request": Request,
    "ttrpc.KeyValue": KeyValue,
    "ttrpc.Response": Response,
    "google.rpc.Status": Status,
    "google.protobuf.Any": Any,
    "containerd.task.v3.CreateTaskRequest": CreateTaskRequest,
    "containerd.types.Mount": Mount,
    "containerd.task.v3.CreateTaskResponse": CreateTaskResponse,
    "containerd.task.v3.StartRequest": StartRequest,
    "containerd.task.v3.StartResponse": StartResponse,
    "containerd.task.v3.DeleteRequest": DeleteRequest,
    "containerd.task.v3.DeleteResponse": DeleteResponse,
    "google.protobuf.Timestamp": Timestamp,
    "containerd.task.v3.ExecProcessRequest": ExecProcessRequest,
    "containerd.task.v3.StateRequest": StateRequest,
    "containerd.task.v3.StateResponse": StateResponse,
    "containerd.task.v3.KillRequest": KillRequest,
    "containerd.task.v3.ResizePtyRequest": ResizePtyRequest,
    "containerd.task.v3.CloseIORequest": CloseIORequest,
    "containerd.task.v3.PidsRequest": PidsRequest,
    "containerd.task.v3.PidsResponse": PidsResponse,
    "containerd.v1.types.ProcessInfo": ProcessInfo,
    "containerd.task.v3.PauseRequest": PauseRequest,
    "containerd.task.v3.ResumeRequest": ResumeRequest,
    "containerd.task.v3.CheckpointTaskRequest": CheckpointTaskRequest,
    "containerd.task.v3.UpdateTaskRequest": UpdateTaskRequest,
    "containerd.task.v3.WaitRequest": WaitRequest,
    "containerd.task.v3.WaitResponse": WaitResponse,
    "containerd.task.v3.StatsRequest": StatsRequest,
    "containerd.task.v3.StatsResponse": StatsResponse,
    "containerd.task.v3.ConnectRequest": ConnectRequest,
    "containerd.task.v3.ConnectResponse": ConnectResponse,
    "containerd.task.v3.ShutdownRequest": ShutdownRequest,
    "google.protobuf.Empty": Empty,
    "containerd.runtime.sandbox.v1.CreateSandboxRequest": CreateSandboxRequest,
    "containerd.runtime.sandbox.v1.CreateSandboxResponse": CreateSandboxResponse,
    "containerd.runtime.sandbox.v1.StartSandboxRequest": StartSandboxRequest,
    "containerd.runtime.sandbox.v1.StartSandboxResponse": StartSandboxResponse,
    "containerd.runtime.sandbox.v1.PlatformRequest": PlatformRequest,
    "containerd.runtime.sandbox.v1.PlatformResponse": PlatformResponse,
    "containerd.types.Platform": Platform,
    "containerd.runtime.sandbox.v1.StopSandboxRequest": StopSandboxRequest,
    "containerd.runtime.sandbox.v1.StopSandboxResponse": StopSandboxResponse,
    "containerd.runtime.sandbox.v1.WaitSandboxRequest": WaitSandboxRequest,
    "containerd.runtime.sandbox.v1.WaitSandboxResponse": WaitSandboxResponse,
    "containerd.runtime.sandbox.v1.SandboxStatusRequest": SandboxStatusRequest,
    "containerd.runtime.sandbox.v1.SandboxStatusResponse": SandboxStatusResponse,
    "containerd.runtime.sandbox.v1.PingRequest": PingRequest,
    "containerd.runtime.sandbox.v1.PingResponse": PingResponse,
    "containerd.runtime.sandbox.v1.ShutdownSandboxRequest": ShutdownSandboxRequest,
    "containerd.runtime.sandbox.v1.ShutdownSandboxResponse": ShutdownSandboxResponse,
    "containerd.runtime.sandbox.v1.SandboxMetricsRequest": SandboxMetricsRequest,
    "containerd.runtime.sandbox.v1.SandboxMetricsResponse": SandboxMetricsResponse,
    "containerd.types.Metric": Metric,
    "containerd.runtime.bootstrap.v1.BootstrapParams": BootstrapParams,
    "containerd.runtime.bootstrap.v1.Extension": Extension,
    "containerd.runtime.bootstrap.v1.BootstrapResult": BootstrapResult,
    "containerd.runc.v1.Options": Options,
    "containerd.runc.v1.CheckpointOptions": CheckpointOptions,
    "containerd.runc.v1.ProcessDetails": ProcessDetails,
    "containerd.linux.runc.CreateOptions": CreateOptions,
    "containerd.services.events.ttrpc.v1.ForwardRequest": ForwardRequest,
    "containerd.types.Envelope": Envelope,
    "runtime.v1.PodSandboxConfig": PodSandboxConfig,
    "runtime.v1.LinuxPodSandboxConfig": LinuxPodSandboxConfig,
    "runtimeoptions.v1.GenericOptions": GenericOptions,
    "containerd.events.TaskCreate": TaskCreate,
    "containerd.events.TaskIO": TaskIO,
    "containerd.events.TaskStart": TaskStart,
    "containerd.events.TaskDelete": TaskDelete,
    "containerd.events.TaskExit": TaskExit,
    "containerd.events.TaskOOM": TaskOOM,
    "containerd.events.TaskExecAdded": TaskExecAdded,
    "containerd.events.TaskExecStarted": TaskExecStarted,
    "containerd.events.TaskPaused": TaskPaused,
    "containerd.events.TaskResumed": TaskResumed,
    "containerd.events.TaskCheckpointed": TaskCheckpointed,
    "containerd.types.RuntimeInfo": RuntimeInfo,
    "containerd.types.RuntimeVersion": RuntimeVersion,
}
