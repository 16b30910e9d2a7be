"""Each test that asks for `runtime` runs on masu-oci and on the peers of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.chaos import Brood
from harness.oci import Runtime


@pytest.fixture(params=["masu-oci", "runc"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    it = Runtime(request.param, tmp_path)
    yield it
    it.close()


@pytest.fixture
def masu_oci(tmp_path: Path) -> Iterator[Runtime]:
    it = Runtime("masu-oci", tmp_path)
    yield it
    it.close()


@pytest.fixture
def brood() -> Iterator[Brood]:
    with Brood() as it:
        yield it
