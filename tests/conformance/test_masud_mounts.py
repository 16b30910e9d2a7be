"""Mounts that masud makes for clients: what is filled in, what is collected, what is left after whose death."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from harness.grpcclient import Client
from harness.masud import COLLECT_WHEN_ASKED, Masud
from harness.programs import peer

from masu.api.proto import leases_pb2, mounts_pb2, types_pb2

pytestmark = pytest.mark.root

LEASES = leases_pb2.DESCRIPTOR.services_by_name["Leases"]
MOUNTS = mounts_pb2.DESCRIPTOR.services_by_name["Mounts"]


class Home(Masud):
    """A masud, and calls of its mount service."""

    def mount(self, type: str, source: str | Path, *options: str) -> types_pb2.Mount:
        return types_pb2.Mount(type=type, source=str(source), options=options)

    def call(self, method: str, request: Any, lease: str = "") -> Any:
        with Client(self.socket) as client:
            answer = client(MOUNTS, method, request, lease=lease)
            return list(answer) if method == "List" else answer

    def activate(self, name: str, *mounts: types_pb2.Mount, lease: str = "", **more: Any) -> types_pb2.ActivationInfo:
        request = mounts_pb2.ActivateRequest(name=name, mounts=mounts, **more)
        info: types_pb2.ActivationInfo = self.call("Activate", request, lease).info
        return info

    def deactivate(self, name: str) -> None:
        self.call("Deactivate", mounts_pb2.DeactivateRequest(name=name))

    def names(self, *filters: str) -> list[str]:
        return [each.info.name for each in self.call("List", mounts_pb2.ListRequest(filters=filters))]

    def refused(self, method: str, request: Any) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, request)
        error: Any = caught.value
        return error.code().name, error.details()

    def collect(self) -> None:
        self("leases", "create", "--id", "now")
        self("leases", "rm", "--sync", "now")

    def mounted(self) -> list[str]:
        """Below its state directory."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.split()[4].startswith(f"{self.state}/mounts/")]

    def nothing_is_left(self) -> None:
        assert self.mounted() == []
        assert list((self.state / "mounts").glob("*")) == []


@pytest.fixture
def masud(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path, "version = 3\n" + COLLECT_WHEN_ASKED) as it:
        try:
            yield it
        finally:
            for point in it.mounted():
                subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    folder = tmp_path / "lower"
    folder.mkdir()
    (folder / "file").write_text("hello")
    return folder


def test_what_came_before_is_filled_in(masud: Home, lower: Path) -> None:
    options = ("lowerdir={{ overlay 1 0 }}", "index=off", "x={{source 0}}")
    info = masud.activate(
        "one",
        masud.mount("bind", lower, "rbind", "ro"),
        masud.mount("tmpfs", "none", "size=1m", "noexec"),
        masud.mount("format/overlay", "overlay", *options),
        masud.mount("bind", "/somewhere"),
        labels={"a": "b"},
    )
    first, second = (each.mount_point for each in info.active)
    assert [each.mount.type for each in info.active] == ["bind", "tmpfs"]
    assert [each.type for each in info.system] == ["overlay", "bind"]
    assert list(info.system[0].options) == [f"lowerdir={second}:{first}", "index=off", f"x={lower}"]
    assert (Path(first) / "file").read_text() == "hello"
    assert os.statvfs(first).f_flag & os.ST_RDONLY
    assert os.statvfs(second).f_flag & os.ST_NOEXEC
    assert masud.call("Info", mounts_pb2.InfoRequest(name="one")).info == info
    assert masud.names("labels.a==b") == masud.names() == ["one"]
    request = mounts_pb2.ActivateRequest(name="one", mounts=[masud.mount("loop", lower)])
    assert masud.refused("Activate", request)[0] == "ALREADY_EXISTS"
    masud.deactivate("one")
    masud.nothing_is_left()
    assert masud.refused("Info", mounts_pb2.InfoRequest(name="one"))[0] == "NOT_FOUND"
    assert masud.refused("Deactivate", mounts_pb2.DeactivateRequest(name="one"))[0] == "NOT_FOUND"


