"""Blobs: nothing is there that was not verified, and nothing verified is lost."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from masu.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from masu.store import NamespaceStore, Store
from masu.store.ingest import Writer, lock_ingest
from masu.store.trees import fsync_folder


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def put(ns: NamespaceStore, data: bytes, **labels: str) -> str:
    with ns.content.writer(digest_of(data), labels=labels) as writer:
        writer.write(data)
        return writer.commit()


def read(ns: NamespaceStore, digest: str) -> bytes:
    fd = ns.content.open(digest)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def ingests(store: Store) -> list[str]:
    return os.listdir(f"{store.root}/ingest")


def test_write_commit_read(store: Store, ns: NamespaceStore) -> None:
    with ns.content.writer("layer", total=10, expected=digest_of(b"helloworld"), labels={"a": "1"}) as writer:
        assert writer.offset == 0
        assert writer.write(b"hello") == 5
        writer.write(memoryview(b"world"))
        assert writer.offset == 10
        assert writer.commit(10, digest_of(b"helloworld"), {"b": "2"}) == digest_of(b"helloworld")
    info = ns.content.info(digest_of(b"helloworld"))
    assert (info.size, info.labels) == (10, {"a": "1", "b": "2"})
    assert read(ns, info.digest) == ns.content.read(info.digest, 100) == b"helloworld"
    assert ingests(store) == []
    blob = Path(store.root, "blobs/sha256", info.digest[7:])
    assert blob.stat().st_mode & 0o777 == 0o400
    with pytest.raises(FailedPrecondition):
        writer.write(b"more")
    with pytest.raises(FailedPrecondition):
        writer.commit()


def test_empty_blob(ns: NamespaceStore) -> None:
    assert ns.content.read(put(ns, b""), 0) == b""


def test_what_is_not_there(ns: NamespaceStore) -> None:
    digest = digest_of(b"no")
    calls: list[Callable[[], object]] = [
        lambda: ns.content.info(digest),
        lambda: ns.content.open(digest),
        lambda: ns.content.read(digest, 1),
        lambda: ns.content.update(digest, {}),
        lambda: ns.content.delete(digest),
        lambda: ns.content.abort("ref"),
        lambda: ns.content.status("ref"),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:../../../etc/passwd",
        "md5:" + "a" * 32,
    ],
)
def test_bad_digests(ns: NamespaceStore, digest: str) -> None:
    with pytest.raises(InvalidArgument):
        ns.content.open(digest)
    with pytest.raises(InvalidArgument):
        ns.content.writer("ref", expected=digest)


def test_wrong_digest_or_size_is_data_loss_and_can_be_started_over(store: Store, ns: NamespaceStore) -> None:
    good = digest_of(b"good")
    with ns.content.writer("ref", expected=good) as writer:
        writer.write(b"evil")
        with pytest.raises(DataLoss, match=digest_of(b"evil")):
            writer.commit()
        with pytest.raises(DataLoss, match="not 5"):
            writer.commit(5)
        with pytest.raises(NotFound):
            ns.content.info(good)
        writer.truncate(0)
        assert writer.offset == 0
        writer.write(b"good")
        writer.commit(4, good)
    assert read(ns, good) == b"good"


def test_more_than_promised_is_refused_before_it_is_written(ns: NamespaceStore) -> None:
    with ns.content.writer("ref", total=4) as writer:
        writer.write(b"123")
        with pytest.raises(DataLoss, match="more than 4"):
            writer.write(b"45")
        assert writer.offset == 3


def test_resume_where_it_was_left(ns: NamespaceStore) -> None:
    data = os.urandom(3_000_000)
    with ns.content.writer("ref", total=len(data), expected=digest_of(data)) as writer:
        writer.write(data[:2_000_001])
    assert [(s.ref, s.offset, s.total, s.active) for s in ns.content.statuses()] == [
        ("ref", 2_000_001, len(data), False)
    ]
    with ns.content.writer("ref", total=len(data), expected=digest_of(data)) as writer:
        assert writer.offset == 2_000_001
        assert ns.content.status("ref").active
        writer.write(data[writer.offset :])
        writer.commit()
    assert ns.content.statuses() == []
    assert ns.content.read(digest_of(data), len(data)) == data


def test_resume_after_kill_9(store: Store, ns: NamespaceStore) -> None:
    data = os.urandom(500_000)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        writer = ns.content.writer("ref", expected=digest_of(data))
        writer.write(data[:123_456])
        os.write(write_end, b"+")
        signal.pause()
    os.close(write_end)
    assert os.read(read_end, 1) == b"+"
    os.close(read_end)
    with pytest.raises(Unavailable):
        ns.content.writer("ref", expected=digest_of(data))
    with pytest.raises(Unavailable):
        ns.content.abort("ref")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with ns.content.writer("ref", expected=digest_of(data)) as writer:
        assert writer.offset == 123_456
        writer.write(data[123_456:])
        writer.commit()
    assert read(ns, digest_of(data))


def test_torn_bytes_are_found_at_commit(store: Store, ns: NamespaceStore) -> None:
    """What a power cut leaves of an unsynced file: the right size, other bytes."""
    with ns.content.writer("ref", expected=digest_of(b"hello")) as writer:
        writer.write(b"hel")
    data = Path(store.root, "ingest", ingests(store)[0], "data")
    data.write_bytes(b"\0\0\0")
    with ns.content.writer("ref", expected=digest_of(b"hello")) as writer:
        assert writer.offset == 3
        writer.write(b"lo")
        with pytest.raises(DataLoss):
            writer.commit()
        writer.truncate(0)
        writer.write(b"hello")
        writer.commit()


def test_a_ref_used_for_something_else_starts_over(ns: NamespaceStore) -> None:
    with ns.content.writer("ref", expected=digest_of(b"one")) as writer:
        writer.write(b"on")
    with ns.content.writer("ref", expected=digest_of(b"two")) as writer:
        assert writer.offset == 0
        writer.write(b"two")
        writer.commit()


def test_a_leftover_longer_than_the_blob_starts_over(ns: NamespaceStore) -> None:
    with ns.content.writer("ref") as writer:
        writer.write(b"too long")
    with ns.content.writer("ref", total=3) as writer:
        assert writer.offset == 0


def test_two_writers_of_one_ref(ns: NamespaceStore) -> None:
    with ns.content.writer("ref") as writer:
        with pytest.raises(Unavailable):
            ns.content.writer("ref")
        ns.content.writer("other").close()
        writer.write(b"x")
    ns.content.writer("ref").close()


def test_two_refs_of_one_blob_the_second_learns_it(store: Store, ns: NamespaceStore) -> None:
    one, two = ns.content.writer("one"), ns.content.writer("two")
    one.write(b"same")
    two.write(b"same")
    one.commit()
    with pytest.raises(AlreadyExists):
        two.commit()
    assert ingests(store) == []
    with pytest.raises(AlreadyExists):
        ns.content.writer("three", expected=digest_of(b"same"))


def test_the_next_writer_is_not_robbed(store: Store, ns: NamespaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a commit's rename and the removal of its folder another one opens the same ref."""
    second: list[Writer] = []

    def and_then(path: str) -> None:
        fsync_folder(path)
        if not second:
            second.append(ns.content.writer("ref"))
            second[0].write(b"mine")

    monkeypatch.setattr("masu.store.content.fsync_folder", and_then)
    with ns.content.writer("ref") as first:
        first.write(b"first")
        first.commit()
    assert second[0].commit() == digest_of(b"mine")
    assert read(ns, digest_of(b"mine")) == b"mine"
    assert read(ns, digest_of(b"first")) == b"first"
    assert ingests(store) == []


