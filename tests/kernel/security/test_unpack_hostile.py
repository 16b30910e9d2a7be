"""Layers made to get out of their directory, or to break whoever unpacks them. Each names what it comes from."""

from __future__ import annotations

import gzip
import io
import os
import signal
import struct
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel.layermaker import (
    GZIP,
    digest_of,
    directory,
    file,
    hardlink,
    image,
    layer,
    look,
    node,
    opaque,
    put,
    symlink,
    whiteout,
)
from kernel.security.staging import UP, swapping

from masu.errors import DataLoss, InvalidArgument, KernelError, MasuError, ResourceExhausted
from masu.snapshots import choose, unpack
from masu.snapshots.apply import Limits, apply_stream, worker_path
from masu.store import NamespaceStore

if TYPE_CHECKING:
    from masu.snapshots import Snapshotter

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def outside(tmp_path: Path) -> object:
    """What a layer must never touch, beside and above the directories it is unpacked into."""
    precious = tmp_path / "outside"
    precious.mkdir()
    (precious / "file").write_text("precious")
    (precious / "file").chmod(0o600)
    canary = Path("/masu-test-escaped")
    assert not canary.exists()
    yield precious
    assert not canary.exists(), "a layer wrote to the host's root"
    assert (precious / "file").read_text() == "precious"
    assert (precious / "file").stat().st_mode & 0o7777 == 0o600
    assert (precious / "file").stat().st_uid == 0
    assert os.listdir(precious) == ["file"]


def unpacked(ns: NamespaceStore, snapshotter: Snapshotter, *layers: bytes) -> dict[str, str]:
    manifest, config, _ = image(ns, layers)
    top = unpack(ns, manifest, config, snapshotter)
    return look(snapshotter.view("look", top))


def refused(ns: NamespaceStore, snapshotter: Snapshotter, *layers: bytes, match: str = ".") -> MasuError:
    manifest, config, _ = image(ns, layers)
    with pytest.raises(MasuError, match=match) as caught:
        unpack(ns, manifest, config, snapshotter)
    kinds = {info.kind for info in snapshotter.walk()}
    assert kinds <= {"committed"}, "what failed is gone"
    assert ns.leases.list() == []
    return caught.value


# ---- paths ----


@pytest.mark.parametrize(
    "name", ["../masu-test-escaped", "/../masu-test-escaped", "a/../../masu-test-escaped", "//masu-test-escaped",
             "/proc/self/root/masu-test-escaped", "a/b/../../../../masu-test-escaped", "./.././masu-test-escaped"]
)  # fmt: skip
def test_names_that_climb_stay_inside(ns: NamespaceStore, snapshotter: Snapshotter, name: str) -> None:
    """CVE-2019-10152's family: the path is taken as one of the root of the layer."""
    found = unpacked(ns, snapshotter, layer(directory("a/b"), file(name, "x")))
    assert [n for n in found if n.endswith("masu-test-escaped")]


@pytest.mark.parametrize("target", ["/", "..", "../../../../../../../..", "/proc/self/root", "/proc/1/root", "/dev/fd"])
@pytest.mark.parametrize("between", ["one layer", "two layers"])
def test_symbolic_links_lead_nowhere_else(
    ns: NamespaceStore, snapshotter: Snapshotter, target: str, between: str
) -> None:
    """CVE-2021-32760's family: an entry below a link to the host."""
    link, entry = symlink("link", target), file("link/masu-test-escaped", "x")
    layers = [layer(link, entry)] if between == "one layer" else [layer(link), layer(entry)]
    manifest, config, _ = image(ns, layers)
    try:
        top = unpack(ns, manifest, config, snapshotter)
    except InvalidArgument:
        return
    assert [n for n in look(snapshotter.view("look", top)) if n.endswith("masu-test-escaped")]


def test_a_link_to_an_absolute_host_path(ns: NamespaceStore, snapshotter: Snapshotter, outside: Path) -> None:
    entries = [symlink("link", str(outside)), file("link/file", "overwritten"), whiteout("link/file"), opaque("link"),
               directory("link", 0o777), symlink("f", str(outside / "file")), file("f", "x", 0o777, uid=1)]  # fmt: skip
    found = unpacked(ns, snapshotter, layer(*entries))
    assert found["f"] == "file 777 1:0 x"
    assert found["link"] == "dir 777 0:0"


