"""`python subreaper.py COMMAND ARGS...`: run COMMAND with every orphan of its descendants falling to this process.

PID 1 of a build machine reaps late or never, and a zombie container makes `kill` and `delete` look wrong. The
command's exit status is passed on; whatever is still alive below us when it has ended is killed (the tests' own
check has told of it by then).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    # Not posix_spawn: glibc's leaves signals 32 and 33 ignored in the child, and the tests look at such things.
    child = os.fork()
    if child == 0:
        # Python ignores the first two, a shell the others in what it starts with `&`.
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], command, os.environ | {"MASU_TEST_SUBREAPER": str(os.getppid())})
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A terminal sends these to the whole group: the command ends as it likes, we wait for it.
        signal.signal(number, lambda n, _: _forward(child, n))
    status = 0
    while True:
        try:
            pid, wait_status = os.wait()
        except ChildProcessError:
            break
        if pid == child:
            status = os.waitstatus_to_exitcode(wait_status)
            for orphan in descendants(os.getpid()):
                _forward(orphan, signal.SIGKILL)
    return status if status >= 0 else 128 - status


def descendants(ancestor: int) -> list[int]:
    """Pids of all processes below `ancestor`, zombies left out, nearest first."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                # pid (comm) state ppid: comm may hold spaces and parentheses (proc_pid_stat(5)).
                state, ppid = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state not in "ZX":
                parents[int(entry)] = int(ppid)
    below, found = {ancestor}, []
    while added := [pid for pid, parent in parents.items() if parent in below and pid not in below]:
        below.update(added)
        found += added
    return found


def _forward(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
