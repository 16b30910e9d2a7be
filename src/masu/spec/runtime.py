"""The runtime specification's documents as values: config.json, a process for exec, resources, state.

    config = parse_config(jsontext.loads(data, name="config.json"), warnings)

Attributes are the specification's names in snake_case (`noNewPrivileges` -> `no_new_privileges`). What is missing is
None (object, scalar), () (list), {} (map), False (plain bool). Every error is an InvalidArgument with the JSON path,
the value seen and what is allowed; `warnings` gets a sentence for each thing accepted but ignored, odd or old.
"""

from __future__ import annotations

from masu.errors import Unimplemented
from masu.spec.checks import check_linux, check_rootless, check_sysctl, sysctl_path
from masu.spec.fields import (
    I32,
    Value,
    decimal,
    invalid,
    key_path,
    many,
    number,
    one,
    read,
    slots,
    string,
    string_map,
    text,
    word,
)
from masu.spec.hooks import Hook, Hooks
from masu.spec.linux import (
    Linux,
    LinuxDevice,
    LinuxIntelRdt,
    LinuxMemoryPolicy,
    LinuxNamespace,
    LinuxNetDevice,
    LinuxPersonality,
    LinuxTimeOffset,
)
from masu.spec.mounts import LinuxIDMapping, Mount, Root
from masu.spec.process import (
    Box,
    CPUAffinity,
    LinuxCapabilities,
    LinuxIOPriority,
    POSIXRlimit,
    Process,
    Scheduler,
    User,
    check_linux_process,
)
from masu.spec.resources import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxDeviceCgroup,
    LinuxHugepageLimit,
    LinuxMemory,
    LinuxNetwork,
    LinuxPids,
    LinuxRdma,
    LinuxResources,
    LinuxThrottleDevice,
    LinuxWeightDevice,
)
from masu.spec.seccomp import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from masu.spec.extras import Extras
    from masu.spec.fields import Fields, Reader

# The version of the specification that is implemented, written into what is made here.
VERSION = "1.3.0"

Resources = LinuxResources

__all__ = [
    "VERSION",
    "Box",
    "CPUAffinity",
    "Config",
    "Hook",
    "Hooks",
    "Linux",
    "LinuxBlockIO",
    "LinuxCPU",
    "LinuxCapabilities",
    "LinuxDevice",
    "LinuxDeviceCgroup",
    "LinuxHugepageLimit",
    "LinuxIDMapping",
    "LinuxIOPriority",
    "LinuxIntelRdt",
    "LinuxMemory",
    "LinuxMemoryPolicy",
    "LinuxNamespace",
    "LinuxNetDevice",
    "LinuxNetwork",
    "LinuxPersonality",
    "LinuxPids",
    "LinuxRdma",
    "LinuxResources",
    "LinuxSeccomp",
    "LinuxSeccompArg",
    "LinuxSyscall",
    "LinuxThrottleDevice",
    "LinuxTimeOffset",
    "LinuxWeightDevice",
    "Mount",
    "OldPlatform",
    "POSIXRlimit",
    "Process",
    "Resources",
    "Root",
    "Scheduler",
    "State",
    "User",
    "check_rootless",
    "check_sysctl",
    "default_config",
    "parse_config",
    "parse_process",
    "parse_resources",
    "require_linux",
    "sysctl_path",
]


_VERSION = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-+")


def _version(value: object, where: str, warnings: list[str]) -> str:
    version = string(value, where, warnings)
    core, _, pre_release = version.partition("+")[0].partition("-")
    parts = core.split(".")
    if len(parts) != 3 or not all(decimal(part) for part in parts) or not _VERSION.issuperset(version):
        raise invalid("version", version, where, "wanted is a version like 1.0.2 (semver.org)")
    major, minor = int(parts[0]), int(parts[1])
    if major > 1 or (major, minor) < (0, 4):
        raise invalid("version", version, where, "supported are 0.4 to 1.x")
    if major == 0 or (core == "1.0.0" and pre_release):
        warnings.append(f"{where}: {version} is older than 1.0.0, its old forms are accepted")
    return version


def _annotations(value: object, where: str, warnings: list[str]) -> dict[str, str]:
    result = string_map(value, where, warnings)
    if "" in result:
        raise invalid("annotation", "", key_path(where, ""), "the name must not be empty")
    return result


class OldPlatform(Value):
    """`platform` of versions before 1.0.0-rc6: what the bundle was made for."""

    FIELDS: ClassVar[Fields] = {"os": ("os", text, None), "arch": ("arch", text, None)}
    __slots__ = slots(FIELDS)
    os: str | None
    arch: str | None


def _platform(value: object, where: str, warnings: list[str]) -> OldPlatform:
    warnings.append(f"{where}: gone from runtime-spec since 1.0.0-rc6, only its os is looked at")
    return read(OldPlatform, value, where, warnings)


def _foreign(name: str) -> Reader:
    def read_section(value: object, where: str, warnings: list[str]) -> Value:
        # Only a config for another platform pays for these classes.
        from masu.spec.foreign import SECTIONS

        return read(SECTIONS[name], value, where, warnings)

    return read_section


