"""The plan that `create` would carry out, without carrying it out."""

from __future__ import annotations

from masu.errors import FailedPrecondition
from masu.linux import cgroups
from masu.plan import build
from masu.plan.host import Rootfs, Wishes
from masu.plan.ops import Op
from masu.runtime import facts
from masu.runtime.bundle import Bundle
from masu.runtime.create import compile_seccomp
from masu.runtime.placing import ways_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.resctrl import Group
    from masu.spec.runtime import Config


def plan(bundle: Bundle, id: str, rootfs: Rootfs | None = None, *, systemd: bool = False) -> list[Op]:
    """Needs no root: cgroup paths are those that would be made, files of the state directory have their names only.
    A container that only root can make is planned as root would."""
    config = bundle.config
    process = config.process
    limits = tuple(item.type for item in process.rlimits) if process is not None else ()
    host = facts.gather(limits, config.mounts)
    mapped = build.Spaces(config, host).mapped
    if host.uid != 0 and not mapped:
        host.uid, host.rootless = 0, False
        host.capabilities = host.bounding = (1 << (host.last_cap + 1)) - 1
    path = config.linux.cgroups_path
    if systemd:
        from masu.linux.cgroups import systemd as units

        path = units.unit_of(path, id, user=False).path()
    paths = cgroups.predict(path, id, rootless=host.rootless)
    predicted = cgroups.Cgroup(paths)
    extras = bundle.extras
    joins, cgroup_dir = ways_in(predicted, mapped=mapped)
    group = _resctrl(config, id)
    wishes = Wishes(
        cgroup_paths=paths,
        join_files=joins,
        cgroup_dir=cgroup_dir,
        resctrl_files=tuple(group.join_files()) if group is not None else (),
        seccomp=compile_seccomp(config.linux.seccomp, extras, "", bundle.warnings),
        fifo="exec.fifo",
        keyring="_ses." + id,
        keep_groups=extras.keep_groups,
        hooks_stdout=extras.hooks_stdout,
        hooks_stderr=extras.hooks_stderr,
    )
    return build.build(config, rootfs or Rootfs(bundle.rootfs), host, wishes, bundle.warnings)


def _resctrl(config: Config, id: str) -> Group | None:
    """Where there is no resctrl the plan is that of a machine that has it in its usual place."""
    if config.linux.intel_rdt is None:
        return None
    from masu.linux import resctrl

    try:
        root = resctrl.find_root()
    except FailedPrecondition:
        root = resctrl.USUAL_ROOT
    return resctrl.Group.of(root, id, config.linux.intel_rdt)
