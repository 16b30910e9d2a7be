"""A conversation with a systemd manager: units made, changed and stopped, each job's end waited for.

us                                         systemd
 AddMatch, Subscribe, StartTransientUnit ──►           one after another, without waiting in between
 ◄── the job's path ──────────────────────
 ◄── JobRemoved(id, job, unit, "done") ───             only now is the unit there
 Ping ───────────────────────────────────►             answered when its files are written, too
"""

from __future__ import annotations

import os

from masu.errors import AlreadyExists, FailedPrecondition, MasuError, NotFound, Unavailable
from masu.linux import dbus
from masu.linux.cgroups.systemd import property_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.linux.cgroups.systemd import Property
    from masu.linux.dbus import Message

SYSTEMD = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
PROPERTIES = "org.freedesktop.DBus.Properties"
JOB_TIMEOUT_S = 30.0  # as runc

_MATCH = f"type='signal',sender='{SYSTEMD}',path='{PATH}',interface='{MANAGER}',member='JobRemoved'"


class Manager:
    """The machine's manager, or with `user` the user's own. The owner closes it.

    Methods raise Unavailable and DataLoss as dbus.Connection does, besides what they say.
    """

    __slots__ = ("_connection", "_on_bus", "_version")

    def __init__(self, *, user: bool) -> None:
        """Raises Unavailable when there is nobody to talk to."""
        self._version = 0
        self._connection, self._on_bus = _connect(user=user)

    def close(self) -> None:
        self._connection.close()

    def version(self) -> int:
        """252 for "252.38-1~deb12u1"; 0 where that cannot be told."""
        if not self._version:
            (answer,) = self._connection.call(SYSTEMD, PATH, PROPERTIES, "Get", "ss", MANAGER, "Version")
            digits = ""
            for c in str(getattr(answer, "value", "")).lstrip("v"):
                if not c.isdecimal():
                    break
                digits += c
            self._version = int(digits or 0)
        return self._version

    def start(self, name: str, properties: Sequence[Property]) -> None:
        """Makes a transient unit. Raises AlreadyExists, FailedPrecondition (a property or the job refused)."""
        self._listen()
        try:
            try:
                serial = self._send_start(name, properties)
                answer = self._connection.reply(serial, f"unable to start unit {name}")
            except dbus.CallError as e:
                if not _is(e, "UnitExists"):
                    raise
                # A unit that has failed is kept for somebody to look at; then the name is free again.
                self.reset_failed(name)
                serial = self._send_start(name, properties)
                answer = self._connection.reply(serial, f"unable to start unit {name}")
        except dbus.CallError as e:
            if _is(e, "UnitExists"):
                raise _exists(name, e.detail) from e
            raise
        result = self._wait(answer, name)
        if result != "done":
            self.reset_failed(name)
            raise FailedPrecondition(f"error creating systemd unit {name}", detail=f"got {result!r}")
        self._settle()

    def refuse_active(self, name: str) -> None:
        """Raises AlreadyExists when a unit is active, or about to be."""
        try:
            (path,) = self._connection.call(SYSTEMD, PATH, MANAGER, "GetUnit", "s", name)
        except dbus.CallError as e:
            if _is(e, "NoSuchUnit"):
                return
            raise
        unit = f"{SYSTEMD}.Unit"
        (answer,) = self._connection.call(SYSTEMD, str(path), PROPERTIES, "Get", "ss", unit, "ActiveState")
        state = getattr(answer, "value", "")
        if state not in ("inactive", "failed"):
            raise _exists(name, f"it is {state}")

    def _send_start(self, name: str, properties: Sequence[Property]) -> int:
        return self._connection.send(
            SYSTEMD, PATH, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "replace",
            property_values(properties), [],
        )  # fmt: skip

    def set(self, name: str, properties: Sequence[Property]) -> None:
        """Changes properties of a unit until the next boot. Raises NotFound, CallError."""
        try:
            self._connection.call(
                SYSTEMD, PATH, MANAGER, "SetUnitProperties", "sba(sv)", name, True, property_values(properties)
            )
        except dbus.CallError as e:
            if _is(e, "NoSuchUnit"):
                raise NotFound("systemd unit", name, detail=e.detail) from e
            e.what = "unable to set unit properties"
            raise
        self._settle()

    def attach(self, name: str, pid: int, below: str = "/") -> None:
        """Moves a process into the unit's cgroup, or one below it. Raises CallError."""
        self._connection.call(SYSTEMD, PATH, MANAGER, "AttachProcessesToUnit", "ssau", name, below, [pid])

    def stop(self, name: str) -> None:
        """Stops a unit, with what is in it; one that is not there is no error. Raises FailedPrecondition."""
        self._listen()
        try:
            serial = self._connection.send(SYSTEMD, PATH, MANAGER, "StopUnit", "ss", name, "replace")
            answer = self._connection.reply(serial, f"unable to stop unit {name}")
            result = self._wait(answer, name)
            if result != "done":
                raise FailedPrecondition(f"error removing systemd unit {name}", detail=f"got {result!r}")
        except dbus.CallError as e:
            if not _is(e, "NoSuchUnit"):
                raise
        finally:
            self.reset_failed(name)

    def reset_failed(self, name: str) -> None:
        """Forgets that a unit has failed; then systemd forgets the unit."""
        try:
            self._connection.call(SYSTEMD, PATH, MANAGER, "ResetFailedUnit", "s", name)
        except MasuError:
            pass  # not loaded: nothing to forget

    def _settle(self) -> None:
        """Returns when systemd has written the cgroup's files. It puts that off until it has answered, but not until it
        reads the next call (manager_loop); what we write ourselves would be lost in between."""
        self._connection.call(SYSTEMD, PATH, "org.freedesktop.DBus.Peer", "Ping")

    def _listen(self) -> None:
        if self._on_bus:
            self._connection.send(dbus.BUS, dbus.BUS_PATH, dbus.BUS, "AddMatch", "s", _MATCH)
        self._connection.send(SYSTEMD, PATH, MANAGER, "Subscribe")

    def _wait(self, answer: Message, name: str) -> str:
        """The result of a job, from its signal. Only systemd's own word counts: on a bus everybody can send signals."""
        job = answer.body[0] if answer.body else ""

        def ended(signal: Message) -> bool:
            return signal.member == "JobRemoved" and signal.sender == answer.sender and signal.body[1:2] == (job,)

        signal = self._connection.wait_signal(ended, JOB_TIMEOUT_S, f"the job of systemd unit {name}")
        return str(signal.body[3]) if len(signal.body) > 3 else ""


