"""config.toml: containerd's keys where they mean the same, versions 2 and 3; ours in the table `masu`.

    file ── imports (globs, relative to the file; what is imported wins) ── migrated to version 3 ── DEFAULTS below it

Tables are joined, lists of the top level joined too, as containerd does. What is known but moves nothing here is said
once, at level info; what nobody knows is a warning that names the nearest key.
"""

from __future__ import annotations

import copy
import glob
import os
import re
import tomllib
from collections.abc import Iterator

from masu.engine.engine import default_root, default_run
from masu.errors import InvalidArgument, NotFound, closest

DEFAULT_FILE = "/etc/masu/config.toml"
VERSION = 3
# Against reading a device or a log by mistake.
_FILE_BYTES = 4 << 20
_IMPORTS = 100

Table = dict[str, object]

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")

GC = "io.containerd.gc.v1.scheduler"
RESTART = "io.containerd.monitor.container.v1.restart"
_RESTART_OF_2 = "io.containerd.internal.v1.restart"
TRANSFER = "io.containerd.transfer.v1.local"
CRI_IMAGES = "io.containerd.cri.v1.images"
CRI_RUNTIME = "io.containerd.cri.v1.runtime"
CRI = "io.containerd.grpc.v1.cri"
OVERLAYFS = "io.containerd.snapshotter.v1.overlayfs"
TASKS = "io.containerd.runtime.v2.task"

# What there is, what it is when nothing is said, and of which type.
DEFAULTS: Table = {
    "version": VERSION,
    "root": "",
    "state": "",
    "oom_score": 0,
    "imports": [],
    "disabled_plugins": [],
    "required_plugins": [],
    "grpc": {
        "address": "", "uid": 0, "gid": 0, "max_recv_message_size": 16 << 20, "max_send_message_size": 16 << 20,
        "tcp_address": "", "tcp_tls_ca": "", "tcp_tls_cert": "", "tcp_tls_key": "", "tcp_tls_common_name": "",
    },
    "ttrpc": {"address": "", "uid": 0, "gid": 0},
    "debug": {"address": "", "uid": 0, "gid": 0, "level": "info", "format": "text"},
    "metrics": {"address": ""},
    "masu": {"threads": 32, "max_streams": 1000, "snapshotter": "", "event_buffer": 10_000, "subreaper": False},
    "plugins": {
        GC: {
            "pause_threshold": 0.02,
            "deletion_threshold": 0,
            "mutation_threshold": 100,
            "schedule_delay": "500ms",
            "startup_delay": "100ms",
        },
        RESTART: {"interval": "10s"},
        TRANSFER: {"config_path": "", "max_concurrent_downloads": 3},
        CRI_IMAGES: {"registry": {"config_path": ""}},
    },
}  # fmt: skip

# containerd's, known and without effect here.
_WITHOUT_EFFECT = {
    "": ("temp", "plugin_dir", "no_subreaper", "cgroup", "timeouts", "proxy_plugins", "stream_processors"),
    "metrics": ("grpc_histogram",),
    TRANSFER: ("unpack_config", "image_pull_with_sync_fs", "check_platform_supported", "max_concurrent_uploaded_layers",
               "concurrent_layer_fetch_buffer", "max_concurrent_unpacks"),
}  # fmt: skip
_FOREIGN_PLUGINS = (
    CRI, CRI_RUNTIME, OVERLAYFS, TASKS,
    "io.containerd.image-verifier.v1.bindir", "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing", "io.containerd.metadata.v1.bolt", "io.containerd.monitor.v1.cgroups",
    "io.containerd.monitor.task.v1.cgroups",
    "io.containerd.nri.v1.nri", "io.containerd.runtime.v1.linux", "io.containerd.runtime-shim.v1.shim",
    "io.containerd.service.v1.diff-service", "io.containerd.service.v1.tasks-service", "io.containerd.shim.v1.manager",
    "io.containerd.differ.v1.erofs", "io.containerd.mount-manager.v1.bolt",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.native", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp", "io.containerd.grpc.v1.containers",
)  # fmt: skip


