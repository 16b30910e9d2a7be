"""dockerd with masu-oci among its runtimes, and the docker command."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import images

from harness.callers import Caller, Premises, document
from harness.callers.person import Person
from harness.programs import MASU_OCI, peer


class Docker(Caller):
    """A daemon on its own socket and roots, with its own bridge in the premises' network; busybox is loaded.

    daemon.json is the document's, and what this machine needs. A context: the daemon ends with it.
    """

    PROGRAMS: ClassVar[tuple[str, ...]] = ("dockerd", "docker", "containerd", "skopeo")

    def __init__(self, premises: Premises) -> None:
        super().__init__(premises)
        self.folder = premises.folder
        self.socket = self.folder / "docker.sock"
        exec_root = self.folder / "exec"
        # The --root that the shim gives to whatever runtime it is.
        self.runtime_root = exec_root / "runtime-runc" / "moby"
        (self.folder / "cli").mkdir()
        self.environment = {"DOCKER_CONFIG": str(self.folder / "cli"), "DOCKER_BUILDKIT": "0"}
        self.words = [_debians("docker"), "--host", f"unix://{self.socket}"]
        self.config: dict[str, Any] = json.loads(document.snippet("Docker", "json"))
        self.config["experimental"] = True  # checkpoints are
        if premises.systemd:
            self.config["exec-opts"] = ["native.cgroupdriver=systemd"]
        self.configure()
        self._stack = ExitStack()
        server: list[str | Path] = [peer("dockerd"), "--config-file", self.folder / "daemon.json"]
        server += ["--host", f"unix://{self.socket}", "--pidfile", self.folder / "pid"]
        server += ["--data-root", self.folder / "root", "--exec-root", exec_root]
        if premises.systemd:
            server += ["--cgroup-parent", premises.cgroup]
            server += ["--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false"]
        else:
            server += ["--cgroup-parent", f"/{premises.cgroup}", "--storage-driver", "overlay2"]
        # A machine without CAP_SYS_RESOURCE (CI often is one) cannot lower it.
        server += ["--oom-score-adjust", "0"]
        # BuildKit in dockerd calls whatever is found as runc.
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "runc").symlink_to(MASU_OCI)
        env = self.environment | {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        self._stack.enter_context(premises.daemon(server, [*self.words, "version"], env=env))
        try:
            self._load("busybox")
        except BaseException:
            self._stack.close()
            raise

    def configure(self, **changes: object) -> None:
        """Writes daemon.json anew, with `changes`."""
        self.config |= changes
        (self.folder / "daemon.json").write_text(json.dumps(self.config))

    def _load(self, name: str) -> None:
        archive = _archive(self.premises, name)
        self("load", "-q", "-i", str(archive))
        archive.unlink()

    def inspect(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self("inspect", name))
        assert isinstance(found, dict)
        return found

    def reload(self, **changes: object) -> None:
        """daemon.json with `changes`, read anew by the running daemon."""
        self.configure(**changes)
        os.kill(int((self.folder / "pid").read_text()), signal.SIGHUP)

    def runtime_states(self) -> list[str]:
        """Containers that the runtime knows of."""
        return sorted(os.listdir(self.runtime_root)) if self.runtime_root.exists() else []

    def __exit__(self, *_: object) -> None:
        try:
            if names := self("ps", "-aq").split():
                self("rm", "-f", "-v", *names)
            assert self.runtime_states() == []
        finally:
            self._stack.close()


class RootlessDocker(Docker):
    """The same as a user who is not root, by Debian's dockerd-rootless.sh: RootlessKit and slirp4netns."""

    SCRIPT = Path("/usr/share/docker.io/contrib/dockerd-rootless.sh")
    PROGRAMS: ClassVar[tuple[str, ...]] = (*Docker.PROGRAMS, "rootlesskit", "slirp4netns")

    def __init__(self, premises: Premises) -> None:
        Caller.__init__(self, premises)
        person = Person(premises)
        # Mostly root's alone.
        tun = premises.folder / "tun"
        premises.run(["mknod", "--mode=666", tun, "c", "10", "200"])
        premises.run(["mount", "--bind", tun, "/dev/net/tun"])
        self.environment = person.environment
        self.words = [*person.words, _debians("docker"), "--host", f"unix://{person.runtime}/docker.sock"]
        config = person.write(".config/docker/daemon.json", document.snippet("Docker", "json"))
        server: list[str | Path] = [*person.words, "sh", self.SCRIPT, "--config-file", config]
        # Overlays in a user namespace are a matter of the kernel; copies always work.
        server += ["--storage-driver", "vfs"]
        self._stack = ExitStack()
        self._stack.enter_context(premises.daemon(server, [*self.words, "version"], env=self.environment))
        self.runtime_root = premises.path(f"{person.runtime}/docker/runtime-runc/moby")
        try:
            self("load", "-q", "-i", person.take(_archive(premises, "busybox")))
        except BaseException:
            self._stack.close()
            raise


def _archive(premises: Premises, name: str) -> Path:
    """A test image in Docker's own format: dockerd 20.10 does not read OCI layouts."""
    archive = premises.folder / f"{name}.tar"
    words = [peer("skopeo"), "--insecure-policy", "copy", "-q"]
    premises.run([*words, f"oci:{images.layout(name)}", f"docker-archive:{archive}:{name}:latest"])
    return archive


def _debians(name: str) -> str:
    """Debian's own before one that somebody has put into /usr/local."""
    path = f"/usr/bin/{name}"
    return path if os.access(path, os.X_OK) else peer(name)
