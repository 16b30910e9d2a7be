"""Sandboxes: their records (Store), and their lives (Controller).

    Create ──► created ── Start ──► SANDBOX_READY ── Stop ──► SANDBOX_NOTREADY ── Shutdown ──► gone
                                         Wait ◄────────────────────┘

One controller, "shim": a sandbox is a group that containers name, without a process and namespaces of its own, as
containerd's shim for runc has it. What a client wants to run in it are containers like all others.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from masu.api.containerd import filters, values
from masu.api.containerd.service import Call, Service
from masu.api.proto import sandbox_pb2 as pb
from masu.api.proto.types_pb2 import Metric
from masu.api.proto.types_pb2 import Sandbox as Message
from masu.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from masu.spec import times
from masu.spec.platform import host
from masu.store import NamespaceStore
from masu.store.checks import merge_labels
from masu.store.sandboxes import Sandbox, Sandboxes

READY, NOT_READY = "SANDBOX_READY", "SANDBOX_NOTREADY"
CONTROLLER = "shim"
_FIELDS = {"labels": True, "extensions": True, "spec": False, "runtime": False}


def _sandboxes(ns: NamespaceStore) -> Sandboxes:
    return Sandboxes(ns.store.db, ns.events, ns.name)


class Store(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Store"]
    PLUGIN = "sandboxes"

    def create(self, request: pb.StoreCreateRequest, call: Call) -> pb.StoreCreateResponse:
        made = _sandboxes(call.ns).create(_record(request.sandbox))
        return pb.StoreCreateResponse(sandbox=_message(made))

    def update(self, request: pb.StoreUpdateRequest, call: Call) -> pb.StoreUpdateResponse:
        with call.ns.transaction():
            updated = _updated(_sandboxes(call.ns), request.sandbox, request.fields)
        return pb.StoreUpdateResponse(sandbox=_message(updated))

    def delete(self, request: pb.StoreDeleteRequest, call: Call) -> pb.StoreDeleteResponse:
        _sandboxes(call.ns).delete(request.sandbox_id)
        return pb.StoreDeleteResponse()

    def list(self, request: pb.StoreListRequest, call: Call) -> pb.StoreListResponse:
        wanted = filters.parse(request.filters)
        found = _sandboxes(call.ns).list()
        return pb.StoreListResponse(
            list=[_message(each) for each in found if wanted(filters.fields({"id": each.id}, each.labels))]
        )

    def get(self, request: pb.StoreGetRequest, call: Call) -> pb.StoreGetResponse:
        return pb.StoreGetResponse(sandbox=_message(_sandboxes(call.ns).get(request.sandbox_id)))


class Controller(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Controller"]
    PLUGIN = "sandbox-controllers"

    def create(self, request: pb.ControllerCreateRequest, call: Call) -> pb.ControllerCreateResponse:
        id = request.sandbox_id or request.sandbox.sandbox_id
        with call.ns.transaction():
            found = self._find(id, request.sandboxer, call)
            if found.state:
                raise AlreadyExists("sandbox", id, detail="was created before")
            state: dict[str, object] = {"state": NOT_READY, "netns": request.netns_path}
            _sandboxes(call.ns).note(id, "/sandboxes/create", state, {})
        return pb.ControllerCreateResponse(sandbox_id=id)

    def start(self, request: pb.ControllerStartRequest, call: Call) -> pb.ControllerStartResponse:
        id, now = request.sandbox_id, times.now()
        with call.ns.transaction():
            found = self._find(id, request.sandboxer, call)
            if not found.state or found.state.get("exited_at"):
                raise FailedPrecondition("sandbox", id, detail="is to be created first")
            if found.state.get("state") == READY:
                raise AlreadyExists("sandbox", id, detail="runs")
            state = {**found.state, "state": READY, "created_at": now}
            _sandboxes(call.ns).note(id, "/sandboxes/start", state, {})
        return pb.ControllerStartResponse(
            sandbox_id=id, created_at=values.timestamp(now), labels=found.labels, version=3
        )

    def platform(self, request: pb.ControllerPlatformRequest, call: Call) -> pb.ControllerPlatformResponse:
        self._find(request.sandbox_id, request.sandboxer, call)
        return pb.ControllerPlatformResponse(platform=values.platform_message(host()))

    def stop(self, request: pb.ControllerStopRequest, call: Call) -> pb.ControllerStopResponse:
        """Again is no error."""
        self._stop(self._find(request.sandbox_id, request.sandboxer, call), call)
        return pb.ControllerStopResponse()

    async def wait(self, request: pb.ControllerWaitRequest, call: Call) -> pb.ControllerWaitResponse:
        id, namespace = request.sandbox_id, call.namespace
        subscription = self.site.feed.subscribe(
            lambda event: (
                event.topic == "/sandboxes/exit"
                and event.namespace == namespace
                and event.payload.get("sandbox_id") == id
            )
        )
        try:
            found = await call.run(self._find, id, request.sandboxer, call)
            exited_at = str(found.state.get("exited_at", ""))
            if not exited_at:
                async for event in subscription:
                    exited_at = str(event.payload.get("exited_at", ""))
                    break
        finally:
            self.site.feed.unsubscribe(subscription)
        return pb.ControllerWaitResponse(exited_at=values.timestamp(exited_at))

    def status(self, request: pb.ControllerStatusRequest, call: Call) -> pb.ControllerStatusResponse:
        found = self._find(request.sandbox_id, request.sandboxer, call)
        return pb.ControllerStatusResponse(
            sandbox_id=found.id,
            state=str(found.state.get("state", NOT_READY)),
            info={"netns": str(found.state.get("netns", ""))} if request.verbose else {},
            created_at=values.timestamp(str(found.state.get("created_at", ""))),
            exited_at=values.timestamp(str(found.state.get("exited_at", ""))),
            version=3,
        )

    def shutdown(self, request: pb.ControllerShutdownRequest, call: Call) -> pb.ControllerShutdownResponse:
        """The record stays for the store; the life is over, and may begin anew."""
        found = self._find(request.sandbox_id, request.sandboxer, call)
        with call.ns.transaction():
            self._stop(found, call)
            found = _sandboxes(call.ns).get(found.id)
            found.state = {}
            _sandboxes(call.ns).update(found)
        return pb.ControllerShutdownResponse()

    def metrics(self, request: pb.ControllerMetricsRequest, call: Call) -> pb.ControllerMetricsResponse:
        """Without a process of its own it has none."""
        found = self._find(request.sandbox_id, request.sandboxer, call)
        now = Timestamp()
        now.GetCurrentTime()
        return pb.ControllerMetricsResponse(metrics=Metric(id=found.id, timestamp=now))

    def update(self, request: pb.ControllerUpdateRequest, call: Call) -> pb.ControllerUpdateResponse:
        if not request.HasField("sandbox"):
            raise InvalidArgument("sandbox", detail="none was given")
        request.sandbox.sandbox_id = request.sandbox_id
        with call.ns.transaction():
            self._find(request.sandbox_id, request.sandboxer, call)
            _updated(_sandboxes(call.ns), request.sandbox, request.fields)
        return pb.ControllerUpdateResponse()

    def _find(self, id: str, controller: str, call: Call) -> Sandbox:
        if controller not in ("", CONTROLLER):
            raise NotFound("sandbox controller", controller, detail=f'there is "{CONTROLLER}"')
        return _sandboxes(call.ns).get(id)

    def _stop(self, found: Sandbox, call: Call) -> None:
        if found.state.get("state") == READY:
            now = times.now()
            state = {**found.state, "state": NOT_READY, "exited_at": now}
            _sandboxes(call.ns).note(found.id, "/sandboxes/exit", state, {"exit_status": 0, "exited_at": now})


def _record(given: Message) -> Sandbox:
    record: dict[str, object] = {
        "runtime": given.runtime.name,
        "sandboxer": given.sandboxer,
        "extensions": {name: values.packed(any) for name, any in given.extensions.items()},
    }
    if given.runtime.HasField("options"):
        record["options"] = values.packed(given.runtime.options)
    if given.HasField("spec"):
        record["spec"] = values.packed(given.spec)
    return Sandbox(given.sandbox_id, labels=given.labels, record=record)


def _message(found: Sandbox) -> Message:
    record = found.record
    message = Message(
        sandbox_id=found.id,
        runtime=Message.Runtime(name=str(record.get("runtime", "")), options=values.unpacked(record.get("options"))),
        spec=values.unpacked(record.get("spec")),
        labels=found.labels,
        created_at=values.timestamp(found.created_at),
        updated_at=values.timestamp(found.updated_at),
        sandboxer=str(record.get("sandboxer", "")),
    )
    for name, data in _extensions(found).items():
        if (any := values.unpacked(data)) is not None:
            message.extensions[name].CopyFrom(any)
    return message


def _extensions(sandbox: Sandbox) -> dict[str, object]:
    found = sandbox.record.get("extensions")
    return dict(found) if isinstance(found, dict) else {}


def _updated(sandboxes: Sandboxes, given: Message, fields: Iterable[str]) -> Sandbox:
    found, new = sandboxes.get(given.sandbox_id), _record(given)
    paths = list(fields)
    masked = values.mask(paths, _FIELDS, given.sandbox_id)
    if not paths and found.record.get("runtime") != given.runtime.name:
        raise InvalidArgument("sandbox.Runtime.Name field is immutable")
    if "labels" in masked:
        changes = values.masked_labels(found.labels, given.labels, masked["labels"])
        found.labels = merge_labels(found.labels, changes)
    if "extensions" in masked:
        keys, old = masked["extensions"], _extensions(found)
        taken = {name: data for name, data in _extensions(new).items() if keys is None or name in keys}
        found.record["extensions"] = taken if keys is None else {**old, **taken}
    for field, names in (("spec", ("spec",)), ("runtime", ("runtime", "options"))):
        if field in masked:
            for name in names:
                found.record.pop(name, None)
                if name in new.record:
                    found.record[name] = new.record[name]
    return sandboxes.update(found)
