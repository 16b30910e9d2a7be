"""What the registry's tests share, and that no example of hypothesis is timed: a machine may be busy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from registrycases import clean_environment
from registryfixture import FaultyRegistry

settings.register_profile("masu", deadline=None)
settings.load_profile("masu")


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
