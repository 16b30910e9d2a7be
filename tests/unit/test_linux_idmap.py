from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.errors import InvalidArgument
from masu.linux import idmap
from masu.linux.idmap import Mapping

RANGES = st.builds(Mapping, st.integers(0, 100), st.integers(0, 100), st.integers(1, 20))


def test_text_and_back() -> None:
    mappings = [Mapping(0, 100000, 65536), Mapping(65536, 5, 1)]
    assert idmap.text(mappings) == "0 100000 65536\n65536 5 1\n"
    assert idmap.parse(idmap.text(mappings)) == mappings
    assert idmap.parse("         0          0 4294967295\n") == [Mapping(0, 0, 4294967295)]


@pytest.mark.parametrize("text", ["0 0", "a b c", "0 0 -1", "0 0 99999999999", "0 0 1 1", "٠ 0 1"])
def test_what_is_no_map(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        idmap.parse(text)


def test_translation() -> None:
    mappings = [Mapping(0, 1000, 1), Mapping(1, 100000, 10)]
    assert [idmap.to_host(mappings, id) for id in (0, 1, 10, 11)] == [1000, 100000, 100009, None]
    assert [idmap.to_container(mappings, id) for id in (1000, 100009, 100010, 0)] == [0, 10, None, None]


@pytest.mark.parametrize(
    ("mappings", "said"),
    [
        ([Mapping(0, 0, 0)], r"w\[0\].*size"),
        ([Mapping(0, 4294967290, 10)], "32 bits"),
        ([Mapping(0, 0, 10), Mapping(9, 100, 1)], r"w\[1\].*overlaps with w\[0\]"),
        ([Mapping(0, 0, 10), Mapping(10, 9, 1)], "overlaps"),
        ([Mapping(n, n, 1) for n in range(341)], "at most 340"),
    ],
)
def test_maps_the_kernel_would_refuse(mappings: list[Mapping], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        idmap.check(mappings, "w")


@given(st.lists(RANGES, max_size=6))
def test_a_checked_map_is_one_to_one(mappings: list[Mapping]) -> None:
    try:
        idmap.check(mappings, "w")
    except InvalidArgument:
        return
    inside = [id for item in mappings for id in range(item.container_id, item.container_id + item.size)]
    outside = [idmap.to_host(mappings, id) for id in inside]
    assert None not in outside
    assert len(set(outside)) == len(inside)
    assert [idmap.to_container(mappings, id) for id in outside if id is not None] == inside


def test_subordinate_ranges() -> None:
    content = b"""# comment
alice:100000:65536
1000:300000:10
bob:1:1
alice:4294967290:100
alice:x:1
alice:5:0
alice:1:2:3
alice:700000:5
"""
    assert idmap.parse_subordinate(content, 1000, "alice") == [(100000, 65536), (300000, 10), (700000, 5)]
    assert idmap.parse_subordinate(content, 1000) == [(300000, 10)]
    assert idmap.parse_subordinate(content, 7, "carol") == []


@given(st.binary(max_size=200))
def test_any_subuid_file_is_read(content: bytes) -> None:
    for first, count in idmap.parse_subordinate(content, 1000, "alice"):
        assert 0 < count <= first + count <= idmap.MAX_ID + 1


def test_own_map_covers_ourselves() -> None:
    assert idmap.to_host(idmap.of_process(), os.getuid()) is not None
    assert idmap.to_host(idmap.of_process(kind="gid"), os.getgid()) is not None
