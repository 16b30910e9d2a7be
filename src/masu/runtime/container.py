"""A container as the runtime keeps it: a directory of its own, 0700, under --root.

    <root>/<id>/
      state.json    the facts below; written twice: at the beginning of `create` and when the process is ready
      config.json   the configuration as it was given, for exec and for poststop hooks
      exec.fifo     there until `start`; its reader is the container's first process
      notify/       with NOTIFY_SOCKET: the socket through which the container says that it is ready
      lock          flock of whoever changes the container

Nothing here says whether the container runs: that is asked of the kernel, by pid and start time.
"""

from __future__ import annotations

import errno
import posix as os

from masu.errors import (
    AlreadyExists,
    DataLoss,
    InvalidArgument,
    KernelError,
    MasuError,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from masu.linux import fds, pidfd, procfs
from masu.linux.cgroups import freezer
from masu.runtime import lifecycle
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from masu.linux.cgroups import Cgroup
    from masu.linux.resctrl import Group
    from masu.spec.runtime import Config

STATE_VERSION = 1
_SALVAGE = "what it was is lost; a forced removal still clears it"
LATE_HOOKS = ("poststart", "poststop")  # those that somebody else than `create` runs
_MAX_ID = 1024
_MAX_STATE_BYTES = 1 << 20


class Facts:
    """What state.json holds. `pid` is 0 until there is one; `creator` is (pid, start time) of who creates;
    `wait_index` is the operation of the plan that waits for `start`. `hooks` are the kinds
    of hooks that are still to come. `unit` is (name, "system" or "user" for whose
    manager has it) with the systemd driver. `resctrl` is what `linux.resctrl.Group` is made from, {} without
    linux.intelRdt. `stdio` is what the first process was born with as 0, 1 and 2, in the words
    of `procfs.stdio`: what it has later may be something else."""

    __slots__ = (
        "annotations",
        "bundle",
        "cgroup_paths",
        "created",
        "creator",
        "hooks",
        "id",
        "oci_version",
        "owner_uid",
        "pid",
        "resctrl",
        "rootfs",
        "start_time",
        "stdio",
        "unit",
        "wait_index",
    )

    def __init__(
        self,
        *,
        id: str,
        bundle: str,
        rootfs: str,
        created: str,
        oci_version: str,
        annotations: dict[str, str],
        owner_uid: int,
        creator: tuple[int, int],
        pid: int = 0,
        start_time: int = 0,
        cgroup_paths: dict[str, str] | None = None,
        hooks: list[str] | None = None,
        resctrl: dict[str, str] | None = None,
        stdio: list[str] | None = None,
        unit: tuple[str, str] = ("", ""),
        wait_index: int = 0,
    ) -> None:
        self.id = id
        self.bundle = bundle
        self.rootfs = rootfs
        self.created = created
        self.oci_version = oci_version
        self.annotations = annotations
        self.owner_uid = owner_uid
        self.creator = creator
        self.pid = pid
        self.start_time = start_time
        self.cgroup_paths = cgroup_paths or {}
        self.hooks = hooks or []
        self.resctrl = resctrl or {}
        self.stdio = stdio or []
        self.unit = unit
        self.wait_index = wait_index

    def to_json(self) -> dict[str, object]:
        facts: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        facts["creator"] = list(self.creator)
        facts["unit"] = list(self.unit)
        return {"version": STATE_VERSION, **facts}

    @classmethod
    def from_json(cls, data: object, path: str) -> Facts:
        if not isinstance(data, dict) or data.get("version") != STATE_VERSION:
            version = data.get("version", "missing") if isinstance(data, dict) else "missing"
            raise DataLoss("state", path, detail=f"version {version}, this masu knows {STATE_VERSION}", hint=_SALVAGE)
        # Not there before the systemd driver, checkpoints, resctrl groups were; of hooks the configuration told.
        facts = {"unit": ["", ""], "stdio": [], "resctrl": {}, "hooks": list(LATE_HOOKS), **data}
        for name, is_right in _SHAPES.items():
            if name not in facts or not is_right(facts[name]):
                raise DataLoss("state", path, detail=f"{name} is missing or of a wrong type", hint=_SALVAGE)
        facts["creator"], facts["unit"] = tuple(facts["creator"]), tuple(facts["unit"])
        return cls(**{name: facts[name] for name in cls.__slots__})


def _number(limit: int) -> Callable[[object], bool]:
    return lambda value: value.__class__ is int and 0 <= value < limit


def _is_text(value: object) -> bool:
    return value.__class__ is str and "\0" not in value


def _is_map(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(item) for item in value.values())


def _has(value: object, *names: str) -> bool:
    return isinstance(value, dict) and all(name in value for name in names)


def _list_of(is_right: Callable[[object], bool], count: int = 0) -> Callable[[object], bool]:
    """A list, of `count` items if that is not 0."""
    return lambda value: (
        isinstance(value, list) and len(value) == (count or len(value)) and all(is_right(item) for item in value)
    )


_is_pid, _is_time = _number(1 << 31), _number(1 << 64)
# What each fact has to be: verbs hand them on to the kernel as they are.
_SHAPES: dict[str, Callable[[object], bool]] = {
    "annotations": _is_map,
    "bundle": _is_text,
    "cgroup_paths": _is_map,
    "created": _is_text,
    "creator": lambda value: isinstance(value, list) and len(value) == 2 and _is_pid(value[0]) and _is_time(value[1]),
    "hooks": _list_of(_is_text),
    "id": _is_text,
    "oci_version": _is_text,
    "owner_uid": _number(1 << 32),
    "pid": _is_pid,
    "resctrl": lambda value: _is_map(value) and (value == {} or _has(value, "root", "group")),
    "rootfs": _is_text,
    "start_time": _is_time,
    "stdio": _list_of(_is_text),
    "unit": _list_of(_is_text, 2),
    "wait_index": _number(1 << 32),
}


class Container:
    """A container's directory and facts. `open` one that exists, `make` a new one."""

    __slots__ = ("_saved", "directory", "facts")

    def __init__(self, directory: str, facts: Facts) -> None:
        self.directory = directory
        self.facts = facts
        self._saved = b""  # what we know to be in state.json

    @property
    def id(self) -> str:
        return self.facts.id

    @property
    def fifo(self) -> str:
        return self.directory + "/exec.fifo"

    @property
    def cgroup(self) -> Cgroup:
        from masu.linux.cgroups.group import Cgroup  # whose status is asked does not need it

        return Cgroup(self.facts.cgroup_paths)

    @property
    def resctrl(self) -> Group | None:
        """Its class of service and MON group, None without linux.intelRdt."""
        if not self.facts.resctrl:
            return None
        from masu.linux import resctrl  # by whose containers have shares of cache or bandwidth

        return resctrl.Group(self.facts.resctrl)

    @classmethod
    def open(cls, root: str, id: str) -> Container:
        """Raises NotFound, InvalidArgument (the id), DataLoss (a state file that cannot be read)."""
        check_id(id)
        directory = f"{root}/{id}"
        path = directory + "/state.json"
        try:
            text = fds.read_bounded(path, _MAX_STATE_BYTES)
            _check_owner(path)
        except FileNotFoundError:
            raise NotFound("container", id, detail="container does not exist", where=root) from None
        except KernelError as error:
            if error.errno == errno.ENOTDIR:
                raise NotFound("container", id, detail="container does not exist", where=root) from None
            raise
        try:
            data = jsontext.loads(text, name=path)
        except InvalidArgument as error:
            raise DataLoss("state", path, detail=error.detail, hint=_SALVAGE) from error
        facts = Facts.from_json(data, path)
        if facts.id != id:
            raise DataLoss("state", path, detail=f"it is that of container {facts.id!r}", hint=_SALVAGE)
        return cls(directory, facts)

    @classmethod
    def salvage(cls, root: str, id: str) -> Container:
        """For its removal alone: a container whose state.json cannot be read. Its cgroups, through which its processes
        are found, are those that its configuration names. Raises NotFound when it has no directory."""
        from posixpath import isdir

        from masu.linux import cgroups  # rarely needed

        check_id(id)
        directory = f"{root}/{id}"
        if not isdir(directory):
            raise NotFound("container", id, detail="container does not exist", where=root)
        facts = Facts(
            id=id, bundle="", rootfs="", created="", oci_version="", annotations={}, owner_uid=0, creator=(0, 0),
            hooks=list(LATE_HOOKS),
        )  # fmt: skip
        container = cls(directory, facts)
        try:
            path = container.config().linux.cgroups_path
            if isdir("/run/systemd/system") and (not path or (path.count(":") == 2 and "/" not in path)):
                from masu.linux.cgroups import systemd

                unit = systemd.unit_of(path, id, user=False)
                facts.cgroup_paths = cgroups.predict(unit.path(), id)
            if not container.cgroup.exists():
                facts.cgroup_paths = cgroups.predict(path, id)
        except (MasuError, OSError):
            pass  # no configuration either: it had not come so far
        return container

    @classmethod
    def make(cls, root: str, facts: Facts) -> Container:
        """A new directory with the facts as they are at the beginning. Raises AlreadyExists.

        Its cgroups are known before they are made, so that a killed create can be cleaned up by whoever comes next; but
        not what is there already, for it may be somebody else's.
        """
        check_id(facts.id)
        places = facts.cgroup_paths
        _make_root(root, facts.owner_uid)
        container = cls(f"{root}/{facts.id}", facts)
        while _made(container.directory):
            try:
                # Until state.json is there, the directory looks like one whose creator was killed.
                with container.lock():
                    if os.access(container.directory + "/state.json", os.F_OK):
                        break
                    facts.cgroup_paths = {key: path for key, path in places.items() if not os.access(path, os.F_OK)}
                    try:
                        container.save()
                    except KernelError:
                        container.remove_directory()  # a full disk has room for a directory, not for a file
                        raise
                    return container
            except NotFound:
                continue  # it was taken for such a one
        raise AlreadyExists(
            "container",
            facts.id,
            detail="container with given ID already exists",
            hint="delete it first, or choose another id",
        )

    def save(self) -> None:
        data = jsontext.dumps(self.facts.to_json()).encode()
        if data != self._saved:
            fds.atomic_write(self.directory + "/state.json", data, 0o600, sync=False)
            self._saved = data

    def config(self) -> Config:
        """The configuration it was created with, and what `update` made of it."""
        from masu.spec import runtime as spec

        return spec.parse_config(self.config_json(), []).in_bundle(self.facts.bundle)

    def config_json(self) -> dict[str, object]:
        """As `config`, before it is understood. Raises DataLoss, for it was right when it was written."""
        path = self.directory + "/config.json"
        try:
            data = jsontext.loads(fds.read_bounded(path, 16 << 20), name=path)
        except FileNotFoundError:
            raise DataLoss("container", path, detail="no such file") from None
        except InvalidArgument as error:
            raise DataLoss("container", path, detail=error.detail) from error
        if not isinstance(data, dict):
            raise DataLoss("container", path, detail="an object is wanted")
        return data

    def has_hooks(self, kind: str) -> bool:
        """Whether its configuration names hooks of this kind ("poststop"). Looked at, not parsed as a whole, which
        costs more than the work of most verbs. Raises as `config_json`."""
        if kind not in self.facts.hooks:
            return False
        hooks = self.config_json().get("hooks")
        return isinstance(hooks, dict) and bool(hooks.get(kind))

    def save_config(self, config: object) -> None:
        fds.atomic_write(self.directory + "/config.json", jsontext.dumps(config).encode(), 0o600, sync=False)

    def lock(self) -> fds.Lock:
        """Exclusive among those who change this container. Raises NotFound when it was deleted meanwhile."""
        try:
            return fds.Lock(self.directory + "/lock")
        except FileNotFoundError:
            raise NotFound("container", self.id, detail="container does not exist") from None

    def hold(self) -> fds.Lock:
        """The lock, and the facts as whoever had it before has left them: that may have been `create`."""
        lock = self.lock()
        try:
            self._read_again()
        except BaseException:
            lock.release()
            raise
        return lock

    def _read_again(self) -> None:
        self._saved = b""
        try:
            self.facts = self.open(self.directory.rpartition("/")[0], self.id).facts
        except (DataLoss, NotFound):
            pass  # a container that was salvaged

    def open_pidfd(self) -> int | None:
        """A pidfd of the first process, or None when it is gone."""
        return pidfd.open_checked(self.facts.pid, self.facts.start_time) if self.facts.pid else None

    def is_alive(self) -> bool:
        return self.facts.pid != 0 and procfs.is_alive(self.facts.pid, self.facts.start_time)

    def pids(self) -> list[int]:
        """Its processes, as far as they can be told: those of its cgroup or, without one, of its PID namespace."""
        if self.facts.cgroup_paths:
            return sorted(self.cgroup.pids())
        if not self.is_alive():
            return []
        from masu.linux import namespaces  # a container without a cgroup is rare

        return sorted({self.facts.pid, *namespaces.members(self.facts.pid, "pid")})

    def is_ending(self) -> bool:
        """Whether its first process is gone or on its way out: what was asked of it may have failed for that alone."""
        return procfs.is_ending(self.facts.pid, self.facts.start_time)

    def status(self) -> str:
        if not self.facts.pid:
            if procfs.is_alive(*self.facts.creator):
                return lifecycle.CREATING
            # It was killed, or has come to its end since we read the facts.
            self._read_again()
        if not self.is_alive():
            return lifecycle.STOPPED
        # The file: of one that another runtime has stopped in its own way (masu.isolation.oci).
        if freezer.frozen(self.facts.cgroup_paths) or os.access(self.directory + "/paused", os.F_OK):
            return lifecycle.PAUSED
        return lifecycle.CREATED if self._is_waiting() else lifecycle.RUNNING

    def is_remains(self) -> bool:
        """Whether its `create` was killed before there was a process."""
        return self.status() == lifecycle.STOPPED and not self.facts.pid

    def _is_waiting(self) -> bool:
        # The file alone does not tell: whoever released it may have been killed before the unlink. Its reader does.
        try:
            os.close(os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            # One that another runtime has made (masu.isolation.oci) waits in that one's way.
            return os.access(self.directory + "/waits", os.F_OK)
        return True

    def state(self, status: str | None = None, pid: int | None = None) -> dict[str, object]:
        """The state of runtime.md ("State"), as hooks get it."""
        status = status or self.status()
        pids = {} if status == lifecycle.STOPPED else {"pid": self.facts.pid if pid is None else pid}
        return {
            "ociVersion": self.facts.oci_version,
            "id": self.id,
            "status": status,
            **pids,
            "bundle": self.facts.bundle,
            **({"annotations": self.facts.annotations} if self.facts.annotations else {}),
        }

    def require(self, verb: str) -> str:
        status = self.status()
        lifecycle.require(verb, status, self.id)
        return status

    def remove_groups(self) -> list[str]:
        """Kills what is left in its cgroup, removes that and its resctrl group; returns warnings. Raises as
        Cgroup.delete."""
        warnings: list[str] = []
        if self.facts.cgroup_paths:
            self.cgroup.kill()
        if self.facts.unit[0]:
            from masu.runtime import scope  # by whose containers are systemd's

            warnings = scope.stop(self)
        if self.facts.cgroup_paths:
            self.cgroup.delete()
        if (group := self.resctrl) is not None:
            group.remove()
        return warnings

    def remove_directory(self) -> None:
        remove_directory(self.directory)


def _check_owner(path: str) -> None:
    """What a state says is obeyed: which processes are killed, which cgroups removed. Root does not do that for a user.
    Raises PermissionDenied."""
    if os.geteuid() == 0 and (owner := os.stat(path).st_uid) != 0:
        raise PermissionDenied(
            "container", path, detail=f"its state belongs to uid {owner}", hint="call masu-oci as that user"
        )


def _make_root(root: str, uid: int) -> None:
    try:
        made = fds.private_directory(root)
    except KernelError as error:
        if uid != 0 and error.errno in (errno.EACCES, errno.EROFS):
            error.hint = "set XDG_RUNTIME_DIR to a directory of your own (systemd's is /run/user/UID), or give --root"
        raise
    if made and uid != 0:
        # In a user's runtime directory what is not sticky may be cleaned away after six hours (XDG Base Directory
        # Specification).
        os.chmod(root, 0o1700)


def check_id(id: str) -> None:
    """Letters, digits and `_+-.`, not `.` or `..`, at most 1,024 (runc's rule). Raises InvalidArgument."""
    wrong = next((c for c in id if not (c.isascii() and (c.isalnum() or c in "_+-."))), "")
    if wrong or id in ("", ".", "..") or len(id) > _MAX_ID:
        detail = "invalid container ID format: " + (f"invalid character {wrong!r}; " if wrong else "")
        detail += "allowed are letters, digits, _ + - . and at most 1024 of them"
        raise InvalidArgument("container ID", repr(id) if id else '""', detail=detail)


def remove_directory(directory: str) -> None:
    """Removes a container's directory: state.json last, so that an interrupted removal can be seen and repeated."""
    while True:
        try:
            names = sorted(os.listdir(directory), key=lambda name: name == "state.json")
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            try:
                os.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                pass
            except IsADirectoryError:
                _remove_tree(f"{directory}/{name}")
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            # Somebody who waits for the lock makes its file anew as soon as it is gone; they find out in their turn.
            if error.errno != errno.ENOTEMPTY:
                raise
            continue
        return


def _remove_tree(path: str, parent: int | None = None) -> None:
    """A directory that the container sees, and with enough rights fills: no link in it is followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            for name in os.listdir(fd):
                try:
                    os.unlink(name, dir_fd=fd)
                except IsADirectoryError:
                    _remove_tree(name, fd)
        finally:
            os.close(fd)
        os.rmdir(path, dir_fd=parent)
    except FileNotFoundError:
        pass  # by another removal


def _made(directory: str) -> bool:
    """Makes it; False when it is there and somebody's. Raises KernelError."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return _is_abandoned(directory) and _made(directory)
    except OSError as error:
        raise KernelError("mkdir", directory, error.errno or 0) from error
    return True


def _is_abandoned(directory: str) -> bool:
    """A directory that a killed `create` left behind; cleans it up. Its processes went away by themselves."""
    root, _, id = directory.rpartition("/")
    try:
        container = Container.open(root, id)
    except NotFound:
        # Killed between mkdir and the first write, or in the last step of a removal; or somebody is there now.
        try:
            lock = fds.Lock(directory + "/lock", wait=False)
        except (Unavailable, FileNotFoundError):
            return False
        with lock:
            if os.access(directory + "/state.json", os.F_OK):
                return False
            remove_directory(directory)
        return True
    if not container.is_remains():
        return False
    try:
        with container.hold():
            if not container.is_remains():
                return False  # made anew by somebody who has come before us
            container.remove_groups()
            container.remove_directory()
    except NotFound:
        pass  # somebody has removed it
    return True


def listing(root: str, warnings: list[str] | None = None) -> list[Container]:
    """Every container under `root`, by id; a root that does not exist has none. Vanished ones are left out, and torn
    ones with a warning, in runc's words."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            found.append(Container.open(root, name))
        except DataLoss as error:
            if warnings is not None:
                warnings.append(f"load container {name}: {error}")
        except (NotFound, InvalidArgument, NotADirectoryError):
            continue
    return found
