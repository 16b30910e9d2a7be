"""What a suite leaves behind, taken away: they were written for machines that are thrown away afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from harness import leftovers
from harness.chaos import Brood


@contextmanager
def tidied(*names: str) -> Iterator[None]:
    """Ends the processes that were begun inside and removes the cgroups that were made inside and are called like one
    of `names`, or are below one that is: others may be at work on this machine."""
    before = set(leftovers.cgroups())

    def made() -> list[Path]:
        new = (Path(path) for path in set(leftovers.cgroups()) - before)
        return sorted(path for path in new if any(fnmatch(part, name) for part in path.parts for name in names))

    with Brood():
        try:
            yield
        finally:
            for path in made():
                for file, thawed in ("freezer.state", "THAWED"), ("cgroup.freeze", "0"):
                    if (path / file).exists():
                        (path / file).write_text(thawed)
    for path in reversed(made()):
        with suppress(OSError):  # what is left is told by the check for leftovers
            path.rmdir()
