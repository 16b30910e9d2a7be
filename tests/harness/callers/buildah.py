"""buildah, which calls the runtime itself, without conmon or shim."""

from __future__ import annotations

import os

from harness.callers import Caller, Premises
from harness.callers.archives import archive
from harness.programs import peer


class Buildah(Caller):
    """buildah with its storage in the premises' folder; `base` is the name to build from.

    A context: the working containers are removed with it.
    """

    PROGRAMS = ("buildah",)

    def __init__(self, premises: Premises) -> None:
        super().__init__(premises)
        self.words = [peer("buildah"), "--root", str(premises.folder / "root"), "--storage-driver", "overlay"]
        self.base = f"oci-archive:{archive('busybox', premises.folder)}"
        # Buildah takes the "parent" for the container's own cgroup.
        self.cgroup = ["--cgroup-parent", f"/{premises.cgroup}/build"]

    def __exit__(self, *_: object) -> None:
        self("rm", "--all")
        states = self.premises.path("/run/masu/oci")
        assert not states.exists() or os.listdir(states) == []
