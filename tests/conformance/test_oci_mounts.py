"""Mounts as config.json asks for them: attributes, propagation, tmpcopyup, what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime

pytestmark = pytest.mark.root


def options_of(mountinfo: str, point: str) -> tuple[set[str], str]:
    """(options of the mount, its propagation fields) of the last mount on `point` (proc_pid_mountinfo(5))."""
    found = [line.split() for line in mountinfo.splitlines() if line.split()[4:5] == [point]]
    assert found, f"nothing is mounted on {point}:\n{mountinfo}"
    fields = found[-1]
    return set(fields[5].split(",")), " ".join(fields[6 : fields.index("-")])


def seen(
    runtime: Runtime, rootfs: Path, *mounts: dict[str, Any], point: str = "/home", **linux: Any
) -> tuple[set[str], str]:
    def change(config: dict[str, Any]) -> None:
        config["mounts"] += mounts
        config["linux"].update(linux)

    return options_of(runtime.run(rootfs, "mounts", change=change).stdout, point)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A shared mount of the host with flags of its own, another mount below it."""
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(folder)], check=True)
        (folder / "below").mkdir()
        (folder / "file").write_text("from the host\n")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder / "below")], check=True)
        subprocess.run(["mount", "-o", "remount,bind,nosuid,noexec,noatime", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-R", str(folder)], check=True)


def bind(source: Path, *options: str) -> dict[str, Any]:
    return {"destination": "/home", "type": "bind", "source": str(source), "options": list(options)}


def test_relative_source_counts_from_the_bundle(runtime: Runtime, own_probe_rootfs: Path) -> None:
    """Wherever the caller is (config.md, "Mounts")."""

    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/bin/probe", "cat", "/mnt/a/said", "/mnt/b", "/mnt/c/said"]
        for name, source in (("a", "data"), ("b", "./data/said"), ("c", "data")):
            entry = {"destination": f"/mnt/{name}", "type": "bind", "source": source, "options": ["rbind"]}
            config["mounts"].append(entry)
        del config["mounts"][-1]["options" if runtime.name == "masu-oci" else "type"]

    bundle = runtime.bundle(own_probe_rootfs, change)
    (bundle / "data").mkdir()
    (bundle / "data/said").write_text("of the bundle\n")
    assert runtime("run", "--bundle", str(bundle), runtime.id()).stdout == "of the bundle\n" * 3


def test_bind_without_attributes_keeps_the_sources(runtime: Runtime, probe_rootfs: Path, volume: Path) -> None:
    assert seen(runtime, probe_rootfs, bind(volume, "bind"))[0] >= {"rw", "nosuid", "noexec", "noatime"}


def test_bind_with_options_of_a_file_system(runtime: Runtime, own_probe_rootfs: Path, volume: Path) -> None:
    """They are ignored."""
    options = seen(runtime, own_probe_rootfs, bind(volume, "bind", "ro", "mode=755", "size=1k"))[0]
    assert "ro" in options
    if runtime.name == "masu-oci":
        said = (runtime.folder / "err").read_text()
        assert "mounts[4].options: mode=755, size=1k: bind mounts have no options of a file system; ignored" in said


CHANGES: list[tuple[list[str], set[str]]] = [
    (["ro"], {"ro", "noatime"}),
    (["dev"], {"rw", "noatime"}),
    (["nodev", "atime"], {"rw", "nodev", "noatime"}),
    (["relatime"], {"rw", "relatime"}),
    (["nodiratime"], {"rw", "nodiratime", "relatime"}),
    (["ro", "nosymfollow"], {"ro", "nosymfollow", "noatime"}),
]


@pytest.mark.parametrize(("options", "wanted"), CHANGES, ids=[",".join(options) for options, _ in CHANGES])
def test_bind_with_attributes_has_those(
    masu_oci: Runtime, probe_rootfs: Path, volume: Path, options: list[str], wanted: set[str]
) -> None:
    """What is not said is cleared; only the access time stays (runc since 1.2)."""
    assert seen(masu_oci, probe_rootfs, bind(volume, "bind", *options))[0] == wanted


def test_recursive_read_only(masu_oci: Runtime, probe_rootfs: Path, volume: Path) -> None:
    assert "ro" in seen(masu_oci, probe_rootfs, bind(volume, "rbind", "rro"), point="/home/below")[0]
    assert "rw" in seen(masu_oci, probe_rootfs, bind(volume, "rbind", "ro"), point="/home/below")[0]


def test_plain_bind_leaves_what_is_below(runtime: Runtime, probe_rootfs: Path, volume: Path) -> None:
    with pytest.raises(AssertionError, match="nothing is mounted"):
        seen(runtime, probe_rootfs, bind(volume, "bind"), point="/home/below")
    seen(runtime, probe_rootfs, bind(volume, "rbind"), point="/home/below")


@pytest.mark.parametrize(("word", "field"), [("rprivate", ""), ("rslave", "master:"), ("rshared", "shared:")])
def test_propagation_of_a_bind(runtime: Runtime, probe_rootfs: Path, volume: Path, word: str, field: str) -> None:
    # A root that is a slave makes its shared mounts slaves as well, unless one asks for the contrary.
    root = "rshared" if word == "rshared" else "rslave"
    said = seen(runtime, probe_rootfs, bind(volume, "rbind", word), rootfsPropagation=root)[1]
    assert field in said
    assert bool(field) == bool(said)


def test_mounts_travel_into_a_slave(masu_oci: Runtime, probe_rootfs: Path, volume: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/bin/probe", "sleep"]
        config["mounts"].append(bind(volume, "rbind", "rslave"))

    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), id)
    (volume / "late").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(volume / "late")], check=True)
    try:
        options_of(masu_oci("exec", id, "/bin/probe", "mounts").stdout, "/home/late")
    finally:
        subprocess.run(["umount", str(volume / "late")], check=True)
    after = masu_oci("exec", id, "/bin/probe", "mounts").stdout
    assert "/home/late" not in after


