"""What a container is asked to be: the values behind `masu run`'s flags, kept in the container's record.

Everything here is what the user said, not yet what the kernel is told: `masu.engine.compose` turns it, the image's
config and the machine's facts into an OCI runtime config. It is stored as JSON, so that `start`, `inspect` and a later
version of masu can read it back: fields are only ever added, and an unknown one is ignored.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self


def _empty(value: Any) -> Any:
    # hides from linters that the default is mutable: __init__ copies it
    return value


class _Record:
    """Fields by annotation, with defaults; to JSON and back.

    Not a dataclass, which would cost the cold start a millisecond and a half. `_nested` says which lists hold records.
    """

    _nested: ClassVar[dict[str, type[_Record]]] = {}
    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(name for name in cls.__annotations__ if name[0] != "_")

    def __init__(self, **values: object) -> None:
        for name in self._fields:
            default = getattr(type(self), name)
            # a default list or dict belongs to the class; each record gets its own
            setattr(self, name, values.pop(name, default.copy() if isinstance(default, (list, dict)) else default))
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, _Record) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.to_json().items())})"

    def to_json(self) -> dict[str, object]:
        """The fields that differ from their defaults."""
        out: dict[str, object] = {}
        for name in self._fields:
            value = getattr(self, name)
            if value != getattr(type(self), name):
                out[name] = [item.to_json() for item in value] if name in self._nested else value
        return out

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Reads what `to_json` of any version wrote; a field whose type is not the expected one keeps its default."""
        record = cls()
        if not isinstance(data, dict):
            return record
        for name in cls._fields:
            if name not in data:
                continue
            default, value = getattr(cls, name), data[name]
            if value is None or default is None or type(value) is type(default):
                nested = cls._nested.get(name)
                if nested is not None and isinstance(value, list):
                    value = [nested.from_json(item) for item in value]
                setattr(record, name, value)
        return record


class MountRequest(_Record):
    """One of `-v`, `--mount`, `--tmpfs`, or an image's VOLUME.

    `kind` is bind, volume or tmpfs; `source` a host path, a volume's name, or empty for an anonymous volume or a tmpfs.
    `create_source`: a missing bind source is made as a directory, as `-v` always did and `--mount` never does.
    `recursive` is how a bind takes in what is mounted below its source: "" all of it, read-only as far as the kernel
    can, "writable" (submounts stay writable), "readonly" (they must become read-only) or "disabled" (not at all).
    """

    kind: str = "bind"
    source: str = ""
    target: str = ""
    readonly: bool = False
    propagation: str = ""
    recursive: str = ""
    nocopy: bool = False
    create_source: bool = False
    anonymous: bool = False
    from_image: bool = False
    subpath: str = ""
    size_bytes: int = 0
    mode: str = ""
    options: list[str] = _empty([])


class DeviceRequest(_Record):
    """`--device SOURCE[:TARGET[:rwm]]`."""

    source: str = ""
    target: str = ""
    permissions: str = "rwm"


class Ulimit(_Record):
    """`--ulimit name=soft[:hard]`; -1 is unlimited."""

    name: str = ""
    soft: int = 0
    hard: int = 0


class ContainerRequest(_Record):
    """All that `masu run` and `masu create` can say about a container.

    None, 0 and empty mean: as the image says, or the default.
    """

    _nested = {"mounts": MountRequest, "devices": DeviceRequest, "ulimits": Ulimit}  # noqa: RUF012

    command: list[str] = _empty([])
    entrypoint: list[str] | None = None
    env: list[str] = _empty([])
    labels: dict[str, str] = _empty({})
    annotations: dict[str, str] = _empty({})
    interactive: bool = False
    stdin_once: bool = False
    tty: bool = False
    auto_remove: bool = False
    workdir: str = ""
    user: str = ""
    group_add: list[str] = _empty([])
    hostname: str = ""
    domainname: str = ""
    network: str = ""
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroupns: str = ""
    cgroup_parent: str = ""
    read_only: bool = False
    rootfs: str = ""
    mounts: list[MountRequest] = _empty([])
    devices: list[DeviceRequest] = _empty([])
    ulimits: list[Ulimit] = _empty([])
    shm_bytes: int = 0
    memory_bytes: int = 0
    memory_reservation_bytes: int = 0
    memory_swap_bytes: int = 0
    cpus_nano: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    blkio_weight: int = 0
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    cap_add: list[str] = _empty([])
    cap_drop: list[str] = _empty([])
    privileged: bool = False
    security_opt: list[str] = _empty([])
    sysctls: dict[str, str] = _empty({})
    init: bool = False
    platform: str = ""
    stop_signal: str = ""
    stop_timeout_s: int | None = None
    log_max_bytes: int = 0
    log_max_files: int = 0
