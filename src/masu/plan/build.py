"""config.json -> plan.

The order is the heart of it. On the host: every path is opened and every tree cloned, then the cgroups are
joined, then namespaces: those joined by path, the user namespace, time, and `clone` for the rest. In the
container: mounts, devices, hooks, the new root, what is hidden, the limits, the user, the program.

Rules that were found by trying are told beside the line that follows them.
"""

from __future__ import annotations

from os import O_APPEND, O_CLOEXEC, O_DIRECTORY, O_NOCTTY, O_PATH, O_RDONLY, O_WRONLY

from masu.errors import InvalidArgument
from masu.linux import namespaces
from masu.plan import labels, mounts, process
from masu.plan.draft import Draft
from masu.plan.host import Host, Rootfs, Wishes
from masu.plan.ops import NONE, Op
from masu.spec.fields import key_path
from masu.spec.runtime import sysctl_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import Config, Hook, LinuxIDMapping, Process

_NEWUSER = namespaces.FLAGS["user"]
_NEWTIME = namespaces.FLAGS["time"]
_NEWNS = namespaces.FLAGS["mount"]
_NEWCGROUP = namespaces.FLAGS["cgroup"]
_NEWNET = namespaces.FLAGS["network"]

SYNC_CGROUP = "cgroup"
SYNC_MAP = "map"
SYNC_NETWORK = "network"
SYNC_RUNTIME_HOOKS = "createRuntime"
SYNC_CRIU = "criu"
SYNC_MEMORY = "memory"  # of another runtime's process: the directory of its memory cgroup is the answer


def build(config: Config, rootfs: Rootfs, host: Host, wishes: Wishes, warnings: list[str] | None = None) -> list[Op]:
    """The plan of a container's birth. Needs no root and does nothing.

    Raises InvalidArgument or Unimplemented with the JSON path of what cannot be. Adds to `warnings` what is
    accepted but not honoured in full.
    """
    if config.process is None:
        raise InvalidArgument("config.json", where="process", detail="there is no process to run")
    spaces = Spaces(config, host)
    draft = Draft(trees_late=spaces.trees_late)
    around = process.ProcessPlan(
        "process",
        mapped=spaces.mapped,
        dumpable=spaces.mapped and not host.rules_mounts,
        keep_groups=spaces.mapped or not host.in_initial_userns,
        warnings=[] if warnings is None else warnings,
        new_mount_namespace=spaces.new_mount,
        personality=config.linux.personality.domain if config.linux.personality else "",
        memory_policy=config.linux.memory_policy,
    )
    if wishes.monitor is not None:
        draft.prepare.append(wishes.monitor)
    process.add_outside(draft, config.process, host, around)
    _add_group_joins(draft, wishes)
    spaces.add(draft, wishes)
    process.add_affinity(draft, config.process, "process")
    if _needs_procfs(config):
        draft.inside.append(Op("procfs"))
    if wishes.keyring:
        draft.inside += labels.of_keyring(config.process, host, "process")
        draft.inside.append(Op("keyring", name=wishes.keyring))
    if config.linux.net_devices:
        draft.inside.append(Op("sync", "linux.netDevices", name=SYNC_NETWORK))
    if spaces.new_mount:
        _add_root(draft, config, rootfs, host, wishes, spaces, around)
    else:
        # Nothing is mounted where it would outlast the container. In a joined namespace that does not have root.path,
        # as that of another container, the root is the namespace's own.
        if config.mounts:
            around.warnings.append("mounts: not made, for the mount namespace is not the container's own")
        _add_hooks_before_pivot(draft, config, wishes, around)
        # The terminal is the host's: there is no other devpts.
        process.add_console(draft, config.process, wishes, around)
        joined = any(kind == "mount" for kind, _, _ in spaces.joined)
        draft.inside.append(Op("enter_root", "root.path", path=rootfs.path, optional=int(joined)))
    _add_names_and_sysctls(draft, config)
    if spaces.new_mount:
        mounts.add_hidden(draft, config)
    process.add_identity(draft, config.process, host, wishes, around)
    _, execute = process.add_program(draft, config.process, wishes, around)
    if config.hooks is not None:
        env = execute.fields["env"]
        assert isinstance(env, tuple)
        _add_hooks(draft, config.hooks.start_container, "hooks.startContainer", wishes, env)
    if wishes.init:
        draft.inside.append(Op("init"))
    draft.inside.append(execute)
    return draft.ops()


