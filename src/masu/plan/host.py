"""What the builder is told: facts about the machine, and what the caller wants beyond config.json.

The builder is pure: `runtime` gathers these values on a real machine, a test writes them down.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.plan.ops import Op

_CAP_SYS_ADMIN = 21


class Host:
    """Facts about the machine and the calling process.

    `cgroup_mode` is "v1", "hybrid", "v2" or "none"; `cgroup_mounts` lists (mount point, controllers) of the v1
    hierarchies, with controllers as in the mount's options ("cpu,cpuacct", "name=systemd"), `own_cgroups` the calling
    process's own directory below each of these mount points. `links` says where those sources of binds lead that are
    symlinks to be copied. `rlimits` are the calling
    process's own, RLIMIT_* -> (soft, hard); what is not there counts as high enough. `fully_mapped`: the user
    namespace has every id, as the first one has and a guest's or a nested one may. `rootless`: permission for cgroups
    is not to be expected, which is what runc's `--rootless auto` means. `apparmor` and `selinux` say whether these
    are on.
    """

    __slots__ = (
        "apparmor",
        "bounding",
        "capabilities",
        "cgroup_mode",
        "cgroup_mounts",
        "in_initial_userns",
        "last_cap",
        "links",
        "own_cgroups",
        "rlimits",
        "rootless",
        "selinux",
        "uid",
    )

    def __init__(
        self,
        *,
        uid: int = 0,
        capabilities: int = (1 << 41) - 1,
        bounding: int = (1 << 41) - 1,
        last_cap: int = 40,
        in_initial_userns: bool = True,
        fully_mapped: bool = True,
        cgroup_mode: str = "v2",
        cgroup_mounts: tuple[tuple[str, str], ...] = (),
        own_cgroups: dict[str, str] | None = None,
        links: dict[str, str] | None = None,
        rlimits: dict[int, tuple[int, int]] | None = None,
        apparmor: bool = True,
        selinux: bool = True,
    ) -> None:
        self.uid = uid
        self.capabilities = capabilities
        self.bounding = bounding
        self.last_cap = last_cap
        self.in_initial_userns = in_initial_userns
        self.rootless = uid != 0 or not fully_mapped
        self.cgroup_mode = cgroup_mode
        self.cgroup_mounts = cgroup_mounts
        self.own_cgroups = own_cgroups or {}
        self.links = links or {}
        self.rlimits = rlimits or {}
        self.apparmor = apparmor
        self.selinux = selinux

    @property
    def rules_mounts(self) -> bool:
        """Whether mounts can be cloned and namespaces joined here, without a user namespace of one's own."""
        return bool(self.capabilities >> _CAP_SYS_ADMIN & 1)


class Rootfs:
    """Where the container's root comes from: a directory of the host, or a file system made for it.

    `mount` is (type, source, options) in the words of mount(8), as snapshotters give it; with it `path` is
    only a name for messages.
    """

    __slots__ = ("mount", "path")

    def __init__(self, path: str, mount: tuple[str, str, tuple[str, ...]] | None = None) -> None:
        self.path = path
        self.mount = mount


class Seccomp:
    """A compiled filter: struct sock_filter[], SECCOMP_FILTER_FLAG_*, whether a listener is wanted."""

    __slots__ = ("flags", "notify", "program")

    def __init__(self, program: bytes, flags: int = 0, *, notify: bool = False) -> None:
        self.program = program
        self.flags = flags
        self.notify = notify


class Wishes:
    """What the caller wants beyond config.json.

    `cgroup_paths` maps controller (or "" for v2) to the container's directories, already made; `join_files` are
    the files the container's first process writes "0" to; `cgroup_dir` is the v2 directory it is cloned into. With
    `brought` it is neither: the host has the stage moved into the cgroup before it enters any namespace.
    `resctrl_files` are as `join_files`, of its resctrl groups.
    `home` is HOME as the image's passwd has it, used when the environment lacks one. `fifo` is the path
    behind `start`; without it the program runs as soon as the host agrees. `console_fd` is a connected socket for the
    pty's master; `monitor` the operation that makes masu-launch stay. `keep_groups` leaves the supplementary groups as
    they are; `hooks_stdout` and `hooks_stderr` are files, there already, that the container's own hooks append to.
    """

    __slots__ = (
        "brought",
        "cgroup_dir",
        "cgroup_paths",
        "console_fd",
        "fifo",
        "home",
        "hooks_stderr",
        "hooks_stdout",
        "init",
        "join_files",
        "keep_groups",
        "keyring",
        "monitor",
        "no_pivot",
        "preserve_fds",
        "resctrl_files",
        "seccomp",
    )

    def __init__(
        self,
        *,
        cgroup_paths: dict[str, str] | None = None,
        join_files: tuple[str, ...] = (),
        cgroup_dir: str = "",
        seccomp: Seccomp | None = None,
        home: str = "",
        fifo: str = "",
        console_fd: int | None = None,
        preserve_fds: int = 0,
        no_pivot: bool = False,
        keyring: str = "",
        init: bool = False,
        monitor: Op | None = None,
        keep_groups: bool = False,
        hooks_stdout: str = "",
        hooks_stderr: str = "",
        brought: bool = False,
        resctrl_files: tuple[str, ...] = (),
    ) -> None:
        self.brought = brought
        self.resctrl_files = resctrl_files
        self.cgroup_paths = cgroup_paths or {}
        self.join_files = join_files
        self.cgroup_dir = cgroup_dir
        self.seccomp = seccomp
        self.home = home
        self.fifo = fifo
        self.console_fd = console_fd
        self.preserve_fds = preserve_fds
        self.no_pivot = no_pivot
        self.keyring = keyring
        self.init = init
        self.monitor = monitor
        self.keep_groups = keep_groups
        self.hooks_stdout = hooks_stdout
        self.hooks_stderr = hooks_stderr
