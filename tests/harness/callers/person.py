"""A user who is not root: account, subordinate ids and home exist in the premises only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.callers.premises import Premises
from harness.programs import MASU_OCI, peer

UID = 1234


class Person:
    """`words` are put before what the user calls, in `environment`."""

    home, runtime = "/run/home", f"/run/user/{UID}"

    def __init__(self, premises: Premises) -> None:
        self.premises = premises
        for place in (self.home, self.runtime):
            self._folder(place)
        account = f"person:x:{UID}:{UID}::{self.home}:/bin/sh\n"
        for name, lines in {
            "passwd": Path("/etc/passwd").read_text() + account,
            "group": Path("/etc/group").read_text() + f"person:x:{UID}:\n",
            "subuid": "person:200000:65536\n",
            "subgid": "person:200000:65536\n",
        }.items():
            (premises.folder / name).write_text(lines)
            premises.run(["mount", "--bind", premises.folder / name, f"/etc/{name}"])
        ids = ["--reuid", str(UID), "--regid", str(UID), "--init-groups"]
        self.words = [peer("setpriv"), *ids, "env", "--chdir", self.home]
        self.environment = {"HOME": self.home, "XDG_RUNTIME_DIR": self.runtime, "USER": "person"}

    def write(self, path: str, text: str) -> str:
        """A file below the home, whose folders are made; where it is."""
        folder = os.path.dirname(path)
        for parent in reversed([folder, *map(str, Path(folder).parents)][:-1]):
            self._folder(f"{self.home}/{parent}")
        place = f"{self.home}/{path}"
        self.premises.path(place).write_text(text)
        return place

    def take(self, file: Path) -> str:
        """A copy of a file in the home; where it is."""
        place = f"{self.home}/{file.name}"
        self.premises.run(["install", "-m", "600", "-o", str(UID), file, place])
        return place

    def _folder(self, place: str) -> None:
        self.premises.run(["install", "-d", "-m", "700", "-o", str(UID), "-g", str(UID), place])


def skip_unless_possible() -> None:
    peer("newuidmap")
    words = [peer("setpriv"), "--reuid", str(UID), MASU_OCI, "--version"]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("this checkout is not another user's to read")
