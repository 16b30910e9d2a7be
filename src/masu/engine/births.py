"""How a container comes to be and goes: records, snapshot, volumes, config.json, the start, the removal.

create   directory and its lock       a killed create leaves a directory without a record: `sweep` removes it
         record + snapshot            one commit; from here on it is a container that can be removed
         volumes, WORKDIR, users      through the root, mounted detached
         config.json                  composed; can be composed again when it is missing
start    exit file removed, launch    the program runs, the monitor stays
         record: task; events         a killed start leaves a container that runs: seen by looking
remove   run directory                processes and cgroups are gone with it
         record + snapshot            one commit
         directory                    `sweep` finishes what was interrupted here
"""

from __future__ import annotations

import os
import sys

from masu.engine import machine, names, notation, roots, states
from masu.engine.compose import Security, all_mounts, compose, network_of
from masu.engine.records import DIRECTORY, HOST, SNAPSHOT, ImageInfo, Record
from masu.engine.request import ContainerRequest
from masu.errors import DataLoss, FailedPrecondition, InvalidArgument, MasuError, NotFound, Unimplemented
from masu.isolation import namespaces
from masu.plan.host import Rootfs
from masu.runtime import delete as runtime_delete
from masu.runtime import failure
from masu.runtime.container import Container as Runtime
from masu.runtime.container import remove_directory
from masu.spec import jsontext
from masu.store import Container as Row
from masu.store.db import from_os_error
from masu.store.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from masu.engine.containers import Started
    from masu.engine.engine import Engine
    from masu.engine.request import MountRequest
    from masu.engine.states import State
    from masu.snapshots import Snapshotter

RUNTIME = "masu.namespaces"
_MAX_PROFILE_BYTES = 4 << 20
# Logs are rotated unless told otherwise: a container that talks must not fill the disk.
DEFAULT_LOG_BYTES, DEFAULT_LOG_FILES = 16 << 20, 4


def create(engine: Engine, image: str, request: ContainerRequest, *, name: str = "") -> Record:
    """See `Containers.create`."""
    if name:
        name = notation.container_name(name)
    machine.require_power("making a container")
    _check(request)
    info, chain = _image(engine, image, request)
    id = names.new_id()
    _is_taken(engine, id)  # a database that cannot be used is met before anything is made
    make_directory(engine, id)
    with states.Held(engine, id, create=True):
        row = Row(id, name=name, image=info.name, runtime=RUNTIME, labels=request.labels)
        record = Record(row)
        record.image, record.request, record.is_foreign = info, request, False
        try:
            _add_volumes(engine, record)
            others = _others(engine, request)
            _insert(engine, record, chain)
            if not others:
                _write_config(engine, record)
        except BaseException as error:
            try:
                destroy(engine, record)
                for volume in record.volumes:
                    if volume["anonymous"]:
                        engine.volumes.remove(str(volume["name"]), [])
            except MasuError as failure_:
                if isinstance(error, MasuError):
                    error.cleanup.append(failure_)
            raise
    return record


def _check(request: ContainerRequest) -> None:
    # what compose finds out, but cheaper to know before anything is made
    Security(request)
    if request.workdir:
        notation.workdir(request.workdir)
    if request.hostname:
        notation.hostname(request.hostname)
    if request.stop_signal:
        from masu.linux import signals

        signals.number(request.stop_signal, where="--stop-signal")


def _image(engine: Engine, image: str, request: ContainerRequest) -> tuple[ImageInfo, str]:
    """What the container is made from, and the snapshot to put it on."""
    if request.rootfs:
        path = os.path.abspath(request.rootfs)
        if not os.path.isdir(path):
            raise InvalidArgument("root file system", path, where="--rootfs", detail="is not a directory")
        return ImageInfo(DIRECTORY, path), ""
    if image == HOST:
        return roots.host_image(), ""
    local = engine.images.resolve(image, platform=request.platform)
    info = ImageInfo(SNAPSHOT, local.name, local.id, local.defaults, local.foreign)
    return info, engine.images.unpack(local, platform=request.platform)


