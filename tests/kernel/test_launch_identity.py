"""masu-launch: user, capabilities, limits, working directory, names."""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
from pathlib import Path

import pytest
from kernel.launchclient import (
    AT_RECURSIVE,
    CLONE_NEWUSER,
    OPEN_TREE_CLONE,
    Launch,
    contained,
    failure,
    index_of,
    op,
    output,
)

from masu.linux import capabilities
from masu.plan import ops as o
from masu.plan.ops import Op

pytestmark = pytest.mark.root

CHOWN, KILL, NET_BIND = 1 << 0, 1 << 5, 1 << 10


def late(root: Path, ops: list[Op], *probe: str, host: list[Op] | None = None) -> list[Op]:
    """A plan with `ops` right before the program is looked for."""
    plan = contained(root, [], *probe, host=host)
    at = index_of(plan, "find_program")
    plan[at:at] = ops
    return plan


def sets(text: str) -> dict[str, int]:
    return {key: int(value, 16) for key, value in (word.split("=") for word in text.split())}


def test_user_groups_and_umask(probe_rootfs: Path) -> None:
    ops = [op("umask", mask=0o027), op("setuser", uid=1000, gid=1001, groups=struct.pack("<3I", 5, 6, 4294967294))]
    said = output(late(probe_rootfs, ops, "id"))
    assert said == "uid=1000 euid=1000 gid=1001 egid=1001 umask=0027 groups=5,6,4294967294\n"
    os.setgroups([77])
    try:
        said = output(late(probe_rootfs, [op("setuser", uid=0, gid=0, keep_groups=1)], "id"))
        assert "groups=77" in said
        said = output(late(probe_rootfs, [op("setuser", uid=0, gid=0)], "id"))
        assert said.endswith("groups=\n")
    finally:
        os.setgroups([])


def test_capabilities_of_an_ordinary_user(probe_rootfs: Path) -> None:
    wanted = CHOWN | NET_BIND
    ops = [
        op("bounding", capabilities=wanted | KILL),
        op("setuser", uid=1000, gid=1000),
        op("caps", effective=wanted, permitted=wanted, inheritable=NET_BIND, ambient=NET_BIND),
    ]
    found = sets(output(late(probe_rootfs, ops, "caps")))
    # exec leaves an ordinary user the ambient set alone (capabilities(7)).
    assert found["bounding"] == wanted | KILL
    assert found["ambient"] == found["effective"] == found["permitted"] == found["inheritable"] == NET_BIND


def test_capabilities_of_root(probe_rootfs: Path) -> None:
    ops = [
        op("bounding", capabilities=CHOWN | KILL),
        op("no_new_privs"),
        op("setuser", uid=0, gid=0),
        op("caps", effective=CHOWN, permitted=CHOWN | KILL),
    ]
    found = sets(output(late(probe_rootfs, ops, "caps")))
    assert (found["bounding"], found["inheritable"], found["ambient"]) == (CHOWN | KILL, 0, 0)
    assert found["effective"] == found["permitted"] == CHOWN | KILL
    assert found["nnp"] == 1


def test_capabilities_that_cannot_be(probe_rootfs: Path) -> None:
    plan = late(probe_rootfs, [op("caps", effective=CHOWN, permitted=0)])
    assert (failure(plan).errno, "exceeds" in failure(plan).detail) == (errno.EPERM, True)
    plan = late(probe_rootfs, [op("caps", effective=CHOWN, permitted=CHOWN, ambient=CHOWN)])
    message = failure(plan)
    assert (message.errno, "ambient capability 0" in message.detail) == (errno.EPERM, True)


def test_inheritable_is_empty_unless_asked_for(probe_rootfs: Path) -> None:
    """CVE-2022-29162 and its kin."""
    everything = sets(output(late(probe_rootfs, [], "caps")))["permitted"]
    found = sets(output(late(probe_rootfs, [op("caps", effective=everything, permitted=everything)], "caps")))
    assert (found["inheritable"], found["ambient"]) == (0, 0)


def test_limits(probe_rootfs: Path) -> None:
    nofile, core = resource.RLIMIT_NOFILE, resource.RLIMIT_CORE
    ops = [op("rlimit", resource=nofile, soft=100, hard=200), op("rlimit", resource=core, soft=0, hard=0)]
    lines = output(late(probe_rootfs, ops, "rlimits")).splitlines()
    assert "RLIMIT_NOFILE 100 200" in lines
    assert "RLIMIT_CORE 0 0" in lines
    message = failure(late(probe_rootfs, [op("rlimit", resource=nofile, soft=9, hard=5)]))
    assert (message.errno, message.detail) == (errno.EINVAL, "the soft limit 9 is above the hard limit 5")
    without = [op("bounding", capabilities=0), op("caps"), op("rlimit", resource=nofile, soft=10, hard=20),
               op("rlimit", resource=nofile, soft=10, hard=21)]  # fmt: skip
    message = failure(late(probe_rootfs, without))
    assert message.errno == errno.EPERM
    assert message.detail == "the hard limit is 20 here; raising it to 21 needs CAP_SYS_RESOURCE"


