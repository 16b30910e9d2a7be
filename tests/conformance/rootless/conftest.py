"""Here `runtime` and `masu_oci` are called by a user without root, and `rootfs` is his."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.rootless import RootlessRuntime, User


@pytest.fixture
def user() -> Iterator[User]:
    it = User()
    yield it
    it.close()


@pytest.fixture(params=["masu-oci", "runc"])
def runtime(request: pytest.FixtureRequest, user: User) -> Iterator[RootlessRuntime]:
    it = RootlessRuntime(request.param, user)
    yield it
    it.close()


@pytest.fixture
def masu_oci(user: User) -> Iterator[RootlessRuntime]:
    it = RootlessRuntime("masu-oci", user)
    yield it
    it.close()


@pytest.fixture
def rootfs(probe_rootfs: Path, user: User) -> Path:
    return user.own(Path(shutil.copytree(probe_rootfs, user.home / "rootfs")))
