"""prctl(2) on ourselves."""

from __future__ import annotations

from masu.errors import KernelError
from masu.linux import _sys

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """From now on orphans among our descendants become our children (Linux 3.4). Raises KernelError."""
    try:
        _sys.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    except OSError as e:
        raise KernelError("prctl", "PR_SET_CHILD_SUBREAPER", e.errno or 0) from e
