"""cgroup v2 on a real cgroup2 tree: what a hybrid machine's shows, which is all but most controllers."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

import pytest
from kernel.cgroupfixture import MIB, Box, box2, resources  # noqa: F401

from masu.errors import FailedPrecondition, KernelError
from masu.linux import bpf_devices
from masu.linux.cgroups import Cgroup, Layout, Mount, delegation, tasks
from masu.linux.cgroups.devices import Table

pytestmark = pytest.mark.root

SYS_CLONE3 = 435  # the same number everywhere (but on Alpha)
CLONE_INTO_CGROUP = 0x200000000


def directory(group: Cgroup) -> Path:
    return Path(group.paths()[""])


def test_from_birth_to_end(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    assert group.mode == "v2"
    group.apply(None)
    process = box2.start(group)
    assert Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()[-1] == f"0::{box2.top}/box"
    again = Cgroup(group.paths())
    assert again.pids() == [process.pid]
    assert not again.wait_empty(0)
    process.communicate()
    assert again.wait_empty(5)
    again.delete(parents=1)
    assert not again.exists()
    assert box2.directories() == []


def test_born_inside(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    libc = ctypes.CDLL(None, use_errno=True)
    fd = group.open_for_clone()
    assert fd is not None
    assert not os.get_inheritable(fd)
    r, w = os.pipe()
    # struct clone_args: flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup
    arguments = struct.pack("11Q", CLONE_INTO_CGROUP, 0, 0, 0, 17, 0, 0, 0, 0, 0, fd)
    pid = libc.syscall(SYS_CLONE3, arguments, len(arguments))
    if pid == 0:
        os.write(w, Path("/proc/self/cgroup").read_bytes())
        os._exit(0)
    assert pid > 0, os.strerror(ctypes.get_errno())
    os.close(w)
    os.close(fd)
    text = os.read(r, 4096).decode()
    os.close(r)
    os.waitpid(pid, 0)
    assert f"0::{box2.top}/box" in text.splitlines()


def test_delegated(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    delegation.delegate(group.paths()[""], 12345)
    whose = {path.name: path.stat().st_uid for path in (directory(group), *directory(group).iterdir())}
    given = set(Path("/sys/kernel/cgroup/delegate").read_text().split()) & set(whose)
    assert {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} <= given
    assert {name for name, uid in whose.items() if uid == 12345} == {directory(group).name, *given}
    assert set(whose.values()) == {0, 12345}
    with pytest.raises(KernelError, match="chown"):
        delegation.delegate(group.paths()[""] + "/nothing", 12345)


def test_freeze_thaw_kill(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    process = box2.start(group)
    assert process.stdin is not None
    assert process.stdout is not None
    group.freeze()
    assert group.frozen()
    assert tasks.events(str(directory(group)))["frozen"] == "1"
    process.stdin.write("hello\n")
    process.stdin.flush()
    group.thaw()
    assert not group.frozen()
    assert process.stdout.readline() == "hello\n"
    group.freeze()
    group.kill()
    assert group.wait_empty(10)
    assert process.wait(10) == -9


def test_an_event_that_never_comes(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    path = str(directory(group))
    assert not tasks.wait_event(path, "frozen", "1", 0.02)
    # A cgroup that goes away while somebody waits ends the wait.
    assert tasks.wait_event(path + "/gone", "frozen", "1", 10)


def test_kill_takes_those_that_keep_forking(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    process = box2.start(group, "sh", "-c", "while :; do (:) & wait; done 2>/dev/null")
    group.kill()
    assert process.wait(10) == -9
    assert group.wait_empty(10)
    group.delete(5)


def test_kill_and_pids_reach_below(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    below = box2.make("box/a/b")
    process = box2.start(below)
    assert group.pids() == [process.pid]
    assert group.pids(all=False) == []
    group.kill()
    assert process.wait(10) == -9
    group.delete(5)
    assert not group.exists()


def test_delete_names_the_living(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    process = box2.start(group)
    with pytest.raises(FailedPrecondition, match=rf"1 process\(es\) left: {process.pid}"):
        group.delete(0.05)
    process.kill()
    group.delete(5)


def test_in_use_and_frozen(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    process = box2.start(group)
    with pytest.raises(FailedPrecondition, match="container's cgroup is not empty: 1 process"):
        box2.make()
    process.communicate()
    assert group.wait_empty(5)
    group.freeze()
    with pytest.raises(FailedPrecondition, match="container's cgroup unexpectedly frozen"):
        box2.make()
    group.thaw()
    assert box2.make() == group


OPENS = """
import errno, os
for path, flags in {paths!r}:
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK)); print('ok')
    except OSError as e:
        print(errno.errorcode[e.errno])
