"""Test images as those tools take them that read files, and others made of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import images
from images.layout import CONFIG, CREATED, MANIFEST, tar


def archive(name: str, folder: Path) -> Path:
    """A test image as a tar file of its OCI layout."""
    path = folder / f"{name}.tar"
    with tarfile.open(path, "w") as out:
        out.add(images.layout(name), ".")
    return path


def derived(base: str, target: Path, config: Mapping[str, Any], files: Mapping[str, str | Path]) -> Path:
    """An OCI layout: a test image with other configuration and a layer of files, given as text or as one to copy.

    What lies in bin/ can be executed.
    """
    shutil.copytree(images.layout(base), target)
    index = json.loads((target / "index.json").read_text())
    (descriptor,) = index["manifests"]
    manifest = _read(target, descriptor)
    image = _read(target, manifest["config"])
    image["config"] |= config
    with tempfile.TemporaryDirectory() as place:
        for name, content in files.items():
            path = Path(place, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copy(content, path)
            else:
                path.write_text(content)
                path.chmod(0o755 if name.startswith("bin/") else 0o644)
        layer = _write(target, tar(Path(place)), "application/vnd.oci.image.layer.v1.tar")
    manifest["layers"].append(layer)
    image["rootfs"]["diff_ids"].append(layer["digest"])
    image["history"].append({"created": CREATED})
    manifest["config"] = _write(target, json.dumps(image).encode(), CONFIG)
    index["manifests"] = [descriptor | _write(target, json.dumps(manifest).encode(), MANIFEST)]
    (target / "index.json").write_text(json.dumps(index))
    return target


def _read(layout: Path, of: Mapping[str, Any]) -> Any:
    return json.loads((layout / "blobs" / of["digest"].replace(":", "/")).read_text())


def _write(layout: Path, content: bytes, media_type: str) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
