"""Whether a cgroup is frozen, read without the rest of the package: `state` and `kill` want no more."""

from __future__ import annotations

import posix as os
from errno import ENODEV, ENOENT

from masu.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What reading or writing in a cgroup that is being removed gives (kernfs).
GONE = (ENOENT, ENODEV)
_READ_MAX = 64


def frozen(paths: Mapping[str, str]) -> bool:
    """Whether the cgroup with these directories, {controller: path}, was frozen (not: whether an ancestor was). A
    vanished one is not. Raises KernelError."""
    if "freezer" in paths:
        return frozen_v1(paths["freezer"])
    return "" in paths and frozen_v2(paths[""])


def frozen_v1(directory: str) -> bool:
    """Whether this cgroup itself was frozen; one below a frozen ancestor counts as thawed, as for runc."""
    return _read(f"{directory}/freezer.state") not in ("THAWED", "") and (
        _read(f"{directory}/freezer.self_freezing") == "1"
    )


def frozen_v2(directory: str) -> bool:
    # The top of the hierarchy has no such file.
    return _read(f"{directory}/cgroup.freeze") == "1"


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.read(fd, _READ_MAX).decode().strip()
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno in GONE:
            return ""
        raise KernelError("read", path, e.errno or 0) from e
