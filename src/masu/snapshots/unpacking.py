"""An image's layers to committed snapshots, named by their chain IDs, as containerd names them.

    for each layer, from the bottom:
      chain id committed already?          skip it
      lock the layer's blob (flock)        another process at the same layer: wait, then look again
      prepare "extract-<random> <chain id>", leased
      apply                                masu.snapshots.apply
      diff id as the config says?          else the snapshot goes
      commit as <chain id>

The last chain id is noted on the config blob (containerd.io/gc.ref.snapshot.<driver>), which keeps all of them from
the garbage collector as long as an image refers to the config. Killed anywhere, an active snapshot is left whose
lease ends with the process; nothing looks at it again.
"""

from __future__ import annotations

import fcntl
import os

from masu.errors import AlreadyExists, InvalidArgument, NotFound
from masu.snapshots.apply import Applied, apply_layer, check_diff_id
from masu.spec.image import chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from masu.snapshots import Snapshotter
    from masu.spec.image import Descriptor, ImageConfig, Manifest
    from masu.store import NamespaceStore

    class Progress(Protocol):
        """Told of each layer, from several threads."""

        def layer(self, digest: str, total: int) -> None: ...
        def advance(self, digest: str, count: int) -> None: ...
        def status(self, digest: str, text: str) -> None: ...


UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
SNAPSHOT_REF = "containerd.io/gc.ref.snapshot."


def unpack(
    ns: NamespaceStore,
    manifest: Manifest,
    config: ImageConfig,
    snapshotter: Snapshotter,
    *,
    progress: Progress | None = None,
) -> str:
    """Makes what is missing of the image's snapshots; returns the name of the topmost ("" for an image of no layers).

    Several processes may do this at once for one image. `progress` is told the status "extracting" and "done" of each
    layer and how many compressed bytes were read. Raises NotFound for a missing blob, InvalidArgument when layers and
    diff ids do not pair up or a layer is hostile, DataLoss for a wrong diff id, ResourceExhausted on a full disk.
    """
    layers, diff_ids = manifest.layers, config.rootfs.diff_ids
    if len(layers) != len(diff_ids):
        raise InvalidArgument(
            "image", manifest.config.digest, detail=f"{len(layers)} layers, but {len(diff_ids)} diff ids"
        )
    chain = chain_ids(diff_ids)
    if chain:
        # The topmost is there only when all are.
        if not _is_there(snapshotter, chain[-1]):
            with ns.leases.hold("unpack") as lease:
                parent = ""
                for layer, diff_id, name in zip(layers, diff_ids, chain, strict=True):
                    ns.leases.add_resource(lease.id, f"snapshots/{snapshotter.name}", name)
                    _unpack_layer(ns, snapshotter, lease.id, layer, diff_id, parent, name, progress)
                    parent = name
                _remember(ns, manifest, snapshotter, chain[-1])
        else:
            _remember(ns, manifest, snapshotter, chain[-1])
        return chain[-1]
    return ""


def _unpack_layer(
    ns: NamespaceStore,
    snapshotter: Snapshotter,
    lease: str,
    layer: Descriptor,
    diff_id: str,
    parent: str,
    name: str,
    progress: Progress | None,
) -> None:
    if _is_there(snapshotter, name):
        return
    # The lock is on the blob: layers are unpacked once however many images and processes want them now, and there is
    # no lock file to be left behind.
    blob = ns.content.open(layer.digest)
    try:
        fcntl.flock(blob, fcntl.LOCK_EX)
        if _is_there(snapshotter, name):
            return
        if progress is not None:
            progress.status(layer.digest, "extracting")
        key = f"extract-{os.urandom(8).hex()}-{name}"
        ns.leases.add_resource(lease, f"snapshots/{snapshotter.name}", key)
        mounts = snapshotter.prepare(key, parent)
        try:
            applied = apply_layer(ns, layer, mounts, advance=_advance(progress, layer.digest))
            check_diff_id(applied, diff_id, layer.digest)
            _commit(ns, snapshotter, layer, key, name, applied)
        except BaseException:
            _forget(snapshotter, key)
            raise
        if progress is not None:
            progress.status(layer.digest, "done")
    finally:
        os.close(blob)


def _commit(
    ns: NamespaceStore, snapshotter: Snapshotter, layer: Descriptor, key: str, name: str, applied: Applied
) -> None:
    try:
        snapshotter.commit(name, key)
    except AlreadyExists:
        # By a process that came by this layer in another blob (recompressed).
        _forget(snapshotter, key)
    ns.content.update(layer.digest, {UNCOMPRESSED_LABEL: applied.diff_id})


def _is_there(snapshotter: Snapshotter, name: str) -> bool:
    try:
        return snapshotter.stat(name).kind == "committed"
    except NotFound:
        return False


def _remember(ns: NamespaceStore, manifest: Manifest, snapshotter: Snapshotter, name: str) -> None:
    label = SNAPSHOT_REF + snapshotter.name
    if ns.content.info(manifest.config.digest).labels.get(label) != name:
        ns.content.update(manifest.config.digest, {label: name})


def _forget(snapshotter: Snapshotter, key: str) -> None:
    try:
        snapshotter.remove(key)
    except Exception:
        pass  # the garbage collector's, once the lease is over


def _advance(progress: Progress | None, digest: str) -> Callable[[int], None] | None:
    if progress is None:
        return None
    told = progress
    return lambda count: told.advance(digest, count)
