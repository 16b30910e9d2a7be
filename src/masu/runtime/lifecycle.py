"""The life of a container as one table (runtime.md, "Lifecycle").

               create                start                 exit
    (nothing) --------> creating --> created --> running --------> stopped --delete--> (nothing)
                                                   |  ^
                                             pause v  | resume
                                                  paused

The status is never stored: it is what the process, the FIFO behind `start` and the freezer say at the moment of
looking (`Container.status`). The table says which verb is allowed in which status; a status that is not listed gives
the verb's refusal. The refusals are worded as runc words them, since its callers match on them.
"""

from __future__ import annotations

from masu.errors import FailedPrecondition

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"

ALLOWED: dict[str, tuple[str, ...]] = {
    "start": (CREATED,),
    "kill": (CREATING, CREATED, RUNNING, PAUSED),
    "exec": (CREATED, RUNNING),
    "ps": (CREATED, RUNNING, PAUSED, STOPPED),
    "pause": (CREATED, RUNNING),
    "resume": (PAUSED,),
    "update": (CREATED, RUNNING, PAUSED),
    "mount": (CREATED, RUNNING, PAUSED),
    "delete": (CREATED, STOPPED),
    "checkpoint": (RUNNING, PAUSED),
}

_REFUSALS: dict[tuple[str, str], str] = {
    ("start", RUNNING): "cannot start an already running container",
    ("start", STOPPED): "cannot start a container that has stopped",
    ("start", PAUSED): "cannot start a container in the paused state",
    ("kill", STOPPED): "container not running",
    ("exec", STOPPED): "cannot exec in a stopped container",
    ("exec", PAUSED): "cannot exec in a paused container (use --ignore-paused to override)",
    ("pause", STOPPED): "container not running",
    ("pause", PAUSED): "container not running",
    ("resume", RUNNING): "container not paused",
    ("resume", CREATED): "container not paused",
    ("resume", STOPPED): "container not paused",
    ("update", STOPPED): "container not running",
    ("mount", STOPPED): "container not running",
    ("delete", RUNNING): "cannot delete container {id} that is not stopped: running",
    ("delete", PAUSED): "cannot delete container {id} that is not stopped: paused",
    ("checkpoint", CREATED): "Container cannot be checkpointed in created state",
    ("checkpoint", STOPPED): "Container cannot be checkpointed in stopped state",
}

_HINTS: dict[tuple[str, str], str] = {
    ("delete", RUNNING): "kill it first, or use --force",
    ("delete", PAUSED): "resume and kill it first, or use --force",
    ("start", PAUSED): "resume it first",
    ("kill", STOPPED): "delete it",
    ("start", STOPPED): "delete it and create it anew",
    ("exec", STOPPED): "its first process has exited",
}


def require(verb: str, status: str, id: str) -> None:
    """Raises FailedPrecondition when `verb` is not allowed to a container in `status`."""
    if status in ALLOWED[verb]:
        return
    text = _REFUSALS.get((verb, status), f"cannot {verb} a container in the {status} state")
    raise FailedPrecondition(
        text.format(id=id),
        detail="" if "{id}" in text else f"container {id} is {status}",
        hint=_HINTS.get((verb, status), ""),
    )
