"""masud's configuration: containerd's keys, versions, imports, mistakes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.daemon import config, toml
from masu.errors import InvalidArgument, NotFound


def written(folder: Path, text: str, name: str = "config.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_what_is_printed_is_read_again(tmp_path: Path) -> None:
    found = config.of({}, "")
    again = config.load(written(tmp_path, toml.dumps(found.table)))
    assert again.table == found.table
    assert (again.notes, again.warnings) == ([], [])


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
TABLES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(TEXTS, st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), TEXTS), max_size=4),
    lambda inner: st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(TABLES)
def test_toml_of_any_table(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml.dumps(table)) == table


def test_keys_are_containerds(tmp_path: Path) -> None:
    text = """
    version = 2
    root = "/a"
    state = "/b"
    [grpc]
    address = "/c/containerd.sock"
    gid = 7
    [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/certs.d:/etc/other"
    [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause"
    """
    found = config.load(written(tmp_path, text))
    assert (found.root, found.state, found.address) == ("/a", "/b", "/c/containerd.sock")
    assert found.number("grpc", "gid") == 7
    assert found.hosts_dirs == ["/etc/certs.d", "/etc/other"]
    assert found.warnings == []
    assert [note.rpartition(": ")[0].rpartition(": ")[2] for note in found.notes] == [
        "plugins.io.containerd.cri.v1.runtime"
    ]


def test_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, 'version = 3\n[grpc]\nadress = "x"\n[plugins."io.containerd.gc.v1.schedular"]\nx = 1\n')
    assert config.load(path).warnings == [
        f'{path}: grpc.adress: unknown (did you mean "address"?)',
        f'{path}: plugins.io.containerd.gc.v1.schedular: unknown (did you mean "io.containerd.gc.v1.scheduler"?)',
    ]


def test_imports_are_joined(tmp_path: Path) -> None:
    main = written(
        tmp_path, 'version = 3\nimports = ["more/*.toml"]\ndisabled_plugins = ["a.b"]\n[debug]\nlevel = "warn"\n'
    )
    (tmp_path / "more").mkdir()
    written(tmp_path / "more", 'version = 2\ndisabled_plugins = ["c.d"]\n[debug]\nformat = "json"\n', "1.toml")
    written(tmp_path / "more", 'imports = ["../config.toml"]\nversion = 3\n[debug]\nlevel = "debug"\n', "2.toml")
    found = config.load(main)
    assert found.texts("disabled_plugins") == ["a.b", "c.d"]
    assert (found.text("debug", "level"), found.text("debug", "format")) == ("debug", "json")
    assert found.texts("imports") == [str(tmp_path / "more/1.toml"), str(tmp_path / "more/2.toml")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 1\n", "begin the file with version = 3"),
        ("root = 'x'\n", "version"),
        ("version = 9\n", "2 and 3 are known"),
        ("version = 3\n[grpc]\nuid = 'root'\n", "grpc.uid: value root: invalid: a whole number is expected"),
        ("version = 3\ngrpc = 1\n", "grpc: table: invalid"),
        ("version = \n", "Invalid value"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        config.load(written(tmp_path, text))
    assert said in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        config.load(str(tmp_path / "nothing.toml"))
    with pytest.raises(NotFound, match=r"nothing\.toml"):
        config.load(written(tmp_path, 'version = 3\nimports = ["nothing.toml"]\n'))


def test_a_socket_for_a_group_lies_outside_the_state_directory(tmp_path: Path) -> None:
    text = 'version = 3\nstate = "/run/masu"\n[grpc]\ngid = 5\n'
    assert config.load(written(tmp_path, text)).address == "/run/masud/containerd.sock"
