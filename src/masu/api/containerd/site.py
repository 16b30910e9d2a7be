"""What all services share: one state directory, an engine for each namespace, what the configuration says."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Sequence

from masu.api.containerd.collector import Collector, Settings
from masu.api.containerd.exits import Exits
from masu.api.containerd.feed import BUFFER, Feed
from masu.api.containerd.mounting import Mounting
from masu.api.containerd.streams import Streams
from masu.engine import Engine
from masu.errors import FailedPrecondition, KernelError
from masu.store import Store, checks, open_store
from masu.store.gc import GcReport

# containerd's, whose clients ask for it when they are told nothing else.
DEFAULT_RUNTIME = "io.containerd.runc.v2"


class Site:
    """`root` and `run` as the engine has them; `snapshotter` "" for the best that works here.

    Safe for many threads. Raises what `open_store` does.
    """

    def __init__(
        self,
        root: str,
        run: str,
        *,
        snapshotter: str = "",
        runtime: str = DEFAULT_RUNTIME,
        gc: Settings | None = None,
        event_buffer: int = BUFFER,
        hosts_dirs: Sequence[str] = (),
        downloads: int = 3,
    ) -> None:
        self.root = os.path.abspath(root)
        self.run = os.path.abspath(run)
        try:
            os.makedirs(self.run, 0o700, exist_ok=True)
        except OSError as error:
            raise KernelError("state directory", self.run, error.errno or 0) from error
        self.runtime = runtime
        # For transfers: directories of hosts.toml, blobs of one image at a time.
        self.hosts_dirs = tuple(hosts_dirs)
        self.downloads = downloads
        self.streams = Streams()
        # The services: name -> plugin id (table.py).
        self.served: dict[str, str] = {}
        self.store: Store = open_store(self.root)
        self._claim = _claim(self.root, self.run)
        self.mounting = Mounting(self.store, self.run)
        self.collector = Collector(self._collect, gc)
        self.feed = Feed(self.store, buffer=event_buffer)
        self.snapshotter = snapshotter
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()
        self.exits = Exits(self.store, self.engine)

    def release_mounts(self) -> None:
        """At the end: nobody would take down what has been let go of since the last collection."""
        if self.mounting.has_any():
            self._collect()

    def _collect(self) -> GcReport:
        report = self.store.gc()
        report.errors += self.mounting.sweep()
        return report

    def namespace(self, name: str) -> str:
        """The name, checked. Raises InvalidArgument."""
        return checks.identifier("namespace", name)

    def engine(self, namespace: str) -> Engine:
        """The same for every call; all share one store."""
        found = self._engines.get(namespace)
        if found is None:
            with self._lock:
                found = self._engines.setdefault(
                    namespace, Engine(self.root, self.run, self.namespace(namespace), store=self.store)
                )
        return found

    @property
    def id(self) -> str:
        """A UUID of the state directory, made by whoever asks first."""
        path = f"{self.root}/uuid"
        try:
            with open(path) as file:
                return file.read().strip()
        except FileNotFoundError:
            new = f"{path}.{os.urandom(4).hex()}"
            with open(new, "x") as file:
                file.write(str(uuid.uuid4()))
            try:
                os.link(new, path)  # of several that make one at once the first wins
            except FileExistsError:
                pass
            os.unlink(new)
            return self.id

    def close(self) -> None:
        self.store.close()
        os.close(self._claim)


def _claim(root: str, run: str) -> int:
    """A descriptor by which `root` is held for the state directory `run`. By another one everything that runs would
    be taken for what the end of the machine has ended. Raises FailedPrecondition, KernelError."""
    try:
        fd = os.open(f"{root}/state-directory", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise KernelError("open", f"{root}/state-directory", error.errno or 0) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_first = True
        except BlockingIOError:
            fcntl.flock(fd, fcntl.LOCK_SH)
            is_first = False
        noted = os.fsdecode(os.pread(fd, 4096, 0))
        if noted not in ("", run) and (not is_first or _has_containers(noted)):
            raise FailedPrecondition(
                "state directory", run, detail=f"{root} belongs to {noted}, where containers are",
                hint=f"--state {noted}, or another --root",
            )  # fmt: skip
        if is_first and noted != run:
            os.truncate(fd, 0)
            os.pwrite(fd, os.fsencode(run), 0)
        fcntl.flock(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _has_containers(run: str) -> bool:
    try:
        return any(os.listdir(namespace) for namespace in os.scandir(f"{run}/containers"))
    except OSError:
        return False
