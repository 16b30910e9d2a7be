"""The same images unpacked by umoci, and the same trees packed by it: nobody must be able to tell the difference."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import images
import pytest
from harness import programs
from kernel.layermaker import (
    GZIP,
    compress,
    digest_of,
    directory,
    file,
    hardlink,
    layer,
    opaque,
    put,
    symlink,
    whiteout,
)

from masu.snapshots import unpack
from masu.snapshots.mounted import detached
from masu.spec import image as spec
from masu.store import NamespaceStore

if TYPE_CHECKING:
    from masu.snapshots import Snapshotter

pytestmark = pytest.mark.root


def load(ns: NamespaceStore, layout: Path) -> tuple[spec.Manifest, spec.ImageConfig]:
    for blob in (layout / "blobs/sha256").iterdir():
        put(ns, blob.read_bytes())
    index = spec.parse_index((layout / "index.json").read_bytes())
    manifest = spec.parse_manifest(ns.content.read(index.manifests[0].digest, 1 << 20))
    return manifest, spec.parse_image_config(ns.content.read(manifest.config.digest, 1 << 20))


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything of a tree but inode numbers; a hard link is told by the first of its names."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in sorted(_paths(root)):
        full = root / path
        st = full.lstat()
        data: object = None
        if stat.S_ISREG(st.st_mode):
            data = digest_of(full.read_bytes())
        elif stat.S_ISLNK(st.st_mode):
            data = os.readlink(full)
        first = inodes.setdefault(st.st_ino, path)
        xattrs = {x: os.getxattr(full, x, follow_symlinks=False) for x in os.listxattr(full, follow_symlinks=False)
                  if not x.startswith(("trusted.overlay", "user.rootlesscontainers"))}  # fmt: skip
        found[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_rdev, data, first, tuple(xattrs.items()))
    return found


def _paths(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            yield os.path.relpath(os.path.join(folder, name), root)


def ours(ns: NamespaceStore, snapshotter: Snapshotter, layout: Path) -> dict[str, tuple[object, ...]]:
    manifest, config = load(ns, layout)
    top = unpack(ns, manifest, config, snapshotter)
    tree = detached(snapshotter.prepare("k", top))
    try:
        return facts(Path(f"/proc/self/fd/{tree}"))
    finally:
        os.close(tree)


def theirs(layout: Path, tmp_path: Path) -> dict[str, tuple[object, ...]]:
    bundle = tmp_path / "bundle"
    subprocess.run([programs.peer("umoci"), "unpack", "--image", f"{layout}:latest", str(bundle)], check=True)
    return facts(bundle / "rootfs")


@pytest.mark.parametrize("name", ["busybox", "redis"])
def test_real_images(ns: NamespaceStore, snapshotter: Snapshotter, tmp_path: Path, name: str) -> None:
    layout = images.layout(name)
    assert ours(ns, snapshotter, layout) == theirs(layout, tmp_path)


def layout_of(tmp_path: Path, *layers: bytes) -> Path:
    top = tmp_path / "layout"
    blobs = top / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        digest = digest_of(data)
        (blobs / digest[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [digest_of(raw) for raw in layers]}}  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": spec.MEDIA_TYPE_MANIFEST,
        "config": blob(json.dumps(config).encode(), spec.MEDIA_TYPE_CONFIG),
        "layers": [blob(compress(raw, GZIP), GZIP) for raw in layers],
    }
    descriptor = blob(json.dumps(manifest).encode(), spec.MEDIA_TYPE_MANIFEST)
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (top / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    (top / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return top


def test_made_layers(ns: NamespaceStore, snapshotter: Snapshotter, tmp_path: Path) -> None:
    layout = layout_of(
        tmp_path,
        layer(
            directory("etc", 0o755, mtime=10),
            file("etc/passwd", "root", 0o644, mtime=11),
            file("etc/shadow", "secret", 0, gid=42, mtime=12),
            directory("usr/bin", 0o711, mtime=13),
            file("usr/bin/su", "#!", 0o4755, mtime=14),
            hardlink("usr/bin/sudo", "usr/bin/su"),
            symlink("bin", "usr/bin", mtime=15),
            directory("var/cache", mtime=16),
            file("var/cache/a", mtime=17),
            directory("var/log", 0o2775, gid=4, mtime=18),
            directory("usr", mtime=20),
            directory("var", mtime=21),
            directory("./", 0o755, mtime=22),
        ),
        layer(
            directory("var", mtime=30),
            directory("var/cache", mtime=31),
            opaque("var/cache"),
            file("var/cache/b", "b", uid=7, mtime=32),
            directory("etc", 0o700, mtime=33),
            whiteout("etc/passwd"),
            file("etc/new", "x" * 100_000, mtime=34, pax_headers={"SCHILY.xattr.user.k": "v"}),
            directory("usr", mtime=35),
            directory("usr/bin", 0o711, mtime=36),
            file("usr/bin/sudo", "now a file of its own", mtime=37),
            directory("./", 0o750, mtime=38),
        ),
    )
    assert ours(ns, snapshotter, layout) == theirs(layout, tmp_path)


def test_a_layer_of_ours_is_unpacked_by_others(ns: NamespaceStore, snapshotter: Snapshotter, tmp_path: Path) -> None:
    from masu.snapshots.diff import write_diff

    base = images.layout("busybox")
    manifest, config = load(ns, base)
    top = unpack(ns, manifest, config, snapshotter)
    tree = detached(snapshotter.prepare("work", top))
    root = Path(f"/proc/self/fd/{tree}")
    (root / "new").mkdir()
    (root / "new/file").write_text("x" * 1000)
    os.link(root / "new/file", root / "new/link")
    (root / "new/ümläut").symlink_to("file")
    os.setxattr(root / "new/file", "user.k", b"v")
    shutil.rmtree(root / "etc", ignore_errors=True)
    (root / "etc").mkdir()
    (root / "etc/only").touch()
    for path in ("new/file", "new", "etc/only", "etc", "."):
        os.utime(root / path, (50, 50))
    wanted = facts(root)
    os.close(tree)
    out = tmp_path / "diff.tar"
    with out.open("wb") as f:
        write_diff(snapshotter.view("before", top), snapshotter.mounts("work"), f)
    import gzip

    raws = [gzip.decompress(ns.content.read(d.digest, 1 << 28)) for d in manifest.layers]
    layout = layout_of(tmp_path, *raws, out.read_bytes())
    found = theirs(layout, tmp_path)
    # A symbolic link's own time is cut to the second.
    assert {p: (*f[:3], *f[4:]) for p, f in found.items()} == {p: (*f[:3], *f[4:]) for p, f in wanted.items()}
