"""What every snapshotter does, run on each of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel.layermaker import look

from masu.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from masu.linux.idmap import Mapping
from masu.snapshots import IdMaps, Mount, choose
from masu.snapshots.mounted import detached
from masu.store import NamespaceStore, Store, open_store

if TYPE_CHECKING:
    from masu.snapshots import Snapshotter

pytestmark = pytest.mark.root

DRIVERS = ("overlayfs", "native")


def change(mounts: list[Mount], work: Callable[[Path], None]) -> None:
    """Lets `work` change the mounted tree."""
    tree = detached(mounts)
    try:
        work(Path(f"/proc/self/fd/{tree}"))
    finally:
        os.close(tree)


def touch(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).touch()


def base(snapshotter: Snapshotter) -> None:
    def fill(root: Path) -> None:
        (root / "d").mkdir()
        (root / "d/old").write_text("old")
        (root / "d/gone").write_text("gone")
        (root / "link").symlink_to("d/old")
        os.link(root / "d/old", root / "hard")
        os.mknod(root / "null", 0o20666, os.makedev(1, 3))
        os.mkfifo(root / "fifo")
        os.chown(root / "d/old", 1000, 1001)
        os.setxattr(root / "d/old", "user.x", b"y")

    change(snapshotter.prepare("k", ""), fill)
    snapshotter.commit("base", "k", labels={"l": "1"})


def test_prepare_commit_view(snapshotter: Snapshotter) -> None:
    base(snapshotter)
    info = snapshotter.stat("base")
    assert (info.kind, info.parent, info.labels) == ("committed", "", {"l": "1"})
    with pytest.raises(NotFound):
        snapshotter.stat("k")

    def more(root: Path) -> None:
        assert (root / "hard").read_text() == "old"
        assert os.getxattr(root / "d/old", "user.x") == b"y"
        assert (root / "d/old").stat().st_uid == 1000
        (root / "d/gone").unlink()
        (root / "d/new").write_text("new")

    change(snapshotter.prepare("k2", "base"), more)
    snapshotter.commit("top", "k2")
    assert snapshotter.stat("top").parent == "base"
    assert set(look(snapshotter.view("v", "top"))) == {"d", "d/old", "d/new", "fifo", "hard", "link", "null"}
    below = look(snapshotter.view("v2", "base"))
    assert set(below) == {"d", "d/old", "d/gone", "fifo", "hard", "link", "null"}
    assert below["d/old"] == below["hard"] == "file 644 1000:1001 old"
    assert below["null"].endswith("1:3")
    assert look(snapshotter.mounts("v2")) == below
    assert [i.name for i in snapshotter.walk()] == ["base", "top", "v", "v2"]


def test_a_view_is_read_only(snapshotter: Snapshotter) -> None:
    base(snapshotter)

    def write(root: Path) -> None:
        for act in (lambda: (root / "x").write_text(""), lambda: (root / "d/old").unlink()):
            with pytest.raises(OSError, match="Read-only"):
                act()

    change(snapshotter.view("v", "base"), write)
    snapshotter.view("empty")
    with pytest.raises(OSError, match="Read-only"):
        change(snapshotter.mounts("empty"), lambda root: (root / "x").touch())
    with pytest.raises(FailedPrecondition):
        snapshotter.commit("name", "v")


def test_two_on_one_parent_do_not_see_each_other(snapshotter: Snapshotter) -> None:
    base(snapshotter)
    change(snapshotter.prepare("a", "base"), lambda root: (root / "d/old").unlink())
    change(snapshotter.prepare("b", "base"), lambda root: (root / "mine").touch())
    assert "d/old" not in look(snapshotter.mounts("a"))
    assert {"d/old", "mine"} <= set(look(snapshotter.mounts("b")))
    assert "mine" not in look(snapshotter.view("v", "base"))


def test_many_layers(snapshotter: Snapshotter) -> None:
    """More than the 255 bytes that one option of fsconfig holds."""
    parent = ""
    for i in range(12):
        change(snapshotter.prepare("k", parent), touch(f"f{i}"))
        snapshotter.commit(f"l{i}", "k")
        parent = f"l{i}"
    assert len(look(snapshotter.view("v", parent))) == 12
    assert len(look(snapshotter.prepare("k", parent))) == 12


def test_what_is_refused(snapshotter: Snapshotter) -> None:
    base(snapshotter)
    snapshotter.prepare("active", "base")
    refused: list[tuple[type[Exception], Callable[[], object]]] = [
        (AlreadyExists, lambda: snapshotter.prepare("active", "base")),
        (AlreadyExists, lambda: snapshotter.prepare("base")),
        (AlreadyExists, lambda: snapshotter.view("active")),
        (AlreadyExists, lambda: snapshotter.commit("base", "active")),
        (NotFound, lambda: snapshotter.prepare("x", "nothing")),
        (InvalidArgument, lambda: snapshotter.prepare("x", "active")),
        (NotFound, lambda: snapshotter.mounts("nothing")),
        (FailedPrecondition, lambda: snapshotter.mounts("base")),
        (NotFound, lambda: snapshotter.commit("x", "nothing")),
        (FailedPrecondition, lambda: snapshotter.commit("x", "base")),
        (FailedPrecondition, lambda: snapshotter.remove("base")),
        (NotFound, lambda: snapshotter.remove("nothing")),
        (NotFound, lambda: snapshotter.stat("nothing")),
        (NotFound, lambda: snapshotter.update("nothing", {})),
        (NotFound, lambda: snapshotter.usage("nothing")),
        (InvalidArgument, lambda: snapshotter.prepare("", "base")),
        (InvalidArgument, lambda: snapshotter.prepare("a\nb", "base")),
    ]
    for kind, call in refused:
        with pytest.raises(kind):
            call()
    assert {i.name for i in snapshotter.walk()} == {"base", "active"}
    assert len(os.listdir(snapshotter.root)) == 2, "what was refused leaves nothing"


def test_remove(snapshotter: Snapshotter) -> None:
    base(snapshotter)
    snapshotter.prepare("k", "base")
    snapshotter.remove("k")
    snapshotter.remove("base")
    assert list(snapshotter.walk()) == []
    assert os.listdir(snapshotter.root) == []


def test_labels(snapshotter: Snapshotter) -> None:
    snapshotter.prepare("k", labels={"a": "1", "b": "2"})
    assert snapshotter.update("k", {"a": None, "c": "3"}).labels == {"b": "2", "c": "3"}


def test_usage_is_of_the_snapshot_alone(snapshotter: Snapshotter) -> None:
    def fill(root: Path) -> None:
        (root / "big").write_bytes(b"x" * 1_000_000)
        os.link(root / "big", root / "same")

    change(snapshotter.prepare("k"), fill)
    size, inodes = snapshotter.usage("k")
    assert 1_000_000 <= size < 1_100_000
    assert inodes == 2
    snapshotter.commit("base", "k")
    assert snapshotter.usage("base") == (size, inodes)
    snapshotter.view("v", "base")
    assert snapshotter.usage("v")[0] < 100_000
    if snapshotter.name == "overlayfs":
        snapshotter.prepare("k", "base")
        assert snapshotter.usage("k")[0] < 100_000


def test_the_root_directory_is_the_parents(snapshotter: Snapshotter) -> None:
    def fill(root: Path) -> None:
        fd = os.open(root, os.O_RDONLY)
        os.fchown(fd, 7, 8)
        os.fchmod(fd, 0o1751)
        os.close(fd)

    change(snapshotter.prepare("k"), fill)
    snapshotter.commit("base", "k")
    previous = os.umask(0o077)
    try:
        for mounts in (snapshotter.prepare("k", "base"), snapshotter.view("v", "base")):
            tree = detached(mounts)
            facts = os.fstat(tree)
            os.close(tree)
            assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (7, 8, 0o1751)
        tree = detached(snapshotter.prepare("plain"))
        assert os.fstat(tree).st_mode & 0o7777 == 0o755, "whatever the umask"
        os.close(tree)
    finally:
        os.umask(previous)


def test_namespaces_have_their_own_names(snapshotter: Snapshotter, store: Store) -> None:
    other = choose(store.namespace("other"), snapshotter.name)
    base(snapshotter)
    with pytest.raises(NotFound):
        other.stat("base")
    with pytest.raises(NotFound):
        other.prepare("k", "base")
    base(other)
    snapshotter.remove("base")
    assert "d/old" in look(other.view("v", "base"))


MAPS = IdMaps([Mapping(0, 100000, 65536)], [Mapping(0, 200000, 65536)])


def test_id_maps(snapshotter: Snapshotter) -> None:
    """Layers keep their ids on disk; who mounts with the options sees the mapped ones."""
    base(snapshotter)
    mounts = snapshotter.prepare("k", "base", id_maps=MAPS)
    assert "uidmap=0:100000:65536" in mounts[0].options
    assert "gidmap=0:200000:65536" in mounts[0].options
    assert snapshotter.mounts("k") == mounts, "they are remembered"
    seen = look(mounts)
    assert seen["d/old"] == "file 644 101000:201001 old"
    assert seen["d"].endswith("100000:200000")
    for mounts in (snapshotter.view("v", "base", id_maps=MAPS), snapshotter.mounts("v")):
        assert look(mounts)["d/old"] == "file 644 101000:201001 old"
    tree = detached(snapshotter.prepare("empty", id_maps=MAPS))
    facts = os.fstat(tree)
    os.close(tree)
    assert (facts.st_uid, facts.st_gid) == (100000, 200000), "the root belongs to the mapped root"


def test_the_mount_label_is_an_option_of_overlays(snapshotter: Snapshotter) -> None:
    base(snapshotter)
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    mounts = snapshotter.prepare("k", "base", mount_label=label)
    assert snapshotter.mounts("k") == mounts
    assert (f'context="{label}"' in mounts[0].options) == (snapshotter.name == "overlayfs")


def prepare_many(root: str, driver: str, name: str) -> None:
    snapshotter = choose(open_store(root).namespace(), driver)
    for i in range(10):
        snapshotter.prepare(f"{name}.{i}", "base")
        if i % 2:
            snapshotter.remove(f"{name}.{i}")


def test_several_processes_at_once(snapshotter: Snapshotter, store: Store) -> None:
    base(snapshotter)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=prepare_many, args=(store.root, snapshotter.name, f"p{i}")) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert len(list(snapshotter.walk())) == 1 + 3 * 5
    assert len(os.listdir(snapshotter.root)) == 1 + 3 * 5


@pytest.mark.parametrize("call", ["mkdir", "rename", "fsync", "rmdir"])
def test_killed_anywhere_the_next_one_finds_it_consistent(
    snapshotter: Snapshotter, store: Store, ns: NamespaceStore, call: str
) -> None:
    base(snapshotter)
    snapshotter.update("base", {"containerd.io/gc.root": "yes"})
    for step in range(1, 6):
        pid = os.fork()
        if pid == 0:
            real, seen = getattr(os, call), 0

            def dying(*args: object, real: Callable[..., object] = real, step: int = step, **more: object) -> object:
                nonlocal seen
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)

            setattr(os, call, dying)
            try:
                snapshotter.prepare("k", "base")
                snapshotter.commit("name", "k")
                snapshotter.remove("name")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert store.gc().errors == []
        assert [i.name for i in snapshotter.walk()] == ["base"]
        assert len(os.listdir(snapshotter.root)) == 1
        assert "d/old" in look(snapshotter.view("v", "base"))
        snapshotter.remove("v")


def test_a_copy_in_progress_is_not_swept(snapshotter: Snapshotter, store: Store) -> None:
    """`new-*` with a lock belongs to somebody; without, it was left by a kill."""
    import fcntl

    held = Path(snapshotter.root, "new-held")
    left = Path(snapshotter.root, "new-left")
    held.mkdir()
    left.mkdir()
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    store.gc()
    assert held.exists()
    assert not left.exists()
    os.close(lock)
    store.gc()
    assert not held.exists()


def test_choose(ns: NamespaceStore) -> None:
    assert choose(ns).name == "overlayfs"
    assert choose(ns, "native").name == "native"
    assert choose(ns).name == "overlayfs", "what was chosen once stays"
    with pytest.raises(InvalidArgument):
        choose(ns, "btrfs")


def test_choose_where_overlay_cannot_be(tmp_path: Path) -> None:
    """On top of an overlay whose upper layer is no place for another one."""
    from harness import forked

    from masu.linux import mount, namespaces

    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()

    def body() -> None:
        options = [f"lowerdir={tmp_path}/lower", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"]
        fd = mount.new_mount("overlay", "overlay", options)
        mount.attach(fd, str(tmp_path / "merged"))
        os.close(fd)
        ns = open_store(str(tmp_path / "merged/state")).namespace()
        with pytest.raises(FailedPrecondition, match="overlay"):
            choose(ns, "overlayfs")
        snapshotter = choose(ns)
        assert snapshotter.name == "native"
        base(snapshotter)
        assert "d/old" in look(snapshotter.prepare("k2", "base"))
        assert os.listdir(f"{ns.root}/snapshots") == ["native"]

    forked.run(body, unshare=namespaces.CLONE_NEWNS)


def test_awkward_folder_names(tmp_path: Path) -> None:
    """Colons, commas and backslashes separate and quote in overlay's options."""
    ns = open_store(str(tmp_path / "a:b,c\\d e")).namespace()
    snapshotter = choose(ns)
    assert snapshotter.name == "overlayfs"
    base(snapshotter)
    change(snapshotter.prepare("k", "base"), lambda root: (root / "d/new").touch())
    snapshotter.commit("top", "k")
    assert {"d/old", "d/new"} <= set(look(snapshotter.view("v", "top")))
    assert {"d/old", "d/new"} <= set(look(snapshotter.prepare("k", "top")))


def test_a_long_state_directory(tmp_path: Path) -> None:
    ns = open_store(str(tmp_path / ("l" * 200) / ("m" * 200))).namespace()
    snapshotter = choose(ns)
    assert snapshotter.name == "overlayfs"
    base(snapshotter)
    change(snapshotter.prepare("k", "base"), lambda root: (root / "d/new").touch())
    snapshotter.commit("top", "k")
    assert {"d/old", "d/new"} <= set(look(snapshotter.prepare("k", "top")))