def _exists(name: str, detail: str) -> AlreadyExists:
    hint = "choose another linux.cgroupsPath, or stop that unit"
    return AlreadyExists("systemd unit", name, detail=detail, hint=hint)


def _is(error: dbus.CallError, name: str) -> bool:
    return error.name == f"{SYSTEMD}.{name}"


def _connect(*, user: bool) -> tuple[dbus.Connection, bool]:
    """By the bus, which is the documented way; else by systemd's own socket, which takes the manager's owner alone and
    is there when no bus runs. The second value is whether there is a bus between."""
    if user:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        bus = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
        if not bus and runtime:
            bus = f"unix:path={dbus.escaped(runtime)}/bus"
        private = f"unix:path={dbus.escaped(runtime)}/systemd/private" if runtime else ""
        hint = "rootless containers need the user's own systemd: log in as that user, or enable lingering"
    else:
        bus = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "") or "unix:path=/run/dbus/system_bus_socket"
        private = "unix:path=/run/systemd/private" if os.geteuid() == 0 else ""
        hint = "without systemd use the cgroupfs driver: leave --systemd-cgroup out"
    first: MasuError | None = None
    for address, on_bus in ((bus, True), (private, False)):
        if address:
            try:
                return dbus.Connection(address, bus=on_bus), on_bus
            except Unavailable as e:
                first = first or e
    if first is None:
        first = Unavailable("systemd", detail="neither $XDG_RUNTIME_DIR nor $DBUS_SESSION_BUS_ADDRESS is set")
    first.hint = first.hint or hint
    raise first
