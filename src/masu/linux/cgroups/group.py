"""One container's cgroup, whatever the machine's layout.

A container has one directory on v2, and one in every hierarchy on v1; on a hybrid machine also one in the cgroup2
tree, which carries no limits there but tells when the container is empty and kills it at one stroke. `paths()` is all
there is to remember: an object made from it later works the same.

    made        Cgroup.create()       directories; refuses one that is in use or frozen
    configured  .apply()              limits, device rules
    entered     .open_for_clone(), .join_files()   by the child itself (masu-launch writes "0")
    running     .freeze() .thaw() .pids() .stats() .update() .oom_watch() .sub()
    left        .kill() .wait_empty()
    gone        .delete()             a directory that has vanished is no error anywhere
"""

from __future__ import annotations

import errno
import posix as os

from masu.errors import FailedPrecondition, InvalidArgument, KernelError, MasuError, NotFound
from masu.linux.cgroups import files, freezer
from masu.linux.cgroups.files import Directories, open_directory, read, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from masu.linux.cgroups.files import Setting
    from masu.linux.cgroups.layout import Layout
    from masu.linux.cgroups.oom import OomWatch
    from masu.linux.cgroups.stats import Stats
    from masu.spec.resources import LinuxResources as Resources

# Where a list of the container's processes is read on v1; runc asks "devices" first.
PIDS_FROM = ("devices", "pids", "freezer", "memory", "cpu", "cpuset", "cpuacct", "name=systemd")