def build_exec(
    spec: Process,
    host: Host,
    wishes: Wishes,
    *,
    pidfd: int,
    join: int,
    mapped: bool,
    config: Config | None = None,
    warnings: list[str] | None = None,
    where: str = "process",
) -> list[Op]:
    """The plan of one more process in a running container, whose first process `pidfd` refers to and whose
    configuration is `config`.

    `join` is the mask of CLONE_NEW* namespaces that differ from the caller's.
    """
    draft = Draft()
    around = process.ProcessPlan(
        where,
        mapped=mapped,
        keep_groups=mapped or not host.in_initial_userns,
        warnings=[] if warnings is None else warnings,
        told=bool(config and config.process and config.process.capabilities == spec.capabilities),
        new_mount_namespace=False,
        personality=config.linux.personality.domain if config and config.linux.personality else "",
        memory_policy=config.linux.memory_policy if config else None,
    )
    if wishes.monitor is not None:
        draft.prepare.append(wishes.monitor)
    process.add_outside(draft, spec, host, around)
    process.add_exec_affinity(draft, spec, where)
    _add_group_joins(draft, wishes)
    cgroup = _cgroup_slot(draft, wishes)
    late = join & _NEWCGROUP if cgroup != NONE else 0
    slot = _join_container(draft, pidfd, join, late=late, mapped=mapped, config=config)
    draft.cross.append(Op("clone", flags=0, cgroup=cgroup))
    draft.inside.append(Op("setsid"))
    if late:
        # From within it nobody can be cloned into what it shows where cgroup2 is mounted with nsdelegate: ENOENT, for
        # the cloner is outside of it (cgroups(7), "Delegation containment"). systemd mounts it so.
        draft.inside.append(Op("setns", slot=slot, nstype=late))
    process.add_affinity(draft, spec, where, one_more=True)
    if spec.apparmor_profile or spec.selinux_label:
        draft.inside.append(Op("procfs"))
    if wishes.keyring:
        draft.inside += labels.of_keyring(spec, host, where)
        draft.inside.append(Op("keyring", name=wishes.keyring))
    process.add_console(draft, spec, wishes, around)
    process.add_identity(draft, spec, host, wishes, around)
    _, execute = process.add_program(draft, spec, wishes, around)
    draft.inside.append(execute)
    return draft.ops()


def build_mounts(
    config: Config, host: Host, wishes: Wishes, warnings: list[str], *, pidfd: int, join: int, mapped: bool
) -> list[Op]:
    """The plan that adds `config.mounts` to a running container, which the other arguments tell of as in
    `build_exec`. Raises InvalidArgument or Unimplemented with the JSON path."""
    draft = Draft(trees_late=mapped and not host.rules_mounts)
    _join_container(draft, pidfd, join, mapped=mapped)
    draft.cross.append(Op("clone", flags=0, cgroup=NONE))
    mounts.add_mounts(draft, config, "/", host, wishes, warnings, mapped=mapped, user_slot=NONE)
    draft.inside.append(Op("ready"))
    return draft.ops()


def build_unmounts(config: Config, *, pidfd: int, join: int, mapped: bool) -> list[Op]:
    """The plan that takes the destinations of `config.mounts` away again, the last one first."""
    draft = Draft()
    _join_container(draft, pidfd, join, mapped=mapped)
    draft.cross.append(Op("clone", flags=0, cgroup=NONE))
    for index in reversed(range(len(config.mounts))):
        target = mounts.clean(config.mounts[index].destination)
        draft.inside.append(Op("umount", f"mounts[{index}].destination", target=target))
    draft.inside.append(Op("ready"))
    return draft.ops()


def _join_container(
    draft: Draft, pidfd: int, join: int, *, late: int = 0, mapped: bool, config: Config | None = None
) -> int:
    """Into the namespaces `join` but for `late` ones; returns the pidfd's slot."""
    if not join:
        return NONE
    slot = draft.slot()
    draft.prepare.append(Op("adopt", slot=slot, fd=pidfd))
    now = join & ~late
    if draft.trees_late:
        # Trees of the host are cloned with the power that the user namespace gives, before its mounts are left behind.
        draft.enter.append(Op("setns", slot=slot, nstype=_NEWUSER))
        draft.cross.append(Op("setns", slot=slot, nstype=now & ~_NEWUSER))
    elif now:
        # One call joins all of them, user namespace included, in the kernel's own order (setns(2), Linux 5.8).
        draft.enter.append(Op("setns", slot=slot, nstype=now))
    if mapped:
        draft.cross.append(_become("", config))
    return slot


