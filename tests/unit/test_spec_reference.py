"""References as distribution/reference normalises them. The tables hold what its own parser answers."""

from __future__ import annotations

import pytest

from masu.errors import InvalidArgument
from masu.spec import reference

SHA = "sha256:" + "ab" * 32
IDENTIFIER = "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a"

# text: (full, familiar)
GOOD = {
    "redis": ("docker.io/library/redis:latest", "redis:latest"),
    "redis:7.2-alpine": ("docker.io/library/redis:7.2-alpine", "redis:7.2-alpine"),
    "library/redis": ("docker.io/library/redis:latest", "redis:latest"),
    "docker.io/redis": ("docker.io/library/redis:latest", "redis:latest"),
    "index.docker.io/redis": ("docker.io/library/redis:latest", "redis:latest"),
    "index.docker.io/library/redis:x": ("docker.io/library/redis:x", "redis:x"),
    "bitnami/redis": ("docker.io/bitnami/redis:latest", "bitnami/redis:latest"),
    "docker.io/bitnami/redis": ("docker.io/bitnami/redis:latest", "bitnami/redis:latest"),
    "library/foo/bar": ("docker.io/library/foo/bar:latest", "library/foo/bar:latest"),
    "a/b/c/d": ("docker.io/a/b/c/d:latest", "a/b/c/d:latest"),
    "localhost/redis": ("localhost/redis:latest", "localhost/redis:latest"),
    "localhost": ("docker.io/library/localhost:latest", "localhost:latest"),
    "localhost:5000/a": ("localhost:5000/a:latest", "localhost:5000/a:latest"),
    "LOCALDOMAIN/redis": ("LOCALDOMAIN/redis:latest", "LOCALDOMAIN/redis:latest"),
    "Foo/bar": ("Foo/bar:latest", "Foo/bar:latest"),
    "ghcr.io/owner/name:v1": ("ghcr.io/owner/name:v1", "ghcr.io/owner/name:v1"),
    "127.0.0.1:5000/a/b": ("127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b:latest"),
    "test:5000/repo:tag": ("test:5000/repo:tag", "test:5000/repo:tag"),
    "test.com:5000": ("docker.io/library/test.com:5000", "test.com:5000"),
    "192.168.1.1:80": ("docker.io/library/192.168.1.1:80", "192.168.1.1:80"),
    "[::1]:5000/repo": ("[::1]:5000/repo:latest", "[::1]:5000/repo:latest"),
    "[2001:db8::1]/repo:x": ("[2001:db8::1]/repo:x", "[2001:db8::1]/repo:x"),
    "xn--n3h.com/my:xn--n3h.com": ("xn--n3h.com/my:xn--n3h.com", "xn--n3h.com/my:xn--n3h.com"),
    "sub-dom1.foo.com/bar/baz": ("sub-dom1.foo.com/bar/baz:latest", "sub-dom1.foo.com/bar/baz:latest"),
    "test_com/foo": ("docker.io/test_com/foo:latest", "test_com/foo:latest"),
    "d---ocker/a__b": ("docker.io/d---ocker/a__b:latest", "d---ocker/a__b:latest"),
    "redis:Tag_1.0-x": ("docker.io/library/redis:Tag_1.0-x", "redis:Tag_1.0-x"),
    "redis:_x": ("docker.io/library/redis:_x", "redis:_x"),
    f"redis@{SHA}": (f"docker.io/library/redis@{SHA}", f"redis@{SHA}"),
    f"redis:7@{SHA}": (f"docker.io/library/redis:7@{SHA}", f"redis:7@{SHA}"),
    f"h:1/r@{SHA}": (f"h:1/r@{SHA}", f"h:1/r@{SHA}"),
    IDENTIFIER[:-1]: (f"docker.io/library/{IDENTIFIER[:-1]}:latest", f"{IDENTIFIER[:-1]}:latest"),
    f"docker.io/{IDENTIFIER}": (f"docker.io/library/{IDENTIFIER}:latest", f"{IDENTIFIER}:latest"),
    "a" * 128 + "/" + "b" * 126: (f"docker.io/{'a' * 128}/{'b' * 126}:latest", f"{'a' * 128}/{'b' * 126}:latest"),
    "x:" + "t" * 128: (f"docker.io/library/x:{'t' * 128}", f"x:{'t' * 128}"),
}

