"""Every way to keep snapshots, for the tests that must not see a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from masu.snapshots import choose
from masu.store import NamespaceStore

if TYPE_CHECKING:
    from masu.snapshots import Snapshotter


@pytest.fixture(params=["overlayfs", "native"])
def snapshotter(request: pytest.FixtureRequest, ns: NamespaceStore) -> Snapshotter:
    return choose(ns, request.param)
