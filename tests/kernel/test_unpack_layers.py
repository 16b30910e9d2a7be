"""What a layer becomes: the same tree whichever driver it is unpacked into."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel.layermaker import (
    directory,
    file,
    hardlink,
    image,
    layer,
    look,
    node,
    opaque,
    symlink,
    whiteout,
)

from masu.snapshots import unpack
from masu.snapshots.mounted import detached
from masu.store import NamespaceStore

if TYPE_CHECKING:
    from masu.snapshots import Snapshotter

pytestmark = pytest.mark.root


def tree(ns: NamespaceStore, snapshotter: Snapshotter, *layers: bytes) -> dict[str, str]:
    """The merged tree of these layers, seen writable, as a container sees it."""
    manifest, config, _ = image(ns, layers)
    top = unpack(ns, manifest, config, snapshotter)
    key = f"look-{top}"
    mounts = snapshotter.prepare(key, top)
    try:
        return look(mounts)
    finally:
        snapshotter.remove(key)


def open_tree(ns: NamespaceStore, snapshotter: Snapshotter, *layers: bytes) -> Path:
    manifest, config, _ = image(ns, layers)
    fd = detached(snapshotter.view("open", unpack(ns, manifest, config, snapshotter)))
    return Path(f"/proc/self/fd/{fd}")


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> object:
    before = set(os.listdir("/proc/self/fd"))
    yield
    for fd in set(os.listdir("/proc/self/fd")) - before:
        try:
            where = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if where == "/":  # a detached tree that the test opened
            os.close(int(fd))
        else:
            assert "meta.db" in where


def test_kinds_owners_and_modes(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(
        ns,
        snapshotter,
        layer(
            directory("d", 0o1777, uid=1, gid=2),
            file("d/f", "text", 0o4755, uid=1000, gid=1000),
            file("d/none", "", 0),
            directory("d/closed", 0, uid=5),
            file("d/closed/in", "x"),
            symlink("d/s", "../../../etc/passwd", uid=3),
            symlink("d/dangling", "/nowhere"),
            hardlink("d/h", "d/f"),
            node("d/null", tarfile.CHRTYPE, 1, 3, mode=0o666),
            node("d/disk", tarfile.BLKTYPE, 8, 1, gid=6),
            node("d/pipe", tarfile.FIFOTYPE),
            directory("d/setgid", 0o2755, gid=77),
            file("d/setgid/f", "", uid=9, gid=10),
            file("implied/parents/f", "x", uid=4_000_000_000, gid=4_000_000_001),
        ),
    )
    assert found == {
        "d": "dir 1777 1:2",
        "d/f": "file 4755 1000:1000 text",
        "d/none": "file 0 0:0",
        "d/closed": "dir 0 5:0",
        "d/closed/in": "file 644 0:0 x",
        "d/s": "link 3:0 -> ../../../etc/passwd",
        "d/dangling": "link 0:0 -> /nowhere",
        "d/h": "file 4755 1000:1000 text",
        "d/null": "char 666 0:0 1:3",
        "d/disk": "block 600 0:6 8:1",
        "d/pipe": "fifo 600 0:0 0:0",
        "d/setgid": "dir 2755 0:77",
        "d/setgid/f": "file 644 9:10",
        "implied": "dir 755 0:0",
        "implied/parents": "dir 755 0:0",
        "implied/parents/f": "file 644 4000000000:4000000001 x",
    }


def test_whatever_the_umask(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    previous = os.umask(0o777)
    try:
        found = tree(ns, snapshotter, layer(directory("d", 0o777), file("d/f", "", 0o666), file("i/f", "", 0o777)))
    finally:
        os.umask(previous)
    assert [found[n].split()[1] for n in ("d", "d/f", "i", "i/f")] == ["777", "666", "755", "777"]


def test_times(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    root = open_tree(
        ns,
        snapshotter,
        layer(
            directory("./", mtime=7),
            directory("d", mtime=100),
            file("d/f", "x", mtime=1234567890.123456789, pax_headers={"mtime": "1234567890.123456789"}),
            directory("d/e", mtime=200),
            file("d/e/g", mtime=300),
            symlink("d/s", "f", mtime=400),
            file("old", mtime=-100.5, pax_headers={"mtime": "-100.5"}),
            directory("d", mtime=500),
            file("d/last"),
        ),
    )

    def mtime(name: str) -> int:
        return (root / name).lstat().st_mtime_ns

    assert mtime("d/f") == 1234567890123456789
    assert (root / "d/f").stat().st_atime_ns == 1234567890123456789
    assert mtime("old") == -100_500_000_000
    assert [mtime(n) // 10**9 for n in ("d/e", "d/e/g", "d/s", "d")] == [200, 300, 400, 500]
    assert os.stat(root).st_mtime == 7


def test_the_root_directory(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    root = open_tree(
        ns, snapshotter, layer(directory("./", 0o700, uid=3)), layer(directory("/", 0o711, gid=4), file("f"))
    )
    facts = os.stat(root)
    assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid) == (0o711, 0, 4)


def test_later_entries_replace_earlier_ones_of_any_kind(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    kinds = {
        "file": lambda n: [file(n, "new")],
        "dir": lambda n: [directory(n, 0o750), file(f"{n}/new", "new")],
        "link": lambda n: [symlink(n, "target")],
        "hard": lambda n: [hardlink(n, "other")],
        "fifo": lambda n: [node(n, tarfile.FIFOTYPE)],
        "char": lambda n: [node(n, tarfile.CHRTYPE, 1, 5)],
    }
    entries = [file("other", "other")]
    for old in kinds:
        for new in kinds:
            entries += kinds[old](f"{old}-{new}")
            entries += kinds[new](f"{old}-{new}")
    found = tree(ns, snapshotter, layer(*entries))
    words = {"file": "file", "dir": "dir", "link": "link", "hard": "file", "fifo": "fifo", "char": "char"}
    for old in kinds:
        for new in kinds:
            assert found[f"{old}-{new}"].startswith(words[new]), (old, new)
            assert (f"{old}-{new}/new" in found) == (new == "dir")


def test_the_same_between_layers(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """A layer replaces what is below it; a directory is merged only with a directory."""
    below = layer(
        file("file-dir", "x"),
        directory("dir-dir", 0o755),
        file("dir-dir/old", "old"),
        directory("dir-file"),
        file("dir-file/old", "old"),
        symlink("link-dir", "dir-dir"),
        directory("dir-link"),
        file("dir-link/old"),
        symlink("link-file", "file-dir"),
    )
    above = layer(
        directory("file-dir"),
        file("file-dir/new"),
        directory("dir-dir", 0o700),
        file("dir-dir/new"),
        file("dir-file", "now"),
        directory("link-dir"),
        file("link-dir/new"),
        symlink("dir-link", "nowhere"),
        file("link-file", "now"),
    )
    found = tree(ns, snapshotter, below, above)
    assert found == {
        "dir-dir": "dir 700 0:0",
        "dir-dir/new": "file 644 0:0",
        "dir-dir/old": "file 644 0:0 old",
        "dir-file": "file 644 0:0 now",
        "dir-link": "link 0:0 -> nowhere",
        "file-dir": "dir 755 0:0",
        "file-dir/new": "file 644 0:0",
        "link-dir": "dir 755 0:0",
        "link-dir/new": "file 644 0:0",
        "link-file": "file 644 0:0 now",
    }


def test_a_directory_that_was_something_else_in_between(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(
        ns,
        snapshotter,
        layer(directory("a"), file("a/old"), directory("b"), file("b/old")),
        layer(file("a"), directory("a"), file("a/new"), whiteout("b"), directory("b"), file("b/new")),
        layer(directory("a"), file("a/top")),
    )
    assert sorted(found) == ["a", "a/new", "a/top", "b", "b/new"]


# ---- whiteouts ----

BASE = (
    directory("d", 0o750, uid=7),
    file("d/one", "1"),
    file("d/two", "2"),
    directory("d/sub"),
    file("d/sub/deep", "deep"),
    file("f", "f"),
    symlink("l", "d"),
)


def test_whiteouts(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(
        ns, snapshotter, layer(*BASE), layer(whiteout("d/one"), whiteout("f"), whiteout("d/sub"), whiteout("l"))
    )
    assert sorted(found) == ["d", "d/two"]
    assert found["d"] == "dir 750 7:0", "a directory that the layer does not bring keeps its attributes"


def test_whiteout_of_what_is_not_there(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(
        ns,
        snapshotter,
        layer(whiteout("x"), opaque("new"), file("new/f"), whiteout("new/g")),
        layer(whiteout("y"), whiteout("n/m"), whiteout("new/zz"), directory("fresh"), whiteout("fresh/z"), opaque("q")),
    )
    assert sorted(set(found) - {"n", "q"}) == ["fresh", "new", "new/f"]


def test_opaque(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    for entries in (
        (opaque("d"), file("d/new", "n")),
        (file("d/new", "n"), opaque("d")),  # the order must not matter (image-spec, layer.md)
        (directory("d", 0o750, uid=7), file("d/new", "n"), whiteout("d/one"), opaque("d")),
        (opaque("d"), whiteout("d/one"), file("d/new", "n"), opaque("d")),
    ):
        found = tree(ns, snapshotter, layer(*BASE), layer(*entries))
        assert sorted(found) == ["d", "d/new", "f", "l"], entries
        assert found["d"] == "dir 750 7:0"


def test_opaque_keeps_what_the_layer_brings_below(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(
        ns,
        snapshotter,
        layer(*BASE, file("d/sub/x/y", "y")),
        layer(file("d/sub/mine"), opaque("d"), file("d/sub/later"), directory("d/sub/x")),
    )
    assert sorted(found) == ["d", "d/sub", "d/sub/later", "d/sub/mine", "d/sub/x", "f", "l"]


def test_opaque_root(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """overlayfs merges the root whatever its xattrs say."""
    found = tree(ns, snapshotter, layer(*BASE), layer(directory("d"), file("d/new"), opaque(""), file("g")))
    assert sorted(found) == ["d", "d/new", "g"]


def test_whiteout_and_entry_of_one_name(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """A whiteout hides only what is below the layer, wherever it stands in it."""
    for entries in (
        (whiteout("f"), file("f", "new"), whiteout("d"), directory("d"), file("d/new")),
        (file("f", "new"), whiteout("f"), directory("d"), file("d/new"), whiteout("d")),
        (whiteout("f"), whiteout("d"), file("d/new"), file("f", "new")),
        (file("d/new"), file("f", "new"), whiteout("d"), whiteout("f")),
    ):
        found = tree(ns, snapshotter, layer(*BASE), layer(*entries))
        assert sorted(found) == ["d", "d/new", "f", "l"], entries
        assert found["f"] == "file 644 0:0 new"


def test_whiteouts_in_several_layers(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(
        ns,
        snapshotter,
        layer(*BASE),
        layer(whiteout("d")),
        layer(file("d/again")),
        layer(whiteout("d/again"), file("d/last")),
    )
    assert sorted(found) == ["d", "d/last", "f", "l"]


def test_no_whiteout_shows_in_a_listing(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """overlayfs lists a directory of one layer as it is, whiteouts and all."""
    found = tree(
        ns,
        snapshotter,
        layer(*BASE),
        layer(directory("n"), whiteout("n/x"), whiteout("d/sub/a"), whiteout("d/sub/b"), opaque("d/sub"), opaque("d")),
        layer(whiteout("n/y"), file("n/z")),
    )
    # d/sub: brought by its whiteouts, or not; both are readings of the specification.
    assert sorted(set(found) - {"d/sub"}) == ["d", "f", "l", "n", "n/z"]
    assert not [name for name, what in found.items() if what.startswith("char")]


def test_a_char_device_0_0_is_a_whiteout(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """It would be one on overlayfs; so it is one everywhere."""
    found = tree(ns, snapshotter, layer(*BASE, node("x", tarfile.CHRTYPE)), layer(node("f", tarfile.CHRTYPE)))
    assert "f" not in found
    assert "x" not in found


def test_aufs_files_are_left_out(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(
        ns, snapshotter, layer(file(".wh..wh.aufs"), directory(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file("f"))
    )
    assert sorted(found) == ["f"]


# ---- links ----


def test_hard_links_across_layers(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    root = open_tree(
        ns,
        snapshotter,
        layer(
            directory("d", 0o711), file("d/f", "data", 0o640, uid=5, mtime=50, pax_headers={"SCHILY.xattr.user.k": "v"})
        ),
        layer(hardlink("new", "d/f"), hardlink("again", "new"), hardlink("new", "/d/f"), hardlink("./new", "x/../new")),
    )
    facts = (root / "new").stat()
    assert (root / "new").read_text() == "data"
    assert facts.st_nlink == (root / "again").stat().st_nlink == 3
    assert facts.st_ino == (root / "d/f").stat().st_ino
    assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_mtime) == (0o640, 5, 50)
    assert os.getxattr(root / "d/f", "user.k") == b"v"
    assert (root / "d").stat().st_mode & 0o777 == 0o711


def test_a_hard_link_to_a_symbolic_link(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(ns, snapshotter, layer(file("f", "x"), symlink("s", "f"), hardlink("h", "s")))
    assert found["h"] == "link 0:0 -> f"


def test_a_hard_link_over_the_directory_of_its_target(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(ns, snapshotter, layer(directory("d"), file("d/f", "x"), hardlink("d", "d/f")))
    assert found == {"d": "file 644 0:0 x"}


def test_hard_links_do_not_change_their_target(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    found = tree(ns, snapshotter, layer(file("f", "x", 0o600, uid=1), hardlink("h", "f", mode=0o4777, uid=0)))
    assert found["f"] == found["h"] == "file 600 1:0 x"


def test_entries_below_symbolic_links(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """As in a merged root: a link of this layer or of one below is followed, inside the root."""
    below = (
        directory("usr/lib", 0o751),
        file("usr/lib/old"),
        symlink("lib", "usr/lib"),
        symlink("abs", "/usr/lib"),
        symlink("up", "../../../usr"),
        symlink("chain", "up/lib"),
    )
    above = (
        file("lib/a"),
        file("abs/b"),
        file("up/lib/c"),
        file("chain/sub/d"),
        whiteout("lib/old"),
        symlink("own", "lib"),
        file("own/e"),
        hardlink("chain/f", "own/e"),
    )
    found = tree(ns, snapshotter, layer(*below), layer(*above))
    files = sorted(name for name, what in found.items() if what.startswith("file"))
    assert files == ["usr/lib/a", "usr/lib/b", "usr/lib/c", "usr/lib/e", "usr/lib/f", "usr/lib/sub/d"]
    assert found["lib"] == "link 0:0 -> usr/lib"
    assert found["usr/lib"] == "dir 751 0:0"


# ---- xattrs, capabilities ----


def test_xattrs(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    pax = {
        "SCHILY.xattr.user.plain": "value",
        "SCHILY.xattr.user.empty": "",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.other": "x",
        "SCHILY.xattr.security.selinux": "system_u:object_r:t:s0",
        "SCHILY.xattr.security.ima": "x",
    }
    entries = [file("f", "x", 0o755, uid=1000), directory("d"), symlink("s", "f"), node("p", tarfile.FIFOTYPE)]
    for info, _ in entries:
        info.pax_headers = dict(pax)
    raw = layer(*entries, file("cap", "x"))
    # tarfile cannot write binary values; put the capability in by hand.
    record = b"SCHILY.xattr.security.capability=" + capability
    raw = with_record(raw, b"cap", record)
    root = open_tree(ns, snapshotter, raw, layer(file("d/below-a-directory-with-xattrs")))
    for name in ("f", "d"):
        assert sorted(a for a in os.listxattr(root / name) if a.startswith("user.")) == ["user.empty", "user.plain"]
        assert os.getxattr(root / name, "user.plain") == b"value"
        assert not [a for a in os.listxattr(root / name) if a.startswith(("trusted", "security"))]
    assert os.getxattr(root / "cap", "security.capability") == capability
    assert os.listxattr(root / "s", follow_symlinks=False) == []


def with_record(raw: bytes, name: bytes, body: bytes) -> bytes:
    """The layer with one more PAX record for the entry of this name."""
    length = len(body) + 2
    while len(str(length)) + 1 + len(body) + 1 != length:
        length += 1
    data = b"%d %s\n" % (length, body)
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(data)
    header = info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
    at = 0
    while raw[at : at + 100].rstrip(b"\0") != name:
        at += 512
    return raw[:at] + header + raw[at:]


# ---- formats ----


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats(ns: NamespaceStore, snapshotter: Snapshotter, format: int) -> None:
    long = "d/" + "n" * 90 if format == tarfile.USTAR_FORMAT else "d/" + "n" * 200
    deep = "/".join(["p" * 50] * (3 if format == tarfile.USTAR_FORMAT else 40)) + "/f"
    raw = layer(file(long, "x"), file(deep, "y"), symlink("s", "t" * (99 if format == 0 else 300)), format=format)
    found = tree(ns, snapshotter, raw)
    assert found[long] == "file 644 0:0 x"
    assert found[deep] == "file 644 0:0 y"


def test_names_are_bytes(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    names = ["ü", "日本", "new\nline", "\x01", "back\\slash", "-rf *", "b\udcffd"]
    found = tree(ns, snapshotter, layer(*(file(n) for n in names), format=tarfile.GNU_FORMAT))
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize("format", ["gnu", "posix"])
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_as_gnu_tar_writes_them(
    ns: NamespaceStore, snapshotter: Snapshotter, tmp_path: Path, format: str, version: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as f:
        for at in range(0, 40 << 20, 1 << 20):
            f.seek(at)
            f.write(b"data %d" % at)
        f.truncate(100 << 20)
    with open(source / "hole", "wb") as f:
        f.truncate(1 << 30)
    (source / "full").write_bytes(os.urandom(100_000))
    command = ["tar", "--sparse", f"--format={format}", "-C", str(source), "-cf", "-", "."]
    if format == "posix":
        command.insert(1, f"--sparse-version={version}")
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(raw) < 2 << 20
    root = open_tree(ns, snapshotter, raw)
    assert (root / "hole").stat().st_size == 1 << 30
    assert (root / "hole").stat().st_blocks == 0
    assert (root / "full").read_bytes() == (source / "full").read_bytes()
    assert (root / "sparse").stat().st_size == 100 << 20
    assert (root / "sparse").stat().st_blocks * 512 < 2 << 20
    with open(root / "sparse", "rb") as f:
        for at in range(0, 40 << 20, 1 << 20):
            f.seek(at)
            assert f.read(20) == (b"data %d" % at).ljust(20, b"\0")


def test_large_files(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """Longer than every buffer, and not a multiple of any."""
    data = os.urandom(5_000_003)
    root = open_tree(ns, snapshotter, layer(file("a", data), file("b", "after"), file("c", data[:1_048_576])))
    assert (root / "a").read_bytes() == data
    assert (root / "b").read_text() == "after"
    assert (root / "c").read_bytes() == data[:1_048_576]


def test_an_empty_layer_and_trailing_bytes(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    assert tree(ns, snapshotter, layer(), b"", bytes(1024)) == {}
    assert sorted(tree(ns, snapshotter, layer(file("f")) + b"rest" * 10_000)) == ["f"]


def test_many_small_entries_in_many_directories(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    entries = [file(f"a{i % 7}/b{i % 11}/f{i}", str(i)) for i in range(3000)]
    found = tree(ns, snapshotter, layer(*entries))
    assert len(found) == 3000 + 7 + 77
    assert found["a3/b3/f3"] == "file 644 0:0 3"


def test_directories_nested_deep(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    deep = "/".join("d" for _ in range(900))
    found = tree(ns, snapshotter, layer(file(f"{deep}/f")), layer(whiteout(f"{deep}/f"), opaque(deep[:1])))
    assert "d" in found
    assert f"{deep}/f" not in found


def test_archives_of_other_tools(ns: NamespaceStore, snapshotter: Snapshotter, tmp_path: Path) -> None:
    """What bsdtar-like, GNU and Python make of one tree is one tree."""
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / ("long" * 40)).write_text("x")
    os.link(source / "d" / ("long" * 40), source / "h")
    (source / "s").symlink_to("d")
    found = []
    for format in ("gnu", "posix", "oldgnu"):
        raw = subprocess.run(
            ["tar", f"--format={format}", "--sort=name", "-C", str(source), "-cf", "-", "."],
            check=True,
            capture_output=True,
        ).stdout
        found.append(tree(ns, snapshotter, raw))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(source, ".")
    found.append(tree(ns, snapshotter, out.getvalue()))
    assert found[0] == found[1] == found[2] == found[3]
    assert len(found[0]) == 4