class Config:
    """The whole document in version 3, with defaults; `notes` and `warnings` are what there is to say about it."""

    def __init__(self, table: Table, notes: list[str], warnings: list[str]) -> None:
        self.table = table
        self.notes = notes
        self.warnings = warnings

    @property
    def root(self) -> str:
        return self.text("root") or default_root()

    @property
    def state(self) -> str:
        return self.text("state") or default_run()

    @property
    def address(self) -> str:
        """Of the gRPC socket. One for others than root lies outside the state directory, which is shut."""
        given = self.text("grpc", "address")
        shared = self.number("grpc", "uid") or self.number("grpc", "gid")
        return given or (f"{self.state.rstrip('/')}d/containerd.sock" if shared else f"{self.state}/containerd.sock")

    @property
    def hosts_dirs(self) -> list[str]:
        """Directories of hosts.toml, the transfer service's before CRI's (both may name several, with `:`)."""
        found = [
            self.text("plugins", TRANSFER, "config_path"),
            self.text("plugins", CRI_IMAGES, "registry", "config_path"),
        ]
        return [folder for folders in found for folder in folders.split(":") if folder]

    def text(self, *path: str) -> str:
        return str(self._at(path))

    def number(self, *path: str) -> int:
        found = self._at(path)
        assert isinstance(found, int)
        return found

    def real(self, *path: str) -> float:
        found = self._at(path)
        assert isinstance(found, (int, float))
        return float(found)

    def seconds(self, *path: str) -> float:
        """A duration as Go writes it: "1m30s", "100ms". Raises InvalidArgument."""
        text = self.text(*path)
        if text == "0":
            return 0.0
        if not _DURATION.fullmatch(text):
            raise InvalidArgument("duration", text, where=".".join(path), detail='as in "100ms" or "1m30s"')
        return sum(float(count) * _UNITS_S[unit] for count, unit in _PART.findall(text))

    def flag(self, *path: str) -> bool:
        return bool(self._at(path))

    def texts(self, *path: str) -> list[str]:
        found = self._at(path)
        assert isinstance(found, list)
        return [str(item) for item in found]

    def set(self, value: str | int, *path: str) -> None:
        """What the command line says."""
        table = self.table
        for name in path[:-1]:
            inner = table[name]
            assert isinstance(inner, dict)
            table = inner
        table[path[-1]] = value

    def _at(self, path: tuple[str, ...]) -> object:
        found: object = self.table
        for name in path:
            assert isinstance(found, dict)
            found = found[name]
        return found


def load(path: str | None = None) -> Config:
    """The configuration in `path`, else in DEFAULT_FILE if that is there, else the defaults.

    Raises NotFound for a file that was named and is not there, InvalidArgument for what cannot be understood.
    """
    if path is None and not os.path.exists(DEFAULT_FILE):
        return of({}, "")
    path = path or DEFAULT_FILE
    return of(_read_all(path), path)


def of(document: Table, path: str) -> Config:
    """A document (of version 2 or 3) with the defaults below it."""
    notes: list[str] = []
    warnings: list[str] = []
    given = migrate(document, path)
    for name, what in _looked_at(given, DEFAULTS, "", path):
        (notes if what == "note" else warnings).append(name)
    table = copy.deepcopy(DEFAULTS)
    _join(table, given)
    return Config(table, notes, warnings)


