"""A container's cgroup as a unit of systemd (--systemd-cgroup).

    make      keeper begun ─── StartTransientUnit(PIDs=[keeper], limits) ──► systemd makes the cgroup
              the rest made and written by the cgroupfs driver; the container's first process is born inside
    release   the keeper ends: from now on the container's processes are what keeps the scope
    update    SetUnitProperties, then the files
    stop      StopUnit, ResetFailedUnit; when all processes have gone systemd has done so by itself

A scope cannot be without a process, and the container's first one cannot be without its cgroup: hence the keeper, which
waits for the end of file on a pipe from us. Killed at any moment, we take it along, and systemd the then empty scope.

Rootless, the manager is the user's own. It may move a process that we may not, from the session's cgroup into one that
is delegated to it (cgroups(7), "Delegation containment"): `bring`.
"""

from __future__ import annotations

import os

from masu.errors import FailedPrecondition, MasuError, Unavailable
from masu.linux import cgroups, executable, spawn
from masu.linux.cgroups import Cgroup, Layout, files, systemd
from masu.linux.cgroups.layout import parse_proc_cgroup
from masu.linux.cgroups.manager import Manager
from masu.linux.dbus_values import Variant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from masu.linux.cgroups.systemd import Property, Unit
    from masu.runtime.container import Container
    from masu.spec.resources import LinuxResources
    from masu.spec.runtime import Config

# What a limit is without one, where that is not infinity.
_NONE: dict[str, object] = {"MemoryLow": 0, "MemoryMin": 0, "AllowedCPUs": b"", "AllowedMemoryNodes": b""}


