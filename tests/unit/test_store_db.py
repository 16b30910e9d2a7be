"""meta.db: transactions, threads, processes, migrations, what its errors become."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from masu.errors import DataLoss, FailedPrecondition, PermissionDenied, Unavailable
from masu.store import Store, open_store
from masu.store import db as database
from masu.store.db import MIGRATIONS, Database


def count(store: Store) -> int:
    return len(store.events.since(0))


def test_the_state_directory_is_ours_alone(tmp_path: Path) -> None:
    root = tmp_path / "state"
    root.mkdir(0o777)
    root.chmod(0o777)
    open_store(str(root)).namespace().events.publish("/x", {})
    assert root.stat().st_mode & 0o777 == 0o700
    for folder in ("blobs", "blobs/sha256", "ingest", "snapshots"):
        assert (root / folder).stat().st_mode & 0o777 == 0o700
    with sqlite3.connect(root / "meta.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert other.execute("PRAGMA application_id").fetchone() == (0x6D617375,)
    other.close()


def test_a_block_that_raises_is_rolled_back(store: Store) -> None:
    events = store.namespace().events

    def fail() -> None:
        with store.db.write():
            events.publish("/lost", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    events.publish("/kept", {})
    assert [e.topic for e in store.events.since(0)] == ["/kept"]


def test_an_inner_block_is_undone_alone(store: Store) -> None:
    events = store.namespace().events
    said: list[str] = []

    def fail() -> None:
        with store.db.write() as inner:
            events.publish("/inner", {})
            inner.after_commit(lambda: said.append("inner committed"))
            inner.on_rollback(lambda: said.append("inner undone"))
            raise ZeroDivisionError

    with store.db.write() as outer:
        events.publish("/outer", {})
        outer.after_commit(lambda: said.append("outer committed"))
        with pytest.raises(ZeroDivisionError):
            fail()
        assert said == ["inner undone"]
        with store.db.write() as inner:
            inner.on_rollback(lambda: said.append("never"))
            events.publish("/second", {})
    assert [e.topic for e in store.events.since(0)] == ["/outer", "/second"]
    assert said == ["inner undone", "outer committed"]


def test_an_outer_block_undoes_what_an_inner_one_did(store: Store) -> None:
    said: list[str] = []

    def fail() -> None:
        with store.db.write():
            with store.db.write() as inner:
                inner.on_rollback(lambda: said.append("inner"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert said == ["inner"]


def test_an_inner_block_of_one_statement(store: Store) -> None:
    """It needs no savepoint: a statement that fails has done nothing, and the outer block goes on."""
    said: list[str] = []
    insert = "INSERT INTO leases(ns, id, labels, created_at) VALUES('n', ?, '', '')"

    def fail() -> None:
        with store.db.write(single=True) as inner:
            inner.on_rollback(lambda: said.append("undone"))
            inner.execute(insert, ("a",))

    with store.db.write() as outer:
        outer.execute(insert, ("a",))
        outer.after_commit(done := lambda: said.append("committed"))
        with pytest.raises(sqlite3.IntegrityError):
            fail()
        with store.db.write(single=True) as inner:
            inner.after_commit(done)  # asked for again, done once
            inner.execute(insert, ("b",))
    assert store.db.rows("SELECT id FROM leases") == [("a",), ("b",)]
    assert said == ["undone", "committed"]


def test_a_commit_that_need_not_last(store: Store) -> None:
    events = store.namespace().events
    with store.namespace().transaction(durable=False) as outer:
        events.publish("/a", {})
        with store.db.write() as inner:
            assert inner.durable is outer.durable is False
    assert store.db.row("PRAGMA synchronous") == (1,)
    with store.db.write() as tx:
        assert tx.durable
        events.publish("/b", {})
    assert store.db.row("PRAGMA synchronous") == (2,)
    assert count(store) == 2


def test_another_thread_sees_only_what_is_committed(store: Store) -> None:
    events = store.namespace().events
    seen: list[int] = []
    with store.db.write():
        events.publish("/a", {})
        assert count(store) == 1
        thread = threading.Thread(target=lambda: seen.append(count(store)))
        thread.start()
        thread.join()
    assert seen == [0]
    assert count(store) == 1


def test_many_threads(store: Store) -> None:
    events = store.namespace().events
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(25):
                events.publish("/thread", {})
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    found = store.events.since(0)
    assert [e.seq for e in found] == list(range(1, 201))


def publish_many(root: str, name: str) -> None:
    # First use in each process: making and migrating the database at once is part of the test.
    events = open_store(root).namespace(name).events
    for _ in range(25):
        events.publish("/process", {"name": name})


def test_many_processes_from_the_first_moment(tmp_path: Path) -> None:
    root = str(tmp_path / "state")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=publish_many, args=(root, f"p{i}")) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0] * 4
    assert count(open_store(root)) == 100


def test_a_forked_child_opens_its_own_connection(store: Store) -> None:
    events = store.namespace().events
    events.publish("/parent", {})
    with store.db.write():
        # The parent's transaction, which the child must neither see nor end.
        events.publish("/open", {})
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if count(store) == 1 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert count(store) == 2


def test_killed_inside_a_transaction_nothing_remains(store: Store) -> None:
    store.namespace().events.publish("/before", {})
    pid = os.fork()
    if pid == 0:
        with store.db.write():
            store.namespace().events.publish("/never", {})
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert [e.topic for e in store.events.since(0)] == ["/before"]


def test_waits_for_the_writer_before_and_says_when_it_takes_too_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            store.namespace().events.publish("/late", {})
        except BaseException as e:
            errors.append(e)

    with store.db.write():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert isinstance(errors[0], Unavailable)


def test_a_newer_database_is_refused(store: Store) -> None:
    store.namespace().events.publish("/x", {})
    store.close()
    with sqlite3.connect(f"{store.root}/meta.db") as other:
        other.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    other.close()
    with pytest.raises(FailedPrecondition, match="newer masu") as caught:
        open_store(store.root).namespace().images.list()
    assert "upgrade masu" in str(caught.value)


def test_an_older_database_is_brought_forward(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.namespace().events.publish("/x", {})
    later = (*MIGRATIONS, "CREATE TABLE one(a); CREATE TABLE two(a)", "CREATE TABLE three(a)")
    monkeypatch.setattr(database, "MIGRATIONS", later)
    again = Database(f"{store.root}/meta.db")
    assert again.row("SELECT count(*) FROM one, two, three") == (0,)
    assert again.row("PRAGMA user_version") == (len(later),)
    assert count(store) == 1
    again.close()


def test_a_migration_that_fails_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.namespace().events.publish("/x", {})
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE one(a); DROP TABLE nothing"))
    with pytest.raises(sqlite3.OperationalError):
        Database(f"{store.root}/meta.db").rows("SELECT 1")
    monkeypatch.undo()
    again = Database(f"{store.root}/meta.db")
    assert again.row("SELECT count(*) FROM sqlite_master WHERE name='one'") == (0,)
    again.close()


def test_what_is_no_database_is_data_loss(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "state"))
    Path(store.root, "meta.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(DataLoss):
        store.namespace().images.list()


def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below"):
        with pytest.raises(FailedPrecondition):
            open_store(str(tmp_path / path))


@pytest.mark.root
def test_somebody_elses_state_directory(store: Store) -> None:
    """As another user: one clear error that names the directory."""
    store.namespace().events.publish("/x", {})
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                open_store(store.root).namespace().images.list()
            except PermissionDenied as e:
                os.write(write, str(e).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    assert store.root in said
    assert "--root" in said
