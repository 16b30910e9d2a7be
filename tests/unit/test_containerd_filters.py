"""containerd's filter language: what matches, and what is said of mistakes."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.api.containerd.filters import Fields, fields, parse
from masu.errors import InvalidArgument


def thing(name: str, other: str = "", **labels: str) -> Fields:
    return fields({"name": name, "other": other}, labels)


THINGS = {
    "foo": thing("foo", foo="true"),
    "bar": thing("bar"),
    "baz": thing("foo", **{"more complex label": "present", 'with \\ and "': "present"}),
    "qux": thing("bar", other="too complex, yo", bar="true"),
    "dotted": thing("x", other="abc", **{"containerd.io/gc.root": "now", "a.b": "1"}),
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "foo bar baz qux dotted"),
        ("name", "foo bar baz qux dotted"),
        ("other", "qux dotted"),
        ("labels.foo", "foo"),
        ("labels.foo,name", "foo"),
        ("labels.foo==true", "foo"),
        ("labels.foo==omg_asdf.asdf-qwer", ""),
        ("name==bar", "bar qux"),
        (" name == bar", "bar qux"),
        ("name!=bar", "foo baz dotted"),
        ("labels.bar!=true", "foo bar baz dotted"),
        ("name==bar,labels.bar", "qux"),
        ('other=="too complex, yo"', "qux"),
        ("other~=[abc]+,name!=foo", "qux dotted"),
        ("other~=/^[abc]{1,3}$/", "dotted"),
        ("other~=|^abc|", "dotted"),
        ("other~=[[:upper:]]", ""),
        ("other~=(", ""),
        ('labels."more complex label"', "baz"),
        (r'labels."with \\ and \""==present', "baz"),
        ('labels."containerd.io/gc.root"', "dotted"),
        ("labels.a.b==1", "dotted"),
        ('labels."a.b"==1', "dotted"),
        (r'labels."\x61\056\u0062"==1', "dotted"),
        ("nothing==x", ""),
    ],
)
def test_what_matches(text: str, found: str) -> None:
    wanted = parse([text])
    assert " ".join(name for name, each in THINGS.items() if wanted(each)) == found


def test_several_filters_are_alternatives() -> None:
    wanted = parse(["name==foo,labels.foo", "other==abc"])
    assert [name for name, each in THINGS.items() if wanted(each)] == ["foo", "dotted"]
    assert all(map(parse([]), THINGS.values()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels.|foo|==x", "[labels. >|||< foo|==x]: invalid quote encountered"),
        ('labels.?"x".post==present', '[labels. >|?|< "x".post==present]: expected field or quoted'),
        ("name==foo,", "[name==foo,]: expected field or quoted"),
        ("labels.", "[labels.]: expected field or quoted"),
        ("image~=,id?=?fbaq", "[image~= >|,|< id?=?fbaq]: expected value or quoted"),
        ("labels.ns/key==value", "[labels.ns >|/|< key==value]: quoted literal not terminated"),
        ("labels.ns?key==value", '[labels.ns >|?|< key==value]: expected an operator ("=="|"!="|"~=")'),
        ("labels.key==/value", "[labels.key== >|/|< value]: quoted literal not terminated"),
        ("name=foo", '[name >|=|< foo]: unsupported operator "="'),
        ("name==foo bar", "[name==foo >| |< bar]: unexpected input:  "),
        (r'labels."\g"', r'[labels. >|"|< \g"]: illegal escape sequence'),
        (r'labels."\xaz"', r'[labels. >|"|< \xaz"]: illegal numeric escape sequence'),
        ("a==" + "x" * 20000, "longer than"),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse([text])
    assert said in str(caught.value)


# What json.dumps writes of these is a string as Go has it.
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFFFF, exclude_categories=["Cs"]), min_size=1)


@given(TEXTS, TEXTS)
def test_whatever_is_quoted_is_found(label: str, value: str) -> None:
    wanted = parse([f"labels.{json.dumps(label)}=={json.dumps(value)}"])
    assert wanted(thing("x", **{label: value}))
    assert not wanted(thing("x", **{label: value + "!"}))
    assert not wanted(thing("x"))


@given(st.text())
def test_any_text_is_a_filter_or_a_mistake(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        parse([text])(THINGS["foo"])
