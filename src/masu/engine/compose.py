"""Image config + request + facts of the machine -> OCI runtime config. Pure: no I/O, needs no root.

What the result says by default is what Docker users know (moby oci/defaults.go, daemon/pkg/oci/caps): its capabilities,
mounts, masked and read-only paths, seccomp profile, environment. An image's word is taken for entry point, command,
environment, user, working directory, volumes and stop signal, and for nothing that could reach the host: its labels
never become annotations, for a runtime obeys those (CVE-2024-3154).

Where the machine itself lacks what is asked for (a CI container without CAP_SYS_RESOURCE), the nearest possible value
is taken and `Composition.warnings` says so; masu-oci, which gets an exact config, refuses instead.
"""

from __future__ import annotations

import posixpath

from masu.engine import limits
from masu.engine.limits import DeviceNode, Facts
from masu.engine.request import ContainerRequest, MountRequest
from masu.errors import FailedPrecondition, InvalidArgument, Unimplemented, closest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from masu.linux.passwd import User

    Json = dict[str, object]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEFAULT_SHM_BYTES = 64 << 20
DEFAULT_STOP_SIGNAL = "SIGTERM"
DEFAULT_STOP_TIMEOUT_S = 10

NETWORKS = ("host", "none")
# Until there are bridges: a network of its own with nothing in it but loopback is the safe one of the two.
DEFAULT_NETWORK = "none"


class ImageDefaults:
    """What an image's config says about running it (OCI image-spec config.md, `config`)."""

    __slots__ = ("cmd", "entrypoint", "env", "exposed_ports", "labels", "stop_signal", "user", "volumes", "workdir")

    def __init__(
        self,
        *,
        entrypoint: Sequence[str] = (),
        cmd: Sequence[str] = (),
        env: Sequence[str] = (),
        user: str = "",
        workdir: str = "",
        volumes: Sequence[str] = (),
        stop_signal: str = "",
        labels: Mapping[str, str] | None = None,
        exposed_ports: Sequence[str] = (),
    ) -> None:
        self.entrypoint = list(entrypoint)
        self.cmd = list(cmd)
        self.env = list(env)
        self.user = user
        self.workdir = workdir
        self.volumes = list(volumes)
        self.stop_signal = stop_signal
        self.labels = dict(labels or {})
        self.exposed_ports = list(exposed_ports)


class Composition:
    """The config as `config.json` would hold it, and what could not be honoured in full."""

    __slots__ = ("config", "warnings")

    def __init__(self, config: Json, warnings: list[str]) -> None:
        self.config = config
        self.warnings = warnings


