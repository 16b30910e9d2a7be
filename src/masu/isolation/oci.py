"""Another OCI runtime as a back-end: runc, crun, whatever is called as they are, with our monitor beside each process.

    <run root>/<id>/          as for our own containers, and
        bundle/               config.json and rootfs, which is mounted for the runtime alone
        by                    {"binary", "root", "systemd"}: whose container it is
        waits                 there until `start`
        paused                there between `pause` and `resume` of a runtime that does not use the freezer
        runtime.log           what the runtime said last, JSON lines

The monitor's stage runs `create` or `exec` (native/launch/runtime.c), so the runtime's process becomes the monitor's
child: bytes, exit status and clients are as ever. Everything else is a call of the binary, whose refusals are told in
its own words.
"""

from __future__ import annotations

import os

from masu.errors import FailedPrecondition, InvalidArgument, MasuError, NotFound
from masu.isolation import namespaces
from masu.isolation.monitors import Plumbing
from masu.linux import cgroups, fds, procfs, spawn
from masu.linux.cgroups.layout import parse_proc_cgroup
from masu.plan.build import SYNC_MEMORY
from masu.plan.draft import Draft
from masu.plan.mounts import add_root_file_system
from masu.plan.ops import NONE, Op
from masu.runtime import delete as runtime_delete
from masu.runtime import lifecycle
from masu.runtime.container import Container
from masu.runtime.create import begin
from masu.runtime.launch import Answers, Launched, launch
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.isolation.namespaces import Request
    from masu.isolation.stdio import Stdio
    from masu.plan.host import Rootfs
    from masu.runtime.criu.options import CriuOptions

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_LOG_BYTES = 1 << 20
_SIGKILL = 9
_MANAGERS = ("NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_")  # sd_notify(3), sd_listen_fds(3)


