"""Changing the limits of a container that is there already (`update`).

What is changed is merged into `linux.resources` of the container's own config.json, so that the next change knows the
present values: a quota needs its period, and on cgroup v2 memory and swap need each other. Device rules stay as they
are, since others (GPU plug-ins) may have added to them meanwhile.
"""

from __future__ import annotations

from masu.errors import FailedPrecondition, InvalidArgument, MasuError
from masu.linux import fds
from masu.spec import jsontext
from masu.spec.fields import plain_map, read
from masu.spec.linux import LinuxIntelRdt
from masu.spec.resources import LinuxResources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.runtime.container import Container

    Object = dict[str, object]

# Limits that only make sense together: who changes one gets the present value of the others written again.
_TOGETHER = {"memory": ("limit", "swap", "checkBeforeUpdate"), "cpu": ("quota", "period")}
# 0 is a value of its own here; everywhere else it means "leave it", which callers who fill in every field count on.
_ZERO_COUNTS = ("burst", "idle", "swappiness")
_MAX_BYTES = 1 << 20


def update(
    container: Container, changes: Object, *, rdt: dict[str, str] | None = None, where: str = "resources"
) -> list[str]:
    """Apply `changes`, a `linux.resources` object without what stays as it is, and `rdt`, the same of
    `linux.intelRdt`; returns warnings.

    Raises InvalidArgument (`where` is the object's place in the user's input), FailedPrecondition (stopped, or a
    controller or a class of service that is not there), KernelError. After an error the old limits are there again.
    """
    warnings: list[str] = []
    changes = read(LinuxResources, changes, where, warnings).to_json()
    changes.pop("devices", None)
    with container.hold():
        container.require("update")
        config = container.config_json()
        linux = plain_map(config.get("linux") or {}, "linux")
        present = read(LinuxResources, linux.get("resources") or {}, "linux.resources", []).to_json()
        written, merged = _merged(present, changes)
        resources = read(LinuxResources, written, where, [])
        # What is kept must be what `container.config` can read again.
        rdt = {key: str(line) for key, line in read(LinuxIntelRdt, rdt or {}, "linux.intelRdt", []).to_json().items()}
        shares = _Shares(container, rdt)
        shares.write()
        try:
            if container.facts.unit[0]:
                from masu.runtime import scope  # by whose containers are systemd's

                before, after = (read(LinuxResources, each, "linux.resources", []) for each in (present, merged))
                scope.update(container, resources, before, after, where=where, warnings=warnings)
            else:
                container.cgroup.update(resources, where=where, warnings=warnings)
        except MasuError as error:
            shares.restore(error)
            raise
        linux["resources"] = merged
        if rdt:
            linux["intelRdt"] = {**_object(linux.get("intelRdt")), **rdt}
        config["linux"] = linux
        container.save_config(config)
    return warnings


class _Shares:
    """What changes in the class of service of a container: shares of cache and of memory bandwidth."""

    def __init__(self, container: Container, rdt: dict[str, str]) -> None:
        self._lines = list(rdt.values())
        self._before: list[str] = []
        self._group = container.resctrl
        if rdt and self._group is None:
            # runc's sentence.
            raise FailedPrecondition(
                "updating a non-existent Intel RDT configuration is not supported",
                detail=f"container {container.id} was made without linux.intelRdt",
            )

    def write(self) -> None:
        """Raises KernelError; then nothing has changed."""
        if self._group is not None and self._lines:
            self._before = self._group.present(self._lines)
            self._group.write(self._lines)

    def restore(self, error: MasuError) -> None:
        """After `error` in something else."""
        if self._group is not None and self._before:
            try:
                self._group.write(self._before)
            except MasuError as failure:
                error.cleanup.append(failure)


def read_changes(path: str) -> Object:
    """The `linux.resources` object in a file, "-" for standard input. Raises InvalidArgument, KernelError, OSError."""
    name = "standard input" if path == "-" else path
    text = fds.read_all(0, _MAX_BYTES, name) if path == "-" else fds.read_bounded(path, _MAX_BYTES)
    data = jsontext.loads(text, name=name)
    if not isinstance(data, dict):
        raise InvalidArgument("resources", name, where="--resources", detail="a JSON object is wanted")
    return data


def _merged(present: Object, changes: Object) -> tuple[Object, Object]:
    """(what is to be written: the changes and what belongs to them; the resources as they are from now on)."""
    written: Object = {}
    merged = dict(present)
    for name, new in changes.items():
        old = present.get(name)
        if name in _TOGETHER:
            written[name], merged[name] = _merged_section(name, _object(old), _object(new))
        elif name == "blockIO":
            written[name], merged[name] = new, _merged_block_io(_object(old), _object(new))
        elif name in ("unified", "rdma"):
            written[name], merged[name] = new, {**_object(old), **_object(new)}
        else:
            written[name] = merged[name] = new
    return written, merged


def _merged_section(name: str, old: Object, new: Object) -> tuple[Object, Object]:
    new = {key: value for key, value in new.items() if value not in (0, "") or key in _ZERO_COUNTS}
    if new.get("limit") == -1 and "swap" not in new:
        # No limit on memory is none on memory and swap together.
        old = {key: value for key, value in old.items() if key != "swap"}
    partners = _TOGETHER[name] if any(key in new for key in _TOGETHER[name]) else ()
    return {**{key: old[key] for key in partners if key in old}, **new}, {**old, **new}


def _merged_block_io(old: Object, new: Object) -> Object:
    """Lists by device: an entry for a device that has one replaces what it names."""
    merged = dict(old)
    for key, value in new.items():
        if not isinstance(value, list):
            merged[key] = value
            continue
        devices: dict[tuple[object, object], Object] = {}
        for entry in [*_list(old.get(key)), *value]:
            number = entry["major"], entry["minor"]
            devices[number] = {**devices.get(number, {}), **entry}
        merged[key] = list(devices.values())
    return merged


def _object(value: object) -> Object:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Object]:
    return value if isinstance(value, list) else []
