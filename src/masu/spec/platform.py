"""Platforms: os, architecture, variant; and which manifest of an index suits one, as containerd/platforms has it."""

from __future__ import annotations

import os
import sys

from masu.errors import InvalidArgument, NotFound, closest
from masu.spec.fields import Value, shown, slots, string, strings, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import ClassVar

    from masu.spec.fields import Fields
    from masu.spec.image import Descriptor

# fmt: off
KNOWN_OS = (
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd",
    "openbsd", "plan9", "solaris", "windows", "zos",
)
KNOWN_ARCHITECTURES = (
    "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "ppc64", "ppc64le", "loong64", "mips", "mipsle",
    "mips64", "mips64le", "mips64p32", "mips64p32le", "ppc", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64",
    "wasm",
)
# fmt: on

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")

# uname(2)'s machine and Go's GOARCH, with the variant it implies.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "ppc64le": ("ppc64le", ""),
    "ppc64": ("ppc64", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64le" if sys.byteorder == "little" else "mips64", ""),
    "mips": ("mipsle" if sys.byteorder == "little" else "mips", ""),
}
# A 32-bit program on a 64-bit kernel.
_NARROW = {"amd64": ("386", ""), "arm64": ("arm", "v8")}


class Platform(Value):
    """`linux/arm/v7`. `variant`, `os_version` are None when there is none."""

    FIELDS: ClassVar[Fields] = {
        "architecture": ("architecture", string, ""),
        "os": ("os", string, ""),
        "os.version": ("os_version", text, None),
        "os.features": ("os_features", strings, ()),
        "variant": ("variant", text, None),
    }
    REQUIRED = ("architecture", "os")
    HINTS = False
    __slots__ = slots(FIELDS)
    architecture: str
    os: str
    os_version: str | None
    os_features: tuple[str, ...]
    variant: str | None

    def __init__(
        self,
        os: str = "",
        architecture: str = "",
        variant: str | None = None,
        os_version: str | None = None,
        os_features: tuple[str, ...] = (),
    ) -> None:
        super().__init__(architecture, os, os_version, os_features, variant)

    def __str__(self) -> str:
        system = self.os or "unknown"
        if self.os_version or self.os_features:
            system += f"({'+'.join([self.os_version or '', *self.os_features])})"
        return "/".join([part for part in (system, self.architecture, self.variant) if part])


def parse(specifier: str) -> Platform:
    """`linux/arm64/v8`, `linux`, `arm64`, `windows(10.0.17763)/amd64`; raises InvalidArgument."""
    parts = specifier.split("/", 3)
    if len(parts) > 3 or len(specifier) > 256:
        _refuse(specifier, "wanted is os[/architecture[/variant]]")
    system, parenthesis, options = parts[0].partition("(")
    if parenthesis and options[-1:] != ")":
        _refuse(specifier, "a parenthesis is not closed")
    version, *features = options[:-1].split("+") if parenthesis else [""]
    for part in (system, *parts[1:]):
        if not _NAME.issuperset(part) or part in ("", ".", "..") or "." in system:
            _refuse(specifier, f"{shown(part)} is no name of an operating system, architecture or variant")
    for part in (version, *features):
        if not _NAME.issuperset(part):
            _refuse(specifier, f"{shown(part)} is no version of an operating system")
    os_version, os_features = version or None, tuple([feature for feature in features if feature])
    name = _normal_os(system)
    if len(parts) == 1:
        machine = host()
        if name in KNOWN_OS:
            variant = machine.variant if machine.architecture == "arm" and machine.variant != "v7" else None
            return Platform(name, machine.architecture, variant, os_version, os_features)
        architecture, variant = _normal_architecture(system, "")
        if architecture in KNOWN_ARCHITECTURES:
            return Platform(machine.os, architecture, None if variant == "v7" else variant)
        known = (*KNOWN_OS, *KNOWN_ARCHITECTURES)
        raise InvalidArgument(
            "platform",
            shown(specifier),
            detail="unknown operating system or architecture",
            hint=closest(system[:32], known),
        )
    architecture, variant = _normal_architecture(parts[1], parts[2] if len(parts) == 3 else "")
    if len(parts) == 2:
        variant = None if variant == "v7" else variant
    elif architecture == "arm64" and variant is None:
        variant = "v8"
    return Platform(name, architecture, variant, os_version, os_features)


def _refuse(specifier: str, detail: str) -> None:
    raise InvalidArgument("platform", shown(specifier), detail=detail)


def normalize(platform: Platform) -> Platform:
    """One spelling for each platform: `x86_64` is amd64, arm64's v8 goes without saying, arm is v7."""
    architecture, variant = _normal_architecture(platform.architecture, platform.variant or "")
    features = tuple(sorted(set(platform.os_features)))
    return Platform(_normal_os(platform.os), architecture, variant, platform.os_version, features)


def _normal_os(name: str) -> str:
    name = name.lower()
    return "darwin" if name == "macos" else name or "linux"


