"""The mounts that containerd gives with a container: what becomes its root file system. See `engine.hostroot`."""

from __future__ import annotations

from masu.engine.hostroot import detached as detached
from masu.engine.hostroot import may_be_private
from masu.engine.hostroot import mount_all as mount_all
from masu.engine.hostroot import unmount_all as unmount_all
from masu.plan.host import Rootfs
from masu.snapshots.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.api.proto import small
    from masu.spec.runtime import Config


def of_request(mounts: Sequence[small.Mount]) -> list[Mount]:
    return [Mount(item.type, item.source, item.options, item.target) for item in mounts]


def private(mounts: list[Mount], config: Config, bundle: str) -> Rootfs | None:
    """What the container itself mounts as its root, or None when it has to be on the host."""
    if not may_be_private(mounts, hooks=config.hooks is not None):
        return None
    only = mounts[0]
    return Rootfs(bundle + "/rootfs", (only.type, only.source, only.options))
