"""The root file system: its tree, the mounts in it, devices, what is hidden and what is read-only.

Everything that comes from the host is taken as a detached tree (`open_tree`) before any namespace is entered,
and carried in by fd: a root that is mapped into a user namespace cannot walk through 0700 directories, and no
path of the host is resolved twice (CVE-2021-30465).
"""

from __future__ import annotations

from masu.errors import InvalidArgument, Unimplemented, closest
from masu.linux import mount as m
from masu.plan import labels
from masu.plan.draft import Draft
from masu.plan.host import Host, Rootfs, Wishes
from masu.plan.ops import (
    NONE,
    TARGET_COPY_UP,
    TARGET_IN_PROC,
    TARGET_MUST_BE_DIRECTORY,
    TARGET_NOFOLLOW,
    Op,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.linux.mount import MountOptions
    from masu.spec.runtime import Config, LinuxDevice, LinuxIDMapping, Mount

_AT_RECURSIVE = 0x8000
_PROPAGATION = {
    "private": m.MS_PRIVATE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED | m.MS_REC,
    "unbindable": m.MS_UNBINDABLE,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}

# What may be mounted over inside /proc (lxcfs gives these files; anything else could hide the kernel's answers
# from the runtime itself, CVE-2019-16884, CVE-2019-19921).
_ALLOWED_IN_PROC = frozenset(
    "/proc/" + name for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo")
) | {"/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled"}

# config-linux.md, "Default Devices".
_DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
)
# config-linux.md, "Dev symbolic links", and the two that every runtime adds.
_DEV_SYMLINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
# What is asked for there is the symlink to the container's own devpts: the host's node would give the host's terminals.
_PTMX = "/dev/ptmx"
_DEVICE_TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}


def add_root(draft: Draft, config: Config, rootfs: Rootfs, *, at_its_path: bool) -> None:
    """The root tree, detached on the host, attached as the first thing in the new mount namespace: over "/", or
    `at_its_path`, where hooks of the host that enter the namespace look for it."""
    propagation = _root_propagation(config)
    slot = draft.slot()
    where = "root.path"
    if rootfs.mount is None:
        flags = m.OPEN_TREE_CLONE | m.OPEN_TREE_CLOEXEC | _AT_RECURSIVE
        draft.trees.append(Op("open_tree", where, slot=slot, path=rootfs.path, flags=flags))
    else:
        add_root_file_system(draft, slot, rootfs, where)
    # Of a mount that the host shares the tree is a peer: what is mounted in the container would be mounted there, too.
    # Under a root that is to be shared, what lies below it stays one.
    shared = bool(propagation & m.MS_SHARED)
    kind = m.MS_PRIVATE if propagation & (m.MS_SHARED | m.MS_PRIVATE | m.MS_UNBINDABLE) else m.MS_SLAVE
    draft.trees.append(
        Op("mount_attr", where, slot=slot, set=0, clear=0, propagation=kind, recursive=int(not shared), userns=NONE)
    )
    # The parent of the root must not be shared, or pivot_root(2) refuses: under a shared root it alone becomes
    # private. An unbindable root can become so only when everything is in its place.
    where = "linux.rootfsPropagation"
    flags = m.MS_PRIVATE if propagation & m.MS_UNBINDABLE else propagation
    draft.inside.append(Op("root_propagation", where, flags=flags | m.MS_REC))
    if shared:
        draft.inside.append(Op("root_propagation", where, flags=m.MS_PRIVATE))
    # Under a root that becomes shared only "/" itself is made private.
    path = rootfs.path if at_its_path and rootfs.mount is None and not shared else ""
    draft.inside.append(Op("root_attach", "root.path", slot=slot, path=path))


def _root_propagation(config: Config) -> int:
    word = config.linux.rootfs_propagation
    return _PROPAGATION[word] if word else m.MS_SLAVE | m.MS_REC