def test_scheduling(probe_rootfs: Path) -> None:
    ops = [
        op("scheduler", policy=3, nice=5 & 0xFFFFFFFFFFFFFFFF),  # SCHED_BATCH
        op("ioprio", value=(2 << 13) | 6),
        op("affinity", mask=b"\1" + bytes(7)),
        op("personality", value=8),
    ]
    if os.path.exists("/proc/self/numa_maps"):
        ops += [op("mempolicy", mode=2, nodes=b"\1" + bytes(127)), op("mempolicy", mode=0)]
    said = output(late(probe_rootfs, ops, "sched", "--", "uname"))
    assert "policy=3" in said
    assert "nice=5" in said
    assert "ioprio=2:6" in said
    assert "cpus=0" in said
    negative = [op("scheduler", policy=0, nice=-7 & 0xFFFFFFFFFFFFFFFF)]
    assert "nice=-7" in output(late(probe_rootfs, negative, "sched"))
    message = failure(late(probe_rootfs, [op("scheduler", policy=1, priority=1000)]))
    assert (message.errno, message.detail) == (errno.EINVAL, "sched_setattr")
    message = failure(late(probe_rootfs, [op("affinity", mask=bytes(64) + b"\1" + bytes(7))]))
    assert message.errno == errno.EINVAL
    assert "processors" in message.detail


def test_names(probe_rootfs: Path) -> None:
    said = output(contained(probe_rootfs, [op("hostname", name="höst"), op("domainname", name="example")], "uname"))
    assert "höst" in said
    assert "example" in said
    assert failure(contained(probe_rootfs, [op("hostname", name="x" * 65)])).errno == errno.EINVAL


def test_working_directory(own_probe_rootfs: Path) -> None:
    assert output(late(own_probe_rootfs, [op("chdir", path="/home")], "cwd")) == "/home\n"
    message = failure(late(own_probe_rootfs, [op("chdir", path="/home/absent/x")]))
    assert (message.errno, message.detail) == (errno.ENOENT, "/home/absent")
    message = failure(late(own_probe_rootfs, [op("chdir", path="/etc/passwd")]))
    assert message.errno == errno.ENOTDIR
    closed = own_probe_rootfs / "closed"
    closed.mkdir(mode=0o700)
    message = failure(late(own_probe_rootfs, [op("setuser", uid=5, gid=5), op("caps"), op("chdir", path="/closed/x")]))
    assert (message.errno, message.detail) == (errno.EACCES, "/closed/x")


def test_cve_2024_21626_a_leaked_directory_is_no_working_directory(probe_rootfs: Path) -> None:
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    try:
        for path in (f"/proc/self/fd/{leaked}", f"/proc/self/fd/{leaked}/etc", f"/proc/1/fd/{leaked}"):
            plan = contained(probe_rootfs, [])
            plan.insert(index_of(plan, "close_fds"), op("chdir", path=path))
            message = failure(plan, pass_fds=(leaked,))
            assert message.errno == errno.EPERM, path
            assert "outside of the container's root" in message.detail
            # After close_fds it is not there any more, nor is any fd of ours that would lead out.
            assert failure(late(probe_rootfs, [op("chdir", path=path)]), pass_fds=(leaked,)).errno == errno.ENOENT
    finally:
        os.close(leaked)