class Cgroup:
    """The cgroup of one container; holds no descriptors.

    Made by `create`, or from state.json's `cgroup_paths`, {controller: absolute directory}: then nothing is looked up,
    and the directories may be gone. Raises InvalidArgument for a path that is not absolute and plain, for what is
    here may be removed later.
    """

    __slots__ = ("_cpuset_error", "_paths")

    def __init__(self, paths: Mapping[str, str]) -> None:
        for controller, path in paths.items():
            first, *others = path.split("/")
            if first or not others or {"", ".", ".."} & set(others) or "\0" in path:
                where = f"cgroup_paths.{controller}"
                raise InvalidArgument("cgroup path", path, where=where, detail="must be absolute and plain")
        self._paths = dict(paths)
        self._cpuset_error: OSError | None = None

    def __repr__(self) -> str:
        return f"Cgroup({self._paths!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cgroup) and self._paths == other._paths

    __hash__ = None  # type: ignore[assignment]

    # --- making ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        cgroups_path: str | None,
        id: str,
        *,
        where: str = "linux.cgroupsPath",
        layout: Layout | None = None,
        resources: Resources | None = None,
        rootless: bool = False,
        keeper: int = 0,
    ) -> Cgroup:
        """Make the directories for `linux.cgroupsPath`, without limits yet.

        An absolute path counts from the top of each hierarchy, a relative one from the caller's own cgroup there (on
        v2 from the parent of it, which alone can have children with controllers); none means <id>, a relative one, so
        that limits on the caller hold for the container. Missing parents are made. A last directory that exists
        already is taken if it is empty and not frozen.

        `resources` lets v2 decide whether a threaded place will do. `rootless`: as long as no path was asked for, the
        directories are made where cgroups are delegated to us, below our own or beside it, and hierarchies without
        such a place are left out; a limit that would need one of them fails here or in `apply`. `keeper`: the pid of
        a process that may be there already, since it is ours.

        Raises InvalidArgument (bad path), FailedPrecondition (in use, frozen, no cgroups mounted), KernelError. After
        a failure everything made here is gone again.
        """
        from masu.linux.cgroups.layout import detect
        from masu.linux.cgroups.making import Maker

        maker = Maker(layout or detect(), where, tolerant=rootless and not cgroups_path, keeper=keeper)
        maker.make(cgroups_path, id, resources)
        group = cls(maker.paths)
        group._cpuset_error = maker.cpuset_error
        return group

    # --- looking --------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """ "v1", "hybrid", "v2", or "none" for a rootless container that got no cgroup."""
        if not self._paths:
            return "none"
        if "" not in self._paths:
            return "v1"
        return "v2" if len(self._paths) == 1 else "hybrid"

    def paths(self) -> dict[str, str]:
        """{controller: absolute directory}; "" is the cgroup2 tree. What the constructor takes."""
        return dict(self._paths)

    def path(self, controller: str = "") -> str | None:
        """The directory where a controller's files are; on v2 it is the same for all."""
        if self.mode == "v2":
            return self._paths[""]
        return self._paths.get(controller)

    def exists(self) -> bool:
        """Whether any of its directories is there."""
        return any(os.access(path, os.F_OK) for path in set(self._paths.values()))

    def pids(self, all: bool = True) -> list[int]:
        """Its processes, as pids of our own pid namespace (0 for those out of it); with `all`, also those in cgroups
        that the container has made below. Raises KernelError."""
        from masu.linux.cgroups import tasks

        path = self._pids_directory()
        return tasks.pids(path, recursive=all) if path else []

    def _pids_directory(self) -> str | None:
        if self.mode == "v2":
            return self._paths[""]
        for controller in PIDS_FROM:
            if controller in self._paths:
                return self._paths[controller]
        return next(iter(self._paths.values()), None)

    # --- configuring ----------------------------------------------------------------------------------------------

    def settings(
        self, resources: Resources, *, where: str = "linux.resources", warnings: list[str] | None = None
    ) -> list[Setting]:
        """What `apply` would write, devices apart, in order. Raises InvalidArgument."""
        if self.mode == "v2":
            from masu.linux.cgroups import v2

            return v2.settings(resources, where=where, warnings=warnings)
        from masu.linux.cgroups import v1

        found = v1.settings(resources, where=where)
        if resources.hugepage_limits and "hugetlb" not in self._paths and "" in self._paths:
            # A hybrid machine may keep this controller in the cgroup2 tree.
            from masu.linux.cgroups import v2

            twins: list[Setting] = []
            v2.hugetlb(twins, resources, where)
            found = [setting for setting in found if setting.controller != "hugetlb"] + twins
        return found

    def apply(
        self,
        resources: Resources | None,
        *,
        where: str = "linux.resources",
        devices: bool = True,
        rootless: bool = False,
        warnings: list[str] | None = None,
    ) -> None:
        """Write the limits and, unless `devices` is false, the device rules with the defaults every container has.

        `resources` None means no limits; device rules still apply. Fields that this layout has no file for and that
        callers send by habit become `warnings`, as with runc; everything else is an error.

        Raises InvalidArgument (the place in the config), FailedPrecondition (controller not there), KernelError
        (file, value, errno, hint). What was written before a failure stays written.
        """
        settings = [] if resources is None else self.checked(resources, where, warnings)
        directories = Directories(self._directory_of)
        try:
            # The first thing a task needs on v1, and the first that may be refused.
            write_all(settings, directories)
            if self._cpuset_error is not None:
                self._check_cpuset(directories, where)
            if devices and self._paths:
                try:
                    self._apply_devices(resources, directories, f"{where}.devices")
                except MasuError as e:
                    # Without root no rules can be made (bpf(2)), nor devices to which they would apply.
                    if not (rootless and e.errno in (errno.EPERM, errno.EACCES)):
                        raise
        finally:
            directories.close()

    def update(self, resources: Resources, *, where: str = "resources", warnings: list[str] | None = None) -> None:
        """Change limits of a running container; device rules stay. Errors as in `apply`, but what had been changed
        before a failure is then as it was; what fails in that is added to the error's `cleanup`.
        """
        settings = self.checked(resources, where, warnings)
        directories = Directories(self._directory_of)
        try:
            before = files.present(settings, directories)
            try:
                write_all(settings, directories)
            except MasuError as error:
                try:
                    write_all(before, directories)
                except MasuError as second:
                    error.cleanup.append(second)
                raise
        finally:
            directories.close()

    def checked(self, resources: Resources, where: str, warnings: list[str] | None = None) -> list[Setting]:
        """The settings, when nothing of them is known to be wrong and their controllers have been passed down."""
        settings = self.settings(resources, where=where, warnings=warnings)
        if resources.memory is not None and resources.memory.check_before_update:
            self._check_usage(resources, where)
        if self.mode == "hybrid" and any(setting.controller == "" for setting in settings):
            self._pass_down_hybrid()
        return settings

    def _directory_of(self, controller: str) -> str | None:
        if controller == "" or self.mode == "v2":
            return self._paths.get("")
        return self._paths.get(controller)

    def _pass_down_hybrid(self) -> None:
        from posixpath import dirname, exists

        from masu.linux.cgroups import v2

        path = self._paths[""]
        chain: list[str] = []
        while exists(f"{dirname(path)}/cgroup.controllers"):
            path = dirname(path)
            chain.append(path)
        for parent in reversed(chain):
            v2.enable(parent, ["hugetlb"])

    def _check_cpuset(self, directories: Directories, where: str) -> None:
        """A cpuset that could not take its parent's CPUs must have got its own by now."""
        fd = directories.fd("cpuset")
        assert fd is not None
        for kind in ("cpus", "mems"):
            if not read(fd, f"cpuset.{kind}").strip():
                raise KernelError(
                    "write",
                    f"{self._paths['cpuset']}/cpuset.{kind}",
                    self._cpuset_error.errno or 0 if self._cpuset_error else 0,
                    where=f"{where}.cpu.{kind}",
                    detail=f"the parent's {kind} cannot be shared",
                    hint="another cgroup holds them exclusively: name others",
                )
        self._cpuset_error = None

    def _check_usage(self, resources: Resources, where: str) -> None:
        """v2 takes any limit and then kills: `checkBeforeUpdate` asks for a refusal. v1 refuses by itself."""
        memory = resources.memory
        if self.mode != "v2" or memory is None:
            return
        try:
            usage = int(read(None, f"{self._paths['']}/memory.current"))
        except (OSError, ValueError):
            return  # as good as it gets, runc says, too
        for value, what, field in ((memory.swap, "memory+swap", "swap"), (memory.limit, "memory", "limit")):
            if value is not None and 0 < value <= usage:
                raise FailedPrecondition(
                    f"{what} limit",
                    str(value),
                    where=f"{where}.memory.{field}",
                    detail=f"rejecting {what} limit {value} <= usage {usage}",
                    hint="the container uses more than that: it would be killed",
                )

    def _apply_devices(self, resources: Resources | None, directories: Directories, where: str) -> None:
        from masu.linux.cgroups import devices

        wanted = devices.table(resources.devices if resources is not None else (), where=where)
        if self.mode == "v2":
            from masu.linux import bpf_devices

            bpf_devices.attach(self._paths[""], wanted, where=where)
            return
        path = self._paths.get("devices")
        if path is None:
            return  # rootless, without the right to it: there are no devices to make either
        from masu.linux.cgroups import v1

        try:
            fd = directories.fd("devices")
            assert fd is not None
            current = devices.parse_list(read(fd, "devices.list"))
        except OSError as e:
            raise KernelError("open", f"{path}/devices.list", e.errno or 0, where=where) from e
        refused = v1.apply_devices(fd, wanted.changes_from(current))
        if refused is not None:
            if refused[2].errno == errno.EPERM and devices.in_user_namespace():
                return
            from masu.linux.cgroups.explain import device_refused

            raise device_refused(where, path, *refused) from refused[2]

    # --- entering -------------------------------------------------------------------------------------------------

    def join_files(self, *, cloned_into: bool = False) -> list[str]:
        """The files into which a new process writes "0" to be in the cgroup.

        On v1 these are the `tasks` files, whose write moves one thread and spares the kernel's global lock
        (cgroup.procs takes it). `cloned_into`: the process is born in the cgroup2 directory (`open_for_clone`), which
        is then left out.
        """
        files: list[str] = []
        for controller, path in self._paths.items():
            if controller == "":
                if not cloned_into:
                    files.append(f"{path}/cgroup.procs")
                continue
            file = f"{path}/tasks"
            if file not in files:
                files.append(file)
        return files

    def open_for_clone(self) -> int | None:
        """A directory descriptor for clone3's CLONE_INTO_CGROUP, owned by the caller; None without a cgroup2
        directory. Raises KernelError."""
        path = self._paths.get("")
        if path is None:
            return None
        try:
            return open_directory(path)
        except OSError as e:
            raise KernelError("open", path, e.errno or 0) from e

    def sub(self, specs: Sequence[str]) -> Cgroup:
        """The cgroup for `exec --cgroup`: each spec is "path" or, on v1, "controller[,controller]:path", below this
        cgroup; controllers not named stay as they are. Nothing is made.

        Raises InvalidArgument, NotFound.
        """
        from posixpath import isdir, normpath

        paths = dict(self._paths)
        for spec in specs:
            names, colon, sub = spec.rpartition(":")
            if colon and self.mode == "v2":
                raise InvalidArgument(
                    "sub cgroup", spec, detail="cgroup v2 has no controllers to name: give the path alone"
                )
            chosen = names.split(",") if colon else list(self._paths)
            for name in chosen:
                key = name if name in self._paths else f"name={name}"
                if key not in self._paths:
                    known = ", ".join(sorted(each for each in self._paths if each))
                    raise InvalidArgument(
                        "sub cgroup", spec, detail=f"unknown controller {name}", hint=f"there are: {known}"
                    )
                base = self._paths[key]
                path = normpath(f"{base}/{sub}")
                if path != base and not path.startswith(f"{base}/"):
                    raise InvalidArgument(
                        "sub cgroup",
                        spec,
                        detail=f"bad sub cgroup path: {sub}",
                        hint="must not leave the container's cgroup",
                    )
                # An unnamed path is meant for every hierarchy; the cgroup2 twin of a hybrid machine may lack it.
                if not isdir(path):
                    if key == "" and self.mode == "hybrid" and not colon:
                        continue
                    raise NotFound(
                        "sub cgroup",
                        spec,
                        errno.ENOENT,
                        detail=f"adding pid 0 to cgroups: open {path}/cgroup.procs: no such file or directory",
                    )
                paths[key] = path
        return Cgroup(paths)

    def for_exec(self, init_pid: int) -> Cgroup:
        """The cgroup that a process joining the container goes into.

        On v2 a container that passes controllers on to cgroups of its own has no place for processes in its top one
        (EBUSY); then it is init's cgroup. So it is when this one is gone, since init has left it and somebody has
        removed it. Otherwise it is this one.
        """
        if self.mode != "v2":
            return self
        from masu.linux.cgroups.layout import detect, parse_proc_cgroup

        path, gone = self._paths[""], False
        try:
            try:
                if not read(None, f"{path}/cgroup.subtree_control").strip():
                    return self
            except FileNotFoundError:
                gone = True
            own = parse_proc_cgroup(read(None, f"/proc/{init_pid}/cgroup"))
        except OSError:
            return self
        inits = detect().of(own).own_directory("")
        # As long as there is the container's own, within that: init may have been moved out by somebody.
        return Cgroup({"": inits}) if inits.startswith(f"{path}/") or (gone and inits) else self

    # --- running --------------------------------------------------------------------------------------------------

    def freeze(self, *, deadline_s: float = 10.0) -> None:
        """Stop every process until `thaw`. Raises FailedPrecondition (no freezer), Unavailable (a process would not
        stop: all run on), KernelError."""
        from masu.linux.cgroups import tasks

        if "freezer" in self._paths:
            tasks.freeze_v1(self._paths["freezer"], deadline_s=deadline_s)
        elif "" in self._paths:
            tasks.freeze_v2(self._paths[""], deadline_s=deadline_s)
        else:
            raise FailedPrecondition("freezer", detail="cannot toggle freezer: cgroups not configured for container")

    def thaw(self) -> None:
        """Let frozen processes run on; nothing happens to those that run, or without any. Errors as `freeze`."""
        from masu.linux.cgroups import tasks

        if "freezer" in self._paths:
            tasks.thaw_v1(self._paths["freezer"])
        elif "" in self._paths:
            tasks.thaw_v2(self._paths[""])
        else:
            raise FailedPrecondition("freezer", detail="cannot toggle freezer: cgroups not configured for container")

    def frozen(self) -> bool:
        """Whether it was frozen (not: whether an ancestor was). A vanished one is not. Raises KernelError."""
        return freezer.frozen(self._paths)

    def kill(self, sig: int = 9) -> None:
        """Send a signal to every process, those in cgroups below included; with SIGKILL also frozen ones die.

        SIGKILL goes through cgroup.kill where there is a cgroup2 directory: nothing being born escapes. Otherwise the
        processes are stopped by the freezer while they are signalled one by one. Raises KernelError.
        """
        from masu.linux.cgroups import tasks

        if sig == tasks.SIGKILL and "" in self._paths:
            # Listed before the v1 side, so that one that dies in between is missing there, not here.
            inside = set() if self.mode == "v2" else set(tasks.pids(self._paths[""]))
            if tasks.kill_v2(self._paths[""]):
                if self.mode == "v2":
                    return
                self._thaw_quietly()  # a frozen v1 task dies only when it is thawed
                if inside.issuperset(self.pids()):
                    return  # nobody has left the cgroup2 directory for another one
        self._kill_one_by_one(sig)

    def _kill_one_by_one(self, sig: int) -> None:
        from masu.linux.cgroups import tasks

        was_frozen = False
        stopped = False
        try:
            was_frozen = self.frozen()
            self.freeze(deadline_s=1.0)
            stopped = True
        except MasuError:
            pass  # no freezer, or something in state D: signal what can be seen, again and again below
        try:
            tasks.signal_all((pid for pid in self.pids() if pid > 0), sig)
        finally:
            if sig == tasks.SIGKILL or not was_frozen:
                self._thaw_quietly()
        if sig == tasks.SIGKILL and not stopped:
            # Without a freezer a child may be born while its parent dies. Each round kills what the last one missed.
            for _ in range(100):
                left = [pid for pid in self.pids() if pid > 0]
                if not left or not tasks.signal_all(left, sig):
                    return

    def _thaw_quietly(self) -> None:
        try:
            self.thaw()
        except MasuError:
            pass  # gone, or there is no freezer

    def wait_empty(self, deadline_s: float) -> bool:
        """Wait until no process is left; False at the deadline. Raises KernelError."""
        import time

        from masu.linux.cgroups import tasks

        end = time.monotonic() + deadline_s
        if "" in self._paths and not tasks.wait_event(self._paths[""], "populated", "0", deadline_s):
            return False
        if self.mode in ("v2", "none"):
            return True
        path = self._pids_directory()
        return path is None or tasks.wait_exits(path, end - time.monotonic())

    def delete(self, deadline_s: float = 2.0, *, parents: int = 0) -> None:
        """Remove its directories and those below them. Processes on their way out are waited for.

        Parents stay, as with runc, but for the next `parents` of them that are empty now; `create` of another
        container makes them again, also when it happens at the same time.

        Raises FailedPrecondition when processes are left at the deadline, KernelError. All directories are tried; the
        first error is raised with the others in its `cleanup`.
        """
        import time

        from masu.linux.cgroups import tasks

        end = time.monotonic() + deadline_s
        first: MasuError | None = None
        for path in dict.fromkeys(self._paths.values()):
            try:
                tasks.remove(path, end - time.monotonic(), events_directory=self._paths.get(""))
            except MasuError as e:
                if first is None:
                    first = e
                else:
                    first.cleanup.append(e)
                continue
            for _ in range(parents):
                from posixpath import dirname, ismount  # with os, which most verbs do without

                path = dirname(path)
                if ismount(path) or tasks.rmdir(path) is not None:
                    break
        if first is not None:
            raise first

    def stats(self) -> Stats:
        """What it has used and its limits; parts whose controller is not there are None. Raises KernelError only for
        what should be readable and is not."""
        from masu.linux.cgroups.collect import collect

        return collect(self)

    def oom_watch(self) -> OomWatch:
        """A descriptor that becomes ready when the memory limit kills. Raises FailedPrecondition, KernelError."""
        from masu.linux.cgroups.oom import watch

        return watch(self)

    def oom_kills(self) -> int | None:
        """How many processes the memory limit has killed so far; None without the memory controller."""
        from masu.linux.cgroups.oom import kills

        return kills(self)
