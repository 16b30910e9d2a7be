"""Which devices a container may use: the rules, and what a list of rules amounts to.

The device controller knows two modes (Documentation/admin-guide/cgroup-v1/devices.rst): everything is refused but
for some exceptions, or everything is allowed but for some. A list of rules from a config is folded into one
`Table`, which v1 gets as the smallest change of its files, v2 as an eBPF program (bpf_devices.py). So both
enforce the same.
"""

from __future__ import annotations

from masu.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    class DeviceRule(Protocol):
        """`linux.resources.devices[]` as masu.spec.runtime reads it."""

        @property
        def allow(self) -> bool: ...
        @property
        def type(self) -> str | None: ...
        @property
        def major(self) -> int | None: ...
        @property
        def minor(self) -> int | None: ...
        @property
        def access(self) -> str | None: ...

    Key = tuple[str, int, int]

ANY = -1  # a wildcard, "*" in the files

# What every container gets whatever its config says, in runc's order: making any node (which gives no access to
# it), /dev/{null,random,full,tty,zero,urandom}, ptys, /dev/ptmx, /dev/net/tun. The spec's default devices need them.
DEFAULT_ALLOWED: tuple[tuple[str, int, int, str], ...] = (
    ("c", ANY, ANY, "m"),
    ("b", ANY, ANY, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 136, ANY, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 10, 200, "rwm"),
)

# struct bpf_cgroup_dev_ctx carries u32; the kernel's dev_t holds less (12 bits major, 20 bits minor).
NUMBER_MAX = (1 << 32) - 1


class Table:
    """A mode and its exceptions: `exceptions[type, major, minor]` is a set of letters from "rwm"."""

    __slots__ = ("default_allow", "exceptions")

    def __init__(self, *, default_allow: bool = False) -> None:
        self.default_allow = default_allow
        self.exceptions: dict[Key, frozenset[str]] = {}

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Table)
            and self.default_allow == other.default_allow
            and self.exceptions == other.exceptions
        )

    __hash__ = None  # type: ignore[assignment]

    def reset(self, *, allow: bool) -> None:
        """What a rule of type "a" does: the mode changes and all exceptions are forgotten."""
        self.default_allow = allow
        self.exceptions.clear()

    def apply(self, kind: str, major: int, minor: int, access: str, *, allow: bool, where: str = "") -> None:
        """One more rule. Raises InvalidArgument for one that cannot be enforced."""
        if kind == "a":
            self.reset(allow=allow)
            return
        key = (kind, major, minor)
        if allow != self.default_allow:
            self.exceptions[key] = self.exceptions.get(key, frozenset()) | frozenset(access)
            return
        # Taking something out of a wildcard is silently ignored by v1; a config that believes in it must hear that.
        for wide in ((kind, ANY, minor), (kind, major, ANY), (kind, ANY, ANY)):
            if wide != key and self.exceptions.get(wide, frozenset()) & frozenset(access):
                raise InvalidArgument(
                    "device rule",
                    command(key, access),
                    where=where,
                    detail=f"cannot punch a hole into the wider rule {command(wide, self.exceptions[wide])!r}: "
                    "the device controller has no such thing",
                    hint="list the devices one by one instead of the wider rule",
                )
        left = self.exceptions.get(key, frozenset()) - frozenset(access)
        if left:
            self.exceptions[key] = left
        else:
            self.exceptions.pop(key, None)

    def allows(self, kind: str, major: int, minor: int, access: str) -> bool:
        """Whether the kernel would let a process open or make this device with all of `access`.

        With exceptions that allow, one of them alone must give everything asked for; with exceptions that
        deny, any overlap denies (security/device_cgroup.c, match_exception and match_exception_partial).
        """
        wanted = frozenset(access)
        for (rule_kind, rule_major, rule_minor), letters in self.exceptions.items():
            if rule_kind != kind or rule_major not in (ANY, major) or rule_minor not in (ANY, minor):
                continue
            if self.default_allow:
                if wanted & letters:
                    return False
            elif wanted <= letters:
                return True
        return self.default_allow

    def changes_from(self, current: Table) -> list[tuple[bool, str]]:
        """The least disruptive steps that turn `current` into this: (allow?, text for devices.allow or .deny).

        devices.list of an allow-by-default cgroup reads `a *:* rwm` and hides its exceptions, so from there the
        only safe way is to start over; otherwise running processes must not lose, even for a moment, what
        they keep.
        """
        steps: list[tuple[bool, str]] = []
        old = current.exceptions
        if current.default_allow or current.default_allow != self.default_allow:
            steps.append((self.default_allow, "a"))
            old = {}
        for key, letters in old.items():
            dropped = letters - self.exceptions.get(key, frozenset())
            if dropped:
                steps.append((self.default_allow, command(key, dropped)))
        for key, letters in self.exceptions.items():
            gained = letters - old.get(key, frozenset())
            if gained:
                steps.append((not self.default_allow, command(key, gained)))
        return steps


