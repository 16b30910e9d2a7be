"""containerd-shim-masu-v2 under the containerd of today: the tests of tests/conformance with its daemon and its ctr."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from harness.programs import ROOT

from peers import gomodules

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

TESTS = [f"tests/conformance/test_shim_{what}.py" for what in ("tasks", "life", "sandbox")]


def test_shim() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MASU_TEST_LEFTOVERS"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env=environment | {"PATH": f"{gomodules.containerd()}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
