"""What masud is made of, told in containerd's plugins: clients look for a snapshotter's root and abilities here, for
the differ, for the transfer service."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from masu.api.containerd.restarts import POLICIES
from masu.api.containerd.site import Site

# Types, as others name them.
CONTENT = "io.containerd.content.v1"
DIFFER = "io.containerd.differ.v1"
EVENT = "io.containerd.event.v1"
GC = "io.containerd.gc.v1"
GRPC = "io.containerd.grpc.v1"
LEASE = "io.containerd.lease.v1"
MONITOR = "io.containerd.monitor.container.v1"
METADATA = "io.containerd.metadata.v1"
MOUNT_MANAGER = "io.containerd.mount-manager.v1"
RUNTIME = "io.containerd.runtime.v2"
SANDBOX_CONTROLLER = "io.containerd.sandbox.controller.v1"
SANDBOX_STORE = "io.containerd.sandbox.store.v1"
SNAPSHOTTER = "io.containerd.snapshotter.v1"
STREAMING = "io.containerd.streaming.v1"
TRANSFER = "io.containerd.transfer.v1"


class Plugin:
    """`error` says why it does not work here, "" when it does."""

    __slots__ = ("capabilities", "error", "exports", "id", "of_platform", "requires", "type")

    def __init__(
        self,
        type: str,
        id: str,
        *,
        requires: tuple[str, ...] = (),
        exports: dict[str, str] | None = None,
        capabilities: tuple[str, ...] = (),
        of_platform: bool = False,
        error: str = "",
    ) -> None:
        self.type = type
        self.id = id
        self.requires = requires
        self.exports = exports or {}
        self.capabilities = capabilities
        self.of_platform = of_platform
        self.error = error


def plugins(site: Site, services: Iterable[str]) -> list[Plugin]:
    """All, in the order of types; `services` are the ids of the gRPC services."""
    root = site.root
    found = [
        Plugin(CONTENT, "content", exports={"root": f"{root}/blobs"}),
        Plugin(METADATA, "bolt", requires=(CONTENT, EVENT, SNAPSHOTTER), exports={"policy": "shared"}),
        Plugin(EVENT, "exchange"),
        Plugin(GC, "scheduler", requires=(METADATA,)),
        Plugin(LEASE, "manager", requires=(METADATA,)),
        Plugin(DIFFER, "walking", requires=(METADATA,), of_platform=True),
        Plugin(MONITOR, "restart", requires=(EVENT,), capabilities=POLICIES),
        Plugin(MOUNT_MANAGER, "bolt"),
        Plugin(RUNTIME, "task", requires=(EVENT, METADATA), of_platform=True),
        Plugin(SANDBOX_STORE, "local", requires=(METADATA,)),
        Plugin(SANDBOX_CONTROLLER, "shim", requires=(RUNTIME, SANDBOX_STORE)),
        Plugin(STREAMING, "manager"),
        Plugin(TRANSFER, "local", requires=(LEASE, METADATA, DIFFER)),
        *_snapshotters(site),
        *(Plugin(GRPC, id) for id in services),
    ]
    found.sort(key=lambda plugin: (plugin.type, plugin.id))
    return found


@cache
def _maps_ids(root: str) -> bool:
    from masu.snapshots.overlayfs import maps_ids

    return maps_ids(root)


def _snapshotters(site: Site) -> list[Plugin]:
    from masu.snapshots.overlayfs import why_not

    capabilities = ("remap-ids",) if _maps_ids(site.root) else ()
    return [
        Plugin(
            SNAPSHOTTER,
            "overlayfs",
            of_platform=True,
            exports={"root": f"{site.root}/snapshots/overlayfs"},
            capabilities=capabilities,
            error=why_not(site.root),
        ),
        Plugin(SNAPSHOTTER, "native", of_platform=True, exports={"root": f"{site.root}/snapshots/native"}),
    ]