def test_a_hard_link_to_the_host(ns: NamespaceStore, snapshotter: Snapshotter, outside: Path) -> None:
    """CVE-2021-32760, CVE-2026-17106: a link that names a file of the host, whose mode then would be changed."""
    for target in (str(outside / "file"), f"../../../../../../../..{outside}/file", "/etc/passwd"):
        refused(ns, snapshotter, layer(hardlink("h", target, mode=0o777, uid=1)), match="does not exist")
    entries = [symlink("way", str(outside)), hardlink("h", "way/file", mode=0o777)]
    refused(ns, snapshotter, layer(*entries), match="does not exist")


def test_a_hard_link_to_a_symbolic_link_is_not_followed(
    ns: NamespaceStore, snapshotter: Snapshotter, outside: Path
) -> None:
    """CVE-2026-17106: chmod through a hard link to a symbolic link."""
    entries = [symlink("s", str(outside / "file")), hardlink("h", "s", mode=0o777, uid=1), file("h", "x")]
    found = unpacked(ns, snapshotter, layer(*entries))
    assert found["h"] == "file 644 0:0 x"
    assert found["s"].endswith(str(outside / "file"))


@pytest.mark.parametrize("name", [".", "/", "./", "..", "a/.."])
def test_the_root_is_a_directory(ns: NamespaceStore, snapshotter: Snapshotter, name: str, outside: Path) -> None:
    """CVE-2021-29136: a symbolic link as the root of the layer."""
    refused(ns, snapshotter, layer(symlink(name, str(outside)), file("x")), match="root of the layer")
    refused(ns, snapshotter, layer(file(name, "x")), match="root of the layer")
    refused(ns, snapshotter, layer(hardlink("h", name)), match="hard link to the root")


