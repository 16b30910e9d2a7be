"""Several pulls at once, killed ones, and the doors around them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import registryfixture as fake
from registrycases import PLAIN, QUICK, Log, is_whole, mirrors, nothing_partial, pull, sample
from registryfixture import FaultyRegistry, Handler, Reply, image, random_bytes

import masu.registry
from masu.errors import (
    Unavailable,
)
from masu.registry.pulling import Pulled
from masu.store import NamespaceStore, Store, open_store

pytestmark = pytest.mark.usefixtures("own_home")

SRC = str(Path(__file__).parents[2] / "src")


# --- several at once, and killed ones


def test_two_pulls_at_once_fetch_each_blob_once(registry: FaultyRegistry, store: Store) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    both_asked = threading.Barrier(2)

    def manifest(handler: Handler, reply: Reply) -> None:
        both_asked.wait(20)
        handler.send(reply)

    registry.fault("/manifests/", manifest, times=2)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            pull(store.namespace("default"), f"{registry.host}/team/app:1")
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert is_whole(store.namespace("default"), one)
    for digest, data in one.blobs.items():
        assert registry.bytes_served(digest) == len(data)


PULLER = """
import sys
import masu.registry
from masu.store import open_store
masu.registry.pull(open_store(sys.argv[1]).namespace("default"), sys.argv[2])
"""


def start_puller(state: Path, ref: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PULLER, str(state), ref], env={**os.environ, "PYTHONPATH": SRC})


def test_killed_and_resumed(registry: FaultyRegistry, tmp_path: Path) -> None:
    one = image([{"big": random_bytes(24 << 20, 3)}])
    registry.add("team/app", "1", one)
    half = 12 << 20
    release = threading.Event()
    registry.fault(one.layers[0], fake.stall(release, after=half))
    ref = f"{registry.host}/team/app:1"
    process = start_puller(tmp_path / "state", ref)
    store = open_store(str(tmp_path / "state"))
    ns = store.namespace("default")
    try:
        # All that was sent has reached the disk.
        fake.wait_until(lambda: any(s.offset >= half for s in ns.content.statuses()))
    finally:
        process.kill()
        process.wait()
        release.set()
    assert registry.bytes_served(one.layers[0]) == half
    log = Log()
    pull(ns, ref, progress=log)
    assert is_whole(ns, one)
    assert registry.bytes_served(one.layers[0]) == len(one.blobs[one.layers[0]])
    assert (one.layers[0], f"Resuming at {half} bytes") in log.words
    assert nothing_partial_after_gc(store)


def nothing_partial_after_gc(store: Store) -> bool:
    store.gc()  # the killed process' lease ends with its holder
    return nothing_partial(store.namespace("default"))


def test_what_a_killed_pull_left_is_damaged(registry: FaultyRegistry, tmp_path: Path) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    ref = f"{registry.host}/team/app:1"
    ns = open_store(str(tmp_path / "state")).namespace("default")
    registry.fault(one.layers[0], fake.hang_up(1 << 20))
    registry.fault(one.layers[0], fake.status(503), times=1000)
    with pytest.raises(Unavailable):
        pull(ns, ref)
    (status,) = [s for s in ns.content.statuses() if s.expected == one.layers[0]]
    assert status.offset
    (data,) = [d for d in (tmp_path / "state/ingest").glob("*/data") if d.stat().st_size == status.offset]
    with open(data, "r+b") as file:
        file.seek(1000)
        file.write(b"torn by a power cut")
    with FaultyRegistry() as second:
        second.add("team/app", "1", one)
        log = Log()
        pull(ns, ref, rules=mirrors(second.url), progress=log)
        assert is_whole(ns, one)
        assert any("starting over" in text for _, text in log.words)
        assert log.reached[one.layers[0]] == len(one.blobs[one.layers[0]])


def test_ctrl_c_leaves_what_can_be_resumed(registry: FaultyRegistry, tmp_path: Path) -> None:
    one = image([{"big": random_bytes(8 << 20, 4)}])
    registry.add("team/app", "1", one)
    release = threading.Event()
    registry.fault(one.layers[0], fake.stall(release, after=4 << 20))
    process = start_puller(tmp_path / "state", f"{registry.host}/team/app:1")
    ns = open_store(str(tmp_path / "state")).namespace("default")
    try:
        fake.wait_until(lambda: any(s.offset >= 4 << 20 for s in ns.content.statuses()))
        process.send_signal(2)
        assert process.wait(30) != 0
    finally:
        process.kill()
        process.wait()
        release.set()
    assert ns.leases.list() == []
    assert [s.offset for s in ns.content.statuses() if s.offset] == [4 << 20]


def test_inside_a_running_event_loop(registry: FaultyRegistry, ns: NamespaceStore) -> None:

    registry.add("team/app", "1", sample())

    async def main() -> Pulled:
        return pull(ns, f"{registry.host}/team/app:1")

    assert asyncio.run(main()).name


def test_the_door_is_light() -> None:
    script = (
        "import sys, masu.registry; print([m for m in ('asyncio', 'aiohttp', 'ssl', 'typing') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-SIc", f"import sys; sys.path.insert(0, {SRC!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_resolving_brings_nothing_in(registry: FaultyRegistry) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    found = masu.registry.resolve(f"{registry.host}/team/app:1", rules=PLAIN, policy=QUICK)
    assert (found.digest, found.size, found.media_type) == (one.digest, len(one.manifest), one.media_type)


def test_tags_over_several_pages(registry: FaultyRegistry) -> None:
    pages = [(b'{"tags":["a","b"]}', '</v2/team/app/tags/more?last=b>; rel="next"'), (b'{"tags":["c"]}', "")]
    for path, (body, link) in zip(("list", "more"), pages, strict=True):
        headers = {"Content-Length": str(len(body))} | ({"Link": link} if link else {})
        registry.files[f"/v2/team/app/tags/{path}"] = Reply(200, headers, body)
    assert masu.registry.tags(f"{registry.host}/team/app", rules=PLAIN, policy=QUICK) == ["a", "b", "c"]