class Spaces:
    """The namespaces of a config: which are joined by path, which are made."""

    __slots__ = ("config", "host", "joined", "made", "mapped", "new_mount", "slots", "trees_late")

    def __init__(self, config: Config, host: Host) -> None:
        self.config = config
        self.host = host
        self.joined: list[tuple[str, str, str]] = []  # (type, path, where)
        self.slots: dict[str, int] = {}  # where `add` has opened them
        self.made = 0
        for index, space in enumerate(config.linux.namespaces):
            if space.path:
                self.joined.append((space.type, space.path, f"linux.namespaces[{index}].path"))
            else:
                self.made |= namespaces.FLAGS[space.type]
        self.mapped = bool(self.made & _NEWUSER) or any(kind == "user" for kind, _, _ in self.joined)
        self.new_mount = bool(self.made & _NEWNS)
        self.trees_late = self.new_mount and self.mapped and not host.rules_mounts

    def add(self, draft: Draft, wishes: Wishes) -> None:
        slots = self.slots
        for kind, path, where in self.joined:
            slots[kind] = draft.slot()
            draft.prepare.append(Op("open", where, slot=slots[kind], path=path, flags=O_RDONLY | O_CLOEXEC))
        cgroup = _cgroup_slot(draft, wishes)
        # With power over the host we join before the user namespace, for the host's namespaces are not the new user
        # namespace's to join; without it only the user namespace gives the right to join the rest
        # (setns(2), user_namespaces(7)).
        late = [item for item in self.joined if item[0] == "cgroup" and cgroup != NONE]
        others = [item for item in self.joined if item[0] != "user" and item not in late]
        # /proc/self/timens_offsets belongs to the host's root, so it too is written before the mapping if it can.
        if self.host.rules_mounts:
            self._add_time(draft)
            self._join(draft, others, slots)
            self._add_user(draft, slots)
        else:
            self._add_user(draft, slots)
            self._join(draft, others, slots)
            self._add_time(draft)
        late_cgroup = self.made & _NEWCGROUP and cgroup != NONE
        flags = self.made & ~(_NEWUSER | _NEWTIME)
        if late_cgroup:
            flags &= ~_NEWCGROUP
        if self.trees_late:
            flags &= ~_NEWNS  # made already
        if self.mapped:
            draft.cross.append(_become("linux.uidMappings", self.config))
        draft.cross.append(Op("clone", "linux.namespaces", flags=flags, cgroup=cgroup))
        draft.inside.append(Op("setsid"))
        if late_cgroup:
            # clone3 takes the caller's cgroup as the root of the new namespace, not the one it clones into.
            draft.inside.append(Op("unshare", "linux.namespaces", flags=_NEWCGROUP))
        for kind, _, where in late:
            # The same with nsdelegate: see `build_exec`.
            draft.inside.append(Op("setns", where, slot=slots[kind], nstype=namespaces.FLAGS[kind]))
        if self.made & _NEWNET:
            draft.inside.append(Op("loopback", "linux.namespaces"))

    def _join(self, draft: Draft, which: list[tuple[str, str, str]], slots: dict[str, int]) -> None:
        # The mount namespace last: afterwards no path of the host can be opened.
        for kind, _, where in sorted(which, key=lambda item: item[0] == "mount"):
            draft.enter.append(Op("setns", where, slot=slots[kind], nstype=namespaces.FLAGS[kind]))

    def _add_user(self, draft: Draft, slots: dict[str, int]) -> None:
        if "user" in slots:
            where = next(where for kind, _, where in self.joined if kind == "user")
            draft.enter.append(Op("setns", where, slot=slots["user"], nstype=_NEWUSER))
        elif self.made & _NEWUSER:
            draft.enter.append(Op("unshare", "linux.namespaces", flags=_NEWUSER))
            draft.enter.append(Op("sync", "linux.uidMappings", name=SYNC_MAP))

    def _add_time(self, draft: Draft) -> None:
        # unshare, offsets, then clone: after clone3(CLONE_NEWTIME) the file refuses to be written.
        if not self.made & _NEWTIME:
            return
        draft.enter.append(Op("unshare", "linux.namespaces", flags=_NEWTIME))
        lines = [
            f"{clock} {offset.secs or 0} {offset.nanosecs or 0}\n"
            for clock, offset in self.config.linux.time_offsets.items()
        ]
        if lines:
            data = "".join(lines).encode()
            draft.enter.append(Op("write", "linux.timeOffsets", path="/proc/self/timens_offsets", data=data))


def _become(where: str, config: Config | None) -> Op:
    """To the container's root, or, where it has none, to the first that it has; our own id alone may be mapped."""

    def first(mappings: tuple[LinuxIDMapping, ...]) -> int:
        return min((item.container_id for item in mappings), default=0)

    linux = config.linux if config is not None else None
    uid, gid = (first(linux.uid_mappings), first(linux.gid_mappings)) if linux is not None else (0, 0)
    return Op("become", where, uid=uid, gid=gid)


