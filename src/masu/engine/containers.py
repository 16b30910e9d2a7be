"""Containers: make, start, stop, remove. What they are doing is in `states`, what they are made of in `births`."""

from __future__ import annotations

import os

from masu.engine import births, notation, states
from masu.engine.compose import DEFAULT_STOP_SIGNAL, DEFAULT_STOP_TIMEOUT_S, arguments
from masu.engine.records import SNAPSHOT, Record
from masu.engine.request import ContainerRequest
from masu.engine.states import PAUSED, SIGKILL, Held, State
from masu.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from masu.isolation.attach import Attachment
from masu.linux import pidfd, signals
from masu.runtime import failure
from masu.runtime import kill as runtime_kill
from masu.store.db import from_os_error
from masu.store.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from masu.engine.engine import Engine
    from masu.engine.logs import Entry
    from masu.runtime.container import Container as Runtime

# Docker's words, since people and scripts know them.
_RUNNING = "container is running: stop the container before removing or force remove"
_KILL_DEADLINE_S = 10.0


class Started:
    """A container that runs; `warnings` are what could not be honoured in full."""

    __slots__ = ("record", "runtime", "warnings")

    def __init__(self, record: Record, runtime: Runtime, warnings: list[str]) -> None:
        self.record = record
        self.runtime = runtime
        self.warnings = warnings


