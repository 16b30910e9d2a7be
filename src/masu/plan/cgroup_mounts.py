"""Mounts of type cgroup: what a container sees of the hierarchies."""

from __future__ import annotations

from masu.linux import mount as m
from masu.plan import labels
from masu.plan.ops import NONE, TARGET_MUST_BE_DIRECTORY, Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.mount import MountOptions
    from masu.plan.draft import Draft
    from masu.plan.host import Host, Wishes
    from masu.spec.runtime import Config

_UNIFIED = "/sys/fs/cgroup"  # where cgroup2 is on a machine that has it alone


def add_cgroup(
    draft: Draft,
    config: Config,
    host: Host,
    wishes: Wishes,
    options: MountOptions,
    target: str,
    where: str,
    *,
    label: str,
) -> None:
    """`type: cgroup`: on v2 the one hierarchy; on v1 a tmpfs with a directory for each, as runc lays it out."""
    private = any(ns.type == "cgroup" for ns in config.linux.namespaces)
    if host.cgroup_mode == "v2":
        if private:
            draft.inside.append(
                Op(
                    "mount",
                    where,
                    fstype="cgroup2",
                    source="cgroup",
                    options=options.data,
                    attr=options.attr_set,
                    target=target,
                    flags=TARGET_MUST_BE_DIRECTORY,
                )
            )
        else:
            # All of it, as under runc and crun: /proc/self/cgroup names the container's own by its path from the top.
            # Read-only where nothing of it is the container's: its user may have some delegated (CVE-2023-25809).
            attr = options.attr_set | (0 if wishes.cgroup_paths else m.MOUNT_ATTR_RDONLY)
            _bind_cgroup(draft, _UNIFIED, target, attr, where)
        return
    # mount_setattr at the end makes the tmpfs read-only; directories are made in it first.
    attr = options.attr_set & ~m.MOUNT_ATTR_RDONLY
    draft.inside.append(
        Op(
            "mount",
            where,
            fstype="tmpfs",
            source="tmpfs",
            options=labels.with_label(("mode=755",), "tmpfs", label),
            attr=attr,
            target=target,
            flags=0,
        )
    )
    for mount_point, controllers in host.cgroup_mounts:
        name = mount_point.rsplit("/", 1)[1]
        child = f"{target}/{name}"
        if private:
            draft.inside.append(
                Op(
                    "mount",
                    where,
                    fstype="cgroup",
                    source="cgroup",
                    options=tuple(controllers.split(",")),
                    attr=options.attr_set,
                    target=child,
                    flags=0,
                )
            )
        elif path := _controller_path(wishes.cgroup_paths, controllers):
            _bind_cgroup(draft, path, child, options.attr_set, where)
        elif path := host.own_cgroups.get(mount_point, ""):
            # Without root and without a cgroup of its own it is in ours, which it may look at (CVE-2023-25809).
            _bind_cgroup(draft, path, child, options.attr_set | m.MOUNT_ATTR_RDONLY, where)
        for controller in controllers.split(","):
            if controller != name and "=" not in controller:
                draft.inside.append(Op("symlink", where, target=name, path=f"{target}/{controller}", exact=0))
    if options.attr_set & m.MOUNT_ATTR_RDONLY:
        draft.inside.append(
            Op("remount", where, target=target, set=m.MOUNT_ATTR_RDONLY, clear=0, recursive=0, options=())
        )


def _controller_path(paths: dict[str, str], controllers: str) -> str:
    for controller in controllers.split(","):
        if controller in paths:
            return paths[controller]
    return ""


def _bind_cgroup(draft: Draft, path: str, target: str, attr: int, where: str) -> None:
    slot = draft.slot()
    flags = m.OPEN_TREE_CLONE | m.OPEN_TREE_CLOEXEC
    draft.trees.append(Op("open_tree", where, slot=slot, path=path, flags=flags))
    if attr:
        draft.trees.append(
            Op("mount_attr", where, slot=slot, set=attr, clear=0, propagation=0, recursive=0, userns=NONE)
        )
    draft.inside.append(Op("attach", where, slot=slot, target=target, flags=0))
