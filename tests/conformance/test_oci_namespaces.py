"""User and time namespaces, namespaces joined by path, idmapped mounts, network devices."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime

pytestmark = pytest.mark.root

Change = Callable[[dict[str, Any]], object]

FIRST = 100_000
MAP = [{"containerID": 0, "hostID": FIRST, "size": 65536}]


@pytest.fixture
def mapped_rootfs(own_probe_rootfs: Path) -> Path:
    """A root file system that belongs to the mapped root, below a directory which that root cannot walk through."""
    for path in (own_probe_rootfs, *own_probe_rootfs.rglob("*")):
        os.chown(path, FIRST, FIRST)
    own_probe_rootfs.parent.chmod(0o700)
    return own_probe_rootfs


def with_userns(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"].update(uidMappings=MAP, gidMappings=MAP)


def sleeping(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]


def both(*changes: Change) -> Change:
    def change(config: dict[str, Any]) -> None:
        for each in changes:
            each(config)

    return change


def test_user_namespace(masu_oci: Runtime, mapped_rootfs: Path) -> None:
    seen = masu_oci.run(
        mapped_rootfs, "id", "--", "cat", "/proc/self/uid_map", "--", "cat", "/proc/self/gid_map", "--", "create",
        "/tmp/mine", "x", "--", "mode", "/dev/null", change=with_userns,
    ).stdout.splitlines()  # fmt: skip
    assert seen[0].startswith("uid=0 euid=0 gid=0 egid=0")
    assert seen[1].split() == seen[2].split() == ["0", str(FIRST), "65536"]
    assert seen[3] == "ok"
    # The host's node, bound: mknod(2) is not for a mapped root.
    assert seen[4].split()[0] == "c"
    assert seen[4].endswith("1:3")
    assert (mapped_rootfs / "tmp/mine").stat().st_uid == FIRST


def test_a_device_of_the_host_stays_the_hosts(masu_oci: Runtime, mapped_rootfs: Path, tmp_path: Path) -> None:
    """Root of a user namespace gets the node with the host's owner and mode, whatever config.json says of them: callers
    list every device of the machine for a privileged container, the disks among them (KEP-127)."""
    disk = tmp_path / "disk"
    os.mknod(disk, 0o020600, os.makedev(1, 5))

    def change(config: dict[str, Any]) -> None:
        with_userns(config)
        config["linux"]["devices"] = [
            {"path": str(disk), "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0}
        ]

    seen = masu_oci.run(mapped_rootfs, "mode", str(disk), "--", "open", str(disk), "r", change=change).stdout
    node, opened = seen.splitlines()
    assert node.split()[0] == "c"
    assert node.endswith("1:5")
    assert opened == "ERROR EACCES"


def test_user_namespace_as_another_user(masu_oci: Runtime, mapped_rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        with_userns(config)
        config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [2000]}

    seen = masu_oci.run(mapped_rootfs, "id", change=change).stdout
    assert seen.startswith("uid=1000 euid=1000 gid=1000 egid=1000")
    assert seen.rstrip().endswith("groups=2000")


def test_exec_in_a_user_namespace(masu_oci: Runtime, mapped_rootfs: Path) -> None:
    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(mapped_rootfs, both(with_userns, sleeping))), id)
    pid = masu_oci.state(id)["pid"]
    assert masu_oci("exec", id, "/bin/probe", "id").stdout.startswith("uid=0 euid=0")
    assert masu_oci("exec", "-u", "5:6", id, "/bin/probe", "id").stdout.startswith("uid=5 euid=5 gid=6 egid=6")
    inside = dict(line.split() for line in masu_oci("exec", id, "/bin/probe", "ns").stdout.splitlines())
    for name in ("user", "mnt", "pid", "net", "uts", "ipc"):
        assert inside[name] == os.readlink(f"/proc/{pid}/ns/{name}")


def test_limits_in_a_user_namespace(masu_oci: Runtime, mapped_rootfs: Path) -> None:
    """A low limit of files is the program's, not of those who prepare for it."""

    def change(config: dict[str, Any]) -> None:
        with_userns(config)
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}]
        config["mounts"] += [
            {"destination": f"/home/{n}", "source": str(mapped_rootfs / "etc"), "options": ["bind"]} for n in range(20)
        ]

    lines = masu_oci.run(mapped_rootfs, "rlimits", change=change).stdout.splitlines()
    assert "RLIMIT_NOFILE 5 6" in lines


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid", "user"])
def test_joined_namespace(masu_oci: Runtime, mapped_rootfs: Path, kind: str) -> None:
    first = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(mapped_rootfs, both(with_userns, sleeping))), first)
    pid = masu_oci.state(first)["pid"]
    file = {"network": "net"}.get(kind, kind)

    def join(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{pid}/ns/user"})
        for space in config["linux"]["namespaces"]:
            if space["type"] == kind:
                space["path"] = f"/proc/{pid}/ns/{file}"
        config.pop("hostname")

    seen = masu_oci.run(mapped_rootfs, "ns", change=join).stdout
    inside = dict(line.split() for line in seen.splitlines())
    assert inside[file] == os.readlink(f"/proc/{pid}/ns/{file}")
    assert inside["mnt"] != os.readlink(f"/proc/{pid}/ns/mnt")


def test_mappings_beside_a_joined_user_namespace(masu_oci: Runtime, mapped_rootfs: Path) -> None:
    """containerd and CRI-O give them: nothing is said unless they are others than the namespace's own."""
    first = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(mapped_rootfs, both(with_userns, sleeping))), first)
    pid = masu_oci.state(first)["pid"]

    def join(config: dict[str, Any]) -> None:
        with_userns(config)
        config["linux"]["namespaces"][-1]["path"] = f"/proc/{pid}/ns/user"

    def other(config: dict[str, Any]) -> None:
        config["linux"]["gidMappings"] = [MAP[0] | {"size": 5}]

    words = ("cat", "/proc/self/gid_map")
    same = masu_oci.run(mapped_rootfs, *words, change=join)
    assert same.stderr == ""
    warned = masu_oci.run(mapped_rootfs, *words, change=both(join, other))
    assert f"linux.gidMappings: the user namespace /proc/{pid}/ns/user has others, which count" in warned.stderr
    assert same.stdout.split() == warned.stdout.split() == ["0", str(FIRST), "65536"]


