"""Snapshots: the root file systems of containers, and the layers of images, as chains of committed trees.

    snapshotter = choose(store.namespace("default"))
    unpack(ns, manifest, config, snapshotter)              -> chain id, a committed snapshot
    snapshotter.prepare("container-1", chain_id)           -> [Mount], writable
    snapshotter.view("look", chain_id)                     -> [Mount], read-only
    snapshotter.commit("name", "container-1")              a new layer
    snapshotter.remove("container-1")

Names, kinds and labels are containerd's, and so are the mounts: type, source and options as mount(8) would have
them. Nothing is mounted here: masu-launch mounts them for containers, `masu.snapshots.mounted.detached` for work on
the host. Two drivers: `overlayfs`, and `native`, which copies, for places where overlayfs cannot be.
"""

from __future__ import annotations

from masu.snapshots.mounts import IdMaps, Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Protocol

    from masu.snapshots.unpacking import Progress
    from masu.spec.image import ImageConfig, Manifest
    from masu.store import NamespaceStore
    from masu.store.snapshots import Info

    class Snapshotter(Protocol):
        """What every driver does; the contract suite is tests/kernel/test_snapshots_contract.py."""

        name: str
        root: str

        def prepare(
            self,
            key: str,
            parent: str = "",
            *,
            labels: Mapping[str, str] | None = None,
            id_maps: IdMaps | None = None,
            mount_label: str = "",
        ) -> list[Mount]:
            """An active snapshot on top of the committed `parent` ("": empty). `id_maps`: of the user namespace that
            will use it. `mount_label`: the SELinux context of its files.

            Raises AlreadyExists, NotFound for the parent, FailedPrecondition when that is not committed,
            ResourceExhausted on a full disk.
            """

        def view(
            self,
            key: str,
            parent: str = "",
            *,
            labels: Mapping[str, str] | None = None,
            id_maps: IdMaps | None = None,
            mount_label: str = "",
        ) -> list[Mount]:
            """Like prepare, but read-only, never to be committed."""

        def mounts(self, key: str) -> list[Mount]:
            """Those that prepare or view gave. Raises NotFound, FailedPrecondition for a committed snapshot."""

        def commit(self, name: str, key: str, *, labels: Mapping[str, str] | None = None) -> None:
            """The active snapshot `key` becomes the committed `name`, its files on disk when this returns.

            Raises AlreadyExists for the name, NotFound and FailedPrecondition for the key.
            """

        def remove(self, key: str) -> None:
            """Raises NotFound, FailedPrecondition while another one is built on it."""

        def stat(self, key: str) -> Info: ...

        def update(self, key: str, labels: Mapping[str, str | None]) -> Info: ...

        def walk(self) -> Iterator[Info]:
            """Every snapshot of the namespace, parents before children."""

        def usage(self, key: str) -> tuple[int, int]:
            """(bytes on disk, inodes) of the snapshot alone, without its parents."""


__all__ = ["IdMaps", "Mount", "choose", "unpack"]


def choose(ns: NamespaceStore, name: str = "") -> Snapshotter:
    """The snapshotter `name`, or the best one that works in this state directory: overlayfs, else native.

    What was chosen once stays (its folder is there): the layers are in it. Raises InvalidArgument for an unknown
    name, FailedPrecondition with the kernel's reason when `name` does not work here.
    """
    import os

    from masu.errors import FailedPrecondition, InvalidArgument

    if name == "native":
        from masu.snapshots.native import Native

        return Native(ns)
    if name not in ("", "overlayfs"):
        raise InvalidArgument("snapshotter", name, detail='known are "overlayfs" and "native"')
    from masu.snapshots.overlayfs import Overlayfs, why_not

    if os.path.isdir(f"{ns.root}/snapshots/overlayfs"):
        return Overlayfs(ns)
    if not name and os.path.isdir(f"{ns.root}/snapshots/native"):
        return choose(ns, "native")
    reason = why_not(ns.root)
    if not reason:
        return Overlayfs(ns)
    if name:
        raise FailedPrecondition("snapshotter", name, detail=reason)
    return choose(ns, "native")


def unpack(
    ns: NamespaceStore,
    manifest: Manifest,
    config: ImageConfig,
    snapshotter: Snapshotter,
    *,
    progress: Progress | None = None,
) -> str:
    """See `masu.snapshots.unpacking.unpack`."""
    from masu.snapshots.unpacking import unpack as function  # warm: threads, hashes, decompressors

    return function(ns, manifest, config, snapshotter, progress=progress)
