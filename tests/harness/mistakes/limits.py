"""Limits: cgroups, rlimits, sysctls, oom_score_adj."""

from __future__ import annotations

import os
from pathlib import Path

from harness.mistakes import Change, Done, Mistake, Scene, Way, both, of, put, run, without_namespace
from harness.programs import peer


def _resources(**fields: object) -> Change:
    return put("linux.resources", fields)


def _not_v1() -> str:
    return "" if os.path.ismount("/sys/fs/cgroup/memory") else "the words are those of cgroup v1"


def _no_net_cls() -> str:
    return "net_cls is mounted" if os.path.ismount("/sys/fs/cgroup/net_cls") else _not_v1()


def _systemd() -> str:
    return "systemd is PID 1" if os.path.isdir("/run/systemd/system") else ""


def _cgroup_in_use(scene: Scene) -> Done:
    """Two containers in the cgroup of one path."""
    shared = put("linux.cgroupsPath", "/" + scene.runtime.id())
    scene.container("running", shared)
    return scene.born("create", change=shared)


def _frozen_cgroup(scene: Scene) -> Done:
    """Somebody's freezer that was forgotten."""
    id = scene.runtime.id()
    freezer = Path("/sys/fs/cgroup/freezer", id)
    freezer.mkdir()
    scene.undo.callback(freezer.rmdir)
    (freezer / "freezer.state").write_text("FROZEN")
    try:
        return scene.born("create", change=put("linux.cgroupsPath", "/" + id))
    finally:
        (freezer / "freezer.state").write_text("THAWED")


def _below_usage(scene: Scene) -> Done:
    return scene("update", "--memory", "4096", scene.container("running"))


def _full(scene: Scene) -> Done:
    """exec where the pids controller leaves no room for one more."""
    id = scene.container("running", _resources(pids={"limit": 1}))
    return scene("exec", id, "/bin/probe", "exit", "0")


def _full_parent(scene: Scene) -> Done:
    """Below a cgroup like that of a pod, which has as many processes as it may."""
    id = scene.runtime.id()
    parent = Path("/sys/fs/cgroup/pids", id)
    parent.mkdir()
    scene.undo.callback(parent.rmdir)
    (parent / "pids.max").write_text("1")
    done = scene.born("create", change=put("linux.cgroupsPath", f"/{id}/inner"))
    for each in Path("/sys/fs/cgroup").glob(f"*/{id}"):
        if each != parent:
            each.rmdir()
    return done


def _resctrl() -> str:
    return "this machine has it" if b"\tresctrl\n" in Path("/proc/filesystems").read_bytes() else ""


def _rlimit(type: str, soft: int, hard: int) -> Change:
    return put("process.rlimits", [{"type": type, "soft": soft, "hard": hard}])


def _powerless(change: Change) -> Way:
    def make(scene: Scene) -> Done:
        scene.without("sys_resource")
        return scene.born("run", change=change)

    return make


def _cgroups(script: str) -> Way:
    """In a mount namespace of its own, in which the shell's `script` has changed /sys/fs/cgroup."""

    def make(scene: Scene) -> Done:
        words = [peer("unshare"), "--mount", "sh", "-ec", script + '; exec "$@"', "sh"]
        scene.runtime.command[:0] = words
        try:
            return scene.born("run")
        finally:
            del scene.runtime.command[: len(words)]

    return make


def _sysctl(**settings: str) -> Change:
    return put("linux.sysctl", {name.replace("__", "."): value for name, value in settings.items()})


