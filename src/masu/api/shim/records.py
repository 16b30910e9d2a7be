"""What a shim knows of a task beyond what the runtime keeps: a file beside the runtime's own.

<run root>/<namespace>/<id>/     as masu.runtime.container says; masu-oci --root sees it
    task.json                    this
    attach.sock, exit            of the monitor of its first process
    execs/<exec id>/             attach.sock, exit, pid of an exec's
"""

from __future__ import annotations

from masu.errors import DataLoss
from masu.linux import fds
from masu.spec import jsontext

RUN_ROOT = "/run/containerd/masu"
ROOT_FILE = "masu-root"  # in a bundle: <run root>/<namespace>, where it is another
_MAX_BYTES = 1 << 16


class Stdio:
    """As the client has named them: FIFOs, `file://`, `binary://`; empty ones are not wanted."""

    __slots__ = ("stderr", "stdin", "stdout", "terminal")

    def __init__(self, stdin: str = "", stdout: str = "", stderr: str = "", *, terminal: bool = False) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal


class Record:
    """`mounted`: the root file system is mounted on the host, at <bundle>/rootfs."""

    __slots__ = ("bundle", "mounted", "stdio")

    def __init__(self, bundle: str, stdio: Stdio, *, mounted: bool) -> None:
        self.bundle = bundle
        self.stdio = stdio
        self.mounted = mounted

    def save(self, directory: str) -> None:
        stdio = self.stdio
        data = {
            "bundle": self.bundle, "mounted": self.mounted, "stdin": stdio.stdin, "stdout": stdio.stdout,
            "stderr": stdio.stderr, "terminal": stdio.terminal,
        }  # fmt: skip
        fds.atomic_write(f"{directory}/task.json", jsontext.dumps(data).encode(), 0o600, sync=False)

    @classmethod
    def load(cls, directory: str) -> Record:
        """Raises FileNotFoundError: it is a container, but no task; DataLoss."""
        path = f"{directory}/task.json"
        data = jsontext.loads(fds.read_bounded(path, _MAX_BYTES), name=path)
        try:
            words = [data[name] for name in ("stdin", "stdout", "stderr", "bundle")]  # type: ignore[index]
            stdin, stdout, stderr, bundle = (word if isinstance(word, str) else "" for word in words)
            stdio = Stdio(stdin, stdout, stderr, terminal=data["terminal"] is True)  # type: ignore[index]
            return cls(bundle, stdio, mounted=data["mounted"] is True)  # type: ignore[index]
        except (KeyError, TypeError) as error:
            raise DataLoss("task", path, detail=f"{error} is missing") from error
