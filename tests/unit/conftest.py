"""What the registry's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registrycases import clean_environment
from registryfixture import FaultyRegistry


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch, tmp_path)


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as found:
        yield found


@pytest.fixture
def other() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as found:
        yield found