def add_root_file_system(draft: Draft, slot: int, rootfs: Rootfs, where: str) -> None:
    assert rootfs.mount is not None
    kind, source, words = rootfs.mount
    options = m.parse_options(words, where)
    if options.bind:
        flags = m.OPEN_TREE_CLONE | m.OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if options.recursive else 0)
        draft.trees.append(Op("open_tree", where, slot=slot, path=source, flags=flags))
        if options.attr_set or options.attr_clr:
            draft.trees.append(_attributes(slot, options, where))
        return
    draft.trees.append(
        Op(
            "new_mount",
            where,
            slot=slot,
            fstype=kind,
            source=source or kind,
            options=_fs_options(options),
            attr=options.attr_set,
            cwd="",
        )
    )


def _fs_options(options: MountOptions) -> tuple[str, ...]:
    """Options for fsconfig, one each. Text longer than 255 bytes does not pass it, so overlay's lowerdir is
    given directory by directory (`lowerdir+`, Linux 6.5)."""
    words: list[str] = list(options.sb_options)
    for word in options.data:
        key, _, value = word.partition("=")
        if key == "lowerdir" and len(value) > 250:
            words += ["lowerdir+=" + directory for directory in m.split_lowerdir(value)]
        else:
            words.append(word)
    return tuple(words)


def _attributes(slot: int, options: MountOptions, where: str) -> Op:
    return Op(
        "mount_attr",
        where,
        slot=slot,
        set=options.attr_set,
        clear=options.attr_clr,
        propagation=0,
        recursive=0,
        userns=NONE,
    )


def add_mounts(
    draft: Draft,
    config: Config,
    rootfs: str,
    host: Host,
    wishes: Wishes,
    warnings: list[str],
    *,
    mapped: bool,
    user_slot: int,
) -> None:
    """`mounts`, in their order. A read-only /dev becomes so only in `add_finish`, for devices come first.

    `mapped`: the container has a user namespace; `user_slot` holds it when it is joined by path, else NONE.
    """
    label = labels.of_mounts(config, host)
    shared_root = bool(_root_propagation(config) & m.MS_SHARED)
    made: list[str] = []
    for index, entry in enumerate(config.mounts):
        where = f"mounts[{index}]"
        options = m.parse_options(entry.options, where + ".options")
        target = inside_root(entry.destination, rootfs)
        if target == "/":
            raise InvalidArgument(
                "mount destination",
                entry.destination,
                where=where + ".destination",
                detail="the root itself cannot be mounted over; use root.path",
            )
        kind = "bind" if options.bind else entry.type or ""
        _check_in_proc(target, kind, where)
        if kind == "bind":
            if options.data:
                ignored = ", ".join(options.data)
                warnings.append(f"{where}.options: {ignored}: bind mounts have no options of a file system; ignored")
            link = host.links.get(entry.source or "") if options.copy_symlink else None
            if link is not None:
                # Made anew, not followed (crun(1), "copy-symlink").
                draft.inside.append(Op("symlink", where, target=link, path=target, exact=1))
                continue
            userns = _idmap_slot(draft, config, entry, options, user_slot, where)
            inside = source_inside(entry.source or "", rootfs, made)
            _add_bind(
                draft, entry, options, target, userns, where, inside=inside, shared_root=shared_root, mapped=mapped
            )
        elif kind == "cgroup":
            from masu.plan.cgroup_mounts import add_cgroup  # by whose container has one; `masu ps` is not among them

            add_cgroup(draft, config, host, wishes, options, target, where, label=label)
        elif kind == "cgroup2" and host.cgroup_mode in ("v1", "hybrid", "none") and target == "/sys/fs/cgroup":
            raise Unimplemented(
                "mount",
                "cgroup2",
                where=where + ".type",
                detail=f"this machine runs cgroups in {host.cgroup_mode} mode",
                hint='use "cgroup"',
            )
        else:
            _add_file_system(draft, entry, options, kind, target, where, label=label)
        made.append(target)
        for flags in options.propagation:
            draft.inside.append(Op("propagation", where + ".options", target=target, flags=flags))


def source_inside(source: str, rootfs: str, made: list[str]) -> str:
    """The path in the root of a source that an earlier mount covers, "" for all others. Most callers' sources are the
    host's; but "bundle/rootfs/run/x" after a mount on /run means what is there by then, in runc as in mount(8)."""
    path = clean(source)
    if rootfs == "/" or not source.startswith("/") or not path.startswith(rootfs + "/"):
        return ""
    path = path[len(rootfs) :]
    return path if any(path == target or path.startswith(target + "/") for target in made) else ""


