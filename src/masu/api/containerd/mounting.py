"""Mounts made for a client, of which some need more than mount(2).

    Activate [erofs a] [erofs b] [format/mkdir/overlay …]
      number from the store
      <run>/mounts/<number>/0   a       what the last one refers to is mounted here, on the host
                            1   b
      the last one, filled in, is told to the client, who mounts it where the container is

    a mount's type    format/T    {{ source N }}, {{ target N }}, {{ mount N }}, {{ overlay N M }} in source, target and
                                  options are filled in from the mounts before it
                      mkdir/T     X-containerd.mkdir.path=PATH[:MODE[:UID:GID]] makes a directory
                      mkfs/T      X-containerd.mkfs.{size,fs,uuid}: its source is made a file system's image, if missing
                      loop        a file as a block device: its mount point is a symbolic link to that

Names and rules are containerd's (docs/mounts.md). Paths of mkdir and mkfs have to be below the state directory or below
our own mount points. The record is in the store, the truth in <run>/mounts: a directory without a record is taken down
(`sweep`), after a collection and when a daemon starts, whoever was killed.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from weakref import WeakValueDictionary

from masu.engine import hostroot
from masu.errors import AlreadyExists, FailedPrecondition, InvalidArgument, KernelError, MasuError, Unimplemented
from masu.linux import loop, paths, procfs
from masu.snapshots import Mount
from masu.spec import times
from masu.store.activations import Activation, Activations, forget_lost, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType as Lock
    from collections.abc import Callable, Mapping, Sequence

    from masu.store import Store

_TRANSFORMS = ("format", "mkdir", "mkfs")
_LIMIT = 255
_MKDIR, _MKFS = "X-containerd.mkdir.", "X-containerd.mkfs."
_MKFS_S = 600
_FILESYSTEMS = {"ext2": "-U", "ext3": "-U", "ext4": "-U", "xfs": "-m"}
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_VALUE = re.compile(r"\{\{\s*(\w+)((?:\s+\d+)*)\s*\}\}")


class Mounting:
    """All mounts of one state directory; one daemon makes them. Safe for many threads."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._root = store.root
        self._folder = f"{run}/mounts"
        # One for each name, for as long as somebody is at it.
        self._names: WeakValueDictionary[tuple[str, str], Lock] = WeakValueDictionary()
        self._lock = threading.Lock()

    def activate(
        self,
        namespace: str,
        name: str,
        mounts: Sequence[Mount],
        *,
        labels: Mapping[str, str],
        lease: str = "",
        temporary: bool = False,
    ) -> Activation:
        """With `temporary` all are mounted here, and a bind of the last one is left to the client.

        Raises Unimplemented where the client can mount all of them by itself, AlreadyExists, InvalidArgument,
        KernelError. Then nothing is left.
        """
        if len(mounts) > _LIMIT:
            raise InvalidArgument("mounts", len(mounts), detail=f"at most {_LIMIT}")
        ours = len(mounts) if temporary else max(map(_needed, range(len(mounts)), mounts), default=-1)
        if ours < 0 or not mounts:
            raise Unimplemented("mount", name, detail="nothing to be done before the system mounts it")
        records = Activations(self._store.db, namespace)
        with self._one(namespace, name):
            id = records.begin(name, labels, lease=lease, boot=procfs.boot_id())
            folder = f"{self._folder}/{id}"
            try:
                os.makedirs(folder, 0o700)
                record = self._mount(folder, list(mounts), ours, temporary=temporary)
                records.finish(id, record)
            except BaseException as error:
                records.remove(id)
                try:
                    _take_down(folder)
                except MasuError as failure:
                    if isinstance(error, MasuError):
                        error.cleanup.append(failure)
                raise
        return Activation(id, name, dict(labels), record)

    def for_task(self, namespace: str, id: str, mounts: list[Mount]) -> list[Mount]:
        """What is left of a root file system's mounts for the container; the others are mounted until `deactivate`, or
        until the container is gone."""
        if max(map(_needed, range(len(mounts)), mounts), default=-1) < 0:
            return mounts
        try:
            found = self.activate(namespace, id, mounts, labels={"containerd.io/gc.bref.container": id})
        except AlreadyExists:
            found = Activations(self._store.db, namespace).get(id)
        return system(found)

    def deactivate(self, namespace: str, name: str) -> None:
        """Raises NotFound, KernelError."""
        records = Activations(self._store.db, namespace)
        with self._one(namespace, name):
            found = records.get(name)
            records.remove(found.id)
            _take_down(f"{self._folder}/{found.id}")

    def recover(self) -> list[MasuError]:
        """When the daemon starts: what another one has left half-done goes."""
        forget_lost(self._store.db, procfs.boot_id())
        return self.sweep()

    def has_any(self) -> bool:
        return bool(numbers(self._store.db))

    def sweep(self) -> list[MasuError]:
        """Takes down what has no record any more; what could not be is told, and tried again the next time."""
        errors = []
        there = [name for name in _names(self._folder) if name.isdecimal()]
        known = numbers(self._store.db)  # after the look: one that is made meanwhile has its record first
        for name in there:
            if int(name) not in known:
                try:
                    _take_down(f"{self._folder}/{name}")
                except MasuError as error:
                    errors.append(error)
        return errors

    def _one(self, namespace: str, name: str) -> Lock:
        with self._lock:
            return self._names.setdefault((namespace, name), threading.Lock())

    def _mount(self, folder: str, mounts: list[Mount], ours: int, *, temporary: bool) -> dict[str, object]:
        done: list[Mount] = []
        points: list[str] = []
        active: list[dict[str, object]] = []
        for index, each in enumerate(mounts[: ours + 1]):
            wanted = self._transformed(each, done, points)
            if index == ours:
                mounts[index] = wanted  # the client's, filled in
                break
            point = f"{folder}/{index:03}"
            _mount_at(wanted, point)
            done.append(wanted)
            points.append(point)
            active.append({**_fields(wanted), "mount_point": point, "mounted_at": times.now()})
        left = [Mount("bind", points[-1], ("rbind",))] if temporary else mounts[ours:]
        return {"active": active, "system": [_fields(each) for each in left]}

    def _transformed(self, wanted: Mount, done: list[Mount], points: list[str]) -> Mount:
        while (found := wanted.type.partition("/"))[0] in _TRANSFORMS and found[1]:
            wanted = Mount(found[2], wanted.source, wanted.options, wanted.target)
            if found[0] == "format":
                fill = _Format(done, points)
                options = tuple(map(fill, wanted.options))
                wanted = Mount(wanted.type, fill(wanted.source), options, fill(wanted.target))
            elif found[0] == "mkdir":
                wanted = self._mkdir(wanted)
            else:
                wanted = self._mkfs(wanted)
        return wanted

    def _mkdir(self, wanted: Mount) -> Mount:
        for option in wanted.options:
            if not option.startswith(_MKDIR):
                continue
            key, _, value = option[len(_MKDIR) :].partition("=")
            path, *more = value.split(":")
            if key != "path" or len(more) not in (0, 1, 3) or not all(re.fullmatch("[0-9]+", each) for each in more):
                raise InvalidArgument("mount option", option, detail="PATH[:MODE[:UID:GID]] is expected")
            mode = _octal(more[0], option) if more else 0o700
            owner = [int(each) for each in more[1:]] or [-1, -1]
            root, below = self._below(path)
            try:
                directory = paths.mkdir_in_root(root, below, mode, uid=owner[0], gid=owner[1])
                has = os.fstat(directory).st_mode & 0o7777
                os.close(directory)
            finally:
                os.close(root)
            if has != mode:
                raise FailedPrecondition("directory", path, detail=f"is there with mode {has:04o}, not {mode:04o}")
        return Mount(wanted.type, wanted.source, _without(wanted.options, _MKDIR), wanted.target)

    def _mkfs(self, wanted: Mount) -> Mount:
        given = {"fs": "ext4", "size": "0", "uuid": ""}
        for option in wanted.options:
            if option.startswith(_MKFS):
                key, _, value = option[len(_MKFS) :].partition("=")
                if key not in given:
                    raise InvalidArgument("mount option", option, detail="size, fs and uuid are known")
                given[key] = value
        size = _bytes(given["size"])
        if size <= 0:
            raise InvalidArgument("mount option", _MKFS + "size", detail="is required")
        if given["fs"] not in _FILESYSTEMS:
            raise InvalidArgument("file system", given["fs"], detail=", ".join(_FILESYSTEMS))
        root, below = self._below(wanted.source)
        try:
            if not paths.exists_in_root(root, below):
                _make_image(root, below, given["fs"], size, given["uuid"])
        finally:
            os.close(root)
        return Mount(wanted.type, wanted.source, _without(wanted.options, _MKFS), wanted.target)

    def _below(self, path: str) -> tuple[int, str]:
        # (an O_PATH descriptor of that of our directories which holds it, the path below)
        for root in (self._root, self._folder):
            if path.startswith(root + "/"):
                return paths.open_root(root), path[len(root) + 1 :]
        raise Unimplemented("path", path, detail=f"is to be below {self._root} or {self._folder}")


