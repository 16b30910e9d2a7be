"""All services."""

from __future__ import annotations

from collections.abc import Collection

from masu.api.containerd.containers import Containers
from masu.api.containerd.content import Content
from masu.api.containerd.diff import Diff
from masu.api.containerd.events import Events
from masu.api.containerd.health import Health
from masu.api.containerd.images import Images
from masu.api.containerd.introspection import Introspection
from masu.api.containerd.leases import Leases
from masu.api.containerd.mounts import Mounts
from masu.api.containerd.namespaces import Namespaces
from masu.api.containerd.plugins import GRPC
from masu.api.containerd.reflection import OldReflection, Reflection
from masu.api.containerd.sandboxes import Controller, Store
from masu.api.containerd.service import Service
from masu.api.containerd.site import Site
from masu.api.containerd.snapshots import Snapshots
from masu.api.containerd.streaming import Streaming
from masu.api.containerd.tasks import Tasks
from masu.api.containerd.transfer import Transfer
from masu.api.containerd.version import Version

SERVICES: tuple[type[Service], ...] = (
    Containers,
    Content,
    Controller,
    Diff,
    Events,
    Health,
    Images,
    Introspection,
    Leases,
    Mounts,
    Namespaces,
    OldReflection,
    Reflection,
    Snapshots,
    Store,
    Streaming,
    Tasks,
    Transfer,
    Version,
)


def services(site: Site, disabled: Collection[str] = ()) -> list[Service]:
    """One of each, for `site`, but for those whose plugins are disabled ("io.containerd.grpc.v1.tasks")."""
    wanted = [each for each in SERVICES if f"{GRPC}.{each.plugin()}" not in disabled]
    site.served = {each.name(): each.plugin() for each in wanted}
    return [each(site) for each in wanted]
