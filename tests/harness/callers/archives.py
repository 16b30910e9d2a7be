"""Test images as those tools take them that read files."""

from __future__ import annotations

import tarfile
from pathlib import Path

import images


def archive(name: str, folder: Path) -> Path:
    """A test image as a tar file of its OCI layout."""
    path = folder / f"{name}.tar"
    with tarfile.open(path, "w") as out:
        out.add(images.layout(name), ".")
    return path
