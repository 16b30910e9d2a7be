"""In a user namespace, as rootless engines work: overlayfs with user.* xattrs, no devices."""

from __future__ import annotations

import os
import tarfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from kernel.layermaker import directory, file, hardlink, image, layer, look, node, opaque, symlink, whiteout

from masu.linux import _sys, idmap, mount, namespaces
from masu.snapshots import choose, unpack
from masu.store import open_store

pytestmark = pytest.mark.root


def as_mapped_root(body: Callable[[], None]) -> None:
    """Runs `body` as root of a user namespace whose ids are 100000 and up on the host."""
    asked, answered = os.pipe(), os.pipe()
    said = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _sys.unshare(namespaces.CLONE_NEWUSER)
            os.write(asked[1], b"+")
            os.read(answered[0], 1)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            os.setgroups([])
            _sys.unshare(namespaces.CLONE_NEWNS)
            mount.set_propagation("/", mount.MS_REC | mount.MS_PRIVATE)
            body()
            status = 0
        except BaseException:
            os.write(said[1], traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(status)
    os.close(said[1])
    os.read(asked[0], 1)
    idmap.write(pid, "0 100000 65536\n", "0 100000 65536\n")
    os.write(answered[1], b"+")
    with os.fdopen(said[0], "rb") as pipe:
        error = pipe.read().decode()
    for fd in (*asked, *answered):
        os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, error


@pytest.mark.parametrize("driver", ["overlayfs", "native"])
def test_an_image_in_a_user_namespace(tmp_path: Path, driver: str) -> None:
    root = tmp_path / "state"
    root.mkdir()
    os.chown(root, 100000, 100000)
    opened = {parent: parent.stat().st_mode for parent in root.parents if parent.stat().st_mode & 0o011 != 0o011}

    def body() -> None:
        ns = open_store(str(root)).namespace()
        snapshotter = choose(ns, driver)
        layers = [
            layer(
                directory("d", 0o750, uid=7),
                file("d/old"),
                file("d/gone"),
                directory("e"),
                file("e/old"),
                file("f", "x", 0o4755, uid=1000, gid=65534),
                node("null", tarfile.CHRTYPE, 1, 3),
                node("pipe", tarfile.FIFOTYPE),
            ),
            layer(whiteout("d/gone"), opaque("e"), file("e/new"), symlink("s", "d"), hardlink("s/h", "f")),
        ]
        manifest, config, _ = image(ns, layers)
        mounts = snapshotter.prepare("k", unpack(ns, manifest, config, snapshotter))
        if driver == "overlayfs":
            assert "userxattr" in mounts[0].options
        found = look(mounts)
        assert found == {
            "d": "dir 750 7:0",
            "d/h": "file 4755 1000:65534 x",
            "d/old": "file 644 0:0",
            "e": "dir 755 0:0",
            "e/new": "file 644 0:0",
            "f": "file 4755 1000:65534 x",
            "pipe": "fifo 600 0:0 0:0",
            "s": "link 0:0 -> d",
        }
        snapshotter.remove("k")
        assert open_store(str(root)).gc().errors == []

    for parent, mode in opened.items():
        parent.chmod(mode | 0o011)
    try:
        as_mapped_root(body)
    finally:
        for parent, mode in opened.items():
            parent.chmod(mode)