def compose(
    image: ImageDefaults,
    request: ContainerRequest,
    facts: Facts,
    *,
    id: str,
    user: User,
    sources: Mapping[str, str],
    files: Mapping[str, str] | None = None,
    devices: Sequence[DeviceNode] = (),
    namespaces: Mapping[str, str] | None = None,
    seccomp: Json | None = None,
) -> Composition:
    """The runtime config of container `id`.

    `sources` maps the target of every bind and volume of `all_mounts` to its directory or file on the host; `files`
    maps targets to what masu itself puts there (/etc/resolv.conf …); `devices` are the resolved `--device`s, or with
    `--privileged` all of the host's; `namespaces` maps kinds to paths for `container:` modes; `seccomp` is the profile
    of `--security-opt seccomp=FILE`, in OCI form. Raises InvalidArgument, Unimplemented, FailedPrecondition.
    """
    warnings: list[str] = []
    security = Security(request)
    capabilities = _capabilities(request, facts, warnings)
    spaces = _namespaces(request, facts, namespaces or {})
    own_network = any(space["type"] == "network" and "path" not in space for space in spaces)
    hostname = _hostname(request, facts, id)
    linux: Json = {
        "namespaces": spaces,
        "cgroupsPath": cgroup_path(request, id),
        "resources": limits.resources(request, facts, devices, warnings),
    }
    sysctl = dict(request.sysctls)
    if own_network and not request.privileged:
        # moby: inside its own network a container may bind low ports and ping without capabilities
        sysctl.setdefault("net.ipv4.ip_unprivileged_port_start", "0")
        sysctl.setdefault("net.ipv4.ping_group_range", "0 2147483647")
    _check_sysctls(request, sysctl, {str(space["type"]) for space in spaces})
    if sysctl:
        linux["sysctl"] = sysctl
    if devices:
        linux["devices"] = [limits.device(node) for node in devices]
    if not request.privileged:
        if not security.all_paths:
            throttle = [f"/sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in range(facts.throttled_cpus)]
            linux["maskedPaths"] = [*MASKED_PATHS, *throttle]
            linux["readonlyPaths"] = list(READONLY_PATHS)
        if security.seccomp == "default":
            # two thousand lines of table, compiled and cached further down; imported only where it is used
            from masu.linux import seccomp_default

            linux["seccomp"] = seccomp_default.default_profile(capabilities)
        elif security.seccomp != "unconfined":
            linux["seccomp"] = seccomp
    config: Json = {
        "ociVersion": "1.3.0",
        "process": _process(image, request, facts, user, capabilities, security, hostname, warnings),
        "root": {"path": request.rootfs or "rootfs", **({"readonly": True} if request.read_only else {})},
        "mounts": _mounts(image, request, facts, sources, files or {}, spaces),
        "linux": linux,
    }
    if any(space["type"] == "uts" and "path" not in space for space in spaces):
        config["hostname"] = hostname
        if request.domainname:
            config["domainname"] = request.domainname
    if request.annotations:
        config["annotations"] = dict(request.annotations)
    return Composition(config, warnings)


def cgroup_path(request: ContainerRequest, id: str) -> str:
    """A cgroup of the container's own, without a common parent that would be left behind."""
    return f"{request.cgroup_parent.rstrip('/')}/masu-{id}"


class Security:
    """The sum of `--security-opt`; raises InvalidArgument for what is not known."""

    __slots__ = ("all_paths", "no_new_privileges", "seccomp")

    _known = ("seccomp", "no-new-privileges", "apparmor", "label", "systempaths")

    def __init__(self, request: ContainerRequest) -> None:
        self.seccomp = "default"
        self.no_new_privileges = False
        self.all_paths = False
        for option in request.security_opt:
            key, value = _split_option(option)
            if key == "no-new-privileges":
                if value not in ("", "true", "false"):
                    raise self._bad(option, "want true or false")
                self.no_new_privileges = value != "false"
            elif key == "seccomp":
                self.seccomp = "default" if value in ("default", "builtin") else value
            elif key == "systempaths":
                if value != "unconfined":
                    raise self._bad(option, 'want "unconfined"')
                self.all_paths = True
            elif key == "label":
                if value != "disable":
                    raise Unimplemented(
                        "security option", option, where="--security-opt", detail="no SELinux labelling"
                    )
            elif key == "apparmor":
                if value != "unconfined":
                    raise Unimplemented(
                        "security option", option, where="--security-opt", detail="no AppArmor profiles"
                    )
            else:
                raise self._bad(
                    option, "unknown option", closest(key, self._known) or "options: " + ", ".join(self._known)
                )

    def _bad(self, option: str, why: str, hint: str = "") -> InvalidArgument:
        return InvalidArgument("security option", option, where="--security-opt", detail=why, hint=hint)


def _split_option(option: str) -> tuple[str, str]:
    # Docker takes both key=value and the older key:value
    for separator in ("=", ":"):
        key, found, value = option.partition(separator)
        if found:
            return key, value
    return option, ""


# --- process ---


def arguments(image: ImageDefaults, request: ContainerRequest) -> list[str]:
    """Entrypoint and command: the user's entry point also discards the image's command (Docker's rule)."""
    entrypoint = image.entrypoint if request.entrypoint is None else [word for word in request.entrypoint if word]
    command = request.command
    if not command and request.entrypoint is None:
        command = image.cmd
    args = [*entrypoint, *command]
    if not args:
        raise InvalidArgument(
            "command", where="COMMAND", detail="none given, and the image names neither Entrypoint nor Cmd"
        )
    if not args[0]:
        raise InvalidArgument("command", where="COMMAND", detail="the program's name is empty")
    return args


def environment(image: ImageDefaults, request: ContainerRequest, hostname: str, home: str) -> list[str]:
    """Docker's order: PATH, HOSTNAME, TERM, then the image's and the user's; a later value takes the earlier's place.

    `NAME` alone in the request takes a variable away.
    """
    base = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={hostname}"]
    if request.tty:
        base.append("TERM=xterm")
    values: dict[str, str] = {}
    for item in (*base, *image.env, *request.env):
        name, equals, value = item.partition("=")
        if equals:
            values[name] = value
        elif name in values:
            del values[name]
    if "HOME" not in values and "HOME" not in request.env:
        values["HOME"] = home
    return [f"{name}={value}" for name, value in values.items()]


def _process(
    image: ImageDefaults,
    request: ContainerRequest,
    facts: Facts,
    user: User,
    capabilities: tuple[str, ...],
    security: Security,
    hostname: str,
    warnings: list[str],
) -> Json:
    cwd = request.workdir or image.workdir or "/"
    if not cwd.startswith("/"):
        # an image may say `WORKDIR app`; builders make it absolute, hand-made configs do not
        cwd = "/" + cwd
    # As execve would give them: a user who is not root gets none but the bound (capabilities(7)); the inheritable set
    # stays empty (CVE-2022-24769).
    held = list(capabilities) if user.uid == 0 else []
    process: Json = {
        "terminal": request.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)},
        "args": arguments(image, request),
        "env": environment(image, request, hostname, user.home),
        "cwd": posixpath.normpath(cwd),
        "capabilities": {"bounding": list(capabilities), "effective": held, "permitted": held},
    }
    if security.no_new_privileges:
        process["noNewPrivileges"] = True
    rlimits = limits.rlimits(request, facts, warnings)
    if rlimits:
        process["rlimits"] = rlimits
    score = request.oom_score_adj
    if score is not None:
        if not -1000 <= score <= 1000:
            raise InvalidArgument(
                "oom score adjustment", score, where="--oom-score-adj", detail="range is -1000 to 1000"
            )
        if facts.oom_score_adj is not None and score < facts.oom_score_adj:
            warnings.append(
                f"--oom-score-adj {score}: lowering it needs CAP_SYS_RESOURCE, which this process lacks; "
                f"{facts.oom_score_adj} is used"
            )
            score = facts.oom_score_adj
        process["oomScoreAdj"] = score
    return process


