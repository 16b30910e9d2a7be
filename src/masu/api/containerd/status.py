"""Errors as gRPC statuses, in containerd's words.

Clients decide by the code. containerd's own cut the words of the code from the end of a message and put their own
error behind it (errdefs), so they stand there: `image "x": not found`.
"""

from __future__ import annotations

from masu.api.grpc.status import Code
from masu.errors import MasuError, describe_errno

# kind -> code, the words that a message ends with.
_CODES = {
    "invalid_argument": (Code.INVALID_ARGUMENT, "invalid argument"),
    "not_found": (Code.NOT_FOUND, "not found"),
    "already_exists": (Code.ALREADY_EXISTS, "already exists"),
    "failed_precondition": (Code.FAILED_PRECONDITION, "failed precondition"),
    "permission_denied": (Code.PERMISSION_DENIED, "permission denied"),
    "unavailable": (Code.UNAVAILABLE, "unavailable"),
    "unimplemented": (Code.UNIMPLEMENTED, "not implemented"),
    "resource_exhausted": (Code.RESOURCE_EXHAUSTED, "resource exhausted"),
    # A blob that is not what it was said to be: containerd calls that a failed precondition.
    "data_loss": (Code.FAILED_PRECONDITION, "failed precondition"),
    "canceled": (Code.CANCELLED, "canceled"),
    "out_of_range": (Code.OUT_OF_RANGE, "out of range"),
    "kernel": (Code.UNKNOWN, ""),
}
# What containerd calls some of the things, in some of the cases.
_NOUNS = {
    ("content", "not_found"): "content digest {}",
    ("content", "already_exists"): "content {}",
    ("snapshot", "not_found"): "snapshot {} does not exist",
    ("parent snapshot", "not_found"): "parent snapshot {} does not exist",
    ("ingest", "not_found"): "reference {}",
    ("ingest", "unavailable"): "ref {} locked",
}


class OutOfRange(MasuError):
    """A place beyond the end; of this protocol alone."""

    kind = "out_of_range"
    verb = ""


def status_of(error: MasuError) -> tuple[Code, str]:
    """The code and the message for a client."""
    code, words = _CODES.get(error.kind, (Code.UNKNOWN, ""))
    subject = error.what
    if error.obj:
        # What a document had is shown as JSON already.
        quoted = error.obj if error.obj.startswith('"') else f'"{error.obj}"'
        subject = _NOUNS.get((error.what, error.kind), "").replace("{}", error.obj) or f"{error.what} {quoted}"
    parts = [error.where, subject, error.syscall]
    if error.errno:
        parts.append(describe_errno(error.errno))
    parts.append(f"{error.detail} ({error.hint})" if error.hint else error.detail)
    parts.extend(f"while cleaning up: {also}" for also in error.cleanup)
    text = ": ".join(part for part in [*parts, words] if part)
    # What containers and images are called may hold anything; a status is one line.
    return code, "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