class Keeper:
    """A process of ours that does nothing until we close its pipe, or end."""

    __slots__ = ("_fd", "pid")

    def __init__(self) -> None:
        # A program, not a fork of ours: we may have threads, and what they hold is held for ever in their copy.
        read, self._fd = os.pipe2(os.O_CLOEXEC)
        try:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            try:
                self.pid = spawn.spawn(executable.launcher_path(), ["keeper"], {}, stdio=(read, null, null))
            finally:
                os.close(null)
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(read)

    def end(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            os.kill(self.pid, 9)  # should somebody have stopped it
            spawn.wait(self.pid)


class Scope:
    """The unit of a container that is being created. `close` when it is, `abandon` when it is not to be."""

    __slots__ = ("_annotated", "_keeper", "_manager", "unit")

    def __init__(self, unit: Unit, annotations: Mapping[str, str]) -> None:
        """Raises InvalidArgument for an annotation that is no property, before anybody is asked."""
        self.unit = unit
        self._annotated = systemd.annotated(annotations)
        self._manager = Manager(user=unit.user)
        self._keeper: Keeper | None = None

    def start(self, config: Config, id: str, layout: Layout) -> None:
        """Has systemd make it, with all limits but that of processes. Raises InvalidArgument, FailedPrecondition (there
        is somebody in it), and as Manager.start."""
        from masu.linux.cgroups import devices, making

        if self.unit.is_slice:
            # systemd takes one that is there, and to stop it later would stop everything that others have in it.
            self._manager.refuse_active(self.unit.name)
        if not self.unit.user:
            # systemd would take what is there: with somebody else's processes, or frozen with ours.
            for controller, path in cgroups.predict(self.unit.path(), id, layout=layout).items():
                if os.path.isdir(path):
                    kind = "v2" if layout.mode == "v2" else "v1" if controller else ""
                    making.refuse_in_use(path, kind, "linux.cgroupsPath")
        resources = config.linux.resources
        group = Cgroup(cgroups.predict(self.unit.path(), id, layout=layout))
        table = devices.table(resources.devices if resources is not None else (), where="linux.resources.devices")
        properties = [*self._annotated, *systemd.devices(table)]
        if resources is not None:
            settings = group.settings(resources.replace(pids=None), where="linux.resources")
            properties += systemd.limits(settings, self._manager.version)
            properties += systemd.oom_policy(resources.unified, self._manager.version)
        pid = 0
        if not self.unit.is_slice:
            self._keeper = Keeper()
            pid = self._keeper.pid
        birth = systemd.birth(self.unit, id, pid, v1=group.mode != "v2")
        self._manager.start(self.unit.name, [*birth, *properties])

    def place(self, layout: Layout) -> str:
        """Its path as a `linux.cgroupsPath`, from the top of the hierarchies. systemd itself may be below it, in a
        container or as a user's own manager; so it is read from where the keeper is."""
        if self._keeper is None:
            return self.unit.path()
        own = parse_proc_cgroup(files.read(None, f"/proc/{self._keeper.pid}/cgroup"))
        controller = "" if layout.mode == "v2" else "name=systemd"
        path = layout.of(own).own_directory(controller)
        mount = layout.hierarchies()[controller].path
        if not path.startswith(mount + "/"):
            raise FailedPrecondition("cgroup", self.unit.name, detail="systemd has made it where we cannot see it")
        return path.removeprefix(mount)

    @property
    def keeper(self) -> int:
        """The pid of the process that is in it already, 0 without one."""
        return self._keeper.pid if self._keeper is not None else 0

    @staticmethod
    def rounded(resources: LinuxResources | None) -> LinuxResources | None:
        """As systemd will have them."""
        return systemd.rounded(resources) if resources is not None else None

    def set(self, group: Cgroup, resources: LinuxResources, whole: LinuxResources) -> None:
        """`whole` is what is in the files already."""
        _set(self._manager, self.unit, group, _limits(self._manager, group, resources))
        _keep_period(group, whole)

    def bring(self, pid: int) -> None:
        self._manager.attach(self.unit.name, pid)

    def release(self) -> None:
        """The container's own process is in it."""
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None

    def close(self) -> None:
        self.release()
        self._manager.close()

    def abandon(self) -> None:
        self.release()
        self._manager.stop(self.unit.name)
        self._manager.close()


def unit_of(config: Config, id: str, layout: Layout, *, rootless: bool) -> Unit:
    """Raises InvalidArgument, FailedPrecondition (no systemd, or not for this user)."""
    unit = systemd.unit_of(config.linux.cgroups_path, id, user=rootless)
    if rootless and layout.mode != "v2":
        raise FailedPrecondition(
            "--systemd-cgroup",
            detail="cannot use rootless systemd cgroups manager on cgroup v1",
            hint="a user's own systemd has controllers on cgroup v2 alone",
        )
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        raise FailedPrecondition(
            "--systemd-cgroup",
            detail="systemd cgroup flag passed, but systemd support not available",
            hint="this machine was not booted with systemd: leave the flag out",
        )
    return unit


def update(
    container: Container,
    resources: LinuxResources,
    present: LinuxResources,
    merged: LinuxResources,
    *,
    where: str,
    warnings: list[str],
) -> None:
    """Changes the limits of a running container in systemd and in the files: from `present` by `resources` to `merged`.
    Errors as in Cgroup.update; what had been changed before one is then as it was."""
    unit, group = unit_in(container), container.cgroup
    resources = systemd.rounded(resources)
    # What systemd sets cannot be refused any more: a memory limit below what is used kills.
    group.checked(resources, where)
    manager = Manager(user=unit.user)
    try:
        properties = _limits(manager, group, resources)
        _set(manager, unit, group, properties)
        try:
            group.update(resources, where=where, warnings=warnings)
            _keep_period(group, merged)
        except MasuError as error:
            before = dict(_limits(manager, group, systemd.rounded(present)))
            try:
                _set(manager, unit, group, [(name, before.get(name, _unlimited(name))) for name, _ in properties])
            except MasuError as second:
                error.cleanup.append(second)
            raise
    finally:
        manager.close()


def stop(container: Container) -> list[str]:
    """Has systemd forget a container whose processes are gone. Without systemd that is a warning: there is nothing
    left that could run on."""
    unit = unit_in(container)
    try:
        manager = Manager(user=unit.user)
    except Unavailable as error:
        return [f"unit {unit.name} is left to systemd: {error}"]
    try:
        manager.stop(unit.name)
    except (FailedPrecondition, Unavailable) as error:
        return [str(error)]
    finally:
        manager.close()
    return []


def bring(container: Container, cgroup: Cgroup, pid: int) -> None:
    """Moves a process of ours into a rootless container's cgroup, or one below it. Raises CallError, Unavailable."""
    unit = unit_in(container)
    below = (cgroup.path() or "").removeprefix(container.cgroup.path() or "")
    manager = Manager(user=unit.user)
    try:
        manager.attach(unit.name, pid, below or "/")
    finally:
        manager.close()


def unit_in(container: Container) -> Unit:
    """The unit that state.json names."""
    name, manager = container.facts.unit
    return systemd.Unit(name, "", user=manager == "user")


def _limits(manager: Manager, group: Cgroup, resources: LinuxResources) -> list[Property]:
    return systemd.limits(group.settings(resources), manager.version)


def _unlimited(name: str) -> Variant:
    value = _NONE.get(name, systemd.INFINITY)
    return Variant("ay" if isinstance(value, bytes) else "t", value)


def _keep_period(group: Cgroup, resources: LinuxResources) -> None:
    """Whichever property is changed, systemd writes the files of all controllers anew, and for a period without a quota
    it has its own, 100 ms."""
    cpu = resources.cpu
    if cpu is not None and cpu.period and (cpu.quota or 0) <= 0:
        group.apply(type(resources)(cpu=type(cpu)(quota=cpu.quota, period=cpu.period)), devices=False)


def _set(manager: Manager, unit: Unit, group: Cgroup, properties: list[Property]) -> None:
    if not properties:
        return
    # On v1 systemd writes the device rules anew with everything else: all forbidden, then one by one.
    freeze = group.mode != "v2" and group.path("freezer") is not None and not group.frozen()
    if freeze:
        group.freeze()
    try:
        manager.set(unit.name, properties)
    finally:
        if freeze:
            group.thaw()