def _capabilities(request: ContainerRequest, facts: Facts, warnings: list[str]) -> tuple[str, ...]:
    from masu.linux.capabilities import NUMBERS

    add = _capability_names(request.cap_add, "--cap-add", NUMBERS)
    drop = _capability_names(request.cap_drop, "--cap-drop", NUMBERS)
    everything = request.privileged or "ALL" in add
    if everything:
        wanted = list(facts.capabilities)
    elif "ALL" in drop:
        wanted = []
    else:
        wanted = list(DEFAULT_CAPABILITIES)
    if not request.privileged:
        wanted = [name for name in wanted if name not in drop]
    wanted += [name for name in add if name not in wanted and name != "ALL"]
    missing = [name for name in wanted if name not in facts.capabilities]
    named = [name for name in missing if name in add]
    if named:
        warnings.append(f"--cap-add {', '.join(named)}: this process itself lacks it; the container runs without")
    return tuple(name for name in wanted if name not in missing)


def _capability_names(names: list[str], where: str, known: Mapping[str, int]) -> list[str]:
    out = []
    for name in names:
        upper = name.upper()
        if upper in ("ALL", "CAP_ALL"):
            out.append("ALL")
            continue
        full = upper if upper.startswith("CAP_") else "CAP_" + upper
        if full not in known:
            raise InvalidArgument("capability", name, where=where, detail="unknown", hint=closest(full, list(known)))
        out.append(full)
    return out