def command(key: Key, access: Iterable[str]) -> str:
    """`c 1:3 rwm`, the form of devices.allow, devices.deny and devices.list."""
    kind, major, minor = key
    letters = "".join(letter for letter in "rwm" if letter in access)
    return f"{kind} {'*' if major == ANY else major}:{'*' if minor == ANY else minor} {letters}"


def table(rules: Sequence[DeviceRule], *, where: str) -> Table:
    """What a config's rules followed by the defaults amount to, on top of "nothing is allowed".

    Raises InvalidArgument with the place of the rule that is wrong.
    """
    result = Table()
    for index, rule in enumerate(rules):
        place = f"{where}[{index}]"
        kind = rule.type or "a"
        if kind not in ("a", "b", "c"):
            hint = "an unbuffered character device is type c here" if kind == "u" else ""
            raise InvalidArgument(
                "device type", kind, where=f"{place}.type", detail="allowed: a (all), b (block), c (char)", hint=hint
            )
        access = rule.access or ""
        if not access or not set(access) <= set("rwm"):
            raise InvalidArgument(
                "device access",
                access,
                where=f"{place}.access",
                detail="allowed: a combination of r (read), w (write), m (mknod)"
                if access
                else f"device access at {index} field cannot be empty",
            )
        major = _number(rule.major, f"{place}.major")
        minor = _number(rule.minor, f"{place}.minor")
        if kind == "a" and (major != ANY or minor != ANY):
            # The kernel reads no further than the "a": it would allow, or deny, everything.
            raise InvalidArgument(
                "device rule",
                f"a {major}:{minor}",
                where=place,
                detail="a rule of type a means every device and cannot have major or minor",
                hint="write one rule of type b and one of type c",
            )
        if kind == "a" and rule.allow and set(access) != set("rwm"):
            raise InvalidArgument(
                "device access",
                access,
                where=f"{place}.access",
                detail="a rule of type a always gives rwm",
                hint="write one rule of type b and one of type c",
            )
        result.apply(kind, major, minor, access, allow=bool(rule.allow), where=place)
    if not result.default_allow:
        for kind, major, minor, access in DEFAULT_ALLOWED:
            result.apply(kind, major, minor, access, allow=True)
    else:
        # Everything is allowed but for some; the defaults must not be among those.
        for kind, major, minor, access in DEFAULT_ALLOWED:
            try:
                result.apply(kind, major, minor, access, allow=True)
            except InvalidArgument:
                continue  # a wider rule denies it: the config was explicit
    return result


def _number(value: int | None, where: str) -> int:
    if value is None or value == ANY:
        return ANY
    if not 0 <= value <= NUMBER_MAX:
        raise InvalidArgument("device number", str(value), where=where, detail=f"allowed: -1 (all), 0..{NUMBER_MAX}")
    return value


def parse_list(text: str) -> Table:
    """devices.list as a table; `a *:* rwm` means allow by default with exceptions that nobody can see."""
    result = Table()
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "a":
            result.reset(allow=True)
            continue
        numbers, _, access = rest.partition(" ")
        major, _, minor = numbers.partition(":")
        key = (kind, ANY if major == "*" else int(major), ANY if minor == "*" else int(minor))
        result.exceptions[key] = result.exceptions.get(key, frozenset()) | frozenset(access)
    return result


def in_user_namespace() -> bool:
    """Whether uids are mapped: there the kernel lets nobody change device rules, and nobody makes device nodes."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as lines:
            return lines.read().split() != ["0", "0", "4294967295"]
    except OSError:
        return False
