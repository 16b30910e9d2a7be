"""buildah, which calls the runtime itself, without conmon or shim."""

from __future__ import annotations

import os
import subprocess
from typing import Any, Self

import pytest

from harness.callers import Premises
from harness.callers.archives import archive
from harness.programs import peer
from harness.pty import Terminal


class Buildah:
    """buildah with its storage in the premises' folder; `base` is the name to build from.

    A context: the working containers are removed with it.
    """

    def __init__(self, premises: Premises) -> None:
        self.premises = premises
        self.words = [peer("buildah"), "--root", str(premises.folder / "root"), "--storage-driver", "overlay"]
        self.base = f"oci-archive:{archive('busybox', premises.folder)}"
        # Buildah takes the "parent" for the container's own cgroup.
        self.cgroup = ["--cgroup-parent", f"/{premises.cgroup}/build"]

    def __call__(self, *args: str, **options: Any) -> str:
        """Standard output of a command that succeeds."""
        return self.try_(*args, check=True, **options).stdout

    def try_(self, *args: str, check: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.premises.run([*self.words, *args], check=check, **options)

    def terminal(self, *args: str) -> Terminal:
        return Terminal([*self.premises.prefix, *self.words, *args], env=self.premises.environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self("rm", "--all")
        states = self.premises.path("/run/masu/oci")
        assert not states.exists() or os.listdir(states) == []


def skip_unless_installed() -> None:
    for name in ("buildah", "unshare", "nsenter", "ip"):
        peer(name)
    if os.geteuid() != 0:
        pytest.skip("needs root")