def test_who_waited_for_the_lock_learns_that_it_is_there(ns: NamespaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def after_somebody_else(folder: str, ref: str) -> int:
        monkeypatch.undo()
        put(ns, b"same")
        return lock_ingest(folder, ref)

    monkeypatch.setattr("masu.store.content.lock_ingest", after_somebody_else)
    with pytest.raises(AlreadyExists):
        ns.content.writer("ref", expected=digest_of(b"same"))
    assert ns.content.statuses() == []


def test_abort(store: Store, ns: NamespaceStore) -> None:
    with ns.content.writer("ref") as writer:
        writer.write(b"x")
    ns.content.abort("ref")
    assert ingests(store) == []
    assert ns.content.statuses() == []


def test_namespaces_share_files_and_nothing_else(store: Store, ns: NamespaceStore) -> None:
    other = store.namespace("other")
    digest = put(ns, b"shared", a="1")
    with pytest.raises(NotFound):
        other.content.info(digest)
    with pytest.raises(AlreadyExists):
        other.content.writer("ref", expected=digest, labels={"b": "2"})
    assert other.content.info(digest).labels == {"b": "2"}
    assert ns.content.info(digest).labels == {"a": "1"}
    ns.content.delete(digest)
    assert read(other, digest) == b"shared"
    other.content.delete(digest)
    assert os.listdir(f"{store.root}/blobs/sha256") == []


def test_an_open_blob_stays_readable_after_delete(ns: NamespaceStore) -> None:
    digest = put(ns, b"data")
    fd = ns.content.open(digest)
    ns.content.delete(digest)
    assert os.read(fd, 10) == b"data"
    os.close(fd)


def test_labels(ns: NamespaceStore) -> None:
    digest = put(ns, b"x", a="1", b="2")
    assert ns.content.update(digest, {"a": None, "b": "", "c": "3"}).labels == {"c": "3"}
    with pytest.raises(InvalidArgument):
        ns.content.update(digest, {"k": "v" * 5000})
    with pytest.raises(InvalidArgument):
        ns.content.update(digest, {"new\nline": "v"})


def test_walk(ns: NamespaceStore) -> None:
    digests = sorted(put(ns, b"%d" % i) for i in range(601))
    assert [info.digest for info in ns.content.walk()] == digests


def test_read_is_bounded_and_checked(store: Store, ns: NamespaceStore) -> None:
    digest = put(ns, b"12345")
    with pytest.raises(InvalidArgument):
        ns.content.read(digest, 4)
    blob = Path(store.root, "blobs/sha256", digest[7:])
    blob.chmod(0o600)
    blob.write_bytes(b"12344")
    with pytest.raises(DataLoss):
        ns.content.read(digest, 5)
    blob.write_bytes(b"1234")
    with pytest.raises(DataLoss):
        ns.content.open(digest)
    blob.unlink()
    with pytest.raises(DataLoss):
        ns.content.open(digest)


def test_a_lost_file_can_be_brought_again(store: Store, ns: NamespaceStore) -> None:
    digest = put(ns, b"again")
    Path(store.root, "blobs/sha256", digest[7:]).unlink()
    with ns.content.writer("ref", expected=digest) as writer:
        writer.write(b"again")
        writer.commit()
    assert read(ns, digest) == b"again"


def test_the_lease_holds_write_and_blob(store: Store, ns: NamespaceStore) -> None:
    lease = ns.leases.create()
    with ns.content.writer("ref", lease=lease.id) as writer:
        writer.write(b"held")
        assert [(r.type, r.id) for r in ns.leases.resources(lease.id)] == [("ingests", "ref")]
        digest = writer.commit()
    assert [(r.type, r.id) for r in ns.leases.resources(lease.id)] == [("content", digest)]
    second = ns.leases.create()
    with pytest.raises(AlreadyExists):
        ns.content.writer("ref", expected=digest, lease=second.id)
    assert [(r.type, r.id) for r in ns.leases.resources(second.id)] == [("content", digest)]
    with pytest.raises(NotFound):
        ns.content.writer("ref", lease="nobody")


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_killed_inside_commit(store: Store, ns: NamespaceStore, call: str) -> None:
    """At each step of the commit in turn: afterwards the blob is either there, whole, or can be written again."""
    data = os.urandom(1000)
    for step in range(1, 5):
        pid = os.fork()
        if pid == 0:
            real, seen = getattr(os, call), 0

            def dying(*args: object, real: Callable[..., object] = real, step: int = step, **kwargs: object) -> object:
                nonlocal seen
                seen += 1
                result = real(*args, **kwargs)
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            setattr(os, call, dying)
            try:
                with ns.content.writer("ref", expected=digest_of(data)) as writer:
                    writer.write(data[writer.offset :])
                    writer.commit()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        store.gc()
        for info in ns.content.walk():
            assert read(ns, info.digest) == data
        try:
            writer = ns.content.writer("ref", expected=digest_of(data))
        except AlreadyExists:
            pass
        else:
            writer.write(data[writer.offset :])
            writer.commit()
        assert read(ns, digest_of(data)) == data
        ns.content.delete(digest_of(data))
        assert os.listdir(f"{store.root}/blobs/sha256") == []
        for status in ns.content.statuses():
            ns.content.abort(status.ref)
        assert ingests(store) == []
