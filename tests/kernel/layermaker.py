"""Layers made by hand, images made of them, and trees read back, for the tests of store, snapshots and unpacking."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterable

from masu.snapshots.mounted import detached
from masu.snapshots.mounts import Mount
from masu.spec import image as spec
from masu.store import NamespaceStore

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PLAIN = "application/vnd.oci.image.layer.v1.tar"


def directory(name: str, mode: int = 0o755, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    return _info(name, tarfile.DIRTYPE, mode, more), b""


def file(name: str, data: bytes | str = b"", mode: int = 0o644, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    content = data.encode() if isinstance(data, str) else data
    info = _info(name, tarfile.REGTYPE, mode, more)
    info.size = len(content)
    return info, content


def symlink(name: str, target: str, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    return _info(name, tarfile.SYMTYPE, 0o777, {"linkname": target, **more}), b""


def hardlink(name: str, target: str, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    return _info(name, tarfile.LNKTYPE, 0o644, {"linkname": target, **more}), b""


def node(name: str, kind: bytes, major: int = 0, minor: int = 0, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    return _info(name, kind, 0o600, {"devmajor": major, "devminor": minor, **more}), b""


def whiteout(name: str) -> tuple[tarfile.TarInfo, bytes]:
    folder, _, base = name.rpartition("/")
    return file(f"{folder}/.wh.{base}" if folder else f".wh.{base}")


def opaque(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return file(f"{name}/.wh..wh..opq" if name else ".wh..wh..opq")


def _info(name: str, kind: bytes, mode: int, more: dict[str, object]) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, 1_000_000_000
    for key, value in more.items():
        setattr(info, key, value)
    return info


def layer(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if info.type == tarfile.REGTYPE else None)
    return out.getvalue()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def put(ns: NamespaceStore, data: bytes, labels: dict[str, str] | None = None) -> str:
    from masu.errors import AlreadyExists

    digest = digest_of(data)
    try:
        with ns.content.writer(digest, expected=digest, labels=labels) as writer:
            writer.write(data)
            writer.commit()
    except AlreadyExists:
        pass
    return digest


def compress(data: bytes, media_type: str) -> bytes:
    if media_type == GZIP:
        return gzip.compress(data, 1, mtime=0)
    if media_type == ZSTD:
        import zstandard

        return zstandard.compress(data)
    return data


def image(
    ns: NamespaceStore, layers: Iterable[bytes], media_type: str = GZIP, diff_ids: list[str] | None = None
) -> tuple[spec.Manifest, spec.ImageConfig, str]:
    """(manifest, config, the manifest's digest) of uncompressed layers, stored with the labels a pull sets."""
    descriptors, found = [], []
    for raw in layers:
        blob = compress(raw, media_type)
        descriptors.append({"mediaType": media_type, "digest": put(ns, blob), "size": len(blob)})
        found.append(digest_of(raw))
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids or found}}
    config_text = json.dumps(config).encode()
    config_digest = put(ns, config_text)
    manifest = {
        "schemaVersion": 2,
        "mediaType": spec.MEDIA_TYPE_MANIFEST,
        "config": {"mediaType": spec.MEDIA_TYPE_CONFIG, "digest": config_digest, "size": len(config_text)},
        "layers": descriptors,
    }
    text = json.dumps(manifest).encode()
    labels = {"containerd.io/gc.ref.content.config": config_digest}
    labels |= {f"containerd.io/gc.ref.content.l.{i}": str(d["digest"]) for i, d in enumerate(descriptors)}
    return spec.parse_manifest(text), spec.parse_image_config(config_text), put(ns, text, labels)


def look(mounts: list[Mount]) -> dict[str, str]:
    """Every path of a mounted tree and what it is: `{"a": "dir 755 0:0", "a/f": "file 644 0:0 hi"}`."""
    tree = detached(mounts)
    try:
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)
    finally:
        os.close(tree)
    try:
        return dict(_look(top, ""))
    finally:
        os.close(top)


def _look(folder: int, path: str) -> Iterable[tuple[str, str]]:
    for name in sorted(os.listdir(folder)):
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        full = f"{path}{name}"
        yield full, describe(folder, name, facts)
        if stat.S_ISDIR(facts.st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                yield from _look(inner, f"{full}/")
            finally:
                os.close(inner)


def describe(folder: int, name: str, facts: os.stat_result) -> str:
    mode, owner = f"{stat.S_IMODE(facts.st_mode):o}", f"{facts.st_uid}:{facts.st_gid}"
    if stat.S_ISDIR(facts.st_mode):
        return f"dir {mode} {owner}"
    if stat.S_ISLNK(facts.st_mode):
        return f"link {owner} -> {os.readlink(name, dir_fd=folder)}"
    if stat.S_ISREG(facts.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            return f"file {mode} {owner} {os.read(fd, 64).decode('latin-1')}".rstrip()
        finally:
            os.close(fd)
    kind = {stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFIFO: "fifo"}[stat.S_IFMT(facts.st_mode)]
    return f"{kind} {mode} {owner} {os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"
