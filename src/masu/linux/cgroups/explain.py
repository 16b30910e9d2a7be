"""What the kernel meant when it refused a value: loaded only when it has.

The kernel says EINVAL, EBUSY or ENOENT; the reader needs to know which controller is off, what the usage was, what
the parent has to give. Everything here is read after the failure and may be gone by then: a hint that cannot be made
is left out.
"""

from __future__ import annotations

import errno
import os

from masu.errors import FailedPrecondition, KernelError
from masu.linux.cgroups.files import Directories, Setting, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.errors import MasuError


def refused(setting: Setting, path: str, error: OSError) -> MasuError:
    """The error for a setting that could not be written into the cgroup at `path`."""
    number = error.errno or 0
    detail = f"value {setting.value!r}"
    hint = ""
    controller = setting.file.partition(".")[0]
    if number == errno.ENOENT and not os.path.isdir(path):
        detail, hint = f"{detail}; the cgroup is gone", ""
    elif number == errno.ENOENT or (number in (errno.EACCES, errno.EPERM) and not _exists(path, setting.file)):
        detail, hint = _missing(setting, path, controller, detail)
    elif number in (errno.EACCES, errno.EPERM, errno.EROFS) and controller != "devices":
        hint = _permission_hint(setting, path, controller)
    elif controller == "memory":
        detail, hint = _memory(setting, path, number, detail)
    elif controller == "cpuset":
        hint = _cpuset(setting, path)
    elif controller == "cpu":
        hint = _cpu(setting, path, number)
    elif controller == "devices":
        hint = (
            "the parent cgroup does not allow this device: allow it there, or leave it out"
            if number == errno.EPERM
            else ""
        )
    elif controller in ("blkio", "io") and number in (errno.ENODEV, errno.ENXIO, errno.EINVAL):
        hint = _block_device(setting.value)
    elif controller == "hugetlb" and number == errno.EINVAL:
        hint = "a size in bytes"
    if setting.file == "cgroup.type" or number == errno.EOPNOTSUPP:
        hint = hint or "the cgroup is threaded: memory, io and hugetlb cannot be limited in it"
    return KernelError("write", f"{path}/{setting.file}", number, detail=detail, where=setting.where, hint=hint)


def no_controller(setting: Setting, directories: Directories) -> MasuError:
    """The error for a setting whose controller the container has no cgroup of."""
    name = setting.controller or setting.file.partition(".")[0]
    try:
        with open("/proc/cgroups", encoding="ascii") as lines:
            rows = [line.split() for line in lines if not line.startswith("#")]
        known = {row[0]: (row[1], row[3]) for row in rows if len(row) == 4}
    except OSError:
        known = {}
    have = [each for each in known if directories.path_of(each) is not None]
    if name not in known:
        hint = f"the kernel has no {name} controller"
    elif known[name][1] == "0":
        hint = f"the {name} controller is off on the kernel's command line (cgroup_disable={name}?)"
    elif known[name][0] == "0":
        hint = f"the {name} controller is not mounted: mount -t cgroup -o {name} {name} /sys/fs/cgroup/{name}"
    else:
        hint = f"no right to make a {name} cgroup here; give linux.cgroupsPath below one that is delegated"
    if have:
        hint += f"; there are: {', '.join(sorted(have))}"
    return FailedPrecondition(
        f"{name} cgroup",
        setting.file,
        detail=f"cannot set {name} limit: container could not join or create cgroup (value {setting.value!r})",
        where=setting.where,
        hint=hint,
    )


def device_refused(where: str, path: str, file: str, value: str, error: OSError) -> MasuError:
    return refused(Setting("devices", file, value, where), path, error)


def _missing(setting: Setting, path: str, controller: str, detail: str) -> tuple[str, str]:
    if controller == "hugetlb":
        sizes = _huge_page_sizes(path)
        if sizes:
            return detail, f"this machine's huge pages have {' and '.join(sizes)}"
    unified = os.path.exists(f"{path}/cgroup.controllers")
    if not unified:
        if setting.file.startswith("memory.memsw."):
            return detail, "the kernel counts no swap: boot with swapaccount=1, or leave memory.swap out"
        if controller in ("blkio", "io") and "weight" in setting.file:
            return detail, "no I/O scheduler with weights is in use (bfq, or cfq before Linux 5.0)"
        return detail, f"this kernel's {controller} controller has no such file"
    have = _read(path, "cgroup.controllers").split()
    if controller in have or controller == "cgroup":
        if setting.file.startswith("memory.swap."):
            return detail, "the kernel counts no swap: boot with swapaccount=1, or leave memory.swap out"
        if setting.file in ("io.weight", "io.bfq.weight"):
            return detail, "no I/O scheduler with weights is in use (bfq), and io.cost is not configured"
        return detail, f"this kernel's {controller} controller has no such file"
    # Which ancestor did not pass it on?
    detail += f"; controller {controller!r} not available"
    there = f"there are: {' '.join(have) or 'none'}"
    parent = path
    while True:
        parent = os.path.dirname(parent)
        if not os.path.exists(f"{parent}/cgroup.controllers"):
            return detail, f"the kernel has no {controller} controller here, or cgroup v1 has it; {there}"
        if controller in _read(parent, "cgroup.controllers").split():
            break
    if controller in _read(parent, "cgroup.subtree_control").split():
        return detail, there
    count = len(_read(parent, "cgroup.procs").split())
    if count:
        return detail, (
            f"{parent} cannot pass {controller} on to its children while {count} process(es) live in it itself "
            f"(no internal processes, cgroups(7)); {there}"
        )
    if not os.access(f"{parent}/cgroup.subtree_control", os.W_OK):
        return (
            detail,
            f"{parent} does not pass {controller} on, and its cgroup.subtree_control is not ours to write; {there}",
        )
    return (
        detail,
        f"{parent} does not pass {controller} on: echo +{controller} > {parent}/cgroup.subtree_control; {there}",
    )


