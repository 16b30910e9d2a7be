"""All services."""

from __future__ import annotations

from masu.api.containerd.introspection import Introspection
from masu.api.containerd.service import Service
from masu.api.containerd.site import Site
from masu.api.containerd.version import Version

SERVICES: tuple[type[Service], ...] = (
    Introspection,
    Version,
)


def services(site: Site) -> list[Service]:
    """One of each, for `site`."""
    site.services = tuple(each.plugin() for each in SERVICES)
    return [each(site) for each in SERVICES]
