"""Making a container's directories: where they are to be, what may be there already, and all or nothing."""

from __future__ import annotations

import errno
import os

from masu.errors import FailedPrecondition, InvalidArgument, KernelError, MasuError
from masu.linux.cgroups.layout import Layout, detect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.spec.resources import LinuxResources as Resources

    # {controller: (directory to start from, directory of the container)}
    Places = Mapping[str, tuple[str, str]]

PATH_MAX = 4096
PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


class Maker:
    """The making of one container's cgroup: afterwards `paths` is what Cgroup keeps, and `cpuset_error` why its
    cpuset could not take over its parent's CPUs and nodes (None when it could).

    `tolerant`: in hierarchies where nothing is delegated to us the container gets no cgroup. `keeper`: a process that
    may be there already.
    """

    __slots__ = ("cpuset_error", "keeper", "layout", "made", "paths", "tolerant", "where")

    def __init__(self, layout: Layout, where: str, *, tolerant: bool, keeper: int = 0) -> None:
        self.keeper = keeper
        self.layout = layout
        self.where = where
        self.tolerant = tolerant
        self.made: list[str] = []  # outermost first
        self.paths: dict[str, str] = {}
        self.cpuset_error: OSError | None = None

    def make(self, cgroups_path: str | None, id: str, resources: Resources | None) -> None:
        """Raises as Cgroup.create; what was made before a failure is gone again."""
        relative, absolute = clean_path(cgroups_path, id, self.where)
        if self.layout.mode == "none" and not self.tolerant:
            raise FailedPrecondition(
                "cgroups",
                detail="no cgroup mount found in mountinfo",
                where=self.where,
                hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            )
        try:
            if self.tolerant:
                places = _delegated_places(self.layout, relative)
            else:
                asked = bool(cgroups_path)
                places = _places(self.layout, relative, absolute, self.where, asked=asked, tolerant=False)
            if self.layout.mode == "v2":
                self._make_v2(places.get(""), resources)
            else:
                self._make_v1(places)
        except BaseException as e:
            self._undo(e)
            raise

    def _make_v1(self, places: Places) -> None:
        done: set[str] = set()  # controllers mounted together share a directory
        for controller, (base, path) in places.items():
            if path not in done:
                try:
                    new = self._mkdir(path, base)
                except OSError as e:
                    raise _mkdir_error(path, e, self.where) from e
                if not new:
                    refuse_in_use(path, "" if controller == "" else "v1", self.where, self.keeper)
                if controller == "cpuset":
                    self._fill_cpuset(path, self.layout.mounts[controller].path)
                done.add(path)
            self.paths[controller] = path

    def _fill_cpuset(self, path: str, mount: str) -> None:
        from masu.linux.cgroups.v1 import fill_cpuset

        try:
            self.cpuset_error = fill_cpuset(path, mount)
        except OSError as e:
            raise KernelError("write", f"{path}/cpuset.cpus", e.errno or 0, where=self.where) from e

    def _make_v2(self, place: tuple[str, str] | None, resources: Resources | None) -> None:
        from masu.linux.cgroups import v2

        if place is None:
            if resources is not None and _wants_controllers(resources):
                raise _not_delegated(self.layout)
            return
        base, path = place
        domain = resources is not None and v2.needs_domain(v2.settings(resources, where="linux.resources"))
        tree = v2.Tree(base)
        try:
            new = tree.create(path[len(base) + 1 :], domain=domain)
        except KernelError as e:
            e.where = e.where or self.where
            e.detail = e.detail or _unable(e.syscall or e.what, e.obj, e.errno)
            raise
        finally:
            self.made.extend(tree.made)
        if not new:
            refuse_in_use(path, "v2", self.where, self.keeper)
        self.paths[""] = path

    def _mkdir(self, path: str, base: str) -> bool:
        """Make path and what is missing above it, below `base`; True if path was not there."""
        for _ in range(8):
            try:
                os.mkdir(path, 0o755)
                self.made.append(path)
                return True
            except FileExistsError:
                if not os.path.isdir(path):
                    raise  # a control file has this name
                return False
            except FileNotFoundError:
                parent = os.path.dirname(path)
                if len(parent) <= len(base):
                    raise
                # Somebody who removes empty parents may be at work at the same time: hence the loop.
                self._mkdir(parent, base)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _undo(self, cause: BaseException) -> None:
        for path in reversed(self.made):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
            except OSError as e:
                # A parent that others have started to use meanwhile stays theirs.
                if e.errno != errno.EBUSY and isinstance(cause, MasuError):
                    cause.cleanup.append(KernelError("rmdir", path, e.errno or 0))
        self.made.clear()


