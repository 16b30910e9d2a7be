"""Where the peers' sources come from: a folder the user names, or a clone of a fixed commit in the tests' cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness.programs import cache

# The commits that docs/conformance.md tells of.
# fmt: off
COMMITS = {
    "cri-o": ("https://github.com/cri-o/cri-o", "f954a17e505f8931e91004403b5f5eac71ab6085"),
    # Its v2.3.5.
    "nerdctl": ("https://github.com/containerd/nerdctl", "347782c28efe1753d5cc9652f6304752ed431221"),
    "crun": ("https://github.com/containers/crun", "ba38286f7d232be8087dbd393315bb05018da68c"),
    "runtime-tools": (
        "https://github.com/opencontainers/runtime-tools", "5e639034dcdc2422164e3d7d76a737e2fb451a67",
    ),
    "runc": ("https://github.com/opencontainers/runc", "76d9cf5da5683ff449ae967db58fa8c5927ca54b"),
}
# fmt: on


def source(name: str) -> Path:
    """A work tree of a peer, ours to build in. $MASU_PEER_SOURCES/<name> is used as it is when it exists. Without it
    and without the internet the test is skipped."""
    given = Path(os.environ.get("MASU_PEER_SOURCES", "/nonexistent"), name)
    if given.is_dir():
        return given
    url, commit = COMMITS[name]
    folder = cache() / "peers" / f"{name}-{commit[:12]}"
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    for command in (["init", "-q"], ["fetch", "-q", "--depth", "1", url, commit], ["checkout", "-q", "FETCH_HEAD"]):
        done = subprocess.run(["git", "-C", str(unfinished), *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(unfinished)
            pytest.skip(f"no sources of {name}: {done.stderr.strip()} (name a folder with them: MASU_PEER_SOURCES)")
    unfinished.rename(folder)
    return folder
