"""The plan that `create` would carry out, without carrying it out."""

from __future__ import annotations

from masu.linux import cgroups
from masu.plan import build
from masu.plan.host import Rootfs, Wishes
from masu.plan.ops import Op
from masu.runtime import facts
from masu.runtime.bundle import Bundle
from masu.runtime.create import compile_seccomp, ways_in


def plan(bundle: Bundle, id: str, rootfs: Rootfs | None = None) -> list[Op]:
    """Needs no root: cgroup paths are those that would be made, files of the state directory have their names only.
    A container that only root can make is planned as root would."""
    config = bundle.config
    process = config.process
    limits = tuple(item.type for item in process.rlimits) if process is not None else ()
    host = facts.gather(limits)
    paths = cgroups.predict(config.linux.cgroups_path, id, rootless=host.rootless)
    predicted = cgroups.Cgroup(paths)
    mapped = build.Spaces(config, host).mapped
    if host.uid != 0 and not mapped:
        host.uid = 0
        host.capabilities = host.bounding = (1 << (host.last_cap + 1)) - 1
    joins, cgroup_dir = ways_in(predicted, mapped=mapped)
    wishes = Wishes(
        cgroup_paths=paths,
        join_files=joins,
        cgroup_dir=cgroup_dir,
        seccomp=compile_seccomp(config.linux.seccomp, "", bundle.warnings),
        fifo="exec.fifo",
        error_file="start.err",
        keyring="_ses." + id,
    )
    return build.build(config, rootfs or Rootfs(bundle.rootfs), host, wishes, bundle.warnings)
