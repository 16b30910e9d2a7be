"""Starting a program: exactly the wanted descriptors, default signals, an executable that may be a descriptor.

With a front (`masu.linux.front`) it is the front's child, else ours.

Python's own `_posixsubprocess` closes descriptors before the exec, so that one that stands for the executable
would have to leak into the program; it leaves other ignored signals ignored; and its signature changes with the
Python version. So `_sys.spawn` does it, with vfork(2): no copy of our page tables, and errors of the child arrive
through the shared memory, without a pipe.
"""

from __future__ import annotations

import posix as os

from masu.errors import KernelError
from masu.linux import _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from masu.linux.front import Front

INHERIT = -1

# Whom the caller knows as this command; None when it is ourselves.
front: Front | None = None


def find(program: str, otherwise: str) -> str:
    """The path of an executable file, as execvp(3) looks for it: in $PATH, or in `otherwise` when that is not set or
    empty. An empty string when there is none."""
    places = os.environ.get(b"PATH", b"").decode("utf-8", "surrogateescape") or otherwise
    for directory in places.split(":"):
        path = f"{directory or '.'}/{program}"
        try:
            kind = os.stat(path).st_mode & 0o170000
        except OSError:
            continue
        if kind == 0o100000 and os.access(path, os.X_OK):  # S_IFREG
            return path
    return ""


def spawn(
    executable: str | int,
    argv: Sequence[str],
    env: Mapping[str, str] | Sequence[str],
    *,
    keep: Sequence[int] = (),
    stdio: tuple[int, int, int] = (INHERIT, INHERIT, INHERIT),
    cwd: str | None = None,
    new_session: bool = False,
) -> int:
    """Start `executable` (a path, or the descriptor of an open file) and return its pid, for `wait`.

    `env` is a mapping or a list of "NAME=value". The descriptors in `keep` keep their numbers, `stdio` become 0, 1
    and 2; no others cross the exec, whether or not they were close-on-exec. Every signal has its default action and
    none is blocked. Returns when the exec has succeeded.

    Raises KernelError with the errno of vfork, chdir or exec; then there is no child. An executable given as a
    descriptor must not be a script: its interpreter could not open it again (execveat(2), BUGS).
    """
    environment = [f"{name}={value}" for name, value in env.items()] if hasattr(env, "items") else env
    try:
        kept = tuple(sorted({fd for fd in keep if fd > 2}))
        start = _sys.spawn if front is None else front.spawn
        return start(executable, argv, environment, kept, stdio, cwd, new_session)
    except OSError as e:
        raise KernelError("execve", argv[0] if isinstance(executable, int) else executable, e.errno or 0) from e


def wait(pid: int, options: int = 0) -> tuple[int, int]:
    """waitpid(2) for what `spawn` started and for what became the caller's child by CLONE_PARENT: (pid, status).
    Raises ChildProcessError."""
    return os.waitpid(pid, options) if front is None else front.wait(pid, options)


def caller_pid() -> int:
    """The process that a caller knows as this command, and that is the parent of what is spawned."""
    return os.getpid() if front is None else front.pid


def caller_proc() -> str:
    """Its directory in /proc, for what is inherited from a caller (cgroup, oom_score_adj, limits)."""
    return "/proc/self" if front is None else f"/proc/{front.pid}"
