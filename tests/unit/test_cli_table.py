"""Listings: Docker's columns and the forms of --format."""

from __future__ import annotations

import pytest

from masu.cli.table import Listing, align
from masu.errors import InvalidArgument

PS = Listing((("ID", "CONTAINER ID"), ("Image", "IMAGE"), ("Names", "NAMES")), (("Labels", "LABELS"),))
ROWS: list[dict[str, object]] = [
    {"ID": "0123456789ab", "Image": "redis", "Names": "web", "Labels": "a=1"},
    {"ID": "ba9876543210", "Image": "registry.example/long:1", "Names": "db", "Labels": ""},
]


def test_default_table_is_aligned_like_dockers() -> None:
    assert PS.render(ROWS) == (
        "CONTAINER ID   IMAGE                     NAMES\n"
        "0123456789ab   redis                     web\n"
        "ba9876543210   registry.example/long:1   db\n"
    )
    assert PS.render([]) == "CONTAINER ID   IMAGE     NAMES\n"
    assert PS.render(ROWS, "table") == PS.render(ROWS)


def test_templates() -> None:
    assert PS.render(ROWS, "{{.Names}}={{.Labels}}") == "web=a=1\ndb=\n"
    assert PS.render(ROWS, r"table {{.Names}}\t{{.Labels}}") == "NAMES     LABELS\nweb       a=1\ndb        \n"
    assert PS.render(ROWS, r"{{.ID}}\n") == "0123456789ab\n\nba9876543210\n\n"


def test_json_is_one_sorted_object_a_line() -> None:
    assert PS.render(ROWS[:1], "json") == '{"ID":"0123456789ab","Image":"redis","Labels":"a=1","Names":"web"}\n'


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(InvalidArgument, match='did you mean "Names"'):
        PS.render(ROWS, "{{.Name}}")


def test_align_keeps_short_rows() -> None:
    assert align([["a", "b"], ["c"]]) == "a         b\nc\n"
