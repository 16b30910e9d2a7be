"""What both drivers share: rows and folders in step.

    fill new-<random>/          outside any transaction: a copy may take minutes
    BEGIN IMMEDIATE
      row -> <n>                parent still there?
      rename new-<random> <n>, fsync of the driver's folder
    COMMIT

`new-*` is locked (flock) by whoever fills it; one that is not locked belongs to nobody and is swept. A folder
without a row and `rm-*` are swept by the next garbage collection, if not by the remove that left it.
"""

from __future__ import annotations

import os

from masu.errors import FailedPrecondition, InvalidArgument, KernelError, NotFound
from masu.snapshots.mounts import GID_LABEL, MOUNT_LABEL, UID_LABEL
from masu.store.db import from_os_error
from masu.store.snapshots import ACTIVE, COMMITTED, VIEW
from masu.store.trees import fsync_folder, make_locked, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from masu.snapshots.mounts import IdMaps, Mount
    from masu.store import NamespaceStore
    from masu.store.snapshots import Info


# <linux/fs.h>; the argument is an int whatever the macro's "long" says (ioctl_iflags(2)). The direction bits are those
# of every architecture but mips, powerpc, sparc, where the call fails and nothing is lost.
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_TOPDIR_FL = 0x00020000


class Driver:
    """Base of the drivers: they say what is in a folder and how it is mounted."""

    name = ""

    def __init__(self, ns: NamespaceStore) -> None:
        self.root = f"{ns.root}/snapshots/{self.name}"
        self._records = ns.snapshots(self.name)
        try:
            os.mkdir(self.root, 0o700)
        except FileExistsError:
            return
        except OSError as e:
            raise from_os_error(e, self.root) from e
        spread_children(self.root)

    def prepare(
        self,
        key: str,
        parent: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        id_maps: IdMaps | None = None,
        mount_label: str = "",
    ) -> list[Mount]:
        return self._create(ACTIVE, key, parent, labels, id_maps, mount_label)

    def view(
        self,
        key: str,
        parent: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        id_maps: IdMaps | None = None,
        mount_label: str = "",
    ) -> list[Mount]:
        return self._create(VIEW, key, parent, labels, id_maps, mount_label)

    def mounts(self, key: str) -> list[Mount]:
        info = self._records.get(key)
        if info.kind == COMMITTED:
            raise FailedPrecondition("snapshot", key, detail="is committed; make a view of it to look inside")
        return self._mounts(info, self._records.ancestors(info.id))

    def commit(self, name: str, key: str, *, labels: Mapping[str, str] | None = None) -> None:
        info = self._records.get(key)
        if info.kind != ACTIVE:
            raise FailedPrecondition("snapshot", key, detail=f"is {info.kind}, not active")
        size, inodes = self._usage(info, self._records.ancestors(info.id))
        sync_files(f"{self.root}/{info.id}")
        self._records.commit(name, key, labels or {}, size, inodes)

    def remove(self, key: str) -> None:
        with self._records.transaction(freeing=True) as tx:
            id = self._records.remove(key)
            # Renamed after the row is gone for good: a kill in between leaves a folder that the sweep knows.
            tx.after_commit(lambda: self._discard(id))

    def stat(self, key: str) -> Info:
        return self._records.get(key)

    def update(self, key: str, labels: Mapping[str, str | None]) -> Info:
        return self._records.update(key, labels)

    def walk(self) -> Iterator[Info]:
        return iter(self._records.list())

    def usage(self, key: str) -> tuple[int, int]:
        info = self._records.get(key)
        if info.size is not None and info.inodes is not None:
            return info.size, info.inodes
        return self._usage(info, self._records.ancestors(info.id))

    def folder(self, id: int) -> str:
        return f"{self.root}/{id}"

    # ---- what a driver says ----

    def _fill(self, folder: str, kind: str, parents: list[int], id_maps: IdMaps | None) -> None:
        raise NotImplementedError

    def _mounts(self, info: Info, parents: list[int]) -> list[Mount]:
        raise NotImplementedError

    def _usage(self, info: Info, parents: list[int]) -> tuple[int, int]:
        raise NotImplementedError

    # ---- the rest ----

    def _create(
        self,
        kind: str,
        key: str,
        parent: str,
        labels: Mapping[str, str] | None,
        id_maps: IdMaps | None,
        mount_label: str,
    ) -> list[Mount]:
        wanted = dict(labels or {})
        if id_maps is not None:
            wanted.update(id_maps.labels())
        if mount_label:
            wanted[MOUNT_LABEL] = mount_label
        parents: list[int] = []
        if parent:
            above = self._records.get(parent)
            if above.kind != COMMITTED:
                raise InvalidArgument("parent", parent, detail=f"is no committed snapshot, but {above.kind}")
            parents = [above.id, *self._records.ancestors(above.id)]
        try:
            new, lock = make_locked(f"{self.root}/new-")
        except OSError as e:
            raise from_os_error(e, self.root) from e
        try:
            self._fill(new, kind, parents, id_maps)
            with self._records.transaction() as tx:
                id, chain = self._records.create(kind, key, parent, wanted)
                if chain != parents:
                    raise NotFound("snapshot", parent, detail="was replaced meanwhile")
                self._make_way(id)
                os.rename(new, self.folder(id))
                tx.on_rollback(lambda: os.rename(self.folder(id), new))
                if tx.durable:
                    fsync_folder(self.root)
        except OSError as e:
            self._forget(new)
            raise from_os_error(e, new) from e
        except BaseException:
            self._forget(new)
            raise
        finally:
            os.close(lock)
        return self._mounts(self._records.get(key), parents)

    def _make_way(self, id: int) -> None:
        # A number that was given out in a transaction that never ended is given out again.
        try:
            os.rename(self.folder(id), f"{self.root}/rm-{id}-{os.urandom(4).hex()}")
        except FileNotFoundError:
            pass

    def _discard(self, id: int) -> None:
        gone = f"{self.root}/rm-{id}-{os.urandom(4).hex()}"
        try:
            os.rename(self.folder(id), gone)
        except FileNotFoundError:
            return
        except OSError as e:
            raise from_os_error(e, self.folder(id)) from e
        remove_tree(gone)

    def _forget(self, new: str) -> None:
        try:
            remove_tree(new)
        except Exception:
            pass  # the sweep finds it; the error that brought us here is the one to tell


