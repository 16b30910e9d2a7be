"""What compose is told about this machine and process (`limits.Facts`), and the host's device nodes."""

from __future__ import annotations

import os
import stat

from masu.engine.limits import DeviceNode, Facts
from masu.errors import InvalidArgument, PermissionDenied
from masu.linux import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.engine.request import DeviceRequest, Ulimit

_CAP_SYS_ADMIN = 21
_CAP_SYS_RESOURCE = 24
# moby pkg/devices and runc do not hand these out: they are the container's own or point elsewhere
_SKIPPED_DEVICES = ("pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev")
_MAX_DEVICES = 4096


def require_power(to_do: str) -> None:
    """Raises PermissionDenied where this process cannot mount: said before anything is downloaded or made."""
    from masu.linux import capabilities

    if not capabilities.current().effective >> _CAP_SYS_ADMIN & 1:
        raise PermissionDenied(
            to_do,
            detail="it needs root (CAP_SYS_ADMIN)",
            hint="sudo masu …; containers of ordinary users are not here yet",
        )


def gather(ulimits: Sequence[Ulimit] = ()) -> Facts:
    """Looks at the process and the machine."""
    from masu.linux import capabilities, cgroups

    sets = capabilities.current()
    can_raise = bool(sets.effective >> _CAP_SYS_RESOURCE & 1)
    return Facts(
        capabilities=tuple(capabilities.names(sets.bounding)),
        cgroup_mode=cgroups.detect().mode,
        cpus=len(os.sched_getaffinity(0)),
        hard_limits={} if can_raise else {item.name: _hard_limit(item.name) for item in ulimits},
        hostname=os.uname().nodename,
        oom_score_adj=None if can_raise else _oom_score_adj(),
        throttled_cpus=_throttled_cpus(),
    )


def _hard_limit(name: str) -> int:
    from masu.linux import rlimits

    return rlimits.current(f"RLIMIT_{name.upper()}")[1]


def _oom_score_adj() -> int:
    with open(spawn.caller_proc() + "/oom_score_adj", "rb") as file:
        return int(file.read(32))


def _throttled_cpus() -> int:
    # Intel's thermal interrupts counts tell what neighbours do (GHSA-6fw5-f8r9-fgfm)
    if not os.path.exists("/sys/devices/system/cpu/cpu0/thermal_throttle"):
        return 0
    return os.cpu_count() or 0


def devices(requests: Sequence[DeviceRequest], *, every: bool) -> list[DeviceNode]:
    """The nodes behind `--device`s (a directory stands for all below it); with `every` those of the whole host."""
    found: dict[str, DeviceNode] = {}
    if every:
        for node in _walk("/dev", "/dev", "rwm"):
            found[node.path] = node
    for request in requests:
        try:
            status = os.stat(request.source)
        except OSError as error:
            raise InvalidArgument("device", request.source, error.errno or 0, where="--device") from error
        if stat.S_ISDIR(status.st_mode):
            for node in _walk(request.source, request.target, request.permissions):
                found[node.path] = node
            continue
        single = _node(status, request.target, request.permissions)
        if single is None:
            raise InvalidArgument("device", request.source, where="--device", detail="not a device node")
        found[request.target] = single
    return list(found.values())


def _node(status: os.stat_result, path: str, permissions: str) -> DeviceNode | None:
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    return DeviceNode(
        path,
        kind,
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        permissions=permissions,
    )


def _walk(source: str, target: str, permissions: str) -> list[DeviceNode]:
    out: list[DeviceNode] = []
    todo = [(source, target)]
    while todo and len(out) < _MAX_DEVICES:
        directory, shown = todo.pop()
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name in _SKIPPED_DEVICES or entry.is_symlink():
                continue
            path = f"{shown}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                todo.append((entry.path, path))
                continue
            try:
                node = _node(entry.stat(follow_symlinks=False), path, permissions)
            except FileNotFoundError:
                continue
            if node is not None:
                out.append(node)
    return out
