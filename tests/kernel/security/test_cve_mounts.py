"""Images and shared volumes whose symlinks lead the making of a container astray: mounts, devices, masks, /proc.

The image is the attacker's: whatever it puts in the way, nothing of the host may be made, changed or shown. Where a
second container shares a directory, an accomplice exchanges names in it while containers are made in a loop.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.oci import Runtime
from kernel.launchclient import base, failure, finish, op
from kernel.security.staging import (
    UP,
    Config,
    Outside,
    bind,
    console_socket,
    drive,
    mount,
    mount_points,
    probe,
    swapping,
    without_dev,
)

pytestmark = pytest.mark.root

MOUNTS = ("cat", "/proc/self/mountinfo")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


# --- /proc and /sys that are none -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("leads", ["in the image", "outside", "to nothing"])
def test_cve_2019_19921(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, name: str, leads: str) -> None:
    """/proc or /sys as a symlink: what we mask afterwards would be somewhere else."""
    place = own_probe_rootfs / name
    place.rmdir()
    place.symlink_to({"in the image": "/etc", "outside": UP + str(outside.path)[1:], "to nothing": "/nothing"}[leads])

    def with_sys(config: Config) -> None:
        config["mounts"].append(mount("/sys", "sysfs", "sysfs", "ro"))

    refused(masu_oci.run(own_probe_rootfs, *MOUNTS, change=with_sys, check=False), f"/{name}")
    outside.check()
    assert not (own_probe_rootfs / "nothing").exists()


def test_cve_2023_27561(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path) -> None:
    """The regression of CVE-2019-19921: /proc leads through a volume in which another container swaps."""
    volume = tmp_path / "volume"
    (volume / "a/proc").mkdir(parents=True)
    (volume / "b").symlink_to("/etc")
    (own_probe_rootfs / "proc").rmdir()
    (own_probe_rootfs / "proc").symlink_to("volume/a/proc")

    def shared(config: Config) -> None:
        config["mounts"].insert(0, bind(volume, "/volume"))

    def once() -> str:
        refused(masu_oci.run(own_probe_rootfs, *MOUNTS, change=shared, check=False), "/proc")
        return "refused"

    with swapping(volume / "a", volume / "b"):
        drive(once, {"refused"})


@pytest.fixture
def false_proc(tmp_path: Path) -> Path:
    """A directory that looks like a procfs to who does not look closely."""
    root = tmp_path / "false-proc"
    for file in ("sys/net/ipv4/ip_forward", "self/attr/exec", "self/attr/apparmor/exec", "kcore", "sysrq-trigger"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("false")
    return root


def untouched(root: Path) -> bool:
    return all(found.read_text() == "false" for found in root.rglob("*") if found.is_file())


@pytest.mark.parametrize("destination", ["/proc", "/link", "//proc/", "/etc/../proc"])
@pytest.mark.parametrize("first", [False, True])
def test_cve_2019_16884(
    masu_oci: Runtime, own_probe_rootfs: Path, false_proc: Path, destination: str, first: bool
) -> None:
    """A volume in the place of /proc, named so or by a symlink of the image: labels would be written into it."""
    (own_probe_rootfs / "link").symlink_to("proc")

    def covered(config: Config) -> None:
        config["mounts"].insert(0 if first else 1, bind(false_proc, destination))
        config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}

    refused(masu_oci.run(own_probe_rootfs, *MOUNTS, change=covered, check=False), "proc")
    assert untouched(false_proc)


@pytest.mark.parametrize("destination", ["/link", "/link/net", "/self", "/self/attr"])
def test_cve_2019_19921_below_proc(
    masu_oci: Runtime, own_probe_rootfs: Path, false_proc: Path, destination: str
) -> None:
    """Symlinks of the image carry a mount into the procfs: another answer than the kernel's for who asks there."""
    (own_probe_rootfs / "link").symlink_to("/proc/sys")
    (own_probe_rootfs / "self").symlink_to("/proc/self")
    for item in (bind(false_proc, destination), mount(destination, "tmpfs")):

        def astray(config: Config, item: Config = item) -> None:
            config["mounts"].append(item)

        refused(masu_oci.run(own_probe_rootfs, *MOUNTS, change=astray, check=False), "inside a procfs")


