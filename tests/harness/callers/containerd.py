"""containerd, whose runc shim calls masu-oci, and ctr."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.callers import Caller, Premises, document
from harness.callers.archives import archive
from harness.programs import MASU_OCI, ROOT, peer

IMAGE = "docker.io/library/busybox:latest"
PLACES = """
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper"]
"""
MACHINE = """
[grpc]
address = "{folder}/containerd.sock"

# What a machine without CAP_SYS_RESOURCE, AppArmor and the hugetlb controller (CI often is one) asks for.
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true
disable_apparmor = true
# Any image whose program goes on.
sandbox_image = "docker.io/library/redis:latest"
"""


class Containerd(Caller):
    """A daemon on its own socket and roots; busybox is imported.

    config.toml is the document's, with `runtime` for masu-oci, what this machine needs, and `more`. A context: the
    daemon ends with it.
    """

    PROGRAMS = ("containerd", "ctr")

    def __init__(self, premises: Premises, *, runtime: str = MASU_OCI, more: str = "") -> None:
        super().__init__(premises)
        folder = premises.folder
        config = folder / "config.toml"
        told = document.snippet("containerd", "toml").replace(MASU_OCI, runtime)
        if premises.systemd:
            # The last table of the document's is that of the runtime's options.
            told = told.replace("default_runtime_name", 'snapshotter = "native"\ndefault_runtime_name')
            told += "SystemdCgroup = true\n"
            premises.environment["CONTAINERD_SNAPSHOTTER"] = "native"
        text = PLACES + told + MACHINE + more
        config.write_text(text.replace("{folder}", str(folder)))
        self.words = [peer("ctr"), "--address", str(folder / "containerd.sock")]
        # The --root that the shim gives to whatever runtime it is.
        self.runtime_root = premises.path("/run/containerd/runc/default")
        self._config: Path = config
        self._stack = ExitStack()
        self.begin()
        self.socket = folder / "containerd.sock"
        try:
            self.load("busybox", "default")
        except BaseException:
            self._stack.close()
            raise

    def begin(self) -> None:
        """Starts the daemon."""
        words: list[str | Path] = [peer("containerd"), "--config", self._config]
        self.pid = self._stack.enter_context(self.premises.daemon(words, [*self.words, "version"]))

    def end(self, *, kill: bool = False) -> None:
        """Ends it; what it has started goes on."""
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        self._stack.close()

    def load(self, name: str, namespace: str) -> None:
        """A test image as docker.io/library/NAME:latest."""
        tar = str(archive(name, self.premises.folder))
        self("--namespace", namespace, "images", "import", "--base-name", f"docker.io/library/{name}", tar)

    def own(self, id: str, *options: str, binary: str = MASU_OCI) -> list[str]:
        """`run` below the premises' cgroup parent, up to the command."""
        cgroup = f"/{self.premises.cgroup}/{id}"
        return ["run", "--runc-binary", binary, "--cgroup", cgroup, *options, IMAGE, id]

    def status(self, id: str) -> str:
        """What containerd says of a task."""
        lines = [line.split() for line in self("tasks", "ls").splitlines()]
        return next((status for name, _, status in lines if name == id), "")

    def state(self, id: str) -> dict[str, Any]:
        """What `masu-oci state` says."""
        root = "/run/containerd/runc/default"
        said = self.premises.run([MASU_OCI, "--root", root, "state", id]).stdout
        found: dict[str, Any] = json.loads(said)
        return found

    def runtime_states(self) -> list[str]:
        """Containers that the runtime knows of."""
        return sorted(os.listdir(self.runtime_root)) if self.runtime_root.exists() else []

    def __exit__(self, *_: object) -> None:
        try:
            for id in self("tasks", "ls", "-q").split():
                self("tasks", "rm", "-f", id)
            for id in self("containers", "ls", "-q").split():
                self("containers", "rm", id)
            assert self.runtime_states() == []
        finally:
            self._stack.close()


class Shims(Containerd):
    """containerd that runs containers by containerd-shim-masu-v2, found in PATH, also by the name of containerd's own;
    CRI's by the document's handler."""

    RUNTIME = "io.containerd.masu.v2"
    RUN_ROOT = "/run/containerd/masu/default"

    def __init__(self, premises: Premises) -> None:
        names = premises.folder / "bin"
        names.mkdir()
        (names / "containerd-shim-runc-v2").symlink_to(ROOT / "containerd-shim-masu-v2")
        premises.environment["PATH"] = f"{names}:{ROOT}:{os.environ['PATH']}"
        # Newer ones would warn of cgroup v1 with each command.
        premises.environment["CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS"] = "1"
        more = "\n" + document.snippet("Kubernetes", "toml", "shim.md")
        if premises.systemd:
            (premises.folder / "shim.toml").write_text("SystemdCgroup = true\n")
            table = more.splitlines()[1].replace("masu-shim]", "masu-shim.options]")
            more += f'\n{table}\nConfigPath = "{{folder}}/shim.toml"\n'
        super().__init__(premises, more=more)
        self.runtime_root = premises.path(self.RUN_ROOT)

    def own(self, id: str, *options: str, binary: str = "") -> list[str]:
        """With `binary` for another runtime, which ctr allows by the name of containerd's own shim alone."""
        runtime = ["--runc-binary", binary] if binary else ["--runtime", self.RUNTIME]
        return ["run", *runtime, "--cgroup", f"/{self.premises.cgroup}/{id}", *options, IMAGE, id]

    def shims(self) -> list[int]:
        """The processes that serve."""
        return [pid for pid in self.premises.pids() if is_shim(pid)]

    def monitors(self) -> list[int]:
        return [pid for pid in self.premises.pids() if _name(pid) == "masu:[monitor]"]

    def mounts(self) -> list[str]:
        """Root file systems that are mounted where containerd sees them."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return [line for line in lines if f"{self.premises.folder}/state" in line]

    def sockets(self) -> list[str]:
        folder = self.premises.path("/run/containerd/s")
        return sorted(os.listdir(folder)) if folder.exists() else []


def is_shim(pid: int) -> bool:
    """Whether it is one of ours that serves."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"containerd-shim-masu-v2" in words and b"serve" in words


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