def _insert(engine: Engine, record: Record, chain: str) -> None:
    """The record, and for an image its snapshot, in one commit."""
    row = record.row
    if record.image.kind == HOST:
        roots.prepare_host(engine.directory(record.id))
    with engine.ns.transaction(durable=not record.request.auto_remove):
        if record.image.kind == SNAPSHOT:
            snapshotter = _snapshotter(engine)
            row.snapshotter, row.snapshot_key = snapshotter.name, record.id
            snapshotter.prepare(record.id, chain)
        if not row.name:
            row.name = names.random_name(lambda name: _is_taken(engine, name))
        record.row = engine.ns.containers.create(record.pack())


def _is_taken(engine: Engine, name: str) -> bool:
    try:
        return engine.ns.containers.find(name).name == name
    except (NotFound, InvalidArgument):
        return False


def _snapshotter(engine: Engine, name: str = "") -> Snapshotter:
    """The engine's, or the one that a record names."""
    own = engine.images.snapshotter
    if not name or name == own.name:
        return own
    from masu.snapshots import choose

    return choose(engine.ns, name)


def rootfs_of(engine: Engine, record: Record) -> Rootfs:
    """What is mounted as the container's root."""

    def snapshot() -> tuple[str, str, tuple[str, ...]]:
        mounts = _snapshotter(engine).mounts(record.row.snapshot_key)
        if len(mounts) != 1:
            raise Unimplemented("snapshot", record.id, detail=f"of {len(mounts)} mounts")
        return mounts[0].type, mounts[0].source, tuple(mounts[0].options)

    return roots.rootfs(record, engine.directory(record.id), snapshot)


# --- volumes and config ---


def _add_volumes(engine: Engine, record: Record) -> None:
    """Makes the volumes that are asked for, and notes each in the record at once, so that it can be undone."""
    for mount in all_mounts(record.image.defaults, record.request):
        if mount.subpath:
            raise Unimplemented("mount option", "volume-subpath", where="--mount")
        if mount.kind == "bind":
            roots.check_bind_source(mount.source, create=mount.create_source)
        elif mount.kind == "volume":
            volume = engine.volumes.ensure(mount.source, anonymous=mount.anonymous)
            record.volumes.append({"name": volume.name, "target": mount.target, "anonymous": mount.anonymous})


def _sources(engine: Engine, record: Record, mounts: list[MountRequest]) -> dict[str, str]:
    volumes = {str(item["target"]): engine.volumes.get(str(item["name"])).path for item in record.volumes}
    return {m.target: m.source if m.kind == "bind" else volumes[m.target] for m in mounts if m.kind != "tmpfs"}


def _joins_others(request: ContainerRequest) -> bool:
    return any(mode.startswith("container:") for mode in (request.network, request.pid, request.ipc))


def _others(engine: Engine, request: ContainerRequest) -> list[Record]:
    """The containers whose namespaces this one joins; they need not run before it does. Raises NotFound."""
    modes = (request.network, request.pid, request.ipc)
    return [engine.containers.find(mode.partition(":")[2]) for mode in modes if mode.startswith("container:")]


def joined(engine: Engine, request: ContainerRequest) -> dict[str, str]:
    """Paths of the namespaces of other containers that this one joins."""
    out: dict[str, str] = {}
    for kind, mode, file in (
        ("network", request.network, "net"),
        ("pid", request.pid, "pid"),
        ("ipc", request.ipc, "ipc"),
    ):
        if not mode.startswith("container:"):
            continue
        other = engine.containers.find(mode.partition(":")[2])
        state = engine.containers.state(other)
        if not state.is_up:
            raise FailedPrecondition("container", other.name, where=f"--{kind}", detail="is not running")
        out[kind] = f"/proc/{state.pid}/ns/{file}"
    return out


def _write_config(engine: Engine, record: Record) -> tuple[dict[str, object], list[str]]:
    """Composes the runtime config, keeps it and what it was warned of."""
    config, warnings = compose_config(engine, record)
    path = engine.directory(record.id) + "/config.json"
    with open(path, "wb", opener=lambda p, flags: os.open(p, flags | os.O_CLOEXEC, 0o600)) as file:
        file.write(jsontext.dumps({"config": config, "warnings": warnings}).encode())
    return config, warnings


