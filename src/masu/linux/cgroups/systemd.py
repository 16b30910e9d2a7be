"""The systemd driver: a container's cgroup is a unit of systemd's, which makes the directory and knows the limits.

systemd writes the files of a cgroup again when it likes (daemon-reload, a change of a neighbour): limits that it has
not been told of get lost then. So each limit is a property of the unit first, and is written to its file after that,
since systemd does not know all of them and rounds some. Which is which is the tables below; they start from the
settings that v1.py and v2.py make of a config, so `unified` is covered, too.

    linux.cgroupsPath "slice:prefix:name"  ->  <prefix>-<name>.scope in <slice>; a name that ends in .slice is a slice

systemd.resource-control(5), org.freedesktop.systemd1(5), runc's docs/systemd.md.
"""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.linux.cgroups import values
from masu.linux.dbus_values import Variant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from masu.linux.cgroups.devices import Table
    from masu.linux.cgroups.files import Setting
    from masu.spec.resources import LinuxResources

    Property = tuple[str, Variant]

INFINITY = (1 << 64) - 1
UNIT_NAME_MAX = 255
_SLICE = ".slice"
# What a unit's name may hold (UNIT_VALID_CHARS in systemd's unit-name.h), "@" apart, which makes a template of it.
_UNIT_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-_.\\")
# The first systemd that knows a property; what an older one does not know is only written to the file.
SINCE = {"CPUQuotaPeriodUSec": 242, "AllowedCPUs": 244, "AllowedMemoryNodes": 244}
SINCE_IDLE = 252  # CPUWeight=0, "idle"
SINCE_OOM_POLICY = 253  # of scopes
ANNOTATION = "org.systemd.property."
# Properties that annotations cannot have: those that reach beyond the container's own unit. Annotations may have come
# from who runs a pod, not from who runs the machine (CVE-2024-3154).
_BEYOND = frozenset(
    """
    PIDs PIDFDs Slice Delegate DelegateControllers DelegateSubgroup Controller SuccessAction FailureAction
    JobTimeoutAction StartLimitAction RebootArgument JobTimeoutRebootArgument OnSuccess OnFailure OnFailureJobMode
    OnSuccessJobMode Wants Requires Requisite Upholds Conflicts JoinsNamespaceOf PropagatesStopTo PropagatesReloadTo
    ReloadPropagatedTo WantedBy RequiredBy UpheldBy BoundBy
    """.split()  # noqa: SIM905
)


class Unit:
    """A container's unit. `user`: of the user's own manager, not of the machine's."""

    __slots__ = ("name", "slice", "user")

    def __init__(self, name: str, slice: str, *, user: bool) -> None:
        self.name = name
        self.slice = slice
        self.user = user

    @property
    def is_slice(self) -> bool:
        return self.name.endswith(_SLICE)

    def path(self) -> str:
        """Its cgroup, below that of its manager: /a.slice/a-b.slice/runc-x.scope."""
        if self.is_slice:
            return expand_slice(self.name)
        parent = expand_slice(self.slice)
        return f"{parent}/{self.name}" if parent != "/" else f"/{self.name}"


def unit_of(cgroups_path: str | None, id: str, *, user: bool, where: str = "linux.cgroupsPath") -> Unit:
    """The unit that a `linux.cgroupsPath` names; none means `:runc:<id>`. Raises InvalidArgument."""
    parts = (cgroups_path or f":runc:{id}").split(":")
    if len(parts) != 3:
        raise InvalidArgument(
            "cgroupsPath", cgroups_path, where=where,
            detail='expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups',
            hint="for example system.slice:runc:" + id,
        )  # fmt: skip
    slice, prefix, name = parts
    if not name:
        raise InvalidArgument("cgroupsPath", cgroups_path, where=where, detail="the third part, the name, is empty")
    if name.endswith(_SLICE):
        _check_name(name, where)
        parent = _parent(name, where)
        if slice and slice != parent:
            raise InvalidArgument(
                "cgroupsPath", cgroups_path, where=where, detail=f"{name} lies in {parent} by its name, not in {slice}"
            )
        return Unit(name, parent, user=user)
    slice = slice or ("user.slice" if user else "system.slice")
    expand_slice(slice, where)
    unit = Unit(f"{prefix}-{name}.scope", slice, user=user)
    _check_name(unit.name, where)
    return unit


def _check_name(name: str, where: str) -> None:
    wrong = sorted(set(name) - _UNIT_CHARACTERS)
    if wrong or len(name) > UNIT_NAME_MAX:
        detail = f"{wrong[0]!r} cannot be in it" if wrong else f"longer than {UNIT_NAME_MAX}"
        raise InvalidArgument(
            "systemd unit name", name, where=where, detail=detail, hint="letters, digits and : - _ . \\ can"
        )


