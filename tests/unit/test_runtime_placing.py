"""Whose a cgroup of v2 is: config-linux.md, "Cgroup ownership"."""

from __future__ import annotations

from typing import Any

import pytest

from masu.runtime.placing import _owner
from masu.spec import runtime as spec

MAPPING = [{"containerID": 0, "hostID": 5, "size": 2}, {"containerID": 2, "hostID": 100000, "size": 65530}]
WRITABLE = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "rw"]}
READ_ONLY = {**WRITABLE, "options": ["nosuid", "ro"]}


@pytest.mark.parametrize(
    ("namespaces", "mounts", "owner"),
    [
        ([{"type": "user"}, {"type": "cgroup"}], [WRITABLE], 100005),
        ([{"type": "cgroup"}], [WRITABLE], 7),
        ([{"type": "user"}, {"type": "cgroup"}], [READ_ONLY], None),
        ([{"type": "user"}, {"type": "cgroup"}], [], None),
        ([{"type": "user"}, {"type": "cgroup"}], [{**WRITABLE, "destination": "/cgroup"}], None),
        ([{"type": "user"}], [WRITABLE], None),
        ([{"type": "user"}, {"type": "cgroup", "path": "/proc/1/ns/cgroup"}], [WRITABLE], None),
    ],
)
def test_owner(namespaces: list[dict[str, str]], mounts: list[dict[str, Any]], owner: int | None) -> None:
    linux: dict[str, Any] = {"namespaces": [{"type": "mount"}, *namespaces]}
    if {"type": "user"} in namespaces:
        linux |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    process = {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 7, "gid": 7}}
    config = spec.parse_config(
        {"ociVersion": "1.3.0", "process": process, "root": {"path": "r"}, "mounts": mounts, "linux": linux}, []
    )
    assert _owner(config) == owner
