"""The execs of a task: more processes in its container, each added first and started later, under the client's own ids.

<run>/execs/<namespace>/<container>/<exec>/     as `execs` has them: attach.sock, pid, exit
    task.json     what is to be run: {"process": …, "io": …}; by it these are told from those of `masu exec`
    started/      a start has begun
    told          its exit has been published (or never will be: its start failed)

           add              start             exit            delete
(none) ---------> created ---------> running -------> stopped -------> (none)
"""

from __future__ import annotations

import os

from masu.engine import births, states
from masu.engine.tasks import CREATED, PAUSED, RUNNING, Process, connect, with_monitor
from masu.errors import AlreadyExists, FailedPrecondition, InvalidArgument, MasuError, NotFound
from masu.isolation import backend, namespaces
from masu.isolation.attach import STDIN, Attachment
from masu.isolation.stdio import Stdio, StdioNames
from masu.linux import fds, pidfd, procfs
from masu.runtime import failure
from masu.spec import jsontext, times
from masu.store import checks
from masu.store.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.engine import Engine
    from masu.isolation.namespaces import Exit

_MAX_BYTES = 4 << 20
# How long the end of a container waits for those of its execs, whose monitors drain pipes.
_LAST_EXEC_S = 3.0


class Execs:
    """The execs of the tasks of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _directory(self, id: str, exec_id: str) -> str:
        return f"{parent(self._engine, id)}/{exec_id}"

    def add(self, id: str, exec_id: str, process: dict[str, object], io: StdioNames) -> None:
        """`process` is an object as a spec's. Raises InvalidArgument, AlreadyExists, FailedPrecondition."""
        from masu.spec import runtime as spec

        checks.identifier("exec id", exec_id)
        spec.parse_process(process, where="process")
        _, state = self._engine.tasks.look(id)
        if state.container is None or state.status in (states.EXITED, states.PAUSED):
            word = "paused" if state.status == states.PAUSED else "stopped"
            raise FailedPrecondition(f"cannot exec in a {word} state")
        directory = self._directory(id, exec_id)
        os.makedirs(parent(self._engine, id), 0o700, exist_ok=True)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            raise AlreadyExists(f"id {exec_id}") from None
        text = jsontext.dumps({"process": process, "io": io.to_json()})
        fds.atomic_write(directory + "/task.json", text.encode(), 0o600, sync=False)
        self._engine.ns.events.publish("/tasks/exec-added", {"container_id": id, "exec_id": exec_id})

    def _wanted(self, id: str, exec_id: str) -> tuple[dict[str, object], StdioNames]:
        """What was added. Raises NotFound."""
        path = self._directory(id, exec_id) + "/task.json"
        try:
            checks.identifier("exec id", exec_id)
            data = jsontext.loads(fds.read_bounded(path, _MAX_BYTES), name=path)
        except (FileNotFoundError, NotADirectoryError, InvalidArgument):
            raise NotFound(f"process does not exist {exec_id}") from None
        process = data.get("process") if isinstance(data, dict) else None
        io = data.get("io") if isinstance(data, dict) else None
        return process if isinstance(process, dict) else {}, StdioNames.from_json(io)

    def get(self, id: str, exec_id: str) -> Process:
        """Raises NotFound."""
        _, io = self._wanted(id, exec_id)
        directory = self._directory(id, exec_id)
        ended = settle(self._engine, id, exec_id)
        pid = noted_pid(directory)
        found = Process(id, exec_id, RUNNING if pid else CREATED, pid, io)
        if ended is not None:
            return found.ended(ended)
        if pid and self._engine.tasks.get(id).status == PAUSED:
            found.status = PAUSED
        return found

    def start(self, id: str, exec_id: str) -> int:
        """Its pid. Raises FailedPrecondition, and what keeps the program from running: then it counts as ended."""
        engine, directory = self._engine, self._directory(id, exec_id)
        wanted, io = self._wanted(id, exec_id)
        _, state = engine.tasks.look(id)
        if state.container is None or state.status == states.EXITED:
            raise FailedPrecondition(f"container {id} init process is not running")
        if os.path.exists(directory + "/exit"):
            raise FailedPrecondition("cannot start a stopped process")
        try:
            os.mkdir(directory + "/started")  # of two that start it at once one is the first
        except FileExistsError:
            raise FailedPrecondition("cannot start a running process") from None
        stdio = Stdio(
            terminal=wanted.get("terminal") is True or io.terminal,
            ephemeral=True,
            stdin=io.stdin,
            stdout=io.stdout,
            stderr=io.stderr,
            owner=(id, engine.namespace),
        )

        made = 0

        def ready(pid: int) -> None:
            # Before it may run: its exit may be seen by others before anything that is told after.
            nonlocal made
            made = pid
            engine.ns.events.publish("/tasks/exec-started", {"container_id": id, "exec_id": exec_id, "pid": pid})

        try:
            backend.of(state.container).exec(
                state.container,
                wanted,
                stdio,
                directory=directory,
                seccomp_cache=births.seccomp_cache(engine),
                on_ready=ready,
            )
        except MasuError as error:
            how = namespaces.Exit(failure.exit_status(error) or 255, exited_at=times.now(), reason="never ran")
            namespaces.write_exit(directory + "/exit", how)
            raise
        return made

    def kill(self, id: str, exec_id: str, signal: int) -> None:
        """Raises FailedPrecondition before the start, NotFound after the end."""
        found = self.get(id, exec_id)
        if found.status == CREATED:
            raise FailedPrecondition("process not created")
        fd = _open(self._directory(id, exec_id))
        if found.exited_at or fd is None:
            raise NotFound("process already finished")
        try:
            pidfd.send_signal(fd, signal)
        except ProcessLookupError:
            raise NotFound("process already finished") from None
        finally:
            os.close(fd)

    def delete(self, id: str, exec_id: str) -> Process:
        """How it ended. Raises FailedPrecondition while it runs."""
        found = self.get(id, exec_id)
        if found.status in (RUNNING, PAUSED):
            raise FailedPrecondition(f"cannot delete a {found.status} process")
        remove_tree(self._directory(id, exec_id))
        return found

    def attach(self, id: str, exec_id: str, flags: int = 0) -> Attachment | None:
        """A connection to its monitor, which tells of its end; None when that is over, or it has not been started."""
        return connect(self._directory(id, exec_id) + "/attach.sock", flags)

    def resize(self, id: str, exec_id: str, rows: int, columns: int) -> None:
        self._wanted(id, exec_id)
        with_monitor(self.attach(id, exec_id), lambda monitor: monitor.resize(rows, columns))

    def close_stdin(self, id: str, exec_id: str) -> None:
        self._wanted(id, exec_id)
        with_monitor(self.attach(id, exec_id, STDIN), lambda monitor: monitor.close_stdin())

    def pids(self, id: str) -> dict[int, str]:
        """The first process of each that runs: pid -> exec id."""
        names = _names(self._engine, id)
        return {pid: name for name in names if (pid := noted_pid(self._directory(id, name)))}

    def running(self, id: str) -> list[str]:
        """Those that have been started and have not ended."""
        found = []
        for name in _names(self._engine, id):
            directory = self._directory(id, name)
            if noted_pid(directory) and not os.path.exists(directory + "/exit"):
                found.append(name)
        return found


