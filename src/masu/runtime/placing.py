"""A container's place among the cgroups: made, limited, entered; by the cgroupfs driver or as a unit of systemd. And
among the groups of resctrl, if it has one there."""

from __future__ import annotations

import os

from masu.errors import KernelError
from masu.linux import cgroups
from masu.linux.cgroups import Cgroup, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.cgroups import Layout
    from masu.plan.host import Host
    from masu.runtime.container import Container
    from masu.runtime.create import Undo
    from masu.runtime.scope import Scope
    from masu.spec.runtime import Config


def make_cgroup(
    container: Container,
    config: Config,
    host: Host,
    undo: Undo,
    warnings: list[str],
    *,
    manager: str,
    layout: Layout,
) -> tuple[Cgroup, Scope | None]:
    """The container's cgroup with its limits, but for that of processes, and its unit of systemd."""
    if manager == "disabled":
        cgroup = Cgroup({})
        cgroup.apply(config.linux.resources, where="linux.resources", devices=False, warnings=warnings)
        return cgroup, None
    rootless = host.rootless
    resources = config.linux.resources
    path, scope, keeper = config.linux.cgroups_path, None, 0
    if manager == "systemd":
        scope, path = _start_scope(container, config, layout, undo, rootless=rootless)
        keeper = scope.keeper
        resources = scope.rounded(resources)
    cgroup = Cgroup.create(
        path,
        container.id,
        where="linux.cgroupsPath",
        layout=layout,
        resources=resources,
        rootless=rootless,
        keeper=keeper,
    )
    undo.add(cgroup.delete)
    undo.add(cgroup.kill)
    container.facts.cgroup_paths = cgroup.paths()
    container.save()
    if not cgroup.paths() and not any(space.type == "pid" and not space.path for space in config.linux.namespaces):
        warnings.append(
            "linux.namespaces: without a cgroup and without a pid namespace of its own. Such configuration is strongly "
            "discouraged: the container's processes cannot all be found and killed"
        )
    if resources is not None and cgroup.paths():
        # The limit of processes comes when all of ours are gone from the cgroup: see `limit_processes`.
        resources = resources.replace(pids=None)
    cgroup.apply(resources, where="linux.resources", warnings=warnings, rootless=rootless)
    if not rootless and cgroup.mode == "v2" and (owner := _owner(config)):
        from masu.linux.cgroups import delegation  # by who manages cgroups inside

        delegation.delegate(cgroup.paths()[""], owner)
    return cgroup, scope


def _owner(config: Config) -> int | None:
    """Who is to own a cgroup of v2: the user of the container's process, as the host sees it, when there is a cgroup
    namespace to be made and the tree is mounted for writing (config-linux.md, "Cgroup ownership")."""
    assert config.process is not None
    made = {space.type for space in config.linux.namespaces if not space.path}
    if "cgroup" not in made or not any(
        mount.source == "cgroup" and mount.destination == "/sys/fs/cgroup" and "ro" not in mount.options
        for mount in config.mounts
    ):
        return None
    uid = config.process.user.uid
    if all(space.type != "user" for space in config.linux.namespaces):
        return uid
    for mapping in config.linux.uid_mappings:
        if 0 <= uid - mapping.container_id < mapping.size:
            return uid - mapping.container_id + mapping.host_id
    return None


def foretell(config: Config, id: str, layout: Layout, *, manager: str, rootless: bool) -> dict[str, str]:
    """Where the cgroups will be that we make without systemd. Raises as `cgroups.predict`."""
    if manager in ("disabled", "systemd"):
        return {}
    return cgroups.predict(config.linux.cgroups_path, id, layout=layout, rootless=rootless)


def _start_scope(
    container: Container, config: Config, layout: Layout, undo: Undo, *, rootless: bool
) -> tuple[Scope, str]:
    """The unit, made by systemd, and its cgroup as a path from the top."""
    from masu.runtime import scope as scopes  # by who asks for systemd

    unit = scopes.unit_of(config, container.id, layout, rootless=rootless)
    if not rootless:
        predicted = cgroups.predict(unit.path(), container.id, layout=layout)
        container.facts.cgroup_paths = {name: path for name, path in predicted.items() if not os.path.exists(path)}
        container.save()
    scope = scopes.Scope(unit, config.annotations)
    undo.add(scope.close)
    scope.start(config, container.id, layout)
    undo.add(scope.abandon)
    # Only now it is surely ours; had we been killed before this, it would have gone by itself.
    container.facts.unit = unit.name, "user" if unit.user else "system"
    container.save()
    return scope, scope.place(layout)


def limit_processes(container: Container, config: Config, warnings: list[str], scope: Scope | None = None) -> None:
    """Not before the container is whole: with a limit of 1 its first process could not be cloned beside the stage. That
    one keeps the scope from now on."""
    if scope is not None:
        scope.release()
    resources = config.linux.resources
    if resources is not None and resources.pids is not None and container.facts.cgroup_paths:
        only = type(resources)(pids=resources.pids)
        if scope is not None:
            scope.set(container.cgroup, only, resources)
        container.cgroup.apply(only, devices=False, warnings=warnings)


def make_resctrl(container: Container, config: Config, undo: Undo) -> None:
    """The groups of linux.intelRdt, with their shares. Raises as `resctrl.check` and `Group.make`."""
    wanted = config.linux.intel_rdt
    if wanted is None:
        return
    from masu.linux import resctrl  # by whose configuration asks for shares of cache or bandwidth

    root = resctrl.find_root()
    resctrl.check(root, wanted)
    group = resctrl.Group.of(root, container.id, wanted)
    # Known before it is made, as with cgroups.
    container.facts.resctrl = group.paths()
    container.save()
    undo.add(group.undo)
    group.make(wanted)


def resctrl_ways_in(container: Container) -> tuple[str, ...]:
    """Files to write "0" to. A group that somebody has removed meanwhile is left out, as by runc."""
    group = container.resctrl
    return tuple(filter(os.path.exists, group.join_files())) if group is not None else ()


def ways_in(cgroup: Cgroup, *, mapped: bool) -> tuple[tuple[str, ...], str]:
    """(files to write "0" to, directory to be cloned into). A mapped root has no right to be cloned into the host's
    cgroup, so it goes there before it is mapped."""
    directory = "" if mapped else cgroup.path() or ""
    return tuple(cgroup.join_files(cloned_into=bool(directory))), directory


def move_in(file: str, pid: int, where: str = "linux.cgroupsPath") -> None:
    """Writes a pid into a group's `cgroup.procs` or `tasks`. Raises KernelError."""
    try:
        files.write(None, file, str(pid))
    except OSError as error:
        raise KernelError("write", file, error.errno or 0, where=where) from error