@pytest.mark.parametrize("destination", ["/proc/sys", "/proc/self/attr", "/proc/1", "/proc/../proc/sysrq-trigger"])
def test_cve_2019_19921_named(masu_oci: Runtime, own_probe_rootfs: Path, false_proc: Path, destination: str) -> None:
    def named(config: Config) -> None:
        config["mounts"].append(bind(false_proc, destination))

    refused(masu_oci.run(own_probe_rootfs, *MOUNTS, change=named, check=False), "inside /proc")


def test_files_in_proc_that_may_be_covered(masu_oci: Runtime, own_probe_rootfs: Path, false_proc: Path) -> None:
    """What lxcfs needs; so the refusals above are not of everything."""

    def lxcfs(config: Config) -> None:
        config["mounts"].append(bind(false_proc / "kcore", "/proc/meminfo"))

    assert masu_oci.run(own_probe_rootfs, "cat", "/proc/meminfo", change=lxcfs).stdout == "false"


def test_cve_2025_52881(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path) -> None:
    """The image has files where a procfs would be, and links from there to /proc/sysrq-trigger: sysctls go to the
    kernel, through a procfs that no container ever sees."""
    false = own_probe_rootfs / "proc/sys/net/ipv4/ip_forward"
    false.parent.mkdir(parents=True)
    false.write_text("false")
    (own_probe_rootfs / "proc/sys/net/ipv4/ip_default_ttl").symlink_to("/real/sys/net/ipv4/ip_forward")

    def elsewhere(config: Config) -> None:
        config["mounts"][0] = mount("/real", "proc")
        config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "net.ipv4.ip_default_ttl": "77"}
        config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []

    seen = masu_oci.run(
        own_probe_rootfs, "cat", "/real/sys/net/ipv4/ip_forward", "/real/sys/net/ipv4/ip_default_ttl",
        "/proc/sys/net/ipv4/ip_forward", change=elsewhere,
    )  # fmt: skip
    assert seen.stdout == "1\n77\nfalse"
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() != "77\n"


@pytest.mark.parametrize("field", ["selinuxLabel", "apparmorProfile"])
def test_cve_2023_28642(masu_oci: Runtime, own_probe_rootfs: Path, field: str) -> None:
    """A label that reaches a file of the image instead of the kernel: the container would run without it."""
    for file in ("proc/self/attr/exec", "proc/self/attr/apparmor/exec"):
        (own_probe_rootfs / file).parent.mkdir(parents=True, exist_ok=True)
        (own_probe_rootfs / file).write_text("false")

    def labelled(config: Config) -> None:
        del config["mounts"][0]
        config["process"][field] = "masu-test-no-such-label"

    refused(masu_oci.run(own_probe_rootfs, "exit", "0", change=labelled, check=False), field)
    # Where the module is off that was refused too early to tell: what is written where it is on goes to the kernel,
    # which knows of no such label.
    path = {"selinuxLabel": "self/attr/exec", "apparmorProfile": "self/attr/apparmor/exec"}[field]
    write = op("proc_write", path=path, data=b"masu-test-no-such-label")
    plan = [*base(str(own_probe_rootfs)), op("procfs"), write, op("pivot_root"), *finish("probe", "exit", "0")]
    message = failure(plan)
    assert plan[message.index] is write
    assert message.errno in (errno.EINVAL, errno.ENOENT)
    assert untouched(own_probe_rootfs / "proc")


