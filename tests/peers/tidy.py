"""What a suite leaves behind, taken away: they were written for machines that are thrown away afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from harness import leftovers, programs
from harness.engine import wait_until
from harness.keepers import keepers_of
from harness.subreaper import descendants


@contextmanager
def tidied(*names: str) -> Iterator[None]:
    """Ends the processes that were begun inside and removes the cgroups that were made inside and are called like one
    of `names`, or are below one that is: others may be at work on this machine."""
    cgroups, processes = set(leftovers.cgroups()), _processes()

    def made() -> list[Path]:
        new = (Path(path) for path in set(leftovers.cgroups()) - cgroups)
        return sorted(path for path in new if any(fnmatch(part, name) for part in path.parts for name in names))

    try:
        yield
    finally:
        for pid in _processes() - processes:
            with suppress(FileNotFoundError, ProcessLookupError):
                _thaw(Path(f"/proc/{pid}/cgroup").read_text())
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _processes() - processes)
        for path in reversed(made()):
            with suppress(OSError):  # what is left is told by the check for leftovers
                path.rmdir()


def _thaw(places: str) -> None:
    """Lets processes in these places of /proc/PID/cgroup die. The top of a hierarchy cannot be frozen."""
    for line in places.splitlines():
        _, controllers, path = line.split(":", 2)
        for kind, file, word in ("freezer", "freezer.state", "THAWED"), ("", "cgroup.freeze", "0"):
            place = Path("/sys/fs/cgroup", kind, path[1:], file)
            if controllers == kind and place.exists():
                place.write_text(word)


def _processes() -> set[int]:
    """Ours and our orphans: those below the tests' subreaper, which alone reaps them while a suite looks on. A brain
    of ours and what it keeps ready are none of the suite's."""
    reaper = os.environ.get("MASU_TEST_SUBREAPER")
    found = set(descendants(int(reaper))) if reaper else set()
    for keeper in keepers_of(programs.ROOT / "src" / "masu"):
        found -= {keeper, *descendants(keeper)}
    return found
