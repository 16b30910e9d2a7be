"""Leases: what is being brought in is kept from the garbage collector until somebody refers to it.

    with namespace.leases.hold("pull") as lease: writer(…, lease=lease.id) … images.put(…)

A lease ends by `delete`, by its label `containerd.io/gc.expire`, or with the process that holds it: `hold` notes
who that is (boot, pid namespace, pid, start time), and a collector that sees it gone does not wait for the hour.
"""

from __future__ import annotations

import os

from masu.errors import AlreadyExists, InvalidArgument, NotFound, Unimplemented
from masu.spec import times
from masu.store import checks
from masu.store.content import add_to_lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from masu.store.db import Database

EXPIRE = "containerd.io/gc.expire"
FLAT = "containerd.io/gc.flat"
HOLDER = "masu.io/lease.holder"


class Lease:
    __slots__ = ("created_at", "id", "labels")

    def __init__(self, id: str, labels: dict[str, str], created_at: str) -> None:
        self.id = id
        self.labels = labels
        self.created_at = created_at


class Resource:
    """What a lease holds: type "content" (id a digest), "snapshots/<driver>" (a key), "ingests" (a ref) or "images"."""

    __slots__ = ("id", "type")

    def __init__(self, type: str, id: str) -> None:
        self.type = type
        self.id = id


class Leases:
    """The leases of one namespace."""

    __slots__ = ("_db", "_ns")

    def __init__(self, db: Database, ns: str) -> None:
        self._db = db
        self._ns = ns

    def create(self, id: str = "", *, labels: Mapping[str, str] | None = None) -> Lease:
        """`id` is made when not given. Raises AlreadyExists, InvalidArgument for a bad expiry time."""
        if id:
            checks.key("lease id", id)
        else:
            id = f"{times.now()}-{os.urandom(6).hex()}"
        checked = checks.labels(labels or {})
        if EXPIRE in checked:
            times.parse(checked[EXPIRE], exact=True)
        with self._db.write() as tx:
            now = times.now()
            if not tx.attempt("INSERT INTO leases VALUES(?,?,?,?)", (self._ns, id, checks.dump(checked), now)):
                raise AlreadyExists("lease", id)
        return Lease(id, checked, now)

    def hold(self, purpose: str = "", *, hours: float = 24.0) -> Held:
        """A lease for a `with` block: it ends with the block, with this process, or after `hours`."""
        import time

        labels = {EXPIRE: times.text(time.time_ns() + int(hours * 3600) * 1_000_000_000), HOLDER: _identity()}
        if purpose:
            labels["masu.io/lease.purpose"] = purpose
        return Held(self, self.create(labels=labels))

    def get(self, id: str) -> Lease:
        """Raises NotFound."""
        row = self._db.row("SELECT id, labels, created_at FROM leases WHERE ns=? AND id=?", (self._ns, id))
        if row is None:
            raise NotFound("lease", id)
        return Lease(row[0], checks.load_labels(row[1]), row[2])

    def delete(self, id: str) -> None:
        """Lets go of everything it held. Raises NotFound."""
        with self._db.write(freeing=True) as tx:
            if not tx.execute("DELETE FROM leases WHERE ns=? AND id=?", (self._ns, id)):
                raise NotFound("lease", id)

    def add_resource(self, lease: str, type: str, id: str) -> None:
        """Adding twice is no error; the resource need not exist yet. Raises NotFound for the lease."""
        _check_resource(type, id)
        with self._db.write() as tx:
            add_to_lease(tx, self._ns, lease, type, id)

    def delete_resource(self, lease: str, type: str, id: str) -> None:
        """Raises NotFound when the lease does not hold it."""
        with self._db.write() as tx:
            if not tx.execute(
                "DELETE FROM lease_resources WHERE ns=? AND lease=? AND type=? AND id=?", (self._ns, lease, type, id)
            ):
                raise NotFound("lease resource", f"{type} {id}")

    def forget(self, type: str, id: str) -> None:
        """What is gone is held by no lease any more: one made by the same name is another."""
        with self._db.write(freeing=True) as tx:
            tx.execute("DELETE FROM lease_resources WHERE ns=? AND type=? AND id=?", (self._ns, type, id))

    def resources(self, lease: str) -> list[Resource]:
        """Raises NotFound."""
        self.get(lease)
        rows = self._db.rows(
            "SELECT type, id FROM lease_resources WHERE ns=? AND lease=? ORDER BY type, id", (self._ns, lease)
        )
        return [Resource(type, id) for type, id in rows]

    def list(self) -> list[Lease]:
        rows = self._db.rows("SELECT id, labels, created_at FROM leases WHERE ns=? ORDER BY id", (self._ns,))
        return [Lease(id, checks.load_labels(labels), created_at) for id, labels, created_at in rows]


class Held:
    """What `hold` gives: the lease's `id`, and its end."""

    __slots__ = ("_leases", "id")

    def __init__(self, leases: Leases, lease: Lease) -> None:
        self._leases = leases
        self.id = lease.id

    def end(self) -> None:
        """Safe to call again."""
        try:
            self._leases.delete(self.id)
        except NotFound:
            pass

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _check_resource(type: str, id: str) -> None:
    checks.key("resource id", id, spaces=True)
    if type == "content":
        checks.digest(id)
    elif type.startswith("snapshots/"):
        checks.identifier("snapshotter", type[10:])
    elif type not in ("images", "ingests"):
        allowed = 'there are "content", "images", "ingests" and "snapshots/<driver>"'
        raise Unimplemented("resource type", type, detail=allowed)


def is_over(labels: Mapping[str, str], now_ns: int) -> bool:
    """Whether a lease's time is up, or its holder is known to be gone."""
    expire = labels.get(EXPIRE)
    if expire is not None:
        try:
            if times.parse(expire, exact=True) <= now_ns:
                return True
        except InvalidArgument:
            # Written by somebody else's hand. Keep the lease: forgetting it may lose data, keeping it only space.
            pass
    holder = labels.get(HOLDER)
    return holder is not None and _is_gone(holder)


def _identity() -> str:
    from masu.linux import procfs

    pid = os.getpid()
    return f"{procfs.boot_id()} {_pid_namespace()} {pid} {procfs.start_time(pid)}"


def _is_gone(holder: str) -> bool:
    from masu.linux import procfs

    fields = holder.split(" ")
    if len(fields) != 4 or not (fields[2].isdecimal() and fields[3].isdecimal()):
        return False
    boot, namespace, pid, start = fields
    if boot != procfs.boot_id():
        return True
    # A process of another pid namespace (a container that shares the state directory) cannot be seen from here.
    return namespace == _pid_namespace() and not procfs.is_alive(int(pid), int(start))


def _pid_namespace() -> str:
    return str(os.stat("/proc/self/ns/pid").st_ino)
