"""Sizes, durations, moments and times: Docker's spelling."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.cli import units
from masu.errors import InvalidArgument
from masu.spec import times

S = times.SECOND


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("4k", 4096),
        ("512m", 512 << 20),
        ("512MB", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("1g", 1 << 30),
        ("2T", 2 << 40),
        ("1 kb", 1024),
    ],
)
def test_size(text: str, want: int) -> None:
    assert units.size(text) == want


@pytest.mark.parametrize("text", ["", "x", "-1", "12z", "1.", ".5m", "1..2m", "1 2", "9999999p", "1ib2", "0x10", "١٢"])
def test_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid|could not"):
        units.size(text)


@pytest.mark.parametrize(
    ("count", "decimal", "three", "binary"),
    [
        (0, "0B", "0B", "0B"),
        (999, "999B", "999B", "999B"),
        (1000, "1kB", "1kB", "1000B"),
        (1363148, "1.363MB", "1.36MB", "1.3MiB"),
        (1 << 30, "1.074GB", "1.07GB", "1GiB"),
    ],
)
def test_human_sizes(count: int, decimal: str, three: str, binary: str) -> None:
    assert units.human_size(count) == decimal
    assert units.human_size(count, 3) == three
    assert units.binary_size(count) == binary


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0", 0),
        ("1s", S),
        ("1.5s", 1_500_000_000),
        ("1h15m30.918273645s", 4530 * S + 918_273_645),
        ("-1m", -60 * S),
        ("+5ms", 5_000_000),
        ("2us", 2000),
        ("2µs", 2000),
        (".5s", S // 2),
        ("1ns", 1),
    ],
)
def test_duration(text: str, want: int) -> None:
    assert units.duration(text) == want


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1s2", "-", ".s", "1..5s", "99999999999999h"])
def test_duration_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        units.duration(text)


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        (0.2, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (46 * 60, "46 minutes"),
        (3600, "About an hour"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (61 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_human_duration(seconds: float, want: str) -> None:
    assert units.human_duration(int(seconds * S)) == want
    assert units.ago(0, int(seconds * S)) == want + " ago"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2006-01-02T15:04:05Z", 1136214245 * S),
        ("2006-01-02T15:04:05.999999999+07:00", 1136189045 * S + 999_999_999),
        ("2006-01-02T15:04:05-0700", 1136239445 * S),
        ("1136073600", 1136073600 * S),
        ("1136073600.000000001", 1136073600 * S + 1),
        ("10m", 1_000_000 * S - 600 * S),
        ("2006-01-02Z", 1136160000 * S),
    ],
)
def test_moment(text: str, want: int) -> None:
    assert units.moment(text, 1_000_000 * S) == want


def test_moment_without_a_zone_is_local() -> None:
    old = os.environ.get("TZ")
    os.environ["TZ"] = "JST-9"
    time.tzset()
    try:
        assert units.moment("2006-01-02T15:04:05") == (1136214245 - 9 * 3600) * S
        assert units.moment("2006-01-02T15:04") == (1136214240 - 9 * 3600) * S
        assert units.moment("2006-01-02") == (1136160000 - 9 * 3600) * S
        assert times.local(0) == "1970-01-01 09:00:00 +0900 JST"
    finally:
        if old is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = old
        time.tzset()


@pytest.mark.parametrize("text", ["", "yesterday", "2006-13-01", "2006-02-29", "2006-01-02T25:00:00Z", "1.2.3", "-5"])
def test_moment_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        units.moment(text)


@given(st.integers(0, 4_000_000_000 * S))
def test_times_round_trip(ns: int) -> None:
    text = times.text(ns)
    assert len(text) == 30
    assert times.parse(text) == ns


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    for parse, kinds in ((times.parse, InvalidArgument), (units.moment, ValueError), (units.size, ValueError)):
        try:
            parse(text)
        except kinds:
            continue
