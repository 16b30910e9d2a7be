"""A container as the store keeps it, with the engine's own part read out of the record's `extensions`.

masu.request   what was asked for (ContainerRequest)
masu.image     id, name and defaults of the image, or "host", or the --rootfs
masu.volumes   which volumes it has: [{name, target, anonymous}]
masu.task      the last start: {started_at, pid, exit: {status, signal, oom, exited_at, reason}, error, status}; and of
               one that containerd's API made: {created_at, io: {stdin, stdout, stderr, terminal}, deleted}

A record without masu.request was made through containerd's API (`foreign`): it has a spec of its own.
"""

from __future__ import annotations

from masu.engine.compose import ImageDefaults
from masu.engine.request import ContainerRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.store import Container as Row

REQUEST, IMAGE, VOLUMES, TASK = "masu.request", "masu.image", "masu.volumes", "masu.task"

HOST = "host"
SNAPSHOT, DIRECTORY = "image", "rootfs"


class ImageInfo:
    """What a container was made from: `kind` is "image", "host" or "rootfs"; `id` the image's config digest.

    `foreign` is the image's platform when it is not the machine's own.
    """

    __slots__ = ("defaults", "foreign", "id", "kind", "name")

    def __init__(
        self, kind: str, name: str, id: str = "", defaults: ImageDefaults | None = None, foreign: str = ""
    ) -> None:
        self.foreign = foreign
        self.kind = kind
        self.name = name
        self.id = id
        self.defaults = defaults or ImageDefaults()

    def to_json(self) -> dict[str, object]:
        defaults = {name: getattr(self.defaults, name) for name in ImageDefaults.__slots__}
        return {
            "kind": self.kind,
            "name": self.name,
            "id": self.id,
            "defaults": {key: value for key, value in defaults.items() if value},
            **({"foreign": self.foreign} if self.foreign else {}),
        }

    @classmethod
    def from_json(cls, data: object) -> ImageInfo:
        if not isinstance(data, dict):
            return cls(SNAPSHOT, "")
        held = data.get("defaults")
        defaults = {k: v for k, v in held.items() if k in ImageDefaults.__slots__} if isinstance(held, dict) else {}
        words = {key: str(data.get(key, "")) for key in ("kind", "name", "id", "foreign")}
        return cls(words["kind"] or SNAPSHOT, words["name"], words["id"], ImageDefaults(**defaults), words["foreign"])


class Record:
    """One container's record; `row` is what goes back into the store. `is_foreign`: made through containerd's API."""

    __slots__ = ("_request", "image", "is_foreign", "row", "task", "volumes")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.is_foreign = REQUEST not in row.extensions
        self._request: ContainerRequest | None = None
        self.image = ImageInfo.from_json(row.extensions.get(IMAGE))
        if self.is_foreign:
            self.image = ImageInfo(SNAPSHOT if row.snapshot_key else DIRECTORY, row.image)
        volumes = row.extensions.get(VOLUMES)
        self.volumes: list[dict[str, object]] = list(volumes) if isinstance(volumes, list) else []
        task = row.extensions.get(TASK)
        self.task: dict[str, object] = dict(task) if isinstance(task, dict) else {}

    @property
    def request(self) -> ContainerRequest:
        """Read when it is first asked for: most who look a container up do not."""
        if self._request is None:
            self._request = ContainerRequest.from_json(self.row.extensions.get(REQUEST))
        return self._request

    @request.setter
    def request(self, request: ContainerRequest) -> None:
        self._request = request

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def name(self) -> str:
        return self.row.name or self.row.id

    def pack(self) -> Row:
        """The row with what was changed here put into its extensions."""
        if self.is_foreign:
            self.row.extensions = {**self.row.extensions, TASK: self.task}
            return self.row
        self.row.extensions = {
            **self.row.extensions,
            REQUEST: self.request.to_json(),
            IMAGE: self.image.to_json(),
            VOLUMES: self.volumes,
            TASK: self.task,
        }
        return self.row
