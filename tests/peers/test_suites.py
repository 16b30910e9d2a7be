"""masu-oci under the suites of runc, crun and runtime-tools, and under critest by way of containerd and CRI-O.

What fails is what tests/peers/expected says, and why. A suite's bugs, what this machine lacks, and words that are
another program's own name stand there; nothing else may.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TextIO

import pytest
from harness.keepers import calls, held
from harness.programs import MASU_OCI, ROOT, peer

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
BY_A_BRAIN = ("runc", "crun", "runtime-tools")


@cache
def verdicts(name: str, *, brain: str = "off") -> dict[str, str]:
    """What the suite says of masu-oci, by title of the case. What it wrote is in build/log; the row of the table is
    shown."""
    run, programs = SUITES[name]
    for program in programs:
        peer(program)
    kept = Path("build/log", f"suite-{name}.tap" if brain == "off" else f"suite-{name}-brain.tap")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("w") as log:
        found = run(MASU_OCI, log)
    print(f"\n{report('masu-oci', found).splitlines()[0]}  {kept}")
    return {case.title: case.verdict for case in found}


@pytest.mark.parametrize("name", SUITES)
def test_suite(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        found = verdicts(name)
    assert {title for title, verdict in found.items() if verdict == "failed"} - expected(name) == set()


@pytest.mark.parametrize("name", BY_A_BRAIN)
def test_suite_by_a_brain(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With MASU_BRAIN=require, where no call goes cold, it says of each case what it says without a brain."""
    monkeypatch.setenv("MASU_BRAIN", "require")
    package = ROOT / "src" / "masu"
    with capsys.disabled(), held(package, tmp_path):
        warm = verdicts(name, brain="require")
        assert calls(package) > len(warm)
    monkeypatch.setenv("MASU_BRAIN", "off")
    with capsys.disabled():
        cold = verdicts(name)
    left_out = expected(name) | expected(f"{name}-brain")
    assert {title for title in warm | cold if warm.get(title) != cold.get(title)} - left_out == set()


def expected(name: str) -> set[str]:
    """Titles of cases that may fail: a line each, the reason behind " # "."""
    file = EXPECTED / f"{name}.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return {line.rpartition(" # ")[0] for line in lines if line and not line.startswith("#")}


def test_every_reason_is_given() -> None:
    for file in EXPECTED.iterdir():
        for line in file.read_text().splitlines():
            assert not line or line.startswith("#") or line.rpartition(" # ")[2], line


def test_masu_oci_runs_here() -> None:
    assert subprocess.run([MASU_OCI, "--version"], capture_output=True, check=True).stdout.startswith(b"masu-oci")
