"""save, load and import: our own archives, and those of skopeo, umoci, podman and buildah, both ways."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from registryfixture import TestImage, digest_of, image, index, layer_tar, random_bytes

from masu.engine import archive
from masu.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    MasuError,
    NotFound,
    ResourceExhausted,
    Unimplemented,
)
from masu.registry import graph
from masu.spec import platform
from masu.spec.image import Descriptor
from masu.store import NamespaceStore, Store, open_store

NAME = "docker.io/library/app:1"


@pytest.fixture
def fresh(tmp_path: Path) -> NamespaceStore:
    return open_store(str(tmp_path / "fresh")).namespace("default")


def put(ns: NamespaceStore, name: str, one: TestImage) -> None:
    with ns.leases.hold("test") as lease:
        for digest, data in one.blobs.items():
            graph.put(ns, data, Descriptor("application/octet-stream", digest, len(data)), {}, lease.id)
        for media_type, raw in [*one.documents.values(), (one.media_type, one.manifest)]:
            descriptor = Descriptor(media_type, digest_of(raw), len(raw))
            graph.put(ns, raw, descriptor, graph.gc_labels(graph.parse_document(raw, descriptor)), lease.id)
        graph.set_image(ns, name, Descriptor(one.media_type, one.digest, len(one.manifest)))


def sample(**options: Any) -> TestImage:
    return image([{"etc/motd": b"hello\n", "big": random_bytes(1 << 20)}, {"etc/motd": b"again\n"}], **options)


def config_of(ns: NamespaceStore, name: str) -> Any:
    ((_, manifest),) = graph.manifests(ns, ns.images.get(name).target)
    return json.loads(ns.content.read(manifest.config.digest, 1 << 20))


def run(*arguments: str, **options: Any) -> str:
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    done: subprocess.CompletedProcess[str] = subprocess.run(
        arguments, capture_output=True, text=True, timeout=180, **options
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


FILES = ("docker-archive", "oci-archive")


@pytest.mark.parametrize("format", archive.FORMATS)
@pytest.mark.parametrize("docker", [False, True])
def test_there_and_back(
    store: Store, ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path, format: str, docker: bool
) -> None:
    one, two = sample(docker=docker), image([{"b": b"2"}], compress=False)
    put(ns, NAME, one)
    put(ns, "quay.io/team/two:v2", two)
    out = str(tmp_path / "out")
    archive.save(ns, [NAME, "quay.io/team/two:v2", NAME], out, format=format)
    assert archive.load(fresh, out) == [NAME, "quay.io/team/two:v2"]
    for name in (NAME, "quay.io/team/two:v2"):
        assert config_of(fresh, name) == config_of(ns, name)
    if format != "docker-archive":
        assert fresh.images.get(NAME).target.digest == one.digest
    assert fresh.content.statuses() == []
    assert fresh.leases.list() == []
    # Everything that was loaded hangs on the two records.
    open_store(str(tmp_path / "fresh")).gc()
    assert not graph.missing(fresh, fresh.images.get(NAME).target)
    assert [p.name for p in tmp_path.glob("*.tmp")] == []


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("pack", [None, lambda d: gzip.compress(d, 1), zstandard.compress])
def test_through_pipes_and_compressions(
    ns: NamespaceStore,
    fresh: NamespaceStore,
    tmp_path: Path,
    format: str,
    pack: Callable[[bytes], bytes] | None,
) -> None:
    put(ns, NAME, sample())
    data = through_pipe(lambda fd: archive.save(ns, [NAME], fd, format=format))
    file = tmp_path / "out.tar"
    archive.save(ns, [NAME], str(file), format=format)
    assert file.read_bytes() == data, "a pipe and a file get the same bytes"
    packed = pack(data) if pack else data
    file.write_bytes(packed)
    assert archive.load(fresh, str(file)) == [NAME]
    reader, writer = os.pipe()

    def feed() -> None:
        with open(writer, "wb") as pipe:
            pipe.write(packed)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        assert archive.load(fresh, reader) == [NAME]
    finally:
        os.close(reader)
        thread.join()


def through_pipe(write: Callable[[int], None]) -> bytes:
    reader, writer = os.pipe()
    found: list[bytes] = []

    def collect() -> None:
        with open(reader, "rb") as pipe:
            found.append(pipe.read())

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        write(writer)
    finally:
        os.close(writer)
        thread.join()
    return found[0]


def test_platforms(ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path) -> None:
    amd, arm = sample(), image([{"a": b"arm"}], architecture="arm64")
    both = index({"linux/amd64": amd, "linux/arm64": arm})
    put(ns, NAME, both)
    out = str(tmp_path / "o")
    archive.save(ns, [NAME], out, format="oci-archive")
    assert archive.load(fresh, out) == [NAME]
    assert fresh.images.get(NAME).target.digest == both.digest
    assert archive.load(fresh, out, platform=platform.parse("linux/arm64")) == [NAME]
    assert fresh.images.get(NAME).target.digest == arm.digest
    with pytest.raises(NotFound):
        archive.load(fresh, out, platform=platform.parse("linux/s390x"))
    archive.save(ns, [NAME], out, format="docker-archive", platform=platform.parse("linux/arm64"))
    archive.load(fresh, out)
    assert config_of(fresh, NAME)["architecture"] == "arm64"
    # Only one platform was pulled: that one is saved.
    for digest in {*arm.blobs, arm.digest}:
        ns.content.delete(digest)
    archive.save(ns, [NAME], out, format="oci-archive")
    archive.load(fresh, out)
    assert fresh.images.get(NAME).target.digest == amd.digest
    with pytest.raises(FailedPrecondition, match="blobs are not here"):
        archive.save(ns, [NAME], out, format="oci-archive", platform=platform.parse("linux/arm64"))


def test_a_layout_that_keeps_the_index_of_all_platforms(
    ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path
) -> None:
    """As docker save with containerd's store writes it: every platform named, one there."""
    amd, arm = sample(), image([{"a": b"arm"}], architecture="arm64")
    both = index({"linux/amd64": amd, "linux/arm64": arm})
    put(ns, NAME, both)
    archive.save(ns, [NAME], str(tmp_path / "l"), format="oci-dir")
    for digest in {arm.digest, *(set(arm.blobs) - set(amd.blobs))}:
        (tmp_path / "l/blobs/sha256" / digest[7:]).unlink()
    assert archive.load(fresh, str(tmp_path / "l")) == [NAME]
    assert fresh.images.get(NAME).target.digest == both.digest
    assert graph.whole(fresh, fresh.images.get(NAME).target, None, NAME).digest == amd.digest