def inside_root(destination: str, rootfs: str) -> str:
    """The destination as the container sees it. Some callers write the whole path on the host, as old runtimes took
    it; runc still does."""
    target = clean(destination)
    return target[len(rootfs) :] if rootfs != "/" and target.startswith(rootfs + "/") else target


def clean(path: str) -> str:
    """An absolute path without `.`, `..` and doubled slashes, as it would be inside the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _check_in_proc(target: str, kind: str, where: str) -> None:
    if target.startswith("/proc/") and target not in _ALLOWED_IN_PROC:
        raise InvalidArgument(
            "mount destination",
            target,
            where=where + ".destination",
            detail=f'"{target}" cannot be mounted because it is inside /proc',
            hint="to hide a path use linux.maskedPaths",
        )
    if target == "/proc" and kind not in ("proc", "bind"):
        raise InvalidArgument(
            "mount destination", target, where=where + ".type", detail=f"only a procfs may be mounted there, not {kind}"
        )


def _target_flags(options: MountOptions, target: str) -> int:
    flags = TARGET_COPY_UP if options.tmpcopyup else 0
    if options.dest_nofollow:
        flags |= TARGET_NOFOLLOW
    if target in ("/proc", "/sys"):
        flags |= TARGET_MUST_BE_DIRECTORY
    if target in _ALLOWED_IN_PROC:
        flags |= TARGET_IN_PROC
    return flags


def _add_bind(
    draft: Draft,
    entry: Mount,
    options: MountOptions,
    target: str,
    userns: int,
    where: str,
    *,
    inside: str,
    shared_root: bool,
    mapped: bool,
) -> None:
    slot = draft.slot()
    if not entry.source:
        raise InvalidArgument("bind mount", target, where=where + ".source", detail="it has no source")
    flags = m.OPEN_TREE_CLONE | m.OPEN_TREE_CLOEXEC
    if options.recursive:
        flags |= _AT_RECURSIVE
    if options.src_nofollow:
        flags |= m.AT_SYMLINK_NOFOLLOW
    trees = draft.inside if inside else draft.trees
    if inside:
        trees.append(Op("open_tree_inside", where + ".source", slot=slot, path=inside, flags=flags))
    else:
        trees.append(Op("open_tree", where + ".source", slot=slot, path=entry.source, flags=flags))
    # A clone is a peer of its original; under a root that is a slave (the default) so must it be.
    if not shared_root:
        trees.append(
            Op("mount_attr", where, slot=slot, set=0, clear=0, propagation=m.MS_SLAVE, recursive=1, userns=NONE)
        )
    if userns != NONE:
        recursive = int(options.idmap_recursive)
        trees.append(
            Op("mount_attr", where, slot=slot, set=0, clear=0, propagation=0, recursive=recursive, userns=userns)
        )
    attributes, late = _bind_attributes(slot, options, entry.options, target, where + ".options", mapped=mapped)
    trees += attributes
    draft.inside.append(Op("attach", where, slot=slot, target=target, flags=_target_flags(options, target)))
    draft.inside += late


# What mount(8) and the kernel let a bind say about itself; of these a user namespace cannot take back what its parent
# has set, NOSYMFOLLOW excepted (mount_namespaces(7), "Restrictions on mount namespaces").
_LOCKABLE = m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC
_ATIME = m.MOUNT_ATTR__ATIME | m.MOUNT_ATTR_NODIRATIME
_ATIME_WORDS = ("noatime", "nodiratime", "relatime", "strictatime")


def _bind_attributes(
    slot: int,
    options: MountOptions,
    words: tuple[str, ...],
    target: str,
    where: str,
    *,
    mapped: bool,
) -> tuple[list[Op], list[Op]]:
    """What is set on the detached tree, and on the attached one.

    A bind without any attribute keeps those of its source. With one, what is not said is cleared, as a remount by
    mount(2) does it, but for the access time: that stays unless one is chosen. With a user namespace only what was
    said is cleared, and by the kernel's leave: inside, where it refuses what the host has locked."""
    attr_set, said = options.attr_set, options.attr_clr & ~_ATIME
    clear = said
    if attr_set or options.attr_clr:
        clear = (_LOCKABLE | m.MOUNT_ATTR_NOSYMFOLLOW) & ~attr_set
    if any(word in _ATIME_WORDS for option in words for word in option.split(",")):
        clear |= _ATIME
    else:
        attr_set &= ~_ATIME
    late = rec_late = 0
    rec_clear = options.rec_attr_clr
    if mapped:
        late, clear = said & _LOCKABLE, clear & ~_LOCKABLE
        rec_late, rec_clear = rec_clear & _LOCKABLE, rec_clear & ~_LOCKABLE
    detached = [
        Op("mount_attr", where, slot=slot, set=on, clear=off, propagation=0, recursive=recursive, userns=NONE)
        for on, off, recursive in ((attr_set, clear, 0), (options.rec_attr_set, rec_clear, 1))
        if on or off
    ]
    attached = [
        Op("remount", where, target=target, set=0, clear=off, recursive=recursive, options=())
        for off, recursive in ((late, 0), (rec_late, 1))
        if off
    ]
    return detached, attached