def read_config(engine: Engine, record: Record) -> tuple[dict[str, object], list[str]]:
    """The runtime config that was composed for the container, and what that was warned of."""
    if record.is_foreign:
        from masu.engine import foreign

        return foreign.config_of(engine, record), []
    composed = None if _joins_others(record.request) else _read_composed(engine, record.id)
    if composed is None:
        return _write_config(engine, record)
    warnings = composed.get("warnings")
    return composed["config"], [str(text) for text in warnings] if isinstance(warnings, list) else []


def _read_composed(engine: Engine, id: str) -> dict[str, Any] | None:
    """{"config": {…}, "warnings": […]} as `_write_config` left it; None when it was lost with the power: what it was
    composed from is in the record."""
    path = engine.directory(id) + "/config.json"
    try:
        with open(path, "rb") as file:
            data = jsontext.loads(file.read(), name=path)
    except (FileNotFoundError, InvalidArgument):
        return None
    return data if isinstance(data, dict) and isinstance(data.get("config"), dict) else None


def compose_config(engine: Engine, record: Record) -> tuple[dict[str, object], list[str]]:
    """From the record to a runtime config. Fills new volumes and makes WORKDIR on the way."""
    request, defaults = record.request, record.image.defaults
    directory = engine.directory(record.id)
    facts = machine.gather(request.ulimits)
    mounts = all_mounts(defaults, request)
    rootfs = rootfs_of(engine, record)
    with roots.OpenRoot(rootfs, writable=False) as root:
        identity = roots.resolve_user(root.fd, defaults, request)
        _fill_volumes(engine, record, root.fd, mounts)
        workdir = request.workdir or defaults.workdir or "/"
        missing = not roots.is_directory(root.fd, workdir)
    if missing:
        with roots.OpenRoot(rootfs) as root:
            roots.make_workdir(root.fd, workdir, identity)
    files: dict[str, str] = {}
    if record.image.kind != HOST:
        hostname = request.hostname or (facts.hostname if network_of(request) == "host" else record.id[:12])
        files = roots.write_network_files(directory, hostname, host_network=network_of(request) == "host")
    composed = compose(
        defaults,
        request,
        facts,
        id=record.id,
        user=identity,
        sources=_sources(engine, record, mounts),
        files=files,
        devices=machine.devices(request.devices, every=request.privileged),
        namespaces=joined(engine, request),
        seccomp=profile(request, facts.capabilities),
    )
    config = composed.config
    if record.image.kind == HOST and (
        extra := roots.host_mounts(directory, engine.root, throw_away=request.auto_remove)
    ):
        under = config["mounts"]
        assert isinstance(under, list)
        config["mounts"] = [*extra, *under]
    return config, composed.warnings


def _fill_volumes(engine: Engine, record: Record, rootfd: int, mounts: list[MountRequest]) -> None:
    for mount in mounts:
        if mount.kind == "volume" and not mount.nocopy:
            name = next(str(item["name"]) for item in record.volumes if item["target"] == mount.target)
            roots.fill_volume(rootfd, mount.target, engine.volumes.get(name))


def profile(request: ContainerRequest, capabilities: tuple[str, ...]) -> dict[str, object] | None:
    """The profile of `--security-opt seccomp=FILE`."""
    path = Security(request).seccomp
    if path in ("default", "unconfined") or request.privileged:
        return None
    from masu.engine import seccomp_profile
    from masu.spec import platform

    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_PROFILE_BYTES)
    except OSError as error:
        raise InvalidArgument("seccomp profile", path, error.errno or 0, where="--security-opt") from error
    major, minor = os.uname().release.split(".")[:2]
    digits = minor[: len(minor) - len(minor.lstrip("0123456789"))]
    return seccomp_profile.convert(
        jsontext.loads(data, name=path),
        name=path,
        arch=platform.host().architecture,
        capabilities=capabilities,
        kernel=(int(major), int(digits or "0")),
    )


