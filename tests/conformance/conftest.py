"""Each test that asks for `runtime` runs on masu-oci and on the peers of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.brain import Installation
from harness.callers import at_work
from harness.callers.buildah import Buildah
from harness.callers.containerd import Containerd, Shims
from harness.callers.docker import Docker
from harness.callers.podman import Podman
from harness.chaos import Brood, Chaos
from harness.checkpoints import Talk
from harness.oci import Runtime
from images.rootfs import copy, rootfs


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


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    """A masu with busybox, its containers killed and raced for."""
    it = Chaos(tmp_path_factory.mktemp("chaos"))
    it.image("busybox")
    yield it
    it.close()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A masu with a brain of its own (harness.brain)."""
    with Installation(tmp_path_factory.mktemp("brain")) as it:
        yield it


@pytest.fixture(scope="session")
def busybox() -> Path:
    return rootfs("busybox")


@pytest.fixture
def own_busybox(busybox: Path, tmp_path: Path) -> Path:
    return copy(busybox, tmp_path / "own-rootfs")


@pytest.fixture
def talks() -> Iterator[Callable[[], Talk]]:
    made: list[Talk] = []

    def make() -> Talk:
        made.append(Talk())
        return made[-1]

    yield make
    for talk in made:
        talk.close()


# Of a file of tests each, for a daemon is slow to come up; tests/conformance/rootless has its own.


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with at_work(Docker, tmp_path_factory) as it:
        yield it


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with at_work(Podman, tmp_path_factory) as it:
        yield it


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with at_work(Containerd, tmp_path_factory) as it:
        yield it


@pytest.fixture(scope="module")
def shims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shims]:
    with at_work(Shims, tmp_path_factory) as it:
        yield it


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    with at_work(Buildah, tmp_path_factory) as it:
        yield it