# text: a piece of the message
BAD = {
    "": "at least one component",
    IDENTIFIER: "64-byte hexadecimal",
    "Redis": "must be lowercase",
    "docker/Docker": "must be lowercase",
    "docker.io/docker/Docker": "must be lowercase",
    "https://github.com/docker/docker": "leave out https://",
    "-redis": "not a component",
    "redis-": "not a component",
    "a//b": "not a component",
    "docker///docker": "not a component",
    "a/": "not a component",
    "/a": "not a component",
    "dock..er/docker": "host[:port]",
    "x/dock..er": "not a component",
    "x/dock_.er": "not a component",
    "x/a___b": "not a component",
    "_x/y": "not a component",
    "____/____": "not a component",
    "-docker.io/a/b": "host[:port]",
    "test_b.com/foo": "host[:port]",
    "fc00::1:5000/debian": "host[:port]",
    "[fe80::1%eth0]:5000/debian": "host[:port]",
    "[2001:db8:3:4::192.0.2.33]:5000/debian": "host[:port]",
    "[]:5000/x": "host[:port]",
    "[::1]x:5000/x": "host[:port]",
    "host:port/x": "host[:port]",
    "host:/x": "host[:port]",
    "[::1]": "not a component",
    "[::1]:5000": "not a component",
    ":tag": "not a component",
    "redis:": "not a tag",
    "redis:-x": "not a tag",
    "redis:.x": "not a tag",
    "redis:a:b": "not a tag",
    "x:" + "t" * 129: "not a tag",
    "redis@": "digest",
    "redis@sha256:abc": "64 lower-case",
    "redis@sha256:" + "AB" * 32: "64 lower-case",
    "redis@md5:" + "a" * 32: "sha256",
    f"redis@{SHA}@{SHA}": "digest",
    f"redis@{SHA}:tag": "digest",
    f"@{SHA}": "not a component",
    "a b": "not a component",
    "redis\n": "not a component",
    "redis:x\n": "not a tag",
    "é": "not a component",
    "h/" + "a" * 254 + ":x": "",
    "a" * 256: "must not be more than 255",
    "host.io/" + "a" * 256: "must not be more than 255",
    "a" * 5000: "too long",
}
del BAD["h/" + "a" * 254 + ":x"]


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    ref = reference.parse(text)
    full, familiar = GOOD[text]
    assert (str(ref), ref.familiar()) == (full, familiar)
    assert ref.name == f"{ref.domain}/{ref.path}"
    assert reference.parse(full) == ref
    assert reference.parse(familiar) == ref or text.startswith("docker.io/1a3f")
    assert hash(reference.parse(full)) == hash(ref)


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        reference.parse(text)
    assert BAD[text] in str(caught.value)
    assert str(caught.value).isprintable()


def test_did_you_mean() -> None:
    with pytest.raises(InvalidArgument) as caught:
        reference.parse("Redis:Latest")
    assert caught.value.hint == 'did you mean "redis:Latest"?'


def test_parts() -> None:
    ref = reference.parse(f"ghcr.io/a/b:1@{SHA}")
    assert (ref.domain, ref.path, ref.tag, ref.digest) == ("ghcr.io", "a/b", "1", SHA)
    assert reference.parse(f"b@{SHA}").tag is None
    assert reference.parse("b", default_tag=False).tag is None
    assert str(reference.parse("b", default_tag=False)) == "docker.io/library/b"


def test_changed() -> None:
    ref = reference.parse(f"redis:7@{SHA}")
    assert str(ref.with_tag("8")) == "docker.io/library/redis:8"
    assert str(reference.parse("redis:7").with_digest(SHA)) == f"docker.io/library/redis:7@{SHA}"
    with pytest.raises(InvalidArgument):
        ref.with_tag("-foo")
    with pytest.raises(InvalidArgument):
        ref.with_digest("foo")
    assert ref != "redis"


def test_identifier() -> None:
    assert reference.is_identifier(IDENTIFIER)
    assert not reference.is_identifier(IDENTIFIER.upper())
    assert not reference.is_identifier(IDENTIFIER[:-1] + "\n")