def test_an_existing_layout_is_added_to(ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path) -> None:
    put(ns, NAME, sample())
    put(ns, "docker.io/library/other:1", image([{"b": b"2"}]))
    out = str(tmp_path / "l")
    archive.save(ns, [NAME], out, format="oci-dir")
    archive.save(ns, ["docker.io/library/other:1"], out, format="oci-dir")
    put(ns, "docker.io/library/other:1", image([{"b": b"3"}]))
    # Two images with one tag: a later one of that tag would take the first one's place, so the name tells.
    archive.save(ns, [NAME, "docker.io/library/other:1"], out, format="oci-dir")
    assert set(archive.load(fresh, out)) == {NAME, "docker.io/library/other:1"}
    assert config_of(fresh, "docker.io/library/other:1") == config_of(ns, "docker.io/library/other:1")


def test_images_without_a_name(ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path) -> None:
    one = sample()
    name = f"{archive.DANGLING}@{one.digest}"
    put(ns, name, one)
    for format in archive.FORMATS:
        archive.save(ns, [name], str(tmp_path / format), format=format)
        (loaded,) = archive.load(fresh, str(tmp_path / format))
        assert loaded.startswith(f"{archive.DANGLING}@sha256:")
        assert config_of(fresh, loaded) == config_of(ns, name)


def test_what_cannot_be_saved(ns: NamespaceStore, tmp_path: Path) -> None:
    put(ns, NAME, sample())
    with pytest.raises(NotFound):
        archive.save(ns, ["docker.io/library/none:1"], str(tmp_path / "o"))
    with pytest.raises(InvalidArgument, match="allowed are"):
        archive.save(ns, [NAME], str(tmp_path / "o"), format="zip")
    with pytest.raises(InvalidArgument):
        archive.save(ns, [], str(tmp_path / "o"))
    with pytest.raises(MasuError):
        archive.save(ns, [NAME], str(tmp_path / "no/such/folder"))
    with pytest.raises(ResourceExhausted):
        archive.save(ns, [NAME], "/dev/full")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state"]