def migrate(document: Table, path: str = "") -> Table:
    """The same in version 3. Raises InvalidArgument for versions that are no more, or not yet."""
    version = document.get("version", 1 if document else VERSION)
    if version not in (2, VERSION):
        raise InvalidArgument(
            "configuration version",
            version,
            where=path,
            detail="2 and 3 are known",
            hint="begin the file with version = 3",
        )
    found = copy.deepcopy(document)
    found["version"] = VERSION
    if version == VERSION:
        return found
    plugins = found.get("plugins")
    if isinstance(plugins, dict) and _RESTART_OF_2 in plugins:
        plugins[RESTART] = plugins.pop(_RESTART_OF_2)
    if isinstance(plugins, dict) and isinstance(cri := plugins.pop(CRI, None), dict):
        # One table became two; of what is read here only the registry's is in the first.
        images = {name: cri.pop(name) for name in ("registry", "max_concurrent_downloads") if name in cri}
        if images:
            plugins.setdefault(CRI_IMAGES, {}).update(images)
        if cri:
            plugins.setdefault(CRI_RUNTIME, {}).update(cri)
    return found


def _read_all(path: str) -> Table:
    """A file and what it imports, each once."""
    document: Table = {}
    todo, seen = [os.path.abspath(path)], set[str]()
    while todo:
        name = todo.pop(0)
        if name in seen:
            continue
        if len(seen) == _IMPORTS:
            raise InvalidArgument("imports", path, detail=f"more than {_IMPORTS} files")
        seen.add(name)
        read = _read(name)
        for pattern in read.get("imports") or ():  # type: ignore[attr-defined]
            full = os.path.join(os.path.dirname(name), str(pattern))
            found = sorted(glob.glob(full))
            if not found and not glob.has_magic(full):
                raise NotFound("configuration", full, where=f"{name}: imports")
            todo += map(os.path.normpath, found)
        _join(document, migrate(read, name) if read else read)
    document["imports"] = sorted(seen - {os.path.abspath(path)})
    return document


def _read(path: str) -> Table:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("configuration", path) from None
    except OSError as error:
        raise InvalidArgument("configuration", path, error.errno or 0) from error
    if len(data) > _FILE_BYTES:
        raise InvalidArgument("configuration", path, detail=f"longer than {_FILE_BYTES} bytes")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument("configuration", path, detail=str(error)) from None


def _join(onto: Table, table: Table, depth: int = 0) -> None:
    for name, value in table.items():
        there = onto.get(name)
        if isinstance(there, dict) and isinstance(value, dict):
            _join(there, value, depth + 1)
        elif depth == 0 and isinstance(there, list) and isinstance(value, list):
            onto[name] = there + [item for item in value if item not in there]
        else:
            onto[name] = copy.deepcopy(value)


def _looked_at(given: Table, known: Table, at: str, path: str) -> Iterator[tuple[str, str]]:
    """(what to say, "note" or "warning"). Raises InvalidArgument for a value of the wrong type."""
    inside = at.rpartition("plugins.")[2] if at.startswith("plugins.") else at
    idle = _WITHOUT_EFFECT.get(inside, ())
    if at == "plugins":
        idle = _FOREIGN_PLUGINS
    for name, value in given.items():
        full = f"{at}.{name}" if at else name
        place = f"{path}: {full}" if path else full
        if name not in known:
            if name in idle:
                yield f"{place}: has no effect here", "note"
            elif inside != CRI_IMAGES and not inside.startswith(f"{CRI_IMAGES}."):
                hint = closest(name, [*known, *idle])
                yield f"{place}: unknown{f' ({hint})' if hint else ''}", "warning"
            continue
        wanted = known[name]
        if isinstance(wanted, dict):
            if not isinstance(value, dict):
                raise InvalidArgument("table", "", where=place, detail=f"found {value!r}")
            yield from _looked_at(value, wanted, full, path)
        elif not _fits(value, wanted):
            kinds = {
                bool: "true or false",
                int: "a whole number",
                float: "a number",
                str: "a text",
                list: "a list of texts",
            }
            raise InvalidArgument("value", str(value), where=place, detail=f"{kinds[type(wanted)]} is expected")


def _fits(value: object, wanted: object) -> bool:
    if isinstance(wanted, bool) or isinstance(value, bool):
        return isinstance(wanted, bool) and isinstance(value, bool)
    if isinstance(wanted, float):
        return isinstance(value, (int, float))
    if isinstance(wanted, list):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, type(wanted))
