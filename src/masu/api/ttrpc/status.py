"""Our kinds of error as ttrpc's status, and back."""

from __future__ import annotations

from masu import errors
from masu.api.proto.small import Status

UNKNOWN, DEADLINE_EXCEEDED, INTERNAL = 2, 4, 13

# google.rpc.Code; a KernelError's is UNKNOWN, as is that of all for which containerd has no kind.
CODES: dict[type[errors.MasuError], int] = {
    errors.Canceled: 1,
    errors.InvalidArgument: 3,
    errors.NotFound: 5,
    errors.AlreadyExists: 6,
    errors.PermissionDenied: 7,
    errors.ResourceExhausted: 8,
    errors.FailedPrecondition: 9,
    errors.Unimplemented: 12,
    errors.Unavailable: 14,
    errors.DataLoss: 15,
}
_KINDS = {code: kind for kind, code in CODES.items()}


def status_of(error: BaseException) -> Status:
    """An exception that is none of ours is a fault of ours."""
    if isinstance(error, errors.MasuError):
        return Status(code=CODES.get(type(error), UNKNOWN), message=str(error))
    return Status(code=INTERNAL, message=f"{type(error).__name__}: {error}")


def error_of(status: Status, what: str) -> errors.MasuError:
    """The error that a partner told of, in answer to `what`."""
    kind = _KINDS.get(status.code, errors.Unavailable)
    return kind(what, detail=status.message)
