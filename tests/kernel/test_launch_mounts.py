"""masu-launch: mounts, devices, masks, and paths that try to leave the root."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest
from kernel.launchclient import (
    AT_RECURSIVE,
    CLONE_NEWUSER,
    FIVE,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    OPEN_TREE_CLONE,
    Launch,
    base,
    contained,
    failure,
    finish,
    index_of,
    op,
    output,
    usual_mounts,
)

from masu.plan import ops as o
from masu.plan.ops import Op

pytestmark = pytest.mark.root

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
NOATIME, ATIME_MASK, NOSYMFOLLOW = 0x10, 0x70, 0x200000
NONE = o.NONE


def mountinfo(plan: list[Op]) -> dict[str, list[str]]:
    """Mount point -> fields of /proc/self/mountinfo, the last mount on it."""
    found = {}
    for line in output(plan).splitlines():
        fields = line.split()
        found[fields[4]] = fields
    return found


def tree(path: str | Path, slot: int, recursive: bool = False) -> Op:
    return op("open_tree", slot=slot, path=str(path), flags=OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0))


# -- file systems -----------------------------------------------------------------------------------------------------


def test_options_and_attributes(probe_rootfs: Path) -> None:
    inside = [
        op("mount", fstype="tmpfs", source="shm", options=("mode=1777", "size=65536k", "nr_inodes=77"),
           target="/dev/shm", attr=NOSUID | NODEV | NOEXEC),
        op("mount", fstype="mqueue", source="mqueue", target="/dev/mqueue"),
        op("mount", fstype="sysfs", source="sysfs", target="/sys", attr=RDONLY | NOATIME),
    ]  # fmt: skip
    mounts = mountinfo(contained(probe_rootfs, inside, "mounts"))
    assert mounts["/dev/shm"][5] == "rw,nosuid,nodev,noexec,relatime"
    assert mounts["/dev/shm"][-2:] == ["shm", "rw,size=65536k,nr_inodes=77"]
    assert mounts["/dev/mqueue"][-3] == "mqueue"
    assert mounts["/sys"][5] == "ro,noatime"


def test_what_the_file_system_says_is_the_detail(probe_rootfs: Path) -> None:
    inside = [op("mount", fstype="tmpfs", source="tmpfs", options=("mode=755", "siz=65536k"), target="/tmp")]
    plan = contained(probe_rootfs, inside, "exit", "0")
    message = failure(plan)
    assert (message.index, message.errno) == (index_of(plan, "pivot_root") - 1, errno.EINVAL)
    assert message.detail == 'option "siz=65536k": tmpfs: Unknown parameter \'siz\''
    message = failure([op("new_mount", slot=0, fstype="tmpfs", source="t", options=("size=banana",)), op("clone")])
    assert message.errno == errno.EINVAL
    assert message.detail.startswith('option "size=banana": tmpfs: Bad value')
    message = failure([op("new_mount", slot=0, fstype="nosuchfs", source="t"), op("clone")])
    assert (message.errno, message.detail) == (errno.ENODEV, 'this kernel has no file system "nosuchfs"')


def test_tmpfs_takes_the_mode_of_what_it_covers(own_probe_rootfs: Path) -> None:
    (own_probe_rootfs / "tmp").chmod(0o1770)
    inside = [
        op("mount", fstype="tmpfs", source="tmpfs", target="/tmp"),
        op("mount", fstype="tmpfs", source="tmpfs", target="/new"),
        op("mount", fstype="tmpfs", source="tmpfs", options=("mode=0711",), target="/root"),
    ]
    said = output(contained(own_probe_rootfs, inside, "mode", "/tmp", "/new", "/root"))
    assert [line.split()[1] for line in said.splitlines()] == ["1770", "1777", "0711"]


def test_copy_up(own_probe_rootfs: Path) -> None:
    source = own_probe_rootfs / "etc"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/file").write_bytes(b"x" * 100_000)
    os.chown(source / "deep/er/file", 12, 34)
    (source / "deep/er/file").chmod(0o4750)
    os.utime(source / "deep/er/file", ns=(5_000_000_000, 6_000_000_000))
    (source / "link").symlink_to("../nowhere")
    os.mkfifo(source / "fifo")
    (source / "deep").chmod(0o2711)
    os.chown(source, 7, 8)
    inside = [
        op("mount", fstype="tmpfs", source="tmpfs", options=("ro",), target="/etc", flags=o.TARGET_COPY_UP,
           attr=NOSUID | RDONLY),
    ]  # fmt: skip
    plan = contained(
        own_probe_rootfs, inside, "mode", "/etc", "/etc/deep", "/etc/deep/er/file", "/etc/fifo", "/etc/link", "--",
        "readlink", "/etc/link", "--", "cat", "/etc/passwd", "--", "create", "/etc/x", "y", "--", "mounts",
    )  # fmt: skip
    said = output(plan).splitlines()
    assert said[0].startswith("d 0755 7:8") or said[0].split()[2] == "7:8"
    assert said[1].startswith("d 2711 0:0")
    assert said[2].startswith("- 4750 12:34")
    assert said[3].startswith("p ")
    assert said[4].startswith("l ")
    assert said[5] == "../nowhere"
    assert said[6].startswith("root:x:0")
    assert "ERROR EROFS" in said
    assert any(" /etc ro,nosuid" in line for line in said)


def test_long_options_and_many_layers(own_probe_rootfs: Path, tmp_path: Path) -> None:
    """Text beyond fsconfig's 255 bytes goes by mount(2); lowerdir+ one by one."""
    layers = []
    for number in range(6):
        layer = tmp_path / f"layer-with-a-long-name-{number:040d}"
        layer.mkdir()
        (layer / f"file{number}").write_text(str(number))
        layers.append(str(layer))
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    rest = (f"upperdir={upper}", f"workdir={work}")
    for options in (
        ("lowerdir=" + ":".join(layers), *rest),
        (*(f"lowerdir+={layer}" for layer in layers), *rest),
    ):
        host = [op("new_mount", slot=9, fstype="overlay", source="overlay", options=options, attr=NODEV)]
        plan = contained(own_probe_rootfs, [op("attach", slot=9, target="/layers")], "ls", "/layers", "--", "mounts",
                         host=host)  # fmt: skip
        said = output(plan)
        assert said.startswith("file0\nfile1\nfile2\nfile3\nfile4\nfile5\n")
        assert " /layers rw,nodev,relatime" in said
    # … relative to `cwd`, so that more of them fit in mount(2)'s page.
    short = ":".join(Path(layer).name for layer in layers)
    op_with_cwd = op("new_mount", slot=9, fstype="overlay", source="overlay", options=("lowerdir=" + short,),
                     cwd=str(tmp_path))  # fmt: skip
    attach = op("attach", slot=9, target="/layers")
    assert output(contained(own_probe_rootfs, [attach], "ls", "/layers", host=[op_with_cwd])).startswith("file0\n")
    message = failure([op("new_mount", slot=0, fstype="overlay", source="o", options=("lowerdir=" + "/x" * 2100,)),
                       op("clone")])  # fmt: skip
    assert "longer than 4096 bytes" in message.detail


