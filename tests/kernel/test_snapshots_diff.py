"""Layers made from what changed: applied again they give the same tree, and made again the same bytes."""

from __future__ import annotations

import io
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import programs
from kernel.layermaker import PLAIN, digest_of, directory, file, hardlink, image, layer, look, node, symlink

from masu.errors import InvalidArgument, ResourceExhausted
from masu.snapshots import choose, unpack
from masu.snapshots.diff import Diff, write_diff
from masu.snapshots.mounted import detached
from masu.store import NamespaceStore

if TYPE_CHECKING:
    from masu.snapshots import Snapshotter

pytestmark = pytest.mark.root

BASE = layer(
    directory("d", 0o750, uid=3),
    file("d/keep", "keep"),
    file("d/change", "before"),
    file("d/gone", "gone"),
    directory("d/sub"),
    file("d/sub/x", "x"),
    directory("replaced"),
    file("replaced/old"),
    file("was-file"),
    directory("was-dir"),
    file("was-dir/f"),
    symlink("link", "d"),
    hardlink("hard", "d/keep"),
    node("null", tarfile.CHRTYPE, 1, 3),
)


def changed(
    ns: NamespaceStore, snapshotter: Snapshotter, work: Callable[[Path], None], *layers: bytes
) -> tuple[bytes, Diff]:
    """The layer of what `work` does to a container on these layers."""
    manifest, config, _ = image(ns, layers or (BASE,))
    top = unpack(ns, manifest, config, snapshotter)
    tree = detached(snapshotter.prepare("work", top))
    try:
        work(Path(f"/proc/self/fd/{tree}"))
    finally:
        os.close(tree)
    out = io.BytesIO()
    diff = write_diff(snapshotter.view("before", top), snapshotter.mounts("work"), out)
    snapshotter.remove("before")
    assert diff.diff_id == digest_of(out.getvalue())
    assert diff.size == len(out.getvalue())
    return out.getvalue(), diff


def names(raw: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return [info.name + "/" * info.isdir() for info in archive]


def edit(root: Path) -> None:
    (root / "d/change").write_text("after")
    (root / "d/gone").unlink()
    (root / "d/new").write_text("new")
    os.link(root / "d/new", root / "d/same")
    shutil.rmtree(root / "replaced")
    (root / "replaced").mkdir()
    (root / "replaced/new").touch()
    (root / "was-file").unlink()
    (root / "was-file").mkdir()
    (root / "was-file/f").touch()
    shutil.rmtree(root / "was-dir")
    (root / "was-dir").touch()
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")
    shutil.rmtree(root / "d/sub")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "zero", 0o20666, os.makedev(1, 5))
    os.setxattr(root / "d/new", "user.k", b"\0\xffv\n=")
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(root / "d/change", "security.capability", capability)
    long = root / ("l" * 120) / ("m" * 120)
    long.mkdir(parents=True)
    (long / "ümläut").write_text("x")
    (root / "s").symlink_to("t" * 300)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{root}/socket")


