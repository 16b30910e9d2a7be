"""Who gets our credentials, and who does not: tokens, passwords, redirects, mirrors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import registryfixture as fake
from registrycases import ME, QUICK, Log, is_whole, mirrors, pull, sample
from registryfixture import FaultyRegistry, Handler, Reply, TokenAuthority, random_bytes

import masu.registry
from masu.errors import (
    FailedPrecondition,
    MasuError,
    NotFound,
    PermissionDenied,
)
from masu.registry.credentials import Credentials
from masu.store import NamespaceStore

pytestmark = pytest.mark.usefixtures("own_home")


# --- authentication


def with_tokens(registry: FaultyRegistry, other: FaultyRegistry, **options: Any) -> TokenAuthority:
    authority = TokenAuthority(other, **options)
    registry.check = authority.check
    return authority


def test_a_token_for_a_password(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    authority = with_tokens(registry, other)
    pull(ns, f"{registry.host}/team/app:1", auth=ME)
    assert is_whole(ns, one)
    # One token serves the manifest and all blobs.
    assert authority.issued == [
        {"service": ["test.registry"], "scope": ["repository:team/app:pull"], "account": [fake.USER]}
    ]
    assert all("Basic" not in seen.headers.get("Authorization", "") for seen in registry.requests)


def test_an_anonymous_token(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    with_tokens(registry, other, anonymous=True)
    pull(ns, f"{registry.host}/team/app:1")
    assert all("Authorization" not in seen.headers for seen in other.requests)


def test_an_identity_token(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    authority = with_tokens(registry, other)
    pull(ns, f"{registry.host}/team/app:1", auth=Credentials(identity_token="refresh-me"))
    assert [seen.method for seen in other.requests] == ["POST"]
    assert authority.issued[0]["grant_type"] == ["refresh_token"]


def test_a_finished_token(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    authority = with_tokens(registry, other)
    authority.valid["given"] = {"repository:team/app:pull"}
    pull(ns, f"{registry.host}/team/app:1", auth=Credentials(registry_token="given"))
    assert other.requests == []


def test_a_token_that_ends_in_between_is_renewed(
    registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore
) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    authority = with_tokens(registry, other)

    def revoke(handler: Handler, reply: Reply) -> None:
        authority.valid.clear()
        handler.close_connection = True

    registry.fault(one.layers[0], revoke)
    pull(ns, f"{registry.host}/team/app:1", auth=ME)
    assert len(authority.issued) == 2


def test_refused_credentials(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    with_tokens(registry, other)
    with pytest.raises(PermissionDenied, match="were refused"):
        pull(ns, f"{registry.host}/team/app:1", auth=Credentials("tester", "wrong"))
    with pytest.raises(PermissionDenied, match="no credentials for it are known"):
        pull(ns, f"{registry.host}/team/app:1")
    assert "wrong" not in "".join(str(seen) for seen in registry.requests)


def test_basic_from_the_users_file(registry: FaultyRegistry, ns: NamespaceStore, tmp_path: Path) -> None:
    registry.add("team/app", "1", sample())
    expected = ME.basic()

    def check(handler: Handler) -> Reply | None:
        if handler.headers.get("Authorization") == expected:
            return None
        return Reply(401, {"WWW-Authenticate": 'Basic realm="x"', "Content-Length": "0"}, b"")

    registry.check = check
    (tmp_path / ".docker").mkdir()
    auths = {registry.host: {"auth": expected.removeprefix("Basic ")}}
    (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": auths}))
    pull(ns, f"{registry.host}/team/app:1")


def test_a_redirect_to_another_host_carries_no_credentials(
    registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore
) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    with FaultyRegistry() as storage:
        with_tokens(registry, other)
        for digest, data in one.blobs.items():
            storage.files[f"/store/{digest}"] = Reply(200, {"Content-Length": str(len(data))}, data)
            registry.fault(f"/blobs/{digest}", fake.redirect(f"{storage.url}/store/{digest}?X-Signature=a%2Fb%3D"))
        pull(ns, f"{registry.host}/team/app:1", auth=ME)
        assert is_whole(ns, one)
        assert len(storage.requests) == len(one.blobs)
        assert all("Authorization" not in seen.headers for seen in storage.requests)
        # The signature arrives as it was written.
        assert all(seen.path.endswith("?X-Signature=a%2Fb%3D") for seen in storage.requests)


def test_a_challenge_after_a_redirect_is_not_answered(
    registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore
) -> None:
    """CVE-2020-15157, CVE-2024-3727: the other host would get a token or a password."""
    one = sample()
    registry.add("team/app", "1", one)
    with FaultyRegistry() as thief:
        with_tokens(registry, other)
        challenge = f'Basic realm="x", Bearer realm="{thief.url}/token",service="test.registry"'
        thief.check = lambda handler: Reply(401, {"WWW-Authenticate": challenge, "Content-Length": "0"}, b"")
        registry.fault("/blobs/", fake.redirect(f"{thief.url}/x"), times=1000)
        with pytest.raises(PermissionDenied):
            pull(ns, f"{registry.host}/team/app:1", auth=ME)
        assert thief.requests
        assert all("Authorization" not in seen.headers for seen in thief.requests)
        assert thief.count("/token") == 0


def test_a_token_server_that_redirects_with_a_password(
    registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore
) -> None:
    registry.add("team/app", "1", sample())
    with FaultyRegistry() as thief:
        with_tokens(registry, other)
        other.check = lambda handler: Reply(302, {"Location": f"{thief.url}/token", "Content-Length": "0"}, b"")
        with pytest.raises(FailedPrecondition, match="redirects to another server"):
            pull(ns, f"{registry.host}/team/app:1", auth=ME)
        assert thief.requests == []


def test_redirects_in_a_circle(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    registry.fault("/manifests/", fake.redirect("/v2/team/app/manifests/1"), times=1000)
    with pytest.raises(FailedPrecondition, match="redirects"):
        pull(ns, f"{registry.host}/team/app:1")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "http://user:pw@127.0.0.1/"])
def test_redirects_to_somewhere_odd(registry: FaultyRegistry, ns: NamespaceStore, location: str) -> None:
    registry.add("team/app", "1", sample())
    registry.fault("/manifests/", fake.redirect(location), times=1000)
    with pytest.raises(FailedPrecondition, match="redirects to"):
        pull(ns, f"{registry.host}/team/app:1")


@pytest.mark.parametrize("realm", ["ftp://x/token", "", "http://u:p@x/token", "token"])
def test_odd_realms(registry: FaultyRegistry, ns: NamespaceStore, realm: str) -> None:
    registry.add("team/app", "1", sample())
    challenge = f'Bearer realm="{realm}",service="x"'
    registry.check = lambda handler: Reply(401, {"WWW-Authenticate": challenge, "Content-Length": "0"}, b"")
    with pytest.raises(FailedPrecondition, match="no usable realm"):
        pull(ns, f"{registry.host}/team/app:1", auth=ME)


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b'{"token": ""}', b"{"])
def test_odd_tokens(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore, answer: bytes) -> None:
    registry.add("team/app", "1", sample())
    with_tokens(registry, other)
    other.check = lambda handler: Reply(200, {"Content-Length": str(len(answer))}, answer)
    with pytest.raises(MasuError):
        pull(ns, f"{registry.host}/team/app:1", auth=ME)


# --- mirrors


def test_every_registry_is_the_loopback_one(registry: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    registry.add("library/redis", "latest", one)
    pulled = pull(ns, "redis", rules=mirrors(registry.url, fallback=False))
    assert pulled.name == "docker.io/library/redis:latest"
    assert is_whole(ns, one)
    assert all("ns=docker.io" in seen.path for seen in registry.requests)
    source = ns.content.info(one.layers[0]).labels["containerd.io/distribution.source.docker.io"]
    assert source == "library/redis"


def test_the_rules_file_does_the_same(
    registry: FaultyRegistry, ns: NamespaceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add("hub/library/redis", "7", sample())
    file = tmp_path / "registries.toml"
    file.write_text(f'[[registry]]\nname = "*"\nfallback = false\n[[registry.mirror]]\nurl = "{registry.url}/hub"\n')
    monkeypatch.setenv("MASU_REGISTRIES", str(file))
    assert masu.registry.pull(ns, "redis:7", policy=QUICK).name == "docker.io/library/redis:7"


def test_the_registry_itself_when_the_mirror_has_not(
    registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore
) -> None:
    one = sample()
    registry.add("team/app", "1", one)
    log = Log()
    pull(ns, f"{registry.host}/team/app:1", rules=mirrors(other.url), progress=log)
    assert is_whole(ns, one)
    assert any("trying" in text for _, text in log.words)


def test_not_when_told_not_to(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore) -> None:
    registry.add("team/app", "1", sample())
    with pytest.raises(NotFound):
        pull(ns, f"{registry.host}/team/app:1", rules=mirrors(other.url, fallback=False))
    assert registry.requests == []


def test_a_mirror_with_bad_content_is_left(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore) -> None:
    one = sample()
    for server in (registry, other):
        server.add("team/app", "1", one)
    other.fault(one.layers[0], fake.replace_body(random_bytes(len(one.blobs[one.layers[0]]), 9)), times=1000)
    pull(ns, f"{registry.host}/team/app:1", rules=mirrors(other.url))
    assert is_whole(ns, one)
    # Only what the mirror could not give came from the registry itself.
    assert registry.count("/blobs/") == 1


def test_all_that_was_tried_is_told(registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore) -> None:
    with pytest.raises(NotFound) as caught:
        pull(ns, f"{registry.host}/team/app:1", rules=mirrors(other.url))
    assert f"mirror {other.url}" in str(caught.value)


def test_a_mirror_gets_no_credentials_of_the_registry(
    registry: FaultyRegistry, other: FaultyRegistry, ns: NamespaceStore
) -> None:
    registry.add("team/app", "1", sample())
    other.check = lambda handler: Reply(401, {"WWW-Authenticate": 'Basic realm="x"', "Content-Length": "0"}, b"")
    pull(ns, f"{registry.host}/team/app:1", rules=mirrors(other.url), auth=ME)
    assert other.requests
    assert all("Authorization" not in seen.headers for seen in other.requests)
