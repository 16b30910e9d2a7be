"""Debian's ctr pulls from and pushes to a registry through masud, and both engines see the same images."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import images
import pytest
from harness.engine import Masu
from harness.masud import COLLECT_WHEN_ASKED, Masud
from registryfixture import DockerRegistry, docker_registry

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if docker_registry() is None:
        pytest.skip("docker-registry is not installed")
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as it:
        images.push("busybox", it.host)
        yield it.host


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masud]:
    with Masud(tmp_path_factory.mktemp("masud"), "version = 3\n" + COLLECT_WHEN_ASKED) as it:
        yield it


@pytest.fixture
def masu(masud: Masud) -> Iterator[Masu]:
    """The command on the same state."""
    it = Masu(masud.folder)
    yield it
    it.close()


def test_pull_unpacks_and_is_seen_by_masu(masud: Masud, masu: Masu, registry: str) -> None:
    name = f"{registry}/library/busybox:latest"
    said = masud("images", "pull", "--plain-http", name)
    assert "unpacking linux/" in said
    assert "done" in said.splitlines()[-1]
    assert "complete" in masud("images", "check")
    assert name in masu("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    # A second time nothing is brought.
    assert "done" in masud("images", "pull", "--plain-http", name).splitlines()[-1]
    assert masu("run", "--rm", name, "echo", "hello") == "hello\n"


def test_push_and_pull_again(masud: Masud, registry: str) -> None:
    name = f"{registry}/library/busybox:latest"
    masud("images", "pull", "--plain-http", name)
    digest = next(line.split()[2] for line in masud("images", "ls").splitlines() if line.startswith(name))
    masud("images", "push", "--plain-http", f"{registry}/pushed/busybox:1", name)
    masud("images", "pull", "--plain-http", f"{registry}/pushed/busybox:1", namespace="other")
    (line,) = masud("images", "ls", namespace="other").splitlines()[1:]
    assert line.split()[2] == digest


def test_image_that_is_not_there(masud: Masud, registry: str) -> None:
    said = masud.fails("images", "pull", "--plain-http", f"{registry}/library/nothing:1")
    assert "not found" in said
    assert masud("images", "ls", "-q", "name~=nothing") == ""


def test_many_pulls_of_one_image_at_once(masud: Masud, registry: str) -> None:
    name, failed = f"{registry}/library/busybox:latest", []

    def pull(number: int) -> None:
        done = masud.try_("images", "pull", "--plain-http", name, namespace=f"many{number % 2}")
        if done.returncode != 0:
            failed.append(done.stderr)

    threads = [threading.Thread(target=pull, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for number in range(2):
        assert len(masud("snapshots", "ls", namespace=f"many{number}").splitlines()) == 2


def test_what_masu_has_loaded_is_seen_by_ctr(masud: Masud, masu: Masu) -> None:
    masu("tag", masu.image("busybox"), "given/by:masu")
    assert "docker.io/given/by:masu" in masud("images", "ls", "-q").split()
    masud("containers", "create", "--snapshotter", "overlayfs", "docker.io/given/by:masu", "by-ctr", "true")
    assert "docker.io/given/by:masu" in masud("containers", "ls")
    masud("containers", "rm", "by-ctr")


def test_a_collection_takes_what_nobody_refers_to(masud: Masud) -> None:
    digest = f"sha256:{hashlib.sha256(b'text').hexdigest()}"
    masud("content", "ingest", "ref", input=b"text", namespace="gc")
    masud("content", "label", digest, "containerd.io/gc.root=now", namespace="gc")

    def collect() -> None:
        masud("leases", "create", "--id", "nothing", namespace="gc")
        masud("leases", "rm", "--sync", "nothing", namespace="gc")

    collect()
    assert masud("content", "ls", "-q", namespace="gc").split() == [digest]
    masud("content", "label", digest, "containerd.io/gc.root=", namespace="gc")
    collect()
    assert masud("content", "ls", "-q", namespace="gc") == ""
