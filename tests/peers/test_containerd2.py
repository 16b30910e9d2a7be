"""containerd-shim-masu-v2 under the containerd of today: the tests of tests/conformance with its daemon and its ctr.

They come as Go modules, built into the tests' cache; without Go, or without a proxy for modules, it is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from harness.programs import ROOT, cache, peer

pytestmark = pytest.mark.root

# The one that docs/conformance.md tells of.
VERSION = "v2.3.7"
TESTS = ("test_shim_tasks.py", "test_shim_life.py", "test_shim_sandbox.py")


@pytest.mark.timeout(1800)
def test_shim() -> None:
    folder = cache() / "peers" / f"containerd-{VERSION}"
    if not (folder / "ctr").exists():
        modules = [f"github.com/containerd/containerd/v2/cmd/{name}@{VERSION}" for name in ("containerd", "ctr")]
        done = subprocess.run(
            [peer("go"), "install", *modules],
            env=os.environ | {"GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"containerd {VERSION} cannot be built: {done.stderr.strip().splitlines()[-1]}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/conformance/{n}" for n in TESTS)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "MASU_TEST_LEFTOVERS"}
        | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