def test_what_changed_is_in_the_layer(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    raw, diff = changed(ns, snapshotter, edit)
    found = names(raw)
    assert diff.entries == len(found)
    wanted = ["d/", "d/change", "d/.wh.gone", "d/new", "d/same", "d/.wh.sub", "fifo", "link", "replaced/", "s",
              "replaced/new", "was-dir", "was-file/", "was-file/f", "zero"]  # fmt: skip
    assert not set(wanted) - set(found)
    assert not {"d/keep", "hard", "null", "socket"} & set(found)
    assert "replaced/.wh..wh..opq" in found or "replaced/.wh.old" in found


def test_applied_again_it_gives_the_same_tree(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    raw, _ = changed(ns, snapshotter, edit)
    tree = detached(snapshotter.mounts("work"))
    os.unlink("socket", dir_fd=tree)  # layers have none
    os.close(tree)
    before = look(snapshotter.mounts("work"))
    for other in ("overlayfs", "native"):
        driver = choose(ns, other)
        manifest, config, _ = image(ns, (BASE, raw), PLAIN)
        after = driver.prepare(f"after-{other}", unpack(ns, manifest, config, driver))
        assert look(after) == before
        tree = detached(after)
        root = Path(f"/proc/self/fd/{tree}")
        assert os.getxattr(root / "d/new", "user.k") == b"\0\xffv\n="
        assert len(os.getxattr(root / "d/change", "security.capability")) == 20
        assert (root / "d/new").stat().st_ino == (root / "d/same").stat().st_ino
        os.close(tree)


def test_both_ways_give_the_same_bytes(ns: NamespaceStore) -> None:
    """But for the way a replaced directory is told: an overlay knows that it was, two trees only see the result."""

    def plain(root: Path) -> None:
        (root / "d/change").write_text("after")
        (root / "d/gone").unlink()
        (root / "d/sub/new").write_text("new")
        os.chmod(root / "d/sub", 0o700)
        (root / "was-file").unlink()
        for path in (root / "d/change", root / "d/sub/new", root / "d/sub", root / "d", root):
            os.utime(path, (5, 5))

    raws = [changed(ns, choose(ns, driver), plain)[0] for driver in ("overlayfs", "native")]
    assert raws[0] == raws[1]
    assert names(raws[0]) == ["d/", "d/change", "d/.wh.gone", "d/sub/", "d/sub/new", ".wh.was-file"]


def test_made_again_it_is_the_same(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    raw, _ = changed(ns, snapshotter, edit)
    out = io.BytesIO()
    top = snapshotter.stat("work").parent
    write_diff(snapshotter.view("before", top), snapshotter.mounts("work"), out)
    assert out.getvalue() == raw


def test_nothing_changed_is_an_empty_layer(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    def touch_nothing(root: Path) -> None:
        # Opened for writing: an overlay copies it up. And a directory that was there for a moment.
        with open(root / "d/keep", "r+b"):
            pass
        facts = os.stat(root)
        (root / "moment").mkdir()
        (root / "moment").rmdir()
        os.utime(root, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    raw, _ = changed(ns, snapshotter, touch_nothing)
    assert names(raw) == []


def test_attributes_alone(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    def work(root: Path) -> None:
        os.chmod(root / "d/keep", 0o600)
        os.chown(root / "d/sub", 9, 9)
        os.utime(root / "d/change", (7, 7))
        fd = os.open(root, os.O_RDONLY)
        os.fchmod(fd, 0o711)
        os.close(fd)

    raw, _ = changed(ns, snapshotter, work)
    assert {"d/keep", "d/sub/", "d/change"} < set(names(raw))
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert archive.getmember(".").mode == 0o711


def test_from_nothing(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    manifest, config, _ = image(ns, (BASE,))
    view = snapshotter.view("v", unpack(ns, manifest, config, snapshotter))
    out = io.BytesIO()
    write_diff([], view, out)
    manifest, config, _ = image(ns, (out.getvalue(),), PLAIN)
    assert look(snapshotter.view("again", unpack(ns, manifest, config, snapshotter))) == look(view)


def test_names_a_layer_cannot_hold(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    with pytest.raises(InvalidArgument, match=r"\.wh\."):
        changed(ns, snapshotter, lambda root: (root / ".wh.trick").touch())


def test_nested_too_deep(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    def work(root: Path) -> None:
        fd = os.open(root, os.O_RDONLY)
        for _ in range(500):
            os.mkdir("d2", dir_fd=fd)
            inner = os.open("d2", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(fd)

    with pytest.raises(ResourceExhausted):
        changed(ns, snapshotter, work)


def test_other_tools_read_it(ns: NamespaceStore, snapshotter: Snapshotter, tmp_path: Path) -> None:
    raw, _ = changed(ns, snapshotter, edit)
    listed = subprocess.run(
        [programs.peer("tar"), "-tf", "-"], input=raw, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert listed.stderr == b""
    assert len(listed.stdout.splitlines()) == len(names(raw))


def test_random_histories(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """Whatever is done to a tree in a few layers, the layers give the tree."""
    for seed in range(6):
        choice = random.Random(seed)
        layers = [BASE]
        for step in range(3):
            raw, _ = changed(ns, snapshotter, partial(scramble, choice), *layers)
            wanted = look(snapshotter.mounts("work"))
            snapshotter.remove("work")
            layers.append(raw)
            for driver in ("overlayfs", "native"):
                other = choose(ns, driver)
                manifest, config, _ = image(ns, layers, PLAIN)
                key = f"check-{seed}-{step}"
                assert look(other.prepare(key, unpack(ns, manifest, config, other))) == wanted
                other.remove(key)


def scramble(choice: random.Random, root: Path) -> None:
    paths: list[str] = []

    def collect() -> list[str]:
        found = [""]
        for folder in found:
            for entry in sorted(os.listdir(root / folder)):
                path = f"{folder}/{entry}".lstrip("/")
                if stat.S_ISDIR((root / path).lstat().st_mode):
                    found.append(path)
                paths.append(path)
        return found

    for _ in range(25):
        paths.clear()
        folders = collect()
        path = root / choice.choice(folders) / choice.choice("abcdef")
        existing = root / choice.choice(paths) if paths else path
        act = choice.randrange(8)
        try:
            if act == 0:
                path.mkdir()
            elif act == 1:
                path.write_text(str(choice.random()))
            elif act == 2:
                path.symlink_to(choice.choice(["a", "b/c", "/d"]))
            elif act == 3 and existing.is_dir() and not existing.is_symlink():
                shutil.rmtree(existing)
            elif act == 4 and not existing.is_dir():
                existing.unlink()
            elif act == 5 and not existing.is_symlink():
                os.chmod(existing, choice.choice([0o700, 0o755, 0o711]) if existing.is_dir() else 0o640)
            elif act == 6:
                os.link(existing, path, follow_symlinks=False)
            elif act == 7 and not existing.is_dir():
                os.rename(existing, path)
        except OSError:
            continue
