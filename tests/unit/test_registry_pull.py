"""Pulling from registries that behave, and from ones that do not."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import registryfixture as fake
from registrycases import QUICK, Log, is_whole, mirrors, nothing_partial, pull, sample
from registryfixture import FaultyRegistry, Handler, Reply, image, index, random_bytes

from masu.errors import (
    Canceled,
    DataLoss,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from masu.registry import graph
from masu.registry.transport import Policy
from masu.store import NamespaceStore, Store

pytestmark = pytest.mark.usefixtures("own_home")


def test_an_image(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    log = Log()
    pulled = pull(ns, f"{registry.host}/team/app:1", progress=log)
    assert pulled.name == f"{registry.host}/team/app:1"
    assert pulled.target.digest == pulled.descriptor.digest == one.digest
    assert ns.images.get(pulled.name).target.digest == one.digest
    assert is_whole(ns, one)
    assert pulled.config.architecture == "amd64"
    assert log.totals == log.reached == {digest: len(one.blobs[digest]) for digest in one.layers}
    assert nothing_partial(ns)


def test_a_second_pull_asks_for_the_manifest_only(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    first = pull(ns, f"{registry.host}/team/app:1")
    registry.requests.clear()
    assert pull(ns, f"{registry.host}/team/app:1").target == first.target
    assert [seen.method for seen in registry.requests if "/manifests/" in seen.path] == ["HEAD"]
    assert registry.count("/blobs/") == 0
    # By digest there is nothing to ask at all.
    registry.requests.clear()
    pull(ns, f"{registry.host}/team/app@{first.target.digest}")
    assert registry.requests == []


def test_a_tag_that_moved(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    pull(ns, f"{registry.host}/team/app:1")
    ns.images.update(_labelled(ns, f"{registry.host}/team/app:1"))
    newer = image([{"new": b"1"}])
    registry.add("team/app", "1", newer)
    pull(ns, f"{registry.host}/team/app:1")
    record = ns.images.get(f"{registry.host}/team/app:1")
    assert record.target.digest == newer.digest
    assert record.labels == {"mine": "kept"}


def _labelled(ns: NamespaceStore, name: str) -> Any:
    record = ns.images.get(name)
    record.labels["mine"] = "kept"
    return record


def test_an_index_and_its_platforms(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    arm = image([{"a": b"arm"}], architecture="arm64")
    amd = image([{"a": b"amd"}])
    attestation = {**image([{"x": b"y"}]).descriptor(), "platform": {"os": "unknown", "architecture": "unknown"}}
    both = index({"linux/arm64": arm, "linux/amd64": amd}, extra=[attestation])
    registry.add("team/app", "1", both)
    pulled = pull(ns, f"{registry.host}/team/app:1", platform="linux/arm64")
    assert (pulled.target.digest, pulled.descriptor.digest) == (both.digest, arm.digest)
    assert pulled.config.architecture == "arm64"
    assert not graph.has(ns, amd.digest)
    with pytest.raises(NotFound, match="linux/arm64"):
        pull(ns, f"{registry.host}/team/app:1", platform="linux/s390x")


def test_an_image_for_one_platform_when_another_is_wanted(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", image([{"a": b"b"}], architecture="s390x"))
    with pytest.raises(NotFound, match="only for linux/s390x, asked for linux/amd64"):
        pull(ns, f"{registry.host}/team/app:1", platform="linux/amd64")
    assert ns.images.list() == []
    # Nobody asked: it is what it is.
    assert pull(ns, f"{registry.host}/team/app:1").config.architecture == "s390x"


@pytest.mark.parametrize(("docker", "compress"), [(False, False), (False, True), (True, True)])
def test_forms(registry: FaultyRegistry, ns: NamespaceStore, docker: bool, compress: bool) -> None:
    one = sample(docker=docker, compress=compress)
    registry.add("team/app", "1", one)
    assert pull(ns, f"{registry.host}/team/app:1").manifest.media_type == one.media_type


def test_layers_come_at_the_same_time(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = image([{"a": b"1"}, {"b": b"2"}, {"c": b"3"}])
    registry.add("team/app", "1", one)
    together = threading.Barrier(3)

    def meet(handler: Handler, reply: Reply) -> None:
        together.wait(20)
        handler.send(reply)

    for digest in one.layers:
        registry.fault(digest, meet)
    pull(ns, f"{registry.host}/team/app:1", concurrency=4)
    assert not together.broken


def test_but_not_more_than_asked_for(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", image([{str(i): b"x"} for i in range(8)]))
    running, most, lock = [0], [0], threading.Lock()

    def count(handler: Handler, reply: Reply) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        # Down again before the answer is out, or the next request would be seen beside it.
        with lock:
            running[0] -= 1
        handler.send(reply)

    registry.fault("/blobs/", count, times=100)
    pull(ns, f"{registry.host}/team/app:1", concurrency=2)
    assert 1 <= most[0] <= 2


def test_layers_are_handed_on_in_order_while_others_come(registry: FaultyRegistry, store: Store) -> None:
    ns = store.namespace("default")
    one = image([{"a": b"1"}, {"b": b"2"}, {"c": b"3"}])
    registry.add("team/app", "1", one)
    first_is_there = threading.Event()

    def later(handler: Handler, reply: Reply) -> None:
        assert first_is_there.wait(20)
        handler.send(reply)

    registry.fault(one.layers[2], later)
    seen = []

    def on_layer(i: int, layer: Any, manifest: Any, config: Any) -> None:
        seen.append((i, layer.digest))
        # Nothing points to these blobs yet; the lease is what keeps them.
        store.gc()
        ns.content.info(layer.digest)
        if i == 0:
            first_is_there.set()

    pull(ns, f"{registry.host}/team/app:1", on_layer=on_layer, concurrency=4)
    assert seen == list(enumerate(one.layers))
    store.gc()
    assert is_whole(ns, one)
    ns.images.delete(f"{registry.host}/team/app:1")
    store.gc()
    assert list(ns.content.walk()) == []


def test_an_error_of_the_hook_ends_the_pull(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())

    def on_layer(i: int, layer: Any, manifest: Any, config: Any) -> None:
        raise Canceled("unpacking", "enough")

    with pytest.raises(Canceled):
        pull(ns, f"{registry.host}/team/app:1", on_layer=on_layer)
    assert ns.images.list() == []
    assert ns.leases.list() == []


def test_what_the_disk_lost_is_fetched_again(registry: FaultyRegistry, ns: NamespaceStore, tmp_path: Path) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    pull(ns, f"{registry.host}/team/app:1")
    blobs = tmp_path / "state/blobs/sha256"
    (blobs / one.layers[0][7:]).unlink()
    os.truncate(blobs / one.layers[1][7:], 10)
    manifest = blobs / one.digest[7:]
    manifest.chmod(0o600)
    manifest.write_bytes(one.manifest.replace(b"sha256", b"sha257"))
    for ref in (f"{registry.host}/team/app:1", f"{registry.host}/team/app@{one.digest}"):
        pull(ns, ref)
        assert is_whole(ns, one)
        assert manifest.read_bytes() == one.manifest
        manifest.unlink()


# --- misbehaviour


def test_a_connection_that_breaks_goes_on_where_it_stopped(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    registry.fault(one.layers[0], fake.hang_up(1 << 20), times=2)
    log = Log()
    pull(ns, f"{registry.host}/team/app:1", progress=log)
    assert is_whole(ns, one)
    size = len(one.blobs[one.layers[0]])
    assert registry.bytes_served(one.layers[0]) < size + (1 << 20)
    assert log.reached[one.layers[0]] == size
    assert any("Retrying" in text for digest, text in log.words if digest == one.layers[0])
    ranges = [seen.headers.get("Range") for seen in registry.requests if one.layers[0] in seen.path]
    assert ranges[0] is None
    assert all(r and r.startswith("bytes=") for r in ranges[1:])


def test_a_server_without_ranges_starts_over(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    registry.fault(one.layers[0], fake.hang_up(1 << 20))
    registry.fault(one.layers[0], fake.no_ranges())
    log = Log()
    pull(ns, f"{registry.host}/team/app:1", progress=log)
    assert is_whole(ns, one)
    assert log.reached[one.layers[0]] == len(one.blobs[one.layers[0]])


def test_a_server_that_sends_another_range(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    registry.fault(one.layers[0], fake.hang_up(1 << 20))
    size = len(one.blobs[one.layers[0]])
    headers = {"Content-Range": f"bytes 5-{size - 1}/{size}", "Content-Length": "3"}
    registry.fault(one.layers[0], fake.status(206, headers, b"abc"))
    pull(ns, f"{registry.host}/team/app:1")
    assert is_whole(ns, one)


def test_hanging_up_for_ever_is_given_up(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    registry.fault(one.layers[0], fake.hang_up(0), times=1000)
    with pytest.raises(Unavailable) as caught:
        pull(ns, f"{registry.host}/team/app:1")
    assert registry.host in str(caught.value)
    assert registry.count(one.layers[0]) == QUICK.tries
    assert ns.images.list() == []


def test_silence_is_given_up(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    release = threading.Event()
    registry.fault(one.layers[0], fake.stall(release, after=1000), times=1000)
    with pytest.raises(Unavailable, match="no data for"):
        pull(ns, f"{registry.host}/team/app:1", policy=Policy(tries=2, backoff_s=0.01, stall_timeout_s=0.2))
    release.set()


def test_silence_once_is_forgiven(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    release = threading.Event()
    registry.fault(one.layers[0], fake.stall(release, after=1 << 20))
    pull(ns, f"{registry.host}/team/app:1", policy=Policy(tries=3, backoff_s=0.01, stall_timeout_s=0.5))
    release.set()
    assert is_whole(ns, one)


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_states_that_pass(registry: FaultyRegistry, ns: NamespaceStore, code: int, part: str) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    registry.fault(part, fake.status(code, {"Retry-After": "0"}), times=2)
    pull(ns, f"{registry.host}/team/app:1")
    assert is_whole(ns, one)


def test_too_many_requests_for_too_long(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached\nyour limit"}]}).encode()
    registry.fault("/manifests/", fake.status(429, {"Retry-After": "3600"}, body), times=1000)
    with pytest.raises(Unavailable) as caught:
        pull(ns, f"{registry.host}/team/app:1")
    # Not an hour later, and not as text that forges a line.
    assert "TOOMANYREQUESTS: You have reached?your limit" in str(caught.value)
    assert registry.count("/manifests/") == 1


def test_a_connection_dropped_without_a_word(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    registry.fault("/manifests/", fake.drop(), times=2)
    registry.fault("/blobs/", fake.drop(), times=2)
    pull(ns, f"{registry.host}/team/app:1")
    assert is_whole(ns, one)


def test_a_wrong_digest(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    wrong = random_bytes(len(one.blobs[one.layers[0]]), seed=7)
    registry.fault(one.layers[0], fake.replace_body(wrong), times=1000)
    with pytest.raises(DataLoss) as caught:
        pull(ns, f"{registry.host}/team/app:1")
    assert one.layers[0] in str(caught.value)
    assert not graph.has(ns, one.layers[0])
    assert ns.images.list() == []
    # Nothing of it is left to be resumed.
    assert not [s for s in ns.content.statuses() if one.layers[0] in s.ref and s.offset]


@pytest.mark.parametrize("extra", [-100, 100])
def test_a_wrong_size(registry: FaultyRegistry, ns: NamespaceStore, extra: int) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    good = one.blobs[one.layers[0]]
    registry.fault(one.layers[0], fake.replace_body(good[:extra] if extra < 0 else good + bytes(extra)), times=1000)
    with pytest.raises(DataLoss, match="the manifest says"):
        pull(ns, f"{registry.host}/team/app:1")


def test_more_than_announced_without_a_length(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.blobs.clear()
    registry.add("team/app", "1", one)
    registry.blobs[f"team/app/blobs/{one.layers[0]}"] += bytes(1 << 20)
    registry.fault(one.layers[0], fake.unannounced(), times=1000)
    with pytest.raises(DataLoss, match="sends more than"):
        pull(ns, f"{registry.host}/team/app:1")


def test_less_than_announced_without_a_length_is_gone_on_with(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    registry.fault(one.layers[0], fake.unannounced(1 << 20))
    pull(ns, f"{registry.host}/team/app:1")
    assert is_whole(ns, one)


def test_a_manifest_that_is_not_what_it_is_called(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    registry.fault("/manifests/", fake.replace_body(one.manifest + b" "), times=1000)
    with pytest.raises(DataLoss, match="calls its manifest"):
        pull(ns, f"{registry.host}/team/app:1")
    with pytest.raises(DataLoss, match="what came has the digest"):
        pull(ns, f"{registry.host}/team/app@{one.digest}")


def test_a_manifest_without_end(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    registry.fault("/manifests/", fake.replace_body(b" " * (5 << 20)), times=1000)
    with pytest.raises(DataLoss, match="sends more than 4194304 bytes"):
        pull(ns, f"{registry.host}/team/app:1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"manifests": []}, "CVE-2021-41190"),
        ({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}}, "artifact"),
        ({"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}]}, "encrypted"),
        ({"layers": [{"mediaType": "text/html"}]}, "not a layer"),
        ({"layers": [{"digest": "sha256:../../../etc/passwd"}]}, "digest"),
        ({"layers": [{"size": -1}]}, "size"),
    ],
)
def test_manifests_that_are_no_images(
    registry: FaultyRegistry, ns: NamespaceStore, change: dict[str, Any], said: str
) -> None:
    data = json.loads(sample().manifest)
    for key, value in change.items():
        if isinstance(value, dict):
            data[key] |= value
        elif value:
            data[key][0] |= value[0]
        else:
            data[key] = value
    raw = json.dumps(data).encode()
    registry.manifests["team/app/manifests/1"] = (fake.OCI_MANIFEST, raw)
    with pytest.raises((InvalidArgument, Unimplemented)) as caught:
        pull(ns, f"{registry.host}/team/app:1")
    assert said in str(caught.value)
    assert ns.images.list() == []


def test_an_old_schema(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    raw = json.dumps({"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}).encode()
    registry.manifests["team/app/manifests/1"] = ("application/vnd.docker.distribution.manifest.v1+prettyjws", raw)
    with pytest.raises(Unimplemented, match="schema 1"):
        pull(ns, f"{registry.host}/team/app:1")


def test_media_types_that_contradict(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.manifests["team/app/manifests/1"] = (fake.OCI_INDEX, sample().manifest)
    with pytest.raises(InvalidArgument, match="CVE-2021-41190"):
        pull(ns, f"{registry.host}/team/app:1")


def test_indexes_in_a_circle_of_depth(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = image([{"a": b"b"}])
    for _ in range(8):
        one = index({"linux/amd64": one})
        registry.add("team/app", "1", one)
    with pytest.raises(InvalidArgument, match="indexes in one another"):
        pull(ns, f"{registry.host}/team/app:1")


def test_a_config_that_does_not_fit(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    good, other_config = sample(), image([{"x": b"y"}])
    data = json.loads(good.manifest)
    data["config"] = json.loads(other_config.manifest)["config"]
    raw = json.dumps(data).encode()
    registry.add("team/app", "1", other_config)
    registry.add("team/app", "2", good)
    registry.manifests["team/app/manifests/1"] = (fake.OCI_MANIFEST, raw)
    with pytest.raises(InvalidArgument, match="1 diff_ids"):
        pull(ns, f"{registry.host}/team/app:1")


def test_urls_of_foreign_layers_are_not_followed(
    registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore
) -> None:
    """CVE-2020-15157: they name any server, which could then ask for our credentials."""
    one = sample()
    data = json.loads(one.manifest)
    data["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    data["layers"][0]["urls"] = [f"{other.url}/layer"]
    registry.add("team/app", "1", one)
    registry.manifests["team/app/manifests/1"] = (fake.OCI_MANIFEST, json.dumps(data).encode())
    del registry.blobs[f"team/app/blobs/{one.layers[0]}"]
    with pytest.raises(NotFound):
        pull(ns, f"{registry.host}/team/app:1")
    assert other.requests == []


def test_nothing_of_that_name(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    with pytest.raises(NotFound) as caught:
        pull(ns, f"{registry.host}/no/such:1")
    assert f"{registry.host}/no/such:1" in str(caught.value)
    assert "NAME_UNKNOWN" in str(caught.value)
    assert nothing_partial(ns)


def test_nobody_there_is_told_at_once(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    host = registry.host
    registry.__exit__(None, None, None)
    try:
        with pytest.raises(Unavailable, match="Connect"):
            pull(ns, f"{host}/team/app:1", policy=Policy(tries=50, backoff_s=30))
    finally:
        registry.__enter__()


def test_a_trickle_is_given_up(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    release = threading.Event()
    policy = Policy(tries=2, backoff_s=0.01, slow_window_s=0.2, slow_window_bytes=1000, answer_timeout_s=0.3)
    try:
        registry.fault(one.layers[0], fake.trickle(release), times=1000)
        with pytest.raises(Unavailable, match=r"only \d+ bytes in 0.2 s"):
            pull(ns, f"{registry.host}/team/app:1", policy=policy)
        registry.fault("/manifests/", fake.trickle(release), times=1000)
        with pytest.raises(Unavailable, match="no whole answer within"):
            pull(ns, f"{registry.host}/team/app:1", policy=policy)
    finally:
        release.set()


def test_another_way_brings_the_same_blob_meanwhile(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)

    def load_first(handler: Handler, reply: Reply) -> None:
        with ns.content.writer("by another way") as writer:
            writer.write(one.blobs[one.layers[0]])
            writer.commit()
        handler.send(reply)

    registry.fault(one.layers[0], load_first)
    pull(ns, f"{registry.host}/team/app:1")
    assert is_whole(ns, one)
    assert nothing_partial(ns)


def test_a_proxy_of_the_environment(
    registry: FaultyRegistry, ns: NamespaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    monkeypatch.setenv("http_proxy", registry.url)
    pull(ns, "registry.invalid/team/app:1", rules=mirrors("http://mirror.invalid", fallback=False))
    assert is_whole(ns, one)
    assert registry.requests[0].path.startswith("http://mirror.invalid/v2/")
    monkeypatch.setenv("no_proxy", "mirror.invalid")
    with pytest.raises(Unavailable):
        pull(ns, "registry.invalid/team/app:2", rules=mirrors("http://mirror.invalid", fallback=False))