def expand_slice(slice: str, where: str = "linux.cgroupsPath") -> str:
    """/a.slice/a-b.slice for a-b.slice: systemd.slice(5). Raises InvalidArgument in runc's words."""
    stem = slice.removesuffix(_SLICE)
    if stem == "-" and slice.endswith(_SLICE):
        return "/"
    parts = stem.split("-")
    if not slice.endswith(_SLICE) or "" in parts or "/" in slice or not set(slice) <= _UNIT_CHARACTERS:
        raise InvalidArgument(
            "slice", slice, where=where, detail=f"invalid slice name: {slice}", hint="like a.slice; a-b.slice is in it"
        )
    return "".join(f"/{'-'.join(parts[: n + 1])}{_SLICE}" for n in range(len(parts)))


def _parent(slice: str, where: str) -> str:
    if expand_slice(slice, where) == "/":
        raise InvalidArgument("slice", slice, where=where, detail="the root slice is no container's")
    parent, dash, _ = slice.removesuffix(_SLICE).rpartition("-")
    return parent + _SLICE if dash else "-.slice"


# --- properties ---------------------------------------------------------------------------------------------------


def birth(unit: Unit, id: str, pid: int, *, v1: bool) -> list[Property]:
    """What the unit is made with, limits and devices apart. `pid` is in it from the beginning: a scope has processes or
    is not (systemd.scope(5)); a slice has none of its own to start with."""
    properties = [("Description", Variant("s", f"masu-oci container {id}"))]
    if unit.is_slice:
        if unit.slice != "-.slice":
            properties.append(("Wants", Variant("as", [unit.slice])))
    else:
        properties.append(("Slice", Variant("s", unit.slice)))
        properties.append(("Delegate", Variant("b", True)))
        properties.append(("PIDs", Variant("au", [pid])))
    for controller in ("Memory", "CPU", "BlockIO" if v1 else "IO", "Tasks"):
        properties.append((f"{controller}Accounting", Variant("b", True)))
    # Else it would be stopped at shutdown before those who look after it.
    properties.append(("DefaultDependencies", Variant("b", False)))
    # A unit that has failed is not kept: it would be for ever where we are killed before systemd has come to it, which
    # then finds no process to put in.
    properties.append(("CollectMode", Variant("s", "inactive-or-failed")))
    return properties


def annotated(annotations: Mapping[str, str]) -> list[Property]:
    """The properties in annotations `org.systemd.property.NAME`, as runc takes them: GVariant text; NAME is of at least
    three ASCII letters; a NAME in seconds becomes the one in microseconds. Not those that reach beyond the unit, which
    runc takes. Raises InvalidArgument."""
    from masu.linux import gvariant

    properties: list[Property] = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        where = f'annotations["{key}"]'
        name = key.removeprefix(ANNOTATION)
        if len(name) < 3 or not (name.isascii() and name.isalpha()):
            detail = "too short" if len(name) < 3 else "contains non-alphabetic character"
            raise InvalidArgument("systemd property", name, where=where, detail=f"name incorrect: {detail}")
        if name in _BEYOND:
            detail = "it would reach beyond the container's unit"
            raise InvalidArgument("systemd property", name, where=where, detail=detail, hint="leave it out")
        try:
            value = gvariant.parse(text)
        except InvalidArgument as e:
            raise InvalidArgument(
                "systemd property", name, where=where, detail=f"value parse error: {e.detail}",
                hint="GVariant text is wanted, like uint64 5 or 'text'",
            ) from e  # fmt: skip
        stem = name.removesuffix("Sec")
        if stem != name and stem[-1:].islower():
            name, value = f"{stem}USec", _microseconds(value, where)
        properties.append((name, value))
    return properties


def _microseconds(value: Variant, where: str) -> Variant:
    number = value.value
    if value.signature not in ("y", "n", "q", "i", "u", "x", "t", "d") or not isinstance(number, int | float):
        raise InvalidArgument("systemd property", repr(number), where=where, detail="value parse error: not a number")
    if not 0 <= number * 1_000_000 <= INFINITY:
        raise InvalidArgument("systemd property", number, where=where, detail="value out of range")
    return Variant("t", int(number * 1_000_000))


def limits(settings: Iterable[Setting], version: Callable[[], int]) -> list[Property]:
    """The properties for what is going to be written to the files of a cgroup. Files that systemd has no property for,
    and values that it cannot be told, are left out. `version` is asked only where it matters."""
    # Not those of single devices: "8:0 100".
    files = {each.file: each.value.strip() for each in settings if ":" not in each.value.partition(" ")[0]}
    found: dict[str, Variant] = {}
    for file, (name, convert) in _FILES.items():
        if file in files:
            number = convert(files[file])
            if number is not None:
                found[name] = Variant("t", number)
    for file, name in (("cpuset.cpus", "AllowedCPUs"), ("cpuset.mems", "AllowedMemoryNodes")):
        bits = cpu_bits(files.get(file, ""))
        if bits:
            found[name] = Variant("ay", bits)
    _add_quota(found, files)
    if files.get("cpu.idle") == "1" and version() >= SINCE_IDLE:
        found["CPUWeight"] = Variant("t", 0)
    return [(name, value) for name, value in found.items() if name not in SINCE or version() >= SINCE[name]]


