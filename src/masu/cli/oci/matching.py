"""crun's --regex of `kill` and `delete`: the id is a regular expression, found anywhere in the ids that are meant."""

from __future__ import annotations

import os

from masu.cli.oci import log_of, place, root_of
from masu.errors import InvalidArgument, MasuError
from masu.runtime.container import check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from re import Pattern

    from masu.cli.options import Call

# Those of regex(7) that ids, which are ASCII, can be of; Python has no such names.
_CLASSES = {"alnum": "0-9A-Za-z", "alpha": "A-Za-z", "digit": "0-9", "lower": "a-z", "upper": "A-Z", "punct": "_+.-"}


def each(call: Call, act: Callable[[str], int]) -> int:
    """Does `act` to every container that matches. What fails for one is told and the rest is done; then the status is
    1 (crun's is 0). Raises InvalidArgument for what is no regular expression."""
    matches = _compile(call.args[0])
    status = 0
    for id in _ids(root_of(call)):
        if not matches.search(id):
            continue
        try:
            act(id)
        except MasuError as error:
            place(error, call)
            log_of(call).error(f"{id}: {error}", error)
            status = 1
    return status


def _compile(text: str) -> Pattern[str]:
    import re  # as dear as half an interpreter, for this one flag

    pattern = text
    for name, members in _CLASSES.items():
        pattern = pattern.replace(f"[:{name}:]", members)
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidArgument("regular expression", text, detail=str(error), where="--regex") from error


def _ids(root: str) -> list[str]:
    """Also of those whose state cannot be read: a forced removal clears them."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    return [name for name in names if _is_id(name) and os.path.isdir(f"{root}/{name}")]


def _is_id(name: str) -> bool:
    try:
        check_id(name)
    except InvalidArgument:
        return False
    return True
