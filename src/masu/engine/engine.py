"""`Engine`: one state directory, one namespace, and the doors to what is in it."""

from __future__ import annotations

import os

from masu.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.containers import Containers
    from masu.engine.images import Images
    from masu.engine.taskexecs import Execs
    from masu.engine.tasks import Tasks
    from masu.engine.volumes import Volumes
    from masu.store import NamespaceStore, Store

DEFAULT_NAMESPACE = "default"


class Engine:
    """`root` keeps what must outlive a reboot, `run` what need not; made when missing (0700).

    Opens nothing until it is needed, so making one costs nothing. `store` is one of `root` that is open already.
    """

    def __init__(
        self, root: str = "", run: str = "", namespace: str = DEFAULT_NAMESPACE, *, store: Store | None = None
    ) -> None:
        self.root = os.path.abspath(root or default_root())
        self.run = os.path.abspath(run or default_run())
        if not namespace or "/" in namespace or namespace in (".", ".."):
            raise InvalidArgument("namespace", namespace)
        self.namespace = namespace
        self._store = store
        self._ns: NamespaceStore | None = None
        self._containers: Containers | None = None
        self._images: Images | None = None
        self._volumes: Volumes | None = None
        self._tasks: Tasks | None = None
        self._execs: Execs | None = None

    @property
    def store(self) -> Store:
        """The content and metadata store. Raises what `masu.store.open_store` does."""
        if self._store is None:
            from masu.store import open_store

            self._store = open_store(self.root)
        return self._store

    @property
    def ns(self) -> NamespaceStore:
        """This engine's namespace of the store."""
        if self._ns is None:
            self._ns = self.store.namespace(self.namespace)
        return self._ns

    @property
    def containers(self) -> Containers:
        if self._containers is None:
            from masu.engine.containers import Containers

            self._containers = Containers(self)
        return self._containers

    @property
    def images(self) -> Images:
        if self._images is None:
            from masu.engine.images import Images

            self._images = Images(self)
        return self._images

    @property
    def volumes(self) -> Volumes:
        if self._volumes is None:
            from masu.engine.volumes import Volumes

            self._volumes = Volumes(self.root)
        return self._volumes

    @property
    def tasks(self) -> Tasks:
        if self._tasks is None:
            from masu.engine.tasks import Tasks

            self._tasks = Tasks(self)
        return self._tasks

    @property
    def execs(self) -> Execs:
        """Those of tasks."""
        if self._execs is None:
            from masu.engine.taskexecs import Execs

            self._execs = Execs(self)
        return self._execs

    @property
    def run_root(self) -> str:
        """Where the runtime keeps the containers of this namespace."""
        return f"{self.run}/containers/{self.namespace}"

    def directory(self, id: str) -> str:
        """The lasting directory of container `id`."""
        return f"{self.root}/containers/{self.namespace}/{id}"

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def default_root() -> str:
    """$MASU_ROOT, else /var/lib/masu, or $XDG_DATA_HOME/masu for users who are not root."""
    if given := os.environ.get("MASU_ROOT"):
        return given
    if os.geteuid() == 0:
        return "/var/lib/masu"
    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.environ.get("HOME", "/"), ".local/share")
    return f"{base}/masu"


def default_run() -> str:
    """$MASU_RUN, else /run/masu, or $XDG_RUNTIME_DIR/masu for users who are not root."""
    if given := os.environ.get("MASU_RUN"):
        return given
    if os.geteuid() == 0:
        return "/run/masu"
    return f"{os.environ.get('XDG_RUNTIME_DIR') or f'/tmp/masu-{os.geteuid()}'}/masu"
