"""Checkpoints that lie, as far as it shows before CRIU has restored anything: it need not work here for that.

What needs one that works is in tests/conformance/test_oci_checkpoint_refused.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.oci import Runtime
from kernel.security.staging import Outside, swapping

pytestmark = pytest.mark.root


def restored(runtime: Runtime, rootfs: Path, images: Path, work: Path) -> str:
    """What `restore` says to images that are none; nothing is left of it."""
    flags = ["--bundle", str(runtime.bundle(rootfs)), "--image-path", str(images), "--work-path", str(work)]
    id = runtime.id()
    done = runtime("restore", "--detach", *flags, id, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert runtime("state", id, check=False).returncode == 1
    return done.stderr


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir(mode=0o700)
    (folder / "descriptors.json").write_text('["/dev/null", "/dev/null", "/dev/null"]')
    (folder / "inventory.img").write_bytes(b"\x56\x3a\x16\x54" * 4)
    return folder


LINKS: dict[str, Callable[[Path, Path], None]] = {
    "symlink": lambda name, target: name.symlink_to(target),
    "hard link": lambda name, target: os.link(target, name),
    "symlink to nothing": lambda name, target: name.symlink_to(target.parent / "made"),
}


@pytest.mark.parametrize("how", LINKS)
@pytest.mark.parametrize("apart", [False, True], ids=["among the images", "in the work path"])
@pytest.mark.parametrize("name", ["restore.log", "stats-restore"])
def test_cve_2026_119101_log(
    masu_oci: Runtime, probe_rootfs: Path, images: Path, outside: Outside, how: str, apart: bool, name: str
) -> None:
    """CRIU writes its log and its statistics as root, by name: a link of that name would be a file of the host."""
    work = images.parent / "work" if apart else images
    work.mkdir(exist_ok=True)
    LINKS[how](work / name, outside.path / "file")
    before = (outside.path / "file").read_bytes()
    restored(masu_oci, probe_rootfs, images, work)
    assert (outside.path / "file").read_bytes() == before
    assert not (outside.path / "made").exists()
    if how == "hard link" and (work / name).exists():
        assert not (work / name).samefile(outside.path / "file")


def test_cve_2026_119101_raced(
    masu_oci: Runtime, probe_rootfs: Path, images: Path, outside: Outside, tmp_path: Path
) -> None:
    """The directory of the images is exchanged for a link to the host's: what was opened first is what is read."""
    (tmp_path / "elsewhere").symlink_to(outside.path)
    (outside.path / "descriptors.json").write_text("SECRET")
    outside.before = outside._state()
    with swapping(images, tmp_path / "elsewhere"):
        for _ in range(12):
            assert "SECRET" not in restored(masu_oci, probe_rootfs, images, images)
    assert not (outside.path / "restore.log").exists()


@pytest.mark.parametrize(("mode", "uid"), [(0o777, 0), (0o1777, 0), (0o770, 0), (0o700, 1000)])
def test_others_that_may_write(
    masu_oci: Runtime, probe_rootfs: Path, images: Path, tmp_path: Path, mode: int, uid: int
) -> None:
    """Between the look at the images and CRIU's own opening of them nobody may exchange one."""
    images.chmod(mode)
    os.chown(images, uid, 0)
    work = tmp_path / "work"
    work.mkdir()
    assert "others may write there" in restored(masu_oci, probe_rootfs, images, work)


def test_cve_2026_53492(masu_oci: Runtime, probe_rootfs: Path, images: Path, outside: Outside) -> None:
    """What else lies in a checkpoint is nobody's to obey: a configuration, a CRIU action script, annotations."""
    mark = outside.path / "executed"
    (images / "config.json").write_text('{"hooks": {"createRuntime": [{"path": "/bin/false"}]}}')
    (images / "spec.dump").write_text('{"annotations": {"org.criu.config": "' + str(images / "criu.conf") + '"}}')
    (images / "criu.conf").write_text(f"action-script {images}/run.sh\n")
    (images / "run.sh").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (images / "run.sh").chmod(0o755)
    restored(masu_oci, probe_rootfs, images, images)
    outside.check()
