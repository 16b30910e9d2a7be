"""Image documents: OCI's and Docker's, good ones read and written back, bad ones refused."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from masu.errors import InvalidArgument, MasuError, ResourceExhausted, Unimplemented
from masu.spec import image
from masu.spec.image import ContainerConfig, Descriptor, Index, Manifest
from masu.spec.platform import Platform

SHA = "sha256:" + "ab" * 32


def descriptor(media_type: str = image.MEDIA_TYPE_LAYER_GZIP, **more: object) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": SHA, "size": 7, **more}


def manifest(**more: object) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": image.MEDIA_TYPE_MANIFEST,
        "config": descriptor(image.MEDIA_TYPE_CONFIG),
        "layers": [descriptor()],
        **more,
    }


def index(**more: object) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": image.MEDIA_TYPE_INDEX,
        "manifests": [
            descriptor(
                image.MEDIA_TYPE_MANIFEST,
                platform={
                    "architecture": "arm",
                    "os": "linux",
                    "os.version": "5",
                    "os.features": ["x"],
                    "variant": "v7",
                },
            )
        ],
        **more,
    }


CONFIG: dict[str, Any] = {
    "created": "2015-10-31T22:22:56.015925234Z",
    "author": "Alyssa P. Hacker",
    "architecture": "amd64",
    "os": "linux",
    "os.version": "1",
    "os.features": ["f"],
    "variant": "v2",
    "config": {
        "User": "alice:staff",
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
        "Env": ["PATH=/bin", "EMPTY="],
        "Entrypoint": ["/bin/app"],
        "Cmd": ["--foreground", ""],
        "Volumes": {"/data": {}},
        "WorkingDir": "/home/alice",
        "Labels": {"a.b": "c", "empty": ""},
        "StopSignal": "SIGRTMIN+3",
        "StopTimeout": 5,
        "ArgsEscaped": True,
        "Healthcheck": {
            "Test": ["CMD-SHELL", "true"],
            "Interval": 30000000000,
            "Timeout": 1,
            "StartPeriod": 2,
            "StartInterval": 3,
            "Retries": 4,
        },
        "Shell": ["/bin/sh", "-c"],
        "OnBuild": ["RUN x"],
    },
    "rootfs": {"type": "layers", "diff_ids": [SHA, SHA]},
    "history": [
        {"created": "2015-10-31T22:22:54Z", "created_by": "ADD x", "author": "a", "comment": "c", "empty_layer": True},
        {"created_by": "RUN y"},
    ],
}


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def refused(kind: type[MasuError], data: bytes, media_type: str = "") -> MasuError:
    with pytest.raises(kind) as caught:
        image.parse_document(data, media_type, name="sha256:…")
    assert str(caught.value).isprintable()
    return caught.value


def test_manifest() -> None:
    data = manifest(
        annotations={"k": "v"},
        subject=descriptor(image.MEDIA_TYPE_MANIFEST),
        artifactType="application/x",
    )
    parsed = image.parse_manifest(text(data), image.MEDIA_TYPE_MANIFEST)
    assert parsed.config == Descriptor(image.MEDIA_TYPE_CONFIG, SHA, 7)
    assert [layer.digest for layer in parsed.layers] == [SHA]
    assert parsed.annotations == {"k": "v"}
    assert parsed.subject is not None
    assert parsed.artifact_type == "application/x"
    assert parsed.to_json() == data


def test_manifest_of_docker() -> None:
    data = manifest(
        mediaType=image.MEDIA_TYPE_DOCKER_MANIFEST,
        config=descriptor(image.MEDIA_TYPE_DOCKER_CONFIG),
        layers=[descriptor(image.MEDIA_TYPE_DOCKER_LAYER_GZIP)],
    )
    for media_type in (image.MEDIA_TYPE_DOCKER_MANIFEST, "", "application/json"):
        assert image.parse_manifest(text(data), media_type).to_json() == data


def test_manifest_without_a_media_type_of_its_own() -> None:
    data = manifest()
    del data["mediaType"]
    assert isinstance(image.parse_document(text(data)), Manifest)
    assert isinstance(image.parse_document(text(data), image.MEDIA_TYPE_MANIFEST), Manifest)


def test_manifest_without_layers() -> None:
    # Go writes a nil slice as null.
    assert image.parse_manifest(text(manifest(layers=None))).layers == ()
    assert image.parse_manifest(text(manifest(layers=[]))).layers == ()


def test_index() -> None:
    data = index(annotations={"k": "v"}, subject=descriptor(image.MEDIA_TYPE_MANIFEST), artifactType="application/x")
    parsed = image.parse_index(text(data), image.MEDIA_TYPE_INDEX)
    assert str(parsed.manifests[0].platform) == "linux(5+x)/arm/v7"
    assert parsed.to_json() == data
    assert isinstance(image.parse_document(text(data)), Index)


def test_index_of_docker() -> None:
    data = index(mediaType=image.MEDIA_TYPE_DOCKER_LIST)
    assert image.parse_index(text(data), image.MEDIA_TYPE_DOCKER_LIST).to_json() == data


def test_empty_index() -> None:
    empty: list[object] | None
    for empty in ([], None):
        assert image.parse_index(text(index(manifests=empty)), image.MEDIA_TYPE_INDEX).manifests == ()


def test_image_config() -> None:
    parsed = image.parse_image_config(text(CONFIG))
    assert parsed.to_json() == CONFIG
    assert str(parsed.platform) == "linux(1+f)/amd64/v2"
    assert parsed.config.exposed_ports == ("8080/tcp", "53/udp")
    assert parsed.config.volumes == ("/data",)
    assert parsed.config.labels == {"a.b": "c", "empty": ""}
    assert parsed.config.healthcheck is not None
    assert parsed.config.healthcheck.interval == 30_000_000_000
    assert parsed.rootfs.diff_ids == (SHA, SHA)
    assert parsed.history[0].empty_layer
    assert parsed.history[1].created is None


def test_image_config_as_docker_writes_it() -> None:
    # null for what is empty, and fields of the engine that built it.
    data = {
        "architecture": "amd64",
        "os": "linux",
        "container": "abc",
        "docker_version": "20.10",
        "container_config": {"Cmd": ["x"]},
        "config": {
            "Hostname": "",
            "AttachStdin": False,
            "Cmd": None,
            "Entrypoint": None,
            "Env": None,
            "Labels": None,
            "Volumes": None,
            "Image": "sha256:x",
        },
        "rootfs": {"type": "layers", "diff_ids": None},
        "history": None,
    }
    parsed = image.parse_image_config(text(data))
    assert parsed.config == ContainerConfig()
    assert parsed.rootfs.diff_ids == ()


def test_image_config_of_nothing() -> None:
    parsed = image.parse_image_config(text({"rootfs": {"type": "layers", "diff_ids": []}, "config": None}))
    assert parsed.config == ContainerConfig()
    assert str(parsed.platform) == "unknown"


def test_descriptor_with_data() -> None:
    content = b"{}\xff"
    data = descriptor(data=base64.b64encode(content).decode(), size=3, urls=["https://x"], artifactType="a/b")
    parsed = image.parse_descriptor(data)
    assert parsed.data == content
    assert parsed.to_json() == data


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"digest": "sha256:../../etc"}, "target.digest"),
        ({"digest": SHA.upper()}, "target.digest"),
        ({"digest": None}, "target.digest"),
        ({"size": -1}, "target.size"),
        ({"size": 1 << 63}, "target.size"),
        ({"size": 1.5}, "target.size"),
        ({"size": "7"}, "target.size"),
        ({"size": None}, "target.size"),
        ({"mediaType": None}, "target.mediaType"),
        ({"mediaType": "a/b\r\nX: y"}, "target.mediaType"),
        ({"mediaType": "a" * 256}, "target.mediaType"),
        ({"data": "e30="}, "target.size"),
        ({"data": "e30", "size": 2}, "target.data"),
        ({"data": "é", "size": 2}, "target.data"),
        ({"urls": "https://x"}, "target.urls"),
        ({"annotations": {"a": 1}}, "target.annotations.a"),
        ({"annotations": {"a": "b\0"}}, "target.annotations.a"),
        ({"platform": {"architecture": 1}}, "target.platform.architecture"),
    ],
)
def test_descriptor_refused(change: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        image.parse_descriptor({**descriptor(), **change}, "target")
    assert caught.value.where == where


def entry_of_index(platform: Platform) -> Descriptor:
    return Descriptor(image.MEDIA_TYPE_MANIFEST, SHA, 1, platform=platform)


# CVE-2021-41190: one document, two readings.
@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        (manifest(manifests=[descriptor()]), ""),
        (manifest(manifests=[descriptor()]), image.MEDIA_TYPE_MANIFEST),
        (manifest(manifests=[]), image.MEDIA_TYPE_MANIFEST),
        (index(layers=[descriptor()]), image.MEDIA_TYPE_INDEX),
        (index(config=descriptor()), ""),
        (manifest(), image.MEDIA_TYPE_INDEX),
        (index(), image.MEDIA_TYPE_MANIFEST),
        (manifest(), image.MEDIA_TYPE_DOCKER_MANIFEST),
        (manifest(mediaType=image.MEDIA_TYPE_INDEX), ""),
        (manifest(mediaType=image.MEDIA_TYPE_INDEX), image.MEDIA_TYPE_MANIFEST),
        (index(mediaType=image.MEDIA_TYPE_MANIFEST), image.MEDIA_TYPE_INDEX),
        ({**manifest(), "mediaType": None}, image.MEDIA_TYPE_INDEX),
        ({**index(), "mediaType": None}, image.MEDIA_TYPE_DOCKER_MANIFEST),
    ],
)
def test_ambiguous(document: dict[str, object], media_type: str) -> None:
    refused(InvalidArgument, text(document), media_type)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"null", image.MEDIA_TYPE_MANIFEST),
        (b"{}", ""),
        (b"{}", image.MEDIA_TYPE_MANIFEST),
        (b"{}", image.MEDIA_TYPE_INDEX),
        (text({"mediaType": 7}), ""),
        (text(CONFIG), ""),
        (text(manifest(schemaVersion=None)), ""),
        (text(manifest(schemaVersion=3)), ""),
        (text(manifest(schemaVersion="2")), ""),
        (text(manifest(config=None)), ""),
        (text({k: v for k, v in manifest().items() if k != "layers"}), ""),
        (text(manifest(layers={})), ""),
        (text(manifest(layers=[None])), ""),
        (text(manifest(layers=[descriptor()] * (image.MAX_LAYERS + 1))), ""),
    ],
)
def test_document_refused(data: bytes, media_type: str) -> None:
    refused(InvalidArgument, data, media_type)


def test_the_wrong_kind_is_named() -> None:
    with pytest.raises(InvalidArgument, match="found index"):
        image.parse_manifest(text(index()))
    with pytest.raises(InvalidArgument, match="found manifest"):
        image.parse_index(text(manifest()))


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, ""),
        ({"schemaVersion": 1}, ""),
        (manifest(), image.MEDIA_TYPES_SCHEMA1[1]),
    ],
)
def test_schema_1(document: dict[str, object], media_type: str) -> None:
    assert "obsolete" in str(refused(Unimplemented, text(document), media_type))


def test_size_is_bounded() -> None:
    refused(ResourceExhausted, b" " * (image.MAX_DOCUMENT_BYTES + 1))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"rootfs": None}, "rootfs"),
        ({"rootfs": {"type": "zip", "diff_ids": []}}, "rootfs.type"),
        ({"rootfs": {"diff_ids": []}}, "rootfs.type"),
        ({"rootfs": {"type": "layers", "diff_ids": ["../x"]}}, "rootfs.diff_ids[0]"),
        ({"rootfs": {"type": "layers", "diff_ids": [SHA] * 1025}}, "rootfs.diff_ids"),
        ({"history": [{}] * 16385}, "history"),
        ({"config": {"Env": ["A=\0"]}}, "config.Env[0]"),
        ({"config": {"Cmd": "sh"}}, "config.Cmd"),
        ({"config": {"Volumes": ["/x"]}}, "config.Volumes"),
        ({"config": {"Healthcheck": {"Interval": "1s"}}}, "config.Healthcheck.Interval"),
        ({"os": 1}, "os"),
    ],
)
def test_image_config_refused(change: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        image.parse_image_config(text({**CONFIG, **change}))
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        ("application/vnd.oci.image.layer.v1.tar", ""),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip"),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "gzip"),
        ("application/vnd.docker.image.rootfs.diff.tar", ""),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", "zstd"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "gzip"),
    ],
)
def test_layer_media_types(media_type: str, compression: str) -> None:
    assert image.layer_compression(media_type) == compression
    assert image.is_layer(media_type)
    assert image.is_nondistributable(media_type) == ("foreign" in media_type or "nondistributable" in media_type)


def test_what_is_no_layer() -> None:
    assert not image.is_layer(image.MEDIA_TYPE_CONFIG)
    with pytest.raises(InvalidArgument):
        image.layer_compression("application/vnd.cncf.helm.chart.content.v1.tar+gzip")


def test_chain_ids() -> None:
    a, b, c = ("sha256:" + digit * 64 for digit in "abc")
    ab = "sha256:" + hashlib.sha256(f"{a} {b}".encode()).hexdigest()
    abc = "sha256:" + hashlib.sha256(f"{ab} {c}".encode()).hexdigest()
    assert image.chain_ids((a, b, c)) == [a, ab, abc]
    assert image.chain_ids(()) == []