def _idmap_slot(draft: Draft, config: Config, entry: Mount, options: MountOptions, user_slot: int, where: str) -> int:
    uids, gids = entry.uid_mappings, entry.gid_mappings
    if options.idmap and not uids and not options.idmap_uids and user_slot != NONE:
        return user_slot
    if options.idmap and not uids:
        uids, gids = config.linux.uid_mappings, config.linux.gid_mappings
        if not uids and not options.idmap_uids:
            raise InvalidArgument(
                "mount option",
                "idmap",
                where=where + ".options",
                detail="no uidMappings, neither in the mount nor in linux",
            )
    if not uids and not options.idmap_uids:
        return NONE
    slot = draft.slot()
    draft.trees.append(
        Op(
            "idmap_userns",
            where + ".uidMappings",
            slot=slot,
            uid_map=_option_map(options.idmap_uids, config.linux.uid_mappings, where) or id_map(uids),
            gid_map=_option_map(options.idmap_gids, config.linux.gid_mappings, where) or id_map(gids),
        )
    )
    return slot


def _option_map(text: str, container: tuple[LinuxIDMapping, ...], where: str) -> str:
    return m.resolve_idmap(text, container, where + ".options")


def id_map(mappings: tuple[LinuxIDMapping, ...]) -> str:
    """The text of /proc/PID/uid_map: one `inside outside length` a line (user_namespaces(7))."""
    return "".join(f"{item.container_id} {item.host_id} {item.size}\n" for item in mappings)


def _add_file_system(
    draft: Draft, entry: Mount, options: MountOptions, kind: str, target: str, where: str, *, label: str
) -> None:
    if not kind:
        raise InvalidArgument(
            "mount",
            target,
            where=where + ".type",
            detail="neither a type nor a bind option is given",
            hint='give a type such as "tmpfs", or the option "bind"',
        )
    attr = options.attr_set
    words = labels.with_label(_fs_options(options), kind, label)
    if target == "/dev":
        # Devices are made in it first.
        attr &= ~m.MOUNT_ATTR_RDONLY
        words = tuple(word for word in words if word != "ro")
    draft.inside.append(
        Op(
            "mount",
            where,
            fstype=kind,
            source=entry.source or kind,
            options=words,
            attr=attr,
            target=target,
            flags=_target_flags(options, target),
        )
    )
    labels.add_after_mount(draft, kind, target, label)
    if options.rec_attr_set or options.rec_attr_clr:
        draft.inside.append(
            Op(
                "remount",
                where + ".options",
                target=target,
                set=options.rec_attr_set,
                clear=options.rec_attr_clr,
                recursive=1,
                options=(),
            )
        )


def add_devices(draft: Draft, config: Config, *, mapped: bool) -> None:
    """Devices of the spec and the default ones; binds of the host's nodes where mknod(2) cannot be (user
    namespaces). Nothing is touched when the whole of /dev is a bind from the host."""
    if _dev_is_bind(config):
        return
    given = {clean(device.path) for device in config.linux.devices}
    for index, device in enumerate(config.linux.devices):
        if clean(device.path) != _PTMX:
            _add_device(draft, device, f"linux.devices[{index}]", mapped=mapped)
    for path, major, minor in _DEFAULT_DEVICES:
        if path not in given:
            if mapped:
                _bind_device(draft, path, path, "")
            else:
                _mknod(draft, path, 0o020666, major, minor, 0, 0, "")
    for target, path in _DEV_SYMLINKS:
        draft.inside.append(Op("symlink", "", target=target, path=path, exact=0))