# --- destinations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["absolute", "climbing", "chain", "dangling"])
@pytest.mark.parametrize("what", ["tmpfs", "copy-up", "directory", "file"])
def test_cve_2024_45310(
    masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, tmp_path: Path, way: str, what: str
) -> None:
    """Symlinks on the way to a destination: mount points that are missing must be made in the container alone."""
    target = str(outside.path / "made") if way == "dangling" else str(outside.path)
    (own_probe_rootfs / "link").symlink_to(target if way in ("absolute", "dangling") else UP + target[1:])
    if way == "chain":
        (own_probe_rootfs / "link").rename(own_probe_rootfs / "second")
        (own_probe_rootfs / "link").symlink_to("../../second")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("source")
    item = {
        "tmpfs": mount("/link/x/y", "tmpfs"),
        "copy-up": mount("/link/x/y", "tmpfs", "tmpfs", "tmpcopyup"),
        "directory": bind(tmp_path / "source", "/link/x/y"),
        "file": bind(tmp_path / "source/file", "/link/x/y"),
    }[what]
    done = masu_oci.run(own_probe_rootfs, *MOUNTS, change=lambda config: config["mounts"].append(item))
    assert target + "/x/y" in mount_points(done.stdout)
    assert (own_probe_rootfs / target[1:] / "x/y").exists()
    outside.check()


@pytest.mark.parametrize("what", ["tmpfs", "directory"])
def test_cve_2021_30465(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, tmp_path: Path, what: str) -> None:
    """A destination in a volume, where another container exchanges a directory and a symlink to the host's files."""
    volume, source = tmp_path / "volume", tmp_path / "source"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to(UP + str(outside.path)[1:])
    source.mkdir()

    def racing(config: Config) -> None:
        last = mount("/volume/a/x", "tmpfs") if what == "tmpfs" else bind(source, "/volume/a/x")
        config["mounts"] += [bind(volume, "/volume"), last]

    def once() -> str:
        done = masu_oci.run(own_probe_rootfs, *MOUNTS, change=racing, check=False)
        outside.check()
        if done.returncode != 0:
            return "refused"  # it ended up between two looks
        points = [point for point in mount_points(done.stdout) if point.endswith("/x")]
        assert len(points) == 1, done.stdout
        return "in the volume" if points[0].startswith("/volume/") else points[0]

    def either() -> str:
        answer = once()
        return "in the volume" if answer == "refused" else answer

    with swapping(volume / "a", volume / "b"):
        drive(either, {"in the volume", f"{outside.path}/x"})