def test_namespace_of_another_kind(masu_oci: Runtime, probe_rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"][1] = {"type": "network", "path": "/proc/self/ns/ipc"}

    refused = masu_oci("run", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert "linux.namespaces[1].path" in refused.stderr


@pytest.mark.parametrize("mapped", [False, True], ids=["plain", "with a user namespace"])
def test_time_namespace(masu_oci: Runtime, mapped_rootfs: Path, mapped: bool) -> None:
    def change(config: dict[str, Any]) -> None:
        if mapped:
            with_userns(config)
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {
            "monotonic": {"secs": 7881, "nanosecs": 2718281},
            "boottime": {"secs": 1337, "nanosecs": 3141519},
        }

    lines = masu_oci.run(mapped_rootfs, "cat", "/proc/self/timens_offsets", change=change).stdout.splitlines()
    assert [line.split() for line in lines] == [["monotonic", "7881", "2718281"], ["boottime", "1337", "3141519"]]


class Owned:
    """A directory with one file of a host user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "file").write_text("")
        os.chown(folder / "file", 5, 6)

    def mount(self, **more: Any) -> dict[str, Any]:
        return {"destination": "/home", "type": "bind", "source": str(self.folder), **more}


@pytest.fixture
def owned(tmp_path: Path) -> Owned:
    return Owned(tmp_path / "owned")


def owner(runtime: Runtime, rootfs: Path, change: Change) -> str:
    """uid:gid of /home/file as the container sees it."""
    return runtime.run(rootfs, "mode", "/home/file", change=change).stdout.split()[2]


def test_idmapped_mount(masu_oci: Runtime, probe_rootfs: Path, owned: Owned) -> None:
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    entry = owned.mount(options=["bind"], uidMappings=mapping, gidMappings=mapping)
    assert owner(masu_oci, probe_rootfs, lambda config: config["mounts"].append(entry)) == "1005:1006"


def test_idmap_option_takes_the_containers_mapping(masu_oci: Runtime, mapped_rootfs: Path, owned: Owned) -> None:
    plain, mapped = owned.mount(options=["bind"]), owned.mount(options=["bind", "idmap"])
    assert owner(masu_oci, mapped_rootfs, both(with_userns, lambda c: c["mounts"].append(plain))) == "65534:65534"
    assert owner(masu_oci, mapped_rootfs, both(with_userns, lambda c: c["mounts"].append(mapped))) == "5:6"


def test_idmap_option_takes_a_joined_namespaces_mapping(masu_oci: Runtime, mapped_rootfs: Path, owned: Owned) -> None:
    first = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(mapped_rootfs, both(with_userns, sleeping))), first)
    pid = masu_oci.state(first)["pid"]

    def join(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{pid}/ns/user"})
        config["mounts"].append(owned.mount(options=["bind", "idmap"]))

    assert owner(masu_oci, mapped_rootfs, join) == "5:6"


def test_idmap_without_any_mapping(masu_oci: Runtime, probe_rootfs: Path, owned: Owned) -> None:
    bundle = masu_oci.bundle(probe_rootfs, lambda c: c["mounts"].append(owned.mount(options=["bind", "idmap"])))
    refused = masu_oci("run", "--bundle", str(bundle), masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert "mounts[4].uidMappings: " in refused.stderr
    assert "must have both uid and gid mappings" in refused.stderr


@pytest.fixture
def device() -> Iterator[str]:
    """One end of a veth pair on the host; the pair goes with it."""
    name = "mt" + uuid.uuid4().hex[:8]
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", name + "p"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name + "p"], check=False, capture_output=True)


def test_network_device(masu_oci: Runtime, probe_rootfs: Path, device: str) -> None:
    subprocess.run(["ip", "address", "add", "192.0.2.7/24", "dev", device], check=True)

    def change(config: dict[str, Any]) -> None:
        config["linux"]["netDevices"] = {device: {"name": "inside0"}}

    seen = masu_oci.run(probe_rootfs, "cat", "/proc/net/dev", "--", "cat", "/proc/net/fib_trie", change=change).stdout
    assert "inside0:" in seen
    assert "192.0.2.7" in seen


def test_network_device_that_is_not_there(masu_oci: Runtime, probe_rootfs: Path) -> None:
    bundle = masu_oci.bundle(probe_rootfs, lambda c: c["linux"].update(netDevices={"mtnone0": {}}))
    refused = masu_oci("run", "--bundle", str(bundle), masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert "linux.netDevices" in refused.stderr
    assert "mtnone0" in refused.stderr
