"""masu-oci update"""

from __future__ import annotations

from masu.cli import units
from masu.cli.oci import log_of, root_of
from masu.cli.options import Call, Command, Flag
from masu.errors import FailedPrecondition, InvalidArgument, MasuError
from masu.runtime.container import Container
from masu.runtime.update import read_changes, update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _unsigned(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text[:21]) >= 1 << 64:
        raise ValueError(f"'{text}' is not a number from 0 to 2^64-1")
    return int(text)


def _signed(text: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdecimal()) or not -(1 << 63) <= int(text[:21]) < 1 << 63:
        raise ValueError(f"'{text}' is not a number")
    return int(text)


# Flag -> where its value goes in `linux.resources`, and how it is read.
_PLACES: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "blkio-weight": ("blockIO", "weight", _unsigned),
    "cpu-burst": ("cpu", "burst", _unsigned),
    "cpu-idle": ("cpu", "idle", _signed),
    "cpu-period": ("cpu", "period", _unsigned),
    "cpu-quota": ("cpu", "quota", _signed),
    "cpu-rt-period": ("cpu", "realtimePeriod", _unsigned),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", _signed),
    "cpu-share": ("cpu", "shares", _unsigned),
    "cpuset-cpus": ("cpu", "cpus", str),
    "cpuset-mems": ("cpu", "mems", str),
    "memory": ("memory", "limit", units.swap),
    "memory-reservation": ("memory", "reservation", units.swap),
    "memory-swap": ("memory", "swap", units.swap),
    "pids-limit": ("pids", "limit", _signed),
}
_FLAGS_OF = {f"resources.{section}.{key}": f"--{flag}" for flag, (section, key, _) in _PLACES.items()}
# The same in `linux.intelRdt`.
_SHARES = {"--l3-cache-schema": "l3CacheSchema", "--mem-bw-schema": "memBwSchema"}
_FLAGS_OF |= {f"linux.intelRdt.{key}": flag for flag, key in _SHARES.items()}


def run(call: Call) -> int:
    log, options = log_of(call), call.options
    container = Container.open(root_of(call), call.args[0])
    shares = shares_of(call)
    file = options.text("resources")
    changes = read_changes(file) if file else changes_of(call)
    if not file and (options.text("kernel-memory") or options.text("kernel-memory-tcp")):
        log.warning("Kernel memory settings are ignored and will be removed")
    try:
        warnings = update(container, changes, rdt=shares)
    except MasuError as error:
        if not file or error.where.startswith("linux.intelRdt."):
            error.where = _FLAGS_OF.get(error.where, error.where)
        if error.where == "linux.intelRdt":
            error.where = " and ".join(flag for flag in _SHARES if options.text(flag[2:]))
        raise
    for warning in warnings:
        log.warning(warning)
    return 0


def changes_of(call: Call) -> dict[str, object]:
    """What the flags say, as a `linux.resources` object. Raises InvalidArgument."""
    sections: dict[str, dict[str, object]] = {}
    for flag, (section, key, convert) in _PLACES.items():
        text = call.options.text(flag)
        if not text:
            continue
        try:
            sections.setdefault(section, {})[key] = convert(text)
        except ValueError as error:
            raise InvalidArgument(f"invalid value for {flag}", where=f"--{flag}", detail=str(error)) from None
    return dict(sections)


def shares_of(call: Call) -> dict[str, str]:
    """What the flags say, as a `linux.intelRdt` object. Raises FailedPrecondition in runc's words where the machine
    shares out no such thing."""
    l3, bandwidth = call.options.text("l3-cache-schema"), call.options.text("mem-bw-schema")
    if not l3 and not bandwidth:
        return {}
    from masu.linux import resctrl  # rarely asked for

    try:
        root = resctrl.find_root()
    except FailedPrecondition as error:
        root, hint = "", error.hint
    else:
        hint = f"see {root}/info for what this machine has"
    if l3 and not (root and resctrl.has_l3(root)):
        raise FailedPrecondition("Intel RDT/CAT: l3 cache schema is not enabled", where="--l3-cache-schema", hint=hint)
    if bandwidth and not (root and resctrl.has_memory_bandwidth(root)):
        raise FailedPrecondition(
            "Intel RDT/MBA: memory bandwidth schema is not enabled", where="--mem-bw-schema", hint=hint
        )
    return {key: text for flag, key in _SHARES.items() if (text := call.options.text(flag[2:]))}


COMMAND = Command(
    "update",
    "[command options] <container-id>",
    "update container resource constraints",
    description=(
        "The object that --resources takes is linux.resources of config.json; what it leaves out stays as it is.\n"
        "Device rules are never changed. With --resources all other options but the schemas are ignored."
    ),
    flags=(
        Flag("resources", "r", value="value", help="read what to change from a JSON file, '-' for standard input"),
        Flag("blkio-weight", value="value", help="weight among the cgroups that share a disk, from 10 to 1000"),
        Flag("cpu-period", value="value", help="CPU CFS period in microseconds, 0 for the system's default"),
        Flag("cpu-quota", value="value", help="CPU time in a period, in microseconds, -1 for no limit"),
        Flag("cpu-burst", value="value", help="unused quota that may be kept for later, in microseconds"),
        Flag("cpu-share", value="value", help="CPU shares (weight beside other containers)"),
        Flag("cpu-rt-period", value="value", help="CPU realtime period in microseconds"),
        Flag("cpu-rt-runtime", value="value", help="realtime CPU time in a realtime period, in microseconds"),
        Flag("cpuset-cpus", value="value", help="CPUs to use (0-3,7)"),
        Flag("cpuset-mems", value="value", help="memory nodes to use (0-1)"),
        Flag("kernel-memory", value="value", hidden=True, help="(obsolete)"),
        Flag("kernel-memory-tcp", value="value", hidden=True, help="(obsolete)"),
        Flag("memory", value="value", help="memory limit in bytes (512m, 1g), -1 for no limit"),
        Flag("cpu-idle", value="value", help="0: as usual, 1: run only when nothing else wants the CPU (SCHED_IDLE)"),
        Flag("memory-reservation", value="value", help="memory that is spared as long as possible, in bytes"),
        Flag("memory-swap", value="value", help="limit of memory and swap together, -1 for no limit"),
        Flag("pids-limit", value="value", help="most processes at once, -1 for no limit"),
        Flag("l3-cache-schema", value="value", help="Intel RDT/CAT L3 cache schema"),
        Flag("mem-bw-schema", value="value", help="Intel RDT/MBA memory bandwidth schema"),
    ),
    arity=(1, 1),
    run=run,
)
