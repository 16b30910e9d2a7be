"""The brains that are there (masu.cli.brain), seen from outside: their keepers, what they keep ready, their end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.engine import alive, wait_until
from masu.cli.brain.listener import SPARES


def keepers_of(package: Path) -> list[int]:
    """Pids of the brains that run the code in this package."""
    entry = bytes(package / "__main__.py")
    found = [pid for pid, words in command_lines() if entry in words and b"masu-brain" in words]
    return [pid for pid in found if alive(pid) and parent_of(pid) not in found]


@contextmanager
def held(package: Path, folder: Path) -> Iterator[None]:
    """A brain for all that calls this package meanwhile, kept from leaving by a call that goes on; `folder` is for the
    call's state. In the end no brain of this package is left."""
    command = [str(package / "libexec/masu"), "--root", str(folder), "--run", str(folder), "events"]
    environment = {**os.environ, "MASU_BRAIN": "require"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment) as going:
        try:
            wait_until(lambda: keepers_of(package))
            yield
        finally:
            going.kill()
    end(package)


def calls(package: Path) -> int:
    """How many calls the brains of this package that are there have taken."""
    command = [str(package / "libexec/masu"), "brain", "status", "--format", "json"]
    environment = {**os.environ, "MASU_BRAIN": "off"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    rows = [json.loads(line) for line in said.splitlines()]
    return sum(int(row["Calls"]) for row in rows if row["Package"] == str(package))


def end(package: Path) -> None:
    """Asks them to leave, as init would; waits until they have gone."""
    for pid in keepers_of(package):
        os.kill(pid, signal.SIGTERM)
        wait_gone(pid)


def kill(package: Path) -> None:
    """Ends them at once, and all that runs from this package: a brain to be is no keeper yet, but has the lock. Waits
    until they have let go of what they held, which is a moment after they have no command line any more."""
    while pids := processes_of(package):
        handles = []
        for pid in pids:
            try:
                handles.append(os.pidfd_open(pid))
                signal.pidfd_send_signal(handles[-1], signal.SIGKILL)
            except ProcessLookupError:
                continue
        for handle in handles:
            select.select([handle], [], [])
            os.close(handle)


def processes_of(package: Path) -> list[int]:
    """Pids of what runs from this package, by its command line."""
    inside = bytes(package) + b"/"
    return [pid for pid, words in command_lines() if any(word.startswith(inside) for word in words)]


def command_lines() -> Iterator[tuple[int, list[bytes]]]:
    """The words of every process; none of one that has ended and was not waited for."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield int(name), Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue


def wait_gone(pid: int) -> None:
    wait_until(lambda: not alive(pid))


def parent_of(pid: int) -> int:
    """0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def has_spares(keeper: int) -> bool:
    """Whether all of its spares are there, and no calls."""
    return len(children_of(keeper)) == SPARES


def children_of(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and parent_of(int(name)) == pid and alive(int(name)):
                found.append(int(name))
        except OSError:
            continue
    return found
