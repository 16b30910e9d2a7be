"""Sockets that a service manager has opened for us, passed on to the container (sd_listen_fds(3)).

runc takes them when LISTEN_PID is its own pid, crun without looking at it; ours takes them unless it is somebody
else's. In the container LISTEN_PID is 1 for the first process, as with both. The pid that an `exec` will have in there
is not known when its environment is made: LISTEN_PID is left out, which many a library takes for its consent.
"""

from __future__ import annotations

import os

from masu.cli.oci.create_ import Passed, is_open
from masu.errors import InvalidArgument
from masu.linux import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.cli.oci.log import Log


def is_meant_for_us() -> bool:
    """Whether $LISTEN_PID names this command, or nobody."""
    pid = os.environ.get("LISTEN_PID", "")
    return not pid or pid == str(spawn.caller_pid())


def listening(log: Log, *, first_process: bool, complete: bool) -> Passed:
    """What $LISTEN_FDS speaks of; nothing when it is no number or meant for another process.

    Only open ones are passed, up to the first that is not; with `complete`, when others come after them, that raises
    InvalidArgument.
    """
    wanted = os.environ.get("LISTEN_FDS", "")
    if not is_meant_for_us():
        return Passed(0)
    count = _number(wanted)
    if not count:
        return Passed(0)
    found = next((at for at in range(count) if not is_open(3 + at)), count)
    if found < count:
        detail = f"file descriptor {3 + found} is not open"
        if complete:
            raise InvalidArgument("LISTEN_FDS", wanted, detail=detail, hint="--preserve-fds counts from behind them")
        log.warning(f"LISTEN_FDS={wanted}: {detail}; {found} are passed on")
    env = [f"LISTEN_FDS={found}", *(["LISTEN_PID=1"] if first_process else [])]
    if names := os.environ.get("LISTEN_FDNAMES"):
        env.append("LISTEN_FDNAMES=" + ":".join(names.split(":")[:found]))
    return Passed(found, tuple(env))


def _number(text: str) -> int:
    # Nine digits at most: int() refuses thousands of them with an error of its own.
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
