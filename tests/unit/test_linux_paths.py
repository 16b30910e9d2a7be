"""In-root resolution on hostile trees. openat2 needs no root."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masu.errors import KernelError, ResourceExhausted
from masu.linux import paths


class Tree:
    """`outside` holds a secret; `root` is beside it, so that "../outside" from the root would reach it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.outside = base / "outside"
        self.root.mkdir()
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        self.fd = paths.open_root(str(self.root))


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path)
    yield tree
    os.close(tree.fd)


@pytest.mark.parametrize(
    "link", ["../outside/secret", "/../outside/secret", "../../../../../../../../etc/passwd", "/etc/passwd"]
)
def test_links_out_of_the_root_stay_in_it(tree: Tree, link: str) -> None:
    (tree.root / "link").symlink_to(link)
    with pytest.raises(KernelError) as caught:
        paths.read_in_root(tree.fd, "/link", 100)
    assert caught.value.errno == errno.ENOENT
    (tree.root / "etc").mkdir()
    (tree.root / "etc/passwd").write_text("inside")
    (tree.root / "outside").mkdir()
    (tree.root / "outside/secret").write_text("inside")
    assert paths.read_in_root(tree.fd, "/link", 100) == b"inside"


def test_dot_dot_stops_at_the_root(tree: Tree) -> None:
    (tree.root / "file").write_text("inside")
    assert paths.read_in_root(tree.fd, "../../../file", 100) == b"inside"


def test_magic_links_are_refused(tree: Tree) -> None:
    # A root that contains a procfs: /proc/self/root leads out of any root.
    fd = paths.open_root("/proc")
    try:
        with pytest.raises(KernelError) as caught:
            paths.read_in_root(fd, "self/root/etc/passwd", 1 << 20)
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(KernelError):
            paths.open_in_root(fd, "self/exe", os.O_RDONLY)
    finally:
        os.close(fd)


def test_reading_is_bounded(tree: Tree) -> None:
    """sec/CVE-2025-4437"""
    (tree.root / "big").write_bytes(b"x" * 101)
    with pytest.raises(ResourceExhausted, match="longer than 100 bytes"):
        paths.read_in_root(tree.fd, "big", 100)
    assert len(paths.read_in_root(tree.fd, "big", 101)) == 101


def test_only_regular_files_are_read(tree: Tree) -> None:
    os.mkfifo(tree.root / "fifo")
    (tree.root / "dir").mkdir()
    for name in ("fifo", "dir"):
        with pytest.raises(KernelError, match="not a regular file"):
            paths.read_in_root(tree.fd, name, 100)
    (tree.root / "zero").symlink_to("/dev/zero")
    with pytest.raises(KernelError):
        paths.read_in_root(tree.fd, "zero", 100)


def test_mkdir_makes_what_is_missing(tree: Tree) -> None:
    old = os.umask(0o077)
    try:
        fd = paths.mkdir_in_root(tree.fd, "/a/b/c", 0o755)
    finally:
        os.umask(old)
    try:
        assert os.fstat(fd).st_ino == (tree.root / "a/b/c").stat().st_ino
        assert stat.S_IMODE((tree.root / "a/b").stat().st_mode) == 0o755
        os.listdir(fd)
    finally:
        os.close(fd)
    (tree.root / "a/b").chmod(0o700)
    os.close(paths.mkdir_in_root(tree.fd, "a/b", 0o755))
    assert stat.S_IMODE((tree.root / "a/b").stat().st_mode) == 0o700


def test_mkdir_follows_links_inside_the_root(tree: Tree) -> None:
    """sec/CVE-2024-45310: nothing is made outside"""
    (tree.root / "real").mkdir()
    (tree.root / "link").symlink_to("/real")
    (tree.root / "out").symlink_to("../../outside")
    os.close(paths.mkdir_in_root(tree.fd, "link/x/y"))
    assert (tree.root / "real/x/y").is_dir()
    with pytest.raises(KernelError) as caught:
        paths.mkdir_in_root(tree.fd, "out/new")
    assert caught.value.errno in (errno.ELOOP, errno.EEXIST, errno.ENOTDIR)
    assert os.listdir(tree.outside) == ["secret"]


def test_mkdir_refuses_what_is_in_the_way(tree: Tree) -> None:
    (tree.root / "file").write_text("")
    for path, number in (("file/x", errno.ENOTDIR), ("file", errno.ENOTDIR), ("missing/../x", errno.ENOENT)):
        with pytest.raises(KernelError) as caught:
            paths.mkdir_in_root(tree.fd, path)
        assert caught.value.errno == number, path
    (tree.root / "there").mkdir()
    os.close(paths.mkdir_in_root(tree.fd, "there/../x"))
    assert (tree.root / "x").is_dir()
    os.close(paths.mkdir_in_root(tree.fd, "/"))