# --- namespaces, names, mounts ---


def network_of(request: ContainerRequest) -> str:
    """The network mode with the default filled in."""
    network = request.network or DEFAULT_NETWORK
    return DEFAULT_NETWORK if network == "default" else network


def _namespaces(request: ContainerRequest, facts: Facts, paths: Mapping[str, str]) -> list[Json]:
    network = network_of(request)
    if network not in NETWORKS and not network.startswith(("container:", "ns:")):
        if network == "bridge":
            raise Unimplemented(
                "network", network, where="--network", detail="there are no bridges yet", hint="host or none"
            )
        raise InvalidArgument(
            "network", network, where="--network", detail="no such network",
            hint=closest(network, NETWORKS) or "networks: host, none, container:NAME, ns:PATH",
        )  # fmt: skip
    modes = {
        "network": network,
        "pid": request.pid,
        "ipc": request.ipc,
        "uts": request.uts,
        "cgroup": request.cgroupns or ("private" if facts.cgroup_mode == "v2" and not request.privileged else "host"),
    }
    allowed = {
        "network": ("host", "none", "container:", "ns:"),
        "pid": ("", "private", "host", "container:"),
        "ipc": ("", "private", "shareable", "none", "host", "container:"),
        "uts": ("", "private", "host"),
        "cgroup": ("private", "host"),
    }
    out: list[Json] = [{"type": "mount"}]
    for kind, mode in modes.items():
        word, colon, rest = mode.partition(":")
        if word + colon not in allowed[kind] or (colon and not rest):
            flag = "--cgroupns" if kind == "cgroup" else f"--{kind}"
            choices = ", ".join(word for word in allowed[kind] if word)
            raise InvalidArgument(f"{kind} mode", mode, where=flag, detail=f"want one of {choices}")
        if word == "host":
            continue
        if colon:
            path = rest if word == "ns" else paths.get(kind, "")
            if not path.startswith("/"):
                raise FailedPrecondition("container", rest, where=f"--{kind}", detail="is not running")
            out.append({"type": kind, "path": path})
        else:
            out.append({"type": kind})
    return out


def _hostname(request: ContainerRequest, facts: Facts, id: str) -> str:
    if request.hostname:
        if request.uts == "host":
            raise InvalidArgument("host name", request.hostname, where="--hostname", detail="conflicts with --uts host")
        return request.hostname
    return facts.hostname if network_of(request) == "host" or request.uts == "host" else id[:12]


def all_mounts(image: ImageDefaults, request: ContainerRequest) -> list[MountRequest]:
    """The mounts asked for, then a nameless volume for every VOLUME of the image that none of them replaces."""
    out: dict[str, MountRequest] = {}
    for mount in request.mounts:
        if mount.target in out:
            raise InvalidArgument("mount target", mount.target, where="--mount", detail="duplicate mount point")
        out[mount.target] = mount
    for volume in image.volumes:
        target = posixpath.normpath(posixpath.join("/", volume))
        target = target[1:] if target.startswith("//") else target
        # What an image may ask for is an empty directory of its own: never /, never the places masu fills itself.
        if target == "/" or target in ("/proc", "/sys", "/dev") or target.startswith(("/proc/", "/sys/", "/dev/")):
            continue
        if target not in out:
            out[target] = MountRequest(kind="volume", target=target, anonymous=True, from_image=True)
    return list(out.values())