def parent(engine: Engine, id: str) -> str:
    """Where the execs of a container are."""
    return f"{engine.run}/execs/{engine.namespace}/{id}"


def _names(engine: Engine, id: str) -> list[str]:
    """The exec ids of a task; those of `masu exec` are not its."""
    folder = parent(engine, id)
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [name for name in names if os.path.exists(f"{folder}/{name}/task.json")]


def noted_pid(directory: str) -> int:
    """The pid of an exec's process; 0 before it was started."""
    noted = namespaces.read_noted(directory)
    return noted[0][0] if noted else 0


def _open(directory: str) -> int | None:
    noted = namespaces.read_noted(directory)
    return pidfd.open_checked(*noted[0]) if noted else None


def settle(engine: Engine, id: str, exec_id: str) -> Exit | None:
    """How an exec ended, published by whoever sees it first; None while it has not."""
    directory = f"{parent(engine, id)}/{exec_id}"
    ended = namespaces.read_exit(directory + "/exit")
    if ended is None:
        noted = namespaces.read_noted(directory)
        if len(noted) < 2 or procfs.is_alive(*noted[1]):
            return None
        # The monitor has been killed, and the process with it; or it wrote the file a moment ago.
        ended = namespaces.read_exit(directory + "/exit") or namespaces.write_lost(directory + "/exit", times.now())
    if ended.reason != "never ran":
        _publish(engine, id, exec_id, directory, ended)
    return ended


def _publish(engine: Engine, id: str, exec_id: str, directory: str, ended: Exit) -> None:
    mark = directory + "/told"
    if os.path.exists(mark):
        return
    with engine.ns.transaction() as transaction:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError:
            return  # somebody else was first, or the directory has just been removed
        transaction.on_rollback(lambda: os.unlink(mark))
        engine.ns.events.publish(
            "/tasks/exit",
            {
                "container_id": id,
                "id": exec_id,
                "pid": noted_pid(directory),
                "exit_status": ended.status,
                "exited_at": ended.exited_at,
            },
            time=ended.exited_at,
        )


def settle_all(engine: Engine, id: str) -> None:
    """The container has ended, and its execs with it: theirs are published first, for a container's exit is the last
    that is heard of it. One whose monitor hangs is not waited for."""
    for name in _names(engine, id):
        directory = f"{parent(engine, id)}/{name}"
        if noted_pid(directory):
            monitor = connect(directory + "/attach.sock", 0)
            if monitor is not None:
                with monitor:
                    monitor.wait_told(_LAST_EXEC_S)
            settle(engine, id, name)
