from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.oci import Runtime

# Its assertions should tell what they saw, like those of the tests.
pytest.register_assert_rewrite("kernel.security.staging")

from kernel.security.staging import Outside  # noqa: E402


@pytest.fixture
def masu_oci(tmp_path: Path) -> Iterator[Runtime]:
    it = Runtime("masu-oci", tmp_path)
    yield it
    it.close()


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    """A directory of the host that no container may change, nor see."""
    return Outside(tmp_path / "outside")
