"""mounts add, mounts remove: on a container that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, wait_exited

pytestmark = pytest.mark.root


def sleeping(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]


def mapped(config: dict[str, Any]) -> None:
    sleeping(config)
    config["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}


def mounts_file(runtime: Runtime, mounts: object) -> str:
    path = runtime.folder / "mounts.json"
    path.write_text(json.dumps(mounts))
    return str(path)


def started(runtime: Runtime, rootfs: Path, change: Any = sleeping) -> tuple[str, int]:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, change)), id)
    return id, runtime.state(id)["pid"]


def inside(pid: int) -> dict[str, str]:
    """{mount point: options and file system type} as the container has them."""
    found = {}
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        found[fields[4]] = f"{fields[5]} {fields[fields.index('-') + 1]}"
    return found


@pytest.mark.parametrize("change", [sleeping, mapped])
def test_add_and_remove(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path, change: Any) -> None:
    own_probe_rootfs.chmod(0o755)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("from the host\n")
    id, pid = started(masu_oci, own_probe_rootfs, change)
    before = inside(pid)
    wanted = [
        {"destination": "/tmp/fresh", "type": "tmpfs", "source": "tmpfs", "options": ["size=4k", "nosuid"]},
        {"destination": "/tmp/fresh/bound", "type": "bind", "source": str(source), "options": ["rbind", "ro"]},
        {"destination": "/tmp/single", "type": "bind", "source": str(source / "file"), "options": ["bind"]},
    ]
    own = Path("/proc/self/mountinfo").read_text()
    (own_probe_rootfs / "tmp").chmod(0o777)
    masu_oci("mounts", "add", id, mounts_file(masu_oci, wanted))
    added = inside(pid)
    assert set(added) - set(before) == {"/tmp/fresh", "/tmp/fresh/bound", "/tmp/single"}
    assert added["/tmp/fresh"].endswith("tmpfs")
    assert "nosuid" in added["/tmp/fresh"]
    assert added["/tmp/fresh/bound"].startswith("ro")
    assert masu_oci("exec", id, "/bin/probe", "cat", "/tmp/fresh/bound/file").stdout == "from the host\n"
    assert masu_oci("exec", id, "/bin/probe", "cat", "/tmp/single").stdout == "from the host\n"
    masu_oci("mounts", "remove", id, mounts_file(masu_oci, [{"destination": mount["destination"]} for mount in wanted]))
    assert inside(pid) == before
    assert Path("/proc/self/mountinfo").read_text() == own


def test_a_symlink_of_the_container_leads_nowhere_else(
    masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path
) -> None:
    (own_probe_rootfs / "way").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    id, pid = started(masu_oci, own_probe_rootfs)
    masu_oci("mounts", "add", id, mounts_file(masu_oci, [{"destination": "/way/x", "type": "tmpfs", "source": "t"}]))
    assert f"{tmp_path}/outside/x" in inside(pid)
    assert not list((tmp_path / "outside").iterdir())


def test_misuse(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id, pid = started(masu_oci, probe_rootfs)
    before = inside(pid)
    for arguments, text in (
        (["add", id, "/nonexistent"], "/nonexistent"),
        (["swap", id, "/nonexistent"], "allowed are add, remove"),
        (["add", id, mounts_file(masu_oci, {})], "a list is wanted"),
        (["add", "nobody", "/nonexistent"], "container does not exist"),
    ):
        refused = masu_oci("mounts", *arguments, check=False)
        assert refused.returncode == 1
        assert text in refused.stderr
    for mounts, text in (
        ([{"destination": "/nothing/here"}], "mounts[0].destination"),
        ([{"destination": "/tmp"}], "nothing is mounted on /tmp"),
        ([{"type": "tmpfs"}], "mounts[0].destination"),
    ):
        refused = masu_oci("mounts", "remove", id, mounts_file(masu_oci, mounts), check=False)
        assert refused.returncode == 1
        assert text in refused.stderr
    bind = {"destination": "/tmp/x", "type": "bind", "source": "/nonexistent", "options": ["bind"]}
    refused = masu_oci("mounts", "add", id, mounts_file(masu_oci, [bind]), check=False)
    assert "mounts[0].source" in refused.stderr
    assert "/nonexistent" in refused.stderr
    assert inside(pid) == before
    masu_oci("kill", id, "KILL")
    wait_exited(pid)
    refused = masu_oci("mounts", "add", id, mounts_file(masu_oci, []), check=False)
    assert "container not running" in refused.stderr
