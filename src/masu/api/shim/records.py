"""What a shim knows of a task beyond what the runtime keeps: a file beside the runtime's own.

<run root>/<namespace>/<id>/     as masu.runtime.container says; masu-oci --root sees it
    task.json                    this
    attach.sock, exit            of the monitor of its first process
    execs/<exec id>/             attach.sock, exit, pid of an exec's
"""

from __future__ import annotations

from masu.errors import DataLoss
from masu.isolation.stdio import StdioNames
from masu.linux import fds
from masu.spec import jsontext

RUN_ROOT = "/run/containerd/masu"
ROOT_FILE = "masu-root"  # in a bundle: <run root>/<namespace>, where it is another
_MAX_BYTES = 1 << 16


class Record:
    """`mounted`: the root file system is mounted on the host, at <bundle>/rootfs."""

    __slots__ = ("bundle", "mounted", "stdio")

    def __init__(self, bundle: str, stdio: StdioNames, *, mounted: bool) -> None:
        self.bundle = bundle
        self.stdio = stdio
        self.mounted = mounted

    def save(self, directory: str) -> None:
        data = {"bundle": self.bundle, "mounted": self.mounted, **self.stdio.to_json()}
        fds.atomic_write(f"{directory}/task.json", jsontext.dumps(data).encode(), 0o600, sync=False)

    @classmethod
    def load(cls, directory: str) -> Record:
        """Raises FileNotFoundError: it is a container, but no task; DataLoss."""
        path = f"{directory}/task.json"
        data = jsontext.loads(fds.read_bounded(path, _MAX_BYTES), name=path)
        if not (isinstance(data, dict) and isinstance(bundle := data.get("bundle"), str)):
            raise DataLoss("task", path, detail="no bundle is noted")
        return cls(bundle, StdioNames.from_json(data), mounted=data.get("mounted") is True)
