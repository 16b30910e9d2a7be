"""Credentials that docker and podman keep, and helpers on the host's PATH."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from masu.errors import FailedPrecondition, InvalidArgument, Unavailable
from masu.registry import credentials
from masu.registry.credentials import Credentials, find_helper, lookup


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".docker").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path


def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin"}


def write(home: Path, config: dict[str, Any]) -> None:
    (home / ".docker/config.json").write_text(json.dumps(config))


def helper(home: Path, name: str, script: str) -> Path:
    path = home / "bin" / f"docker-credential-{name}"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "key", ["r.example.com", "https://r.example.com", "http://r.example.com/v2/", "r.example.com/"]
)
def test_spellings_of_a_key(home: Path, key: str) -> None:
    write(home, {"auths": {key: {"auth": basic("u", "p:with:colons")}}})
    assert lookup("r.example.com", environ(home)) == Credentials("u", "p:with:colons")
    assert lookup("r.example.com:5000", environ(home)) is None
    assert lookup("evil-r.example.com", environ(home)) is None


def test_docker_hub_has_a_key_of_its_own(home: Path) -> None:
    write(home, {"auths": {"https://index.docker.io/v1/": {"auth": basic("u", "p")}}})
    assert lookup("registry-1.docker.io", environ(home)) == Credentials("u", "p")
    assert lookup("quay.io", environ(home)) is None


def test_tokens_and_plain_fields(home: Path) -> None:
    write(
        home,
        {
            "auths": {
                "a.io": {"username": "u", "password": "p"},
                "b.io": {"auth": basic("u", ""), "identitytoken": "refresh"},
                "c.io": {"registrytoken": "bearer"},
                "d.io": {},
            }
        },
    )
    assert lookup("a.io", environ(home)) == Credentials("u", "p")
    assert lookup("b.io", environ(home)) == Credentials("u", "", "refresh")
    assert lookup("c.io", environ(home)) == Credentials(registry_token="bearer")
    assert lookup("d.io", environ(home)) is None


def test_the_longest_key_of_podman_wins(home: Path) -> None:
    file = home / "auth.json"
    file.write_text(json.dumps({"auths": {"q.io": {"auth": basic("a", "1")}, "q.io/team": {"auth": basic("b", "2")}}}))
    env = {**environ(home), "REGISTRY_AUTH_FILE": str(file)}
    assert lookup("q.io", env, repository="team/app") == Credentials("b", "2")
    assert lookup("q.io", env, repository="teamster/app") == Credentials("a", "1")


def test_docker_config_variable(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"auths": {"r.io": {"auth": basic("o", "p")}}}))
    assert lookup("r.io", {**environ(home), "DOCKER_CONFIG": str(other)}) == Credentials("o", "p")


def test_nothing_anywhere(home: Path) -> None:
    assert lookup("r.io", environ(home)) is None
    assert lookup("r.io", {}) is None
    (home / ".docker/config.json").write_text("")
    assert lookup("r.io", environ(home)) is None


@pytest.mark.parametrize(
    "config",
    ["{", "[]", '{"auths": []}', '{"auths": {"r.io": {"auth": "!"}}}', '{"auths": {"r.io": {"auth": "dQ=="}}}'],
)
def test_a_file_that_cannot_be_understood(home: Path, config: str) -> None:
    (home / ".docker/config.json").write_text(config)
    with pytest.raises(InvalidArgument) as caught:
        lookup("r.io", environ(home))
    assert "config.json" in str(caught.value)


def test_a_helper_for_one_host(home: Path) -> None:
    helper(home, "mine", 'read server; test "$1" = get && echo "{\\"Username\\":\\"$server\\",\\"Secret\\":\\"s\\"}"\n')
    write(home, {"credHelpers": {"r.io": "mine"}, "auths": {"r.io": {"auth": basic("u", "p")}}})
    assert lookup("r.io", environ(home)) == Credentials("r.io", "s")
    assert lookup("other.io", environ(home)) is None


def test_the_store_is_asked_last_and_may_hold_tokens(home: Path) -> None:
    helper(home, "all", 'read server; echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"$server\\"}"\n')
    write(home, {"credsStore": "all", "auths": {"r.io": {"auth": basic("u", "p")}, "s.io": {}}})
    assert lookup("r.io", environ(home)) == Credentials("u", "p")
    assert lookup("s.io", environ(home)) == Credentials(identity_token="s.io")
    assert lookup("docker.io", environ(home)) == Credentials(identity_token="https://index.docker.io/v1/")


def test_a_helper_that_holds_nothing(home: Path) -> None:
    helper(home, "none", "echo credentials not found in native keychain; exit 1\n")
    write(home, {"credsStore": "none"})
    assert lookup("r.io", environ(home)) is None


@pytest.mark.parametrize("script", ["exit 3\n", "echo no json\n", "echo '{}'\n", "head -c 3000000 /dev/zero\n"])
def test_a_helper_that_fails(home: Path, script: str) -> None:
    helper(home, "bad", script)
    write(home, {"credsStore": "bad"})
    with pytest.raises((FailedPrecondition, InvalidArgument)) as caught:
        lookup("r.io", environ(home))
    assert "docker-credential-bad" in str(caught.value)


def test_a_helper_that_hangs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "HELPER_TIMEOUT_S", 0.1)
    helper(home, "slow", "exec sleep 60\n")
    write(home, {"credsStore": "slow"})
    with pytest.raises(Unavailable, match="no answer within"):
        lookup("r.io", environ(home))


def test_helpers_are_found_on_absolute_directories_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = helper(home, "here", "exit 0\n")
    monkeypatch.chdir(path.parent)
    for search in ("", ".", "bin", f"::{home}/empty"):
        with pytest.raises(FailedPrecondition, match="not found on PATH"):
            find_helper("here", {"PATH": search})
    assert find_helper("here", {"PATH": f"relative:{path.parent}"}) == str(path)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "a b", "a;b", "x\n"])
def test_helper_names_are_words(home: Path, name: str) -> None:
    with pytest.raises(InvalidArgument):
        find_helper(name, environ(home))


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("u", "secret1", "secret2", "secret3"))
    assert "secret" not in shown