@pytest.mark.parametrize(
    ("word", "field"), [("private", ""), ("slave", ""), ("shared", "shared:"), ("unbindable", "unbindable")]
)
def test_root_propagation(masu_oci: Runtime, probe_rootfs: Path, word: str, field: str) -> None:
    said = seen(masu_oci, probe_rootfs, point="/", rootfsPropagation=word)[1]
    assert field in said
    assert bool(field) == bool(said)


def test_a_shared_root_on_a_mount_that_the_host_shares(masu_oci: Runtime, probe_rootfs: Path, tmp_path: Path) -> None:
    """As on a machine with systemd, where all mounts are shared: none of the container's gets into the host's."""
    rootfs = tmp_path / "shared"
    rootfs.mkdir()
    subprocess.run(["mount", "--bind", str(probe_rootfs), str(rootfs)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(rootfs)], check=True)
        assert "shared:" in seen(masu_oci, rootfs, point="/", rootfsPropagation="shared")[1]
        assert f" {rootfs}/" not in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", "-R", str(rootfs)], check=True)


def test_tmpcopyup(runtime: Runtime, own_probe_rootfs: Path) -> None:
    (own_probe_rootfs / "etc/deep").mkdir()
    (own_probe_rootfs / "etc/deep/file").write_text("copied\n")
    (own_probe_rootfs / "etc/deep").chmod(0o711)

    def change(config: dict[str, Any]) -> None:
        options = ["tmpcopyup", "mode=0755"]
        config["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": options})

    said = runtime.run(
        own_probe_rootfs, "cat", "/etc/deep/file", "--", "mode", "/etc/deep", "--", "create", "/etc/new", "x",
        change=change,
    ).stdout.splitlines()  # fmt: skip
    assert said[0] == "copied"
    assert said[1].startswith("d 0711")
    assert said[2] == "ok"
    assert not (own_probe_rootfs / "etc/new").exists()


def test_a_symlink_is_copied(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path) -> None:
    """crun(1), "copy-symlink"."""
    link = tmp_path / "link"
    link.symlink_to("points/to/nowhere")
    entry = {**bind(link, "rbind", "copy-symlink"), "destination": "/home/deep/link"}

    def run(entry: dict[str, Any], *probe: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return masu_oci.run(own_probe_rootfs, *probe, change=lambda c: c["mounts"].append(entry), check=check)

    for _ in range(2):  # the second time it is there
        assert run(entry, "readlink", "/home/deep/link").stdout == "points/to/nowhere\n"
    (own_probe_rootfs / "home/deep/link").unlink()
    (own_probe_rootfs / "home/deep/link").symlink_to("elsewhere")
    refused = run(entry, "exit", "0", check=False)
    assert refused.returncode == 1
    assert "/home/deep/link exists and is no symlink to points/to/nowhere" in refused.stderr
    (tmp_path / "file").write_text("what is none is bound\n")
    plain = {**entry, "source": str(tmp_path / "file"), "destination": "/home/file"}
    assert run(plain, "cat", "/home/file").stdout == "what is none is bound\n"


def test_destination_written_as_a_path_of_the_host(masu_oci: Runtime, own_probe_rootfs: Path, volume: Path) -> None:
    entry = {**bind(volume, "bind"), "destination": f"{own_probe_rootfs}/home"}
    said = masu_oci.run(own_probe_rootfs, "cat", "/home/file", change=lambda c: c["mounts"].append(entry)).stdout
    assert said == "from the host\n"
    assert list((own_probe_rootfs / "tmp").iterdir()) == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"destination": "/proc/kcore", "type": "tmpfs", "source": "tmpfs"}, "inside /proc"),
    ({"destination": "/home", "type": "tmpfs", "source": "t", "options": ["siz=1m"]}, "mounts[4]"),
    ({"destination": "/home", "type": "nosuchfs", "source": "x"}, "mounts[4]"),
    ({"destination": "/home", "type": "bind", "source": "/nowhere/at/all", "options": ["bind"]}, "mounts[4].source"),
    ({"destination": "/home", "type": "bind", "source": "/etc/passwd", "options": ["bind"]}, "mounts[4]"),
]


@pytest.mark.parametrize(("entry", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_mounts_that_cannot_be(masu_oci: Runtime, probe_rootfs: Path, entry: dict[str, Any], text: str) -> None:
    bundle = masu_oci.bundle(probe_rootfs, lambda c: c["mounts"].append(entry))
    refused = masu_oci("run", "--bundle", str(bundle), masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert text in refused.stderr
    assert masu_oci("list", "-q").stdout == ""


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_symlink_instead_of_a_directory(masu_oci: Runtime, own_probe_rootfs: Path, name: str) -> None:
    (own_probe_rootfs / name).rmdir()
    (own_probe_rootfs / name).symlink_to("/home")

    def change(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]})

    refused = masu_oci("run", "--bundle", str(masu_oci.bundle(own_probe_rootfs, change)), masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert "must be mounted on ordinary directory" in refused.stderr


def test_no_pivot(runtime: Runtime, probe_rootfs: Path) -> None:
    bundle = runtime.bundle(probe_rootfs, lambda c: c["process"].update(args=["/bin/probe", "ls", "/"]))
    said = runtime("run", "--no-pivot", "--bundle", str(bundle), runtime.id()).stdout.split()
    assert {"bin", "etc", "proc"} <= set(said)
    assert "var" not in said