def test_a_layer_that_is_not_its_diff_id(ns: NamespaceStore, tmp_path: Path) -> None:
    good = sample()
    data = json.loads(good.manifest)
    data["layers"].reverse()
    raw = json.dumps(data).encode()
    put(ns, NAME, TestImage(good.media_type, raw, good.blobs))
    with pytest.raises(DataLoss, match="of the config"):
        archive.save(ns, [NAME], str(tmp_path / "o"), format="docker-archive")
    assert not (tmp_path / "o").exists()


# --- untrusted archives


def layout(one: TestImage, folder: Path, annotations: dict[str, str] | None = None) -> Path:
    (folder / "blobs/sha256").mkdir(parents=True)
    for digest, data in {**one.blobs, one.digest: one.manifest}.items():
        (folder / "blobs/sha256" / digest[7:]).write_bytes(data)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {**one.descriptor(), "annotations": annotations or {}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


@pytest.mark.parametrize(
    ("annotations", "base", "expected"),
    [
        ({archive.IMAGE_NAME: "docker.io/library/x:1", archive.REF_NAME: "1"}, None, "docker.io/library/x:1"),
        ({archive.REF_NAME: "x:1"}, None, "docker.io/library/x:1"),
        ({archive.REF_NAME: "quay.io/a/b"}, None, "quay.io/a/b:latest"),
        ({archive.REF_NAME: "v1"}, "quay.io/a/b", "quay.io/a/b:v1"),
        ({archive.REF_NAME: "v1"}, None, "docker.io/library/v1:latest"),
        ({archive.REF_NAME: "V1"}, None, ""),
        ({archive.IMAGE_NAME: "quay.io/a/b:1", archive.REF_NAME: "2"}, None, "quay.io/a/b:2"),
        ({archive.IMAGE_NAME: "quay.io/a/b:1", archive.REF_NAME: "quay.io/c:2"}, None, "quay.io/c:2"),
        ({archive.IMAGE_NAME: "quay.io/a/b:1"}, "x:1", "quay.io/a/b:1"),
        ({archive.REF_NAME: "UPPER/Case:1", archive.IMAGE_NAME: "a b\n"}, None, ""),
        ({}, "quay.io/a/b:3", "quay.io/a/b:3"),
        ({}, None, ""),
    ],
)
def test_names_in_a_layout(
    fresh: NamespaceStore, tmp_path: Path, annotations: dict[str, str], base: str | None, expected: str
) -> None:
    one = sample()
    (name,) = archive.load(fresh, str(layout(one, tmp_path / "l", annotations)), name=base)
    assert name == (expected or f"{archive.DANGLING}@{one.digest}")


def test_a_blob_that_is_another(fresh: NamespaceStore, tmp_path: Path) -> None:
    one = sample()
    folder = layout(one, tmp_path / "l")
    blob = folder / "blobs/sha256" / one.layers[0][7:]
    blob.write_bytes(bytes(len(one.blobs[one.layers[0]])))
    with pytest.raises(DataLoss):
        archive.load(fresh, str(folder))
    blob.write_bytes(b"short")
    with pytest.raises(DataLoss, match="the manifest says"):
        archive.load(fresh, str(folder))
    blob.unlink()
    with pytest.raises(NotFound):
        archive.load(fresh, str(folder))
    os.mkfifo(blob)
    with pytest.raises(InvalidArgument, match="not a regular file"):
        archive.load(fresh, str(folder))
    assert fresh.images.list() == []
    assert fresh.content.statuses() == []


def test_links_out_of_a_layout(fresh: NamespaceStore, tmp_path: Path) -> None:
    one = sample()
    folder = layout(one, tmp_path / "l")
    secret = tmp_path / "secret"
    secret.write_bytes(one.blobs[one.layers[0]])
    blob = folder / "blobs/sha256" / one.layers[0][7:]
    for target in (str(secret), "../../../secret"):
        blob.unlink()
        blob.symlink_to(target)
        with pytest.raises(NotFound):
            archive.load(fresh, str(folder))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("oci-layout", "{}", Unimplemented),
        ("oci-layout", '{"imageLayoutVersion": "2.0.0"}', Unimplemented),
        ("index.json", "{", InvalidArgument),
        ("index.json", '{"schemaVersion": 2, "manifests": []}', InvalidArgument),
        ("index.json", " " * (5 << 20), ResourceExhausted),
    ],
)
def test_layouts_that_are_none(
    fresh: NamespaceStore, tmp_path: Path, name: str, content: str, kind: type[MasuError]
) -> None:
    folder = layout(sample(), tmp_path / "l")
    (folder / name).write_text(content)
    with pytest.raises(kind):
        archive.load(fresh, str(folder))


