"""While masud runs, there is a brain: the commands beside it answer at once (docs/design.md, "The warm front")."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys

import masu

logger = logging.getLogger("masud")
# Where root's brains have their sockets (native/front/home.c).
DIRECTORY = "/run/masu/brain"


def hold(directory: str = DIRECTORY) -> int:
    """Has a brain started, and keeps those of `directory` from leaving for want of calls until the descriptor that is
    returned is closed; -1 where there is none to be had."""
    if os.environ.get("MASU_BRAIN") == "off" or os.geteuid() != 0:
        return -1
    front = _front()
    if front is None:
        return -1
    try:
        for path in (os.path.dirname(directory), directory):
            os.makedirs(path, 0o700, exist_ok=True)
        held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_SH)
    except OSError as error:
        logger.warning("no brain is kept: %s", error)
        return -1
    # A call that finds no brain starts one for the next.
    subprocess.run(
        [front, "version"],
        env={"PATH": os.defpath, "MASU_BRAIN": "auto"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return held


def _front() -> str | None:
    """The command `masu` of this installation."""
    beside = (os.path.dirname(masu.__file__) + "/libexec", os.path.dirname(sys.executable))
    return next((found for folder in beside if (found := shutil.which("masu", path=folder))), None)
