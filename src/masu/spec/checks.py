"""What must hold between the sections of a config.json for Linux, as runc's validator has it.

Only what the document itself can tell. What needs the machine stays with the runtime: whether SELinux, Intel RDT
or a controller exists, whether a namespace path is the host's own, whether the mappings of a joined user namespace
are those given. Sentences that callers and test suites match on are runc's.
"""

from __future__ import annotations

from masu.errors import InvalidArgument
from masu.spec.fields import invalid, key_path, missing, shown
from masu.spec.process import check_linux_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.spec.linux import Linux
    from masu.spec.mounts import LinuxIDMapping, Mount
    from masu.spec.runtime import Config

# __NEW_UTS_LEN, include/uapi/linux/utsname.h.
MAX_HOSTNAME_BYTES = 64
# IFNAMSIZ counts the terminating NUL.
MAX_INTERFACE_NAME = 15

# fmt: off
_IPC_SYSCTLS = frozenset((
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
    "kernel.shmmni", "kernel.shm_rmid_forced",
))
# fmt: on


def check_linux(config: Config, warnings: list[str]) -> None:
    """Raises InvalidArgument for a config that cannot be run on any Linux."""
    linux = config.linux
    if config.root is None or not config.root.path:
        raise missing("root.path" if config.root else "root", "root must be specified")
    if config.process is not None:
        check_linux_process(config.process, "process")
    types = frozenset([namespace.type for namespace in linux.namespaces])
    _check_uts(config, types)
    if "mount" not in types:
        for name, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
            if paths:
                raise InvalidArgument(
                    "paths",
                    where=f"linux.{name}",
                    detail="unable to restrict sys entries without a private MNT namespace",
                    hint=_add("mount"),
                )
    _check_user_namespace(linux, warnings)
    _check_time_namespace(linux)
    for index, mount in enumerate(config.mounts):
        _check_mount(mount, f"mounts[{index}]", "user" in types, warnings)
    for key, value in linux.sysctl.items():
        check_sysctl(key, types)
        if config.domainname not in (None, value) and sysctl_path(key) == "kernel/domainname":
            where = key_path("linux.sysctl", key)
            raise invalid("sysctl", key, where, 'is not allowed as it conflicts with the OCI "domainname" field')
    if linux.net_devices:
        _check_net_devices(linux, types)


def _add(type: str) -> str:
    return f'add {{"type": "{type}"}} to linux.namespaces'


def _check_uts(config: Config, types: frozenset[str]) -> None:
    for name, value in (("hostname", config.hostname), ("domainname", config.domainname)):
        if value is None:
            continue
        if "uts" not in types:
            raise invalid(name, value, name, f"unable to set {name} without a private UTS namespace", _add("uts"))
        length = len(value.encode("utf-8", "surrogatepass"))
        if length > MAX_HOSTNAME_BYTES:
            raise invalid(name, value, name, f"{length} bytes, the kernel takes {MAX_HOSTNAME_BYTES}")


def _check_user_namespace(linux: Linux, warnings: list[str]) -> None:
    namespace = linux.namespace("user")
    given = [
        name
        for name, mappings in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings))
        if mappings
    ]
    if namespace is None:
        if given:
            raise InvalidArgument(
                "mappings",
                where=f"linux.{given[0]}",
                detail="user namespace mappings specified, but user namespace isn't enabled in the config",
                hint=_add("user"),
            )
    elif namespace.path is None and not given:
        # containerd and CRI-O give both: then the runtime compares the mappings with the namespace's own.
        raise missing(
            "linux.uidMappings",
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
            'for example [{"containerID": 0, "hostID": 100000, "size": 65536}]',
        )
    elif len(given) == 1:
        lacking, kind = ("gidMappings", "gid") if given[0] == "uidMappings" else ("uidMappings", "uid")
        raise missing(f"linux.{lacking}", f"user namespaces enabled, but no {kind} mappings found")


def _check_time_namespace(linux: Linux) -> None:
    if not linux.time_offsets:
        return
    namespace = linux.namespace("time")
    if namespace is None:
        raise InvalidArgument(
            "time offsets",
            where="linux.timeOffsets",
            detail="time namespace offsets specified, but time namespace isn't enabled in the config",
            hint=_add("time"),
        )
    if namespace.path is not None:
        raise InvalidArgument(
            "time offsets",
            where="linux.timeOffsets",
            detail="time namespace enabled, but both namespace path and time offsets specified -- "
            "you may only provide one",
        )


def _check_mount(mount: Mount, where: str, has_user_namespace: bool, warnings: list[str]) -> None:
    if mount.destination[0] != "/":
        warnings.append(
            f"{where}.destination: mount destination {shown(mount.destination)} is not absolute, taken below /"
        )
    mapped = bool(mount.uid_mappings)
    wants_mapping = "idmap" in mount.options or "ridmap" in mount.options
    if not (mapped or wants_mapping):
        return
    if "bind" not in mount.options and "rbind" not in mount.options:
        raise InvalidArgument(
            "mount",
            shown(mount.destination),
            where=where,
            detail="id-mapped mounts are only supported for bind-mounts",
            hint='add "bind" or "rbind" to its options',
        )
    if not mapped and not has_user_namespace:
        raise missing(
            f"{where}.uidMappings",
            "id-mapped mounts must have both uid and gid mappings specified, or the container a user namespace",
        )


