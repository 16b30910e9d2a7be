"""Transfers, as ctr 2.x asks for them: pull, push, tag, import, export, credentials, progress; on named streams."""

from __future__ import annotations

import hashlib
import io
import json
import queue
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import images
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from harness.callers.archives import archive, derived
from harness.engine import Masu
from harness.grpcclient import Client
from harness.masud import Masud
from registryfixture import PASSWORD, USER, DockerRegistry, docker_registry

from masu.api.proto import streaming_pb2, transfer_pb2, types_pb2
from masu.api.proto import transfer_types_pb2 as types
from masu.spec.platform import host

pytestmark = pytest.mark.root

STREAMING = streaming_pb2.DESCRIPTOR.services_by_name["Streaming"]
TRANSFER = transfer_pb2.DESCRIPTOR.services_by_name["Transfer"]
HERE = types_pb2.Platform(os=host().os, architecture=host().architecture)


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masud]:
    with Masud(tmp_path_factory.mktemp("masud")) as it:
        yield it


@pytest.fixture
def client(masud: Masud) -> Iterator[Client]:
    with Client(masud.socket) as it:
        yield it


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if docker_registry() is None:
        pytest.skip("docker-registry is not installed")
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as it:
        images.push("busybox", it.host)
        yield it.host


def packed(message: Any) -> AnyMessage:
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


class Stream:
    """A named stream, the client's side of it."""

    def __init__(self, client: Client, id: str) -> None:
        self.id = id
        self._sending: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.send(streaming_pb2.StreamInit(id=id))
        self.incoming = client(STREAMING, "Stream", iter(self._sending.get, None))
        assert next(self.incoming).type_url == "google.protobuf.Empty"

    def send(self, message: Any) -> None:
        self._sending.put(packed(message))

    def end(self) -> None:
        self._sending.put(None)


def transfer(client: Client, source: Any, destination: Any, *, progress: str = "") -> None:
    options = transfer_pb2.TransferOptions(progress_stream=progress)
    request = transfer_pb2.TransferRequest(source=packed(source), destination=packed(destination), options=options)
    client(TRANSFER, "Transfer", request, timeout_s=120)


