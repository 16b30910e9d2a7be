"""What the numbers of `linux.resources` must look like, for v1 and v2 alike, and how they convert."""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.linux.cgroups.files import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.spec.runtime import LinuxRdma

SHARES_MIN, SHARES_MAX = 2, 262144  # kernel/sched/sched.h, MIN_SHARES and MAX_SHARES
UINT64_MINUS_1 = (1 << 64) - 1  # -1 as a Go uint64, which is how it comes from some callers


def shares(value: int, where: str) -> None:
    """Raises InvalidArgument in runc's words for CPU shares that the kernel would quietly change."""
    if value < SHARES_MIN:
        raise InvalidArgument(
            "cpu shares", str(value), where=where, detail=f"the minimum allowed cpu-shares is {SHARES_MIN}"
        )
    if value > SHARES_MAX:
        raise InvalidArgument(
            "cpu shares", str(value), where=where, detail=f"the maximum allowed cpu-shares is {SHARES_MAX}"
        )


def shares_to_weight(value: int) -> int:
    """CPU shares (2..262144, default 1024) as a cpu.weight (1..10000, default 100).

    The curve meets minimum, default and maximum: runc 1.3.2 and crun 1.23 changed to it together, since the
    straight line before gave a default container 39 where its neighbours have 100.
    """
    if value <= SHARES_MIN:
        return 1
    if value >= SHARES_MAX:
        return 10000
    import math  # compiled in; only v2 comes here

    log = math.log2(value)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def weight_to_io_weight(value: int) -> int:
    """A block I/O weight (10..1000) as an io.weight (1..10000), as runc and crun convert."""
    return 1 + (value - 10) * 9999 // 990


def weight(value: int, where: str) -> None:
    if not 10 <= value <= 1000:
        raise InvalidArgument("block I/O weight", str(value), where=where, detail="allowed: 10..1000")


def pids_max(limit: int) -> str:
    """pids.max for `pids.limit`: negative is no limit, and 0 means 1 (what systemd makes of TasksMax=0; the
    process that is started counts itself)."""
    return "max" if limit < 0 else str(limit or 1)


def swappiness(value: int | None, where: str) -> int | None:
    if value is None or value in (-1, UINT64_MINUS_1):
        return None
    if not 0 <= value <= 100:
        raise InvalidArgument(
            "memory swappiness",
            str(value),
            where=f"{where}.swappiness",
            detail=f"invalid memory swappiness value: {value} (valid range is 0-100)",
        )
    return value


def memory_and_swap(limit: int, swap: int, where: str) -> None:
    """`swap` is memory plus swap. Raises InvalidArgument where the two contradict each other; 0 is unset, -1 none."""
    if limit < -1:
        raise InvalidArgument(
            "memory limit", str(limit), where=f"{where}.limit", detail="allowed: -1 (none), 1 or more"
        )
    if swap < -1:
        raise InvalidArgument(
            "memory+swap limit", str(swap), where=f"{where}.swap", detail="allowed: -1 (none), 1 or more"
        )
    if 0 < swap < limit:
        raise InvalidArgument(
            "memory+swap limit",
            str(swap),
            where=f"{where}.swap",
            detail=f"memory+swap limit should be >= memory limit ({limit})",
            hint="swap counts memory and swap together; -1 leaves it without limit",
        )


def swap_max(limit: int, swap: int, where: str) -> str:
    """memory.swap.max on v2, where swap is counted alone: "" for leave as it is."""
    if limit == -1 and swap == 0:
        return "max"
    if swap == 0:
        return ""
    if swap == -1:
        return "max"
    if limit == -1:
        return str(swap)
    if limit == 0:
        raise InvalidArgument(
            "memory+swap limit",
            str(swap),
            where=f"{where}.swap",
            detail="unable to set swap limit without memory limit",
            hint=f"give {where}.limit too: swap counts memory and swap together, cgroup v2 needs the difference",
        )
    return str(swap - limit)


def page_size(size: str, where: str) -> str:
    """A huge page size as it stands in file names (64KB, 2MB, 1GB)."""
    digits = size[:-2]
    if size[-2:] not in ("KB", "MB", "GB") or not digits.isdecimal() or not digits.isascii():
        raise InvalidArgument(
            "huge page size", size, where=where, detail="allowed: a number and KB, MB or GB, like 2MB"
        )
    return size


def word(text: str, what: str, where: str) -> str:
    """One word that goes into a line written to the kernel. Raises InvalidArgument for blanks and the empty."""
    if not text or not text.isprintable() or " " in text:
        raise InvalidArgument(what, text, where=where, detail="must be one word")
    return text


def rdma(out: list[Setting], limits: Mapping[str, LinuxRdma], where: str) -> None:
    """rdma.max is the same file on v1 and v2: `mlx4_0 hca_handle=2 hca_object=2000`."""
    for device, limit in limits.items():
        value = word(device, "rdma device", where)
        if limit.hca_handles is not None:
            value += f" hca_handle={limit.hca_handles}"
        if limit.hca_objects is not None:
            value += f" hca_object={limit.hca_objects}"
        out.append(Setting("rdma", "rdma.max", value, f"{where}.{device}"))