def _amount(text: str) -> int | None:
    if text in ("max", "-1"):
        return INFINITY
    return _plain(text)


def _tasks(text: str) -> int | None:
    return 1 if text == "0" else _amount(text)


def _plain(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and int(text) <= INFINITY else None


def _io_weight(text: str) -> int | None:
    number = _plain(text)
    return values.weight_to_io_weight(number) if number is not None else None


# {file: (property, how its value reads)}
_FILES: dict[str, tuple[str, Callable[[str], int | None]]] = {
    # v2
    "memory.max": ("MemoryMax", _amount),
    "memory.high": ("MemoryHigh", _amount),
    "memory.low": ("MemoryLow", _amount),
    "memory.min": ("MemoryMin", _amount),
    "memory.swap.max": ("MemorySwapMax", _amount),
    "pids.max": ("TasksMax", _tasks),
    "cpu.weight": ("CPUWeight", _plain),
    "io.weight": ("IOWeight", lambda text: _plain(text.removeprefix("default "))),
    "io.bfq.weight": ("IOWeight", _io_weight),
    # v1
    "memory.limit_in_bytes": ("MemoryLimit", _amount),
    "cpu.shares": ("CPUShares", _plain),
    "blkio.weight": ("BlockIOWeight", _plain),
}


def _add_quota(found: dict[str, Variant], files: Mapping[str, str]) -> None:
    quota, _, period = files.get("cpu.max", "").partition(" ")
    quota = files.get("cpu.cfs_quota_us", quota)
    length = _plain(files.get("cpu.cfs_period_us", period).strip())
    if length:
        found["CPUQuotaPeriodUSec"] = Variant("t", length)
    if quota in ("max", "-1"):
        found["CPUQuotaPerSecUSec"] = Variant("t", INFINITY)
    elif _plain(quota):
        found["CPUQuotaPerSecUSec"] = Variant("t", _per_second(int(quota), length or _PERIOD_US))


_PERIOD_US = 100_000


def _per_second(quota: int, period: int) -> int:
    """Microseconds in a second, in whole percents: systemd keeps no more (it writes `CPUQuota=n%` at a daemon-reload),
    and a container that relies on its quota must not get less."""
    return -(-(quota * 1_000_000 // period) // 10_000) * 10_000


def rounded(resources: LinuxResources) -> LinuxResources:
    """The resources with the CPU quota that systemd makes of it, as runc writes it to the file, too."""
    cpu = resources.cpu
    if cpu is None or not cpu.quota or cpu.quota < 0:
        return resources
    period = cpu.period or _PERIOD_US
    return resources.replace(cpu=cpu.replace(quota=_per_second(cpu.quota, period) * period // 1_000_000))


def cpu_bits(text: str) -> bytes:
    """A list like 1,3-5 as systemd's bit mask, lowest byte first; b"" for what is none (the kernel will say why)."""
    mask = 0
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        if not item.strip():
            continue
        low, high = _plain(first), _plain(last if dash else first)
        if low is None or high is None or not low <= high < _CPU_MAX:
            return b""
        mask |= (1 << (high + 1)) - (1 << low)
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


_CPU_MAX = 1 << 16


def devices(table: Table) -> list[Property]:
    """The device rules. systemd only knows lists of what is allowed: where a config allows all but some, it is told to
    allow all, and our own program (v2) or list (v1) is what forbids. It would not bring it back on v1, if it ever
    wrote all anew; runc has systemd forbid everything then."""
    allowed: list[object] = []
    if not table.default_allow:
        for (kind, major, minor), access in table.exceptions.items():
            word = {"c": "char", "b": "block"}[kind]
            if minor >= 0 and major >= 0:
                path = f"/dev/{word}/{major}:{minor}"
            elif minor < 0:
                path = f"{word}-{major if major >= 0 else '*'}"
            else:
                continue  # any major with that minor: no word for it
            allowed.append((path, "".join(letter for letter in "rwm" if letter in access)))
    # An empty list first: it clears what is there, a list adds to it.
    return [
        ("DeviceAllow", Variant("a(ss)", [])),
        ("DevicePolicy", Variant("s", "auto" if table.default_allow else "strict")),
        ("DeviceAllow", Variant("a(ss)", allowed)),
    ]


def oom_policy(unified: Mapping[str, str], version: Callable[[], int]) -> list[Property]:
    """`memory.oom.group`, which a unit can only be made with."""
    policy = {"0": "continue", "1": "kill"}.get(unified.get("memory.oom.group", "").strip())
    if policy is None or version() < SINCE_OOM_POLICY:
        return []
    return [("OOMPolicy", Variant("s", policy))]


def property_values(properties: Sequence[Property]) -> list[object]:
    """As a(sv)."""
    return [(name, value) for name, value in properties]
