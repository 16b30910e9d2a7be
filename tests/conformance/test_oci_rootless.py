"""Run by a user without root: his one id or subordinate ids, with a delegated cgroup or none."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, wait_exited
from harness.pty import Terminal
from harness.rootless import CHECKOUT, GID, NAME, SUBIDS, UID, RootlessRuntime, User, bind, map_ids, require
from images.rootfs import copy
from images.rootfs import rootfs as image

pytestmark = pytest.mark.root

HELPERS = ("/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid")


@pytest.fixture
def user() -> Iterator[User]:
    it = User()
    yield it
    it.close()


@pytest.fixture(params=["masu-oci", "runc"])
def runtime(request: pytest.FixtureRequest, user: User) -> Iterator[Runtime]:
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


def sleeping(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]


def with_ranges(config: dict[str, Any]) -> None:
    require(*HELPERS)
    map_ids(config, ranges=True)


def sleeping_with_ranges(config: dict[str, Any]) -> None:
    sleeping(config)
    with_ranges(config)


def refusal(runtime: Runtime, rootfs: Path, change: Any) -> str:
    """What `run` says when it refuses; nothing of the container is left then."""
    done = runtime.run(rootfs, "exit", "0", change=change, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert not runtime.root.exists() or os.listdir(runtime.root) == []
    return str(done.stderr).replace('\\"', '"')  # as the log quotes it


# --- ids


@pytest.mark.parametrize("change", [sleeping, sleeping_with_ranges], ids=["single id", "ranges"])
def test_the_whole_life(runtime: Runtime, rootfs: Path, change: Any) -> None:
    id = runtime.id()
    runtime("create", "--bundle", str(runtime.bundle(rootfs, change)), id)
    state = runtime.state(id)
    assert state["status"] == "created"
    pid = state["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == UID  # its user may look at its namespaces, before it runs as well
    runtime("start", id)
    assert runtime.state(id)["status"] == "running"
    (entry,) = json.loads(runtime("list", "--format", "json").stdout)
    assert (entry["id"], entry["owner"]) == (id, NAME)
    assert runtime("exec", id, "/bin/probe", "echo", "inside").stdout == "inside\n"
    runtime("kill", id, "KILL")
    wait_exited(pid)
    assert runtime.state(id)["status"] == "stopped"
    runtime("delete", id)
    assert runtime("list", "-q").stdout == ""


def test_a_single_id(runtime: Runtime, rootfs: Path) -> None:
    said = runtime.run(rootfs, "id", "--", "cat", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups")
    who, uid_map, gid_map, setgroups = said.stdout.splitlines()
    assert who == "uid=0 euid=0 gid=0 egid=0 umask=0022 groups="
    assert (uid_map.split(), gid_map.split()) == (["0", str(UID), "1"], ["0", str(GID), "1"])
    assert setgroups == "deny"


def test_subordinate_ids(masu_oci: Runtime, rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        with_ranges(config)
        # runc gives no supplementary groups to a container of a user, though it could.
        config["process"]["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}

    said = masu_oci.run(rootfs, "id", "--", "cat", "/proc/self/uid_map", "/proc/self/setgroups", change=change)
    who, own, ranges, setgroups = said.stdout.splitlines()
    assert who == "uid=7 euid=7 gid=8 egid=8 umask=0022 groups=9"
    assert (own.split(), ranges.split()) == (["0", str(UID), "1"], ["1", str(SUBIDS[0]), str(SUBIDS[1])])
    assert setgroups == "allow"


def test_the_own_id_need_not_be_root(masu_oci: Runtime, rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        for name in ("uidMappings", "gidMappings"):
            config["linux"][name][0]["containerID"] = 1000
        config["process"]["user"] = {"uid": 1000, "gid": 1000}
        sleeping(config)

    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, change)), id)
    assert masu_oci("exec", id, "/bin/probe", "id").stdout.startswith("uid=1000 euid=1000 gid=1000 egid=1000 ")


def test_ids_that_are_not_the_users(masu_oci: Runtime, rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        with_ranges(config)
        config["linux"]["gidMappings"][1]["hostID"] = 400000

    said = refusal(masu_oci, rootfs, change)
    assert "newgidmap" in said
    assert f'/etc/subgid would need the line "{NAME}:400000:65536"' in said
    assert f"usermod --add-subgids 400000-465535 {NAME}" in said


def test_the_helpers_are_not_installed(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    require(*HELPERS)
    masu_oci.user.prepare.append(lambda: bind("/dev/null", "/usr/bin/newuidmap"))
    said = refusal(masu_oci, rootfs, with_ranges)
    assert "newuidmap" in said
    assert "install the package uidmap" in said


def test_groups_of_the_caller_cannot_be_dropped_nor_others_taken(masu_oci: Runtime, rootfs: Path) -> None:
    said = refusal(masu_oci, rootfs, lambda c: c["process"].update(user={"uid": 0, "gid": 0, "additionalGids": [0]}))
    assert "process.user" in said
    assert "setgroups" in said


def test_a_user_that_is_not_mapped(masu_oci: Runtime, rootfs: Path) -> None:
    said = refusal(masu_oci, rootfs, lambda c: c["process"].update(user={"uid": 5, "gid": 0}))
    assert "process.user" in said
    assert "not mapped" in said


REFUSED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "no user namespace": (
        lambda c: (c["linux"]["namespaces"].pop(), c["linux"].pop("uidMappings"), c["linux"].pop("gidMappings")),
        ("linux.namespaces", "rootless container requires user namespaces")),
    "no mapping": (
        lambda c: c["linux"].pop("gidMappings"), ("linux.gidMappings", "no gid mappings found")),
    "group of a devpts": (
        lambda c: c["mounts"][2]["options"].append("gid=5"),
        ("mounts[2].options[5]", "cannot specify gid= mount option for rootless container")),
    "sysfs of the host's network": (
        lambda c: (c["linux"]["namespaces"].pop(1),
                   c["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs"})),
        ("mounts[4]", "EPERM", "network namespace")),
    "queues of the host": (
        lambda c: (c["linux"]["namespaces"].pop(2),
                   c["mounts"].append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"})),
        ("mounts[4]", "EPERM", "ipc namespace")),
    "a hard limit": (
        lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1 << 22}]),
        ("process.rlimits[0]", "EPERM", "CAP_SYS_RESOURCE")),
    "a better chance": (
        lambda c: c["process"].update(oomScoreAdj=-999), ("process.oomScoreAdj", "EACCES", "CAP_SYS_RESOURCE")),
    "a limit without a cgroup": (
        lambda c: c["linux"].update(resources={"memory": {"limit": 64 << 20}}),
        ("linux.resources.memory.limit", "cannot set memory limit")),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(masu_oci: Runtime, rootfs: Path, what: str) -> None:
    change, words = REFUSED[what]
    said = refusal(masu_oci, rootfs, change)
    assert [word for word in words if word not in said] == [], said


# --- the starter configuration, the terminal


def test_what_spec_writes_runs_as_it_is(runtime: RootlessRuntime) -> None:
    runtime.user.own(copy(image("busybox"), runtime.folder / "rootfs"))
    runtime("spec", "--rootless")
    command = [*runtime.command, "run", runtime.id()]
    become = runtime.user.become
    with Terminal(command, become=become, env=runtime.user.environment, cwd=runtime.folder) as terminal:
        terminal.wait_for("# ")
        terminal.type("tty; stty size; id -u; ls -d /sys/fs/cgroup/*\r")
        said = terminal.wait_for("24 80")
        assert "/dev/pts/0" in said
        terminal.type("exit 4\r")
        terminal.rest()
        assert terminal.wait() == 4


# --- state


def test_the_state_is_the_users(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    default = [f"{CHECKOUT}/masu-oci"]
    masu_oci.command = default
    masu_oci("create", "--bundle", str(masu_oci.bundle(rootfs, sleeping)), masu_oci.id())
    folder = masu_oci.user.runtime_directory / "masu/oci"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1700
    assert (folder.stat().st_uid, os.listdir(folder)) == (UID, masu_oci.ids)


def test_without_a_runtime_directory(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    masu_oci.command = [f"{CHECKOUT}/masu-oci"]
    environment = {**masu_oci.user.environment, "XDG_RUNTIME_DIR": ""}
    bundle = str(masu_oci.bundle(rootfs))
    refused = masu_oci("create", "--bundle", bundle, "masu-test-nobody", env=environment, check=False)
    assert refused.returncode == 1
    assert "XDG_RUNTIME_DIR" in refused.stderr


# --- without a cgroup


def test_without_a_cgroup(masu_oci: Runtime, rootfs: Path) -> None:
    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, sleeping)), id)
    masu_oci("exec", "-d", id, "/bin/probe", "sleep")
    pids = json.loads(masu_oci("ps", "-f", "json", id).stdout)
    assert len(pids) == 2
    assert masu_oci.state(id)["pid"] in pids
    for verb in (["pause"], ["update", "--memory", "64000000"], ["events", "--stats"]):
        refused = masu_oci(verb[0], *verb[1:], id, check=False)
        assert refused.returncode == 1
        assert "cgroup" in refused.stderr, refused.stderr
    masu_oci("kill", "--all", id, "KILL")
    for pid in pids:
        wait_exited(pid)
    masu_oci("delete", id)
