"""The root file system, what is mounted in it, devices, hidden paths."""

from __future__ import annotations

from typing import Any

from harness.mistakes import (
    Change,
    Done,
    Mistake,
    Scene,
    both,
    file,
    folder,
    put,
    run,
    with_mount,
    with_user_namespace,
    without_namespace,
)


def _device(**fields: object) -> Change:
    return put("linux.devices", [{"path": "/dev/thing", "type": "c", "major": 1, "minor": 3, **fields}])


def _without_proc(config: dict[str, Any], scene: Scene) -> None:
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "proc"]


def _unable_to_mknod(scene: Scene) -> Done:
    scene.without("mknod")
    return scene.born("run", change=_device())


MISTAKES = (
    Mistake(
        "a root file system that is not there",
        run(put("root.path", "rootfz")),
        "root.path",
        "rootfs /bundle/rootfz",
        "no such directory",
        "unpack an image there",
    ),
    Mistake(
        "a root file system that is a file",
        run(both(file("image.tar"), put("root.path", "image.tar"))),
        "root.path",
        "rootfs /bundle/image.tar",
        "not a directory",
        "unpack",
    ),
    Mistake(
        "no root file system given",
        run(put("root", {})),
        "root.path",
        "must be given",
    ),
    Mistake(
        "a bind source that is not there",
        run(with_mount("/data", "bind", "./data", "rbind")),
        "mounts[4].source",
        "open_tree",
        "/bundle/data",
        "ENOENT: No such file or directory",
        "create it first",
    ),
    Mistake(
        "a file bound over a directory",
        run(both(file("data"), with_mount("/etc", "bind", "./data", "bind"))),
        "mounts[4]",
        "move_mount",
        "/etc",
        "/etc is a directory, what is to be mounted on it is not",
        "check both ends",
    ),
    Mistake(
        "a directory bound over a file",
        run(both(folder("data"), with_mount("/etc/passwd", "bind", "./data", "bind"))),
        "mounts[4]",
        "move_mount",
        "ENOTDIR",
        "/etc/passwd is not a directory",
        "check both ends",
    ),
    Mistake(
        "a mount point that is missing below something read-only",
        run(
            both(
                folder("data"),
                with_mount("/srv", "bind", "./data", "bind", "ro"),
                with_mount("/srv/cache", "tmpfs", "tmpfs"),
            )
        ),
        "mounts[5]",
        "mount",
        "/srv/cache",
        "EROFS: Read-only file system",
        "create it",
    ),
    Mistake(
        "a mount point below a file",
        run(with_mount("/etc/passwd/x", "tmpfs", "tmpfs")),
        "mounts[4]",
        "/etc/passwd",
        "ENOTDIR",
        "is not a directory",
        "choose another destination",
    ),
    Mistake(
        "a mount option that is misspelt",
        run(with_mount("/cache", "tmpfs", "tmpfs", "nosuid", "noexce")),
        "mounts[4].options[1]",
        "noexce",
        'did you mean "noexec"?',
    ),
    Mistake(
        "a mount option that the file system does not know",
        run(with_mount("/cache", "tmpfs", "tmpfs", "siz=64k")),
        "mounts[4].options",
        "mount",
        "EINVAL",
        "Unknown parameter 'siz'",
        'did you mean "size"?',
    ),
    Mistake(
        "a mount option with a bad value",
        run(with_mount("/cache", "tmpfs", "tmpfs", "size=64q")),
        "mounts[4].options",
        "mount",
        "EINVAL",
        "Bad value for 'size'",
    ),
    Mistake(
        "a misspelt option of a bind",
        run(both(folder("data"), with_mount("/data", "bind", "./data", "bind", "noexc"))),
        "mounts[4].options[1]",
        "noexc",
        'did you mean "noexec"?',
    ),
    Mistake(
        "a file system that the kernel does not know",
        run(with_mount("/cache", "tempfs", "tempfs")),
        "mounts[4].type",
        "mount",
        "/cache",
        "ENODEV",
        'no file system "tempfs"',
        'did you mean "tmpfs"?',
    ),
    Mistake(
        "neither type nor bind",
        run(with_mount("/cache", "", "/tmp")),
        "mounts[4].type",
        "neither a type nor a bind option",
        '"bind"',
    ),
    Mistake(
        "a mount over the root itself",
        run(with_mount("/", "tmpfs", "tmpfs")),
        "mounts[4].destination",
        "root.path",
    ),
    Mistake(
        "a mount inside /proc",
        run(with_mount("/proc/sys", "tmpfs", "tmpfs")),
        "mounts[4].destination",
        '"/proc/sys" cannot be mounted because it is inside /proc',
        "linux.maskedPaths",
    ),
    Mistake(
        "masked paths without a mount namespace",
        run(without_namespace("mount")),
        "linux.maskedPaths",
        "unable to restrict sys entries without a private MNT namespace",
        '{"type": "mount"}',
    ),
    Mistake(
        "masked paths of /proc that is not mounted",
        run(_without_proc),
        status=0,
    ),
    Mistake(
        "a device where a directory is",
        run(_device(path="/etc")),
        "linux.devices[0]",
        "mknodat",
        "/etc",
        "EEXIST",
        "another kind of file",
        "choose another path",
    ),
    Mistake(
        "a device below a file",
        run(_device(path="/etc/passwd/thing")),
        "linux.devices[0]",
        "mknodat",
        "/etc/passwd",
        "ENOTDIR",
    ),
    Mistake(
        "a device of an unknown type",
        run(_device(type="x")),
        "linux.devices[0].type",
        "x",
        "allowed are",
    ),
    Mistake(
        "a device without its numbers",
        run(put("linux.devices", [{"path": "/dev/thing", "type": "c"}])),
        "linux.devices[0]",
        "major",
    ),
    Mistake(
        "a device without the right to make it",
        _unable_to_mknod,
        "linux.devices[0]",
        "mknodat /dev/thing",
        "EPERM: Operation not permitted",
        "CAP_MKNOD",
    ),
    Mistake(
        "sysfs with a user namespace and the host's network",
        run(both(with_user_namespace, without_namespace("network"), with_mount("/sys", "sysfs", "sysfs"))),
        "mounts[4]",
        "mount /sys",
        "EPERM: Operation not permitted",
        "network namespace",
    ),
    Mistake(
        "devpts with a group that is not mapped",
        run(both(with_user_namespace, with_mount("/dev/pts", "devpts", "devpts", "newinstance", "gid=70000"))),
        "mounts[4].options",
        "mount /dev/pts",
        "EINVAL: Invalid argument",
        "gid=70000",
        "linux.gidMappings",
    ),
    Mistake(
        "an unknown propagation of the root",
        run(put("linux.rootfsPropagation", "sharde")),
        "linux.rootfsPropagation",
        "sharde",
        'did you mean "shared"?',
    ),
    Mistake(
        "a device that the host lacks, with a user namespace",
        run(both(with_user_namespace, _device(major=240, minor=77))),
        "linux.devices[0]",
        "/dev/thing",
        "ENOENT",
        "user namespace",
    ),
)
