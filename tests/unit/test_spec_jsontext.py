"""masu.spec.jsontext against the json module, Go's rules, and everything that is no JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from masu.errors import InvalidArgument, ResourceExhausted
from masu.spec import jsontext

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "line 1, column 1: unexpected end"),
    "blank": (" \n ", "line 2, column 2: unexpected end"),
    "trailing comma": ('{"a":1,}', "line 1, column 8: a comma too many before it, seen }"),
    "trailing comma in a list": ("[1, 2,\n]", "line 2, column 1: a comma too many before it, seen ]"),
    "only a comma": ("{,}", "line 1, column 2: "),
    "second line": ('{\n  "a": tru\n}', "line 2, column 8: a value is wanted, seen tru"),
    "open list": ("[1,2", "line 1, column 5: "),
    "no colon": ('{"a" 1}', "line 1, column 6: "),
    "open string": ('["a', "line 1, column 2: unterminated string, seen "),
    "line break in a string": ('["a\nb"]', "line 1, column 4: "),
    "bad escape": (r'["\x41"]', "line 1, column 3: "),
    "single quotes": ("{'a': 1}", "line 1, column 2: "),
    "bare word": ("yes", "line 1, column 1: a value is wanted, seen yes"),
    "two values": ("{} {}", "line 1, column 4: only white space may follow the value, seen {}"),
    "leading zero": ("01", "line 1, column 2: "),
    "NaN": ("[NaN]", "NaN is not a JSON value"),
    "Infinity": ("Infinity", "Infinity is not a JSON value"),
    "minus Infinity": ('{"a":-Infinity}', "-Infinity is not a JSON value"),
    "number out of range": ("1e999", "number 1e999 out of range"),
    "number too long": ("1" * 5000, "number too long"),
    "too deep": ("[" * 129 + "]" * 129, "nested deeper than 128 levels"),
    "much too deep": ("[" * 200_000, "nested deeper than 128 levels"),
    "deep objects": ('{"a":' * 200 + "1" + "}" * 200, "nested deeper than 128 levels"),
    "byte order mark": ("\ufeff{}", "line 1, column 1: the text begins with a byte order mark"),
    "Latin-1": (b'{\n"a": "\xe9"}', "line 2, column 7: byte 0xe9 is not UTF-8"),
    "encoded surrogate": (b'"\xed\xa0\x80"', "line 1, column 2: byte 0xed is not UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(InvalidArgument) as caught:
        jsontext.loads(text, name="config.json")
    assert caught.value.detail.startswith(message)
    assert caught.value.where == "config.json"


def test_refused_without_the_json_module_loaded() -> None:
    # CPython 3.11's scanner cannot say what is wrong until json.decoder is imported.
    code = (
        "from masu.spec import jsontext\ntry: jsontext.loads('[1,')\nexcept Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run(
        [sys.executable, "-SIE", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "InvalidArgument JSON: invalid: line 1, column 4: unexpected end\n"


def test_size_is_bounded() -> None:
    assert jsontext.loads("[1]", max_bytes=3) == [1]
    with pytest.raises(ResourceExhausted):
        jsontext.loads("[11]", max_bytes=3)


def test_depth_counts_nesting_not_brackets() -> None:
    assert jsontext.loads("[" * 128 + "]" * 128) is not None
    assert jsontext.loads('["' + "[" * 1000 + '"]') == ["[" * 1000]
    assert jsontext.loads(json.dumps([[]] * 1000)) == [[]] * 1000


def test_last_of_two_names_wins() -> None:
    assert jsontext.loads('{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud800"', "\ufffd"),
        (r'{"\udfff": ["\ud83d\ude00", "\ude00\ud83d"]}', {"\ufffd": ["😀", "\ufffd\ufffd"]}),
        ('"\udc80"', "\ufffd"),
        (r'"\\ud800"', r"\ud800"),
    ],
)
def test_lone_surrogates_become_replacement_characters(text: str, value: object) -> None:
    assert jsontext.loads(text) == value


def test_numbers_keep_their_kind() -> None:
    assert (
        repr(jsontext.loads("[1, 1.0, -0, 18446744073709551615, 1e3]")) == "[1, 1.0, 0, 18446744073709551615, 1000.0]"
    )


def test_dumps_like_go() -> None:
    value = {"b": [1, True, None, {"x": "é<&>\n"}], "a": {}, "c": [], "d": 1.5}
    assert jsontext.dumps(value) == '{"b":[1,true,null,{"x":"é<&>\\n"}],"a":{},"c":[],"d":1.5}'
    assert jsontext.dumps(value, indent="\t") == (
        '{\n\t"b": [\n\t\t1,\n\t\ttrue,\n\t\tnull,\n\t\t{\n\t\t\t"x": "é<&>\\n"\n\t\t}\n\t],\n'
        '\t"a": {},\n\t"c": [],\n\t"d": 1.5\n}'
    )
    assert jsontext.dumps({"a": [1]}, indent=2) == '{\n  "a": [\n    1\n  ]\n}'
    assert jsontext.dumps((1, "a")) == '[1,"a"]'


@pytest.mark.parametrize("value", [math.nan, math.inf, "\udc80", {"\ud800": 1}, ["/tmp/\udcff"]])
@pytest.mark.parametrize("indent", [None, 2])
def test_dumps_refuses_what_json_cannot_say(value: object, indent: int | None) -> None:
    with pytest.raises(InvalidArgument):
        jsontext.dumps(value, indent=indent)


@pytest.mark.parametrize("value", [b"x", {1, 2}, object()])
@pytest.mark.parametrize("indent", [None, 2])
def test_dumps_of_other_types_is_a_mistake_of_the_caller(value: object, indent: int | None) -> None:
    with pytest.raises(TypeError):
        jsontext.dumps(value, indent=indent)


def test_dumps_depth() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    for indent in (None, 2):
        with pytest.raises(InvalidArgument):
            jsontext.dumps(value, indent=indent)
    while value:
        value = value[0]  # type: ignore[assignment]  # freed from the outside: no recursion in dealloc