class Containers:
    """The containers of one engine. A `ref` is an id, a name or the beginning of an id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- finding ---

    def find(self, ref: str) -> Record:
        """Raises NotFound, InvalidArgument when several ids begin so."""
        try:
            return Record(self._engine.ns.containers.find(ref.removeprefix("/")))
        except NotFound:
            raise NotFound("container", ref, detail="no such container") from None

    def all(self) -> list[Record]:
        """Every container, oldest first."""
        return [Record(row) for row in self._engine.ns.containers.list()]

    def state(self, record: Record, *, patience_s: float = 10.0) -> State:
        """What the container is doing; see `states.look`."""
        return states.look(self._engine, record, patience_s=patience_s)

    def socket_path(self, record: Record) -> str:
        """Where the monitor of a running container listens."""
        return f"{self._engine.run_root}/{record.id}/attach.sock"

    def arguments(self, record: Record) -> list[str]:
        """The program and its arguments, as far as they are known without the image."""
        if record.is_foreign:
            from masu.engine import foreign

            return foreign.arguments(self._engine, record)
        try:
            return arguments(record.image.defaults, record.request)
        except InvalidArgument:
            return []

    def size_bytes(self, record: Record) -> int:
        """What the container's own layer takes on disk."""
        if record.image.kind == SNAPSHOT:
            return self._engine.images.snapshotter.usage(record.row.snapshot_key)[0]
        return births.disk_usage(self._engine.directory(record.id) + "/upper")

    def logs(
        self,
        record: Record,
        *,
        tail: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        follow: bool = False,
    ) -> Iterator[list[Entry]]:
        """What the container wrote, in batches; with `follow` until it has ended. See `masu.engine.logs`."""
        from masu.engine import logs

        path = self._engine.directory(record.id) + "/log"
        waiter = None
        attachment = None
        if follow and self.state(record).is_up:
            try:
                # no streams are asked for: the monitor only tells of the end, so a slow reader never holds it up
                attachment = Attachment.connect(self.socket_path(record), 0)
                fd, receive = attachment.fd, attachment.receive
                waiter = logs.Waiter(fd, lambda: receive()[0] in ("x", ""))
            except (NotFound, Unavailable):
                pass  # it has just ended
        try:
            yield from logs.read(path, tail=tail, since_ns=since_ns, until_ns=until_ns, follow=waiter)
        finally:
            if attachment is not None:
                attachment.close()

    def _hold(self, record: Record) -> Held:
        """The lock of a container that is to be changed."""
        if record.is_foreign:
            births.make_directory(self._engine, record.id)  # it has none before its first task, and after its last
        return Held(self._engine, record.id, create=record.is_foreign)

    # --- making ---

    def create(self, image: str, request: ContainerRequest, *, name: str = "") -> Record:
        """A container that has not been started. `image` is a local image, or "host"; see `births` for the steps.

        Raises NotFound for the image, AlreadyExists for the name, InvalidArgument for the request; then nothing is
        left.
        """
        try:
            return births.create(self._engine, image, request, name=name)
        except OSError as error:
            raise from_os_error(error, self._engine.root) from error

    def start(self, ref: str, *, on_ready: Callable[[str], None] | None = None) -> Started:
        """Runs the container's program; `on_ready(path)` is called before it may write, with the monitor's socket.

        Raises FailedPrecondition when it runs already or is paused, and what kept the program from running: of those,
        `exit_status(error)` is 126 or 127 when it is the program's own fault.
        """
        record = self.find(ref)
        with self._hold(record):
            record = self.find(record.id)
            state = self.state(record)
            if state.is_up:
                what = "is paused, unpause it" if state.status == PAUSED else "is already running"
                raise FailedPrecondition("container", record.name, detail=what)
            try:
                return births.start(self._engine, record, state, on_ready=on_ready)
            except OSError as error:
                raise from_os_error(error, self._engine.run) from error

    # --- ending ---

    def kill(self, ref: str, signal: str | int = "SIGKILL") -> None:
        """Sends a signal to the first process. Raises FailedPrecondition when the container does not run."""
        number = signal if isinstance(signal, int) else signals.number(signal, where="--signal")
        record = self.find(ref)
        self._signal(record, self._require_up(record, "kill"), number)

    def _require_up(self, record: Record, verb: str) -> Runtime:
        state = self.state(record)
        if not state.is_up or state.container is None:
            raise FailedPrecondition(
                f"cannot {verb} container", record.name, detail=f"container {record.id[:12]} is not running"
            )
        return state.container

    def _signal(self, record: Record, runtime: Runtime, number: int) -> None:
        try:
            runtime_kill.kill(runtime, number)
        except FailedPrecondition:
            raise FailedPrecondition(
                "cannot kill container", record.name, detail=f"container {record.id[:12]} is not running"
            ) from None

    def stop(self, ref: str, timeout_s: int | None = None, signal: str = "") -> None:
        """Asks with the stop signal, after the timeout kills; nothing to do for one that does not run.

        A negative timeout waits for ever. Raises Unavailable when even SIGKILL does not end it.
        """
        record = self.find(ref)
        state = self.state(record)
        runtime = state.container
        if not state.is_up or runtime is None:
            return
        request = record.request
        word = signal or request.stop_signal or record.image.defaults.stop_signal or DEFAULT_STOP_SIGNAL
        if timeout_s is None:
            timeout_s = DEFAULT_STOP_TIMEOUT_S if request.stop_timeout_s is None else request.stop_timeout_s
        number = signals.number(word, where="--signal" if signal else "stop signal")
        fd = runtime.open_pidfd()
        if fd is not None:
            try:
                if state.status == PAUSED:
                    runtime.cgroup.thaw()
                self._signal(record, runtime, number)
                if number == SIGKILL or not pidfd.wait_exited(fd, None if timeout_s < 0 else float(timeout_s)):
                    self._kill_and_wait(record, runtime, fd)
            except FailedPrecondition:
                pass  # it ended by itself
            finally:
                os.close(fd)
        self._wait_ended(record)

    def _kill_and_wait(self, record: Record, runtime: Runtime, fd: int) -> None:
        try:
            self._signal(record, runtime, SIGKILL)
        except FailedPrecondition:
            return
        if not pidfd.wait_exited(fd, _KILL_DEADLINE_S):
            raise Unavailable(
                "container",
                record.name,
                detail="its first process does not die of SIGKILL",
                hint=f"it hangs in the kernel; see /proc/{runtime.facts.pid}/stack",
            )

    def _wait_ended(self, record: Record) -> State:
        """The process is gone; returns when its monitor has written how."""
        runtime = states.open_runtime(self._engine, record.id)
        if runtime is not None:
            states.wait_monitor(runtime, _KILL_DEADLINE_S)
        return self.state(record)

    def wait(self, ref: str) -> State:
        """Returns when the container does not run (any more)."""
        record = self.find(ref)
        state = self.state(record)
        while state.is_up and state.container is not None:
            if states.wait_monitor(state.container, None) is None:
                fd = state.container.open_pidfd()
                if fd is not None:
                    try:
                        pidfd.wait_exited(fd)
                    finally:
                        os.close(fd)
            try:
                state = self.state(self.find(record.id))
            except NotFound:
                # removed as soon as it had ended (--rm); what the monitor wrote is gone with it
                return state
        return state

    def restart(self, ref: str, timeout_s: int | None = None, signal: str = "") -> Started:
        """Stops it if it runs, and starts it."""
        record = self.find(ref)
        self.stop(record.id, timeout_s, signal)
        return self.start(record.id)

    def pause(self, ref: str) -> None:
        """Freezes all its processes. Raises FailedPrecondition."""
        record = self.find(ref)
        with self._hold(record):
            state = self.state(record)
            if state.status == PAUSED:
                raise FailedPrecondition("container", record.name, detail="is already paused")
            runtime = self._require_up(record, "pause")
            runtime.cgroup.freeze()
            self._engine.ns.events.publish("/tasks/paused", {"container_id": record.id})

    def unpause(self, ref: str) -> None:
        """Lets a paused container go on. Raises FailedPrecondition."""
        record = self.find(ref)
        with self._hold(record):
            state = self.state(record)
            if state.status != PAUSED or state.container is None:
                raise FailedPrecondition("container", record.name, detail="is not paused")
            state.container.cgroup.thaw()
            self._engine.ns.events.publish("/tasks/resumed", {"container_id": record.id})

    def rename(self, ref: str, name: str) -> None:
        """Raises AlreadyExists, InvalidArgument."""
        name = notation.container_name(name)
        with self._engine.ns.transaction():
            record = self.find(ref)
            if record.name == name:
                raise InvalidArgument(
                    "container name", name, detail="renaming a container with the same name as its own"
                )
            record.row.name = name
            record.row.spec = None
            self._engine.ns.containers.update(record.pack())

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Removes a container that does not run (with `force` any), with `volumes` its nameless volumes as well.

        What a killed `remove` leaves is found and finished by the next one.
        """
        record = self.find(ref)
        while True:
            state = states.look(self._engine, record, settle=False)
            if state.is_up and state.container is not None:
                if not force:
                    raise FailedPrecondition("cannot remove container", record.name, detail=_RUNNING)
                fd = state.container.open_pidfd()
                if fd is not None:
                    try:
                        self._kill_and_wait(record, state.container, fd)
                    finally:
                        os.close(fd)
                self._wait_ended(record)
            with self._hold(record):
                record = self.find(record.id)
                if states.look(self._engine, record, settle=False).is_up:
                    continue  # started by somebody meanwhile
                births.destroy(self._engine, record)
            break
        if volumes:
            self._remove_volumes(record)

    def _remove_volumes(self, record: Record) -> None:
        others = {str(volume["name"]) for other in self.all() for volume in other.volumes}
        for volume in record.volumes:
            if volume.get("anonymous") and volume["name"] not in others:
                try:
                    self._engine.volumes.remove(str(volume["name"]), [])
                except NotFound:
                    continue

    def sweep(self) -> None:
        """Clears directories that no record names: what a killed `create` or `remove` has left."""
        parent = self._engine.directory("")
        try:
            found = os.listdir(parent)
        except (FileNotFoundError, PermissionError):
            return
        known = {record.id for record in self.all()}
        for id in found:
            if id in known:
                continue
            try:
                lock = Held(self._engine, id, create=False)
            except NotFound:
                remove_tree(parent + id)
                continue
            with lock:
                try:
                    self._engine.ns.containers.get(id)
                except NotFound:
                    births.clear_runtime(self._engine, id)
                    remove_tree(parent + id)


def exit_status(error: BaseException) -> int:
    """What `docker run` ends with for an error of `start`: 127, 126, else 125."""
    return failure.exit_status(error) or 125


def exec_exit_status(error: BaseException) -> int:
    """The same for `docker exec`, whose own failures end with 1."""
    return failure.exit_status(error) or 1
