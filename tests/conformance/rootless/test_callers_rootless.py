"""Buildah and Podman of a user without root, with masu-oci as their runtime: what test_callers_podman.py leaves out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from harness.callers.archives import archive
from harness.callers.podman import MACHINE
from harness.programs import peer
from harness.rootless import CHECKOUT, SUBIDS, UID, RootlessRuntime, User, require

pytestmark = pytest.mark.root

HELPERS = ("/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid")
OURS = f"{CHECKOUT}/masu-oci"


class Caller(RootlessRuntime):
    """podman or buildah, with storage that needs no overlays; `image` is busybox as an archive."""

    def __init__(self, name: str, user: User) -> None:
        super().__init__(name, user)
        self.command = [peer(name), "--root", f"{user.home}/storage", "--runroot", f"{user.runtime_directory}/storage"]
        self.command += ["--storage-driver", "vfs"]
        archive("busybox", user.home)
        user.own(user.home)
        self.image = f"oci-archive:{user.home}/busybox.tar"

    def close(self) -> None:
        pass


@pytest.fixture
def buildah(user: User) -> Iterator[Caller]:
    require(*HELPERS)
    it = Caller("buildah", user)
    yield it
    it("rm", "--all")
    _remove_storage(it)


@pytest.fixture
def podman(user: User) -> Iterator[Caller]:
    require(*HELPERS)
    peer("conmon")
    it = Caller("podman", user)
    (user.home / "containers.conf").write_text(MACHINE)
    user.more_environment["CONTAINERS_CONF"] = str(user.home / "containers.conf")
    it.command += ["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", OURS]
    it("load", "-q", "-i", f"{user.home}/busybox.tar")
    it("tag", "localhost/latest", "busybox")
    yield it
    it("pod", "rm", "-fa", "-t", "0")
    it("rm", "-fa", "-t", "0")
    it("system", "migrate")  # ends the process that keeps its user namespace
    _remove_storage(it)


def _remove_storage(caller: Caller) -> None:
    """Files of subordinate ids are root's to remove, in the first user namespace."""
    subprocess.run(["rm", "-rf", *(str(caller.user.home / name) for name in ("storage", ".local"))], check=True)


@pytest.mark.parametrize("isolation", ["oci", "rootless"])
def test_buildah_run(buildah: Caller, isolation: str) -> None:
    buildah("from", "--name", "w", buildah.image)
    run = ["run", "--isolation", isolation, "--runtime", OURS, "--network", "none", "w", "--", "sh", "-c"]
    said = buildah(*run, "id -u; cat /proc/self/uid_map; touch /made; chown 7:8 /made; stat -c %u:%g /made").stdout
    who, own, ranges, made = (line.split() for line in said.splitlines())
    assert (who, own, ranges) == (["0"], ["0", str(UID), "1"], ["1", str(SUBIDS[0]), str(SUBIDS[1])])
    assert made == ["7:8"]
    failed = buildah(*run, "exit 5", check=False)
    assert (failed.returncode, "exit status 5" in failed.stderr) == (5, True)


def test_buildah_build(buildah: Caller) -> None:
    file = buildah.user.home / "Dockerfile"
    file.write_text(f"FROM {buildah.image}\nRUN id -u > /made && cat /made\nUSER 7\nRUN id -u; exit $((9 - 9))\n")
    build = ["build", "--runtime", OURS, "--network", "none", "-f", str(file)]
    said = buildah(*build, str(buildah.user.runtime_directory))
    assert [line for line in said.stdout.splitlines() if line in ("0", "7")] == ["0", "7"]


def run(podman: Caller, *options: str, command: list[str], **more: Any) -> str:
    return podman("run", "--rm", "--network", "none", *options, "busybox", *command, **more).stdout


def test_podman_in_user_namespaces_of_its_own(podman: Caller) -> None:
    """Below the one in which Podman itself is root."""
    said = run(podman, "--uidmap", "0:1:5000", "--gidmap", "0:1:5000", command=["cat", "/proc/self/uid_map"])
    assert said.split() == ["0", "1", "5000"]
    said = run(podman, "--userns", "keep-id", command=["sh", "-c", "id -u; touch /tmp/x; stat -c %u /tmp/x"])
    assert said.split() == [str(UID), str(UID)]


def test_podman_pod(podman: Caller) -> None:
    podman("pod", "create", "--name", "pea", "--network", "none", "--share", "net,ipc,uts,pid")
    podman("run", "-d", "--pod", "pea", "--name", "one", "busybox", "sleep", "999")
    assert "sleep 999" in podman("run", "--rm", "--pod", "pea", "busybox", "ps").stdout
    assert podman("exec", "-u", "7:8", "one", "id", "-u").stdout == "7\n"
    assert "sleep 999" in podman("top", "one", "args").stdout
    podman("pod", "stop", "-t", "0", "pea")