# --- start ---


def start(engine: Engine, record: Record, state: State, *, on_ready: Callable[[str], None] | None = None) -> Started:
    """See `Containers.start`; the caller holds the lock and has looked."""
    from masu.engine.containers import Started
    from masu.isolation.stdio import Stdio

    if record.is_foreign:
        runtime = engine.tasks.run_held(record, on_ready)
        return Started(record, runtime, [])
    clear_before_start(engine, record)
    directory, request = engine.directory(record.id), record.request
    try:
        config, warnings = read_config(engine, record)
        rootfs = rootfs_of(engine, record)
        if request.auto_remove:
            rootfs = roots.volatile(rootfs)
            roots.forget_volatile(config)
        runtime, more = namespaces.run(
            engine.run_root,
            namespaces.Request(
                record.id,
                config=config,
                rootfs=rootfs,
                stdio=Stdio(
                    terminal=request.tty,
                    open_stdin=request.interactive,
                    stdin_once=request.stdin_once,
                    log_path=directory + "/log",
                    log_max_bytes=request.log_max_bytes or DEFAULT_LOG_BYTES,
                    log_max_files=request.log_max_files or DEFAULT_LOG_FILES,
                    ephemeral=request.auto_remove,
                ),
                exit_path=states.exit_path(engine, record.id),
                exit_command=removal_command(engine, record.id) if request.auto_remove else (),
                init=request.init,
                on_ready=None if on_ready is None else lambda made: on_ready(namespaces.socket_path(made)),
                seccomp_cache=seccomp_cache(engine),
            ),
        )
    except MasuError as error:
        rename_places(error)
        if record.image.foreign and failure.exit_status(error):
            error.hint = f"the image is for {record.image.foreign}: pull it for this machine's platform"
        _note_failure(engine, record, error)
        raise
    _note_start(engine, record, runtime)
    warnings = [*_foreign_warning(record), *warnings, *without_profile_warnings(request, more)]
    return Started(record, runtime, warnings)


def make_directory(engine: Engine, id: str) -> None:
    """The container's lasting directory."""
    try:
        os.makedirs(engine.directory(id), 0o700, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, engine.root) from error


def clear_before_start(engine: Engine, record: Record) -> None:
    """What an earlier start has left; the log stays."""
    clear_runtime(engine, record.id)
    try:
        os.unlink(states.exit_path(engine, record.id))
    except FileNotFoundError:
        pass


def _foreign_warning(record: Record) -> list[str]:
    if not record.image.foreign:
        return []
    return [f"the image is for {record.image.foreign}, which is not this machine's platform"]


def without_profile_warnings(request: ContainerRequest, warnings: list[str]) -> list[str]:
    """The default profile names calls of many kernels; which of them libseccomp knows is not the user's concern."""
    if Security(request).seccomp != "default":
        return warnings
    return [text for text in warnings if not text.startswith("linux.seccomp:")]


def rename_places(error: MasuError) -> None:
    """What the user typed is a command, not a config.json: names the place in their words."""
    for place, shown in (("process.args", "COMMAND"), ("process.cwd", "--workdir"), ("process.user", "--user")):
        if error.where.startswith(place):
            error.where = shown


def seccomp_cache(engine: Engine) -> str:
    """Where compiled filters are kept."""
    path = engine.root + "/cache/seccomp"
    os.makedirs(path, 0o700, exist_ok=True)
    return path


def removal_command(engine: Engine, id: str) -> tuple[str, ...]:
    """What the monitor of a `--rm` container runs when nobody who is attached removes it."""
    # the file, not the directory: the interpreter starts faster that way
    entry = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/__main__.py"
    return (
        sys.executable, "-SIE", entry, "masu", "--root", engine.root, "--run", engine.run,
        "--namespace", engine.namespace, "rm", "--exited", id,
    )  # fmt: skip


