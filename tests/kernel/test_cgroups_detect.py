"""Where the hierarchies are, in a process that goes on while mounts come and go."""

from __future__ import annotations

import pytest
from harness import forked

from masu.linux import mount, namespaces
from masu.linux.cgroups import layout

pytestmark = pytest.mark.root


def test_a_second_look_sees_what_was_unmounted_since() -> None:
    def body() -> None:
        first = layout.detect().hierarchies()
        assert layout.detect().hierarchies() == first
        name, place = first.popitem()
        mount.unmount(place.path, detach=True)
        assert name not in layout.detect().hierarchies()

    forked.run(body, unshare=namespaces.CLONE_NEWNS)