def _mounts(
    image: ImageDefaults,
    request: ContainerRequest,
    facts: Facts,
    sources: Mapping[str, str],
    files: Mapping[str, str],
    spaces: list[Json],
) -> list[Json]:
    asked = all_mounts(image, request)
    taken = {mount.target for mount in asked}
    kinds = {str(space["type"]) for space in spaces}
    writable = ["rw"] if request.privileged else ["ro"]
    defaults: list[Json] = [
        _mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
    ]
    if "network" in kinds:
        defaults.append(_mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", *writable]))
    else:
        # sysfs shows the network namespace it was mounted in, and the host's is not ours to show rewritable
        defaults.append(_mount("/sys", "bind", "/sys", ["rbind", "nosuid", "noexec", "nodev", *writable]))
    defaults.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", *writable]))
    if "ipc" in kinds:
        defaults.append(_mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]))
        if request.ipc != "none":
            size = request.shm_bytes or DEFAULT_SHM_BYTES
            options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={size}"]
            defaults.append(_mount("/dev/shm", "tmpfs", "shm", options))
    else:
        defaults.append(_mount("/dev/mqueue", "bind", "/dev/mqueue", ["rbind", "nosuid", "noexec", "nodev"]))
        defaults.append(_mount("/dev/shm", "bind", "/dev/shm", ["rbind", "nosuid", "noexec", "nodev"]))
    out = [mount for mount in defaults if mount["destination"] not in taken]
    for target, source in files.items():
        if target not in taken:
            options = ["rbind", "rprivate", *(["ro"] if request.read_only else [])]
            out.append(_mount(target, "bind", source, options))
    # The shallow ones first, or a mount on /a would hide what was mounted on /a/b.
    for mount in sorted(asked, key=lambda mount: (mount.target.count("/"), mount.target)):
        out.append(_asked_mount(mount, sources))
    return out


def _mount(target: str, kind: str, source: str, options: list[str]) -> Json:
    return {"destination": target, "type": kind, "source": source, "options": options}


def _asked_mount(mount: MountRequest, sources: Mapping[str, str]) -> Json:
    if mount.kind == "tmpfs":
        given = ["nosuid", "nodev", "noexec", *mount.options]
        for word in mount.options:
            # the last word wins in the kernel's flags, but not every reader of config.json knows that
            opposite = word[2:] if word.startswith("no") else "no" + word
            if opposite in given:
                given.remove(opposite)
        if mount.size_bytes:
            given.append(f"size={mount.size_bytes}")
        if mount.mode:
            given.append(f"mode={mount.mode}")
        if mount.readonly and "ro" not in given:
            given.append("ro")
        return _mount(mount.target, "tmpfs", "tmpfs", given)
    options = ["bind" if mount.recursive == "disabled" else "rbind", mount.propagation or "rprivate"]
    if mount.readonly:
        # rro reaches the mounts below the source as well (mount_setattr(2), Linux 5.12); "ro" is the top one only
        options.append("rro" if mount.recursive in ("", "readonly") and mount.kind == "bind" else "ro")
    return _mount(mount.target, "bind", sources[mount.target], options)


def _check_sysctls(request: ContainerRequest, sysctls: Mapping[str, str], kinds: set[str]) -> None:
    ipc = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
           "kernel.shmmni", "kernel.shm_rmid_forced")  # fmt: skip
    for name in sysctls:
        need = "network" if name.startswith("net.") else "ipc" if name in ipc or name.startswith("fs.mqueue.") else ""
        if name in ("kernel.hostname", "kernel.domainname"):
            raise InvalidArgument("sysctl", name, where="--sysctl", hint="--hostname and --domainname set it")
        if not need:
            raise InvalidArgument(
                "sysctl", name, where="--sysctl", detail="it is the whole machine's; only net.*, fs.mqueue.* and the "
                "System V IPC ones belong to a container",
            )  # fmt: skip
        if need not in kinds:
            raise InvalidArgument(
                "sysctl", name, where="--sysctl", detail=f"not allowed with the host's {need} namespace"
            )
