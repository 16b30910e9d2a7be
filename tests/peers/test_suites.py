"""masu-oci under the suites of runc, crun and runtime-tools, and under critest by way of containerd and CRI-O.

What fails is what tests/peers/expected says, and why. A suite's bugs, what this machine lacks, and words that are
another program's own name stand there; nothing else may.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

import pytest
from harness.programs import MASU_OCI, peer

from peers import critest, crunsuite, runcsuite, validation
from peers.tap import Case, report

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]
EXPECTED = Path(__file__).parent / "expected"
SUITES: dict[str, tuple[Callable[[str, TextIO], list[Case]], tuple[str, ...]]] = {
    "runc": (runcsuite.run, ("go", "make", "bats", "jq", "gawk", "bc", "debootstrap", "xz")),
    "crun": (crunsuite.run, ("cc",)),
    "runtime-tools": (validation.run, ("go", "make")),
    "critest-containerd": (partial(critest.run, caller="containerd"), ("containerd", "skopeo", "docker-registry")),
    "critest-crio": (partial(critest.run, caller="crio"), ("conmon", "skopeo", "docker-registry")),
}


@pytest.mark.parametrize("name", SUITES)
def test_suite(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, programs = SUITES[name]
    for program in programs:
        peer(program)
    kept = Path("build/log", f"suite-{name}.tap")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("w") as log:
        found = run(MASU_OCI, log)
    with capsys.disabled():
        print(f"\n{report('masu-oci', found).splitlines()[0]}  {kept}")
    failed = {case.title for case in found if case.verdict == "failed"}
    assert failed - expected(name) == set()


def expected(name: str) -> set[str]:
    """Titles of cases that may fail: a line each, the reason behind " # "."""
    lines = (EXPECTED / f"{name}.txt").read_text().splitlines()
    return {line.rpartition(" # ")[0] for line in lines if line and not line.startswith("#")}


def test_every_reason_is_given() -> None:
    for name in SUITES:
        for line in (EXPECTED / f"{name}.txt").read_text().splitlines():
            assert not line or line.startswith("#") or line.rpartition(" # ")[2], line


def test_masu_oci_runs_here() -> None:
    assert subprocess.run([MASU_OCI, "--version"], capture_output=True, check=True).stdout.startswith(b"masu-oci")
