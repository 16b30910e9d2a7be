"""Copying trees fd by fd, and volumes on top of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from masu.engine.treecopy import Rules, copy_contents, copy_entry
from masu.engine.volumes import Volumes
from masu.errors import FailedPrecondition, InvalidArgument, NotFound


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub/deep").mkdir(parents=True)
    (root / "file").write_bytes(b"x" * 70_000)
    (root / "file").chmod(0o640)
    os.utime(root / "file", (1_000_000, 2_000_000))
    (root / "sub/deep/other").write_text("other")
    os.link(root / "file", root / "sub/same")
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe", 0o620)
    (root / "sub").chmod(0o711)
    return root


def copied(source: Path, target: Path, rules: Rules | None = None) -> None:
    target.mkdir(exist_ok=True)
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    try:
        copy_contents(fds[0], fds[1], rules)
    finally:
        for fd in fds:
            os.close(fd)


def test_everything_comes_along(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    copied(tree, target)
    assert (target / "file").read_bytes() == b"x" * 70_000
    assert stat.S_IMODE((target / "file").stat().st_mode) == 0o640
    assert (target / "file").stat().st_mtime == 2_000_000
    assert (target / "sub/deep/other").read_text() == "other"
    assert (target / "file").samefile(target / "sub/same")
    assert os.readlink(target / "link") == "/etc/passwd"
    assert stat.S_ISFIFO((target / "pipe").lstat().st_mode)
    assert stat.S_IMODE((target / "sub").stat().st_mode) == 0o711


def test_symlinks_on_the_target_side_are_not_followed(tree: Path, tmp_path: Path) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (target / "sub").symlink_to(outside)
    with pytest.raises(FailedPrecondition, match="not a directory"):
        copied(tree, target, Rules(replace=True))
    assert os.listdir(outside) == []
    (target / "sub").unlink()
    (target / "file").unlink()
    (target / "file").symlink_to(outside / "victim")
    copied(tree, target, Rules(replace=True))
    assert not (outside / "victim").exists()
    assert (target / "file").is_file()


def test_replacing_merges_directories(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "sub").mkdir(parents=True)
    (target / "sub/kept").write_text("kept")
    (target / "file").write_text("old")
    copied(tree, target, Rules(replace=True, owner=(-1, -1), xattrs=False))
    assert (target / "sub/kept").read_text() == "kept"
    assert (target / "file").read_bytes()[:1] == b"x"
    (target / "link").unlink()
    (target / "link").mkdir()
    with pytest.raises(FailedPrecondition, match="a directory"):
        copied(tree, target, Rules(replace=True))


def test_one_entry_under_another_name(tree: Path, tmp_path: Path) -> None:
    source, target = os.open(tree, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    try:
        copy_entry(source, "sub", target, "renamed")
    finally:
        os.close(source)
        os.close(target)
    assert (tmp_path / "renamed/deep/other").read_text() == "other"


def test_what_is_to_be_skipped_stays_empty(tree: Path, tmp_path: Path) -> None:
    status = (tree / "sub").stat()
    copied(tree, tmp_path / "target", Rules(skip=frozenset({(status.st_dev, status.st_ino)})))
    assert os.listdir(tmp_path / "target/sub") == []


def test_volumes(tree: Path, tmp_path: Path) -> None:
    volumes = Volumes(str(tmp_path / "state"))
    volume = volumes.ensure("data", labels={"a": "b"})
    assert volumes.ensure("data").path == volume.path
    source = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        volume.fill(source)
        assert sorted(os.listdir(volume.path)) == sorted(os.listdir(tree))
        (Path(volume.path) / "file").write_text("changed")
        volume.fill(source)
        assert (Path(volume.path) / "file").read_text() == "changed"
        # a process that was killed while it filled one leaves the mark; it is done again
        marker = Path(volume.path).parent / "filling"
        marker.touch()
        volume.fill(source)
        assert (Path(volume.path) / "file").read_bytes()[:1] == b"x"
        assert not marker.exists()
    finally:
        os.close(source)
    nameless = volumes.ensure(anonymous=True)
    assert len(nameless.name) == 64
    assert [volume.labels for volume in volumes.all() if volume.name == "data"] == [{"a": "b"}]
    with pytest.raises(FailedPrecondition, match="in use by container web"):
        volumes.remove("data", ["web"])
    volumes.remove("data", [])
    with pytest.raises(NotFound):
        volumes.get("data")
    with pytest.raises(InvalidArgument):
        volumes.get("../x")