def _add_group_joins(draft: Draft, wishes: Wishes) -> None:
    for path in wishes.join_files:
        draft.prepare.append(Op("write", "linux.cgroupsPath", path=path, data=b"0"))
    if wishes.brought:
        draft.prepare.append(Op("sync", "linux.cgroupsPath", name=SYNC_CGROUP))
    for path in wishes.resctrl_files:
        draft.prepare.append(Op("write", "linux.intelRdt", path=path, data=b"0"))


def _cgroup_slot(draft: Draft, wishes: Wishes) -> int:
    if not wishes.cgroup_dir:
        return NONE
    slot = draft.slot()
    flags = O_PATH | O_DIRECTORY | O_CLOEXEC
    draft.prepare.append(Op("open", "linux.cgroupsPath", slot=slot, path=wishes.cgroup_dir, flags=flags))
    return slot


def _needs_procfs(config: Config) -> bool:
    assert config.process is not None
    return bool(config.linux.sysctl or config.process.apparmor_profile or config.process.selinux_label)


def _add_root(
    draft: Draft,
    config: Config,
    rootfs: Rootfs,
    host: Host,
    wishes: Wishes,
    spaces: Spaces,
    around: process.ProcessPlan,
) -> None:
    assert config.process is not None
    # Hooks join the mount namespace (setns(2) takes them to what lies over its "/") and use the host's path of the
    # root file system, as they may with runc. A mapped root could perhaps not walk to that path.
    seen_by_hooks = _has_early_hooks(config) and not spaces.mapped and not wishes.no_pivot
    mounts.add_root(draft, config, rootfs, at_its_path=seen_by_hooks)
    user = spaces.slots.get("user", NONE)
    mounts.add_mounts(draft, config, rootfs.path, host, wishes, around.warnings, mapped=spaces.mapped, user_slot=user)
    mounts.add_devices(draft, config, mapped=spaces.mapped or not host.in_initial_userns)
    _add_hooks_before_pivot(draft, config, wishes, around)
    draft.inside.append(Op("chroot" if wishes.no_pivot else "pivot_root", "root.path"))
    process.add_console(draft, config.process, wishes, around)
    mounts.add_finish(draft, config)


def _add_hooks_before_pivot(draft: Draft, config: Config, wishes: Wishes, around: process.ProcessPlan) -> None:
    """createRuntime (and prestart) hooks are the host's to run, in its own namespaces; createContainer hooks run
    here, in the container's, with paths of the host (config.md, "POSIX-platform Hooks")."""
    hooks = config.hooks
    if hooks is None or not (_has_early_hooks(config) or hooks.start_container):
        return
    if around.dumpable:
        draft.inside.append(Op("dumpable"))
    draft.inside.append(Op("sync", "hooks", name=SYNC_RUNTIME_HOOKS))
    _add_hooks(draft, hooks.create_container, "hooks.createContainer", wishes)


def _has_early_hooks(config: Config) -> bool:
    """Hooks that run while the root file system has been mounted but not entered."""
    hooks = config.hooks
    return hooks is not None and bool(hooks.prestart or hooks.create_runtime or hooks.create_container)


def _add_hooks(
    draft: Draft, hooks: tuple[Hook, ...], where: str, wishes: Wishes, env: tuple[str, ...] = ()
) -> None:
    """`env` is what hooks without an environment get: that of the program, for those which run where it will."""
    if not hooks:
        return
    streams = [NONE, NONE]
    for index, path in enumerate((wishes.hooks_stdout, wishes.hooks_stderr)):
        if path:
            streams[index] = draft.slot()
            draft.prepare.append(
                Op("open", where, slot=streams[index], path=path, flags=O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC)
            )
    for index, hook in enumerate(hooks):
        draft.inside.append(
            Op(
                "hook",
                f"{where}[{index}]",
                path=hook.path,
                args=hook.args or (hook.path,),
                env=hook.env or env,
                timeout_ms=(hook.timeout or 0) * 1000,
                stdout_slot=streams[0],
                stderr_slot=streams[1],
            )
        )


def _add_names_and_sysctls(draft: Draft, config: Config) -> None:
    if config.hostname:
        draft.inside.append(Op("hostname", "hostname", name=config.hostname))
    if config.domainname:
        draft.inside.append(Op("domainname", "domainname", name=config.domainname))
    for key, value in config.linux.sysctl.items():
        where = key_path("linux.sysctl", key)
        path = "sys/" + sysctl_path(key, where)
        draft.inside.append(Op("proc_write", where, path=path, data=value.encode()))
