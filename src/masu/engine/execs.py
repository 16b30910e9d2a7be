"""One more process in a running container, with a monitor and a directory of its own while it runs.

<run>/execs/<namespace>/<container>/<exec>/    attach.sock, pid, exit
"""

from __future__ import annotations

import os
import time

from masu.engine import births, machine, names, roots, states
from masu.errors import FailedPrecondition, InvalidArgument, MasuError, NotFound
from masu.isolation import namespaces
from masu.linux import paths
from masu.spec import times
from masu.store.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.engine.engine import Engine
    from masu.engine.records import Record
    from masu.isolation.namespaces import Exit


_LINGER_S = 60.0


class ExecRequest:
    """What is to be run. `env` as in ContainerRequest; `user` and `workdir` empty: those of the container."""

    __slots__ = ("command", "env", "interactive", "privileged", "tty", "user", "workdir")

    def __init__(
        self,
        command: list[str],
        *,
        env: list[str] | None = None,
        user: str = "",
        workdir: str = "",
        tty: bool = False,
        interactive: bool = False,
        privileged: bool = False,
    ) -> None:
        self.command = command
        self.env = env or []
        self.user = user
        self.workdir = workdir
        self.tty = tty
        self.interactive = interactive
        self.privileged = privileged


class ExecSession:
    """A process that was started; `close` removes its directory, which must not happen before it has ended."""

    __slots__ = ("container_id", "directory", "id", "warnings")

    def __init__(self, container_id: str, id: str, directory: str, warnings: list[str]) -> None:
        self.container_id = container_id
        self.id = id
        self.directory = directory
        self.warnings = warnings

    def exit(self) -> Exit | None:
        """How it ended; None while it has not, or when its monitor was killed."""
        return namespaces.read_exit(self.directory + "/exit")

    def close(self) -> None:
        remove_tree(self.directory)


def start(
    engine: Engine, record: Record, request: ExecRequest, *, on_ready: Callable[[str], None] | None = None
) -> ExecSession:
    """Runs a command in a container. `on_ready(path)` is called with the monitor's socket before it may write.

    Raises FailedPrecondition when the container does not run or is paused, and what kept the program from running.
    """
    from masu.isolation.stdio import Stdio
    from masu.spec import runtime as spec

    state = states.look(engine, record)
    if state.status == states.PAUSED:
        raise FailedPrecondition("container", record.name, detail="is paused, unpause the container before exec")
    if not state.is_up or state.container is None:
        raise FailedPrecondition("container", record.name, detail="is not running")
    process = spec.parse_process(_process(engine, record, request, state.pid), where="process")
    id = names.new_id()
    parent = f"{engine.run}/execs/{engine.namespace}/{record.id}"
    directory = f"{parent}/{id}"
    os.makedirs(directory, 0o700)
    _sweep(parent)
    try:
        ready = None if on_ready is None else lambda _: on_ready(directory + "/attach.sock")
        stdio = Stdio(
            terminal=request.tty, open_stdin=request.interactive, stdin_once=request.interactive, ephemeral=True
        )
        warnings = namespaces.start_exec(
            state.container,
            process,
            stdio,
            directory=directory,
            seccomp_cache=births.seccomp_cache(engine),
            on_ready=ready,
        )
    except BaseException as error:
        try:
            remove_tree(directory)
        except MasuError as failure:
            if isinstance(error, MasuError):
                error.cleanup.append(failure)
        if isinstance(error, MasuError):
            if state.container.is_ending():
                raise FailedPrecondition("container", record.name, detail="has just stopped") from error
            births.rename_places(error)
        raise
    # Nothing of an exec outlives a power cut, so what is told of it need not (here and in `finish`).
    with engine.ns.transaction(durable=False):
        who = {"container_id": record.id, "exec_id": id}
        engine.ns.events.publish("/tasks/exec-added", who)
        engine.ns.events.publish("/tasks/exec-started", who)
    return ExecSession(record.id, id, directory, births.without_profile_warnings(record.request, warnings))


def _sweep(parent: str) -> None:
    """Removes what ended some time ago and nobody came back for: detached ones, and those whose client was killed."""
    now = time.time()
    for name in os.listdir(parent):
        try:
            ended = os.stat(f"{parent}/{name}/exit").st_mtime
        except (FileNotFoundError, NotADirectoryError):
            continue
        if now - ended > _LINGER_S and not os.path.exists(f"{parent}/{name}/task.json"):
            remove_tree(f"{parent}/{name}")


def finish(engine: Engine, session: ExecSession, status: int) -> None:
    """Publishes the end of an exec and removes what it left."""
    ended = session.exit()
    told = {
        "container_id": session.container_id,
        "id": session.id,
        "exit_status": status,
        "exited_at": ended.exited_at if ended else times.now(),
    }
    with engine.ns.transaction(durable=False):
        engine.ns.events.publish("/tasks/exit", told)
    session.close()


def _process(engine: Engine, record: Record, request: ExecRequest, pid: int) -> dict[str, object]:
    """The container's own process with what the request changes."""
    config, _ = births.read_config(engine, record)
    process = dict(_mapping(config, "process"))
    if not request.command or not request.command[0]:
        raise InvalidArgument("command", where="COMMAND", detail="none given")
    process["args"] = request.command
    process["terminal"] = request.tty
    process.pop("consoleSize", None)
    if request.workdir:
        if not request.workdir.startswith("/"):
            raise InvalidArgument(
                "working directory", request.workdir, where="--workdir", detail="it needs to be an absolute path"
            )
        process["cwd"] = request.workdir
    env = [str(item) for item in _items(process, "env")]
    home = ""
    if request.user:
        root = _open_root(pid, record)
        try:
            asked = type(record.request)(user=request.user)
            identity = roots.resolve_user(root, record.image.defaults, asked)
        finally:
            os.close(root)
        process["user"] = {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.additional_gids)}
        home = identity.home
        env = [item for item in env if not item.startswith("HOME=")]
        capabilities = dict(_mapping(process, "capabilities"))
        held = list(_items(capabilities, "bounding")) if identity.uid == 0 else []
        process["capabilities"] = {**capabilities, "effective": held, "permitted": held}
    if request.privileged:
        names_ = list(machine.gather().capabilities)
        process["capabilities"] = {"bounding": names_, "effective": names_, "permitted": names_}
    process["env"] = _environment(env, request, home)
    return process


def _environment(env: list[str], request: ExecRequest, home: str) -> list[str]:
    values: dict[str, str] = {}
    first = ["TERM=xterm"] if request.tty else []
    for item in (*first, *env, *([f"HOME={home}"] if home else []), *request.env):
        name, equals, value = item.partition("=")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)
    return [f"{name}={value}" for name, value in values.items()]


def _open_root(pid: int, record: Record) -> int:
    try:
        return paths.open_root(f"/proc/{pid}/root")
    except MasuError as error:
        raise NotFound("container", record.name, detail="it has just stopped") from error


def _mapping(data: object, key: str) -> dict[str, object]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _items(data: object, key: str) -> list[object]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []
