"""Against Debian's docker-registry, and beside skopeo."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import registryfixture as fake
from registrycases import ME, PLAIN, QUICK, clean_environment
from registryfixture import (
    DockerRegistry,
    FaultyProxy,
    FaultyRegistry,
    JwtSigner,
    TestImage,
    TokenAuthority,
    image,
    index,
    random_bytes,
)

import masu.registry
from masu.errors import FailedPrecondition, NotFound, PermissionDenied, Unavailable
from masu.registry import graph
from masu.registry.credentials import Credentials
from masu.registry.rules import Rules, Tls
from masu.spec.image import Descriptor
from masu.store import NamespaceStore, open_store

pytestmark = pytest.mark.skipif(fake.docker_registry() is None, reason="docker-registry is not installed")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch, tmp_path)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path) as found:
        yield found


@pytest.fixture
def fresh(tmp_path: Path) -> NamespaceStore:
    return open_store(str(tmp_path / "fresh")).namespace("default")


def put(ns: NamespaceStore, name: str, one: TestImage) -> None:
    """An image in the store without a registry."""
    with ns.leases.hold("test") as lease:
        documents = [*one.documents.values(), (one.media_type, one.manifest)]
        for digest, data in one.blobs.items():
            graph.put(ns, data, Descriptor("application/octet-stream", digest, len(data)), {}, lease.id)
        for media_type, raw in documents:
            descriptor = Descriptor(media_type, fake.digest_of(raw), len(raw))
            graph.put(ns, raw, descriptor, graph.gc_labels(graph.parse_document(raw, descriptor)), lease.id)
        graph.set_image(ns, name, Descriptor(one.media_type, one.digest, len(one.manifest)))


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sample() -> TestImage:
    return image([{"big": random_bytes(3 << 20)}, {"small": b"hello"}])


def test_push_and_pull(registry: DockerRegistry, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    one = sample()
    name = f"{registry.host}/team/app:1"
    put(ns, name, one)
    assert masu.registry.push(ns, name, rules=PLAIN, policy=QUICK).digest == one.digest
    assert masu.registry.tags(name, rules=PLAIN, policy=QUICK) == ["1"]
    assert masu.registry.pull(fresh, name, rules=PLAIN, policy=QUICK).target.digest == one.digest
    for digest, data in one.blobs.items():
        assert fresh.content.read(digest, 1 << 26) == data
    assert json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))["Digest"] == one.digest


def test_an_image_of_skopeo(registry: DockerRegistry, ns: NamespaceStore, tmp_path: Path) -> None:
    one = sample()
    name = f"{registry.host}/team/app:1"
    put(ns, name, one)
    masu.registry.push(ns, name, rules=PLAIN, policy=QUICK)
    # Another form of the same image, made by somebody else: Docker's media types.
    target = f"docker://{registry.host}/team/docker:1"
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2", f"docker://{name}", target)
    pulled = masu.registry.pull(ns, f"{registry.host}/team/docker:1", rules=PLAIN, policy=QUICK)
    assert pulled.target.media_type == fake.DOCKER_MANIFEST


def test_an_index_goes_whole(registry: DockerRegistry, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    both = index({"linux/amd64": sample(), "linux/arm64": image([{"a": b"arm"}], architecture="arm64")})
    name = f"{registry.host}/team/app:1"
    put(ns, name, both)
    assert masu.registry.push(ns, name, rules=PLAIN, policy=QUICK).digest == both.digest
    assert json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")) == json.loads(both.manifest)
    for platform in ("linux/amd64", "linux/arm64"):
        pulled = masu.registry.pull(fresh, name, platform=platform, rules=PLAIN, policy=QUICK)
        assert pulled.config.architecture == platform.split("/")[1]
    # What came platform by platform is whole again.
    assert (
        masu.registry.push(fresh, f"{registry.host}/b:1", source=name, rules=PLAIN, policy=QUICK).digest == both.digest
    )


def test_of_an_index_what_is_here(registry: DockerRegistry, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    amd, arm = sample(), image([{"a": b"arm"}], architecture="arm64")
    name = f"{registry.host}/team/app:1"
    put(ns, name, index({"linux/amd64": amd, "linux/arm64": arm}))
    assert masu.registry.push(ns, f"{registry.host}/arm:1", source=name, platform="linux/arm64", rules=PLAIN) == (
        _child(ns, name, arm)
    )
    masu.registry.push(ns, name, rules=PLAIN, policy=QUICK)
    masu.registry.pull(fresh, name, platform="linux/arm64", rules=PLAIN, policy=QUICK)
    pushed = masu.registry.push(fresh, f"{registry.host}/c:1", source=name, rules=PLAIN, policy=QUICK)
    assert pushed.digest == arm.digest
    with pytest.raises(FailedPrecondition, match="blobs are not here"):
        masu.registry.push(fresh, f"{registry.host}/c:1", source=name, platform="linux/amd64", rules=PLAIN)


def _child(ns: NamespaceStore, name: str, one: TestImage) -> Descriptor:
    (found,) = [d for d, _ in graph.manifests(ns, ns.images.get(name).target) if d.digest == one.digest]
    return found


def test_blobs_are_sent_once_and_mounted_elsewhere(registry: DockerRegistry, ns: NamespaceStore) -> None:
    one = sample()
    with FaultyProxy(registry) as proxy:
        name = f"{proxy.host}/team/app:1"
        put(ns, name, one)
        masu.registry.push(ns, name, rules=PLAIN, policy=QUICK)
        proxy.requests.clear()
        masu.registry.push(ns, f"{proxy.host}/team/app:2", source=name, rules=PLAIN, policy=QUICK)
        assert proxy.count("/blobs/uploads/", "POST") == 0
        proxy.requests.clear()
        masu.registry.push(ns, f"{proxy.host}/other/app:1", source=name, rules=PLAIN, policy=QUICK)
        assert proxy.count("mount=", "POST") == len(one.blobs)
        assert proxy.count("/blobs/", "PUT") + proxy.count("/blobs/", "PATCH") == 0
        # A pull remembers where blobs are, too; a mount that is refused becomes an upload.
        proxy.requests.clear()
        proxy.fault("mount=", fake.status(403), times=100)
        masu.registry.push(ns, f"{proxy.host}/third:1", source=name, rules=PLAIN, policy=QUICK)
        assert proxy.count("/blobs/", "PUT") == len(one.blobs)


def test_uploads_in_pieces(registry: DockerRegistry, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    one = sample()
    with FaultyProxy(registry) as proxy:
        name = f"{proxy.host}/team/app:1"
        put(ns, name, one)
        masu.registry.push(ns, name, rules=PLAIN, policy=QUICK, chunk_bytes=1 << 20)
        big = one.layers[0]
        pieces = [s.headers["Content-Range"] for s in proxy.requests if s.method == "PATCH"]
        size = len(one.blobs[big])
        assert pieces == ["0-1048575", "1048576-2097151", "2097152-3145727", f"3145728-{size - 1}"]
        masu.registry.pull(fresh, name, rules=PLAIN, policy=QUICK)


@pytest.mark.parametrize("chunk_bytes", [None, 1 << 20])
@pytest.mark.parametrize("part", ["POST ", "PATCH ", "PUT /v2/team/app/blobs", "PUT /v2/team/app/manifests", "HEAD "])
@pytest.mark.parametrize("fault", [fake.drop(), fake.status(503, {"Retry-After": "0"}), fake.Refused(503)])
def test_uploads_survive(
    registry: DockerRegistry, ns: NamespaceStore, fresh: NamespaceStore, chunk_bytes: int | None, part: str, fault: Any
) -> None:
    one = sample()
    with FaultyProxy(registry) as proxy:
        name = f"{proxy.host}/team/app:1"
        put(ns, name, one)
        proxy.fault(part, fault, times=2)
        masu.registry.push(ns, name, rules=PLAIN, policy=QUICK, chunk_bytes=chunk_bytes)
    masu.registry.pull(fresh, f"{registry.host}/team/app:1", rules=PLAIN, policy=QUICK)


def test_a_broken_piece_is_gone_on_with(registry: DockerRegistry, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    one = sample()
    with FaultyProxy(registry) as proxy:
        name = f"{proxy.host}/team/app:1"
        put(ns, name, one)
        proxy.fault("PATCH ", fake.BrokenUpload(500_000))
        proxy.fault("PUT /v2/team/app/blobs", fake.BrokenUpload(0))
        masu.registry.push(ns, name, rules=PLAIN, policy=QUICK, chunk_bytes=1 << 20)
    masu.registry.pull(fresh, f"{registry.host}/team/app:1", rules=PLAIN, policy=QUICK)


@pytest.mark.parametrize("chunk_bytes", [None, 1 << 20])
def test_a_lost_answer_costs_no_second_upload(
    registry: DockerRegistry, ns: NamespaceStore, chunk_bytes: int | None
) -> None:
    one = sample()
    with FaultyProxy(registry) as proxy:
        name = f"{proxy.host}/team/app:1"
        put(ns, name, one)
        # The proxy hands the request on before it hangs up.
        proxy.fault(f"digest={one.layers[0].replace(':', '%3A')}", fake.drop())
        masu.registry.push(ns, name, rules=PLAIN, policy=QUICK, chunk_bytes=chunk_bytes)
        assert proxy.count("/blobs/uploads/", "POST") == len(one.blobs)


def test_a_registry_that_takes_no_pieces(registry: DockerRegistry, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    one = sample()
    with FaultyProxy(registry) as proxy:
        name = f"{proxy.host}/team/app:1"
        put(ns, name, one)
        proxy.fault("PATCH ", fake.status(405), times=100)
        masu.registry.push(ns, name, rules=PLAIN, policy=QUICK, chunk_bytes=1 << 20)
    masu.registry.pull(fresh, f"{registry.host}/team/app:1", rules=PLAIN, policy=QUICK)


def test_a_push_that_cannot_end(registry: DockerRegistry, ns: NamespaceStore) -> None:
    one = sample()
    with FaultyProxy(registry) as proxy:
        name = f"{proxy.host}/team/app:1"
        put(ns, name, one)
        proxy.fault("PUT ", fake.Refused(503), times=1000)
        with pytest.raises(Unavailable):
            masu.registry.push(ns, name, rules=PLAIN, policy=QUICK)
    with pytest.raises(NotFound):
        masu.registry.resolve(f"{registry.host}/team/app:1", rules=PLAIN, policy=QUICK)


def test_basic_authentication(tmp_path: Path, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    one = sample()
    with DockerRegistry(tmp_path, htpasswd=True) as registry:
        name = f"{registry.host}/team/app:1"
        put(ns, name, one)
        with pytest.raises(PermissionDenied, match="no credentials"):
            masu.registry.push(ns, name, rules=PLAIN, policy=QUICK)
        with pytest.raises(PermissionDenied, match="refused"):
            masu.registry.push(ns, name, rules=PLAIN, policy=QUICK, auth=Credentials(fake.USER, "wrong"))
        masu.registry.push(ns, name, rules=PLAIN, policy=QUICK, auth=ME)
        # As docker login and podman login leave them.
        auth = tmp_path / "auth.json"
        login = ["login", "--tls-verify=false", "--authfile", str(auth), "-u", fake.USER, "-p", fake.PASSWORD]
        skopeo(*login, registry.host)
        os.environ["REGISTRY_AUTH_FILE"] = str(auth)
        try:
            assert masu.registry.pull(fresh, name, rules=PLAIN, policy=QUICK).target.digest == one.digest
        finally:
            del os.environ["REGISTRY_AUTH_FILE"]


def test_token_authentication(tmp_path: Path, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    one = sample()
    signer = JwtSigner(tmp_path)
    with FaultyRegistry() as server:
        authority = TokenAuthority(server)
        authority.make_token = signer.token
        token = (f"{server.url}/token", signer.SERVICE, signer.ISSUER, signer.bundle)
        with DockerRegistry(tmp_path, token=token) as registry:
            name = f"{registry.host}/team/app:1"
            put(ns, name, one)
            with pytest.raises(PermissionDenied):
                masu.registry.push(ns, name, rules=PLAIN, policy=QUICK)
            masu.registry.push(ns, name, rules=PLAIN, policy=QUICK, auth=ME)
            masu.registry.push(ns, f"{registry.host}/other:1", source=name, rules=PLAIN, policy=QUICK, auth=ME)
            pulled = masu.registry.pull(fresh, name, rules=PLAIN, policy=QUICK, auth=ME)
            assert pulled.target.digest == one.digest
            asked = {scope for query in authority.issued for scope in query.get("scope", [])}
            assert asked == {
                "repository:team/app:pull,push",
                "repository:team/app:pull",
                "repository:other:pull,push",
            }


def test_https(tmp_path: Path, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    one = sample()
    ca = fake.make_ca(tmp_path / "ca")
    with DockerRegistry(tmp_path, tls=fake.make_certificate(tmp_path / "ca")) as registry:
        name = f"{registry.host}/team/app:1"
        put(ns, name, one)
        with pytest.raises(FailedPrecondition) as caught:
            masu.registry.push(ns, name, rules=PLAIN, policy=QUICK)
        assert "certificate not trusted" in str(caught.value)
        assert "certs.d" in str(caught.value)
        certificates = tmp_path / "certs.d" / registry.host
        certificates.mkdir(parents=True)
        (certificates / "ca.crt").write_bytes(ca.read_bytes())
        trusting = Rules(certificate_dirs=(str(tmp_path / "certs.d"),), hosts_dirs=())
        masu.registry.push(ns, name, rules=trusting, policy=QUICK)
        assert masu.registry.pull(fresh, name, rules=PLAIN, policy=QUICK, insecure=True).target.digest == one.digest
        # For another name the same certificate is not good.
        other = f"127.0.0.2:{registry.port}"
        trusting = Rules((), (str(tmp_path / "certs.d"),), ())
        with pytest.raises((Unavailable, FailedPrecondition)):
            masu.registry.pull(fresh, f"{other}/team/app:1", rules=trusting, policy=QUICK)


def test_client_certificates(tmp_path: Path, ns: NamespaceStore) -> None:
    one = sample()
    ca = fake.make_ca(tmp_path / "ca")
    server = fake.make_certificate(tmp_path / "ca")
    client = fake.make_certificate(tmp_path / "ca", "client")
    with DockerRegistry(tmp_path, tls=server, client_ca=ca) as registry:
        name = f"{registry.host}/team/app:1"
        put(ns, name, one)
        certificates = tmp_path / "certs.d" / registry.host
        certificates.mkdir(parents=True)
        (certificates / "ca.crt").write_bytes(ca.read_bytes())
        rules = Rules(certificate_dirs=(str(tmp_path / "certs.d"),), hosts_dirs=())
        with pytest.raises((FailedPrecondition, Unavailable)):
            masu.registry.push(ns, name, rules=rules, policy=QUICK)
        (certificates / "me.cert").write_bytes(client[0].read_bytes())
        (certificates / "me.key").write_bytes(client[1].read_bytes())
        masu.registry.push(ns, name, rules=rules, policy=QUICK)


def test_a_mirror_with_its_own_ca(tmp_path: Path, ns: NamespaceStore, fresh: NamespaceStore) -> None:
    ca = fake.make_ca(tmp_path / "ca")
    one = sample()
    with DockerRegistry(tmp_path, tls=fake.make_certificate(tmp_path / "ca")) as registry:
        put(ns, "docker.io/library/redis:latest", one)
        file = tmp_path / "registries.toml"
        file.write_text(
            f'[[registry]]\nname = "*"\nfallback = false\n[[registry.mirror]]\nurl = "{registry.url}"\n'
            f'ca = "{ca}"\npush = true\n'
        )
        rules = masu.registry.rules_from(str(file))
        masu.registry.push(ns, "redis", rules=rules, policy=QUICK)
        assert masu.registry.pull(fresh, "redis", rules=rules, policy=QUICK).name == "docker.io/library/redis:latest"


def test_a_missing_ca_file_is_named(tmp_path: Path, ns: NamespaceStore) -> None:
    rules = Rules(certificate_dirs=(), hosts_dirs=())
    assert rules.endpoints("localhost:1")[0].tls == Tls()
    file = tmp_path / "registries.toml"
    file.write_text('[[registry]]\nname = "*"\n[[registry.mirror]]\nurl = "https://127.0.0.1:1"\nca = "nowhere.pem"\n')
    with pytest.raises(Exception, match=r"nowhere\.pem"):
        masu.registry.pull(ns, "127.0.0.1:1/x", rules=masu.registry.rules_from(str(file)), policy=QUICK)


def test_deleted_tags_leave_an_empty_list(registry: DockerRegistry, ns: NamespaceStore) -> None:
    name = f"{registry.host}/team/app:1"
    put(ns, name, sample())
    with pytest.raises(NotFound):
        masu.registry.tags(name, rules=PLAIN, policy=QUICK)
    masu.registry.push(ns, name, rules=PLAIN, policy=QUICK)
    skopeo("delete", "--tls-verify=false", f"docker://{name}")
    assert masu.registry.tags(name, rules=PLAIN, policy=QUICK) == []