def test_cve_2026_119101_mount_sources(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path) -> None:
    """What a source was when it was opened is what is mounted, whatever its name leads to by then."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/mine").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/theirs").write_text("")

    def racing(config: Config) -> None:
        config["mounts"].append(bind(tmp_path / "source", "/tmp"))

    def once() -> str:
        return masu_oci.run(own_probe_rootfs, "ls", "/tmp", change=racing).stdout.strip()

    with swapping(tmp_path / "source", tmp_path / "other"):
        drive(once, {"mine", "theirs"})


# --- devices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["absolute", "climbing"])
@pytest.mark.parametrize("own_dev", [False, True])
def test_cve_2026_41579(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, way: str, own_dev: bool) -> None:
    """/dev of the image is a symlink to a directory of the host: the devices would be made there."""
    (own_probe_rootfs / "dev").rmdir()
    (own_probe_rootfs / "dev").symlink_to(str(outside.path) if way == "absolute" else UP + str(outside.path)[1:])
    (own_probe_rootfs / str(outside.path)[1:]).mkdir(parents=True)

    def change(config: Config) -> None:
        if own_dev:
            without_dev(config)
        config["linux"]["devices"] = [{"path": "/dev/more/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 438}]

    done = masu_oci.run(own_probe_rootfs, "mode", f"{outside.path}/null", f"{outside.path}/more/zero", change=change)
    assert done.stdout == "c 0666 0:0 1:3\nc 0666 0:0 1:5\n"
    outside.check()


def test_cve_2026_41579_raced(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside) -> None:
    (own_probe_rootfs / "other").symlink_to(UP + str(outside.path)[1:])
    inside = own_probe_rootfs / str(outside.path)[1:]
    inside.mkdir(parents=True)

    def once() -> str:
        for folder in (inside, own_probe_rootfs / "dev", own_probe_rootfs / "other"):
            for name in ("null", "zero", "full", "tty", "random", "urandom", "fd", "stdin", "stdout", "stderr", "ptmx"):
                if not folder.is_symlink():
                    (folder / name).unlink(missing_ok=True)
        masu_oci.run(own_probe_rootfs, "exit", "0", change=without_dev_and_pts, check=False)
        outside.check()
        return "in the image" if (inside / "null").exists() else "in its /dev"

    with swapping(own_probe_rootfs / "dev", own_probe_rootfs / "other"):
        drive(once, {"in the image", "in its /dev"})


def without_dev_and_pts(config: Config) -> None:
    without_dev(config)
    config["mounts"] = config["mounts"][:1]


DEVICES = ["null", "zero", "full", "tty", "random", "urandom"]


@pytest.mark.parametrize("name", DEVICES)
def test_cve_2026_88265(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, name: str) -> None:
    """A device of the image's /dev is a symlink to a file of the host (crun reopened the streams onto it, and gave
    it away), or another kind of file."""
    device = own_probe_rootfs / "dev" / name
    makes: list[Callable[[], object]] = [
        lambda: device.symlink_to(UP + str(outside.path / "file")[1:]),
        lambda: device.symlink_to(outside.path / "made"),
        lambda: device.write_text("a file"),
        lambda: os.mkfifo(device),
        lambda: os.mknod(device, 0o020666, os.makedev(1, 1)),  # /dev/mem
    ]
    for make in makes:
        make()
        done = masu_oci.run(own_probe_rootfs, "exit", "0", change=user_without_dev, check=False)
        refused(done, f"/dev/{name}", "another kind of file")
        device.unlink()
        outside.check()


def user_without_dev(config: Config) -> None:
    without_dev(config)
    config["process"]["user"] = {"uid": 1000, "gid": 1000}


def test_cve_2026_88265_links(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside) -> None:
    """/dev/stdout and the like, which are symlinks anyway: ours never follow them."""
    for name in ("stdin", "stdout", "stderr", "fd", "ptmx"):
        (own_probe_rootfs / "dev" / name).symlink_to(outside.path / "file")
    done = masu_oci.run(own_probe_rootfs, "echo", "said", change=user_without_dev)
    assert done.stdout == "said\n"
    outside.check()


def test_the_hosts_null_keeps_its_owner(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Standard streams become the user's; the host's devices among them do not."""
    before = os.stat("/dev/null")
    masu_oci.run(probe_rootfs, "exit", "0", change=lambda config: config["process"].update(user={"uid": 7, "gid": 7}))
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def terminal(config: Config) -> None:
    config["process"]["terminal"] = True
    without_dev(config)
    probe(config, "cat", "/proc/self/mountinfo")


@pytest.mark.parametrize(
    "leads", ["file", "made", "/proc/sys/kernel/domainname", "/proc/self/attr/exec", "fifo", "folder"]
)
def test_cve_2026_88264(
    masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, tmp_path: Path, leads: str
) -> None:
    """/dev/console of the image is a symlink: root-owned files on the host (crun), a mount over parts of /proc
    (CVE-2025-52565)."""
    (own_probe_rootfs / "dev/pts").mkdir()
    console = own_probe_rootfs / "dev/console"
    if leads == "fifo":
        os.mkfifo(console)
    elif leads == "folder":
        console.mkdir()
    else:
        console.symlink_to(leads if leads[0] == "/" else UP + str(outside.path / leads)[1:])
    with console_socket(tmp_path / "console.sock") as path:
        done = masu_oci(
            "create", "--console-socket", path, "--bundle", str(masu_oci.bundle(own_probe_rootfs, terminal)),
            masu_oci.id(), check=False,
        )  # fmt: skip
    refused(done, "/dev/console", "neither a file nor a device")
    outside.check()