def test_reconfigure_and_recursive_attributes(probe_rootfs: Path) -> None:
    inside = [
        op("mount", fstype="tmpfs", source="tmpfs", options=("size=64k",), target="/tmp"),
        op("mount", fstype="tmpfs", source="tmpfs", target="/tmp/below"),
        op("remount", target="/tmp", set=RDONLY | NODEV, recursive=1),
        op("remount", target="/tmp", options=("size=128k",)),
        op("remount", target="/tmp", clear=NODEV),
    ]
    mounts = mountinfo(contained(probe_rootfs, inside, "mounts"))
    assert mounts["/tmp"][5].split(",")[0] == "ro"
    assert "nodev" not in mounts["/tmp"][5]
    assert "size=128k" in mounts["/tmp"][-1]
    assert mounts["/tmp/below"][5].startswith("ro,nodev")


# -- binds ------------------------------------------------------------------------------------------------------------


def test_binds_make_their_targets(own_probe_rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/inner").write_text("inner")
    (tmp_path / "file").write_text("content")
    host = [tree(tmp_path / "dir", 1), tree(tmp_path / "file", 2),
            op("mount_attr", slot=2, set=RDONLY | NOSYMFOLLOW)]  # fmt: skip
    inside = [op("attach", slot=1, target="/a/b/c"), op("attach", slot=2, target="/x/y")]
    plan = contained(own_probe_rootfs, inside, "cat", "/a/b/c/inner", "/x/y", "--", "write", "/x/y", "no", "--",
                     "mode", "/a/b", host=host)  # fmt: skip
    said = output(plan)
    assert said == "innercontentERROR EROFS\nd 0755 0:0\n"
    assert (own_probe_rootfs / "a/b/c").is_dir()
    assert (own_probe_rootfs / "x/y").read_text() == ""


def test_a_directory_is_not_put_on_a_file(own_probe_rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plan = contained(own_probe_rootfs, [op("attach", slot=1, target="/etc/passwd")], host=[tree(tmp_path, 1)])
    message = failure(plan)
    assert (message.errno, "is not a directory" in message.detail) == (errno.ENOTDIR, True)
    plan = contained(own_probe_rootfs, [op("attach", slot=1, target="/etc")], host=[tree(tmp_path / "file", 1)])
    message = failure(plan)
    assert (message.errno, "is a directory" in message.detail) == (errno.EISDIR, True)


@pytest.mark.parametrize("target", ["/", "", "/etc/..", ".", "/dev/../..//"])
def test_nothing_is_mounted_over_the_root(own_probe_rootfs: Path, tmp_path: Path, target: str) -> None:
    message = failure(contained(own_probe_rootfs, [op("attach", slot=1, target=target)], host=[tree(tmp_path, 1)]))
    assert (message.errno, "is the root itself" in message.detail) == (errno.EINVAL, True)


def test_symlinks_are_resolved_in_the_root(own_probe_rootfs: Path, tmp_path: Path) -> None:
    root = own_probe_rootfs
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/here").write_text("")
    (root / "abs").symlink_to(outside)
    (root / "up").symlink_to("../../../../../../../../../../" + str(outside))
    (root / "etc/resolv").symlink_to("../run/systemd/resolve/stub")  # dangling, as Debian has it
    (root / "chain").symlink_to("chain2")
    (root / "chain2").symlink_to("/etc/../chain3")
    (root / "dotdot").symlink_to("etc/..")
    (tmp_path / "file").write_text("resolver")
    host = [tree(tmp_path / "source", 1), tree(tmp_path / "source", 2), tree(tmp_path / "file", 3),
            tree(tmp_path / "source", 4), tree(tmp_path / "source", 5)]  # fmt: skip
    inside = [
        op("attach", slot=1, target="/abs/one"),
        op("attach", slot=2, target="/up/two"),
        op("attach", slot=3, target="/etc/resolv"),
        op("attach", slot=4, target="/chain"),
        op("attach", slot=5, target="/dotdot/five"),
    ]
    plan = contained(root, inside, "ls", f"{outside}/one", "--", "ls", f"{outside}/two", "--", "cat",
                     "/run/systemd/resolve/stub", "--", "ls", "/chain3", "--", "ls", "/five", host=host)  # fmt: skip
    assert output(plan) == "here\nhere\nresolverhere\nhere\n"
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "one").is_dir()


def test_loops_and_overlong_names_end(own_probe_rootfs: Path, tmp_path: Path) -> None:
    (own_probe_rootfs / "loop").symlink_to("loop")
    for target, number in (
        ("/loop/x", errno.ELOOP),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
        ("/x" * 2048, errno.ENAMETOOLONG),
        ("/etc/passwd/x", errno.ENOTDIR),
    ):
        plan = contained(own_probe_rootfs, [op("attach", slot=1, target=target)], host=[tree(tmp_path, 1)])
        assert failure(plan).errno == number, target


def test_nofollow_and_must_be_directory(own_probe_rootfs: Path, tmp_path: Path) -> None:
    """CVE-2019-19921: an image whose /proc is a symlink."""
    root = own_probe_rootfs
    (root / "proc").rmdir()
    (root / "proc").symlink_to("etc")
    plan = contained(root, [], "exit", "0")
    message = failure(plan)
    assert (message.index, message.errno) == (index_of(plan, "mount"), errno.ENOTDIR)
    assert "must be mounted on ordinary directory" in message.detail
    (root / "proc").unlink()
    (root / "proc").mkdir()
    (root / "link").symlink_to("/etc/passwd")
    (tmp_path / "file").write_text("on the link itself")
    (tmp_path / "real").symlink_to("file")
    host = [op("open_tree", slot=1, path=str(tmp_path / "real"), flags=OPEN_TREE_CLONE | 0x100)]
    inside = [op("attach", slot=1, target="/link", flags=o.TARGET_NOFOLLOW)]
    with Launch(contained(root, inside, "cat", "/etc/passwd", "--", "readlink", "/link", host=host)) as launch:
        try:
            assert launch.run() == 0
            said = launch.stdout().decode()
            assert said.startswith("root:x:0")
            assert said.endswith("file\n")
        except AssertionError as error:
            # Kernels before 6.? refuse to mount on a symlink: then that is said, and nothing was followed.
            assert "errno=20" in str(error) or "errno=22" in str(error), error  # noqa: PT017


def test_cve_2019_19921_nothing_is_mounted_inside_proc_unless_allowed(own_probe_rootfs: Path, tmp_path: Path) -> None:
    root = own_probe_rootfs
    (root / "innocent").symlink_to("proc")
    (tmp_path / "file").write_text("fake")
    host = [tree(tmp_path / "file", 1)]
    for target in ("/innocent/uptime", "/proc/self/attr/exec", "/proc/1/environ"):
        message = failure(contained(root, [op("attach", slot=1, target=target)], host=host))
        assert message.errno in (errno.EPERM, errno.ENOENT)
        assert "inside a procfs" in message.detail or "/proc" in message.detail
    message = failure(contained(root, [op("mount", fstype="tmpfs", source="t", target="/innocent/fs")]))
    assert (message.errno, "inside a procfs" in message.detail) == (errno.EPERM, True)
    inside = [op("attach", slot=1, target="/proc/uptime", flags=o.TARGET_IN_PROC)]
    assert output(contained(root, inside, "cat", "/proc/uptime", host=host)) == "fake"


@pytest.mark.parametrize("target", ["/proc", "/innocent", "/etc/../proc/.", "/proc/self/.."])
def test_cve_2023_28642_nothing_but_a_procfs_stands_in_for_proc(
    own_probe_rootfs: Path, tmp_path: Path, target: str
) -> None:
    root = own_probe_rootfs
    (root / "innocent").symlink_to("proc")
    (tmp_path / "volume").mkdir()
    message = failure(contained(root, [op("attach", slot=1, target=target)], host=[tree(tmp_path / "volume", 1)]))
    assert message.errno == errno.EPERM
    assert "cannot be mounted because it is not of type proc" in message.detail
    plan = [*base(str(root)), op("mount", fstype="tmpfs", source="t", target=target.replace("/self/..", ""))]
    message = failure(plan)
    assert (message.errno, "not of type proc" in message.detail) == (errno.EPERM, True)
    # The host's own procfs is one.
    attach = op("attach", slot=1, target="/proc")
    assert output(contained(root, [attach], "exit", "0", host=[tree("/proc", 1, True)])) == ""


def test_idmapped_mount(own_probe_rootfs: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("")
    os.chown(volume / "file", 5, 6)
    host = [
        op("idmap_userns", slot=2, uid_map="0 1000 10\n", gid_map="0 2000 10\n"),
        tree(volume, 1),
        op("mount_attr", slot=1, userns=2),
    ]
    inside = [op("attach", slot=1, target="/volume")]
    with Launch(contained(own_probe_rootfs, inside, "mode", "/volume/file", host=host)) as launch:
        if (message := launch.receive()) and message.type == o.MSG_ERROR and message.errno == errno.EINVAL:
            pytest.skip("the file system of the temporary directory cannot be idmapped")
        launch.expect(o.MSG_READY)
        launch.go()
        assert launch.receive() is None
        assert launch.wait() == 0
        assert launch.stdout() == b"- 0644 1005:2006\n"


def test_idmap_that_is_refused_leaves_no_process(tmp_path: Path) -> None:
    before = set(os.listdir("/proc"))
    message = failure([op("idmap_userns", slot=2, uid_map="0 0 0\n", gid_map="0 0 1\n"), op("clone")])
    assert (message.index, message.errno, message.detail) == (0, errno.EINVAL, "uid_map of an idmapped mount")
    new = [pid for pid in set(os.listdir("/proc")) - before if pid.isdigit()]
    assert not any("masu:" in _comm(pid) for pid in new)


def _comm(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


# -- propagation ------------------------------------------------------------------------------------------------------


def propagation_of(plan: list[Op], target: str) -> str:
    fields = mountinfo(plan)[target]
    return " ".join(sorted(field.partition(":")[0] for field in fields[6 : fields.index("-")]))


@pytest.mark.parametrize(
    ("flags", "seen"),
    [(MS_SHARED, "shared"), (MS_PRIVATE, ""), (1 << 17, "unbindable"), (MS_SHARED | MS_REC, "shared")],
)
def test_propagation_of_a_target(probe_rootfs: Path, flags: int, seen: str) -> None:
    inside = [op("mount", fstype="tmpfs", source="t", target="/tmp"), op("propagation", target="/tmp", flags=flags)]
    assert propagation_of(contained(probe_rootfs, inside, "mounts"), "/tmp") == seen


def test_unmounting_the_old_root_does_not_travel_to_the_host(probe_rootfs: Path) -> None:
    """Even when the container's root is shared with its parent, the host keeps all its mounts."""
    before = Path("/proc/self/mountinfo").read_text()
    plan = contained(probe_rootfs, [], "mounts")
    index = index_of(plan, "root_propagation")
    plan[index] = op("root_propagation", flags=MS_SLAVE | MS_REC)
    output(plan)
    # The same in a mount namespace of our own where everything is shared.
    script = "import sys; sys.path[:0]=%r; from kernel.test_launch_mounts import shared_host; shared_host(%r)"
    import sys

    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "shared", sys.executable, "-c", script % (sys.path, str(probe_rootfs))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path("/proc/self/mountinfo").read_text() == before


def shared_host(root: str) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    plan = contained(root, [], "mounts")
    index = index_of(plan, "root_propagation")
    plan[index : index + 1] = [
        op("root_propagation", flags=MS_SHARED | MS_REC),
        op("root_propagation", flags=MS_PRIVATE),
    ]
    assert "/dev/pts" in output(plan)
    assert Path("/proc/self/mountinfo").read_text() == before


# -- root -------------------------------------------------------------------------------------------------------------


def test_readonly_root(own_probe_rootfs: Path) -> None:
    plan = contained(own_probe_rootfs, [op("mount", fstype="tmpfs", source="t", target="/tmp")], "create", "/x", "y",
                     "--", "create", "/tmp/x", "y")  # fmt: skip
    plan.insert(index_of(plan, "pivot_root") + 1, op("root_readonly"))
    assert output(plan) == "ERROR EROFS\nok\n"
    assert not (own_probe_rootfs / "x").exists()


def test_without_pivot_root(probe_rootfs: Path) -> None:
    plan = contained(probe_rootfs, [], "ls", "/", "--", "cwd", "--", "ls", "/..")
    plan[index_of(plan, "pivot_root")] = op("chroot")
    said = output(plan).splitlines()
    listing = sorted(os.listdir(probe_rootfs))
    assert said == [*listing, "/", *listing]


def test_without_pivot_root_no_procfs_of_the_host_stays() -> None:
    """Else a user namespace inside might mount a procfs without the masks (mount_too_revealing())."""

    def plan(root: str) -> list[Op]:
        script = "unshare --user --map-root-user --pid --fork --mount mount -t proc proc /mnt && echo mounted"
        # "/" alone, without the mounts in it: the host's /proc would come along.
        return [
            tree("/dev/null", 7),
            tree("/", 1000),
            *base("/")[1:],
            op("mount", fstype="proc", source="proc", target="/proc"),
            op(root),
            op("mask", path="/proc/version", slot=7),
            *finish("sh", "-c", script),
        ]

    for root in ("pivot_root", "chroot"):
        with Launch(plan(root)) as launch:
            status = launch.run()
            assert (root, status, launch.stdout()) == (root, 1 if status == 1 else 32, b"")
            assert b"permission denied" in launch.stderr().lower()


@pytest.mark.parametrize("enter", ["pivot_root", "chroot"])
def test_a_root_on_a_path_of_its_own(probe_rootfs: Path, enter: str) -> None:
    """For hooks that enter the mount namespace and know the host's path alone."""
    plan = contained(probe_rootfs, [op("sync", name="hooks")], "ls", "/", "--", "mounts")
    plan[index_of(plan, "root_attach")] = op("root_attach", slot=1000, path=str(probe_rootfs))
    plan[index_of(plan, "pivot_root")] = op(enter)
    with Launch(plan) as launch:
        launch.expect(o.MSG_SYNC)
        seen = subprocess.run(["nsenter", "-t", str(launch.pid), "-m", "ls", f"{probe_rootfs}/dev"], check=True,
                              capture_output=True, text=True).stdout  # fmt: skip
        assert seen.split() == ["null", "pts"]
        launch.go()
        assert launch.run() == 0
        said = launch.stdout().decode()
    listing = sorted(os.listdir(probe_rootfs))
    assert said.splitlines()[: len(listing)] == listing
    assert {line.split()[4] for line in said.splitlines()[len(listing) :]} == {"/", "/proc", "/dev", "/dev/pts"}


def test_the_parent_of_the_root_must_not_be_shared(probe_rootfs: Path) -> None:
    plan = contained(probe_rootfs, [], "exit", "0")
    plan[index_of(plan, "root_propagation")] = op("root_propagation", flags=MS_SHARED | MS_REC)
    message = failure(plan)
    # The kernel may refuse either the attaching or the pivot.
    assert message.errno == errno.EINVAL
    assert message.index in (index_of(plan, "root_attach"), index_of(plan, "pivot_root"))


def test_a_root_that_is_a_new_file_system(own_probe_rootfs: Path, tmp_path: Path) -> None:
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    plan = [
        op("new_mount", slot=1000, fstype="overlay", source="overlay",
           options=(f"lowerdir={own_probe_rootfs}", f"upperdir={upper}", f"workdir={work}")),
        *base(str(own_probe_rootfs))[2:],
        *usual_mounts(),
        op("pivot_root"),
        *finish("probe", "create", "/made", "x"),
    ]  # fmt: skip
    assert output(plan) == "ok\n"
    assert (upper / "made").read_text() == "x"
    assert not (own_probe_rootfs / "made").exists()


def test_label(probe_rootfs: Path) -> None:
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    inside = [
        op("mount", fstype="tmpfs", source="x", options=(), attr=0, target="/dev/shm", flags=0),
        op("label", target="/dev/shm", label=label),
    ]
    said = output(contained(probe_rootfs, inside, "getxattr", "/dev/shm", "security.selinux"))
    assert bytes.fromhex(said) == label.encode() + b"\0"


# -- devices ----------------------------------------------------------------------------------------------------------


def test_devices(probe_rootfs: Path) -> None:
    inside = [
        op("mknod", path="/dev/zero", mode=0o020666, rdev=os.makedev(1, 5)),
        op("mknod", path="/dev/deep/er/fuse", mode=0o020640, rdev=os.makedev(10, 229), uid=3, gid=4),
        op("mknod", path="/dev/big", mode=0o060600, rdev=os.makedev(259, 70000)),
        op("mknod", path="/dev/fifo", mode=0o010622, rdev=0),
        op("mknod", path="/dev/null", mode=0o020600, rdev=os.makedev(1, 3), uid=9),  # again, other owner and mode
        op("mkdir", path="/dev/deep/dir", mode=0o1733, uid=5, gid=6),
        op("mkdir", path="/dev/deep", mode=0o700),
        op("symlink", target="/proc/self/fd", path="/dev/fd"),
        op("symlink", target="elsewhere", path="/dev/fd"),
        op("symlink", target="/proc/self/fd", path="/dev/fd", exact=1),
    ]
    names = ("zero", "deep/er/fuse", "big", "fifo", "null", "deep/dir", "deep", "fd")
    paths = tuple("/dev/" + name for name in names)
    said = output(contained(probe_rootfs, inside, "mode", *paths, "--", "readlink", "/dev/fd"))
    assert said.splitlines() == [
        "c 0666 0:0 1:5",
        "c 0640 3:4 10:229",
        "b 0600 0:0 259:70000",
        "p 0622 0:0",
        "c 0600 9:0 1:3",
        "d 1733 5:6",
        "d 0755 0:0",
        "l 0777 0:0",
        "/proc/self/fd",
    ]


def test_cve_2025_31133_a_symlink_in_place_of_a_device_is_refused(own_probe_rootfs: Path, tmp_path: Path) -> None:
    root = own_probe_rootfs
    victim = tmp_path / "victim"
    victim.write_text("safe")
    mode = victim.stat().st_mode
    (root / "dev/null").symlink_to(victim)
    (root / "dev/zero").write_text("a file")
    for name, rdev in (("null", os.makedev(1, 3)), ("zero", os.makedev(1, 5))):
        plan = [*base(str(root)), op("mknod", path=f"/dev/{name}", mode=0o020666, rdev=rdev, uid=7)]
        message = failure(plan)
        assert (message.errno, "another kind of file" in message.detail) == (errno.EEXIST, True)
    assert (victim.read_text(), victim.stat().st_mode, victim.stat().st_uid) == ("safe", mode, 0)


def test_cve_2026_41579_dev_as_a_symlink_stays_in_the_root(own_probe_rootfs: Path, tmp_path: Path) -> None:
    root = own_probe_rootfs
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "dev").rmdir()
    (root / "dev").symlink_to(outside)
    plan = [*base(str(root)), op("mknod", path="/dev/null", mode=0o020666, rdev=os.makedev(1, 3)),
            op("symlink", target="x", path="/dev/stdin"), op("mkdir", path="/dev/dir", mode=0o755),
            op("exec")]  # fmt: skip
    with Launch(plan) as launch:
        launch.failure()
    assert list(outside.iterdir()) == []
    inner = root / str(outside).lstrip("/")
    assert stat.S_ISCHR((inner / "null").stat().st_mode)


def test_devices_by_bind_where_mknod_is_forbidden(probe_rootfs: Path) -> None:
    host = [
        op("open_tree", slot=1000, path=str(probe_rootfs), flags=OPEN_TREE_CLONE | AT_RECURSIVE),
        op("mount_attr", slot=1000, propagation=MS_PRIVATE, recursive=1),
        tree("/dev/null", 1),
        op("unshare", flags=CLONE_NEWUSER),
        op("sync", name="map"),
        op("become", uid=0, gid=0),
    ]
    plan = [
        *host,
        *base(str(probe_rootfs))[2:],
        op("mount", fstype="tmpfs", source="t", target="/dev", options=("mode=755",)),
        op("attach", slot=1, target="/dev/null"),
        op("mknod", path="/dev/zero", mode=0o020666, rdev=os.makedev(1, 5)),
    ]
    with Launch(plan) as launch:
        launch.map_ids()
        message = launch.failure()
        assert (message.index, message.errno) == (len(plan) - 1, errno.EPERM)
        assert message.detail == "mknod /dev/zero"


# -- masked and read-only paths ---------------------------------------------------------------------------------------


def test_masks(own_probe_rootfs: Path) -> None:
    root = own_probe_rootfs
    for name in ("a", "b"):
        (root / "home" / name).mkdir()
        (root / "home" / name / "secret").write_text("secret")
        (root / "etc" / name).write_text("secret")
    host = [tree("/dev/null", 7)]
    hidden = ["/home/a", "/home/b", "/etc/a", "/etc/b", "/absent/x", "/etc/passwd/x"]
    inside = [op("mask", path=path, slot=7) for path in hidden]
    plan = contained(
        root, [], "ls", "/home/a", "--", "ls", "/home/b", "--", "cat", "/etc/a", "/etc/b", "--",
        "create", "/home/a/x", "y", "--", "mode", "/etc/a", host=host,
    )  # fmt: skip
    at = index_of(plan, "pivot_root") + 1
    plan[at:at] = inside
    assert output(plan) == "ERROR EROFS\nc 0666 0:0 1:3\n"
    assert (root / "home/a/secret").read_text() == "secret"


def test_cve_2025_31133_only_the_device_null_masks(own_probe_rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "fake").write_text("x")
    plan = contained(own_probe_rootfs, [op("mask", path="/etc/passwd", slot=7)], host=[tree(tmp_path / "fake", 7)])
    message = failure(plan)
    assert (message.errno, "is not the device null" in message.detail) == (errno.EINVAL, True)


def test_readonly_paths(own_probe_rootfs: Path) -> None:
    (own_probe_rootfs / "home/x").mkdir()
    plan = contained(
        own_probe_rootfs, [op("mount", fstype="tmpfs", source="t", target="/home/x")], "create", "/etc/new", "x", "--",
        "create", "/home/x/new", "x", "--", "write", "/proc/sys/kernel/domainname", "x", "--",
        "create", "/tmp/new", "x",
    )  # fmt: skip
    at = index_of(plan, "pivot_root") + 1
    plan[at:at] = [op("readonly", path=path) for path in ("/etc", "/home", "/proc/sys", "/nothing/here")]
    assert output(plan) == "ERROR EROFS\nERROR EROFS\nERROR EROFS\nok\n"


# -- our own procfs ---------------------------------------------------------------------------------------------------


def test_proc_writes_do_not_go_through_the_containers_proc(own_probe_rootfs: Path, tmp_path: Path) -> None:
    """CVE-2019-16884, CVE-2025-52881: /proc of the container is a fake; the sysctl arrives all the same."""
    fake = tmp_path / "fake"
    (fake / "sys/net/ipv4").mkdir(parents=True)
    (fake / "sys/net/ipv4/ip_forward").write_text("fake")
    inside = [
        op("procfs"),
        op("attach", slot=1, target="/proc", flags=o.TARGET_IN_PROC),
        op("proc_write", path="sys/net/ipv4/ip_forward", data=b"1"),
        op("proc_write", path="sys/kernel/domainname", data=b"by-sysctl"),
    ]
    plan = contained(own_probe_rootfs, [], "cat", "/proc/sys/net/ipv4/ip_forward", "--", "uname", host=[tree(fake, 1)])
    at = index_of(plan, "root_attach") + 1
    plan[at:at] = inside
    plan = [item for item in plan if not (item.name == "mount" and item.fields["target"] == "/proc")]
    said = output(plan)
    assert said.startswith("fake")
    assert "by-sysctl" in said
    assert (fake / "sys/net/ipv4/ip_forward").read_text() == "fake"


def test_sysctl_that_is_not_there(probe_rootfs: Path) -> None:
    plan = contained(probe_rootfs, [op("procfs"), op("proc_write", path="sys/net/nothing", data=b"1")])
    message = failure(plan)
    assert (message.errno, message.detail) == (errno.ENOENT, "/proc/sys/net/nothing")
    plan = contained(probe_rootfs, [op("procfs"), op("proc_write", path="../../etc/passwd", data=b"1")])
    assert failure(plan).errno == errno.EXDEV
    plan = contained(probe_rootfs, [op("procfs"), op("proc_write", path="sys/net/ipv4/ip_forward", data=b"banana")])
    assert failure(plan).errno == errno.EINVAL
    plan = contained(probe_rootfs, [op("proc_write", path="sys/net/ipv4/ip_forward", data=b"1")])
    assert "lacks `procfs`" in failure(plan).detail


def test_procfs_in_a_user_namespace_without_a_pid_namespace(probe_rootfs: Path) -> None:
    """There a procfs cannot be made (mount_too_revealing); the host's is cloned."""
    plan = [
        op("open_tree", slot=1000, path=str(probe_rootfs), flags=OPEN_TREE_CLONE | AT_RECURSIVE),
        op("unshare", flags=CLONE_NEWUSER),
        op("sync", name="map"),
        op("become", uid=0, gid=0),
        op("clone", flags=FIVE & ~0x20000000),
        op("procfs"),
        op("proc_write", path="sys/net/ipv4/ip_forward", data=b"1"),
        *base(str(probe_rootfs))[3:],
        op("pivot_root"),
        *finish("probe", "exit", "0"),
    ]
    with Launch(plan) as launch:
        launch.map_ids()
        assert launch.run() == 0