class _Format:
    """Fills in what mounts before this one have come to."""

    def __init__(self, done: Sequence[Mount], points: Sequence[str]) -> None:
        self._values: dict[str, Callable[[int], str]] = {
            "source": lambda n: done[n].source,
            "target": lambda n: done[n].target,
            "mount": lambda n: points[n],
        }
        self._points = points

    def __call__(self, text: str) -> str:
        filled = _VALUE.sub(self._one, text)
        if "{{" in _VALUE.sub("", text):
            raise InvalidArgument("mount", text, detail="source, target, mount and overlay are known in {{ }}")
        return filled

    def _one(self, match: re.Match[str]) -> str:
        name, given = match[1], [int(number) for number in match[2].split()]
        if any(number >= len(self._points) for number in given):
            raise InvalidArgument("mount", match[0], detail=f"{len(self._points)} mounts are before it")
        if name == "overlay" and len(given) == 2:
            first, last = given
            step = 1 if last >= first else -1
            return ":".join(self._points[n] for n in range(first, last + step, step))
        if name not in self._values or len(given) != 1:
            raise InvalidArgument("mount", match[0], detail="source N, target N, mount N and overlay N M are known")
        return self._values[name](given[0])


def system(found: Activation) -> list[Mount]:
    """What is left for the client to mount."""
    left = found.record["system"]
    assert isinstance(left, list)
    return [Mount(each["type"], each["source"], each["options"], each["target"]) for each in left]


