"""masu's part of unpacking.py: `unpack_masu.py ROOT LAYOUT store|unpack|remove`, each step a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from masu.snapshots import choose, unpack
from masu.spec.image import chain_ids, parse_image_config, parse_manifest
from masu.store import NamespaceStore, open_store

CHUNK = 1 << 20


def main(root: str, layout: Path, step: str) -> None:
    ns = open_store(root).namespace("default")
    top = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    manifest = parse_manifest(blob(layout, top["digest"]).read_bytes(), top["mediaType"])
    config = parse_image_config(blob(layout, manifest.config.digest).read_bytes())
    if step == "store":
        for descriptor in (manifest.config, *manifest.layers):
            put(ns, blob(layout, descriptor.digest), descriptor.digest)
    elif step == "unpack":
        unpack(ns, manifest, config, choose(ns))
    else:
        snapshotter = choose(ns)
        present = {info.name for info in snapshotter.walk()}
        for name in reversed(chain_ids(config.rootfs.diff_ids)):
            if name in present:
                snapshotter.remove(name)


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def put(ns: NamespaceStore, file: Path, digest: str) -> None:
    size = file.stat().st_size
    writer = ns.content.writer(f"bench-{digest}", total=size, expected=digest)
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            writer.write(chunk)
    writer.commit(size, digest)
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