class Oci:
    """A runtime's binary, and the --root that it keeps its own state in; the others are as in
    `backend.Namespaces`."""

    __slots__ = ("binary", "no_new_keyring", "no_pivot", "root", "systemd")

    def __init__(
        self,
        binary: str,
        root: str,
        *,
        systemd: bool = False,
        no_new_keyring: bool = False,
        no_pivot: bool = False,
    ) -> None:
        """`binary` is a path or a name to be found. Raises NotFound."""
        found = binary if "/" in binary else spawn.find(binary, _PATH)
        if not found:
            raise NotFound("OCI runtime", binary, detail="it is not in $PATH")
        self.binary = found
        self.root = root
        self.systemd = systemd
        self.no_new_keyring = no_new_keyring
        self.no_pivot = no_pivot

    @classmethod
    def of(cls, container: Container) -> Oci | None:
        """Whose container it is; None for our own."""
        path = container.directory + "/by"
        try:
            data = jsontext.loads(fds.read_bounded(path, 4096), name=path)
        except (FileNotFoundError, InvalidArgument):
            return None
        return cls.from_json(data) if isinstance(data, dict) else None

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Oci:
        return cls(str(data.get("binary")), str(data.get("root")), systemd=data.get("systemd") is True)

    def to_json(self) -> dict[str, object]:
        return {"binary": self.binary, "root": self.root, "systemd": self.systemd}

    # --- the Isolation protocol ---

    def run(self, run_root: str, request: Request) -> tuple[Container, list[str]]:
        """Makes a container whose process waits for `start`."""
        return self._make(run_root, request, waits=True)

    def restore(self, run_root: str, request: Request, criu: CriuOptions) -> tuple[Container, list[str]]:
        """Out of a checkpoint that it has written; it runs then."""
        return self._make(run_root, request, "restore", "--detach", *_flags(criu), waits=False)

    def _make(self, run_root: str, request: Request, *words: str, waits: bool) -> tuple[Container, list[str]]:
        parsed = request.bundle or namespaces.bundle_of(request)
        warnings, config = parsed.warnings, jsontext.loads(parsed.text, name="config.json")
        assert isinstance(config, dict)
        container = begin(run_root, request.id, parsed, request.rootfs.path, {})
        try:
            with container.lock():
                self._write(container, config, request.rootfs, waits=waits)
                launched = self._create(container, request, words or self._creating())
        except BaseException as error:
            self._undo(container, error)
            raise
        launched.close()
        return container, warnings

    def _creating(self) -> tuple[str, ...]:
        keyring = ("--no-new-keyring",) if self.no_new_keyring else ()
        return ("create", *keyring)

    def _write(self, container: Container, config: dict[str, object], rootfs: Rootfs, *, waits: bool) -> None:
        directory = container.directory
        os.makedirs(self.root, 0o700, exist_ok=True)
        os.makedirs(directory + "/bundle/rootfs", 0o700)
        given = config.get("root")
        root = dict(given) if isinstance(given, dict) else {}
        root["path"] = rootfs.path if rootfs.mount is None else directory + "/bundle/rootfs"
        text = jsontext.dumps({**config, "root": root}).encode()
        for path in (directory + "/config.json", directory + "/bundle/config.json"):
            fds.atomic_write(path, text, 0o600, sync=False)
        fds.atomic_write(directory + "/by", jsontext.dumps(self.to_json()).encode(), 0o600, sync=False)
        if waits:
            fds.atomic_write(directory + "/waits", b"", 0o600, sync=False)

    def _create(self, container: Container, request: Request, verb: tuple[str, ...]) -> Launched:
        draft, slot = Draft(), NONE
        if request.rootfs.mount is not None:
            slot = draft.slot()
            add_root_file_system(draft, slot, request.rootfs, "root.path")
        directory = container.directory
        plumbing = Plumbing()
        try:
            monitor = plumbing.operation(
                request.stdio,
                socket_path=namespaces.socket_path(container),
                exit_path=request.exit_path,
                pid_path=directory + "/pid",
                exit_command=request.exit_command,
            )
            console, extra = plumbing.console() if request.stdio.terminal else (NONE, [])
            extra += ["--no-pivot"] if self.no_pivot else []
            words = [*verb, "--bundle", directory + "/bundle", "--pid-file", directory + "/runtime.pid", *extra]
            make = Op(
                "runtime",
                args=tuple(self._command(directory, *words, container.id)),
                env=_environment(),
                pid_path=directory + "/runtime.pid",
                root_slot=slot,
                root_path=directory + "/bundle/rootfs",
                console_fd=console,
            )
            answers = _Birth(container, plumbing.first(request.on_ready))
            stdio = (plumbing.null, plumbing.null, plumbing.null)
            return launch([monitor, *draft.trees, make], answers, keep=plumbing.fds, stdio=stdio)
        except MasuError as error:
            raise self._explained(directory, verb[0], error) from error
        finally:
            plumbing.close()

    def _undo(self, container: Container, error: BaseException) -> None:
        try:
            self.delete(container)
        except (MasuError, OSError) as failure:
            if isinstance(error, MasuError):
                error.cleanup.append(failure)

    def start(self, container: Container) -> list[str]:
        self._call(container.directory, "start", container.id)
        os.unlink(container.directory + "/waits")
        return []

    def kill(self, container: Container, signal: int, *, everyone: bool = False) -> None:
        """Raises FailedPrecondition when nothing runs."""
        if signal == _SIGKILL and os.access(container.directory + "/paused", os.F_OK):
            # The freezer lets go of who is killed; nobody else does.
            self.resume(container)
        self._call(container.directory, "kill", *(["--all"] if everyone else []), container.id, str(signal))

    def pause(self, container: Container) -> None:
        self._call(container.directory, "pause", container.id)
        if container.status() != lifecycle.PAUSED:
            # runsc's kernel stops by itself, without the freezer.
            fds.atomic_write(container.directory + "/paused", b"", 0o600, sync=False)

    def resume(self, container: Container) -> None:
        self._call(container.directory, "resume", container.id)
        try:
            os.unlink(container.directory + "/paused")
        except FileNotFoundError:
            pass

    def update(self, container: Container, resources: dict[str, object]) -> list[str]:
        path = container.directory + "/resources.json"
        fds.atomic_write(path, jsontext.dumps(resources).encode(), 0o600, sync=False)
        self._call(container.directory, "update", "--resources", path, container.id)
        return []

    def checkpoint(self, container: Container, criu: CriuOptions, *, leave_running: bool) -> None:
        more = ["--leave-running"] if leave_running else []
        more += ["--parent-path", criu.parent_path] if criu.parent_path else []
        self._call(container.directory, "checkpoint", *_flags(criu), *more, container.id)
        if not leave_running:
            runtime_delete.delete(container, force=True)

    def exec(
        self,
        container: Container,
        process: dict[str, object],
        stdio: Stdio,
        *,
        directory: str,
        seccomp_cache: str = "",
        on_ready: Callable[[int], None] | None = None,
    ) -> list[str]:
        """One more process; as `namespaces.start_exec`."""
        fds.atomic_write(directory + "/process.json", jsontext.dumps(process).encode(), 0o600, sync=False)
        plumbing = Plumbing()
        try:
            monitor = plumbing.operation(
                stdio,
                socket_path=directory + "/attach.sock",
                exit_path=directory + "/exit",
                pid_path=directory + "/pid",
            )
            console, extra = plumbing.console() if stdio.terminal else (NONE, [])
            words = ["exec", "--detach", "--process", directory + "/process.json"]
            words += ["--pid-file", directory + "/runtime.pid", *extra, container.id]
            make = Op(
                "runtime",
                args=tuple(self._command(directory, *words)),
                env=_environment(),
                pid_path=directory + "/runtime.pid",
                root_slot=NONE,
                root_path="",
                console_fd=console,
            )
            stdio_fds = (plumbing.null, plumbing.null, plumbing.null)
            launch([monitor, make], _Exec(plumbing.first(on_ready)), keep=plumbing.fds, stdio=stdio_fds).close()
        except MasuError as error:
            raise self._explained(directory, "exec", error) from error
        finally:
            plumbing.close()
        return []

    def delete(self, container: Container) -> list[str]:
        """All that is left of it, whatever it does."""
        try:
            self._call(container.directory, "delete", "--force", container.id)
        finally:
            warnings = runtime_delete.delete(container, force=True)
        return warnings

    # --- calling it ---

    def _command(self, directory: str, *words: str) -> list[str]:
        log = directory + "/runtime.log"
        systemd = ["--systemd-cgroup"] if self.systemd else []
        return [self.binary, "--root", self.root, "--log", log, "--log-format", "json", *systemd, *words]

    def _call(self, directory: str, *words: str) -> None:
        """Raises FailedPrecondition with what it says of a failure."""
        try:
            os.unlink(directory + "/runtime.log")
        except FileNotFoundError:
            pass
        command = self._command(directory, *words)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            pid = spawn.spawn(self.binary, command, _environment(), stdio=(null, null, null), new_session=True)
            _, status = spawn.wait(pid)
        finally:
            os.close(null)
        if status:
            raise FailedPrecondition(f"OCI runtime {words[0]} failed", detail=_said(directory) or f"status {status}")

    def _explained(self, directory: str, verb: str, error: MasuError) -> MasuError:
        said = _said(directory)
        if not said:
            return error
        told = FailedPrecondition(f"OCI runtime {verb} failed", detail=said)
        told.cleanup = error.cleanup
        return told