def _huge_page_sizes(path: str) -> list[str]:
    """The sizes of which there are files: hugetlb.2MB.max, hugetlb.2MB.limit_in_bytes."""
    try:
        names = os.listdir(path)
    except OSError:
        return []
    return sorted({name.split(".")[1] for name in names if name.startswith("hugetlb.")})


def _permission_hint(setting: Setting, path: str, controller: str) -> str:
    if controller == "cpuset":
        return _cpuset(setting, path)
    try:
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return f"{path} is mounted read-only"
    except OSError:
        return ""
    return f"{path} is not delegated to uid {os.geteuid()}"


def _memory(setting: Setting, path: str, number: int, detail: str) -> tuple[str, str]:
    if number == errno.EBUSY:
        usage = _read(path, "memory.usage_in_bytes").strip()
        peak = _read(path, "memory.max_usage_in_bytes").strip()
        if setting.file == "memory.memsw.limit_in_bytes":
            usage = _read(path, "memory.memsw.usage_in_bytes").strip()
            peak = _read(path, "memory.memsw.max_usage_in_bytes").strip()
        # runc's sentence; callers look for it.
        said = f"unable to set memory limit to {setting.value} (current usage: {usage}, peak usage: {peak})"
        return said, "the container uses more than that; ask for more, or make it free some"
    if number == errno.EINVAL and setting.file in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        limit = _read(path, "memory.limit_in_bytes").strip()
        both = _read(path, "memory.memsw.limit_in_bytes").strip()
        if both:
            return detail, f"memory must stay at or below memory+swap (now {limit} and {both})"
    if number == errno.EINVAL and setting.file == "memory.oom_control":
        return detail, "the OOM killer cannot be disabled where memory is not limited hierarchically"
    return detail, ""


def _cpuset(setting: Setting, path: str) -> str:
    kind = "cpus" if setting.file == "cpuset.cpus" else "mems"
    parent = os.path.dirname(path)
    offered = ""
    for file in (f"cpuset.{kind}.effective", f"cpuset.effective_{kind}", f"cpuset.{kind}"):
        offered = _read(parent, file).strip()
        if offered:
            break
    what = "CPUs" if kind == "cpus" else "memory nodes"
    return f"the parent cgroup offers {what} {offered}" if offered else f"a list like 0-3,7 of {what} that exist"


def _cpu(setting: Setting, path: str, number: int) -> str:
    if number != errno.EINVAL:
        return ""
    if ".cfs_" in setting.file or setting.file == "cpu.max":
        return "a quota is -1 or at least 1000 us, a period 1000..1000000 us, and no ancestor may have less"
    if setting.file in ("cpu.cfs_burst_us", "cpu.max.burst"):
        return "a burst needs a quota and is at most as large"
    if ".rt_" in setting.file:
        parent = _read(os.path.dirname(path), "cpu.rt_runtime_us").strip()
        if parent == "0":
            return "the parent cgroup has no realtime to give (its cpu.rt_runtime_us is 0)"
        return "the parent cgroup has less realtime to give, or its other children have it"
    if setting.file in ("cpu.shares", "cpu.weight"):
        return "weights cannot be set while cpu.idle is 1"
    return ""


def _block_device(value: str) -> str:
    number = value.split(" ", 1)[0]
    if ":" in number and not os.path.exists(f"/sys/dev/block/{number}"):
        return f"there is no block device {number} (/sys/dev/block)"
    if os.path.exists(f"/sys/dev/block/{number}/partition"):
        return f"{number} is a partition: name the whole disk"
    return ""


def _exists(path: str, file: str) -> bool:
    return os.path.lexists(f"{path}/{file}")


def _read(path: str, file: str) -> str:
    try:
        return read(None, f"{path}/{file}")
    except (OSError, UnicodeError):
        return ""
