"""Layers as directories, put on top of each other by the kernel.

snapshots/overlayfs/<n>/fs      the layer: what it adds, whiteouts (char 0:0), opaque directories (xattr)
                   <n>/work    overlayfs' own, active snapshots only

active, no parent      bind fs, writable
active                 overlay: upperdir fs, workdir work, lowerdir the parents' fs, nearest first
view, no parent        bind of its own empty fs, read-only
view, one parent       bind of the parent's fs, read-only: a stack of one needs no overlay
view                   overlay: lowerdir only
"""

from __future__ import annotations

import errno
import os

from masu.linux import namespaces
from masu.snapshots.driver import Driver, copy_attributes, disk_usage, id_map_options
from masu.snapshots.mounts import MOUNT_LABEL, Mount, escape
from masu.store.snapshots import ACTIVE, VIEW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.snapshots.mounts import IdMaps
    from masu.store.snapshots import Info


class Overlayfs(Driver):
    name = "overlayfs"

    def _fill(self, folder: str, kind: str, parents: list[int], id_maps: IdMaps | None) -> None:
        top = f"{folder}/fs"
        os.mkdir(top, 0o755)
        os.chmod(top, 0o755)  # whatever the umask
        root = id_maps.root() if id_maps is not None else (-1, -1)
        if kind == ACTIVE:
            os.mkdir(f"{folder}/work", 0o711)
        if parents:
            # The root directory of the merged tree is that of the topmost layer.
            copy_attributes(f"{self.folder(parents[0])}/fs", top, root)
        elif id_maps is not None:
            os.chown(top, *root)

    def _mounts(self, info: Info, parents: list[int]) -> list[Mount]:
        own = self.folder(info.id)
        read_only = info.kind == VIEW
        mapped = id_map_options(info.labels)
        if not parents:
            # Its files belong to the mapped ids already.
            return [Mount("bind", f"{own}/fs", ("ro" if read_only else "rw", "rbind"))]
        if read_only and len(parents) == 1:
            return [Mount("bind", f"{self.folder(parents[0])}/fs", ("ro", "rbind", *mapped))]
        options = [*overlay_options(), *mapped]
        label = info.labels.get(MOUNT_LABEL)
        if label:
            options.append(f'context="{label}"')
        if not read_only:
            options += [f"workdir={escape(own)}/work", f"upperdir={escape(own)}/fs"]
        options.append("lowerdir=" + ":".join(f"{escape(self.folder(p))}/fs" for p in parents))
        return [Mount("overlay", "overlay", options)]

    def _usage(self, info: Info, parents: list[int]) -> tuple[int, int]:
        return disk_usage(f"{self.folder(info.id)}/fs")


def overlay_options() -> list[str]:
    """Options every overlay of ours has."""
    options = []
    # With the inode index a layer that was in one overlay is refused in another (ESTALE); layers are shared here.
    if os.path.exists("/sys/module/overlay/parameters/index"):
        options.append("index=off")
    if not namespaces.in_initial_user_namespace():
        # trusted.* xattrs need CAP_SYS_ADMIN of the initial user namespace; user.overlay.* came with Linux 5.11.
        options.append("userxattr")
    return options


def maps_ids(root: str) -> bool:
    """Whether layers in `root` can be shown with the ids of a user namespace: id-mapped mounts below an overlay, which
    are up to the file system (Linux 5.19 on; mount_setattr(2)). Tries it."""
    from masu.errors import MasuError
    from masu.snapshots.mounted import detached
    from masu.store.trees import make_locked, remove_tree

    try:
        folder, lock = make_locked(f"{root}/snapshots/probe-")
    except OSError:
        return False
    try:
        for name in ("one", "two"):
            os.mkdir(f"{folder}/{name}")
        base = escape(folder)
        options = [*overlay_options(), f"lowerdir={base}/one:{base}/two", "uidmap=0:4711:1", "gidmap=0:4712:1"]
        fd = detached([Mount("overlay", "overlay", options)])
        try:
            seen = os.fstat(fd)
            return (seen.st_uid, seen.st_gid) == (4711, 4712)
        finally:
            os.close(fd)
    except (MasuError, OSError):
        return False
    finally:
        os.close(lock)
        remove_tree(folder)


def why_not(root: str) -> str:
    """Why overlayfs does not work with layers in `root`; "" when it does. Tries a real, detached mount.

    It does not on file systems without d_type or xattrs, on most network file systems, on another overlayfs as
    upper layer, and where mounting is forbidden.
    """
    from masu.errors import KernelError, MasuError
    from masu.snapshots.mounted import detached
    from masu.store.trees import make_locked, remove_tree

    try:
        folder, lock = make_locked(f"{root}/snapshots/probe-")
    except OSError as e:
        return os.strerror(e.errno or 0)
    try:
        for name in ("one", "two", "upper", "work"):
            os.mkdir(f"{folder}/{name}")
        with open(f"{folder}/one/file", "wb"):
            pass
        opaque = "trusted.overlay.opaque" if namespaces.in_initial_user_namespace() else "user.overlay.opaque"
        os.setxattr(f"{folder}/upper", opaque, b"n")
        base = escape(folder)
        options = [*overlay_options(), f"workdir={base}/work", f"upperdir={base}/upper"]
        options.append(f"lowerdir={base}/one:{base}/two")
        try:
            # Without `volatile` (Linux 5.10) the end of the mount would sync the whole file system.
            fd = detached([Mount("overlay", "overlay", [*options, "volatile"])])
        except KernelError:
            fd = detached([Mount("overlay", "overlay", options)])
        try:
            # Removing a file makes a whiteout; a listing shows whether the file system tells types (d_type).
            os.unlink("file", dir_fd=fd)
            listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            try:
                if os.listdir(listed):
                    return "whiteouts do not work: the file system has no d_type"
            finally:
                os.close(listed)
        finally:
            os.close(fd)
    except MasuError as e:
        return str(e)
    except OSError as e:
        return f"{errno.errorcode.get(e.errno or 0, '')}: {e.strerror}"
    finally:
        os.close(lock)
        remove_tree(folder)
    return ""
