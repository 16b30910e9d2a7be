"""Where a container's root file system comes from, and what is read from and put into it before the start.

    image     a snapshot on the image's layers
    host      an overlay on the machine's own root; changes go to the container's directory
    rootfs    a directory that the user names

The root is mounted in the container's own mount namespace only. For the few things that must be known or made before
(users, WORKDIR, what a new volume begins with) it is mounted detached, without a place in any namespace, and goes away
with its descriptor: nothing can be left mounted by a process that is killed.
"""

from __future__ import annotations

import errno
import os

from masu.engine.compose import ImageDefaults
from masu.engine.records import DIRECTORY, HOST, ImageInfo, Record
from masu.errors import FailedPrecondition, InvalidArgument, KernelError, NotFound
from masu.linux import mount, passwd, paths
from masu.plan.host import Rootfs
from masu.store.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.engine.request import ContainerRequest
    from masu.engine.volumes import Volume

# File systems of the machine that the `host` image shows, when they are mounted below the root: what holds files.
# Not those of the kernel (proc, sysfs …), which a container gets of its own, nor tmpfs, which holds what runs.
_HOLDS_FILES = ("btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "squashfs", "xfs", "zfs", "bcachefs", "vfat")
_MAX_HOST_MOUNTS = 64


def host_image() -> ImageInfo:
    """The pseudo-image: the machine's root, its shell."""
    return ImageInfo(HOST, HOST, "", ImageDefaults(cmd=["/bin/sh"]))


def prepare_host(directory: str) -> None:
    """Makes what the overlays of a `host` container write to."""
    for name in ("upper", "work"):
        os.makedirs(f"{directory}/{name}/root", 0o755, exist_ok=True)


def rootfs(record: Record, directory: str, snapshot_mount: Callable[[], tuple[str, str, tuple[str, ...]]]) -> Rootfs:
    """What the plan mounts as the root."""
    if record.image.kind == HOST:
        return Rootfs("/", ("overlay", "overlay", _overlay("/", directory, "root")))
    if record.image.kind == DIRECTORY:
        return Rootfs(record.image.name)
    return Rootfs(record.row.image, snapshot_mount())


def _overlay(lower: str, directory: str, name: str) -> tuple[str, ...]:
    return (f"lowerdir={_escaped(lower)}", f"upperdir={directory}/upper/{name}", f"workdir={directory}/work/{name}")


def _escaped(directory: str) -> str:
    return directory.replace("\\", "\\\\").replace(":", "\\:")


def volatile(root: Rootfs) -> Rootfs:
    """The same for a container that is removed with its end: the kernel then spares the sync of the whole file system
    that the upper directory lies on, which each unmount of an overlay costs (Linux 5.10). Never for one that is kept:
    fsync(2) inside would do nothing.

    Such an overlay leaves a mark that refuses a second mount; it is taken away first, for a restart.
    """
    if root.mount is None or root.mount[0] != "overlay":
        return root
    kind, source, options = root.mount
    _forget_mark(options)
    return Rootfs(root.path, (kind, source, (*options, "volatile")))


def forget_volatile(config: dict[str, object]) -> None:
    """The same mark of the overlays among a config's mounts."""
    mounts = config.get("mounts")
    for entry in mounts if isinstance(mounts, list) else []:
        if "volatile" in entry.get("options", ()):
            _forget_mark(tuple(entry["options"]))


def _forget_mark(options: tuple[str, ...]) -> None:
    for word in options:
        if word.startswith("workdir="):
            # overlayfs.rst, "Volatile mount"; what is not there was not mounted before
            mark = word.removeprefix("workdir=") + "/work/incompat"
            if os.path.isdir(mark):
                remove_tree(mark)


def read_only(wanted: tuple[str, str, tuple[str, ...]]) -> tuple[str, str, tuple[str, ...]]:
    """What an overlay shows, without its upper directory: taking such a mount away costs nothing, while that of a
    writable one syncs a file system.

    What has been written is shown as one more lower layer; but where the upper directory lies inside a lower one, as
    with the `host` image, overlayfs refuses that (ELOOP), and the mount stays as it is.
    """
    kind, _, options = wanted
    upper = next((word.removeprefix("upperdir=") for word in options if word.startswith("upperdir=")), "")
    if kind != "overlay" or not upper:
        return wanted
    lower = next(word.removeprefix("lowerdir=") for word in options if word.startswith("lowerdir="))
    layers = mount.split_lowerdir(lower)
    if os.listdir(upper):
        if any(_is_below(upper, layer) for layer in layers):
            return wanted
        lower = f"{_escaped(upper)}:{lower}"
    elif len(layers) == 1:
        return "bind", layers[0], ("bind", "ro")  # an overlay wants two layers at least
    others = [word for word in options if not word.startswith(("lowerdir=", "upperdir=", "workdir=", "volatile"))]
    return kind, "overlay", (f"lowerdir={lower}", *others)


def host_mounts(directory: str, state_root: str, *, throw_away: bool = False) -> list[dict[str, object]]:
    """Overlays for the file systems that are mounted below the machine's root: overlayfs does not cross into them."""
    found: list[dict[str, object]] = []
    for info in mount.mountinfo():
        target = info.mount_point
        if target == "/" or info.fstype not in _HOLDS_FILES or _is_below(state_root, target):
            continue
        if _is_below(target, "/proc") or _is_below(target, "/sys") or _is_below(target, "/dev"):
            continue
        if len(found) >= _MAX_HOST_MOUNTS or not os.path.isdir(target):
            continue
        name = f"mount{len(found)}"
        for kind in ("upper", "work"):
            os.makedirs(f"{directory}/{kind}/{name}", 0o755, exist_ok=True)
        options = list(_overlay(target, directory, name))
        if throw_away:
            options.append("volatile")
        found.append({"destination": target, "type": "overlay", "source": "overlay", "options": options})
    return found


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


class OpenRoot:
    """The root file system of a container that does not run, open by descriptor `fd`; closing takes the mount away.

    To look only, `writable` False is much cheaper (see `read_only`).
    """

    __slots__ = ("fd",)

    def __init__(self, root: Rootfs, *, writable: bool = True) -> None:
        if root.mount is None:
            try:
                self.fd = os.open(root.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise InvalidArgument("root file system", root.path, error.errno or 0, where="--rootfs") from error
            return
        from masu.snapshots import Mount
        from masu.snapshots.mounted import detached

        kind, source, options = root.mount if writable else read_only(root.mount)
        self.fd = detached([Mount(kind, source, options)])

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> OpenRoot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def resolve_user(rootfd: int, defaults: ImageDefaults, request: ContainerRequest) -> passwd.User:
    """Who the container runs as, by the passwd and group of its own root. Raises NotFound, InvalidArgument."""
    where = "--user" if request.user else "USER of the image"
    return passwd.resolve(rootfd, request.user or defaults.user, groups=request.group_add, where=where)


def is_directory(rootfd: int, path: str) -> bool:
    try:
        os.close(paths.open_in_root(rootfd, path, os.O_PATH | os.O_DIRECTORY))
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True


def make_workdir(rootfd: int, path: str, identity: passwd.User) -> None:
    """Makes WORKDIR when it is missing, owned by the user, as Docker does; always inside the root (CVE-2026-55686)."""
    if path == "/":
        return
    try:
        os.close(paths.mkdir_in_root(rootfd, path, 0o755, uid=identity.uid, gid=identity.gid))
    except KernelError as error:
        if error.errno == errno.EROFS:
            return  # a read-only --rootfs: chdir will say what is missing
        if error.errno == errno.ENOTDIR:
            raise FailedPrecondition(
                "working directory", path, detail="is not a directory in the image", where="--workdir"
            ) from error
        raise


def fill_volume(rootfd: int, target: str, volume: Volume) -> None:
    """Copies what the image has at `target` into an empty volume; an image that has nothing there leaves it empty.

    `target` may be a symlink of the image's making: it is followed inside the image's root only (CVE-2022-23648).
    """
    try:
        source = paths.open_in_root(rootfd, target, os.O_RDONLY | os.O_DIRECTORY)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        raise
    try:
        volume.fill(source)
    finally:
        os.close(source)


def check_bind_source(source: str, *, create: bool) -> None:
    """A missing source is made as a directory for `-v`, refused for `--mount`. Raises NotFound, KernelError."""
    if os.path.lexists(source):
        return
    if not create:
        raise NotFound("bind source path", source, where="--mount", hint="create it first, or use -v, which does")
    try:
        os.makedirs(source, 0o755, exist_ok=True)
    except OSError as error:
        raise KernelError("mkdir", source, error.errno or 0, where="--volume") from error


def write_network_files(directory: str, hostname: str, *, host_network: bool) -> dict[str, str]:
    """/etc/hosts, hostname and resolv.conf of the container, in its own directory; target -> source."""
    files = {
        "hosts": _hosts(hostname, host_network=host_network),
        "hostname": f"{hostname}\n".encode(),
        "resolv.conf": _host_file("/etc/resolv.conf") if host_network else b"",
    }
    out: dict[str, str] = {}
    for name, content in files.items():
        path = f"{directory}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(fd, 0o644)
            os.write(fd, content)
        finally:
            os.close(fd)
        out[f"/etc/{name}"] = path
    return out


def _hosts(hostname: str, *, host_network: bool) -> bytes:
    if host_network and (own := _host_file("/etc/hosts")):
        return own
    return (
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "ff00::0\tip6-mcastprefix\n"
        "ff02::1\tip6-allnodes\n"
        "ff02::2\tip6-allrouters\n"
        f"127.0.1.1\t{hostname}\n"
    ).encode()


def _host_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""
