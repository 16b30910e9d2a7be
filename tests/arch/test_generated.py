"""Generated files say what their generators say now."""

from __future__ import annotations

from pathlib import Path

from masu.plan import header

ROOT = Path(__file__).parents[2]


def test_operations_header() -> None:
    assert (ROOT / "native/launch/ops.h").read_text() == header.render(), (
        "PYTHONPATH=src python -m masu.plan.header > native/launch/ops.h"
    )
