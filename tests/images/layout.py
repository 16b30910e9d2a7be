"""Root file systems as images: OCI image layouts on disk, and into a registry over its own API."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import platform
import tarfile
from pathlib import Path

from images.recipes import RECIPES
from images.rootfs import layers, once

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CREATED = "2026-01-01T00:00:00Z"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def layout(name: str) -> Path:
    """An OCI image layout directory with one image, named `latest`."""

    def make(target: Path) -> None:
        config: dict[str, object] = {
            "created": CREATED,
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": RECIPES[name].config,
        }
        descriptors, diff_ids, history = [], [], []
        for folder in layers(name):
            archive = tar(folder)
            diff_ids.append(_digest(archive))
            descriptors.append(_blob(target, gzip.compress(archive, 6, mtime=0), LAYER))
            history.append({"created": CREATED, "created_by": f"masu tests: {folder.name.rpartition('-')[0]}"})
        config |= {"rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _blob(target, _json(config), CONFIG),
            "layers": descriptors,
        }
        descriptor = _blob(target, _json(manifest), MANIFEST)
        descriptor |= {
            "platform": {"architecture": ARCHITECTURE, "os": "linux"},
            "annotations": {"org.opencontainers.image.ref.name": "latest"},
        }
        (target / "index.json").write_bytes(
            _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]})
        )
        (target / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))

    return once("layout", name, make)


def tar(folder: Path) -> bytes:
    """The folder's content as a layer: in order, owned by root, times fixed, so the same content is the same digest."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def root_owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            info.mtime = 1767225600
            return info

        for entry in sorted(folder.iterdir()):
            archive.add(entry, entry.name, filter=root_owned)
    return out.getvalue()


def push(name: str, registry: str, repository: str = "", tag: str = "latest") -> str:
    """Send the image to `registry` (host:port, plain http) as library/NAME:latest unless told otherwise.

    Returns the digest of the manifest. What the registry has already is not sent again."""
    source = layout(name)
    repository = repository or f"library/{name}"
    connection = http.client.HTTPConnection(registry, timeout=60)
    manifest_digest = json.loads((source / "index.json").read_bytes())["manifests"][0]["digest"]
    manifest = (source / "blobs" / manifest_digest.replace(":", "/")).read_bytes()
    document = json.loads(manifest)
    for descriptor in [document["config"], *document["layers"]]:
        digest = descriptor["digest"]
        if _request(connection, "HEAD", f"/v2/{repository}/blobs/{digest}")[0] == 200:
            continue
        status, headers = _request(connection, "POST", f"/v2/{repository}/blobs/uploads/")
        assert status == 202, status
        place = headers["Location"].removeprefix(f"http://{registry}")
        place += ("&" if "?" in place else "?") + f"digest={digest}"
        blob = (source / "blobs" / digest.replace(":", "/")).read_bytes()
        status, _ = _request(connection, "PUT", place, blob, "application/octet-stream")
        assert status == 201, status
    status, _ = _request(connection, "PUT", f"/v2/{repository}/manifests/{tag}", manifest, MANIFEST)
    assert status == 201, status
    connection.close()
    return str(manifest_digest)


def _request(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"", media_type: str = ""
) -> tuple[int, http.client.HTTPMessage]:
    headers = {"Content-Length": str(len(body))} if method != "HEAD" else {}
    if media_type:
        headers["Content-Type"] = media_type
    connection.request(method, path, body or None, headers)
    response = connection.getresponse()
    response.read()
    return response.status, response.headers


def _blob(target: Path, content: bytes, media_type: str) -> dict[str, object]:
    digest = _digest(content)
    place = target / "blobs" / digest.replace(":", "/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
