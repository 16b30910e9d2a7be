"""The modules that short-lived commands load, beside checked-in lists (tests/arch/cold/): a new one must be wanted.

`PYTHONPATH=tests python tests/arch/test_cold_start.py` writes the lists anew; the change is then read in the diff.
Modules that the bare interpreter loads by itself are not counted, so the lists hold for every Python from 3.11 on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from arch.test_layers import DEAR

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent / "cold"
COMMANDS = {
    "masu-oci-state": ["masu-oci", "--root", "{tmp}/oci", "state", "nobody"],
    "masu-oci-kill": ["masu-oci", "--root", "{tmp}/oci", "kill", "nobody"],
    "masu-oci-start": ["masu-oci", "--root", "{tmp}/oci", "start", "nobody"],
    "masu-oci-delete": ["masu-oci", "--root", "{tmp}/oci", "delete", "nobody"],
    "masu-oci-list": ["masu-oci", "--root", "{tmp}/oci", "list"],
    "masu-help": ["masu", "--help"],
    "masu-ps": ["masu", "ps"],
    "masu-exec": ["masu", "exec", "nobody", "true"],
    "masu-logs": ["masu", "logs", "nobody"],
    "masu-run": ["masu", "run", "--rm", "--network", "none", "host", "true"],
}
NEED_ROOT = ("masu-run",)


def loaded(command: list[str], home: Path) -> set[str]:
    """The modules that a command imports beyond those of a bare interpreter, by `-X importtime`."""

    def modules(arguments: list[str]) -> set[str]:
        # Its own HOME and state, so that what the machine's user has does not matter.
        places = {"HOME": home, "MASU_ROOT": home / "root", "MASU_RUN": home / "run"}
        done = subprocess.run(
            [sys.executable, "-SIE", "-X", "importtime", *arguments],
            env={"PATH": os.environ["PATH"], **{name: str(path) for name, path in places.items()}},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE))

    arguments = [word.format(tmp=home) for word in command]
    # The second time: the first one fills caches (byte code, the compiled seccomp filter).
    modules([str(ROOT / "src/masu/__main__.py"), *arguments])
    return modules([str(ROOT / "src/masu/__main__.py"), *arguments]) - modules(["-c", ""])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.root] if name in NEED_ROOT else []) for name in COMMANDS]
)
def test_loads_no_more_than_is_listed(name: str, tmp_path: Path) -> None:
    listed = set((LISTS / f"{name}.txt").read_text().split())
    found = loaded(COMMANDS[name], tmp_path)
    assert f"masu.cli.{'oci' if name.startswith('masu-oci') else 'engine'}" in found
    assert not found & DEAR
    new = sorted(found - listed)
    assert not new, f"{' '.join(COMMANDS[name])} loads what tests/arch/cold/{name}.txt does not list: {new}"


def write() -> None:
    LISTS.mkdir(exist_ok=True)
    for name, command in COMMANDS.items():
        with tempfile.TemporaryDirectory() as home:
            (LISTS / f"{name}.txt").write_text("".join(f"{module}\n" for module in sorted(loaded(command, Path(home)))))


if __name__ == "__main__":
    write()