class Config(Value):
    """A whole config.json. `linux` is never None; `process` is None in a config that is not to be started."""

    FIELDS: ClassVar[Fields] = {
        "ociVersion": ("oci_version", _version, None),
        "process": ("process", one(Process), None),
        "root": ("root", one(Root), None),
        "hostname": ("hostname", text, None),
        "domainname": ("domainname", text, None),
        "mounts": ("mounts", many(Mount), ()),
        "hooks": ("hooks", one(Hooks), None),
        "annotations": ("annotations", _annotations, {}),
        "linux": ("linux", one(Linux), None),
        "windows": ("windows", _foreign("windows"), None),
        "vm": ("vm", _foreign("vm"), None),
        "solaris": ("solaris", _foreign("solaris"), None),
        "freebsd": ("freebsd", _foreign("freebsd"), None),
        "zos": ("zos", _foreign("zos"), None),
        "platform": ("platform", _platform, None),
    }
    REQUIRED = ("ociVersion",)
    __slots__ = slots(FIELDS)
    oci_version: str
    process: Process | None
    root: Root | None
    hostname: str | None
    domainname: str | None
    mounts: tuple[Mount, ...]
    hooks: Hooks | None
    annotations: dict[str, str]
    linux: Linux
    windows: Value | None
    vm: Value | None
    solaris: Value | None
    freebsd: Value | None
    zos: Value | None
    platform: OldPlatform | None

    def in_bundle(self, bundle: str) -> Config:
        """The same with absolute sources of its mounts."""
        if not any(mount.is_of_bundle for mount in self.mounts):
            return self
        mounts = (
            mount.replace(source=f"{bundle}/{mount.source}") if mount.is_of_bundle else mount for mount in self.mounts
        )
        return self.replace(mounts=tuple(mounts))


def parse_config(data: object, warnings: list[str] | None = None) -> Config:
    """A config.json that was read by jsontext.loads.

    Checked as a whole for Linux; of a config for another platform only the forms are (see require_linux).
    Raises InvalidArgument.
    """
    warnings = [] if warnings is None else warnings
    if isinstance(data, dict) and "run.oci.seccomp.receiver" in str(data.get("annotations")):
        from masu.spec.extras import with_listener

        data = with_listener(data)
    config = read(Config, data, "", warnings)
    if config.linux is None:
        object.__setattr__(config, "linux", Linux())
    config = _move_oom_score_adj(config, data, warnings)
    if not _foreign_reason(config):
        check_linux(config, warnings)
    return config


def extras_of(config: Config) -> Extras:
    """What its annotations ask for in crun's words. Raises InvalidArgument, Unimplemented."""
    from masu.spec.extras import Extras  # with what runs a container, not with what only looks at one

    return Extras(config.annotations)


def parse_process(data: object, where: str = "process", warnings: list[str] | None = None) -> Process:
    """One process, as `exec --process FILE` takes it; raises InvalidArgument."""
    process = read(Process, data, where, [] if warnings is None else warnings)
    check_linux_process(process, where)
    return process


def parse_resources(data: object, where: str = "resources", warnings: list[str] | None = None) -> LinuxResources:
    """Limits alone, as `update --resources FILE` takes them; raises InvalidArgument."""
    return read(LinuxResources, data, where, [] if warnings is None else warnings)


def require_linux(config: Config) -> None:
    """Raises Unimplemented, with the reason, for a config that is made for another platform."""
    reason = _foreign_reason(config)
    if reason:
        section, _, detail = reason.partition(": ")
        raise Unimplemented("platform", where=section, detail=detail)


def _foreign_reason(config: Config) -> str:
    for name, platform in (
        ("windows", "Windows containers"),
        ("vm", "containers in a virtual machine of their own"),
        ("solaris", "Solaris zones"),
        ("freebsd", "FreeBSD jails"),
        ("zos", "z/OS containers"),
    ):
        if getattr(config, name) is not None:
            return f'{name}: the section "{name}" asks for {platform}, this runtime makes Linux containers'
    if config.platform is not None and config.platform.os not in (None, "linux"):
        return f"platform.os: {config.platform.os!r} is asked for, this runtime makes Linux containers"
    return ""


def _move_oom_score_adj(config: Config, data: object, warnings: list[str]) -> Config:
    # `linux.resources.oomScoreAdj` is `process.oomScoreAdj` since 1.0.0-rc6. The forms are known to be right here.
    resources = ((data.get("linux") or {}).get("resources") or {}) if isinstance(data, dict) else {}
    old = resources.get("oomScoreAdj")
    if old is None:
        return config
    where = "linux.resources.oomScoreAdj"
    warnings.append(f'{where}: old place, now "process.oomScoreAdj"')
    value = number(-1000, 1000)(old, where, warnings)
    process = config.process
    if process is None or process.oom_score_adj is not None:
        return config
    return config.replace(process=process.replace(oom_score_adj=value))


STATUSES = ("creating", "created", "running", "stopped")


class State(Value):
    """What `state` prints and hooks get on their standard input (runtime.md, "State"). `pid` 0 is left out."""

    FIELDS: ClassVar[Fields] = {
        "ociVersion": ("oci_version", _version, None),
        "id": ("id", text, None),
        "status": ("status", word("status", STATUSES), None),
        "pid": ("pid", number(0, I32), 0),
        "bundle": ("bundle", text, None),
        "annotations": ("annotations", string_map, {}),
    }
    REQUIRED = ("ociVersion", "id", "status", "bundle")
    __slots__ = slots(FIELDS)
    oci_version: str
    id: str
    status: str
    pid: int
    bundle: str
    annotations: dict[str, str]


def default_config(rootless: bool = False, *, cgroup2: bool = False) -> dict[str, object]:
    """What `runc spec` writes, to be written by `jsontext.dumps(…, indent="\\t")`.

    With `rootless` for the caller's effective uid and gid. `cgroup2` says that /sys/fs/cgroup is cgroup v2 alone:
    then the container gets a cgroup namespace, as in runc.
    """
    from masu.spec.example import example  # one verb needs it

    return example(rootless=rootless, cgroup2=cgroup2)
