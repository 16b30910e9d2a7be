"""Where an error lies in what was typed: loaded only when there is one.

Below the command line an error knows a place in a document (process.cwd) or none; here it becomes the flag that was
given for it.
"""

from __future__ import annotations

import errno

from masu.errors import MasuError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.cli.options import Call

# `exec`: what its flags set in the process that it makes up.
_OF_EXEC = (
    ("process.cwd", "cwd"),
    ("process.env", "env"),
    ("process.user", "user"),
    ("process.terminal", "tty"),
    ("process.selinuxLabel", "process-label"),
    ("process.apparmorProfile", "apparmor"),
)
_HINTS = {
    errno.ENOSPC: "the file system of the state directory is full: free some space, or choose another --root",
    errno.EDQUOT: "the quota is used up: free some space, or choose another --root",
    errno.EROFS: "choose another --root",
    errno.ENOTDIR: "a directory is wanted; choose another --root",
    errno.EACCES: "choose a --root that this user may write to",
    errno.EPERM: "choose a --root that this user may write to",
}


def place(error: MasuError, call: Call, root: str) -> None:
    """Gives `error` its place on the command line of `call`, whose state directory is `root`."""
    name = call.command.name
    if isinstance(error, NotFound) and error.what == "container":
        error.where = ""
        error.hint = error.hint or f"masu-oci --root {root} list shows those that are there"
    elif not error.where and error.errno and (error.obj == root or error.obj.startswith(root + "/")):
        error.where = "--root"
        error.hint = error.hint or _HINTS.get(error.errno, "")
    elif error.what == "sub cgroup":
        error.where = "--cgroup"
    elif name in ("create", "run") and error.what == "bundle":
        error.where = "--bundle"
    elif name == "exec" and not call.options.given("process"):
        for path, flag in _OF_EXEC:
            if error.where.startswith(path) and call.options.given(flag):
                error.where = f"--{flag}"
        if error.where.startswith("process.args"):
            error.where = "command"
