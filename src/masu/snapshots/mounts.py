"""Mounts as values, the way containerd has them: what mount(8) would be told."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from masu.linux.idmap import MappingLike


class Mount:
    """`type` is "bind", "overlay" …; `target` is below the root it is mounted on, "" for the root itself."""

    __slots__ = ("options", "source", "target", "type")

    def __init__(self, type: str, source: str, options: Iterable[str] = (), target: str = "") -> None:
        self.type = type
        self.source = source
        self.options = tuple(options)
        self.target = target

    def __repr__(self) -> str:
        return f"Mount({self.type!r}, {self.source!r}, {self.options!r}, {self.target!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mount):
            return NotImplemented
        return (self.type, self.source, self.options, self.target) == (
            other.type,
            other.source,
            other.options,
            other.target,
        )

    def __hash__(self) -> int:
        return hash((self.type, self.source, self.options, self.target))

    def option(self, name: str) -> str:
        """The value of `name=value`, or ""."""
        for option in self.options:
            key, _, value = option.partition("=")
            if key == name:
                return value
        return ""


class IdMaps:
    """The uid and gid maps of a user namespace."""

    __slots__ = ("gids", "uids")

    def __init__(self, uids: Sequence[MappingLike], gids: Sequence[MappingLike]) -> None:
        self.uids = tuple(uids)
        self.gids = tuple(gids)

    def labels(self) -> dict[str, str]:
        """As containerd keeps them with a snapshot: `container:host:size,…`."""
        return {UID_LABEL: _text(self.uids), GID_LABEL: _text(self.gids)}

    def root(self) -> tuple[int, int]:
        """The uid and gid on the host of root inside, -1 (chown(2): leave it) when root is not mapped."""
        return _host_id(self.uids), _host_id(self.gids)


UID_LABEL = "containerd.io/snapshot/uidmapping"
GID_LABEL = "containerd.io/snapshot/gidmapping"
MOUNT_LABEL = "masu.io/snapshot/mount-label"


def _text(mappings: Sequence[MappingLike]) -> str:
    return ",".join(f"{m.container_id}:{m.host_id}:{m.size}" for m in mappings)


def _host_id(mappings: Sequence[MappingLike]) -> int:
    for m in mappings:
        if m.container_id == 0 and m.size > 0:
            return m.host_id
    return -1


def escape(directory: str) -> str:
    """A directory as overlay's options want it: `\\` before `:`, `,` and `\\` (overlayfs.rst)."""
    if "\\" in directory or ":" in directory or "," in directory:
        return directory.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    return directory