def spread_children(path: str) -> None:
    """Asks ext4 to put each new directory in `path` into a block group of its own (chattr(1), "T").

    Layers come and go as wholes. Beside one that was just removed ext4 looks at each freed inode, finds it too fresh
    to be used again, and goes on to the next (recently_deleted() in fs/ext4/ialloc.c): a layer of 50,000 files took
    three times as long after another one had been deleted. Other file systems know no such flag, or do not need it.
    """
    import fcntl  # late, as is struct: once in the life of a state directory
    import struct

    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))[0]
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags | _FS_TOPDIR_FL))
        finally:
            os.close(fd)
    except OSError:
        pass  # it only helps


def id_map_options(labels: Mapping[str, str]) -> list[str]:
    """containerd's mount options for what was prepared with `id_maps`."""
    found = []
    if labels.get(UID_LABEL):
        found.append(f"uidmap={labels[UID_LABEL]}")
    if labels.get(GID_LABEL):
        found.append(f"gidmap={labels[GID_LABEL]}")
    return found


def copy_attributes(source: str, target: str, root: tuple[int, int] = (-1, -1)) -> None:
    """Owner, mode and times of one directory to another; `root` replaces owner 0 (id maps)."""
    facts = os.stat(source)
    uid = root[0] if root[0] >= 0 and facts.st_uid == 0 else facts.st_uid
    gid = root[1] if root[1] >= 0 and facts.st_gid == 0 else facts.st_gid
    os.chown(target, uid, gid)
    os.chmod(target, facts.st_mode & 0o7777)
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def disk_usage(path: str) -> tuple[int, int]:
    """(bytes on disk, inodes) of a tree, each inode counted once, the tree's root included."""
    seen: set[int] = set()
    size = inodes = 0
    todo = [path]
    facts = os.stat(path)
    size, inodes = facts.st_blocks * 512, 1
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    facts = entry.stat(follow_symlinks=False)
                    if facts.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if facts.st_ino in seen:
                            continue
                        seen.add(facts.st_ino)
                    size += facts.st_blocks * 512
                    inodes += 1
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        except FileNotFoundError:
            continue  # an active snapshot changes while it is measured
    return size, inodes


def sync_files(path: str) -> None:
    """syncfs(2): what is committed must not be found empty after a power cut."""
    from masu.linux import fds

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fds.syncfs(fd, path)
    except KernelError as e:
        raise from_os_error(OSError(e.errno, "syncfs", path), path) from e
    finally:
        os.close(fd)
