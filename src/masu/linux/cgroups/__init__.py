"""Control groups: v1, v1 with a cgroup2 tree beside it (hybrid), and pure v2, by their file systems.

    layout = detect()
    group = Cgroup.create(config.linux.cgroups_path, id)
    group.apply(config.linux.resources)
    ... the child is born with group.open_for_clone() and writes "0" into group.join_files() ...
    group.kill(); group.wait_empty(2.0); group.delete()

    layout.py    where the hierarchies are              group.py     Cgroup, the public object
    making.py    making its directories                 tasks.py     freeze, kill, wait, remove
    files.py     Setting: one value for one file        explain.py   why the kernel refused one
    v1.py v2.py  config -> settings                     values.py    ranges and conversions they share
    devices.py   device rules -> one table              oom.py       who was killed for memory
    stats.py     what was used, as values               collect.py   reading it
    systemd.py   config -> a unit and its properties    manager.py   asking systemd for it
    freezer.py   whether it is frozen

Importing the package loads nothing else: each name is fetched when it is first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.cgroups.group import Cgroup
    from masu.linux.cgroups.layout import Layout, Mount, detect
    from masu.linux.cgroups.making import predict

__all__ = ["Cgroup", "Layout", "Mount", "detect", "predict"]

_HOMES = {"Cgroup": "group", "Layout": "layout", "Mount": "layout", "detect": "layout", "predict": "making"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{_HOMES[name]}", None, None, [name]), name)
    globals()[name] = value
    return value
