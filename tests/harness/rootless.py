"""A user without root, of the tests' own: with a home, a runtime directory and, if a test wants, subordinate ids.

Nothing of the machine's /etc is changed: each command runs in a mount namespace of its own, in which passwd, group,
subuid and subgid are others, and in which the checkout lies where that user can reach it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.oci import Runtime
from harness.programs import ROOT
from masu.linux import _sys, mount
from masu.linux.namespaces import CLONE_NEWNS

UID = GID = 1717
NAME = "masu-tester"
SUBIDS = (500000, 65536)
CHECKOUT = "/mnt"
_FILES = ("passwd", "group", "subuid", "subgid")
_PR_SET_DUMPABLE = 4


class User:
    """Its folder is a temporary one; `close` removes it. `prepare` is run as root in each command's mount namespace."""

    def __init__(self, *, subids: str = f"{NAME}:{SUBIDS[0]}:{SUBIDS[1]}\n") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="masu-rootless-"))
        self.runtime_directory = self.folder / "run"
        self.home = self.folder / "home"
        for folder in (self.folder, self.runtime_directory, self.home):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
            os.chown(folder, UID, GID)
        etc = self.folder / "etc"
        etc.mkdir()
        passwd, group = (Path("/etc", name).read_text() for name in ("passwd", "group"))
        texts = (f"{passwd}{NAME}:x:{UID}:{GID}::{self.home}:/bin/sh\n", f"{group}{NAME}:x:{GID}:\n", subids, subids)
        for name, text in zip(_FILES, texts, strict=True):
            (etc / name).write_text(text)
        self.etc = etc
        self.more_environment: dict[str, str] = {}
        self.prepare: list[Callable[[], None]] = []

    @property
    def environment(self) -> dict[str, str]:
        path = os.environ.get("PATH", "/usr/bin:/bin")
        directories = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.runtime_directory)}
        # Each command is in a mount namespace of its own: a brain that it started would serve no other.
        return {"PATH": path, "USER": NAME, "MASU_BRAIN": "off", **directories, **self.more_environment}

    def become(self) -> None:
        """For a forked child: from here on it is the user's."""
        _sys.unshare(CLONE_NEWNS)
        mount.set_propagation("/", mount.MS_REC | mount.MS_PRIVATE)
        for name in _FILES:
            bind(str(self.etc / name), f"/etc/{name}")
        bind(str(ROOT), CHECKOUT)
        for step in self.prepare:
            step()
        os.setgroups([])
        os.setresgid(GID, GID, GID)
        os.setresuid(UID, UID, UID)
        _sys.prctl(_PR_SET_DUMPABLE, 1)  # a change of user has taken it away; exec would give it back

    def own(self, tree: Path) -> Path:
        """Gives all of a tree to the user."""
        for folder, _, names in os.walk(tree):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.lchown(path, UID, GID)
        return tree

    def close(self) -> None:
        shutil.rmtree(self.folder)


def bind(source: str, target: str) -> None:
    fd = mount.clone_tree(source)
    mount.attach(fd, target)
    os.close(fd)


def require(*files: str) -> None:
    """Skips where one of these is missing on the machine, and with it what the test is about."""
    for file in files:
        if not os.path.exists(file):
            pytest.skip(f"{file} is not there")


class RootlessRuntime(Runtime):
    """A runtime that the user calls; its bundles and its state are the user's."""

    def __init__(self, name: str, user: User) -> None:
        super().__init__(name, user.home)
        self.user = user
        if name == "masu-oci":
            self.command[0] = f"{CHECKOUT}/masu-oci"

    def call(self, command: list[str], *, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("preexec_fn", self.user.become)
        options.setdefault("env", self.user.environment)
        options.setdefault("cwd", self.folder)
        return super().call(command, check=check, **options)

    def bundle(self, rootfs: Path, change: Callable[[dict[str, Any]], object] | None = None) -> Path:
        def rootless(config: dict[str, Any]) -> None:
            config["linux"]["namespaces"].append({"type": "user"})
            map_ids(config)
            if change is not None:
                change(config)

        return self.user.own(super().bundle(rootfs, rootless))


def map_ids(config: dict[str, Any], *, ranges: bool = False) -> None:
    """The user is 0 inside; with `ranges` his subordinate ids follow."""
    for name, own in (("uidMappings", UID), ("gidMappings", GID)):
        config["linux"][name] = [{"containerID": 0, "hostID": own, "size": 1}]
        if ranges:
            config["linux"][name].append({"containerID": 1, "hostID": SUBIDS[0], "size": SUBIDS[1]})
