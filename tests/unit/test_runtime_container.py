"""A container's directory: ids, state files that are torn or of another version, what a killed create leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from masu.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound
from masu.linux import procfs
from masu.runtime import container, lifecycle
from masu.runtime.container import Container, Facts

DEAD = (1, 1)  # the start time of PID 1 is another


def facts(id: str = "box", **more: Any) -> Facts:
    given: dict[str, Any] = {
        "bundle": "/bundle", "rootfs": "/bundle/rootfs", "created": "2026-01-02T03:04:05.000000006Z",
        "oci_version": "1.3.0", "annotations": {"a": "b"}, "owner_uid": 0,
        "creator": (os.getpid(), procfs.start_time(os.getpid())),
    }  # fmt: skip
    return Facts(id=id, **(given | more))


@pytest.mark.parametrize("id", ["a", "A-1_2+3.4", "...", "a" * 1024])
def test_ids(id: str) -> None:
    container.check_id(id)


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a b", "ä", "a\n", "a\0", "a" * 1025, "/"])
def test_ids_that_cannot_be(id: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid container ID format"):
        container.check_id(id)


def test_facts_come_back(tmp_path: Path) -> None:
    made = Container.make(str(tmp_path), facts(cgroup_paths={"pids": "/sys/fs/cgroup/pids/box"}, wait_index=7))
    found = Container.open(str(tmp_path), "box")
    assert found.facts.to_json() == made.facts.to_json()
    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "box/state.json").stat().st_mode & 0o777 == 0o600


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    Container.make(str(tmp_path), facts())
    with pytest.raises(AlreadyExists, match="container with given ID already exists"):
        Container.make(str(tmp_path), facts())


def test_what_a_killed_create_leaves_is_taken_over(tmp_path: Path) -> None:
    Container.make(str(tmp_path), facts(creator=DEAD))
    assert Container.open(str(tmp_path), "box").status() == lifecycle.STOPPED
    Container.make(str(tmp_path), facts())
    assert Container.open(str(tmp_path), "box").status() == lifecycle.CREATING


def test_an_empty_directory_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    Container.make(str(tmp_path), facts())


def test_a_container_whose_process_is_gone_is_not_taken_over(tmp_path: Path) -> None:
    Container.make(str(tmp_path), facts(creator=DEAD, pid=1, start_time=1))
    assert Container.open(str(tmp_path), "box").status() == lifecycle.STOPPED
    with pytest.raises(AlreadyExists):
        Container.make(str(tmp_path), facts())


def finishing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """One as it was read while it was being made; that has come to its end when somebody looks for who makes it."""
    read = Container.make(str(folder), facts())

    def is_alive(*_: object) -> bool:
        made = Container.open(str(folder), "box")
        made.facts.pid, made.facts.start_time = os.getpid(), procfs.start_time(os.getpid())
        made.save()
        monkeypatch.undo()
        return False

    monkeypatch.setattr(procfs, "is_alive", is_alive)
    return read


def test_a_container_that_has_just_been_made_is_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finishing(tmp_path, monkeypatch).status() == lifecycle.RUNNING


def test_a_container_that_has_just_been_made_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finishing(tmp_path, monkeypatch)
    with pytest.raises(AlreadyExists):
        Container.make(str(tmp_path), facts())
    assert Container.open(str(tmp_path), "box").facts.pid == os.getpid()


def state_file(folder: Path, change: Any) -> None:
    """Writes box/state.json: `change` is text, or keys to set."""
    made = Container.make(str(folder), facts())
    data = change if isinstance(change, str) else json.dumps(made.facts.to_json() | change)
    (folder / "box/state.json").write_text(data)


@pytest.mark.parametrize(
    "change", ["[]", "null", '{"version": 1}', {"version": 2}, {"creator": [1]}, {"creator": None}]
)
def test_state_files_that_cannot_be_read(tmp_path: Path, change: Any) -> None:
    state_file(tmp_path, change)
    with pytest.raises(DataLoss, match=r"state\.json"):
        Container.open(str(tmp_path), "box")
    assert container.listing(str(tmp_path)) == []


@pytest.mark.parametrize("text", ["", "{", '{"version": 1', "\x00" * 100])
def test_torn_state_files(tmp_path: Path, text: str) -> None:
    state_file(tmp_path, text)
    with pytest.raises((DataLoss, InvalidArgument), match=r"state\.json"):
        Container.open(str(tmp_path), "box")
    assert container.listing(str(tmp_path)) == []


def test_a_newer_version_says_so(tmp_path: Path) -> None:
    state_file(tmp_path, {"version": 99})
    with pytest.raises(DataLoss, match=f"version 99, this .* knows {container.STATE_VERSION}"):
        Container.open(str(tmp_path), "box")


def test_not_there(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotFound, match="container does not exist"):
            Container.open(str(root), "box")
        assert container.listing(str(root)) == []


def test_the_state_of_a_stopped_container_has_no_pid(tmp_path: Path) -> None:
    made = Container.make(str(tmp_path), facts(creator=DEAD, pid=1, start_time=1))
    state = made.state()
    assert (state["status"], state["annotations"]) == ("stopped", {"a": "b"})
    assert "pid" not in state


def test_removal_can_be_repeated(tmp_path: Path) -> None:
    made = Container.make(str(tmp_path), facts())
    made.remove_directory()
    made.remove_directory()
    assert list(tmp_path.iterdir()) == []


def test_removal_follows_nothing_that_the_container_made(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    made = Container.make(str(tmp_path / "root"), facts())
    inner = Path(made.directory) / "notify/a/b"
    inner.mkdir(parents=True)
    (inner / "link").symlink_to(kept)
    (inner.parent / "file").touch()
    made.remove_directory()
    assert not Path(made.directory).exists()
    assert (kept / "file").exists()
