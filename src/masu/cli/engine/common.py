"""What the verbs share: the engine of a call, words to the user, one action for several containers."""

from __future__ import annotations

import os
import sys

from masu.engine import Engine
from masu.errors import MasuError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from masu.cli.options import Call


def engine_of(call: Call) -> Engine:
    """The engine that the global options and the environment name."""

    def setting(flag: str, variable: str) -> str:
        return call.globals.maybe(flag) or os.environ.get(variable, "")

    namespace = setting("namespace", "MASU_NAMESPACE") or "default"
    return Engine(setting("root", "MASU_ROOT"), setting("run", "MASU_RUN"), namespace)


def out(text: str) -> None:
    """To standard output, all of it, now: nothing of ours is left in a buffer when a signal comes."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(text: str) -> None:
    """A line to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def warn(texts: Sequence[str]) -> None:
    for text in texts:
        say(f"WARNING: {text}")


def each(refs: Sequence[str], action: Callable[[str], object], *, echo: bool = True) -> int:
    """Does it to all, even when one fails; prints the names that were done. 1 when any failed."""
    status = 0
    for ref in refs:
        try:
            action(ref)
        except MasuError as error:
            say(f"masu: {error}")
            status = 1
            continue
        if echo:
            out(f"{ref}\n")
    return status


def filters(words: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """`--filter key=value` options; values of one key are alternatives. Raises InvalidArgument."""
    from masu.errors import InvalidArgument, closest

    found: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgument("filter", word, where="--filter", detail="want KEY=VALUE")
        if key not in known:
            hint = closest(key, tuple(known)) or "filters: " + ", ".join(known)
            raise InvalidArgument("filter", word, where="--filter", hint=hint)
        found.setdefault(key, []).append(value)
    return found


def labels_match(labels: dict[str, str], wanted: Sequence[str]) -> bool:
    """Whether all of `key` and `key=value` hold."""
    for word in wanted:
        key, equals, value = word.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