def test_cve_2025_52565(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, tmp_path: Path) -> None:
    """/dev/console is exchanged with a symlink into /proc while the terminal is bound onto it."""
    (own_probe_rootfs / "dev/pts").mkdir()
    (own_probe_rootfs / "dev/console").write_text("")
    (own_probe_rootfs / "dev/other").symlink_to("/proc/keys")
    with console_socket(tmp_path / "console.sock") as path:

        def once() -> str:
            id = masu_oci.id()
            bundle = str(masu_oci.bundle(own_probe_rootfs, terminal))
            done = masu_oci("create", "--console-socket", path, "--bundle", bundle, id, check=False)
            if done.returncode != 0:
                refused(done, "/dev/console")
                return "refused"
            points = mount_points(Path(f"/proc/{masu_oci.state(id)['pid']}/mountinfo").read_text())
            masu_oci("delete", "--force", id)
            # The mount follows the file it was made on, whatever that is called by then.
            terminals = [point for point, kind in points.items() if kind == "devpts" and point != "/dev/pts"]
            assert terminals in (["/dev/console"], ["/dev/other"]), points
            return "bound"

        with swapping(own_probe_rootfs / "dev/console", own_probe_rootfs / "dev/other"):
            drive(once, {"bound", "refused"})
    outside.check()


@pytest.mark.parametrize("what", ["directory", "bound"])
def test_cve_2025_31133(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path, what: str) -> None:
    """/dev/null is a symlink to what is to be hidden: masks made of it would show it, and writable."""
    dev = tmp_path / "dev" if what == "bound" else own_probe_rootfs / "dev"
    dev.mkdir(exist_ok=True)
    # In the attack it is core_pattern. Should it succeed here, it changes a name of the container's own.
    (dev / "null").symlink_to("/proc/sys/kernel/domainname")

    def change(config: Config) -> None:
        without_dev(config)
        if what == "bound":
            # Then nothing is made in /dev: the way on which the attack gets furthest.
            config["mounts"] = [config["mounts"][0], bind(dev, "/dev")]
        config["linux"]["maskedPaths"] = ["/proc/version", "/proc/meminfo", "/proc/keys"]

    look = ("mode", "/proc/version", "/proc/meminfo", "/proc/keys", "--", "write", "/dev/null", "owned")
    done = masu_oci.run(own_probe_rootfs, *look, change=change, check=False)
    if what == "directory":
        refused(done, "/dev/null")
    else:
        assert done.stdout == "c 0666 0:0 1:3\n" * 3 + "ERROR EROFS\n"


MASKED: list[Callable[[Path, Outside], object]] = [
    lambda root, outside: (root / "masked").symlink_to(outside.path / "file"),
    lambda root, outside: (root / "masked").symlink_to(UP + str(outside.path)[1:]),
    lambda root, outside: (root / "masked").symlink_to("/proc/self/root"),
    lambda root, outside: (root / "masked").symlink_to("/proc/self/fd/3"),
    lambda root, outside: (root / "masked").symlink_to("masked"),
]


@pytest.mark.parametrize("make", MASKED)
@pytest.mark.parametrize("how", ["maskedPaths", "readonlyPaths"])
def test_cve_2025_31133_links(
    masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, make: Callable[[Path, Outside], object], how: str
) -> None:
    """A path to be masked that is a symlink of the image masks something of the container, or nothing."""
    make(own_probe_rootfs, outside)
    done = masu_oci.run(
        own_probe_rootfs, "echo", "on", change=lambda config: config["linux"].update({how: ["/masked"]}), check=False
    )
    assert "Traceback" not in done.stderr
    outside.check()
