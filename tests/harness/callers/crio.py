"""CRI-O, which calls masu-oci through conmon, and crictl, which speaks to it as a kubelet does.

No packages of Debian 12: `crio` and `pinns` are looked for on PATH and in $MASU_PEER_SOURCES/cri-o/bin, `crictl` in
cri-tools/build/bin there: where their own makefiles put them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from harness.callers import Premises, document
from harness.callers.archives import archive, derived
from harness.programs import MASU_OCI, compile_static, peer
from harness.pty import Terminal

# Of CAP_SYS_RESOURCE, which CI machines often lack.
CAPABLE = bool(int(re.findall(r"CapBnd:\s+(\w+)", Path("/proc/self/status").read_text())[0], 16) >> 24 & 1)
IMAGES = {"busybox": "localhost/busybox:latest", "redis": "localhost/redis:latest"}
STATES = {"masu": "/run/masu/oci", "runc": "/run/runc"}  # runtime_root
PLACES = """
[crio]
root = "{folder}/root"
runroot = "/run/containers/storage"
storage_driver = "overlay"
log_dir = "{folder}/logs"
clean_shutdown_file = "{folder}/clean.shutdown"

[crio.api]
listen = "{folder}/crio.sock"

[crio.image]
# For pods whose containers share a PID namespace.
pause_image = "localhost/pause:latest"
pause_command = ""
signature_policy = "{folder}/policy.json"

[crio.network]
network_dir = "{folder}/cni"
plugin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]

[crio.nri]
enable_nri = false

[crio.runtime]
hooks_dir = []
pinns_path = "{pinns}"
irqbalance_config_restore_file = "disable"
# Without systemd.
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"

[crio.runtime.runtimes.runc]
runtime_path = "{runc}"
runtime_root = "/run/runc"
"""
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "masu-test",
    "plugins": [
        {
            "type": "bridge", "bridge": "masu-crio", "isGateway": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.213.0.0/24"}]], "dataDir": "/run/cni-addresses"},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}  # fmt: skip


class Crio:
    """A daemon on its own socket and roots, its pods on a bridge in the premises' network; busybox and redis are there.

    crio.conf.d/masu.conf is the document's, with `runtime` for masu-oci; beside it stands runc, for a runtime handler
    of that name. A context: the daemon ends with it.
    """

    def __init__(self, premises: Premises, *, runtime: str = MASU_OCI) -> None:
        self.premises = premises
        folder = self.folder = premises.folder
        self.socket = folder / "crio.sock"
        for name in ("cni", "crio.conf.d", "logs", "files"):
            (folder / name).mkdir()
        (folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (folder / "cni" / "masu.conflist").write_text(json.dumps(NETWORK))
        places = {"folder": folder, "pinns": program("pinns"), "runc": peer("runc")}
        (folder / "crio.conf").write_text(PLACES.format_map(places))
        (folder / "crio.conf.d" / "masu.conf").write_text(document.snippet("CRI-O", "toml").replace(MASU_OCI, runtime))
        (folder / "crictl.yaml").write_text(f"runtime-endpoint: unix://{self.socket}\ntimeout: 60\n")
        self.words = [program("crictl"), "--config", str(folder / "crictl.yaml")]
        paused = compile_static(Path(__file__).with_name("pause.c"))
        # SIGTERM is lost on a PID 1 that has just begun, and CRI-O would then wait for minutes.
        config = {"Cmd": ["/bin/pause"], "StopSignal": "SIGKILL"}
        pause = derived("busybox", folder / "pause", config, {"bin/pause": paused})
        sources = {image: f"oci-archive:{archive(name, folder)}" for name, image in IMAGES.items()}
        sources["localhost/pause:latest"] = f"oci:{pause}:latest"
        for image, source in sources.items():
            words = [peer("skopeo"), "--insecure-policy", "copy", "-q", source]
            premises.run([*words, f"containers-storage:[overlay@{folder}/root+/run/containers/storage]{image}"])
        self.made = 0

        self.made = 0
        self._daemon = ExitStack()
        self.start()

    def start(self) -> None:
        words: list[str | Path] = [program("crio"), "--config", self.folder / "crio.conf"]
        words += ["--config-dir", self.folder / "crio.conf.d"]
        self._daemon.enter_context(self.premises.daemon(words, [*self.words, "version"]))

    def stop(self) -> None:
        """Ends the daemon. Containers go on without it."""
        self._daemon.close()

    def __call__(self, *args: str, **options: Any) -> str:
        """Standard output of a crictl command that succeeds."""
        return self.try_(*args, check=True, **options).stdout

    def try_(self, *args: str, check: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.premises.run([*self.words, *args], check=check, **options)

    @contextmanager
    def going(self, *args: str) -> Iterator[subprocess.Popen[str]]:
        """A crictl command that goes on, with pipes for input and output."""
        words = [*self.premises.prefix, *self.words, *args]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, env=self.premises.environment, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.terminate()

    def terminal(self, *args: str) -> Terminal:
        return Terminal([*self.premises.prefix, *self.words, *args], env=self.premises.environment)

    def file(self, message: Mapping[str, Any]) -> str:
        """A message of the CRI as crictl reads it."""
        self.made += 1
        path = self.folder / "files" / f"{self.made}.json"
        path.write_text(json.dumps(message))
        return str(path)

    def log(self) -> str:
        """What the daemon has said."""
        return (self.folder / "crio.log").read_text()

    def runtime_states(self, handler: str = "masu") -> list[str]:
        """Containers that the runtime knows of."""
        folder = self.premises.path(STATES[handler])
        return sorted(os.listdir(folder)) if folder.exists() else []

    def state(self, id: str, handler: str = "masu") -> dict[str, Any]:
        """What the runtime's `state` says."""
        runtime = {"masu": MASU_OCI, "runc": peer("runc")}[handler]
        said = self.premises.run([runtime, "--root", STATES[handler], "state", id]).stdout
        found: dict[str, Any] = json.loads(said)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for id in self("pods", "-q").split():
                self("stopp", id)
                self("rmp", id)
            assert self.runtime_states() == []
        finally:
            self._daemon.close()


def program(name: str) -> str:
    """The path of one of CRI-O's programs or crictl, or a skip that names it."""
    sources = os.environ.get("MASU_PEER_SOURCES", "/nonexistent")
    found = shutil.which(name, path=f"{sources}/cri-o/bin:{sources}/cri-tools/build/bin")
    return found or peer(name)


def skip_unless_installed() -> None:
    for name in ("crio", "pinns", "crictl"):
        program(name)
    for name in ("conmon", "runc", "skopeo", "unshare", "nsenter", "ip"):
        peer(name)
    if os.geteuid() != 0:
        pytest.skip("needs root")