def _dev_is_bind(config: Config) -> bool:
    return any(entry.is_bind and clean(entry.destination) == "/dev" for entry in config.mounts)


def _add_device(draft: Draft, device: LinuxDevice, where: str, *, mapped: bool) -> None:
    path = clean(device.path)
    kind = _DEVICE_TYPES.get(device.type)
    if kind is None:
        raise InvalidArgument(
            "device type",
            device.type,
            where=where + ".type",
            detail="allowed are c, u, b, p",
            hint=closest(device.type, tuple(_DEVICE_TYPES)),
        )
    if mapped and kind != 0o010000:
        _bind_device(draft, path, path, where)
        return
    mode = kind | (0o666 if device.file_mode is None else device.file_mode & 0o7777)
    _mknod(draft, path, mode, device.major or 0, device.minor or 0, device.uid or 0, device.gid or 0, where)


def _mknod(draft: Draft, path: str, mode: int, major: int, minor: int, uid: int, gid: int, where: str) -> None:
    # makedev(3) of Linux: 12 bits of major and 20 of minor, interleaved.
    rdev = (minor & 0xFF) | ((major & 0xFFF) << 8) | ((minor & ~0xFF) << 12) | ((major & ~0xFFF) << 32)
    draft.inside.append(Op("mknod", where, path=path, mode=mode, rdev=rdev, uid=uid, gid=gid))


def _bind_device(draft: Draft, source: str, target: str, where: str) -> None:
    slot = draft.slot()
    flags = m.OPEN_TREE_CLONE | m.OPEN_TREE_CLOEXEC
    draft.trees.append(Op("open_tree", where, slot=slot, path=source, flags=flags))
    draft.inside.append(Op("attach", where, slot=slot, target=target, flags=0))


def add_finish(draft: Draft, config: Config) -> None:
    """After the root has been entered: the working directory is made, then what had to stay writable until now
    becomes read-only."""
    if config.process is not None and clean(config.process.cwd) != "/":
        # As runc does: Kubernetes' workingDir need not be in the image.
        draft.inside.append(Op("mkdir", "process.cwd", path=config.process.cwd, mode=0o755, uid=0, gid=0))
    for index, entry in enumerate(config.mounts):
        if clean(entry.destination) == "/dev" and "ro" in entry.options and not _dev_is_bind(config):
            draft.inside.append(
                Op(
                    "remount",
                    f"mounts[{index}].options",
                    target="/dev",
                    set=m.MOUNT_ATTR_RDONLY,
                    clear=0,
                    recursive=0,
                    options=(),
                )
            )
    if config.root is not None and config.root.readonly:
        draft.inside.append(Op("root_readonly", "root.readonly"))
    # Shared, too, only at the end: while it is shared nothing of the host must hang on it (pivot_root(2)).
    if config.linux.rootfs_propagation in ("unbindable", "runbindable", "shared", "rshared"):
        flags = _PROPAGATION[config.linux.rootfs_propagation]
        draft.inside.append(Op("propagation", "linux.rootfsPropagation", target="/", flags=flags))


def add_hidden(draft: Draft, config: Config) -> None:
    """readonlyPaths, then maskedPaths."""
    for index, path in enumerate(config.linux.readonly_paths):
        draft.inside.append(Op("readonly", f"linux.readonlyPaths[{index}]", path=path))
    if not config.linux.masked_paths:
        return
    slot = draft.slot()
    flags = m.OPEN_TREE_CLONE | m.OPEN_TREE_CLOEXEC
    draft.trees.append(Op("open_tree", "linux.maskedPaths", slot=slot, path="/dev/null", flags=flags))
    seen = set()
    for index, path in enumerate(config.linux.masked_paths):
        if path in seen:
            continue
        seen.add(path)
        draft.inside.append(Op("mask", f"linux.maskedPaths[{index}]", path=path, slot=slot))
