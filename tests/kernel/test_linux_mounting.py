"""The mount API, on real mounts in a mount namespace of the test's own."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import forked

from masu.errors import KernelError
from masu.linux import _sys, mount, namespaces
from masu.linux.mountinfo import MountInfo

pytestmark = pytest.mark.root

NEWNS = namespaces.CLONE_NEWNS


def in_mount_namespace(body: Callable[[], None]) -> None:
    forked.run(body, unshare=NEWNS)


def mounted(path: Path) -> MountInfo:
    """The topmost mount on `path`."""
    return next(item for item in reversed(mount.mountinfo()) if item.mount_point == str(path))


def tmpfs(*words: str) -> int:
    options = mount.parse_options(words, "options")
    return mount.new_mount("tmpfs", "tmpfs", (*options.sb_options, *options.data), attr=options.attr_set)


def test_options_reach_the_kernel(tmp_path: Path) -> None:
    def body() -> None:
        fd = tmpfs("ro", "nosuid", "nodev", "noexec", "noatime", "mode=1711", "size=64k", "nr_inodes=9")
        mount.attach(fd, str(tmp_path))
        os.close(fd)
        seen = mounted(tmp_path)
        assert set(seen.options.split(",")) == {"ro", "nosuid", "nodev", "noexec", "noatime"}
        assert {"ro", "size=64k", "nr_inodes=9", "mode=1711"} <= set(seen.super_options.split(","))
        mount.unmount(str(tmp_path))
        with pytest.raises(KernelError, match="EINVAL"):
            mount.unmount(str(tmp_path))

    in_mount_namespace(body)


@pytest.mark.parametrize("word", [word for word in mount.known_options() if "idmap" not in word])
def test_every_option_can_be_applied(tmp_path: Path, word: str) -> None:
    """On a new file system, and on a bind of it: no word of the features list is refused by this kernel."""

    def body() -> None:
        options = mount.parse_options((word,), "options")
        fd = tmpfs(word)
        mount.attach(fd, str(tmp_path))
        os.close(fd)
        fd = mount.clone_tree(str(tmp_path), recursive=options.recursive, follow=not options.src_nofollow)
        mount.set_attributes(fd, set=options.attr_set, clear=options.attr_clr)
        mount.set_attributes(fd, set=options.rec_attr_set, clear=options.rec_attr_clr, recursive=True)
        mount.attach(fd, str(tmp_path), follow=not options.dest_nofollow)
        for flags in options.propagation:
            mount.set_propagation(str(tmp_path), flags)
        seen = mounted(tmp_path)
        if word in ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow", "relatime"):
            assert word in seen.options.split(",")
        if word in ("sync", "dirsync", "lazytime"):
            assert word in seen.super_options.split(",")
        if word in ("shared", "rshared"):
            assert seen.shared
        if word in ("unbindable", "runbindable"):
            assert seen.unbindable
        os.close(fd)

    in_mount_namespace(body)


def test_the_kernels_own_words_are_told() -> None:
    with pytest.raises(KernelError, match="Unknown parameter 'siz'") as caught:
        tmpfs("siz=64k")
    assert (caught.value.what, caught.value.errno) == ("fsconfig", errno.EINVAL)
    with pytest.raises(KernelError, match="no such file system"):
        mount.new_mount("nosuchfs", "")


def test_recursive_attributes(tmp_path: Path) -> None:
    def body() -> None:
        source, target = tmp_path / "s", tmp_path / "t"
        (source / "sub").mkdir(parents=True)
        target.mkdir()
        fd = tmpfs()
        mount.attach(fd, str(source / "sub"))
        os.close(fd)
        options = mount.parse_options(("rbind", "rro"), "options")
        fd = mount.clone_tree(str(source), recursive=options.recursive)
        mount.set_attributes(fd, set=options.rec_attr_set, clear=options.rec_attr_clr, recursive=True)
        mount.attach(fd, str(target))
        os.close(fd)
        for path in (target / "x", target / "sub/x"):
            with pytest.raises(OSError, match="Read-only"):
                path.write_text("x")
        (source / "sub/x").write_text("x")
        mount.unmount(str(target), detach=True)

    in_mount_namespace(body)


def test_a_bind_of_what_a_descriptor_holds(tmp_path: Path) -> None:
    def body() -> None:
        (tmp_path / "file").write_text("one")
        (tmp_path / "over").write_text("two")
        held = os.open(tmp_path / "file", os.O_PATH)
        over = os.open(tmp_path / "over", os.O_PATH)
        fd = mount.clone_tree("", dirfd=held)
        mount.attach(fd, "", dirfd=over)
        assert (tmp_path / "over").read_text() == "one"
        for each in (held, over, fd):
            os.close(each)

    in_mount_namespace(body)


def test_a_symlink_as_source(tmp_path: Path) -> None:
    def body() -> None:
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(KernelError, match="ENOENT"):
            mount.clone_tree(str(tmp_path / "link"))
        os.close(mount.clone_tree(str(tmp_path / "link"), follow=False))

    in_mount_namespace(body)


def test_overlay_of_many_layers(tmp_path: Path) -> None:
    """lowerdir is far longer than the 255 bytes that fsconfig(2) takes in one string."""

    def body() -> None:
        layers = []
        for number in range(40):
            layer = tmp_path / f"layer:{number:03}"
            layer.mkdir()
            (layer / f"f{number}").write_text("")
            layers.append(str(layer).replace(":", "\\:"))
        target = tmp_path / "target"
        target.mkdir()
        fd = mount.new_mount("overlay", "overlay", ("lowerdir=" + ":".join(layers),), attr=mount.MOUNT_ATTR_RDONLY)
        mount.attach(fd, str(target))
        os.close(fd)
        assert len(os.listdir(target)) == 40

    in_mount_namespace(body)


def test_id_mapped_mount(tmp_path: Path) -> None:
    def body() -> None:
        fd = tmpfs()
        mount.attach(fd, str(tmp_path))
        os.close(fd)
        (tmp_path / "file").write_text("")
        os.chown(tmp_path / "file", 5, 6)
        options = mount.parse_options(("idmap=uids=0-1000-10;gids=0-2000-10",), "options")
        userns = user_namespace(options.idmap_uids, options.idmap_gids)
        fd = mount.clone_tree(str(tmp_path))
        mount.set_attributes(fd, userns=userns)
        facts = os.stat("file", dir_fd=fd)
        assert (facts.st_uid, facts.st_gid) == (1005, 2006)
        os.close(userns)
        os.close(fd)

    in_mount_namespace(body)


def user_namespace(uids: str, gids: str) -> int:
    """A descriptor of a user namespace with these maps that has no process."""
    from masu.linux import idmap

    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _sys.unshare(namespaces.CLONE_NEWUSER)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    idmap.write(pid, uids, gids)
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    os.write(go[1], b"x")
    os.waitpid(pid, 0)
    for end in (*ready, *go):
        os.close(end)
    return fd


def test_reconfigure(tmp_path: Path) -> None:
    def body() -> None:
        fd = tmpfs("size=64k")
        mount.attach(fd, str(tmp_path))
        os.close(fd)
        context = _sys.fspick(mount.AT_FDCWD, tmp_path, mount.FSPICK_CLOEXEC)
        mount.configure(context, mount.FSCONFIG_SET_STRING, "size", "128k")
        mount.configure(context, mount.FSCONFIG_SET_FLAG, "ro")
        mount.configure(context, mount.FSCONFIG_CMD_RECONFIGURE)
        os.close(context)
        assert {"ro", "size=128k"} <= set(mounted(tmp_path).super_options.split(","))

    in_mount_namespace(body)


def test_binary_values_and_their_refusal() -> None:
    context = _sys.fsopen("tmpfs")
    with pytest.raises(OSError, match="Invalid argument"):
        _sys.fsconfig(context, mount.FSCONFIG_SET_BINARY, "size", b"\0\1")
    with pytest.raises(TypeError):
        _sys.fsconfig(context, mount.FSCONFIG_SET_BINARY, "size", "text")
    assert "size" in mount.context_log(context)
    assert mount.context_log(context) == ""
    os.close(context)


@pytest.mark.parametrize("by_path", [False, True])
def test_values_by_descriptor_and_by_path(tmp_path: Path, by_path: bool) -> None:
    """overlayfs takes its layers as descriptors (Linux 6.13) and, before, as strings alone."""

    def body() -> None:
        layers = [tmp_path / "one", tmp_path / "two"]
        context = _sys.fsopen("overlay")
        for layer in layers:
            layer.mkdir()
            (layer / layer.name).write_text("")
            fd = os.open(layer, os.O_PATH)
            try:
                if by_path:
                    _sys.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir+", str(layer))
                else:
                    _sys.fsconfig(context, mount.FSCONFIG_SET_FD, "lowerdir+", None, fd)
            except OSError as e:
                pytest.skip(f"this kernel's overlayfs does not: {e}")
            finally:
                os.close(fd)
        _sys.fsconfig(context, mount.FSCONFIG_CMD_CREATE)
        fd = _sys.fsmount(context)
        assert sorted(os.listdir(os.open(".", os.O_RDONLY, dir_fd=fd))) == ["one", "two"]

    in_mount_namespace(body)


def test_old_calls(tmp_path: Path) -> None:
    """mount(2), umount2(2) and pivot_root(2)."""

    def body() -> None:
        _sys.mount("tmpfs", tmp_path, "tmpfs", mount.MS_NOSUID, "size=64k")
        (tmp_path / "old").mkdir()
        os.chdir(tmp_path)
        _sys.pivot_root(".", "old")
        assert os.listdir("/") == ["old"]
        _sys.umount2("/old", mount.MNT_DETACH)
        assert os.listdir("/old") == []
        with pytest.raises(OSError, match=r".*") as caught:
            _sys.umount2("/none")
        assert caught.value.filename == "/none"

    in_mount_namespace(body)


def test_move_mount_follows_no_link_unasked(tmp_path: Path) -> None:
    def body() -> None:
        (tmp_path / "dir").mkdir()
        (tmp_path / "link").symlink_to("dir")
        fd = tmpfs()
        with pytest.raises(KernelError):
            mount.attach(fd, str(tmp_path / "link"), follow=False)
        mount.attach(fd, str(tmp_path / "link"))
        os.close(fd)
        assert mounted(tmp_path / "dir").fstype == "tmpfs"
        with pytest.raises(KernelError):
            mount.unmount(str(tmp_path / "link"))
        mount.unmount(str(tmp_path / "dir"))

    in_mount_namespace(body)
