"""A root file system that has to be on the host: where somebody looks for it by its path, or several mounts make it.

One overlay or bind, which is what snapshotters give, is mounted in the container's own mount namespace: nothing is on
the host, so nothing can be left there, whoever is killed. Hooks look for the root by its path; then the mounts are at
<bundle>/rootfs, as containerd's own shim has them.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENOENT

from masu.errors import KernelError, MasuError
from masu.linux import mount
from masu.snapshots import mounted
from masu.snapshots.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.plan.host import Rootfs

_PRIVATE = ("overlay", "bind")


def may_be_private(mounts: Sequence[Mount], *, hooks: bool) -> bool:
    """Whether the container itself can mount it as its root."""
    if len(mounts) != 1 or hooks:
        return False
    only = mounts[0]
    return only.type in _PRIVATE and not (only.target or only.option("uidmap") or only.option("gidmap"))


def mount_all(mounts: Sequence[Mount], target: str) -> None:
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


def detached(rootfs: Rootfs) -> int:
    """What a container mounts as its root by itself, as a detached mount: for a restore. The caller's to close."""
    assert rootfs.mount is not None
    return _detached(Mount(*rootfs.mount))


def _detached(item: Mount) -> int:
    if item.type in _PRIVATE:
        return mounted.detached([Mount(item.type, item.source, item.options)])
    device, source = -1, item.source
    options = mount.parse_options(tuple(each for each in item.options if each != "loop"), "rootfs")
    if options.bind:
        return mounted.detached([Mount("bind", item.source, item.options)])
    if "loop" in item.options:
        from masu.linux import loop

        # The mount is its last user, so it is free again with that.
        device, source = loop.attach(source, read_only="ro" in item.options, autoclear=True)
    try:
        return mount.new_mount(item.type, source, (*options.sb_options, *options.data), attr=options.attr_set)
    finally:
        if device >= 0:
            os.close(device)


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