def tar_of(members: dict[str, bytes]) -> bytes:
    return layer_tar(members)


def docker_members(**change: Any) -> dict[str, bytes]:
    layer = layer_tar({"a": b"b"})
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}
    entry = {"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l/layer.tar"], **change}
    return {
        "l/layer.tar": layer,
        "c.json": json.dumps(config).encode(),
        "manifest.json": json.dumps([entry]).encode(),
    }


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"Layers": []}, InvalidArgument),
        ({"Layers": ["../../etc/passwd"]}, NotFound),
        ({"Layers": [1]}, InvalidArgument),
        ({"Config": "../c"}, NotFound),
        ({"Config": None}, InvalidArgument),
        ({"Config": "manifest.json"}, InvalidArgument),
        ({"RepoTags": ["Not A Name"]}, InvalidArgument),
        ({"RepoTags": "app:1"}, InvalidArgument),
        ({"Layers": ["c.json"]}, DataLoss),
    ],
)
def test_docker_archives_that_are_none(
    fresh: NamespaceStore, tmp_path: Path, change: dict[str, Any], kind: type[MasuError]
) -> None:
    file = tmp_path / "d.tar"
    file.write_bytes(tar_of(docker_members(**change)))
    with pytest.raises(kind):
        archive.load(fresh, str(file))
    assert fresh.images.list() == []
    assert fresh.content.statuses() == []
    file.write_bytes(tar_of(docker_members()))
    assert archive.load(fresh, str(file)) == [NAME]


def test_a_docker_archive_with_shared_and_compressed_layers(fresh: NamespaceStore, tmp_path: Path) -> None:
    members = docker_members(RepoTags=None)
    members["l/layer.tar"] = gzip.compress(members["l/layer.tar"])
    (tmp_path / "d.tar").write_bytes(tar_of(members))
    (name,) = archive.load(fresh, str(tmp_path / "d.tar"))
    ((_, manifest),) = graph.manifests(fresh, fresh.images.get(name).target)
    assert manifest.layers[0].media_type.endswith("+gzip")