# --- sysctl


def sysctl_path(key: str, where: str = "") -> str:
    """The file below /proc/sys of a sysctl: `net.ipv4.ip_forward` is `net/ipv4/ip_forward`.

    When the first separator is a dot, dots and slashes trade places, so that `net.ipv4.conf.eth0/1.forwarding`
    can name the interface `eth0.1`; a key that begins with slashes is a path already (sysctl.d(5)). Raises
    InvalidArgument for a key that would lead elsewhere.
    """
    dot, slash = key.find("."), key.find("/")
    path = key if slash >= 0 and (dot < 0 or slash < dot) else key.translate({46: "/", 47: "."})
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise invalid("sysctl", key, where, "not a name of the form net.ipv4.ip_forward")
    return path


def check_sysctl(key: str, types: frozenset[str]) -> None:
    """Raises InvalidArgument for a setting that belongs to none of the namespaces in `types`, those of its own that
    the container has: it would be the whole machine's."""
    where = key_path("linux.sysctl", key)
    path = sysctl_path(key, where)
    # In dots again, dots inside a part as slashes: the one form that the rules below are written in.
    name = path.translate({46: "/", 47: "."})
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        if "ipc" not in types:
            raise invalid("sysctl", key, where, "is not allowed in the hosts ipc namespace", _add("ipc"))
    elif name.startswith("net."):
        if "network" not in types:
            raise invalid("sysctl", key, where, "not allowed in host network namespace", _add("network"))
    elif name == "kernel.domainname" and "uts" in types:
        pass
    elif name == "kernel.hostname" and "uts" in types:
        raise invalid("sysctl", key, where, 'is not allowed as it conflicts with the OCI "hostname" field')
    elif name.startswith("user."):
        # Without a user namespace these are limits of the whole machine.
        if "user" not in types:
            raise invalid("sysctl", key, where, "setting ucounts without a user namespace not allowed", _add("user"))
    else:
        raise invalid("sysctl", key, where, "is not in a separate kernel namespace", "set it on the host")


# --- network devices


def _check_net_devices(linux: Linux, types: frozenset[str]) -> None:
    where = "linux.netDevices"
    if "network" not in types:
        raise InvalidArgument(
            "network devices",
            where=where,
            detail="unable to move network devices without a NET namespace",
            hint=_add("network"),
        )
    names: dict[str, str] = {}
    for name, device in linux.net_devices.items():
        path = key_path(where, name)
        for candidate, place in ((name, path), (device.name, f"{path}.name")):
            if candidate is not None and not _is_interface_name(candidate):
                raise invalid(
                    "network device name",
                    candidate,
                    place,
                    f"allowed are 1 to {MAX_INTERFACE_NAME} characters without /, : and white space",
                )
        inside = device.name or name
        if inside in names and "%d" not in inside:
            raise invalid("network device name", inside, path, f"taken by {names[inside]} already")
        names[inside] = path


def _is_interface_name(name: str) -> bool:
    # dev_valid_name(), net/core/dev.c
    if not name or name in (".", "..") or len(name.encode("utf-8", "surrogatepass")) > MAX_INTERFACE_NAME:
        return False
    return not any(c in "/:" or c.isspace() for c in name)


# --- without root


def check_rootless(config: Config) -> None:
    """What a caller without root (effective uid not 0) must have given; raises InvalidArgument."""
    linux = config.linux
    namespace = linux.namespace("user")
    if namespace is None:
        raise InvalidArgument(
            "namespaces",
            where="linux.namespaces",
            detail="rootless container requires user namespaces",
            hint=_add("user"),
        )
    if namespace.path is None:
        if not linux.uid_mappings:
            raise missing("linux.uidMappings", "rootless containers requires at least one UID mapping")
        if not linux.gid_mappings:
            raise missing("linux.gidMappings", "rootless containers requires at least one GID mapping")
    if linux.net_devices:
        raise InvalidArgument(
            "network devices",
            where="linux.netDevices",
            detail="network devices are not supported for rootless containers",
        )
    for index, mount in enumerate(config.mounts):
        where = f"mounts[{index}]"
        if mount.uid_mappings or "idmap" in mount.options or "ridmap" in mount.options:
            raise InvalidArgument(
                "mount",
                shown(mount.destination),
                where=where,
                detail="id-mapped mounts are not supported for rootless containers",
            )
        if namespace.path is None:
            for at, option in enumerate(mount.options):
                mappings = linux.uid_mappings if option.startswith("uid=") else linux.gid_mappings
                if option[:4] in ("uid=", "gid=") and not _is_mapped(option[4:], mappings):
                    raise invalid(
                        "mount option",
                        option,
                        f"{where}.options[{at}]",
                        f"cannot specify {option[:4]} mount option for rootless container: the id is not mapped",
                    )


def _is_mapped(text: str, mappings: Sequence[LinuxIDMapping]) -> bool:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return True  # not a number: the file system's business
    number = int(text)
    return any(m.container_id <= number < m.container_id + m.size for m in mappings)
