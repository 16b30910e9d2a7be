"""A user without root to whom cgroups are delegated: on v1 and hybrid machines, and on v2 alone (tests/vm)."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import wait_exited
from harness.rootless import GID, UID, RootlessRuntime, User

from masu.linux.cgroups import Cgroup, detect
from masu.linux.cgroups.layout import parse_proc_cgroup

pytestmark = pytest.mark.root

MIB = 1 << 20


class Delegated:
    """A cgroup of the user's, and in it the one in which his commands run."""

    def __init__(self, user: User) -> None:
        self.top = f"/masu-test-{uuid.uuid4().hex[:8]}"
        self.session = Cgroup.create(f"{self.top}/session", "session")
        for path in self.session.paths().values():
            self.give(path)
            self.give(os.path.dirname(path))
        user.prepare.append(self.enter)

    def give(self, directory: str) -> None:
        """As cgroups(7), "Delegating a hierarchy", has it."""
        os.chown(directory, UID, GID)
        for name in ("tasks", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            if os.path.exists(f"{directory}/{name}"):
                os.chown(f"{directory}/{name}", UID, GID)

    def enter(self) -> None:
        for file in self.session.join_files():
            Path(file).write_text("0")

    def close(self) -> None:
        self.session.kill()
        self.session.delete(parents=1)


@pytest.fixture
def delegated(user: User) -> Iterator[Delegated]:
    it = Delegated(user)
    yield it
    it.close()


def limited(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]
    config["linux"]["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}


def limit(group: Cgroup, v1: tuple[str, str], v2: str) -> str:
    controller, file = v1
    name = v2 if group.mode == "v2" else file
    return Path(group.path(controller) or "", name).read_text().strip()


def cgroup_of(runtime: RootlessRuntime, id: str) -> Cgroup:
    """Where its first process is, but for hierarchies that the runtime leaves out (runc: the second of a hybrid)."""
    pid = runtime.state(id)["pid"]
    seen = detect()
    places = parse_proc_cgroup(Path(f"/proc/{pid}/cgroup").read_text())
    return Cgroup({
        controller: hierarchy.path + places[controller]
        for controller, hierarchy in seen.hierarchies().items()
        if not (runtime.name == "runc" and controller == "" and seen.mode == "hybrid")
    })  # fmt: skip


def test_the_whole_life(delegated: Delegated, runtime: RootlessRuntime, rootfs: Path) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, limited)), id)
    group = cgroup_of(runtime, id)
    for path in group.paths().values():
        assert path.endswith(f"/{id}")
    assert limit(group, ("memory", "memory.limit_in_bytes"), "memory.max") == str(64 * MIB)
    assert limit(group, ("pids", "pids.max"), "pids.max") == "20"
    runtime("exec", "-d", id, "/bin/probe", "sleep")
    assert len(json.loads(runtime("ps", "-f", "json", id).stdout)) == 2
    runtime("pause", id)
    assert runtime.state(id)["status"] == "paused"
    runtime("resume", id)
    runtime("update", "--memory", str(96 * MIB), "--pids-limit", "30", id)
    assert limit(group, ("memory", "memory.limit_in_bytes"), "memory.max") == str(96 * MIB)
    assert limit(group, ("pids", "pids.max"), "pids.max") == "30"
    stats = json.loads(runtime("events", "--stats", id).stdout)
    assert stats["data"]["memory"]["usage"]["limit"] == 96 * MIB
    assert stats["data"]["pids"]["current"] == 2
    pids = json.loads(runtime("ps", "-f", "json", id).stdout)
    runtime("kill", "--all", id, "KILL")
    for pid in pids:
        wait_exited(pid)
    runtime("delete", id)
    assert not group.exists()


