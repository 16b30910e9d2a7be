"""The limits of a process's cgroup as its files say them, on v1, hybrid and v2 alike."""

from __future__ import annotations

from pathlib import Path

TOP = Path("/sys/fs/cgroup")


def unified() -> bool:
    return (TOP / "cgroup.controllers").exists()


def directory(pid: int, controller: str) -> Path:
    """Where the files of `controller` are for the cgroup of process `pid`."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if unified() and not names:
            return TOP / path.lstrip("/")
        if controller in names.split(","):
            return TOP / controller / path.lstrip("/")
    raise AssertionError(f"process {pid} is in no cgroup of {controller}")


def value(pid: int, v1: str, v2: str = "") -> str:
    """The text of the file named `v1` ("memory.limit_in_bytes"), or `v2` where that is the machine's layout."""
    file = (v2 or v1) if unified() else v1
    return (directory(pid, v1.split(".")[0]) / file).read_text().strip()