"""


def opens(box: Box, group: Cgroup, *paths: tuple[str, int]) -> list[str]:
    return box.output(group, OPENS.format(paths=paths)).split()


def test_device_program(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    group.apply(None)
    paths = (("/dev/null", os.O_RDWR), ("/dev/ptmx", os.O_RDWR), ("/dev/kmsg", os.O_RDWR))
    assert opens(box2, group, *paths) == ["ok", "ok", "EPERM"]
    number = os.stat("/dev/kmsg").st_rdev
    rule = {"allow": True, "type": "c", "major": os.major(number), "minor": os.minor(number), "access": "r"}
    group.apply(resources(devices=[{"allow": False, "access": "rwm"}, rule]))
    # One program took the place of the other, and access letters count.
    assert bpf_devices.attached(str(directory(group))) == 1
    assert opens(box2, group, *paths, ("/dev/kmsg", os.O_RDONLY)) == ["ok", "ok", "EPERM", "ok"]
    group.apply(resources(devices=[{"allow": True, "access": "rwm"}, {**rule, "allow": False, "access": "w"}]))
    assert opens(box2, group, *paths, ("/dev/kmsg", os.O_RDONLY)) == ["ok", "ok", "EPERM", "ok"]
    group.apply(resources(devices=[{"allow": True, "access": "rwm"}]))
    assert opens(box2, group, *paths) == ["ok", "ok", "ok"]
    group.update(resources(pids={}))
    assert bpf_devices.attached(str(directory(group))) == 1


def test_device_program_holds_below_and_for_mknod(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    group.apply(None)
    below = box2.make("box/below")
    assert opens(box2, below, ("/dev/kmsg", os.O_RDONLY)) == ["EPERM"]
    table = Table()
    table.apply("c", 1, 3, "rw", allow=True)
    bpf_devices.attach(str(directory(group)), table)
    script = """
import errno, os, stat, tempfile
with tempfile.TemporaryDirectory() as folder:
    try:
        os.mknod(folder + '/null', stat.S_IFCHR | 0o600, os.makedev(1, 3)); print('ok')
    except OSError as e:
        print(errno.errorcode[e.errno])
