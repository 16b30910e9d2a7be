"""The mounts that containerd gives with a container: what becomes its root file system.

One overlay or bind, which is what snapshotters give, is mounted in the container's own mount namespace: nothing is on
the host, so nothing can be left there, whoever is killed. Where somebody looks for the root by its path (hooks do,
and CRIU) or where there are several mounts, they are mounted at <bundle>/rootfs, as containerd's own shim does.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENOENT

from masu.errors import KernelError, MasuError
from masu.linux import mount
from masu.plan.host import Rootfs
from masu.snapshots import mounted
from masu.snapshots.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.api.proto import small
    from masu.spec.runtime import Config

_PRIVATE = ("overlay", "bind")


def of_request(mounts: Sequence[small.Mount]) -> list[Mount]:
    return [Mount(item.type, item.source, item.options, item.target) for item in mounts]


def private(mounts: list[Mount], config: Config, bundle: str) -> Rootfs | None:
    """What the container itself mounts as its root, or None when it has to be on the host."""
    if len(mounts) != 1 or config.hooks is not None:
        return None
    only = mounts[0]
    if only.type not in _PRIVATE or only.target or only.option("uidmap") or only.option("gidmap"):
        return None
    return Rootfs(bundle + "/rootfs", (only.type, only.source, only.options))


def mount_all(mounts: list[Mount], target: str) -> None:
    """One over the other at `target`, or below it where a mount says so. Raises KernelError, InvalidArgument; then
    none is left."""
    try:
        os.mkdir(target, 0o711)
    except FileExistsError:
        pass
    try:
        for item in mounts:
            fd = _detached(item)
            try:
                mount.attach(fd, f"{target}/{item.target}" if item.target else target)
            finally:
                os.close(fd)
    except BaseException as error:
        try:
            unmount_all(target)
        except MasuError as failure:
            if isinstance(error, MasuError):
                error.cleanup.append(failure)
        raise


def _detached(item: Mount) -> int:
    if item.type in _PRIVATE:
        return mounted.detached([Mount(item.type, item.source, item.options)])
    options = mount.parse_options(item.options, "rootfs")
    if options.bind:
        return mounted.detached([Mount("bind", item.source, item.options)])
    return mount.new_mount(item.type, item.source, (*options.sb_options, *options.data), attr=options.attr_set)


def unmount_all(target: str) -> None:
    """All that is mounted at `target`, and below what is. Raises KernelError."""
    while True:
        try:
            mount.unmount(target, detach=True)
        except KernelError as error:
            if error.errno in (EINVAL, ENOENT):  # no (longer a) mount point, as umount2(2) says it
                return
            if error.errno != EBUSY:
                raise
