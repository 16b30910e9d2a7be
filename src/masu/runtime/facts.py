"""The machine as the plan's builder wants to know it."""

from __future__ import annotations

import os

from masu.linux import capabilities, cgroups, namespaces, rlimits
from masu.plan.host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.mounts import Mount


def gather(
    limits: tuple[str, ...] = (), mounts: tuple[Mount, ...] = (), *, layout: cgroups.Layout | None = None
) -> Host:
    """Looks at this process and this machine; some twelve system calls. `limits` are the RLIMIT_* to be looked at,
    `mounts` those that may copy a symlink, `layout` is that of the cgroups where it is known."""
    layout = layout or cgroups.detect()
    sets = capabilities.current()
    first = namespaces.in_initial_user_namespace()
    return Host(
        uid=os.geteuid(),
        capabilities=sets.effective,
        bounding=sets.bounding,
        last_cap=capabilities.last_cap(),
        in_initial_userns=first,
        fully_mapped=first or namespaces.has_every_id(),
        cgroup_mode=layout.mode,
        cgroup_mounts=_v1_mounts(layout),
        own_cgroups={mount.path: layout.own_directory(controller) for controller, mount in layout.mounts.items()},
        apparmor=os.path.exists("/sys/kernel/security/apparmor") and _apparmor_is_on(),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        links=_links(mounts),
        rlimits={rlimits.NUMBERS[name]: rlimits.current(name) for name in limits},
    )


def _links(mounts: tuple[Mount, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for mount in mounts:
        if mount.source and "copy-symlink" in mount.options:
            try:
                found[mount.source] = os.readlink(mount.source)
            except OSError:
                pass  # no symlink, or nothing: then it is bound as it is, or told by the bind
    return found


def _apparmor_is_on() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled", "rb") as file:
            return file.read(1) == b"Y"
    except OSError:
        return False


def _v1_mounts(layout: cgroups.Layout) -> tuple[tuple[str, str], ...]:
    """(mount point, "cpu,cpuacct") for each v1 hierarchy: controllers that share a mount are one entry."""
    together: dict[str, list[str]] = {}
    for controller, mount in layout.mounts.items():
        together.setdefault(mount.path, []).append(controller)
    return tuple((path, ",".join(controllers)) for path, controllers in together.items())