def predict(
    cgroups_path: str | None,
    id: str,
    *,
    where: str = "linux.cgroupsPath",
    layout: Layout | None = None,
    rootless: bool = False,
) -> dict[str, str]:
    """The `paths()` that `Cgroup.create` would give, without making anything. Raises InvalidArgument and, for a
    relative path whose beginning is out of sight, FailedPrecondition."""
    relative, absolute = clean_path(cgroups_path, id, where)
    layout = layout or detect()
    if rootless and not cgroups_path:
        places = _delegated_places(layout, relative)
    else:
        places = _places(layout, relative, absolute, where, asked=bool(cgroups_path), tolerant=True)
    return {controller: path for controller, (_, path) in places.items()}


def _places(
    layout: Layout, relative: str, absolute: bool, where: str, *, asked: bool, tolerant: bool
) -> dict[str, tuple[str, str]]:
    """{controller: (mount point or own directory to start from, directory of the container)}. Who has not `asked` for a
    path gets one at the top where his own cgroup is out of sight."""
    places: dict[str, tuple[str, str]] = {}
    for controller, mount in layout.hierarchies().items():
        base = start = mount.path
        if not absolute:
            base = start = layout.own_directory(controller) or ("" if asked else mount.path)
            if not start:
                if layout.mode == "v2" or (controller == "devices" and not tolerant):
                    raise FailedPrecondition(
                        "cgroup",
                        layout.own.get(controller, ""),
                        where=where,
                        detail="our own cgroup cannot be seen from here",
                        hint=f'give an absolute path, like "/{relative}"',
                    )
                continue
            if layout.mode == "v2":
                # Where we are ourselves, no child can have controllers (no internal processes, cgroups(7)): beside us.
                base = mount.path
                start = os.path.dirname(start) if start != base else start
        places[controller] = (base, f"{start}/{relative}")
    if layout.mode in ("v1", "hybrid") and "devices" not in layout.mounts and not tolerant:
        raise FailedPrecondition(
            "cgroups",
            where=where,
            detail="the devices controller is not mounted: the container would have every device",
            hint="mount -t cgroup -o devices devices /sys/fs/cgroup/devices",
        )
    return places


def _delegated_places(layout: Layout, relative: str) -> dict[str, tuple[str, str]]:
    """As `_places`, for somebody without root who has asked for no path: where he may make cgroups and move himself
    into them (cgroups(7), "Delegating a hierarchy"). Hierarchies without such a place are left out."""
    places: dict[str, tuple[str, str]] = {}
    for controller in layout.hierarchies():
        own = layout.own_directory(controller)
        if not own:
            continue
        starts = [own]
        if layout.mode == "v2" and layout.unified is not None and own != layout.unified.path:
            # Beside us first: where we are ourselves, no child can have controllers.
            starts.insert(0, os.path.dirname(own))
        for start in starts:
            # On v2 whoever moves a process must be able to write to their common ancestor's, too.
            if os.access(start, os.W_OK) and (controller or os.access(f"{start}/cgroup.procs", os.W_OK)):
                places[controller] = (start, f"{start}/{relative}")
                break
    return places


