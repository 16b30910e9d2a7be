"""podman, which calls the runtime through conmon, with masu-oci as its runtime."""

from __future__ import annotations

import os

from harness.callers import Caller, Premises, document
from harness.callers.archives import archive
from harness.callers.person import Person
from harness.programs import MASU_OCI, peer

# For machines without CAP_SYS_RESOURCE (CI often is one): podman's own defaults raise limits.
MACHINE = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\nlog_driver = "k8s-file"\n\n'


class Podman(Caller):
    """podman with its storage in the premises' folder and its state in their /run; busybox is loaded.

    containers.conf is the document's, and what this machine needs; options for `podman` itself go into `words`. A
    context: the containers are removed with it.
    """

    PROGRAMS = ("podman", "conmon")

    def __init__(self, premises: Premises) -> None:
        super().__init__(premises)
        conf = premises.folder / "containers.conf"
        conf.write_text(MACHINE + document.snippet("Podman", "toml"))
        self.environment = {"CONTAINERS_CONF": str(conf)}
        driver, manager = ("vfs", "systemd") if premises.systemd else ("overlay", "cgroupfs")
        self.words = [peer("podman"), "--root", str(premises.folder / "root"), "--storage-driver", driver]
        self.words += ["--cgroup-manager", manager, "--events-backend", "file"]
        self.states = "/run/masu/oci"
        self._load(str(archive("busybox", premises.folder)))

    def _load(self, archive: str) -> None:
        self("load", "-q", "-i", archive)
        self("tag", "localhost/latest", "docker.io/library/busybox")

    def own(self, verb: str, *options: str, network: str = "none") -> list[str]:
        """`run` or `create`, below the premises' cgroup parent."""
        parent = self.premises.cgroup if self.premises.systemd else f"/{self.premises.cgroup}"
        return [verb, "--cgroup-parent", parent, "--network", network, *options]

    def runtime_states(self) -> list[str]:
        """Containers that the runtime knows of. Podman gives no --root: it is the default one."""
        root = self.premises.path(self.states)
        return sorted(os.listdir(root)) if root.exists() else []

    def state(self, id: str) -> str:
        """What `masu-oci state` says."""
        return self.premises.run([MASU_OCI, "state", id]).stdout

    def __exit__(self, *_: object) -> None:
        self("pod", "rm", "-fa", "-t", "0")
        self("rm", "-fa", "-t", "0")
        assert self.runtime_states() == []


class RootlessPodman(Podman):
    """The same as a user who is not root.

    Rootless containers have no network here but the host's: /dev/net/tun is root's.
    """

    def __init__(self, premises: Premises) -> None:
        Caller.__init__(self, premises)
        person = Person(premises)
        # Where the document says that it goes.
        person.write(".config/containers/containers.conf", MACHINE + document.snippet("Podman", "toml"))
        self.environment = person.environment
        # Overlays in a user namespace are a matter of the kernel; copies always work.
        self.words = [*person.words, peer("podman"), "--storage-driver", "vfs"]
        self.words += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        self.states = f"{person.runtime}/masu/oci"
        self._load(person.take(archive("busybox", premises.folder)))

    def own(self, verb: str, *options: str, network: str = "none") -> list[str]:
        return [verb, "--network", network, *options]
