"""Unpacking one layer: 1 GB of large files, and 50,000 small ones; masu beside ctr and umoci.

The content is in each one's store before the clock starts; what is timed is archive to directory tree.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines import CONTAINERD_PLUGINS, daemon
from harness import programs
from measure import Contender, command

LAYERS = {"1 GB": (256, 4 << 20), "50,000 files": (50_000, 2 << 10)}


def image(title: str) -> Path:
    """An OCI layout with one layer of that many files of that size, half compressible; in the tests' cache."""
    count, size = LAYERS[title]
    place = programs.cache() / "bench" / f"layer-{count}-{size}"
    if place.exists():
        return place
    unfinished = place.with_suffix(f".{os.getpid()}")
    blobs = unfinished / "blobs/sha256"
    blobs.mkdir(parents=True)
    chance = random.Random(1)
    noise = chance.randbytes(size)
    diff = hashlib.sha256()

    class Counted(io.RawIOBase):
        """Passes a tar stream on to gzip and into its digest."""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            chunk = bytes(data)  # type: ignore[call-overload]
            diff.update(chunk)
            packed.write(chunk)
            return len(chunk)

    with gzip.open(unfinished / "layer", "wb", 6) as packed, tarfile.open(fileobj=Counted(), mode="w|") as archive:
        for number in range(count):
            half = noise[: size // 2]
            body = number.to_bytes(8, "big") + half[number % 97 :] + half[: number % 97]
            body = (body + b"the quick brown fox jumps over the lazy dog\n" * (size // 88 + 1))[:size]
            entry = tarfile.TarInfo(f"usr/share/d{number % 200:03}/file{number:05}")
            entry.size, entry.mode, entry.mtime = len(body), 0o644, 1767225600
            archive.addfile(entry, io.BytesIO(body))
    descriptor = keep(blobs, unfinished / "layer", "application/vnd.oci.image.layer.v1.tar+gzip")
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff.hexdigest()}"]}
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = keep_json(
        unfinished,
        {"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs},
        "application/vnd.oci.image.config.v1+json",
    )
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [descriptor]}
    top = keep_json(unfinished, manifest, kind)
    top["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (unfinished / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (unfinished / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    unfinished.rename(place)
    return place


def keep(blobs: Path, file: Path, media_type: str) -> dict[str, object]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    size = file.stat().st_size
    file.rename(blobs / digest)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def keep_json(folder: Path, value: object, media_type: str) -> dict[str, object]:
    (folder / "json").write_text(json.dumps(value))
    return keep(folder / "blobs/sha256", folder / "json", media_type)


@contextmanager
def contenders(folder: Path, title: str) -> Iterator[list[Contender]]:
    layout = image(title)
    folder.mkdir(parents=True)
    found = []
    if shutil.which("umoci"):
        target = folder / "umoci"
        found.append(
            Contender(
                "umoci unpack",
                command("umoci", "unpack", "--image", f"{layout}:latest", target),
                before=lambda: empty(target),
            )
        )
    masu = Path(__file__).with_name("unpack_masu.py")
    if Path(programs.ROOT, "src/masu/snapshots/apply.py").exists():
        root = folder / "masu"
        call = [sys.executable, str(masu), str(root), str(layout)]
        env = {"PYTHONPATH": str(programs.ROOT / "src")}
        command(*call, "store", env=env)()
        work, before = command(*call, "unpack", env=env), command(*call, "remove", env=env)
        found.append(Contender("masu", work, before=before))
    if not (shutil.which("containerd") and shutil.which("ctr")):
        yield found
        return
    home = folder / "containerd"
    home.mkdir()
    (home / "config.toml").write_text(
        f'version = 2\nroot = "{home}/root"\nstate = "{home}/state"\n{CONTAINERD_PLUGINS}\n'
        f'[grpc]\naddress = "{home}/c.sock"\n'
    )
    ctr = ["ctr", "--address", f"{home}/c.sock"]
    with daemon(["containerd", "--config", str(home / "config.toml")], home, [*ctr, "version"]):
        archive = home / "image.tar"
        subprocess.run(["tar", "-C", layout, "-cf", archive, "."], check=True)
        take = [*ctr, "images", "import", "--no-unpack", "--base-name", "bench", str(archive)]
        subprocess.run(take, check=True, stdout=subprocess.DEVNULL)
        archive.unlink()
        manifest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
        config = json.loads((layout / "blobs" / manifest.replace(":", "/")).read_text())["config"]["digest"]
        chain = json.loads((layout / "blobs" / config.replace(":", "/")).read_text())["rootfs"]["diff_ids"][0]

        def forget() -> None:
            subprocess.run([*ctr, "snapshots", "rm", chain], capture_output=True, check=False)

        found.append(Contender("ctr snapshots unpack", command(*ctr, "snapshots", "unpack", manifest), before=forget))
        yield found


def empty(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
