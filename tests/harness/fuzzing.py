"""What fuzzing shares: a kept corpus, what is made of it, and what may come out.

tests/fuzz/corpus/TARGET/ holds inputs: one of each kind that is right, and each that once did harm. They are tried as
they are (`kept`), and as mutants of each other (`mutants`). The targets in C (native/*/tests/fuzz_*.c) have theirs
there, too. FUZZ_SECONDS, 4 by default, makes all of them run longer.
"""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from masu.errors import MasuError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

CORPUS = Path(__file__).parent.parent / "fuzz/corpus"

_LONGER = max(1, int(os.environ.get("FUZZ_SECONDS", "4")) // 4)

TEXT = st.text() | st.text(alphabet="\0\n\x1b/.:@=,-0\ud800\udc80é\u202e", max_size=12)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
SMALL = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
# Numbers on both sides of every border, words that mean something elsewhere, shapes that belong elsewhere.
ODD: list[Any] = [None, True, False, "", "a", "\0", "/", "..", "1", [], {}, [None], {"": None}, 0.5, 1e300, "\ud800"]
ODD += [sign * (1 << bits) + delta for bits in (0, 7, 16, 31, 32, 63, 64, 200) for delta in (-1, 0) for sign in (1, -1)]


def examples(count: int) -> settings:
    """So many, and more with FUZZ_SECONDS; no time is measured."""
    return settings(max_examples=count * _LONGER, deadline=None)


def attempt(call: Callable[..., Any], *args: object) -> tuple[Any, str]:
    """(result, "") or (None, message); any error but ours goes through."""
    try:
        return call(*args), ""
    except MasuError as error:
        message, bare = str(error), error.message()
        json.dumps(error.to_json())
    # No control character of the input reaches a terminal or forges a log line.
    assert message.isprintable()
    assert len(bare) < 4000  # before what cannot be printed was escaped
    return None, message


def placed(call: Callable[..., T], *args: object) -> T | None:
    """The result, or None for an error of ours that says which place in a document it is about."""
    try:
        return call(*args)
    except MasuError as error:
        where, said = error.where, str(error)
    assert where, said
    return None


def mutate(document: Any, rng: random.Random) -> Any:
    """A deep copy with one to three places changed, removed, renamed or repeated."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        parent, key = document, rng.choice(list(document))
        while rng.random() < 0.85 and isinstance(parent[key], dict | list) and parent[key]:
            parent = parent[key]
            key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        action = rng.randrange(4)
        if action == 0 and isinstance(parent, dict):
            del parent[key]
        elif action == 1 and isinstance(parent, dict):
            parent[rng.choice([key.upper(), key + "x", "x" + key])] = parent[key]
        elif action == 2 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            parent[key] = copy.deepcopy(rng.choice(ODD))
        if not document:
            break
    return document


def corpus(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def kept(*targets: str) -> pytest.MarkDecorator:
    """Parametrizes a test by `target` and `data`: everything in these targets' corpora."""
    found = [(target, path) for target in targets for path in sorted((CORPUS / target).iterdir())]
    return pytest.mark.parametrize(
        ("target", "data"),
        [pytest.param(target, path.read_bytes(), id=f"{target}/{path.name}") for target, path in found],
    )


_PIECES = [b"\0", b"\xff", b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"-1", b"0", b"18446744073709551616", b"1e999"]
_PIECES += [b"null", b"[", b"{", b'"', b"\\", b"\\ud800", b"\\u0000", b"\n", b" ", b"=", b":", b",", b"/../", b"\xc3"]


@st.composite
def mutants(draw: st.DrawFn, target: str) -> bytes:
    """A member of the corpus with up to four places changed; now and then bytes of no origin."""
    members = corpus(target)
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(members)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 16))
        action = draw(st.sampled_from(["change", "insert", "remove", "repeat", "splice", "piece", "cut"]))
        if action == "change":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif action == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        elif action == "remove":
            del data[at : at + length]
        elif action == "repeat":
            data[at:at] = data[at : at + length]
        elif action == "splice":
            other = draw(st.sampled_from(members))
            data[at:] = other[draw(st.integers(0, len(other))) :]
        elif action == "piece":
            data[at : at + length] = draw(st.sampled_from(_PIECES))
        else:
            del data[at:]
    return bytes(data)
