"""Generated files say what their generators say now; what is written twice is the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import masu
from masu.plan import header

ROOT = Path(__file__).parents[2]


def test_operations_header() -> None:
    assert (ROOT / "native/launch/ops.h").read_text() == header.render(), (
        "PYTHONPATH=src python -m masu.plan.header > native/launch/ops.h"
    )


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (built,) = re.findall(r"^  version: '(.*)',$", (ROOT / "meson.build").read_text(), re.MULTILINE)
    assert project["version"] == built == masu.__version__


def test_security_names_tests_that_are_there() -> None:
    """Each file and each function that docs/security.md gives for an advisory."""
    page = (ROOT / "docs/security.md").read_text()
    named = set(re.findall(r"`(?:[\w/.]*/)?(test_\w+(?:\*\w*)?\.py)(?:::(\w+))?`", page))
    assert len(named) > 15
    for file, function in named:
        found = list((ROOT / "tests").rglob(file))
        assert found, file
        assert not function or any(f"def {function}(" in path.read_text() for path in found), (file, function)
