"""Where the hierarchies are, in a process that goes on while mounts come and go."""

from __future__ import annotations

import pytest
from harness import forked

from masu.linux import mount, namespaces
from masu.linux.cgroups import layout

pytestmark = pytest.mark.root


def test_a_look_is_believed_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        monkeypatch.setattr(layout, "FRESH_S", 1000.0)
        first = layout.detect().hierarchies()
        name, place = [*first.items()][-1]
        mount.unmount(place.path, detach=True)
        assert layout.detect().hierarchies() == first
        monkeypatch.setattr(layout, "FRESH_S", 0.0)
        assert name not in layout.detect().hierarchies()

    forked.run(body, unshare=namespaces.CLONE_NEWNS)
