"""What a run of the tests may leave on the machine: nothing.

`snapshot()` before and after, `left(before, after)` for the difference in words. What other people do on the
machine at the same time would be taken for ours, so only ./test asks for the check (MASU_TEST_LEFTOVERS=1).
Processes are exact all the same: everything that the tests start falls to their subreaper.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from harness.subreaper import descendants

STATE = ("/run/masu", "/run/masu-oci", "/var/lib/masu", "/run/user/0/masu")
# Cgroup files come and go with other services; these branches are theirs.
FOREIGN_CGROUPS = ("system.slice", "user.slice", "init.scope")


def snapshot() -> dict[str, set[str]]:
    return {
        "mount": set(_mounts()),
        "cgroup": set(cgroups()),
        "network interface": {name for _, name in socket.if_nameindex()},
        "named network namespace": set(_names("/run/netns")),
        "state": {f"{folder}/{name}" for folder in STATE for name in _tree(folder)},
        "loop device": {name for name in _names("/sys/block") if Path("/sys/block", name, "loop").exists()},
        "device": set(_devices()),
        "process": set(_processes()),
        "temporary file": {f"/tmp/{name}" for name in _names("/tmp") if name.startswith("masu")},
    }


def left(before: dict[str, set[str]], after: dict[str, set[str]]) -> list[str]:
    return [f"{kind}: {item}" for kind in after for item in sorted(after[kind] - before[kind])]


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split()
        yield f"{fields[4]} ({fields[fields.index('-') + 1]}, id {fields[0]})"


def cgroups() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
            for folder, names, _ in os.walk(fields[4]):
                names[:] = [name for name in names if name not in FOREIGN_CGROUPS]
                yield from (os.path.join(folder, name) for name in names)


def _devices() -> Iterator[str]:
    """Whose the machine's devices are: a runtime that gives its stdio to the container's user may give them away."""
    for name in ("null", "zero", "full", "random", "urandom", "tty", "fuse"):
        try:
            found = os.stat(f"/dev/{name}")
        except FileNotFoundError:
            continue
        yield f"/dev/{name} of {found.st_uid}:{found.st_gid}, mode {found.st_mode:o}"


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _tree(folder: str) -> Iterator[str]:
    # Two levels tell whose it is: containers/<namespace>, oci/<id>.
    for name in _names(folder):
        yield name
        for inner in _names(f"{folder}/{name}"):
            yield f"{name}/{inner}"


def _processes() -> Iterator[str]:
    reaper = os.environ.get("MASU_TEST_SUBREAPER")
    for pid in descendants(int(reaper)) if reaper else []:
        if pid != os.getpid():
            try:
                command = Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if "multiprocessing.resource_tracker" in command:
                continue  # multiprocessing's own: lives until its parent, which asks here, has ended
            yield f"{pid} {command.strip() or Path('/proc', str(pid), 'comm').read_text().strip()}"