def code(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code().name, error.details()


def registry_of(name: str, **resolver: Any) -> types.OCIRegistry:
    return types.OCIRegistry(reference=name, resolver=types.RegistryResolver(**resolver))


def store(name: str, **more: Any) -> types.ImageStore:
    return types.ImageStore(name=name, platforms=[HERE], **more)


UNPACK = [types.UnpackConfiguration(platform=HERE, snapshotter="overlayfs")]


def test_pull_with_progress(client: Client, masud: Masud, registry: str) -> None:
    name = f"{registry}/library/busybox:latest"
    stream = Stream(client, "progress-1")
    transfer(client, registry_of(name), store(name, labels={"a": "b"}, unpacks=UNPACK), progress=stream.id)
    said = [types.Progress.FromString(each.value) for each in stream.incoming]
    events = [each.event for each in said]
    assert events[:3] == [
        f"Resolving from OCI Registry ({name})",
        f"Pulling from OCI Registry ({name})",
        "fetching image content",
    ]
    # And something with a name after it, without which ctr would not draw the last line.
    assert events[-3:-1] == ["saved", f"Completed pull from OCI Registry ({name})"]
    assert events[-1] in ("complete", "extracted")
    of_layer = [each for each in said if each.name.startswith("layer-")]
    assert {"waiting", "complete", "extracting", "extracted"} <= {each.event for each in of_layer}
    (manifest,) = {each.name for each in said if each.name.startswith("manifest-")}
    assert all(each.total == each.desc.size > 0 and list(each.parents) == [manifest] for each in of_layer)
    assert [list(each.parents) for each in said if each.name == manifest] == [[name]]
    (line,) = masud("images", "ls", f"name=={name}").splitlines()[1:]
    assert line.split()[-1] == "a=b"
    assert "complete" in masud("images", "check", f"name=={name}")
    assert "Committed" in masud("snapshots", "ls")


def test_what_is_told_of_other_platforms(client: Client, masud: Masud, registry: str, tmp_path: Path) -> None:
    """`all_metadata`, which is what ctr asks for: without it an image of several platforms cannot be listed whole."""
    _two_platforms(tmp_path)
    named = types.ImageReference(name="x", is_prefix=True, allow_overwrite=True)
    _import(client, (tmp_path / "two.tar").read_bytes(), types.ImageStore(extra_references=[named]))
    name = f"{registry}/two/two:1"
    stream = Stream(client, "progress-push")
    transfer(client, types.ImageStore(name="two.example/two:1"), registry_of(name), progress=stream.id)
    pushed = [types.Progress.FromString(each.value) for each in stream.incoming]
    assert _tree(pushed, "two.example/two:1") == {"index": 1, "manifest": 2, "config": 2, "layer": 2}
    masud("images", "rm", "--sync", "two.example/two:1")
    stream = Stream(client, "progress-pull")
    transfer(client, registry_of(name), store(name, all_metadata=True, unpacks=UNPACK), progress=stream.id)
    pulled = [types.Progress.FromString(each.value) for each in stream.incoming]
    assert _tree(pulled, name) == {"index": 1, "manifest": 2, "config": 2, "layer": 2}
    assert masud("images", "ls", f"name=={name}").splitlines()[1].split()[5].split(",") == [
        f"linux/{HERE.architecture}", "linux/s390x",
    ]  # fmt: skip
    masud("images", "rm", "--sync", name)


def _tree(said: list[Any], root: str) -> dict[str, int]:
    """How many there are of each kind, each told after what it is below."""
    known: dict[str, set[str]] = {"": {root}}
    for each in said:
        if each.desc.digest and each.name != root:
            kind = each.name.partition("-")[0]
            assert set(each.parents) <= set().union(*known.values()), each
            known.setdefault(kind, set()).add(each.name)
    return {kind: len(names) for kind, names in known.items() if kind}


def test_all_platforms_and_more_names(client: Client, masud: Masud, registry: str) -> None:
    name = f"{registry}/library/busybox:latest"
    more = [types.ImageReference(name="busybox", is_prefix=True, add_digest=True), types.ImageReference(name="other:1")]
    transfer(client, registry_of(name), types.ImageStore(name="mine:1", extra_references=more, unpacks=UNPACK))
    found = masud("images", "ls", "name~=^(busybox@|mine|other)").splitlines()[1:]
    assert sorted(line.split()[0].partition("@")[0] for line in found) == ["busybox", "mine:1", "other:1"]
    # Those beside the first name go with it.
    masud("images", "rm", "--sync", "mine:1")
    assert masud("images", "ls", "-q", "name~=^(busybox@|mine|other)") == ""


def test_push_and_tag(client: Client, masud: Masud, registry: str) -> None:
    name = f"{registry}/library/busybox:latest"
    transfer(client, registry_of(name), store(name))
    transfer(client, store(name), store("tagged:1"))
    stream = Stream(client, "progress-2")
    target = f"{registry}/pushed/by-transfer:1"
    transfer(client, store("tagged:1"), registry_of(target), progress=stream.id)
    events = [types.Progress.FromString(each.value).event for each in stream.incoming]
    assert (events[0], events[-2]) == (
        f"Pushing to OCI Registry ({target})",
        f"Completed push to OCI Registry ({target})",
    )
    transfer(client, registry_of(target), store(target))
    lines = masud("images", "ls").splitlines()[1:]
    digests = {line.split()[0]: line.split()[2] for line in lines}
    assert digests[target] == digests[name] == digests["tagged:1"]


def test_export_and_import(client: Client, masud: Masud, registry: str) -> None:
    name = f"{registry}/library/busybox:latest"
    transfer(client, registry_of(name), store(name))
    exported = _export(client, name, platforms=[HERE])
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        names = tar.getnames()
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == name
    assert f"blobs/sha256/{index['manifests'][0]['digest'][7:]}" in names

    masud("images", "rm", "--sync", name)
    prefix = [types.ImageReference(name="import-here", is_prefix=True, allow_overwrite=True)]
    _import(client, exported, types.ImageStore(platforms=[HERE], extra_references=prefix, unpacks=UNPACK))
    assert masud("images", "ls", "-q", f"name=={name}").strip() == name
    # A prefix that may not be left has no name for it: nothing is kept.
    masud("images", "rm", "--sync", name)
    narrow = [types.ImageReference(name="import-here", is_prefix=True)]
    _import(client, exported, types.ImageStore(extra_references=narrow))
    assert masud("images", "ls", "-q", f"name=={name}") == ""


def _export(client: Client, name: str, **more: Any) -> bytes:
    stream = Stream(client, f"export-{name}-{more}")
    stream.send(types.WindowUpdate(update=10_000))
    out, left = io.BytesIO(), 10_000
    destination = types.ImageExportStream(stream=stream.id, **more)
    request = transfer_pb2.TransferRequest(source=packed(store(name)), destination=packed(destination))
    pending: Any = client.channel.unary_unary(
        f"/{TRANSFER.full_name}/Transfer", request_serializer=transfer_pb2.TransferRequest.SerializeToString
    ).future(request, metadata=(("containerd-namespace", "default"),))
    for each in stream.incoming:
        data = types.Data.FromString(each.value).data
        left -= len(data)
        assert left >= 0
        assert 0 < len(data) <= 32 << 10
        out.write(data)
        if left < 5_000:
            stream.send(types.WindowUpdate(update=100_000))
            left += 100_000
    pending.result(60)
    return out.getvalue()


def _members(exported: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        return {member.name for member in tar if member.isfile()}


def test_export_of_one_platform(client: Client, masud: Masud, tmp_path: Path) -> None:
    """The index stays what it is; what comes along are the manifests for the platforms that were asked for."""
    target = _two_platforms(tmp_path)
    named = types.ImageReference(name="export-here", is_prefix=True, allow_overwrite=True)
    _import(client, (tmp_path / "two.tar").read_bytes(), types.ImageStore(extra_references=[named]))
    name = "two.example/two:1"
    here = _members(_export(client, name))
    other = _members(_export(client, name, platforms=[types_pb2.Platform(os="linux", architecture="s390x")]))
    every = _members(_export(client, name, all_platforms=True, skip_compatibility_manifest=True))
    assert here | other == every | {"manifest.json"}
    # A manifest and a config are different, the layers and the index the same.
    assert (len(here - other), len(other - here)) == (2, 2)
    assert f"blobs/{target.replace(':', '/')}" in here & other
    assert "manifest.json" not in every
    nowhere = types_pb2.Platform(os="plan9", architecture="s390x")
    assert code(lambda: _export(client, name, platforms=[nowhere]))[0] == "NOT_FOUND"
    masud("images", "rm", "--sync", name)


def test_import_keeps_an_index(client: Client, masud: Masud, tmp_path: Path) -> None:
    """Of an archive for several machines the index is what gets the name, whatever was asked to be unpacked."""
    target = _two_platforms(tmp_path)
    data = (tmp_path / "two.tar").read_bytes()
    named = types.ImageReference(name="import-here", is_prefix=True, allow_overwrite=True, add_digest=True)
    _import(client, data, types.ImageStore(platforms=[HERE], extra_references=[named], unpacks=UNPACK))
    found = {line.split()[0]: line.split() for line in masud("images", "ls", "name~=^(two|import)").splitlines()[1:]}
    whole = f"sha256:{hashlib.sha256((tmp_path / 'two/index.json').read_bytes()).hexdigest()}"
    assert set(found) == {"two.example/two:1", f"import-here@{target}", f"import-here@{whole}"}
    for name, digest in (("two.example/two:1", target), (f"import-here@{whole}", whole)):
        assert found[name][1:3] == ["application/vnd.oci.image.index.v1+json", digest]
        assert found[name][5].split(",") == [f"linux/{HERE.architecture}", "linux/s390x"]
    elsewhere = types_pb2.Platform(os="plan9", architecture=HERE.architecture)
    said = code(lambda: _import(client, data, types.ImageStore(platforms=[elsewhere], extra_references=[named])))
    assert said[0] == "NOT_FOUND"
    masud("images", "rm", "--sync", *found)


def _two_platforms(folder: Path) -> str:
    """two/ and two.tar: an OCI layout with an index of busybox for this machine and for another; its digest."""
    layout = derived("busybox", folder / "two", {}, {"x": "y"})
    index = json.loads((layout / "index.json").read_text())
    (descriptor,) = index["manifests"]

    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    def written(document: object, media_type: str) -> dict[str, object]:
        raw = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        blob(digest).write_bytes(raw)
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}

    manifest = json.loads(blob(descriptor["digest"]).read_text())
    config = json.loads(blob(manifest["config"]["digest"]).read_text())
    config = written({**config, "architecture": "s390x"}, manifest["config"]["mediaType"])
    other = written({**manifest, "config": config}, descriptor["mediaType"])
    here = {key: descriptor[key] for key in ("mediaType", "digest", "size")}
    children = [
        {**here, "platform": {"os": "linux", "architecture": HERE.architecture}},
        {**other, "platform": {"os": "linux", "architecture": "s390x"}},
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    target = written({"schemaVersion": 2, "mediaType": kind, "manifests": children}, kind)
    named = {**target, "annotations": {"io.containerd.image.name": "two.example/two:1"}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    with tarfile.open(folder / "two.tar", "w") as out:
        out.add(layout, ".")
    return str(target["digest"])


def test_import_of_a_docker_archive(client: Client, masud: Masud, tmp_path: Path) -> None:
    masu = Masu(tmp_path)
    masu("save", "-o", str(tmp_path / "docker.tar"), masu.image("busybox"))
    prefix = [types.ImageReference(name="docker.io/library", is_prefix=True)]
    _import(client, (tmp_path / "docker.tar").read_bytes(), types.ImageStore(extra_references=prefix, unpacks=UNPACK))
    (line,) = masud("images", "ls", "name~=library/busybox:latest$").splitlines()[1:]
    assert line.split()[1] == "application/vnd.docker.distribution.manifest.v2+json"
    layers = json.loads(masud("content", "get", line.split()[2]))["layers"]
    assert {each["mediaType"] for each in layers} == {"application/vnd.docker.image.rootfs.diff.tar"}
    _import(
        client,
        (tmp_path / "docker.tar").read_bytes(),
        types.ImageStore(name="packed:1", extra_references=prefix, unpacks=UNPACK),
        force_compress=True,
    )
    (line,) = masud("images", "ls", "name~=library/busybox:latest$").splitlines()[1:]
    layers = json.loads(masud("content", "get", line.split()[2]))["layers"]
    assert {each["mediaType"] for each in layers} == {"application/vnd.docker.image.rootfs.diff.tar.gzip"}
    assert "complete" in masud("images", "check", "name==packed:1")
    assert code(lambda: _import(client, b"no archive", types.ImageStore(name="x:1")))[0] == "FAILED_PRECONDITION"


def test_an_archive_of_several_images_gets_a_name(client: Client, masud: Masud, tmp_path: Path) -> None:
    """`ctr images import --index-name`: the name of an index, which keeps them all."""
    masu = Masu(tmp_path)
    names = [masu.image("busybox"), masu.image("redis")]
    masu("save", "-o", str(tmp_path / "both.tar"), *names)
    _import(client, (tmp_path / "both.tar").read_bytes(), types.ImageStore(name="both:1", unpacks=UNPACK))
    kind, digest = masud("images", "ls", "name==both:1").splitlines()[1].split()[1:3]
    assert kind == "application/vnd.oci.image.index.v1+json"
    masud("leases", "create", "--id", "now")
    masud("leases", "rm", "--sync", "now")
    index = json.loads(masud("content", "get", digest))
    assert [each["annotations"]["io.containerd.image.name"].split("/")[-1] for each in index["manifests"]] == [
        "busybox:latest", "redis:latest",
    ]  # fmt: skip
    assert len(masud("images", "check", "name==both:1").splitlines()) == 2
    for each in index["manifests"]:
        assert json.loads(masud("content", "get", each["digest"]))["layers"]
    masud("images", "rm", "--sync", "both:1")
    assert digest not in masud("content", "ls", "-q")


def _import(client: Client, data: bytes, destination: Any, **more: Any) -> None:
    stream = Stream(client, f"import-{hashlib.sha256(data + destination.SerializeToString()).hexdigest()}")

    def feed() -> None:
        room = 0
        view = memoryview(data)
        while view:
            while room <= 0:
                room += types.WindowUpdate.FromString(next(stream.incoming).value).update
            chunk = view[: min(room, 32 << 10)]
            stream.send(types.Data(data=bytes(chunk)))
            room -= len(chunk)
            view = view[len(chunk) :]
        stream.end()

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        transfer(client, types.ImageImportStream(stream=stream.id, **more), destination)
    finally:
        feeding.join()
        stream.incoming.cancel()


def test_bytes_go_round(client: Client) -> None:
    data = hashlib.sha256(b"seed").digest() * 10_000
    back = Stream(client, "echo-back")
    back.send(types.WindowUpdate(update=1 << 30))
    _import(client, data, types.ImageExportStream(stream=back.id))
    assert b"".join(types.Data.FromString(each.value).data for each in back.incoming) == data


def test_credentials_are_asked_of_the_client(client: Client, masud: Masud, tmp_path: Path) -> None:
    if docker_registry() is None:
        pytest.skip("docker-registry is not installed")
    with DockerRegistry(tmp_path, htpasswd=True) as registry:
        name = f"{registry.host}/private/busybox:1"
        masud("images", "import", "--base-name", "private", str(archive("busybox", tmp_path)))
        source = masud("images", "ls", "-q", "name~=^private").split()[0]
        for password, wanted in (("wrong", "PERMISSION_DENIED"), (PASSWORD, "")):
            stream = Stream(client, f"creds-{password}")
            answer = types.AuthResponse(authType=types.CREDENTIALS, username=USER, secret=password)
            stream.send(answer)
            to = registry_of(name, auth_stream=stream.id)
            if wanted:
                assert code(lambda to=to: transfer(client, store(source), to))[0] == wanted
            else:
                transfer(client, store(source), to)
            asked = types.AuthRequest.FromString(next(stream.incoming).value)
            assert (asked.host, asked.reference) == (registry.host, name)
            stream.incoming.cancel()


def test_hosts_of_a_directory_and_of_the_configuration(registry: str, tmp_path: Path) -> None:
    """A rule for every registry: what is asked of docker.io is answered by the mirror."""
    hosts = tmp_path / "hosts"
    (hosts / "_default").mkdir(parents=True)
    (hosts / "_default/hosts.toml").write_text(f'[host."http://{registry}"]\ncapabilities = ["pull", "resolve"]\n')
    name = "docker.io/library/busybox:latest"
    with Masud(tmp_path) as bare, Client(bare.socket) as client:
        transfer(client, registry_of(name, host_dir=str(hosts)), store(name))
        assert bare("images", "ls", "-q").split() == [name]
    config = f'version = 3\n[plugins."io.containerd.transfer.v1.local"]\nconfig_path = "{hosts}"\n'
    (tmp_path / "configured").mkdir()
    with Masud(tmp_path / "configured", config) as configured, Client(configured.socket) as client:
        transfer(client, registry_of(name), store(name))
        assert configured("images", "ls", "-q").split() == [name]


def test_what_cannot_be(client: Client, registry: str) -> None:
    missing = registry_of(f"{registry}/library/nothing:1")
    assert code(lambda: transfer(client, missing, store("x:1")))[0] == "NOT_FOUND"
    assert code(lambda: transfer(client, store("nothing:1"), store("x:1")))[0] == "NOT_FOUND"
    assert code(lambda: transfer(client, registry_of("a/b:1"), registry_of("c/d:1")))[0] == "UNIMPLEMENTED"
    assert code(lambda: transfer(client, types_pb2.Mount(), store("x:1")))[0] == "UNIMPLEMENTED"
    assert code(lambda: transfer(client, registry_of("Not A Name"), store("x:1")))[0] == "INVALID_ARGUMENT"
    assert code(lambda: transfer(client, store("x:1"), store("y:1"), progress="nobody"))[0] == "NOT_FOUND"
    stream = Stream(client, "twice")
    said = code(lambda: Stream(client, "twice"))
    assert said == ("ALREADY_EXISTS", 'stream "twice": already exists')
    stream.incoming.cancel()