def _note_start(engine: Engine, record: Record, runtime: Runtime) -> None:
    pid = runtime.facts.pid
    with engine.ns.transaction(durable=not record.request.auto_remove):
        try:
            fresh = Record(engine.ns.containers.get(record.id))
        except NotFound:
            return  # it has ended and was removed already
        fresh.task = {"started_at": runtime.facts.created, "pid": pid}
        fresh.row.spec = None
        engine.ns.containers.update(fresh.pack(), publish=False)
        bundle = {"container_id": record.id, "bundle": runtime.directory, "pid": pid}
        engine.ns.events.publish("/tasks/create", bundle)
        engine.ns.events.publish("/tasks/start", {"container_id": record.id, "pid": pid})
    record.task = fresh.task


def _note_failure(engine: Engine, record: Record, error: MasuError) -> None:
    record.task = {"error": str(error), "status": failure.exit_status(error) or 128}
    try:
        with engine.ns.transaction(durable=not record.request.auto_remove):
            fresh = Record(engine.ns.containers.get(record.id))
            fresh.task, fresh.row.spec = record.task, None
            engine.ns.containers.update(fresh.pack(), publish=False)
    except MasuError as failure_:
        error.cleanup.append(failure_)


def disk_usage(path: str) -> int:
    """What a directory tree takes on disk, every file once."""
    total, seen = 0, set()
    for directory, _, names_ in os.walk(path):
        for name in (".", *names_):
            try:
                status = os.lstat(f"{directory}/{name}")
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


# --- removal ---


def clear_runtime(engine: Engine, id: str) -> None:
    """Removes the run directory of a container that does not run, with what may be left of its cgroups."""
    try:
        runtime = states.open_runtime(engine, id) or Runtime.salvage(engine.run_root, id)
    except DataLoss:
        runtime = Runtime.salvage(engine.run_root, id)
    except NotFound:
        runtime = None
    if runtime is not None and os.path.exists(runtime.directory + "/by"):
        from masu.isolation import backend  # another runtime's

        backend.of(runtime).delete(runtime)
    elif runtime is not None:
        runtime_delete.delete(runtime, force=True)
    else:
        remove_directory(f"{engine.run_root}/{id}")
        _end_remains(engine, id)
    if os.path.isdir(f"{engine.run}/bundles/{engine.namespace}/{id}"):
        from masu.engine import foreign

        foreign.remove_bundle(engine, id)
    remove_checkpoint(engine, id)
    execs = f"{engine.run}/execs/{engine.namespace}/{id}"
    if os.path.isdir(execs):
        remove_tree(execs)


def checkpoint_path(engine: Engine, id: str) -> str:
    """Where the checkpoint is that a task is to come out of, until it has."""
    return f"{engine.run}/checkpoints/{engine.namespace}/{id}"


def remove_checkpoint(engine: Engine, id: str) -> None:
    path = checkpoint_path(engine, id)
    if os.path.isdir(path):
        remove_tree(path)


def _end_remains(engine: Engine, id: str) -> None:
    # The run directory may have been wiped while the container ran; its cgroup bears its id.
    composed = _read_composed(engine, id)
    linux = composed["config"].get("linux") if composed else None
    path = linux.get("cgroupsPath") if isinstance(linux, dict) else None
    if isinstance(path, str) and path.endswith(id):
        namespaces.end_remains(path, id)


def destroy(engine: Engine, record: Record) -> None:
    """Removes all of a container that does not run; the caller holds its lock."""
    ended = namespaces.read_exit(states.exit_path(engine, record.id))
    clear_runtime(engine, record.id)
    with engine.ns.transaction(durable=not record.request.auto_remove):
        try:
            row = engine.ns.containers.get(record.id)
        except NotFound:
            row = None
        if row is not None:
            task = Record(row).task
            if ended is not None and not isinstance(task.get("exit"), dict):
                states.publish_exit(engine, record, ended)  # nobody has seen it yet
            if task.get("started_at"):
                engine.ns.events.publish("/tasks/delete", {"container_id": record.id, "id": record.id})
            if row.snapshot_key:
                try:
                    _snapshotter(engine, row.snapshotter).remove(row.snapshot_key)
                except NotFound:
                    pass
            engine.ns.containers.delete(record.id)
    remove_tree(engine.directory(record.id))
