"""Mounts that come to a container, or go, while it is there (crun's `mounts add` and `mounts remove`)."""

from __future__ import annotations

import os

from masu.errors import FailedPrecondition, InvalidArgument
from masu.linux import fds, namespaces
from masu.plan import build
from masu.plan.host import Wishes
from masu.runtime import facts as machine
from masu.runtime.launch import Answers, launch
from masu.spec import jsontext
from masu.spec import runtime as spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.runtime.container import Container
    from masu.spec.runtime import Config

_MAX_BYTES = 1 << 20
_MOUNT = namespaces.FLAGS["mount"]


def read_mounts(path: str) -> list[object]:
    """The list in a file, in the form of config.json's `mounts`. Raises InvalidArgument, KernelError, OSError."""
    data = jsontext.loads(fds.read_bounded(path, _MAX_BYTES), name=path)
    if not isinstance(data, list):
        raise InvalidArgument("mounts", path, detail='a list is wanted, as "mounts" of config.json is one')
    return data


def add(container: Container, mounts: list[object]) -> list[str]:
    """Mounts them in the container's namespaces, in their order; returns warnings. After an error those before the
    failing one are there. Raises InvalidArgument, FailedPrecondition, KernelError."""
    return _carry_out(container, mounts, adding=True)


def remove(container: Container, mounts: list[object]) -> list[str]:
    """Takes away what is mounted on their destinations, in reverse order; only `destination` counts."""
    destinations: list[object] = []
    for index, entry in enumerate(mounts):
        if not isinstance(entry, dict) or not isinstance(entry.get("destination"), str):
            raise InvalidArgument("mount", where=f"mounts[{index}].destination", detail="it must be given")
        destinations.append({"destination": entry["destination"], "type": "tmpfs"})
    return _carry_out(container, destinations, adding=False)


def _carry_out(container: Container, mounts: list[object], *, adding: bool) -> list[str]:
    warnings: list[str] = []
    with container.hold():
        container.require("mount")
        target = container.open_pidfd()
        if target is None:
            raise FailedPrecondition("container not running", detail=f"container {container.id} has just stopped")
        try:
            config = _with_mounts(container, mounts, warnings)
            join = namespaces.differing(container.facts.pid)
            if not join & _MOUNT:
                raise FailedPrecondition(
                    "container", container.id, detail="it has no mount namespace of its own: it has the host's mounts"
                )
            mapped = bool(join & namespaces.FLAGS["user"])
            if adding:
                wishes = Wishes(cgroup_paths=container.facts.cgroup_paths)
                ops = build.build_mounts(
                    config, machine.gather((), config.mounts), wishes, warnings, pidfd=target, join=join, mapped=mapped
                )
            else:
                ops = build.build_unmounts(config, pidfd=target, join=join, mapped=mapped)
            launch(ops, Answers(warnings), keep=(target,)).reap()
        finally:
            os.close(target)
    return warnings


def _with_mounts(container: Container, mounts: list[object], warnings: list[str]) -> Config:
    config = container.config_json()
    return spec.parse_config({**config, "mounts": mounts}, warnings)
