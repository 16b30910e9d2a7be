"""masu-launch: the dance itself. Namespaces, messages, exec and its failures, a host that dies or gives up."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from kernel.launchclient import (
    AT_RECURSIVE,
    CLONE_NEWCGROUP,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    DEADLINE_S,
    FIVE,
    LAUNCH,
    MS_PRIVATE,
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
    wait_gone,
    wait_readable,
)

from masu.plan import ops as o
from masu.plan.encode import encode
from masu.plan.ops import Op

pytestmark = pytest.mark.root


def namespaces_of(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines())


def own_namespaces() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}


# -- namespaces -------------------------------------------------------------------------------------------------------


def test_five_namespaces_a_new_root_and_exec(probe_rootfs: Path) -> None:
    plan = contained(probe_rootfs, [], "ns", "--", "ls", "/", "--", "cwd", "--", "pids")
    said = output(plan)
    ours = own_namespaces()
    inside = namespaces_of("\n".join(line for line in said.splitlines() if ":[" in line))
    for name in ("pid", "mnt", "uts", "ipc", "net"):
        assert inside[name] != ours[name], name
    for name in ("user", "cgroup"):
        assert inside[name] == ours[name], name
    assert "bin\ndev\netc" in said
    assert "pid=1 ppid=0" in said


def test_the_old_root_is_gone(probe_rootfs: Path) -> None:
    mounts = output(contained(probe_rootfs, [], "mounts")).splitlines()
    assert {line.split()[4] for line in mounts} == {"/", "/proc", "/dev", "/dev/pts"}


def test_pid_and_pidfd_come_first_and_are_those_of_our_child(probe_rootfs: Path) -> None:
    with Launch(contained(probe_rootfs, [], "exit", "7")) as launch:
        ready = launch.expect(o.MSG_READY)
        assert [message.type for message in launch.messages] == [o.MSG_PID, o.MSG_READY]
        assert ready.value == 1  # getpid() inside
        assert launch.process.wait(DEADLINE_S) == 0  # the stage has left
        text = Path(f"/proc/{launch.pid}/status").read_text()
        assert f"PPid:\t{os.getpid()}\n" in text
        assert Path(f"/proc/{launch.pid}/comm").read_text() == "masu:[1:init]\n"
        launch.go()
        assert launch.receive() is None
        assert launch.wait() == 7


def test_nobody_inside_can_look_into_the_launcher(probe_rootfs: Path) -> None:
    with Launch(contained(probe_rootfs, [], "exit", "0")) as launch:
        launch.expect(o.MSG_READY)
        # Files of an undumpable process belong to root of the host and want CAP_SYS_PTRACE there (proc(5)).
        with open(f"/proc/{launch.pid}/status") as status:
            assert "Uid:\t0\t0" in status.read()
        code = (
            "import os, sys\n"
            "os.setgroups([]); os.setgid(0); os.setresuid(0, 0, 0)\n"
            "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
            "libc.prctl(47, 4, 0, 0, 0)\n"
            "header = (ctypes.c_uint32 * 2)(0x20080522, 0); data = (ctypes.c_uint32 * 6)()\n"
            "libc.capset(header, data)\n"
            f"os.readlink('/proc/{launch.pid}/exe')\n"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "PermissionError" in found.stderr
        launch.go()
        assert launch.run() == 0


def test_the_environment_and_arguments_are_exact(probe_rootfs: Path) -> None:
    plan = contained(probe_rootfs, [], "exit", "0")
    plan[-1] = op("exec", args=("name", "echo", "a b", "", "ä\udcff", "--", "env"), env=("A=1", "B=x y", "EMPTY="))
    with Launch(plan) as launch:
        assert launch.run() == 0
        said = launch.stdout()
    assert said.startswith("a b  ä\udcff\n".encode("utf-8", "surrogateescape"))
    assert said.endswith(b"A=1\nB=x y\nEMPTY=\n")


def test_signals_are_reset(probe_rootfs: Path) -> None:
    # Python ignores SIGPIPE and SIGXFSZ, and this one blocks SIGUSR1.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        said = output(contained(probe_rootfs, [], "signals"))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert said == "ignored= blocked=\n"


def test_only_stdio_and_kept_fds_reach_the_program(probe_rootfs: Path) -> None:
    kept, other = os.open("/etc/hostname", os.O_RDONLY), os.open("/etc/passwd", os.O_RDONLY)
    low, high = 3, 900
    saved = [os.dup(fd) if _is_open(fd) else None for fd in (low,)]
    try:
        os.dup2(kept, low)
        os.dup2(other, high)
        plan = contained(probe_rootfs, [], "fds")
        plan[index_of(plan, "close_fds")] = op("close_fds", keep=1)
        with Launch(plan, pass_fds=(low, high)) as launch:
            assert launch.run() == 0
            numbers = {int(line.split()[0]) for line in launch.stdout().decode().splitlines()}
        assert numbers == {0, 1, 2, 3}
    finally:
        os.close(high)
        os.close(other)
        for fd, before in zip((low,), saved, strict=True):
            if before is None:
                if fd != kept:
                    os.close(fd)
            else:
                os.dup2(before, fd)
                os.close(before)
        if kept != low:
            os.close(kept)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_user_namespace_is_mapped_by_the_host(probe_rootfs: Path, tmp_path: Path) -> None:
    # The way to the root is closed to the mapped user: it never walks it.
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    root = closed / "rootfs"
    subprocess.run(["cp", "-a", str(probe_rootfs), str(root)], check=True)
    subprocess.run(["chown", "-R", "100000:100000", str(root)], check=True)
    host = [
        op("open_tree", slot=1000, path=str(root), flags=OPEN_TREE_CLONE | AT_RECURSIVE),
        op("mount_attr", slot=1000, propagation=MS_PRIVATE, recursive=1),
        op("open_tree", slot=1, path="/dev/null", flags=OPEN_TREE_CLONE),
        op("unshare", flags=CLONE_NEWUSER),
        op("sync", name="map"),
        op("become", uid=0, gid=0),
    ]
    inside = [
        *base(str(root))[2:],
        op("mount", fstype="proc", source="proc", target="/proc"),
        op("mount", fstype="tmpfs", source="tmpfs", options=("mode=755",), target="/dev"),
        op("attach", slot=1, target="/dev/null"),
        op("hostname", name="inside"),
        op("loopback"),
        op("pivot_root"),
        *finish("probe", "id", "--", "create", "/tmp/made", "x", "--", "uname", "--", "open", "/dev/null", "w"),
    ]
    plan = [*host, *inside]
    with Launch(plan) as launch:
        sync = launch.receive()
        assert sync is not None
        assert (sync.type, sync.detail) == (o.MSG_SYNC, "map")
        assert sync.value == launch.process.pid
        Path(f"/proc/{sync.value}/uid_map").write_text("0 100000 65536\n")
        Path(f"/proc/{sync.value}/gid_map").write_text("0 100000 65536\n")
        launch.go()
        assert launch.run() == 0
        said = launch.stdout().decode()
    assert "uid=0 euid=0 gid=0 egid=0" in said
    assert "inside" in said
    assert (root / "tmp/made").stat().st_uid == 100000


def test_without_privilege_the_stage_opens_up_while_it_is_mapped(probe_rootfs: Path) -> None:
    plan = [
        op("unshare", flags=CLONE_NEWUSER),
        op("sync", name="map"),
        op("become", uid=0, gid=0),
        op("clone", flags=CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS),
        op("hostname", name="rootless"),
        *finish("uname", "-n"),
    ]
    helper = (
        "import os, sys\n"
        "pid = int(sys.argv[1])\n"
        "open(f'/proc/{pid}/setgroups', 'w').write('deny')\n"
        "open(f'/proc/{pid}/gid_map', 'w').write('0 1000 1')\n"
        "open(f'/proc/{pid}/uid_map', 'w').write('0 1000 1')\n"
    )
    program = _readable_copy(probe_rootfs)
    with Launch(plan, user=1000, program=program, prefix=("/usr/bin/env",), cwd="/") as launch:
        sync = launch.receive()
        assert sync is not None
        assert sync.type == o.MSG_SYNC, sync
        command = [sys.executable, "-c", helper, str(sync.value)]
        subprocess.run(command, check=True, user=1000, group=1000, extra_groups=[], cwd="/")
        launch.go()
        assert launch.run() == 0
        assert launch.stdout() == b"rootless\n"


def _readable_copy(folder: Path) -> str:
    """The checkout may lie below directories that an ordinary user cannot enter."""
    if os.stat(LAUNCH).st_mode & 1 and all(os.stat(parent).st_mode & 1 for parent in Path(LAUNCH).parents):
        return LAUNCH
    pytest.skip("the checkout is not reachable for an ordinary user")


def test_joined_namespaces(probe_rootfs: Path) -> None:
    """A second process in the namespaces of a first one: by files, and all at once by pidfd."""
    with Launch(contained(probe_rootfs, [op("hostname", name="first")], "pause")) as first:
        first.expect(o.MSG_READY)
        first.go()
        assert first.receive() is None
        names = {"pid": CLONE_NEWPID, "net": CLONE_NEWNET, "uts": CLONE_NEWUTS, "mnt": CLONE_NEWNS}
        by_file: list[Op] = []
        for slot, name in enumerate(names):
            by_file.append(op("open", slot=slot, path=f"/proc/{first.pid}/ns/{name}", flags=os.O_RDONLY))
        for slot, name in enumerate(names):
            by_file.append(op("setns", slot=slot, nstype=names[name]))
        rest = [op("clone", flags=0), op("setsid"), op("chdir", path="/")]
        probe = ("uname", "--", "ns", "--", "pids", "--", "cwd")
        said = output([*by_file, *rest, *finish("probe", *probe)])
        assert "first" in said
        theirs = {name: os.readlink(f"/proc/{first.pid}/ns/{name}") for name in names}
        for name in names:
            assert f"{name} {theirs[name]}" in said
        pidfd = os.pidfd_open(first.pid)
        os.set_inheritable(pidfd, True)
        try:
            at_once = [op("adopt", slot=0, fd=pidfd), op("setns", slot=0, nstype=FIVE)]
            said = output([*at_once, *rest, *finish("probe", *probe)], pass_fds=(pidfd,))
        finally:
            os.close(pidfd)
        assert "first" in said
        for name in names:
            assert f"{name} {theirs[name]}" in said


def test_joining_the_wrong_kind_is_told(probe_rootfs: Path) -> None:
    plan = [op("open", slot=0, path="/proc/self/ns/net", flags=os.O_RDONLY), op("setns", slot=0, nstype=CLONE_NEWPID),
            op("clone", flags=0)]  # fmt: skip
    message = failure(plan)
    assert (message.index, message.errno) == (1, errno.EINVAL)
    assert "not a namespace of that kind" in message.detail


def test_time_namespace(probe_rootfs: Path) -> None:
    if not os.path.exists("/proc/self/ns/time"):
        pytest.skip("this kernel has no time namespaces")
    host = [
        op("unshare", flags=CLONE_NEWTIME),
        op("write", path="/proc/self/timens_offsets", data=b"boottime 864000 0\nmonotonic 432000 0\n"),
    ]
    said = output(contained(probe_rootfs, [], "clocks", host=host))
    import time

    numbers = [float(word) for word in said.replace("=", " ").split() if word.replace(".", "").isdigit()]
    assert numbers[0] - time.clock_gettime(time.CLOCK_MONOTONIC) == pytest.approx(432000, abs=60)
    assert numbers[1] - time.clock_gettime(time.CLOCK_BOOTTIME) == pytest.approx(864000, abs=60)


def test_cgroup_namespace_after_joining(probe_rootfs: Path) -> None:
    said = output(contained(probe_rootfs, [op("unshare", flags=CLONE_NEWCGROUP)], "ns"))
    assert namespaces_of(said)["cgroup"] != own_namespaces()["cgroup"]


def _cgroup2() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return Path(fields[4])
    pytest.skip("there is no cgroup2 here")


def test_born_in_a_cgroup(probe_rootfs: Path) -> None:
    _check_born_in(_cgroup2(), probe_rootfs)


def _check_born_in(parent: Path, rootfs: Path) -> None:
    group = parent / f"masu-test-{os.getpid()}"
    group.mkdir()
    try:
        host = [op("open", slot=5, path=str(group), flags=os.O_PATH | os.O_DIRECTORY)]
        plan = contained(rootfs, [], "exit", "0", host=host)
        plan[index_of(plan, "clone")] = op("clone", flags=FIVE, cgroup=5)
        with Launch(plan) as launch:
            launch.expect(o.MSG_READY)
            assert (group / "cgroup.procs").read_text().split() == [str(launch.pid)]
            launch.go()
            assert launch.run() == 0
    finally:
        group.rmdir()


def test_a_cgroup_that_refuses_clone_is_joined_by_writing(probe_rootfs: Path) -> None:
    """A v1 directory is no cgroup2 one: clone3 says EBADF, and the child writes to cgroup.procs."""
    freezer = Path("/sys/fs/cgroup/freezer")
    if not freezer.is_dir():
        pytest.skip("there is no cgroup v1 here")
    _check_born_in(freezer, probe_rootfs)


def test_a_cgroup_that_cannot_be_joined_is_told(probe_rootfs: Path, tmp_path: Path) -> None:
    host = [op("open", slot=5, path=str(tmp_path), flags=os.O_PATH | os.O_DIRECTORY)]
    plan = contained(probe_rootfs, [], "exit", "0", host=host)
    plan[index_of(plan, "clone")] = op("clone", flags=FIVE, cgroup=5)
    message = failure(plan)
    assert (message.index, message.errno, message.detail) == (index_of(plan, "clone"), errno.ENOENT, "cgroup.procs")


def test_as_pid_1_the_stage_waits_for_its_child(probe_rootfs: Path) -> None:
    """CLONE_PARENT is refused to PID 1 of a PID namespace, as masu-launch is in a guest."""
    plan = contained(probe_rootfs, [], "exit", "9")
    with Launch(plan, prefix=("unshare", "--pid", "--fork", "--kill-child")) as launch:
        launch.expect(o.MSG_READY)
        launch.go()
        assert launch.receive() is None
        assert launch.process.wait(DEADLINE_S) == 9


# -- a host that goes away --------------------------------------------------------------------------------------------


def waits(root: Path) -> list[Op]:
    """A plan with every kind of wait."""
    return [
        op("sync", name="stage"),
        *base(str(root)),
        op("sync", name="init"),
        *usual_mounts(),
        op("pivot_root"),
        *finish("probe", "pause"),
    ]


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("how", ["abort", "hangup"])
def test_a_host_that_gives_up_leaves_nothing(probe_rootfs: Path, stop: int, how: str) -> None:
    with Launch(waits(probe_rootfs)) as launch:
        for count in range(1, stop + 1):
            while True:
                message = launch.receive()
                assert message is not None
                if message.type in (o.MSG_SYNC, o.MSG_READY):
                    break
            if count < stop:
                launch.go()
        if how == "abort":
            launch.abort()
        else:
            launch.control.close()
        if launch.pidfd >= 0:
            assert launch.wait() == 1
        assert launch.process.wait(DEADLINE_S) == (1 if stop == 1 else 0)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_kill_9_of_the_host_leaves_nothing(probe_rootfs: Path, tmp_path: Path, stop: int) -> None:
    """The host is a process of its own here; it is killed while masu-launch waits for it."""
    code = (
        "import sys, os\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from kernel.launchclient import Launch\n"
        "from kernel.test_launch_core import waits\n"
        "from pathlib import Path\n"
        f"launch = Launch(waits(Path({str(probe_rootfs)!r})), stdout=None)\n"
        f"for count in range(1, {stop} + 1):\n"
        "    while launch.receive().type not in (1, 3): pass\n"
        f"    if count < {stop}: launch.go()\n"
        "print(launch.process.pid, launch.pid, flush=True)\n"
        "import signal; signal.pause()\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    with host.stdout:
        stage, init = (int(word) for word in host.stdout.readline().split())
        fds = [os.pidfd_open(pid) for pid in (stage, init) if pid and Path(f"/proc/{pid}").exists()]
        assert fds
        host.kill()
        host.wait(DEADLINE_S)
    for fd in fds:
        wait_readable(fd)
        os.close(fd)


# -- malformed plans --------------------------------------------------------------------------------------------------


def told(plan: bytes) -> str:
    with Launch(plan) as launch:
        message = launch.receive()
        assert message is not None
        assert (message.type, message.errno) == (o.MSG_ERROR, errno.EBADMSG)
        assert launch.receive() is None
        assert launch.process.wait(DEADLINE_S) == 1
        return message.detail


def test_malformed_plans_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("untouched")
    first = op("write", path=str(marker), data=b"touched")
    good = encode([first, op("clone", flags=0), op("exec", args=("x",), env=())])
    assert "does not begin" in told(b"nonsense" + good[8:])
    assert "version 9" in told(good[:8] + struct.pack("<I", 9) + good[12:])
    assert "its length" in told(good[:-1])
    assert "its length" in told(good + b"\0")
    assert "no clone" in told(encode([first]))
    assert "belongs after clone" in told(encode([first, op("ready"), op("clone", flags=0)]))
    assert "belongs before clone" in told(encode([first, op("clone", flags=0), op("clone", flags=0)]))
    assert "must be the last" in told(encode([first, op("clone"), op("exec", args=("x",)), op("ready")]))
    assert "must be the first" in told(encode([first, op("monitor"), op("clone")]))
    assert "no such slot" in told(encode([first, op("open", slot=o.MAX_SLOTS, path="/"), op("clone")]))
    assert "no such slot" in told(encode([first, op("clone"), op("attach", slot=o.NONE, target="/x")]))
    assert "no such file descriptor" in told(encode([first, op("adopt", slot=0, fd=1 << 31), op("clone")]))
    assert "too large" in told(encode([first, op("clone"), op("umask", mask=1 << 32)]))
    assert marker.read_text() == "untouched"


def test_usage_without_arguments() -> None:
    found = subprocess.run([LAUNCH], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.startswith("usage: masu-launch")) == (2, True)


# -- finding and executing the program --------------------------------------------------------------------------------


def broken_program(root: Path, name: str, content: bytes, mode: int = 0o755) -> None:
    path = root / "bin" / name
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("program", "number", "detail"),
    [
        ("absent", errno.ENOENT, '"absent": executable file not found in $PATH'),
        ("/bin/absent", errno.ENOENT, "/bin/absent"),
        ("/nowhere/absent", errno.ENOENT, "/nowhere"),
        ("plain", errno.EACCES, "lets nobody execute it"),
        ("/etc/passwd", errno.EACCES, "/etc/passwd"),
        ("/etc", errno.EACCES, "is a directory"),
        ("", errno.ENOENT, "empty"),
    ],
)
def test_a_missing_program_is_told_before_ready(
    own_probe_rootfs: Path, program: str, number: int, detail: str
) -> None:
    broken_program(own_probe_rootfs, "plain", b"", 0o644)
    plan = contained(own_probe_rootfs, [], "exit", "0")
    index = index_of(plan, "find_program")
    plan[index] = op("find_program", program=program, path="/nonexistent:/bin")
    message = failure(plan)
    assert (message.index, message.errno) == (index, number)
    assert detail in message.detail


def test_the_path_is_searched_in_order(own_probe_rootfs: Path) -> None:
    (own_probe_rootfs / "first").mkdir()
    os.link(own_probe_rootfs / "bin/probe", own_probe_rootfs / "first/prog")
    (own_probe_rootfs / "prog").mkdir()
    plan = contained(own_probe_rootfs, [], "cwd")
    plan[index_of(plan, "find_program")] = op("find_program", program="prog", path="/x::/first:/bin")
    plan[-1] = op("exec", args=("prog", "readlink", "/proc/self/exe"), env=())
    assert output(plan) == "/first/prog\n"


ELF_ARM64 = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 183, 1) + bytes(40)


@pytest.mark.parametrize(
    ("content", "number", "status", "detail"),
    [
        (b"", errno.ENOEXEC, 126, "the file is empty"),
        (b"echo hello\n", errno.ENOEXEC, 126, "neither a program nor a script with a #! line"),
        (b"#!/bin/nothere -x\n", errno.ENOENT, 127, "interpreter /bin/nothere: not found"),
        (b"#!/bin/probe\r\n", errno.ENOENT, 127, "carriage return"),
        (ELF_ARM64, errno.ENOEXEC, 126, "it is for aarch64, this machine is x86_64"),
    ],
)
def test_why_exec_failed(own_probe_rootfs: Path, content: bytes, number: int, status: int, detail: str) -> None:
    if os.uname().machine != "x86_64" and content is ELF_ARM64:
        pytest.skip("names another machine")
    broken_program(own_probe_rootfs, "broken", content)
    plan = contained(own_probe_rootfs, [], "exit", "0")
    plan[index_of(plan, "find_program")] = op("find_program", program="broken", path="/bin")
    with Launch(plan) as launch:
        message = launch.failure()
        assert (message.index, message.errno) == (len(plan) - 1, number)
        assert message.detail.startswith("/bin/broken: ")
        assert detail in message.detail
        assert launch.wait() == status


def test_a_missing_dynamic_loader_is_named(own_probe_rootfs: Path) -> None:
    subprocess.run(["cp", "/bin/true", str(own_probe_rootfs / "bin/true")], check=True)
    plan = contained(own_probe_rootfs, [], "exit", "0")
    plan[index_of(plan, "find_program")] = op("find_program", program="true", path="/bin")
    with Launch(plan) as launch:
        message = launch.failure()
        assert message.errno == errno.ENOENT
        assert "interpreter /lib" in message.detail
        assert "not found" in message.detail
        assert launch.wait() == 127


def test_wait_start_and_what_is_said_after_it(own_probe_rootfs: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def plan() -> list[Op]:
        host = [op("open", slot=0, path=str(fifo), flags=os.O_RDWR)]
        made = contained(own_probe_rootfs, [], "exit", "4", host=host)
        made.insert(index_of(made, "exec"), op("wait_start", slot=0))
        return made

    with Launch(plan()) as launch:
        assert launch.start(fifo) == (4, None)
    broken_program(own_probe_rootfs, "broken", b"")
    made = plan()
    made[index_of(made, "find_program")] = op("find_program", program="broken", path="/bin")
    with Launch(made) as launch:
        status, said = launch.start(fifo)
    assert said is not None
    assert (status, said.type, said.index, said.errno) == (126, o.MSG_ERROR, len(made) - 1, errno.ENOEXEC)
    assert "the file is empty" in said.detail


def test_init_reaps_forwards_and_ends_as_its_child_did(probe_rootfs: Path) -> None:
    def with_init(*probe: str) -> list[Op]:
        plan = contained(probe_rootfs, [], *probe)
        plan.insert(index_of(plan, "exec"), op("init"))
        return plan

    with Launch(with_init("pids", "--", "exit", "5")) as launch:
        assert launch.run() == 5
        assert launch.stdout().startswith(b"pid=2 ppid=1 pgid=2 ")
    with Launch(with_init("wait", "15")) as launch:
        launch.expect(o.MSG_READY)
        launch.go()
        assert launch.receive() is None
        assert launch.process.stdout is not None
        assert launch.process.stdout.readline() == b"ready\n"
        os.kill(launch.pid, signal.SIGTERM)
        assert b"caught 15" in launch.process.stdout.readline()
        assert launch.wait() == 0
    with Launch(with_init("echo", "ready", "--", "stdin"), stdin=subprocess.PIPE) as launch:
        launch.expect(o.MSG_READY)
        launch.go()
        assert launch.receive() is None
        assert launch.process.stdout is not None
        assert launch.process.stdout.readline() == b"ready\n"
        os.kill(launch.pid, signal.SIGTERM)
        assert launch.wait() == 128 + signal.SIGTERM


def test_a_payload_of_a_mebibyte_passes_and_more_is_refused(probe_rootfs: Path) -> None:
    plan = [op("sync", name="first"), op("clone", flags=0), *finish("/bin/true")]
    with Launch(plan) as launch:
        launch.expect(o.MSG_SYNC)
        launch.go(bytes(200_000))
        launch.expect(o.MSG_READY)
        launch.go()
        assert launch.run() == 0
    with Launch(plan) as launch:
        launch.expect(o.MSG_SYNC)
        launch.control.send(struct.pack("<IIii", 99, 0, 0, 0))
        message = launch.receive()
        assert message is not None
        assert (message.type, message.index, message.errno) == (o.MSG_ERROR, 0, errno.EPROTO)


def test_a_path_that_cannot_be_walked_names_its_component(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, number, component in (
        (tmp_path / "absent/x/y", errno.ENOENT, tmp_path / "absent"),
        (tmp_path / "file/x", errno.ENOTDIR, tmp_path / "file"),
    ):
        for name, fields in (("open", {"slot": 0}), ("open_tree", {"slot": 0}), ("write", {"data": b"x"})):
            message = failure([op(name, path=str(path), **fields), op("clone")])
            assert (message.index, message.errno) == (0, number)
            assert str(component) in message.detail


def test_a_limit_on_namespaces_is_explained() -> None:
    limit = Path("/proc/sys/user/max_uts_namespaces")
    plan = [
        op("unshare", flags=CLONE_NEWUSER),
        op("sync", name="map"),
        op("write", path="/proc/sys/user/max_uts_namespaces", data=b"0"),
        op("clone", flags=CLONE_NEWUTS),
    ]
    assert limit.exists()
    with Launch(plan) as launch:
        sync = launch.receive()
        assert sync is not None
        Path(f"/proc/{sync.value}/uid_map").write_text("0 0 1\n")
        launch.go()
        message = launch.failure()
    assert (message.index, message.errno) == (3, errno.ENOSPC)
    assert "/proc/sys/user/max_" in message.detail


def test_an_inherited_fd_that_is_not_there(tmp_path: Path) -> None:
    message = failure([op("adopt", slot=0, fd=987), op("clone")])
    assert (message.index, message.errno, message.detail) == (0, errno.EBADF, "inherited fd 987")


def test_stdio_from_slots(probe_rootfs: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("")
    host = [op("open", slot=3, path=str(target), flags=os.O_WRONLY)]
    inside = [op("stdio", stdin=o.NONE, stdout=3, stderr=3)]
    assert output(contained(probe_rootfs, inside, "echo", "to the file", "--", "stderr", "too", host=host)) == ""
    assert target.read_text() == "to the file\ntoo\n"


def test_the_socket_ends_exactly_with_the_exec(probe_rootfs: Path) -> None:
    left, right = socket.socketpair()
    with left, right:
        plan = contained(probe_rootfs, [], "stdin")
        with Launch(plan, stdin=right.fileno()) as launch:
            launch.expect(o.MSG_READY)
            launch.go()
            assert launch.receive() is None  # while the program runs
            left.sendall(b"still here")
            left.shutdown(socket.SHUT_WR)
            assert launch.wait() == 0
            assert launch.stdout() == b"still here"
    wait_gone(launch.pid)