@pytest.mark.parametrize("private", [False, True])
def test_what_is_seen_inside(delegated: Delegated, masu_oci: RootlessRuntime, rootfs: Path, private: bool) -> None:
    def change(config: dict[str, Any]) -> None:
        if private:
            config["linux"]["namespaces"].append({"type": "cgroup"})
        entry = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}
        config["mounts"].append(entry)

    where = "/sys/fs/cgroup" if detect().mode == "v2" else "/sys/fs/cgroup/pids"
    said = masu_oci.run(rootfs, "cat", "/proc/self/cgroup", "--", "ls", where, "--", "mkdir", f"{where}/x",
                        change=change).stdout  # fmt: skip
    own = parse_proc_cgroup("\n".join(line for line in said.splitlines() if line.count(":") == 2))
    of_pids = own.get("pids", own.get(""))
    assert of_pids is not None
    assert of_pids == "/" if private else of_pids.startswith(f"{delegated.top}/")
    assert "cgroup.procs" in said.splitlines()
    assert said.splitlines()[-1] == "ERROR EROFS"


def test_a_path_that_is_asked_for(delegated: Delegated, masu_oci: RootlessRuntime, rootfs: Path) -> None:
    def at(path: str) -> Any:
        def change(config: dict[str, Any]) -> None:
            limited(config)
            config["linux"]["cgroupsPath"] = path

        return change

    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, at(f"{delegated.top}/deep/er"))), id)
    group = cgroup_of(masu_oci, id)
    assert {path.partition(delegated.top)[2] for path in group.paths().values()} == {"/deep/er"}
    masu_oci("delete", "--force", id)
    for path in group.paths().values():
        os.rmdir(os.path.dirname(path))
    # Asked for and not to be had: that is an error, for limits and rules would be missing in silence.
    refused = masu_oci("run", "--bundle", str(masu_oci.bundle(rootfs, at("/masu-test-elsewhere"))), "x", check=False)
    assert refused.returncode == 1
    assert "linux.cgroupsPath" in refused.stderr
    assert "EACCES" in refused.stderr
    assert "delegated" in refused.stderr
    places = [f"{hierarchy.path}/masu-test-elsewhere" for hierarchy in detect().hierarchies().values()]
    assert [place for place in places if os.path.exists(place)] == []


def test_permission_is_expected_when_told_so(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    bundle = str(masu_oci.bundle(rootfs))
    masu_oci("--rootless", "true", "run", "--bundle", bundle, masu_oci.id())
    refused = masu_oci("--rootless", "false", "run", "--bundle", bundle, "x", check=False)
    assert (refused.returncode, "EACCES" in refused.stderr) == (1, True)
    refused = masu_oci("--rootless", "perhaps", "run", "--bundle", bundle, "x", check=False)
    assert refused.returncode == 1
    assert "allowed are true, false, auto" in refused.stderr


def test_as_root_of_a_user_namespace(delegated: Delegated, masu_oci: RootlessRuntime, rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        limited(config)
        config["linux"]["namespaces"].pop()
        for name in ("uidMappings", "gidMappings"):
            del config["linux"][name]

    id = masu_oci.id()
    bundle = str(masu_oci.bundle(rootfs, change))
    enter = ["unshare", "--user", "--mount", "--map-root-user", "--"]
    masu_oci.call([*enter, *masu_oci.command, "run", "-d", "--bundle", bundle, id])
    group = cgroup_of(masu_oci, id)
    assert limit(group, ("pids", "pids.max"), "pids.max") == "20"
    masu_oci.call([*enter, *masu_oci.command, "delete", "--force", id])
    assert not group.exists()


def test_where_only_the_own_cgroup_is_delegated(delegated: Delegated, masu_oci: RootlessRuntime, rootfs: Path) -> None:
    """The container comes below it; on v2 no controller is to be had there, for we are in it ourselves (cgroups(7),
    "no internal processes")."""
    if detect().mode != "v2":
        pytest.skip("on v1 a cgroup with processes in it has children with controllers")
    os.chown(os.path.dirname(delegated.session.paths()[""]), 0, 0)
    id = masu_oci.id()
    bundle = masu_oci.bundle(rootfs, lambda c: c["process"].update(args=["/bin/probe", "sleep"]))
    masu_oci("run", "-d", "--bundle", str(bundle), id)
    assert cgroup_of(masu_oci, id).path() == f"{delegated.session.path()}/{id}"
    masu_oci("delete", "--force", id)
    refused = masu_oci("run", "--bundle", str(masu_oci.bundle(rootfs, limited)), "x", check=False)
    assert refused.returncode == 1
    assert "limits need a cgroup whose ancestors hold no processes" in refused.stderr
