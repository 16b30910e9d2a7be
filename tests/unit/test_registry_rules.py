"""Which servers answer for a registry, and what the rules files may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from masu.errors import InvalidArgument
from masu.registry import rules
from masu.registry.rules import Rules, load


def write(folder: Path, text: str, name: str = "registries.toml") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def bare() -> Rules:
    return Rules(certificate_dirs=(), hosts_dirs=())


def test_the_registry_itself_is_asked_by_https() -> None:
    (endpoint,) = bare().endpoints("quay.io")
    assert (endpoint.host, endpoint.schemes, endpoint.mirror_of) == ("quay.io", ("https",), "")


def test_docker_hub_lives_elsewhere() -> None:
    for name in ("docker.io", "index.docker.io"):
        assert bare().endpoints(name)[0].host == "registry-1.docker.io"


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1", "127.8.9.1:80", "[::1]:5000"])
def test_loopback_may_be_plain(host: str) -> None:
    assert "http" in bare().endpoints(host)[0].schemes


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "localhost.example.com:5000", "10.0.0.1"])
def test_others_may_not(host: str) -> None:
    assert bare().endpoints(host)[0].schemes == ("https",)


def test_insecure_is_https_first_and_unverified() -> None:
    endpoint = bare().endpoints("example.com", insecure=True)[0]
    assert endpoint.schemes == ("https", "http")
    assert endpoint.tls.skip_verify


def test_every_registry_to_the_loopback_one(tmp_path: Path) -> None:
    found = load(write(tmp_path, '[[registry]]\nname = "*"\n[[registry.mirror]]\nurl = "http://127.0.0.1:5000"\n'))
    mirror, origin = found.endpoints("docker.io")
    assert (mirror.host, mirror.schemes, mirror.mirror_of) == ("127.0.0.1:5000", ("http",), "docker.io")
    assert origin.host == "registry-1.docker.io"


def test_without_fallback_the_registry_itself_is_not_asked(tmp_path: Path) -> None:
    text = '[[registry]]\nname="*"\nfallback=false\n[[registry.mirror]]\nurl="http://127.0.0.1:5000"\n'
    found = load(write(tmp_path, text))
    assert [e.host for e in found.endpoints("quay.io")] == ["127.0.0.1:5000"]
    # A mirror takes no pushes unless it says so; then the registry itself is all there is.
    assert [e.host for e in found.endpoints("quay.io", capability="push")] == ["quay.io"]


def test_the_most_specific_rule_wins_alone(tmp_path: Path) -> None:
    text = "".join(
        f'[[registry]]\nname = "{name}"\n[[registry.mirror]]\nurl = "https://{host}"\n'
        for name, host in [
            ("*", "any"),
            ("*.example.com", "wide"),
            ("*.eu.example.com", "near"),
            ("a.eu.example.com", "own"),
        ]
    )
    found = load(write(tmp_path, text))
    expected = {"a.eu.example.com": "own", "b.eu.example.com": "near", "us.example.com": "wide", "quay.io": "any"}
    assert {domain: found.endpoints(domain)[0].host for domain in expected} == expected


def test_mirrors_keep_their_order_and_a_path_is_a_prefix(tmp_path: Path) -> None:
    text = """
    [[registry]]
    name = "docker.io"
    [[registry.mirror]]
    url = "https://one.example.com/hub"
    [[registry.mirror]]
    url = "https://two.example.com/v2/proxy/hub/"
    """
    found = load(write(tmp_path, text)).endpoints("docker.io")
    assert [(e.host, e.prefix) for e in found[:2]] == [("one.example.com", "hub/"), ("two.example.com", "proxy/hub/")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[registry]]\nname = "*"\nfalback = true\n', 'did you mean "fallback"'),
        ('[[registry]]\nname = "*"\n[[registry.mirror]]\nurl = "ftp://x"\n', "http or https"),
        ('[[registry]]\nname = "*"\n[[registry.mirror]]\nurl = "https://u:p@x"\n', "no credentials"),
        ('[[registry]]\nname = "*"\n[[registry.mirror]]\nurl = "https://x:y"\n', "host name"),
        ('[[registry]]\nname = "a*"\n', '"*.example.com"'),
        ('[[registry]]\nname = "a"\n[[registry]]\nname = "a"\n', "twice"),
        ('[[registry]]\nname = "a"\ninsecure = "yes"\n', "true or false"),
        ("[[registry]\n", "TOML"),
        ('registry = "x"\n', "array of tables"),
    ],
)
def test_what_cannot_be_understood_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load(write(tmp_path, text))
    assert said in str(caught.value)


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    file = write(tmp_path, '[[registry]]\nname = "*"\n[[registry.mirror]]\nurl = "http://m"\n')
    assert load(environ={"MASU_REGISTRIES": file}).rules
    assert not load(environ={"MASU_REGISTRIES": ""}).rules
    with pytest.raises(InvalidArgument, match="no such file"):
        load(environ={"MASU_REGISTRIES": str(tmp_path / "missing")})


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="larger than"):
        load("/dev/zero")


def test_certificates_of_a_host(tmp_path: Path) -> None:
    folder = tmp_path / "example.com:5000"
    folder.mkdir()
    for name in ("ca.crt", "me.cert", "me.key", "notes.txt"):
        (folder / name).touch()
    found = Rules(certificate_dirs=(str(tmp_path),), hosts_dirs=()).endpoints("example.com:5000")[0].tls
    assert found.ca_files == (str(folder / "ca.crt"),)
    assert found.client_pairs == ((str(folder / "me.cert"), str(folder / "me.key")),)
    (folder / "me.key").unlink()
    with pytest.raises(InvalidArgument, match="there is no"):
        Rules(certificate_dirs=(str(tmp_path),)).tls_for("example.com:5000")


@pytest.mark.parametrize("host", ["..", ".", "a/../..", "", "a\0b"])
def test_a_host_is_no_path(tmp_path: Path, host: str) -> None:
    (tmp_path / "ca.crt").touch()
    inner = tmp_path / "inner"
    inner.mkdir()
    assert Rules(certificate_dirs=(str(inner),), hosts_dirs=()).tls_for(host) == rules.Tls()


def test_hosts_toml_of_containerd(tmp_path: Path) -> None:
    text = """
    server = "https://registry-1.docker.io"
    [host."https://mirror.example.com/v2/hub"]
      capabilities = ["pull", "resolve"]
      ca = "ca.pem"
      client = [["c.pem", "k.pem"]]
      override_path = true
      [host."https://mirror.example.com/v2/hub".header]
        x-team = "infra"
    [host."http://10.0.0.1:5000"]
      capabilities = ["pull"]
      skip_verify = true
    """
    write(tmp_path / "docker.io", text, "hosts.toml")
    found = Rules(certificate_dirs=(), hosts_dirs=(str(tmp_path),))
    first, second, origin = found.endpoints("docker.io")
    assert (first.host, first.prefix, first.headers) == ("mirror.example.com", "hub/", (("x-team", "infra"),))
    assert first.tls.ca_files == (str(tmp_path / "docker.io/ca.pem"),)
    assert first.tls.client_pairs == ((str(tmp_path / "docker.io/c.pem"), str(tmp_path / "docker.io/k.pem")),)
    assert (second.host, second.schemes, second.tls.skip_verify) == ("10.0.0.1:5000", ("http",), True)
    assert (origin.host, origin.mirror_of) == ("registry-1.docker.io", "")
    assert [e.host for e in found.endpoints("docker.io", capability="resolve")][:2] == [first.host, origin.host]


def test_hosts_toml_for_every_registry(tmp_path: Path) -> None:
    write(tmp_path / "_default", '[host."http://127.0.0.1:5000"]\n', "hosts.toml")
    found = Rules(certificate_dirs=(), hosts_dirs=(str(tmp_path),)).endpoints("quay.io")
    assert [e.host for e in found] == ["127.0.0.1:5000", "quay.io"]