def _not_delegated(layout: Layout) -> KernelError:
    own = layout.own_directory("")
    return KernelError(
        "mkdir",
        own,
        errno.EACCES,
        where="linux.resources",
        # runc's sentence, which callers look for.
        detail="rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
        hint=f"no cgroup is delegated to uid {os.geteuid()}: "
        "run below `systemd-run --user --scope -p Delegate=yes`, or take linux.resources out",
    )


def clean_path(cgroups_path: str | None, id: str, where: str) -> tuple[str, bool]:
    """(path below the base, whether the base is the top of the hierarchy) of a `linux.cgroupsPath`.

    Raises InvalidArgument for one that leads out of its base, or is nothing but the base: the top of a hierarchy, or
    our own cgroup, is no container's.
    """
    text = cgroups_path or id
    if "\0" in text or "\n" in text or len(text) > PATH_MAX:
        # /proc/PID/cgroup writes one line a hierarchy; the kernel refuses newlines for that reason.
        raise InvalidArgument(
            "cgroup path", text[:100], where=where, detail="no newline or NUL, and not longer than 4096"
        )
    parts: list[str] = []
    for part in text.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                raise InvalidArgument(
                    "cgroup path",
                    text,
                    where=where,
                    detail='leads out of the hierarchy by ".."',
                    hint='write it without ".."',
                )
            parts.pop()
        else:
            parts.append(part)
    if not parts:
        raise InvalidArgument(
            "cgroup path", text, where=where, detail="names no cgroup of its own", hint=f'for example "/masu/{id}"'
        )
    return "/".join(parts), text.startswith("/")


def refuse_in_use(path: str, kind: str, where: str, keeper: int = 0) -> None:
    """An existing cgroup is taken only if it is empty and not frozen. The sentences are runc's."""
    from masu.linux.cgroups import freezer, tasks

    found = [pid for pid in tasks.pids(path) if pid != keeper]
    if found:
        raise FailedPrecondition(
            "cgroup",
            path,
            where=where,
            detail=f"container's cgroup is not empty: {len(found)} process(es) found",
            hint="another container uses it: choose another linux.cgroupsPath, or end those processes",
        )
    if freezer.frozen_v1(path) if kind == "v1" else freezer.frozen_v2(path):
        raise FailedPrecondition(
            "cgroup",
            path,
            where=where,
            detail="container's cgroup unexpectedly frozen",
            hint="a process in it would never start: thaw or remove it first",
        )


def _mkdir_error(path: str, e: OSError, where: str) -> MasuError:
    hint = ""
    if e.errno == errno.EROFS:
        hint = f"{os.path.dirname(path)} is mounted read-only: remount it rw"
    elif e.errno == errno.ENOENT:
        hint = "the cgroup file systems are covered by another mount; see /proc/self/mountinfo"
    elif e.errno in PERMISSION:
        hint = f"{os.path.dirname(path)} is not writable for uid {os.geteuid()}: give a cgroup that is delegated"
    elif e.errno == errno.EINVAL:
        hint = "the name has a newline, or the parent is not a cgroup"
    elif e.errno == errno.ENOSPC:
        hint = "the kernel's cgroup ids are used up: too many cgroups, or leaked ones still hold memory"
    elif e.errno == errno.EEXIST:
        hint = "a control file of the cgroup has this name"
    detail = _unable("mkdir", path, e.errno or 0)
    return KernelError("mkdir", path, e.errno or 0, where=where, hint=hint, detail=detail)


def _unable(call: str, path: str, number: int) -> str:
    """runc's sentence, which callers look for."""
    return f"unable to apply cgroup configuration: {call} {path}: {os.strerror(number).lower()}"


def _wants_controllers(resources: Resources) -> bool:
    return bool(
        resources.memory
        or resources.cpu
        or (resources.pids and resources.pids.limit is not None)
        or resources.block_io
        or resources.hugepage_limits
    )