MISTAKES = (
    Mistake(
        "cgroups that are mounted read-only",
        _cgroups("for each in /sys/fs/cgroup/*; do mount -o remount,bind,ro $each; done"),
        "linux.cgroupsPath",
        "mkdir",
        "EROFS: Read-only file system",
        "mounted read-only",
        why_not=_not_v1,
    ),
    Mistake(
        "cgroups that are not mounted",
        _cgroups("mount -t tmpfs none /sys/fs/cgroup"),
        "linux.cgroupsPath",
        "mount",
        why_not=_not_v1,
    ),
    Mistake(
        "a controller that is not there",
        run(_resources(network={"classID": 1048577})),
        "linux.resources.network.classID",
        "net_cls",
        "controller",
        why_not=_no_net_cls,
    ),
    Mistake(
        "a cgroup in which another container lives",
        _cgroup_in_use,
        "linux.cgroupsPath",
        "container's cgroup is not empty: 1 process(es) found",
        "choose another linux.cgroupsPath",
        why_not=_not_v1,
    ),
    Mistake(
        "a cgroup that is frozen",
        _frozen_cgroup,
        "linux.cgroupsPath",
        "container's cgroup unexpectedly frozen",
        "thaw",
        why_not=_not_v1,
    ),
    Mistake(
        "a cgroup path that leads out",
        run(put("linux.cgroupsPath", "/a/../../b")),
        "linux.cgroupsPath",
    ),
    Mistake(
        "systemd's cgroups where systemd is not PID 1",
        lambda scene: scene.born("create", before=("--systemd-cgroup",)),
        "--systemd-cgroup",
        "systemd",
        why_not=_systemd,
    ),
    Mistake(
        "a memory limit below what is in use",
        _below_usage,
        "--memory",
        "write",
        "memory.limit_in_bytes",
        "EBUSY: Device or resource busy",
        "unable to set memory limit to 4096 (current usage: N, peak usage: N)",
        "ask for more",
        why_not=_not_v1,
    ),
    Mistake(
        "a memory limit that is too small to start with",
        run(_resources(memory={"limit": 4096})),
        "linux.resources.memory.limit",
        "container init was OOM-killed (memory limit too low?)",
        "4096",
        "more",
        why_not=_not_v1,
    ),
    Mistake(
        "memory with swap below memory",
        run(_resources(memory={"limit": 64 << 20, "swap": 32 << 20})),
        "linux.resources.memory.swap",
        "33554432",
        "67108864",
    ),
    Mistake(
        "processors that the machine does not have",
        run(_resources(cpu={"cpus": "0-4095"})),
        "linux.resources.cpu.cpus",
        "write",
        "cpuset.cpus",
        "0-4095",
        "the parent cgroup offers CPUs",
        why_not=_not_v1,
    ),
    Mistake(
        "a list of processors that is none",
        run(_resources(cpu={"cpus": "0..3"})),
        "linux.resources.cpu.cpus",
        "0..3",
        "0-3,7",
    ),
    Mistake(
        "a quota below the kernel's least",
        run(_resources(cpu={"quota": 10, "period": 100000})),
        "linux.resources.cpu.quota",
        "write",
        "cpu.cfs_quota_us",
        "EINVAL: Invalid argument",
        "at least 1000 us",
        why_not=_not_v1,
    ),
    Mistake(
        "a block device that is not there",
        run(_resources(blockIO={"throttleReadBpsDevice": [{"major": 250, "minor": 99, "rate": 1000}]})),
        "linux.resources.blockIO.throttleReadBpsDevice[0]",
        "write",
        "ENODEV",
        "there is no block device 250:99",
        why_not=_not_v1,
    ),
    Mistake("exec where there is no room for one more process", _full, status=0, why_not=_not_v1),
    Mistake(
        "a cgroup whose parent has no room for one more process",
        _full_parent,
        "linux.cgroupsPath",
        "clone3",
        "EAGAIN: Resource temporarily unavailable",
        "may have 1",
        "pids.max",
        why_not=_not_v1,
    ),
    Mistake(
        "exec into a cgroup that is not there",
        of("running", "exec", "--cgroup", "workers", "ID", "/bin/probe", "exit", "0"),
        "--cgroup",
        "workers",
        "ENOENT",
        status=255,
        why_not=_not_v1,
    ),
    Mistake(
        "a share of the cache on a machine that does not share it out",
        run(put("linux.intelRdt", {"l3CacheSchema": "L3:0=f"})),
        "linux.intelRdt",
        "Intel RDT is not enabled",
        "this processor",
        why_not=_resctrl,
    ),
    Mistake(
        "an update of such a share",
        of("running", "update", "--l3-cache-schema", "L3:0=f", "ID"),
        "--l3-cache-schema",
        "Intel RDT/CAT: l3 cache schema is not enabled",
        why_not=_resctrl,
    ),
    Mistake(
        "a hard limit above the caller's own",
        _powerless(_rlimit("RLIMIT_MEMLOCK", 1 << 40, 1 << 40)),
        "process.rlimits[0]",
        "setrlimit",
        "RLIMIT_MEMLOCK",
        "EPERM: Operation not permitted",
        "needs CAP_SYS_RESOURCE",
    ),
    Mistake(
        "more open files than the kernel gives",
        run(_rlimit("RLIMIT_NOFILE", 1 << 40, 1 << 40)),
        "process.rlimits[0]",
        "setrlimit",
        "RLIMIT_NOFILE",
        "EPERM: Operation not permitted",
        "fs.nr_open",
    ),
    Mistake(
        "a soft limit above the hard one",
        run(_rlimit("RLIMIT_CORE", 10, 5)),
        "process.rlimits[0].soft",
        "soft limit 10",
        "above the hard limit 5",
    ),
    Mistake(
        "an rlimit that does not exist",
        run(_rlimit("RLIMIT_NOFILES", 10, 10)),
        "process.rlimits[0].type",
        "RLIMIT_NOFILES",
        'did you mean "RLIMIT_NOFILE"?',
    ),
    Mistake(
        "oom_score_adj out of range",
        run(put("process.oomScoreAdj", 2000)),
        "process.oomScoreAdj",
        "2000",
        "-1000 to 1000",
    ),
    Mistake(
        "oom_score_adj lower than the caller's own",
        _powerless(put("process.oomScoreAdj", -500)),
        "process.oomScoreAdj",
        "write",
        "/proc/self/oom_score_adj",
        "EACCES: Permission denied",
        "CAP_SYS_RESOURCE",
    ),
    Mistake(
        "a sysctl of the whole machine",
        run(_sysctl(kernel__panic="1")),
        "linux.sysctl",
        "kernel.panic",
        "is not in a separate kernel namespace",
        "on the host",
    ),
    Mistake(
        "a sysctl whose namespace is the host's",
        run(both(without_namespace("network"), _sysctl(net__ipv4__ip_forward="1"))),
        "linux.sysctl",
        "net.ipv4.ip_forward",
        "not allowed in host network namespace",
        '{"type": "network"}',
    ),
    Mistake(
        "a sysctl that does not exist",
        run(_sysctl(net__ipv4__ip_forwarding="1")),
        'linux.sysctl["net.ipv4.ip_forwarding"]',
        "write /proc/sys/net/ipv4/ip_forwarding",
        "ENOENT: No such file or directory",
        "no such setting",
    ),
    Mistake(
        "a sysctl with a bad value",
        run(_sysctl(net__ipv4__ip_forward="yes")),
        'linux.sysctl["net.ipv4.ip_forward"]',
        "write /proc/sys/net/ipv4/ip_forward",
        "EINVAL: Invalid argument",
        'value "yes"',
        "refuses the value",
    ),
    Mistake(
        "a sysctl that is read-only",
        run(_sysctl(net__ipv4__tcp_available_congestion_control="cubic")),
        'linux.sysctl["net.ipv4.tcp_available_congestion_control"]',
        "write",
        "EACCES",
        "read-only",
    ),
    Mistake(
        "a sysctl that is not a name",
        run(put("linux.sysctl", {"net/../kernel/panic": "1"})),
        "linux.sysctl",
        "not a name of the form",
    ),
)
