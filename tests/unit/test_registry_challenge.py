"""WWW-Authenticate as registries send it, and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.registry.challenge import Challenge, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        ('Basic realm="a \\"quoted\\" one"', [Challenge("basic", {"realm": 'a "quoted" one'})]),
        (
            "bearer Realm=https://x/token , Service = y",
            [Challenge("bearer", {"realm": "https://x/token", "service": "y"})],
        ),
        ('Negotiate, Basic realm="x"', [Challenge("negotiate"), Challenge("basic", {"realm": "x"})]),
        (
            'Bearer realm="x", Basic realm="y"',
            [Challenge("bearer", {"realm": "x"}), Challenge("basic", {"realm": "y"})],
        ),
        ('Basic realm="x",realm="y"', [Challenge("basic", {"realm": "x"})]),
        ('Basic realm="open', [Challenge("basic", {"realm": "open"})]),
        ("", []),
        ("   ,,", []),
        ('="', []),
    ],
)
def test_headers(header: str, expected: list[Challenge]) -> None:
    assert parse([header]) == expected


def test_several_headers() -> None:
    assert [c.scheme for c in parse(['Basic realm="x"', "Bearer realm=y"])] == ["basic", "bearer"]


@given(st.text(max_size=200))
def test_any_text_comes_to_an_end(text: str) -> None:
    for challenge in parse([text]):
        assert challenge.scheme == challenge.scheme.lower()


def test_a_long_header_is_cut() -> None:
    assert len(parse(["Basic a=" + "x" * 100_000])[0].parameters["a"]) < 20_000
