"""Events on their way to containerd: in order, each until it has arrived.

containerd may be away for a while, to be updated; what happens meanwhile is told when it is back. A thread exists
while there is something to tell.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from time import monotonic, sleep, time_ns

from masu.api.proto import small
from masu.api.ttrpc.client import Client
from masu.errors import MasuError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.api.proto.wire import Message

SERVICE = "containerd.services.events.ttrpc.v1.Events"
TOPICS: dict[type[Message], str] = {
    small.TaskCreate: "/tasks/create",
    small.TaskStart: "/tasks/start",
    small.TaskOOM: "/tasks/oom",
    small.TaskExit: "/tasks/exit",
    small.TaskDelete: "/tasks/delete",
    small.TaskExecAdded: "/tasks/exec-added",
    small.TaskExecStarted: "/tasks/exec-started",
    small.TaskPaused: "/tasks/paused",
    small.TaskResumed: "/tasks/resumed",
    small.TaskCheckpointed: "/tasks/checkpointed",
}

# As many as containerd's own shims keep.
MAX_WAITING = 2048
_FIRST_DELAY_S, _MAX_DELAY_S = 0.1, 5.0
_TIMEOUT_S = 5.0


def timestamp(ns: int) -> small.Timestamp:
    seconds, nanos = divmod(ns, 1_000_000_000)
    return small.Timestamp(seconds=seconds, nanos=nanos)


class Publisher:
    """`address` is that of containerd's ttrpc socket, "" for nobody who listens; `complain` hears what is not told, and
    why."""

    def __init__(self, address: str, namespace: str, complain: Callable[[str], None]) -> None:
        self._address = address
        self._namespace = namespace
        self._complain = complain
        self._lock = allocate_lock()
        self._waiting: list[small.Envelope] = []
        self._is_telling = False
        self._is_patient = True
        self._client: Client | None = None

    def publish(self, event: Message) -> None:
        """From any thread; events are told in the order of these calls."""
        if not self._address:
            return
        kind = type(event)
        envelope = small.Envelope(
            timestamp=timestamp(time_ns()),
            namespace=self._namespace,
            topic=TOPICS[kind],
            event=small.Any(type_url=f"containerd.events.{kind.__name__}", value=event.encode()),
        )
        with self._lock:
            self._waiting.append(envelope)
            if len(self._waiting) > MAX_WAITING:
                lost = self._waiting.pop(0)
                self._complain(f"event {lost.topic} is lost: {MAX_WAITING} wait for containerd")
            if self._is_telling:
                return
            self._is_telling = True
        try:
            start_new_thread(self._tell_all, ())
        except RuntimeError as error:
            with self._lock:
                self._is_telling = False
            self._complain(f"event {envelope.topic}: {error}; it is told with the next one")

    def flush(self, deadline_s: float) -> bool:
        """Waits until all has been told; False when that was not possible. The last thing that is done."""
        self._is_patient = False
        until = monotonic() + deadline_s
        while monotonic() < until:
            with self._lock:
                if not self._is_telling:
                    return not self._waiting
            sleep(0.002)
        return False

    def _tell_all(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_telling = False
                    return
                envelope = self._waiting[0]
            try:
                self._tell(envelope)
            except Unavailable as error:
                if delay_s == _FIRST_DELAY_S:
                    self._complain(f"event {envelope.topic}: {error}; it is kept")
                if not self._is_patient and delay_s > _FIRST_DELAY_S:
                    with self._lock:
                        self._is_telling = False
                    return
                sleep(delay_s)
                delay_s = min(delay_s * 2, _MAX_DELAY_S)
                continue
            except MasuError as error:  # containerd does not want it
                self._complain(f"event {envelope.topic}: {error}")
            delay_s = _FIRST_DELAY_S
            with self._lock:
                if self._waiting and self._waiting[0] is envelope:
                    del self._waiting[0]

    def _tell(self, envelope: small.Envelope) -> None:
        if self._client is None:
            self._client = Client(self._address, timeout_s=_TIMEOUT_S)
        try:
            request = small.ForwardRequest(envelope=envelope)
            metadata = {"containerd-namespace-ttrpc": self._namespace}
            self._client.call(SERVICE, "Forward", request, small.Empty, metadata=metadata)
        except Unavailable:
            self._client.close()
            self._client = None
            raise