"""
    assert box2.output(below, script) == "EPERM\n"


def test_several_programs_become_one(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    path = str(directory(group))
    fd = os.open(path, os.O_RDONLY)
    from masu.linux import _sys

    for _ in range(2):
        program = bpf_devices.load(bpf_devices.assemble(Table()))
        _sys.bpf(bpf_devices.BPF_PROG_ATTACH, struct.pack("=IIIII", fd, program, 6, bpf_devices.BPF_F_ALLOW_MULTI, 0))
        os.close(program)
    os.close(fd)
    assert bpf_devices.attached(path) == 2
    group.apply(None)
    assert bpf_devices.attached(path) == 1
    assert opens(box2, group, ("/dev/null", os.O_RDWR)) == ["ok"]


def test_many_rules(box2: Box) -> None:  # noqa: F811
    table = Table()
    for major in range(300, 500):
        table.apply("c", major, 7, "rw", allow=True)
        table.apply("b", major, 9, "r", allow=True)
    table.apply("c", 1, 3, "rw", allow=True)
    group = box2.make()
    bpf_devices.attach(str(directory(group)), table)
    assert opens(box2, group, ("/dev/null", os.O_RDWR), ("/dev/zero", os.O_RDWR)) == ["ok", "EPERM"]


def test_the_verifier_is_quoted() -> None:
    with pytest.raises(KernelError) as caught:
        bpf_devices.load(struct.pack("=BBhi", bpf_devices.EXIT, 0, 0, 0), where="linux.resources.devices")
    assert "R0 !read_ok" in caught.value.detail
    assert caught.value.where == "linux.resources.devices"


def hugetlb(box: Box) -> str:
    assert box.layout.unified is not None
    if "hugetlb" not in Path(box.layout.unified.path, "cgroup.controllers").read_text():
        pytest.skip("no hugetlb controller in the cgroup2 tree")
    return "hugetlb.2MB.max"


def a_controller(box: Box) -> tuple[str, dict[str, object]]:
    """One that the cgroup2 tree has, and a limit that needs it: hugetlb on a hybrid machine, memory in a guest."""
    assert box.layout.unified is not None
    there = Path(box.layout.unified.path, "cgroup.controllers").read_text().split()
    if "memory" in there:
        return "memory", {"memory": {"limit": 64 * MIB}}
    if "hugetlb" in there:
        return "hugetlb", {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    pytest.skip("neither memory nor hugetlb in the cgroup2 tree")


def test_controllers_are_passed_down(box2: Box) -> None:  # noqa: F811
    file = hugetlb(box2)
    group = box2.make("a/b/box")
    assert "hugetlb" in directory(group).joinpath("cgroup.controllers").read_text()
    group.apply(resources(hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}]))
    assert directory(group).joinpath(file).read_text().strip() == str(4 * MIB)
    assert directory(group).joinpath("hugetlb.2MB.rsvd.max").read_text().strip() == str(4 * MIB)
    stats = group.stats()
    assert stats.hugetlb is not None
    assert "2MB" in stats.hugetlb
    group.apply(resources(unified={"hugetlb.2MB.max": str(8 * MIB)}))
    assert directory(group).joinpath(file).read_text().strip() == str(8 * MIB)
    with pytest.raises(KernelError) as caught:
        group.apply(resources(unified={"hugetlb.2MB.max": "lots"}))
    assert (caught.value.errno, caught.value.where) == (errno.EINVAL, "linux.resources.unified.hugetlb.2MB.max")


def test_controller_that_lives_in_v1(box2: Box) -> None:  # noqa: F811
    group = box2.make()
    if "memory" in directory(group).joinpath("cgroup.controllers").read_text():
        pytest.skip("memory is here")
    with pytest.raises(KernelError) as caught:
        group.apply(resources(memory={"limit": 64 * MIB}))
    error = caught.value
    assert (error.errno, error.where) == (errno.ENOENT, "linux.resources.memory.limit")
    assert error.obj.endswith("/box/memory.max")
    assert "cgroup v1 has it" in error.hint


def test_parent_with_processes_passes_nothing_on(box2: Box) -> None:  # noqa: F811
    _, limit = a_controller(box2)
    parent = box2.make("parent")
    box2.start(parent)
    group = box2.make("parent/box")
    with pytest.raises(KernelError) as caught:
        group.apply(resources(**limit))
    assert "1 process(es) live in it" in caught.value.hint
    # Without limits it does.
    group.apply(None)
    box2.start(group)


def test_threaded_places(box2: Box) -> None:  # noqa: F811
    parent = box2.make("parent")
    threads = directory(parent) / "threads"
    threads.mkdir()
    threads.joinpath("cgroup.type").write_text("threaded")
    assert directory(parent).joinpath("cgroup.type").read_text() == "domain threaded\n"
    huge = resources(hugepageLimits=[{"pageSize": "2MB", "limit": 0}])
    with pytest.raises(FailedPrecondition, match="with domain controllers -- it is in domain threaded mode"):
        box2.make("parent/box", resources=huge)
    assert not directory(parent).joinpath("box").exists()
    # Without such limits it becomes one more threaded cgroup, and its processes are still found.
    group = box2.make("parent/box", resources=resources(pids={"limit": 5}))
    assert directory(group).joinpath("cgroup.type").read_text() == "threaded\n"
    inner = box2.start(parent)
    directory(group).joinpath("cgroup.threads").write_text(str(inner.pid))
    assert group.pids() == [inner.pid]
    inner.communicate()


def test_too_deep(box2: Box) -> None:  # noqa: F811
    parent = box2.make("parent")
    directory(parent).joinpath("cgroup.max.depth").write_text("0")
    with pytest.raises(KernelError) as caught:
        box2.make("parent/box")
    assert caught.value.errno == errno.EAGAIN
    assert "cgroup.max.depth" in caught.value.hint


def test_exec_follows_init_out_of_the_way(box2: Box) -> None:  # noqa: F811
    controller, _ = a_controller(box2)
    group = box2.make("a/box")
    init = box2.start(group)
    assert group.for_exec(init.pid) == group
    inner = directory(group) / "init"
    inner.mkdir()
    inner.joinpath("cgroup.procs").write_text(str(init.pid))
    assert group.for_exec(init.pid) == group
    directory(group).joinpath("cgroup.subtree_control").write_text(f"+{controller}")
    # No process can live beside its own domain controllers.
    found = group.for_exec(init.pid)
    assert found.paths() == {"": str(inner)}
    second = box2.start(found)
    assert sorted(group.pids()) == sorted([init.pid, second.pid])
    # An init that somebody has moved elsewhere leads nowhere, as long as there is the container's own.
    outside = box2.make("outside")
    directory(outside).joinpath("cgroup.procs").write_text(str(init.pid))
    assert group.for_exec(init.pid) == group
    directory(outside).joinpath("cgroup.procs").write_text(str(second.pid))
    inner.rmdir()
    directory(group).rmdir()
    assert group.for_exec(init.pid) == outside


def test_relative_path_is_beside_the_caller(box2: Box) -> None:  # noqa: F811
    caller = box2.make("slice/caller")
    assert box2.layout.unified is not None
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / "src")!r})
from masu.linux.cgroups import Cgroup, Layout, Mount
from masu.linux.cgroups.layout import parse_proc_cgroup
own = parse_proc_cgroup(open('/proc/self/cgroup').read())
group = Cgroup.create("inner/x", "x", layout=Layout("v2", {{}}, Mount({box2.layout.unified.path!r}), own))
print(group.paths()[""])
group.delete(parents=1)
"""
    assert box2.output(caller, script).strip() == str(directory(caller).parent / "inner/x")


def test_no_right_to_it(box2: Box) -> None:  # noqa: F811
    box2.make()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setuid(65534)
            try:
                box2.make("box/inner")
            except KernelError as e:
                if e.errno == errno.EACCES and "is not delegated to uid 65534" in e.hint:
                    status = 0
            # Without a path that was asked for, and without limits, a rootless container does without.
            layout = Layout("v2", {}, Mount(str(box2.layout.unified.path)), box2.layout.own)  # type: ignore[union-attr]
            group = Cgroup.create(None, "masu-nobody", layout=layout, rootless=True)
            status |= group.paths() != {}
            group.apply(None)
            try:
                Cgroup.create(None, "x", layout=layout, rootless=True, resources=resources(pids={"limit": 5}))
                status |= 1
            except KernelError as e:
                status |= "rootless needs no limits + no cgrouppath" not in str(e)
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