def test_an_archive_of_before_docker_1_10(fresh: NamespaceStore, tmp_path: Path) -> None:
    low, high = "a" * 64, "b" * 64
    members = {
        f"{low}/layer.tar": layer_tar({"a": b"1"}),
        f"{low}/json": json.dumps({"id": low, "created": "2015-01-01T00:00:00Z"}).encode(),
        f"{high}/layer.tar": layer_tar({"b": b"2"}),
        f"{high}/json": json.dumps(
            {"id": high, "parent": low, "architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]}}
        ).encode(),
        "repositories": json.dumps({"old/app": {"1": high}}).encode(),
    }
    (tmp_path / "d.tar").write_bytes(tar_of(members))
    assert archive.load(fresh, str(tmp_path / "d.tar")) == ["docker.io/old/app:1"]
    config = config_of(fresh, "docker.io/old/app:1")
    assert config["rootfs"]["diff_ids"] == [digest_of(layer_tar({"a": b"1"})), digest_of(layer_tar({"b": b"2"}))]
    assert config["config"] == {"Cmd": ["x"]}
    members[f"{low}/json"] = json.dumps({"parent": high}).encode()
    (tmp_path / "d.tar").write_bytes(tar_of(members))
    with pytest.raises(ResourceExhausted):
        archive.load(fresh, str(tmp_path / "d.tar"))


@pytest.mark.parametrize(
    "data", [b"", b"no archive" * 100, layer_tar({"etc/passwd": b"x"}), gzip.compress(b"x" * 5000)]
)
def test_files_that_are_no_image_archives(fresh: NamespaceStore, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(InvalidArgument):
        archive.load(fresh, str(tmp_path / "x"))
    with pytest.raises(NotFound):
        archive.load(fresh, str(tmp_path / "none"))


# --- import


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz", "zst"])
def test_import(ns: NamespaceStore, tmp_path: Path, kind: str) -> None:
    bare = layer_tar({"bin/sh": b"#!", "etc/os-release": b"x"})
    file = tmp_path / "rootfs"
    packers: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gz": gzip.compress, "zst": zstandard.compress}
    packers |= {"bz2": bz2.compress, "xz": lzma.compress}
    file.write_bytes(packers[kind](bare))
    name = archive.import_rootfs(ns, str(file), "app:1", changes=['CMD ["/bin/sh"]', "ENV A=1"], message="by hand")
    assert name == NAME
    config = config_of(ns, NAME)
    assert config["rootfs"]["diff_ids"] == [digest_of(bare)]
    assert config["config"] == {"Cmd": ["/bin/sh"], "Env": ["A=1"]}
    assert config["history"][0]["comment"] == "by hand"
    ((_, manifest),) = graph.manifests(ns, ns.images.get(NAME).target)
    suffix = {"gz": "+gzip", "zst": "+zstd"}.get(kind, "")
    assert manifest.layers[0].media_type == "application/vnd.oci.image.layer.v1.tar" + suffix


def test_import_from_a_pipe_without_a_name(ns: NamespaceStore) -> None:
    reader, writer = os.pipe()
    os.write(writer, layer_tar({"a": b"b"}))
    os.close(writer)
    try:
        name = archive.import_rootfs(ns, reader, platform=platform.parse("linux/arm64"))
    finally:
        os.close(reader)
    assert name.startswith(f"{archive.DANGLING}@sha256:")
    assert config_of(ns, name)["architecture"] == "arm64"


@pytest.mark.parametrize(
    "data", [b"", b"x" * 1000, gzip.compress(b"no tar"), gzip.compress(bytes(range(256)) * 9)[:-9]]
)
def test_imports_that_are_none(ns: NamespaceStore, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises((InvalidArgument, DataLoss)):
        archive.import_rootfs(ns, str(tmp_path / "x"), "app")
    assert ns.images.list() == []
    assert ns.content.statuses() == []


# --- peers


def test_skopeo_takes_ours(ns: NamespaceStore, tmp_path: Path) -> None:
    one = sample()
    put(ns, NAME, one)
    diff_ids = config_of(ns, NAME)["rootfs"]["diff_ids"]
    for format in archive.FORMATS:
        out = str(tmp_path / format)
        archive.save(ns, [NAME], out, format=format)
        source = {
            "oci-dir": f"oci:{out}:1",
            "oci-archive": f"oci-archive:{out}",
            "docker-archive": f"docker-archive:{out}",
        }
        config = json.loads(run("skopeo", "inspect", "--config", source[format]))
        assert config["rootfs"]["diff_ids"] == diff_ids
        run("skopeo", "copy", source[format], f"dir:{tmp_path}/dir-{format}")
    assert json.loads(run("skopeo", "inspect", f"docker-archive:{tmp_path}/docker-archive:app:1"))["RepoTags"] == []
    assert json.loads(run("skopeo", "inspect", f"oci:{tmp_path}/oci-dir:1"))["Digest"] == one.digest


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("oci-archive:{}/f:docker.io/library/app:1", NAME),
        ("oci:{}/f:app:1", NAME),
        ("oci:{}/f:app", "docker.io/library/app:latest"),
        ("oci:{}/f", ""),
        ("docker-archive:{}/f:docker.io/library/app:1", NAME),
        ("docker-archive:{}/f", ""),
    ],
)
def test_we_take_skopeos(ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path, target: str, name: str) -> None:
    put(ns, NAME, sample())
    archive.save(ns, [NAME], str(tmp_path / "ours"), format="oci-dir")
    run("skopeo", "copy", f"oci:{tmp_path}/ours:1", target.format(tmp_path))
    (loaded,) = archive.load(fresh, str(tmp_path / "f"))
    assert loaded == name or (not name and loaded.startswith(archive.DANGLING))
    assert config_of(fresh, loaded)["rootfs"] == config_of(ns, NAME)["rootfs"]


def test_umoci(ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path) -> None:
    put(ns, NAME, sample())
    folder = str(tmp_path / "l")
    archive.save(ns, [NAME], folder, format="oci-dir")
    assert run("umoci", "ls", "--layout", folder).split() == ["1"]
    run("umoci", "unpack", "--rootless", "--image", f"{folder}:1", str(tmp_path / "bundle"))
    assert (tmp_path / "bundle/rootfs/etc/motd").read_text() == "again\n"
    (tmp_path / "bundle/rootfs/new").write_text("by umoci\n")
    run("umoci", "repack", "--image", f"{folder}:2", str(tmp_path / "bundle"))
    run("umoci", "config", "--image", f"{folder}:2", "--config.cmd", "/new")
    loaded = archive.load(fresh, folder, name="app")
    assert loaded == [NAME, "docker.io/library/app:2"]
    config = config_of(fresh, "docker.io/library/app:2")
    assert config["config"]["Cmd"] == ["/new"]
    assert len(config["rootfs"]["diff_ids"]) == 3


@pytest.fixture
def containers() -> Iterator[list[str]]:
    """The options that keep podman's and buildah's storage in a folder of its own; podman wants a short path."""
    folder = tempfile.mkdtemp(prefix="masu-")
    yield ["--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    shutil.rmtree(folder)


@pytest.mark.root
@pytest.mark.parametrize("format", FILES)
def test_podman(ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path, containers: list[str], format: str) -> None:
    put(ns, NAME, sample())
    out = str(tmp_path / "ours")
    archive.save(ns, [NAME], out, format=format)
    podman = ["podman", *containers]
    # podman names an OCI archive's image after its bare tag.
    assert "Loaded image" in run(*podman, "load", "-i", out)
    (listed,) = json.loads(run(*podman, "images", "--format", "json"))
    inspected = json.loads(run(*podman, "image", "inspect", listed["Id"]))
    assert inspected[0]["RootFS"]["Layers"] == config_of(ns, NAME)["rootfs"]["diff_ids"]
    back = str(tmp_path / "back")
    run(*podman, "tag", listed["Id"], NAME)
    run(*podman, "save", "--format", format, "-o", back, NAME)
    assert archive.load(fresh, back) == [NAME]
    assert config_of(fresh, NAME)["rootfs"] == config_of(ns, NAME)["rootfs"]


@pytest.mark.root
def test_buildah(ns: NamespaceStore, fresh: NamespaceStore, tmp_path: Path, containers: list[str]) -> None:
    put(ns, NAME, sample())
    archive.save(ns, [NAME], str(tmp_path / "ours"), format="oci-archive")
    buildah = ["buildah", *containers]
    container = run(*buildah, "from", "--pull-never", f"oci-archive:{tmp_path}/ours").strip()
    run(*buildah, "config", "--env", "BY=buildah", container)
    run(*buildah, "commit", container, f"oci-archive:{tmp_path}/back:docker.io/library/app:2")
    assert archive.load(fresh, str(tmp_path / "back")) == ["docker.io/library/app:2"]
    assert "BY=buildah" in config_of(fresh, "docker.io/library/app:2")["config"]["Env"]


def test_what_the_docker_command_would_read(ns: NamespaceStore, tmp_path: Path) -> None:
    """docker load's own rules: safe paths, each layer's digest the config's diff_id, a RepoTag as it types it."""
    put(ns, NAME, sample())
    for format in FILES:
        archive.save(ns, [NAME], str(tmp_path / format), format=format)
        with tarfile.open(tmp_path / format) as tar:
            names = tar.getnames()
            (entry,) = json.load(_member(tar, "manifest.json"))
            config = json.load(_member(tar, entry["Config"]))
            assert entry["RepoTags"] == ["app:1"]
            for path, diff_id in zip(entry["Layers"], config["rootfs"]["diff_ids"], strict=True):
                data = _member(tar, path).read()
                bare = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
                assert "sha256:" + hashlib.sha256(bare).hexdigest() == diff_id
        assert len(names) == len(set(names))


def _member(tar: tarfile.TarFile, name: str) -> io.BufferedReader:
    found = tar.extractfile(name)
    assert found is not None
    return found  # type: ignore[return-value]
