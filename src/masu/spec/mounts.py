"""`root`, `mounts` and the id mappings that mounts and user namespaces share."""

from __future__ import annotations

from itertools import pairwise

from masu.errors import InvalidArgument
from masu.spec.fields import Value, boolean, invalid, many, missing, number, numeric_id, slots, string, strings, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from masu.spec.fields import Fields

# UID_GID_MAP_MAX_EXTENTS (user_namespaces(7)), since Linux 4.15.
MAX_ID_MAPPINGS = 340


class LinuxIDMapping(Value):
    """`size` ids from `container_id` on are `host_id` … outside."""

    FIELDS: ClassVar[Fields] = {
        "containerID": ("container_id", numeric_id, None),
        "hostID": ("host_id", numeric_id, None),
        "size": ("size", number(1, 0xFFFFFFFF), None),
    }
    REQUIRED = ("containerID", "hostID", "size")
    __slots__ = slots(FIELDS)
    container_id: int
    host_id: int
    size: int

    def check(self, where: str, warnings: list[str]) -> None:
        # The kernel refuses a range that touches (uid_t)-1 with a bare EINVAL (map_write, kernel/user_namespace.c).
        for name, first in (("containerID", self.container_id), ("hostID", self.host_id)):
            if first + self.size > 0xFFFFFFFF:
                raise invalid("size", self.size, f"{where}.size", f"{name} {first} + size goes beyond 4294967294")


_read_mappings = many(LinuxIDMapping)


def id_mappings(value: object, where: str, warnings: list[str]) -> tuple[LinuxIDMapping, ...]:
    """A reader: the list, free of overlaps (which the kernel would refuse with EINVAL)."""
    mappings: tuple[LinuxIDMapping, ...] = _read_mappings(value, where, warnings)  # type: ignore[assignment]
    if len(mappings) > MAX_ID_MAPPINGS:
        raise InvalidArgument(
            "id mappings", where=where, detail=f"{len(mappings)} entries, the kernel takes {MAX_ID_MAPPINGS}"
        )
    for attribute, name in (("container_id", "containerID"), ("host_id", "hostID")):
        ranges = sorted((getattr(m, attribute), m.size, index) for index, m in enumerate(mappings))
        for (first, size, index), (after, _, other) in pairwise(ranges):
            if first + size > after:
                raise invalid(
                    "id mapping", after, f"{where}[{other}].{name}", f"overlaps {where}[{index}] ({first} + {size})"
                )
    return mappings


class Mount(Value):
    """One entry of `mounts`. A relative destination is taken below "/" (config.md, "Mounts")."""

    FIELDS: ClassVar[Fields] = {
        "destination": ("destination", text, None),
        "type": ("type", text, None),
        "source": ("source", text, None),
        "options": ("options", strings, ()),
        "uidMappings": ("uid_mappings", id_mappings, ()),
        "gidMappings": ("gid_mappings", id_mappings, ()),
    }
    REQUIRED = ("destination",)
    __slots__ = slots(FIELDS)
    destination: str
    type: str | None
    source: str | None
    options: tuple[str, ...]
    uid_mappings: tuple[LinuxIDMapping, ...]
    gid_mappings: tuple[LinuxIDMapping, ...]

    @property
    def is_bind(self) -> bool:
        """Of a bind either the type or an option says so; other types do not matter then."""
        return self.type == "bind" or "bind" in self.options or "rbind" in self.options

    @property
    def is_of_bundle(self) -> bool:
        """Whether its source is a path relative to the bundle (config.md, "Mounts")."""
        return (self.source or "/")[0] != "/" and self.is_bind

    def check(self, where: str, warnings: list[str]) -> None:
        for have, lack in (("uidMappings", "gidMappings"), ("gidMappings", "uidMappings")):
            if getattr(self, self.FIELDS[have][0]) and not getattr(self, self.FIELDS[lack][0]):
                raise missing(
                    f"{where}.{lack}",
                    f"id-mapped mounts must have both uid and gid mappings specified; {have} is given",
                )


class Root(Value):
    """`path` as given: absolute, or relative to the bundle."""

    FIELDS: ClassVar[Fields] = {
        "path": ("path", string, None),
        "readonly": ("readonly", boolean, False),
    }
    REQUIRED = ("path",)
    __slots__ = slots(FIELDS)
    path: str
    readonly: bool