def test_a_created_container_shows_no_directory_of_the_host(probe_rootfs: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    host = [op("open", slot=0, path=str(fifo), flags=os.O_RDWR), op("open", slot=2, path="/etc", flags=os.O_PATH),
            op("open_tree", slot=3, path="/dev/null", flags=1),
            op("open", slot=4, path="/proc/self/ns/net", flags=os.O_RDONLY)]  # fmt: skip
    inside = [op("procfs"), op("mask", path="/etc", slot=3), op("mask", path="/etc/passwd", slot=3)]
    kept = os.open("/dev/zero", os.O_RDONLY)
    plan = contained(probe_rootfs, inside, "fds", host=host)
    plan.insert(index_of(plan, "exec"), op("wait_start", slot=0))
    with Launch(plan, pass_fds=(kept,)) as launch:
        os.close(kept)
        launch.expect(o.MSG_READY)
        folder = f"/proc/{launch.pid}/fd"
        open_at_ready = {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
        assert {link.partition(":")[0] for link in open_at_ready} == {"/dev/null", "pipe", "socket", str(fifo)}
        launch.go()
        assert launch.receive() is None
        # PID 1 without a handler would ignore it.
        os.kill(launch.pid, signal.SIGTERM)
        assert launch.wait() == 128 + signal.SIGTERM


def test_what_later_operations_need_stays_open(own_probe_rootfs: Path) -> None:
    host = [op("open_tree", slot=3, path="/dev/null", flags=1)]
    plan = late(
        own_probe_rootfs,
        [
            op("mask", path="/etc/passwd", slot=3),
            op("proc_write", path="sys/kernel/domainname", data=b"late"),
            op("mask", path="/etc/group", slot=3),
            op("mask", path="/home", slot=3),
        ],
        "cat", "/etc/passwd", "/etc/group", "--", "ls", "/home", "--", "uname",
        host=host,
    )  # fmt: skip
    plan.insert(index_of(plan, "root_attach") + 1, op("procfs"))
    assert "late" in output(plan)


def test_cap_dac_override_counts_when_the_program_is_looked_for(own_probe_rootfs: Path) -> None:
    closed = own_probe_rootfs / "closed"
    closed.mkdir(mode=0o700)
    os.link(own_probe_rootfs / "bin/probe", closed / "prog")
    override = 1 << 1
    for given, found in ((override, True), (0, False)):
        plan = late(own_probe_rootfs, [op("setuser", uid=1000, gid=1000), op("caps", effective=given, permitted=given)])
        plan[index_of(plan, "find_program")] = op("find_program", program="/closed/prog")
        if not found:
            assert failure(plan).errno == errno.EACCES
            continue
        with Launch(plan) as launch:
            launch.expect(o.MSG_READY)


def test_keyring(probe_rootfs: Path) -> None:
    keyctl = {"x86_64": 250, "aarch64": 219, "riscv64": 219}[os.uname().machine]
    # KEYCTL_GET_KEYRING_ID of the session keyring, without making one
    ask = ("syscall", str(keyctl), "0", "-3", "0")
    one = output(late(probe_rootfs, [op("keyring", name="masu-test")], *ask))
    other = output(late(probe_rootfs, [op("keyring", name="masu-test-2")], *ask))
    assert one != other
    assert "ERROR" not in one


def test_loopback_is_up(probe_rootfs: Path) -> None:
    inside = [op("loopback"), op("mount", fstype="sysfs", source="sysfs", target="/sys")]
    assert output(contained(probe_rootfs, inside, "cat", "/sys/class/net/lo/flags")) == "0x9\n"
    inside = [op("mount", fstype="sysfs", source="sysfs", target="/sys")]
    assert output(contained(probe_rootfs, inside, "cat", "/sys/class/net/lo/flags")) == "0x8\n"


def test_a_user_that_is_not_mapped_is_told(probe_rootfs: Path) -> None:
    plan = [
        op("open_tree", slot=1000, path=str(probe_rootfs), flags=OPEN_TREE_CLONE | AT_RECURSIVE),
        op("unshare", flags=CLONE_NEWUSER),
        op("sync", name="map"),
        op("become", uid=0, gid=0),
        op("clone", flags=0),
        op("setuser", uid=70000, gid=0),
    ]
    with Launch(plan) as launch:
        launch.map_ids()
        message = launch.failure()
    assert (message.errno, message.detail) == (errno.EINVAL, "setresuid 70000: not mapped")


def test_stdio_belongs_to_the_user_but_the_hosts_devices_do_not(probe_rootfs: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    null_before = os.stat("/dev/null")
    with target.open("wb") as out:
        ops = [op("stdio_owner", uid=1000, gid=1000), op("setuser", uid=1000, gid=1000)]
        again = ("create", "/proc/self/fd/2", "x", "--", "write", "/proc/self/fd/1", "opened again")
        plan = late(probe_rootfs, ops, *again)
        with Launch(plan, stdout=out.fileno()) as launch:
            assert launch.run() == 0
    assert target.stat().st_uid == 1000
    assert "opened again" in target.read_text()
    null_after = os.stat("/dev/null")
    assert (null_after.st_uid, null_after.st_mode) == (null_before.st_uid, null_before.st_mode)


def test_the_machines_own_limits(probe_rootfs: Path) -> None:
    """Everything this process may have can be given, and nothing else."""
    have = capabilities.current()
    everything = have.bounding & have.permitted
    ops = [op("bounding", capabilities=everything), op("caps", effective=everything, permitted=everything)]
    assert sets(output(late(probe_rootfs, ops, "caps")))["bounding"] == everything
