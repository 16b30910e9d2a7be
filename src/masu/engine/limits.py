"""What a container may use of the machine: resources of its cgroup, rlimits, devices.

The part of `masu.engine.compose` that is about numbers; pure like it.
"""

from __future__ import annotations

from masu.engine.request import ContainerRequest
from masu.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Json = dict[str, object]

LEAST_MEMORY_BYTES = 6 << 20
_UNLIMITED = (1 << 64) - 1


class DeviceNode:
    """A device node of the host, and where it goes in the container."""

    __slots__ = ("gid", "kind", "major", "minor", "mode", "path", "permissions", "uid")

    def __init__(
        self, path: str, kind: str, major: int, minor: int, *, mode: int = 0o666, uid: int = 0, gid: int = 0,
        permissions: str = "rwm",
    ) -> None:  # fmt: skip
        self.path = path
        self.kind = kind
        self.major = major
        self.minor = minor
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.permissions = permissions


class Facts:
    """What compose is told about the machine and this process.

    `capabilities` are the names that may be given on (the bounding set); `hard_limits` maps "nofile" to this process's
    hard limit where it cannot be raised, and is empty where it can; `oom_score_adj` is this process's own value where
    it cannot be lowered, None where it can. `throttled_cpus` counts the CPUs that have thermal_throttle in sysfs.
    """

    __slots__ = ("capabilities", "cgroup_mode", "cpus", "hard_limits", "hostname", "oom_score_adj", "throttled_cpus")

    def __init__(
        self,
        *,
        capabilities: tuple[str, ...],
        cgroup_mode: str = "v2",
        cpus: int = 1,
        hard_limits: Mapping[str, int] | None = None,
        hostname: str = "localhost",
        oom_score_adj: int | None = None,
        throttled_cpus: int = 0,
    ) -> None:
        self.capabilities = capabilities
        self.cgroup_mode = cgroup_mode
        self.cpus = cpus
        self.hard_limits = hard_limits or {}
        self.hostname = hostname
        self.oom_score_adj = oom_score_adj
        self.throttled_cpus = throttled_cpus


def rlimits(request: ContainerRequest, facts: Facts, warnings: list[str]) -> list[Json]:
    """`process.rlimits`; of two for the same resource the later one counts."""
    named = {item.name: item for item in request.ulimits}
    return [_rlimit(item.name, item.soft, item.hard, facts, warnings) for item in named.values()]


def _rlimit(name: str, soft: int, hard: int, facts: Facts, warnings: list[str]) -> Json:
    values = [_UNLIMITED if value == -1 else value for value in (soft, hard)]
    ceiling = facts.hard_limits.get(name, _UNLIMITED)
    if values[1] > ceiling:
        shown = "unlimited" if hard == -1 else str(hard)
        warnings.append(
            f"--ulimit {name}: a hard limit of {shown} needs CAP_SYS_RESOURCE, which this process lacks; "
            f"its own limit {ceiling} is used"
        )
        values = [min(value, ceiling) for value in values]
    return {"type": f"RLIMIT_{name.upper()}", "soft": values[0], "hard": values[1]}


def device(node: DeviceNode) -> Json:
    return {
        "path": node.path,
        "type": node.kind,
        "major": node.major,
        "minor": node.minor,
        "fileMode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
    }


def resources(request: ContainerRequest, facts: Facts, devices: Sequence[DeviceNode], warnings: list[str]) -> Json:
    rules: list[Json] = [{"allow": request.privileged, "access": "rwm"}]
    if not request.privileged:
        rules += [
            {"allow": True, "type": n.kind, "major": n.major, "minor": n.minor, "access": n.permissions}
            for n in devices
        ]
    out: Json = {"devices": rules}
    memory = _memory(request)
    if memory:
        out["memory"] = memory
    cpu = _cpu(request, facts)
    if cpu:
        out["cpu"] = cpu
    if request.pids_limit > 0:
        out["pids"] = {"limit": request.pids_limit}
    if request.blkio_weight:
        if not 10 <= request.blkio_weight <= 1000:
            raise InvalidArgument(
                "block IO weight", request.blkio_weight, where="--blkio-weight", detail="range is 10 to 1000"
            )
        out["blockIO"] = {"weight": request.blkio_weight}
    if facts.cgroup_mode == "none" and len(out) > 1:
        warnings.append("this machine has no cgroups that could be used: the limits are not enforced")
    return out


def _memory(request: ContainerRequest) -> Json:
    limit, swap, reservation = request.memory_bytes, request.memory_swap_bytes, request.memory_reservation_bytes
    out: Json = {}
    if limit:
        if limit < LEAST_MEMORY_BYTES:
            raise InvalidArgument("memory limit", limit, where="--memory", detail="the least allowed is 6MB")
        out["limit"] = limit
        # Docker's: without a word about it, as much swap as memory
        out["swap"] = swap or limit * 2
    if swap and not limit:
        raise InvalidArgument("memory-swap limit", swap, where="--memory-swap", detail="it needs --memory as well")
    if swap > 0 and swap < limit:
        raise InvalidArgument(
            "memory-swap limit", swap, where="--memory-swap",
            detail="it counts memory and swap together, so it cannot be less than --memory",
        )  # fmt: skip
    if reservation:
        if limit and reservation > limit:
            raise InvalidArgument(
                "memory reservation",
                reservation,
                where="--memory-reservation",
                detail="it cannot be more than --memory",
            )
        out["reservation"] = reservation
    if request.oom_kill_disable:
        out["disableOOMKiller"] = True
    return out


def _cpu(request: ContainerRequest, facts: Facts) -> Json:
    out: Json = {}
    if request.cpus_nano:
        if request.cpu_period or request.cpu_quota:
            raise InvalidArgument("--cpus", where="--cpus", detail="conflicts with --cpu-period and --cpu-quota")
        if request.cpus_nano > facts.cpus * 1_000_000_000:
            raise InvalidArgument(
                "number of processors", f"{request.cpus_nano / 1e9:g}", where="--cpus",
                detail=f"range is from 0.01 to {facts.cpus}.00, as there are only {facts.cpus} available",
            )  # fmt: skip
        out["period"] = 100_000
        out["quota"] = max(request.cpus_nano // 10_000, 1000)
    if request.cpu_period:
        out["period"] = request.cpu_period
    if request.cpu_quota:
        out["quota"] = request.cpu_quota
    if request.cpu_shares:
        out["shares"] = request.cpu_shares
    for name, text, flag in (
        ("cpus", request.cpuset_cpus, "--cpuset-cpus"),
        ("mems", request.cpuset_mems, "--cpuset-mems"),
    ):
        if text:
            out[name] = text
            highest = max(int(number) for part in text.split(",") for number in part.split("-"))
            if name == "cpus" and highest >= facts.cpus:
                raise InvalidArgument(
                    "CPU list", text, where=flag, detail=f"there are only the processors 0-{facts.cpus - 1}"
                )
    return out