def test_links_in_circles(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    circle = [symlink("a", "b"), symlink("b", "a"), file("a/f")]
    refused(ns, snapshotter, layer(*circle), match="too many symbolic links")
    refused(ns, snapshotter, layer(*circle[:2]), layer(file("a/f")), match="too many symbolic links")
    bomb = [symlink(f"l{i}", f"l{i + 1}/l{i + 1}") for i in range(60)]
    refused(ns, snapshotter, layer(*bomb, file("l0/f")), match="too many symbolic links")
    long = [symlink("g", "/" + "./" * 2000), file("/".join(["g", *["d"] * 200]))]
    refused(ns, snapshotter, layer(*long), match="too many symbolic links")


def test_below_something_that_is_no_directory(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    for entry in (file("f"), node("f", tarfile.FIFOTYPE), node("f", tarfile.CHRTYPE, 1, 3)):
        refused(ns, snapshotter, layer(entry, file("f/x")), match="no directory")
    refused(ns, snapshotter, layer(file("f")), layer(file("f/x")), match="no directory")


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh...", ".wh.d/f", "d/.wh.x/y"])
def test_whiteouts_of_no_name(ns: NamespaceStore, snapshotter: Snapshotter, name: str) -> None:
    """`.wh..` and `.wh...` would remove the directory itself, or its parent."""
    below = layer(directory("d"), file("d/f"), file("keep"))
    refused(ns, snapshotter, below, layer(file(name)), match="whiteout")


def test_whiteouts_reach_nothing_outside(ns: NamespaceStore, snapshotter: Snapshotter, outside: Path) -> None:
    climb = "../" * 12 + str(outside)[1:]
    entries = [symlink("l", str(outside)), file(f"{climb}/.wh.file"), file("l/.wh.file"), file("l/.wh..wh..opq")]
    unpacked(ns, snapshotter, layer(directory("d")), layer(*entries))


def test_names_too_long(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    refused(ns, snapshotter, layer(file("n" * 256)), match="255")
    refused(ns, snapshotter, layer(file("n" * 256 + "/f")), match="255")
    refused(ns, snapshotter, layer(directory("n" * 256)), match="255")
    refused(ns, snapshotter, layer(file("/".join(["d"] * 2100))), match="4095")
    refused(ns, snapshotter, layer(symlink("s", "t" * 4096)), match="4095")
    refused(ns, snapshotter, layer(hardlink("h", "t" * 4096)), match="4095")


def test_control_characters_do_not_reach_a_terminal(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    error = refused(ns, snapshotter, layer(file("d"), file("d/\x1b[2J\nforged: line")))
    assert "\x1b" not in str(error)
    assert "\n" not in str(error)
    assert "entry 2" in str(error)


# ---- overlayfs' own language ----


def test_overlay_xattrs_are_not_a_layers_to_set(ns: NamespaceStore, outside: Path) -> None:
    """With trusted.overlay.redirect and metacopy a layer could show files of other layers under its own names."""
    names = ("redirect", "metacopy", "origin", "opaque", "impure", "nlink", "upper", "protattr", "whiteout")
    pax = {f"SCHILY.xattr.{kind}.overlay.{name}": "/d" for kind in ("trusted", "user") for name in names}
    entry = directory("d")
    entry[0].pax_headers = pax
    snapshotter = choose(ns, "overlayfs")
    manifest, config, _ = image(ns, [layer(directory("d"), file("d/f")), layer(entry)])
    top = unpack(ns, manifest, config, snapshotter)
    upper = f"{snapshotter.root}/{snapshotter.stat(top).id}/fs/d"
    assert not [a for a in os.listxattr(upper) if "overlay" in a]
    assert sorted(look(snapshotter.view("v", top))) == ["d", "d/f"]


# ---- numbers ----


def test_owners_that_wrap_around(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """CVE-2024-40635: 2^32 must not become root; 2^32-1 means "leave it"."""
    for owner in (1 << 32, (1 << 32) - 1, (1 << 63) - 1):
        entry = file("f")
        entry[0].pax_headers = {"uid": str(owner)}
        refused(ns, snapshotter, layer(entry), match="owner")


def test_an_entry_that_says_it_is_huge(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    for size in ((1 << 63) - 1, 1 << 50):
        entry = file("f")
        entry[0].pax_headers = {"size": str(size)}
        error = refused(ns, snapshotter, layer(entry))
        assert isinstance(error, (ResourceExhausted, InvalidArgument))


def test_a_sparse_file_that_says_it_is_huge(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    entry = file("f", "x")
    entry[0].pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 62), "GNU.sparse.numblocks": "1"}
    assert isinstance(refused(ns, snapshotter, layer(entry), match="too large"), ResourceExhausted)


def stream(data: bytes) -> int:
    fd = os.memfd_create("layer")
    os.write(fd, data)
    return fd


def test_limits(snapshotter: Snapshotter) -> None:
    raw = layer(*(file(f"f{i}", "12345") for i in range(20)))
    for limits in (Limits(entries=19), Limits(bytes=99)):
        fd = stream(raw)
        with pytest.raises(ResourceExhausted, match="the layer"):
            apply_stream(fd, "", snapshotter.prepare("k"), limits=limits)
        os.close(fd)
        snapshotter.remove("k")
    fd = stream(raw)
    applied = apply_stream(fd, "", snapshotter.prepare("k"), limits=Limits(entries=20, bytes=100))
    os.close(fd)
    assert (applied.entries, applied.bytes, applied.diff_id) == (20, 100, digest_of(raw))


def test_opaque_markers_cost_linear_time(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """CVE-2026-95838: each marker looked at every path there was. Twice the layer may not cost four times the work;
    what is counted is the processor time of the worker."""

    def work(count: int) -> float:
        below = layer(*(file(f"d{i}/f") for i in range(count)))
        markers = [opaque(f"d{i}") for i in range(count)] + [opaque("d0")] * count + [whiteout("d1/f")] * count
        entries = [file(f"d{i}/g{i}") for i in range(count)]
        manifest, config, _ = image(ns, [below, layer(*entries, *markers, opaque(""))])
        before = os.times()
        unpack(ns, manifest, config, snapshotter)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    work(100)
    small, large = work(2000), work(8000)
    # Linear is a factor of 4, square 16; clock ticks and a busy machine blur it.
    assert large < 10 * max(small, 0.05)


def test_opaque_directories_in_each_other(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    depth = 300
    paths = ["/".join("d" for _ in range(i + 1)) for i in range(depth)]
    below = layer(*(file(f"{p}/f{i}") for p in paths for i in range(3)))
    begin = time.process_time()
    found = unpacked(ns, snapshotter, below, layer(*(opaque(p) for p in reversed(paths)), *(opaque(p) for p in paths)))
    assert time.process_time() - begin < 30
    assert not [n for n in found if n.endswith(("f0", "f1", "f2"))]


# ---- broken streams ----


@pytest.mark.parametrize("cut", [0, 1, 100, 511, 513, 5000])
def test_truncated_archives(ns: NamespaceStore, snapshotter: Snapshotter, cut: int) -> None:
    raw = layer(file("f", "x" * 10_000), file("g"))[: 600 + cut]
    refused(ns, snapshotter, raw, match="ends in the middle")


@pytest.mark.parametrize("damage", ["cut", "flip", "garbage", "plain", "empty", "trailer"])
def test_broken_gzip(ns: NamespaceStore, snapshotter: Snapshotter, damage: str) -> None:
    raw = layer(file("f", os.urandom(200_000)))
    blob = gzip.compress(raw)
    blob = {
        "cut": blob[:-20],
        "flip": blob[:1000] + bytes([blob[1000] ^ 255]) + blob[1001:],
        "garbage": blob + b"garbage after the end",
        "plain": raw,
        "empty": b"",
        "trailer": blob[:-8] + bytes(8),
    }[damage]
    manifest, config, _ = image(ns, [raw])
    broken = {"mediaType": GZIP, "digest": put(ns, blob), "size": len(blob)}
    from masu.spec.image import parse_descriptor

    with pytest.raises(DataLoss):
        unpack(ns, manifest.replace(layers=(parse_descriptor(broken),)), config, snapshotter)
    assert list(snapshotter.walk()) == []


def test_several_gzip_members_are_one_layer(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    """As estargz and pigz write them."""
    raw = layer(file("a", "1"), file("b", "2"))
    blob = b"".join(gzip.compress(raw[i : i + 300]) for i in range(0, len(raw), 300))
    fd = stream(blob)
    applied = apply_stream(fd, "gzip", snapshotter.prepare("k"))
    os.close(fd)
    assert applied.diff_id == digest_of(raw)
    assert sorted(look(snapshotter.mounts("k"))) == ["a", "b"]


def test_zstd(ns: NamespaceStore, snapshotter: Snapshotter) -> None:
    import zstandard

    raw = layer(file("a", os.urandom(3_000_000)), file("b", "2"))
    frames = (
        zstandard.compress(raw[:1000]) + struct.pack("<II", 0x184D2A50, 3) + b"xyz" + zstandard.compress(raw[1000:])
    )
    fd = stream(frames)
    assert apply_stream(fd, "zstd", snapshotter.prepare("k")).diff_id == digest_of(raw)
    os.close(fd)
    snapshotter.remove("k")
    for broken in (frames[:-5], frames[:2000], frames + b"garbage", b"", raw):
        fd = stream(broken)
        with pytest.raises(DataLoss):
            apply_stream(fd, "zstd", snapshotter.prepare("k"))
        os.close(fd)
        snapshotter.remove("k")


def test_a_compression_bomb_ends_at_the_limit(snapshotter: Snapshotter) -> None:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
        info = tarfile.TarInfo("zeros")
        info.size = 300 << 20
        packed.write(info.tobuf())
        for _ in range(300):
            packed.write(bytes(1 << 20))
    fd = stream(out.getvalue())
    with pytest.raises(ResourceExhausted, match="too large"):
        apply_stream(fd, "gzip", snapshotter.prepare("k"), limits=Limits(bytes=100 << 20))
    os.close(fd)
    assert snapshotter.usage("k")[0] < 10 << 20


# ---- the worker itself ----


def worker(tmp_path: Path, data: bytes, **more: object) -> subprocess.CompletedProcess[bytes]:
    """masu-unpack by hand, with nothing around it."""
    from masu.linux import mount

    top = tmp_path / "tree"
    top.mkdir(exist_ok=True)
    fd = mount.clone_tree(str(top))
    try:
        return subprocess.run(
            [worker_path(), "--root", str(fd), "--whiteouts", "remove"],
            input=data,
            capture_output=True,
            pass_fds=[fd],
            check=False,
        )
    finally:
        os.close(fd)


@pytest.mark.parametrize("climbing", [False, True])
def test_cve_2025_47290(tmp_path: Path, outside: Path, climbing: bool) -> None:
    """While a layer is written somebody exchanges a directory of the tree for a link to the host's: names, modes and
    owners of the layer would be given to what is there."""
    entries = [file("folder/file", "owned", 0o4777, uid=1000), whiteout("folder/file")] * 100
    raw = layer(directory("folder", 0o777, uid=1000), *entries)
    met = number = 0
    while number < 20 or not met:
        number += 1
        place = tmp_path / str(number)
        folder, link = place / "tree/folder", place / "tree/link"
        folder.mkdir(parents=True)
        link.symlink_to(UP + str(outside)[1:] if climbing else outside)
        with swapping(folder, link, least=0):
            assert worker(place, raw).stdout.partition(b"\n")[0] in (b"ok", b"error")
        # A link in the place of a directory is replaced by one: then it has been met.
        met += not (folder.is_symlink() or link.is_symlink())


def test_the_worker_is_confined(tmp_path: Path) -> None:
    """Looked at from outside while it waits for its layer."""
    from masu.linux import mount

    top = tmp_path / "tree"
    top.mkdir()
    (top / "inside").touch()
    fd, extra = mount.clone_tree(str(top)), os.open("/", os.O_RDONLY)
    process = subprocess.Popen(
        [worker_path(), "--root", str(fd), "--whiteouts", "remove"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[fd, extra],
    )
    os.close(fd)
    os.close(extra)
    assert process.stdin is not None
    # The first block is taken once it is confined: then the pipe is empty again.
    raw = layer(file("f", "x" * 5_000_000))
    process.stdin.write(raw[: 3 << 20])
    process.stdin.flush()
    proc = Path(f"/proc/{process.pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    chown, dac, fowner, fsetid, mknod, setfcap = (1 << n for n in (0, 1, 3, 4, 27, 31))
    allowed = chown | dac | fowner | fsetid | mknod | setfcap
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) & ~allowed == 0, name
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert os.listdir(proc / "root") != os.listdir("/")
    assert "inside" in os.listdir(proc / "root")
    assert len((proc / "mounts").read_text().splitlines()) == 1
    for name in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(proc / "ns" / name) != os.readlink(f"/proc/self/ns/{name}"), name
    assert sorted(os.listdir(proc / "fd"), key=int)[:4] == ["0", "1", "2", "3"]
    assert len(os.listdir(proc / "fd")) <= 6
    # The layer never ends: when its reader is gone so is the worker, without a report of success.
    process.stdin.close()
    assert process.stdout is not None
    assert process.stdout.read().startswith(b"error\n")
    process.stdout.close()
    assert process.wait() == 0


def test_the_worker_reports_strictly(tmp_path: Path) -> None:
    done = worker(tmp_path, layer(file("f", "x")))
    assert done.stdout == b"ok\n1 1 0 0\n"
    failed = worker(tmp_path, layer(file("a\nok\n1 1 0 0"), file("a\nok\n1 1 0 0/x")))
    lines = failed.stdout.split(b"\n")
    assert lines[0] == b"error"
    assert len(lines) == 5
    assert bytes.fromhex(lines[3].decode()) == b"a\nok\n1 1 0 0/x"


@pytest.mark.parametrize(
    "said",
    [b"", b"ok\n", b"ok\n1 2 3\n", b"ok\n1 2 3 4", b"ok\n1 2 3 4\nmore\n", b"error\ninvalid 0 0\nwhat\nzz\n",
     b"error\nodd\n", b"ok\na b c d\n", b"x" * 20000, b"error\ninvalid 0 0\n\xff\n00\n"],
)  # fmt: skip
def test_what_a_captured_worker_may_say(said: bytes) -> None:
    from masu.snapshots.apply import _understand

    with pytest.raises(KernelError):
        _understand(said, 0, "layer")
    with pytest.raises(KernelError, match="signal 9"):
        _understand(b"ok\n1 2 3 4\n", -signal.SIGKILL, "layer")
    with pytest.raises(KernelError, match="status 1"):
        _understand(b"ok\n1 2 3 4\n", 1, "layer")


def test_a_killed_worker_is_an_error(
    ns: NamespaceStore, snapshotter: Snapshotter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masu.snapshots import apply

    script = tmp_path / "worker"
    script.write_text("#!/bin/sh\nhead -c 1000 >/dev/null\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(apply, "worker_path", lambda: str(script))
    refused(ns, snapshotter, layer(file("f", os.urandom(5_000_000))), match="signal 9")
