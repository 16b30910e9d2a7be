"""Whatever comes in, only our errors come out, and what was read can be written and read again."""

from __future__ import annotations

import json
import random
import string
from typing import Any

from harness.fuzzing import SMALL, TEXT, attempt, mutate
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.test_spec_image import CONFIG as IMAGE_CONFIG
from unit.test_spec_image import SHA, entry_of_index, index, manifest
from unit.test_spec_runtime import full_config

from masu.spec import digest, image, jsontext, platform, reference, runtime
from masu.spec.platform import Platform

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


# --- jsontext


@settings(max_examples=200, deadline=None)
@given(JSON, st.sampled_from([None, 0, 2, "\t"]))
def test_json_round_trip(value: object, indent: int | str | None) -> None:
    text = jsontext.dumps(value, indent=indent)
    assert jsontext.loads(text) == value
    assert jsontext.loads(text.encode()) == value
    separators = (",", ":") if indent is None else (",", ": ")
    assert text == json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)


def _json_module(text: str) -> str:
    try:
        return json.dumps(json.loads(text, parse_constant=lambda word: 1 / 0))
    except (ValueError, ZeroDivisionError):
        return ""


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet='{}[]",:\\udc80123456789.eE+-truefalsn \n\x00é'))
def test_json_agrees_with_the_json_module(text: str) -> None:
    value, error = attempt(jsontext.loads, text)
    expected = _json_module(text)
    if error:
        assert not expected or "out of range" in error
    else:
        assert json.dumps(value) == expected or "\\u" in text


@settings(max_examples=200, deadline=None)
@given(st.binary() | TEXT)
def test_json_of_any_text(text: bytes | str) -> None:
    attempt(jsontext.loads, text)


# --- reference, platform, digest


@settings(max_examples=500, deadline=None)
@given(st.text(string.ascii_lowercase[:4] + "AZ09._-/:@[] \n" + "é", max_size=30) | TEXT)
@example("\n://")
def test_reference_of_any_text(text: str) -> None:
    ref, error = attempt(reference.parse, text)
    if error:
        return
    assert reference.parse(str(ref)) == ref
    # It becomes part of URLs and file names.
    assert not {"", ".", ".."} & set(ref.path.split("/"))
    assert str(ref).isascii()
    assert str(ref).isprintable()
    assert " " not in str(ref)


@settings(max_examples=300, deadline=None)
@given(st.text("linuxarm64/v7890.()+*\n ", max_size=24) | TEXT)
def test_platform_of_any_text(text: str) -> None:
    parsed, error = attempt(platform.parse, text)
    if not error:
        assert platform.matches(parsed, parsed)


@settings(max_examples=200, deadline=None)
@given(TEXT, TEXT, TEXT, st.sampled_from(["linux/arm64/v9.9", "linux/amd64/v4", "windows(1)/386"]))
def test_any_platform_in_an_index(system: str, architecture: str, variant: str, wanted: str) -> None:
    odd = Platform(system, architecture, variant)
    attempt(platform.choose, [entry_of_index(odd)], wanted)
    attempt(platform.choose, [entry_of_index(Platform("linux", "amd64"))], odd)


@settings(max_examples=100, deadline=None)
@given(TEXT | st.text("sha256:0af", max_size=80))
def test_digest_of_any_text(text: str) -> None:
    value, error = attempt(digest.check, text)
    assert error or value == text


# --- images


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([manifest(), index()]), st.randoms(use_true_random=False))
def test_any_image_document(document: dict[str, Any], rng: random.Random) -> None:
    text = json.dumps(mutate(document, rng))
    parsed, error = attempt(image.parse_document, text)
    if not error:
        assert image.parse_document(json.dumps(parsed.to_json())) == parsed


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_image_config(rng: random.Random) -> None:
    parsed, error = attempt(image.parse_image_config, json.dumps(mutate(IMAGE_CONFIG, rng)))
    if not error:
        assert image.parse_image_config(json.dumps(parsed.to_json())) == parsed
        assert image.chain_ids((SHA,))[0] == SHA


# --- runtime


@settings(max_examples=300, deadline=None)
@given(SMALL)
def test_config_of_any_json(data: object) -> None:
    attempt(runtime.parse_config, data)
    attempt(runtime.parse_process, data)
    attempt(runtime.parse_resources, data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_field_of_config_takes_any_json(data: st.DataObject) -> None:
    document = full_config()
    path = data.draw(st.sampled_from(PATHS))
    parent: Any = document
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = data.draw(SMALL)
    check_config(document)


@settings(max_examples=600, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_config(rng: random.Random) -> None:
    check_config(mutate(full_config(), rng))


def check_config(document: Any) -> None:
    warnings: list[str] = []
    config, error = attempt(runtime.parse_config, document, warnings)
    assert all(warning.isprintable() for warning in warnings)
    if error:
        return
    again: list[str] = []
    assert runtime.parse_config(config.to_json(), again) == config
    # Everything old, misspelt or unknown is gone from what is written.
    assert not [w for w in again if "old" in w or "unknown" in w or "taken as" in w]
    attempt(runtime.check_rootless, config)
    if attempt(runtime.require_linux, config)[1]:
        return
    for key in config.linux.sysctl:
        path = runtime.sysctl_path(key)
        assert not {"", ".", ".."} & set(path.split("/"))
    for mappings in (config.linux.uid_mappings, config.linux.gid_mappings):
        for mapping in mappings:
            assert mapping.container_id + mapping.size <= 0xFFFFFFFF
    if config.process is not None:
        assert 0 <= config.process.user.uid < 0xFFFFFFFF
        assert 0 <= config.process.user.gid < 0xFFFFFFFF


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += [(*prefix, key), *_paths(item, (*prefix, key))]
    return found


PATHS = _paths(full_config())
