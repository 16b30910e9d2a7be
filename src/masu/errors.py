"""The few kinds of error that every layer uses.

One shape everywhere: the kind (the class), what was being looked for or done, to which object, the system
call and errno behind it, the place in the user's input (JSON path, flag, line), a detail and a hint. The same
object becomes text on a terminal, one JSON line in a log, a gRPC status, a Docker API body: front doors hold
one table from kind to status, and nothing else decides.

    raise NotFound("container", id)
    raise InvalidArgument("mount option", "siz=1", where="mounts[3].options[2]", hint='did you mean "size=1"?')
    raise KernelError("move_mount", target, e.errno) from e

Library code raises these, never prints and never exits.
"""

from __future__ import annotations

import errno as _errno
import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class MasuError(Exception):
    """Base of all kinds; not raised itself.

    `what` names the kind of thing or the action ("container", "mount option"), `obj` the one concerned,
    `where` the place in the user's input, `detail` what was seen and what is allowed, `hint` what the user
    can do, `cleanup` the errors met while undoing what had been done before the failure.
    """

    kind: ClassVar[str] = "unknown"
    verb: ClassVar[str] = "failed"

    def __init__(
        self,
        what: str,
        obj: object = "",
        errno: int = 0,
        *,
        detail: str = "",
        where: str = "",
        hint: str = "",
        syscall: str = "",
    ) -> None:
        super().__init__(what, obj, errno)
        self.what = what
        self.obj = str(obj)
        self.errno = errno
        self.detail = detail
        self.where = where
        self.hint = hint
        self.syscall = syscall
        self.cleanup: list[BaseException] = []

    def message(self) -> str:
        """The sentence without place and hint: `container abc: not found`."""
        subject = f"{self.what} {_quoted(self.obj)}" if self.obj else self.what
        parts = [subject, self.verb] if self.verb else [subject]
        if self.syscall:
            parts.append(self.syscall)
        if self.errno:
            parts.append(describe_errno(self.errno))
        if self.detail:
            parts.append(self.detail)
        return ": ".join(parts)

    def __str__(self) -> str:
        text = f"{self.where}: {self.message()}" if self.where else self.message()
        if self.hint:
            text += f" ({self.hint})"
        for error in self.cleanup:
            text += f"; while cleaning up: {error}"
        return text if text.isprintable() else _printable(text)

    def to_json(self) -> dict[str, object]:
        """The same facts as data, empty ones left out."""
        facts: dict[str, object] = {
            "kind": self.kind,
            "message": self.message(),
            "what": self.what,
            "object": self.obj,
            "syscall": self.syscall,
            "errno": _errno.errorcode.get(self.errno, str(self.errno)) if self.errno else "",
            "where": self.where,
            "detail": self.detail,
            "hint": self.hint,
            "cleanup": [str(e) for e in self.cleanup],
        }
        return {key: value for key, value in facts.items() if value}


class InvalidArgument(MasuError):
    """What the caller gave cannot be right, whatever the state of the system."""

    kind = "invalid_argument"
    verb = "invalid"


class NotFound(MasuError):
    kind = "not_found"
    verb = "not found"


class AlreadyExists(MasuError):
    kind = "already_exists"
    verb = "already exists"


class FailedPrecondition(MasuError):
    """Right in itself, but not in the present state (container running, stopped, paused…)."""

    kind = "failed_precondition"
    verb = ""


class PermissionDenied(MasuError):
    kind = "permission_denied"
    verb = "permission denied"


class Unavailable(MasuError):
    """The partner did not answer or hung up; trying again may help."""

    kind = "unavailable"
    verb = "unavailable"


class Unimplemented(MasuError):
    """Known, but not offered here; `detail` says why."""

    kind = "unimplemented"
    verb = "not implemented"


class ResourceExhausted(MasuError):
    """A limit was met: disk full, too many entries, too large a document."""

    kind = "resource_exhausted"
    verb = "exhausted"


class DataLoss(MasuError):
    """What was read is not what was written or promised: wrong digest, torn file."""

    kind = "data_loss"
    verb = "corrupt"


class Canceled(MasuError):
    kind = "canceled"
    verb = "canceled"


class KernelError(MasuError):
    """A system call failed: `KernelError("move_mount", "/dev/shm", errno.EINVAL, detail="…")`."""

    kind = "kernel"
    verb = ""

    def __init__(
        self, syscall: str, obj: object = "", errno: int = 0, *, detail: str = "", where: str = "", hint: str = ""
    ) -> None:
        if errno == _errno.ENOSYS and not hint:
            hint = "Linux 5.14 or newer is needed, and no seccomp filter around us that hides its system calls"
        super().__init__(syscall, obj, errno, detail=detail, where=where, hint=hint)


def describe_errno(number: int) -> str:
    """`EINVAL: Invalid argument`."""
    return f"{_errno.errorcode.get(number, str(number))}: {os.strerror(number)}"


def closest(word: str, allowed: list[str] | tuple[str, ...]) -> str:
    """The hint `did you mean "x"?` when one allowed word is near to `word`, else an empty string."""
    # What all of them begin with (CAP_, SCMP_ACT_) says nothing of how near two of them are.
    first, last = min(allowed, default=""), max(allowed, default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    alike = same if word[:same] == first[:same] else 0
    # A word of one letter is near to nothing.
    limit = min(max(1, (len(word) - alike) // 3), len(word) - 1)
    best, best_distance = "", limit + 1
    for candidate in allowed:
        if abs(len(candidate) - len(word)) > limit:
            continue
        distance = _edit_distance(word.lower(), candidate.lower())
        if distance < best_distance:
            best, best_distance = candidate, distance
    if not best and len(word) >= 3:
        begun = [candidate for candidate in allowed if candidate.startswith(word)]
        best = begun[0] if len(begun) == 1 else ""
    return f'did you mean "{best}"?' if best else ""


def _edit_distance(a: str, b: str) -> int:
    # Two neighbours that changed places are one slip ("strat").
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        above, row = row, [i]
        for j, right in enumerate(b, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]


def _quoted(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _printable(text: str) -> str:
    # Names, and what hooks and other programs say, may hold control characters; they must not reach a terminal or forge
    # a log line.
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])