def _normal_architecture(architecture: str, variant: str) -> tuple[str, str | None]:
    architecture, variant = architecture.lower(), variant.lower()
    if architecture == "i386":
        architecture, variant = "386", ""
    elif architecture in ("x86_64", "x86-64", "amd64"):
        architecture, variant = "amd64", "" if variant == "v1" else variant
    elif architecture in ("aarch64", "arm64"):
        architecture = "arm64"
        if variant in ("8", "v8", "v8.0"):
            variant = ""
        elif variant in ("9", "9.0", "v9.0"):
            variant = "v9"
    elif architecture == "armhf":
        architecture, variant = "arm", "v7"
    elif architecture == "armel":
        architecture, variant = "arm", "v6"
    elif architecture == "arm":
        if variant in ("", "7"):
            variant = "v7"
        elif variant in ("5", "6", "8"):
            variant = "v" + variant
    return architecture, variant or None


def host() -> Platform:
    """The platform of this machine."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    if sys.maxsize < 1 << 32:
        architecture, variant = _NARROW.get(architecture, (architecture, variant))
    return normalize(Platform("linux", architecture, variant or None))


def fallbacks(wanted: Platform) -> list[Platform]:
    """What runs on `wanted`, best first: itself, older variants, the 32-bit architecture of the same family."""
    wanted = normalize(wanted)

    def like(architecture: str, variant: str | None) -> Platform:
        return normalize(wanted.replace(architecture=architecture, variant=variant))

    version = (wanted.variant or "").removeprefix("v")
    if wanted.architecture == "amd64":
        older = [f"v{n}" for n in range(int(version) - 1, 0, -1)] if version in ("2", "3", "4") else []
        return [wanted, *[like("amd64", variant) for variant in older], like("386", None)]
    if wanted.architecture == "arm":
        older = [f"v{n}" for n in range(int(version) - 1, 4, -1)] if version in ("6", "7", "8") else []
        return [wanted, *[like("arm", variant) for variant in older]]
    if wanted.architecture == "arm64":
        # Armv9.x has all that Armv8.(x+5) has (Arm Architecture Reference Manual), up to v8.9.
        major, _, minor = (version or "8").partition(".")
        minor = minor or "0"
        if major not in ("8", "9") or minor not in "0123456789":
            return [wanted]
        variants = []
        if major == "9":
            variants += [f"v9.{n}" for n in range(int(minor), -1, -1)]
            minor = str(min(int(minor) + 5, 9))
        variants += [f"v8.{n}" for n in range(int(minor), -1, -1)]
        return [*[like("arm64", variant) for variant in variants], *[like("arm", f"v{n}") for n in (8, 7, 6, 5)]]
    return [wanted]


def matches(platform: Platform, wanted: Platform) -> bool:
    """Whether an image for `platform` runs on `wanted`."""
    return _rank(platform, fallbacks(wanted)) is not None


def _rank(platform: Platform, order: Sequence[Platform]) -> int | None:
    normal = normalize(platform)
    for index, candidate in enumerate(order):
        if (
            normal.os == candidate.os
            and normal.architecture == candidate.architecture
            and normal.variant == candidate.variant
            and set(normal.os_features) <= set(candidate.os_features)
            and _same_version(normal.os_version, candidate)
        ):
            return index
    return None


def _same_version(os_version: str | None, candidate: Platform) -> bool:
    # Only Windows ties an image to a version of the kernel, down to the build number.
    if candidate.os != "windows" or not candidate.os_version:
        return True
    return (os_version or "").split(".")[:3] == candidate.os_version.split(".")[:3]


def choose(manifests: Iterable[Descriptor], wanted: Platform | str) -> Descriptor:
    """The manifest of an index that suits `wanted` best; of equals the one listed first.

    Attestations (platform unknown/unknown) are never chosen. Entries without a platform are, when nothing else
    suits. Raises NotFound, naming what there is.
    """
    platform = parse(wanted) if isinstance(wanted, str) else wanted
    order = fallbacks(platform)
    best: Descriptor | None = None
    best_rank = len(order)
    unnamed: Descriptor | None = None
    offered: list[str] = []
    for descriptor in manifests:
        if is_attestation(descriptor):
            continue
        if descriptor.platform is None:
            unnamed = unnamed or descriptor
            continue
        offered.append(str(normalize(descriptor.platform)))
        rank = _rank(descriptor.platform, order)
        if rank is not None and rank < best_rank:
            best, best_rank = descriptor, rank
    best = best or unnamed
    if best is None:
        seen = [name[:64] for name in dict.fromkeys(offered[:32])]
        names = ", ".join([name if name.isprintable() else ascii(name) for name in seen])
        raise NotFound(
            "image for platform", str(platform), detail=f"the index offers {names}" if names else "the index is empty"
        )
    return best


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether an index entry is BuildKit's provenance or SBOM, which is no image."""
    platform = descriptor.platform
    if platform is not None and (platform.os == "unknown" or platform.architecture == "unknown"):
        return True
    return descriptor.annotations.get("vnd.docker.reference.type") == "attestation-manifest"
