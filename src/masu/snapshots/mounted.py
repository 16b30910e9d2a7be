"""A snapshot's mounts as a detached mount, for work on the host: cp, diff, unpack, reading /etc/passwd.

A detached mount is in no mount namespace: nobody finds it by path, nothing has to be unmounted, and it goes away
with the last descriptor, also when the process is killed.
"""

from __future__ import annotations

import errno
import os

from masu.errors import InvalidArgument, KernelError
from masu.linux import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.snapshots.mounts import Mount

# fsconfig(2) takes strings up to this long.
_MAX_OPTION = 255


def detached(mounts: Sequence[Mount]) -> int:
    """The root of the mounted tree as an O_PATH descriptor, to be closed by the caller.

    One bind or one overlay, as snapshotters give them. With `uidmap` and `gidmap` options the layers are mapped as
    the container will see them. Raises InvalidArgument for others, KernelError with the kernel's words.
    """
    if len(mounts) != 1 or mounts[0].target:
        raise InvalidArgument("mounts", len(mounts), detail="one mount of the root is expected")
    wanted = mounts[0]
    read_only = "ro" in wanted.options
    uids, gids = wanted.option("uidmap"), wanted.option("gidmap")
    userns = _user_namespace(uids, gids) if uids or gids else -1
    try:
        if wanted.type == "bind":
            fd = mount.clone_tree(wanted.source, recursive="rbind" in wanted.options)
            try:
                if read_only or userns >= 0:
                    mount.set_attributes(
                        fd,
                        set=mount.MOUNT_ATTR_RDONLY if read_only else 0,
                        recursive="rbind" in wanted.options and userns < 0,
                        userns=userns,
                    )
            except BaseException:
                os.close(fd)
                raise
            return fd
        if wanted.type == "overlay":
            return _overlay(wanted, read_only, userns)
    finally:
        if userns >= 0:
            os.close(userns)
    raise InvalidArgument("mount type", wanted.type, detail='"bind" and "overlay" are known here')


def _overlay(wanted: Mount, read_only: bool, userns: int) -> int:
    held: list[int] = []
    options = []
    upper = False
    try:
        for option in wanted.options:
            key, equals, value = option.partition("=")
            if key in ("uidmap", "gidmap", "ro", "rw"):
                continue
            if key == "lowerdir":
                directories = mount.split_lowerdir(value)
                if userns >= 0:
                    mapped = []
                    for directory in directories:
                        mapped.append(_mapped(directory, userns))
                        held.append(mapped[-1])
                    directories = [f"/proc/self/fd/{fd}" for fd in mapped]
                elif sum(map(len, directories)) + len(directories) > _MAX_OPTION:
                    directories = [_short(directory, held) for directory in directories]
                value = ":".join(d.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,") for d in directories)
            elif key in ("upperdir", "workdir"):
                upper = True
                # fsconfig takes the name as it is: the backslashes are mount(2)'s.
                value = _short(_unescaped(value), held)
            elif key == "context":
                value = value.strip('"')
            options.append(f"{key}={value}" if equals else key)
        attr = mount.MOUNT_ATTR_RDONLY if read_only or not upper else 0
        return mount.new_mount("overlay", "overlay", options, attr=attr)
    finally:
        for fd in held:
            os.close(fd)


def _short(directory: str, held: list[int]) -> str:
    """A name for the directory that fsconfig takes: its own, or that of a descriptor."""
    if len(os.fsencode(directory)) <= _MAX_OPTION // 4:
        return directory
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    held.append(fd)
    return f"/proc/self/fd/{fd}"


def _mapped(directory: str, userns: int) -> int:
    fd = mount.clone_tree(directory)
    try:
        mount.set_attributes(fd, userns=userns)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unescaped(value: str) -> str:
    out, escaped = "", False
    for char in value:
        if char == "\\" and not escaped:
            escaped = True
            continue
        out, escaped = out + char, False
    return out


def _user_namespace(uids: str, gids: str) -> int:
    """A user namespace with these maps, as a descriptor; the process that made it is gone when this returns."""
    from masu.linux import idmap, spawn
    from masu.snapshots.apply import worker_path

    # Only a process can make one; forking this one, with threads, is asking for trouble.
    read, write = os.pipe2(os.O_CLOEXEC)
    ready, told = os.pipe2(os.O_CLOEXEC)
    try:
        pid = spawn.spawn(worker_path(), ["masu-unpack", "--user-namespace"], {}, stdio=(read, told, 2))
        os.close(told)
        told = -1
        try:
            if os.read(ready, 1) != b"+":
                raise KernelError("unshare", "user namespace", errno.EPERM)
            idmap.write(pid, idmap_text(uids), idmap_text(gids))
            return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(write)
            write = -1
            spawn.wait(pid)
    finally:
        for fd in (read, write, ready, told):
            if fd >= 0:
                os.close(fd)


def idmap_text(option: str) -> str:
    """`container:host:size,…` as lines of a uid_map. Raises InvalidArgument."""
    lines = []
    for part in option.split(","):
        fields = part.split(":")
        if len(fields) != 3 or not all(f.isascii() and f.isdigit() for f in fields):
            raise InvalidArgument("id map", option, detail="container:host:size, separated by commas")
        lines.append(" ".join(fields) + "\n")
    return "".join(lines)
