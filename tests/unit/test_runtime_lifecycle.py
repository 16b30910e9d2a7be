"""The lifecycle table: which verb in which status, and the words of the refusal."""

from __future__ import annotations

import pytest

from masu.errors import FailedPrecondition
from masu.runtime import lifecycle
from masu.runtime.lifecycle import CREATED, CREATING, PAUSED, RUNNING, STOPPED

STATUSES = (CREATING, CREATED, RUNNING, PAUSED, STOPPED)


@pytest.mark.parametrize("verb", lifecycle.ALLOWED)
@pytest.mark.parametrize("status", STATUSES)
def test_every_pair_is_decided(verb: str, status: str) -> None:
    if status in lifecycle.ALLOWED[verb]:
        lifecycle.require(verb, status, "box")
        return
    with pytest.raises(FailedPrecondition) as refused:
        lifecycle.require(verb, status, "box")
    text = str(refused.value)
    assert "box" in text
    assert status in text
    assert "{" not in text


def test_the_table_names_known_statuses_only() -> None:
    assert {status for allowed in lifecycle.ALLOWED.values() for status in allowed} <= set(STATUSES)


# What callers of runc match on.
@pytest.mark.parametrize(
    ("verb", "status", "words"),
    [
        ("start", RUNNING, "cannot start an already running container"),
        ("start", STOPPED, "cannot start a container that has stopped"),
        ("kill", STOPPED, "container not running"),
        ("exec", STOPPED, "cannot exec in a stopped container"),
        ("exec", PAUSED, "cannot exec in a paused container (use --ignore-paused to override)"),
        ("delete", RUNNING, "cannot delete container box that is not stopped: running"),
        ("resume", RUNNING, "container not paused"),
    ],
)
def test_words(verb: str, status: str, words: str) -> None:
    with pytest.raises(FailedPrecondition, match=words.replace("(", r"\(").replace(")", r"\)")):
        lifecycle.require(verb, status, "box")