def test_mkdir_while_somebody_swaps_links(tree: Tree) -> None:
    """sec/CVE-2021-30465, CVE-2024-45310: a directory that becomes a link to the outside and back."""
    stop = threading.Event()
    swap = tree.root / "swap"

    def swapper() -> None:
        while not stop.is_set():
            try:
                (tree.root / "t").symlink_to("../../outside")
                os.rename(tree.root / "t", swap)
                swap.unlink()
                swap.mkdir()
            except OSError:
                pass
            try:
                for child in swap.iterdir():
                    child.rmdir()
                swap.rmdir()
            except OSError:
                pass

    thread = threading.Thread(target=swapper)
    thread.start()
    try:
        for number in range(300):
            try:
                os.close(paths.mkdir_in_root(tree.fd, f"swap/n{number}"))
            except KernelError:
                pass
    finally:
        stop.set()
        thread.join()
    assert os.listdir(tree.outside) == ["secret"]


def test_writing_in_the_root(tree: Tree) -> None:
    (tree.root / "etc").mkdir()
    paths.write_in_root(tree.fd, "/etc/hosts", b"one", 0o604)
    assert stat.S_IMODE((tree.root / "etc/hosts").stat().st_mode) == 0o604
    inode = (tree.root / "etc/hosts").stat().st_ino
    paths.write_in_root(tree.fd, "/etc/hosts", b"2")
    assert (tree.root / "etc/hosts").read_text() == "2"
    assert (tree.root / "etc/hosts").stat().st_ino == inode


def test_writing_never_leaves_the_root(tree: Tree) -> None:
    """sec/CVE-2025-24965"""
    (tree.root / "out").symlink_to("../outside/secret")
    (tree.root / "dir").symlink_to("../outside")
    for path in ("out", "dir/secret", "dir/new"):
        with pytest.raises(KernelError):
            paths.write_in_root(tree.fd, path, b"owned")
    os.mkfifo(tree.root / "fifo")
    with pytest.raises(KernelError, match="not a regular file"):
        paths.write_in_root(tree.fd, "fifo", b"x")
    assert (tree.outside / "secret").read_text() == "secret"
    assert os.listdir(tree.outside) == ["secret"]


def test_parent_and_name(tree: Tree) -> None:
    (tree.root / "d").mkdir()
    for path in ("d/name", "/d/name/", "d//name"):
        fd, name = paths.parent_in_root(tree.fd, path)
        assert (os.fstat(fd).st_ino, name) == ((tree.root / "d").stat().st_ino, "name")
        os.close(fd)
    for path in ("", "/", "d/..", "d/."):
        with pytest.raises(KernelError, match="does not end in a name"):
            paths.parent_in_root(tree.fd, path)


def test_looking_without_following(tree: Tree) -> None:
    (tree.root / "link").symlink_to("../outside")
    assert stat.S_ISLNK(paths.stat_in_root(tree.fd, "link", follow=False).st_mode)
    assert paths.readlink_in_root(tree.fd, "link") == "../outside"
    (tree.root / "file").write_text("")
    with pytest.raises(KernelError) as caught:
        paths.readlink_in_root(tree.fd, "file")
    assert caught.value.errno == errno.EINVAL
    assert paths.exists_in_root(tree.fd, "file")
    assert not paths.exists_in_root(tree.fd, "link")
    assert not paths.exists_in_root(tree.fd, "file/x")


NAMES = st.sampled_from(["a", "b", "c", "..", ".", "", "secret", "outside"])


@settings(max_examples=60, deadline=None)
@given(
    links=st.lists(st.tuples(st.sampled_from("abc"), st.lists(NAMES, max_size=6), st.booleans()), max_size=3),
    path=st.lists(NAMES, max_size=6),
)
def test_whatever_the_links_nothing_outside_is_touched(
    links: list[tuple[str, list[str], bool]], path: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as base:
        tree = Tree(Path(base))
        try:
            for name, target, absolute in links:
                text = "/" * absolute + "/".join(target)
                try:
                    (tree.root / name).symlink_to(text or ".")
                except FileExistsError:
                    pass
            joined = "/".join(path)
            try:
                os.close(paths.mkdir_in_root(tree.fd, joined))
            except KernelError:
                pass
            try:
                paths.write_in_root(tree.fd, joined, b"owned")
            except KernelError:
                pass
            assert os.listdir(tree.outside) == ["secret"]
            assert (tree.outside / "secret").read_text() == "secret"
            assert sorted(os.listdir(tree.base)) == ["outside", "root"]
        finally:
            os.close(tree.fd)