def test_an_image_is_made_and_mounted(masud: Home, lower: Path) -> None:
    """As a snapshotter that gives each container a file system of its own size."""
    peer("mkfs.ext4")
    image = masud.root / "snapshots" / "rw.img"
    made = ("X-containerd.mkfs.size=16MiB", "X-containerd.mkfs.fs=ext4")
    folders = ("X-containerd.mkdir.path={{ mount 1 }}/up:0755", "X-containerd.mkdir.path={{ mount 1 }}/work")
    wanted = (
        masud.mount("mkfs/loop", image, *made),
        masud.mount("format/ext4", "{{ mount 0 }}"),
        masud.mount(
            "format/mkdir/overlay",
            "overlay",
            *folders,
            f"lowerdir={lower}",
            "upperdir={{ mount 1 }}/up",
            "workdir={{ mount 1 }}/work",
        ),
    )
    info = masud.activate("two", *wanted, temporary=True)
    assert [(each.type, list(each.options)) for each in info.system] == [("bind", ["rbind"])]
    root = Path(info.system[0].source)
    assert (root / "file").read_text() == "hello"
    (root / "new").write_text("kept")
    device = os.readlink(info.active[0].mount_point)
    backing = Path("/sys/block", device.removeprefix("/dev/"), "loop/backing_file")
    assert backing.read_text().strip() == str(image)
    masud.deactivate("two")
    masud.nothing_is_left()
    assert not backing.exists() or backing.read_text().strip() != str(image)
    # It is there already, and by itself a file system of a file.
    info = masud.activate("two", masud.mount("mkfs/ext4", image, *made, "loop"), temporary=True)
    assert (Path(info.active[0].mount_point) / "up" / "new").read_text() == "kept"
    masud.deactivate("two")
    masud.nothing_is_left()


def test_a_killed_masud(masud: Home, lower: Path) -> None:
    info = masud.activate("stays", masud.mount("bind", lower, "rbind"), temporary=True)
    masud.kill()
    # What it was at when it died, and nobody knows of.
    half = masud.state / "mounts" / "4711" / "000"
    half.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(half)], check=True)
    masud.start()
    assert not half.parent.exists()
    assert masud.mounted() == [info.active[0].mount_point]
    assert masud.call("Info", mounts_pb2.InfoRequest(name="stays")).info == info
    masud.deactivate("stays")
    masud.nothing_is_left()


def test_what_nobody_holds_is_collected(masud: Home, lower: Path) -> None:
    there = masud.mount("bind", lower, "rbind")
    with Client(masud.socket) as client:
        client(LEASES, "Create", leases_pb2.CreateRequest(id="holds"))
        client(LEASES, "Create", leases_pb2.CreateRequest(id="refers", labels={"containerd.io/gc.ref.mount": "named"}))
    masud.activate("leased", there, temporary=True, lease="holds")
    masud.activate("named", there, temporary=True)
    masud.activate("lost", there, temporary=True)
    masud.collect()
    assert masud.names() == ["leased", "named"]
    assert len(masud.mounted()) == 2
    back = types_pb2.ActivationInfo(name="leased", labels={"containerd.io/gc.bref.image": "x"})
    mask = FieldMask(paths=["labels"])
    updated = masud.call("Update", mounts_pb2.UpdateRequest(info=back, update_mask=mask)).info
    assert dict(updated.labels) == {"containerd.io/gc.bref.image": "x"}
    # At its end it lets go of what it would have collected later.
    masud("leases", "rm", "holds")
    masud.stop()
    assert len(masud.mounted()) == 1
    masud.start()
    assert masud.names() == ["named"]
    masud("leases", "rm", "--sync", "refers")
    assert masud.names() == []
    masud.nothing_is_left()
    request = mounts_pb2.ActivateRequest(name="x", mounts=[there], temporary=True)
    with pytest.raises(grpc.RpcError, match="lease"):
        masud.call("Activate", request, "holds")


def test_what_is_refused(masud: Home, lower: Path, tmp_path: Path) -> None:
    bind, odd = masud.mount("bind", lower, "rbind"), "lowerdir={{ mount 1 }}"
    for mounts, temporary, expected in (
        ([bind], False, ("UNIMPLEMENTED", "nothing to be done")),
        ([], True, ("UNIMPLEMENTED", "nothing to be done")),
        ([bind, masud.mount("nosuch/overlay", "overlay")], False, ("UNIMPLEMENTED", "nothing to be done")),
        ([bind, masud.mount("format/overlay", "overlay", odd)], False, ("INVALID_ARGUMENT", "1 mounts are before it")),
        ([bind, masud.mount("format/overlay", "{{ env 0 }}")], False, ("INVALID_ARGUMENT", "are known")),
        ([bind, masud.mount("format/overlay", "{{ .X }}")], False, ("INVALID_ARGUMENT", "are known")),
        ([bind, masud.mount("mkdir/bind", "/", "X-containerd.mkdir.path=/elsewhere")], False,
         ("UNIMPLEMENTED", "is to be below")),
        ([bind, masud.mount("mkfs/ext4", f"{masud.root}/x", "X-containerd.mkfs.fs=ext4")], False,
         ("INVALID_ARGUMENT", "is required")),
        ([bind, masud.mount("loop", tmp_path / "none")], False, ("UNKNOWN", "ENOENT")),
        ([bind, masud.mount("nosuchfs", "none")], True, ("UNKNOWN", "no such file system")),
    ):  # fmt: skip
        code, said = masud.refused("Activate", mounts_pb2.ActivateRequest(name="x", mounts=mounts, temporary=temporary))
        assert (code, expected[1] in said) == (expected[0], True), said
    assert masud.names() == []
    masud.nothing_is_left()