class _Birth(Answers):
    def __init__(self, container: Container, on_ready: Callable[[Container], None] | None) -> None:
        super().__init__([])
        self._container = container
        self._on_ready = on_ready

    def sync(self, name: str, pid: int) -> bytes:
        if name != SYNC_MEMORY:
            return super().sync(name, pid)
        paths = self._container.facts.cgroup_paths = _cgroups_of(pid)
        # Of cgroup v2 there is one for all, which has memory.events unless v1 has the controller.
        return os.fsencode(paths.get("memory") or paths.get("", ""))

    def ready(self, pid: int, pidfd: int) -> bytes:
        facts = self._container.facts
        facts.pid, facts.start_time = pid, procfs.start_time(pid)
        self._container.save()
        if self._on_ready is not None:
            self._on_ready(self._container)
        return b""


class _Exec(Answers):
    def __init__(self, on_ready: Callable[[int], None] | None) -> None:
        super().__init__([])
        self._on_ready = on_ready

    def sync(self, name: str, pid: int) -> bytes:
        # Its container's monitor watches for both.
        return b"" if name == SYNC_MEMORY else super().sync(name, pid)

    def ready(self, pid: int, pidfd: int) -> bytes:
        if self._on_ready is not None:
            self._on_ready(pid)
        return b""


def _flags(criu: CriuOptions) -> list[str]:
    """Of its `checkpoint` and `restore` alike."""
    words = ["--image-path", criu.image_path]
    for name, value in (("work-path", criu.work_path), ("manage-cgroups-mode", criu.manage_cgroups_mode)):
        words += [f"--{name}", value] if value else []
    for name in ("tcp_established", "ext_unix_sk", "shell_job", "file_locks"):
        words += ["--" + name.replace("_", "-")] if getattr(criu, name) else []
    return words


def _cgroups_of(pid: int) -> dict[str, str]:
    """{controller: directory} of where the runtime has put its process; {} when it is with us, in no cgroup of its
    own."""
    ours = cgroups.detect()
    own = parse_proc_cgroup(procfs.read(pid, "cgroup"))
    theirs = ours.of(own)
    shared = ("/", "")
    return {
        name: theirs.own_directory(name)
        for name in ours.hierarchies()
        if own.get(name, "/") not in (*shared, ours.own.get(name)) and theirs.own_directory(name)
    }


def _environment() -> tuple[str, ...]:
    """Ours, as containerd's shim passes on its own, without what a service manager has told us alone; a PATH in any
    case."""
    given = {"PATH": _PATH, **os.environ}
    return tuple(f"{name}={value}" for name, value in given.items() if not name.startswith(_MANAGERS))


def _said(directory: str) -> str:
    """The last error in the runtime's log."""
    try:
        lines = fds.read_bounded(directory + "/runtime.log", _MAX_LOG_BYTES).splitlines()
    except (FileNotFoundError, MasuError):
        return ""
    for line in reversed(lines):
        try:
            entry = jsontext.loads(line, name="log")
        except InvalidArgument:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal") and entry.get("msg"):
            return str(entry["msg"])
    return ""
