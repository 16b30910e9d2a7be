"""`--timings`: bars as long as what they stand for."""

from __future__ import annotations

from masu.cli import timings


def test_bars_add_up() -> None:
    spans = [("front", 1_000_000), ("masu", 2_000_000), ("kernel", 1_000_000), ("program", 0)]
    lines = timings.render(spans).split("\n")
    assert lines[0] == "total         4.00 ms"
    assert lines[1:] == [
        "front         1.00 ms  " + "█" * 10,
        "masu          2.00 ms  " + "█" * 20,
        "kernel        1.00 ms  " + "█" * 10,
        "",
    ]


def test_nothing_is_no_reason_to_fail() -> None:
    assert timings.render([]) == "total         0.00 ms\n"