def _needed(index: int, wanted: Mount) -> int:
    # How many mounts are ours because of this one; -1 for none.
    kind, slash, _ = wanted.type.partition("/")
    if wanted.type.rpartition("/")[2] == "loop":
        return index + 1
    return index if slash and kind in _TRANSFORMS else -1


def _mount_at(wanted: Mount, point: str) -> None:
    """Raises InvalidArgument, KernelError."""
    if wanted.type == "loop":
        fd, device = loop.attach(wanted.source, point, read_only="ro" in wanted.options)
        os.close(fd)
        os.symlink(device, point)
        return
    hostroot.mount_all([Mount(wanted.type, wanted.source, wanted.options)], point)


def _take_down(folder: str) -> None:
    """All mounts in it, the last one first, and the folder. Who is in one stays there. Raises KernelError."""
    for name in sorted(_names(folder), reverse=True):
        point = f"{folder}/{name}"
        try:
            if os.path.islink(point):
                loop.detach(os.readlink(point), point)
                os.unlink(point)
                continue
            hostroot.unmount_all(point)
            os.rmdir(point)
        except OSError as e:
            raise KernelError("rmdir", point, e.errno or 0) from e
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        pass
    except OSError as e:
        raise KernelError("rmdir", folder, e.errno or 0) from e


def _make_image(root: int, below: str, kind: str, size: int, uuid: str) -> None:
    program = f"mkfs.{kind}"
    fd = paths.open_in_root(root, below, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
    try:
        os.ftruncate(fd, size)
        named = [] if not uuid else [_FILESYSTEMS[kind], f"uuid={uuid}" if kind == "xfs" else uuid]
        command = [program, "-q", *named, f"/proc/self/fd/{fd}"]
        done = subprocess.run(
            command, pass_fds=(fd,), capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=_MKFS_S
        )
        if done.returncode:
            raise FailedPrecondition(program, below, detail=done.stderr.decode("utf-8", "replace").strip()[-500:])
    except BaseException as error:
        holder, name = paths.parent_in_root(root, below)
        os.unlink(name, dir_fd=holder)
        os.close(holder)
        if isinstance(error, FileNotFoundError):
            raise FailedPrecondition(program, detail="is not installed") from None
        raise
    finally:
        os.close(fd)


def _without(options: Sequence[str], prefix: str) -> tuple[str, ...]:
    return tuple(option for option in options if not option.startswith(prefix))


def _octal(text: str, option: str) -> int:
    mode = int(text, 8) if re.fullmatch("[0-7]{1,4}", text) else 0o10000
    if mode > 0o777:
        raise InvalidArgument("mode", text, where=option, detail="octal digits up to 0777 are expected")
    return mode


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([kmgtp]?)i?b?", text.strip().lower())
    if found is None:
        raise InvalidArgument("size", text, detail="a number with a unit is expected, 100MiB")
    return int(found[1]) * _UNITS[found[2]]


def _fields(wanted: Mount) -> dict[str, object]:
    return {
        "type": wanted.type,
        "source": wanted.source,
        "target": wanted.target,
        "options": list(wanted.options),
    }


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
