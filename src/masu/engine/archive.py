"""Images as files: `save`, `load`, `import`.

    oci-dir          oci-layout, index.json, blobs/sha256/<hex>            image-spec, "Image Layout"
    oci-archive      the same as one tar; with a manifest.json beside it, so that docker load takes it, too
    docker-archive   manifest.json, repositories, <config>.json, <diff_id>.tar        docker save before 25

What is loaded is untrusted: members are looked up, never extracted; blobs go into the store only under the digest
they have; documents are bounded. A lease keeps all of it from a garbage collection until the names are set.
"""

from __future__ import annotations

import os

from masu.engine import archiveload, archivesave
from masu.engine import changes as instructions
from masu.engine.archiveparts import (
    DANGLING,
    IMAGE_NAME,
    LAYOUT_FILE,
    REF_NAME,
    blob_chunks,
    from_os_error,
    ingest,
    open_file,
    put_image,
    read_all,
    with_head,
)
from masu.engine.decompress import decompressed, kind_of
from masu.engine.tarindex import TarWriter, checksum_ok
from masu.errors import InvalidArgument
from masu.registry import graph
from masu.spec import image, jsontext, reference, times
from masu.spec import platform as platforms
from masu.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from masu.spec.platform import Platform
    from masu.store import NamespaceStore

__all__ = ["DANGLING", "FORMATS", "IMAGE_NAME", "REF_NAME", "import_rootfs", "load", "save"]

FORMATS = ("docker-archive", "oci-archive", "oci-dir")


def save(
    ns: NamespaceStore,
    names: Sequence[str],
    out: str | int,
    *,
    format: str = "docker-archive",
    platform: Platform | None = None,
) -> None:
    """Write the images `names` (as recorded) to `out`: a path, or an fd that may be a pipe (not for oci-dir).

    All platforms of an image are written when all are here, else the one that is; `platform` asks for one. A
    docker-archive holds one each. A path appears when it is complete. Raises NotFound, FailedPrecondition when
    content is missing, InvalidArgument, ResourceExhausted on a full disk.
    """
    if format not in FORMATS:
        raise InvalidArgument("format", format, detail=f"allowed are {', '.join(FORMATS)}")
    if not names:
        raise InvalidArgument("image", detail="at least one is wanted")
    chosen: list[tuple[str, Descriptor]] = []
    for name in dict.fromkeys(names):
        wanted = platform or (platforms.host() if format == "docker-archive" else None)
        target = ns.images.get(name).target
        if format == "docker-archive" and platform is None:
            # Whatever single platform is here; the machine's own where there are several.
            target = archivesave.one_manifest(ns, target, name)
            wanted = None
        chosen.append((name, graph.whole(ns, target, wanted, name)))
    if format == "oci-dir":
        if not isinstance(out, str):
            raise InvalidArgument("output", out, detail="an OCI layout directory needs a path")
        archivesave.write_layout(ns, chosen, out)
        return
    write = archivesave.write_docker if format == "docker-archive" else archivesave.write_oci
    if isinstance(out, int):
        archivesave.as_errors(f"fd {out}", lambda: write(ns, chosen, TarWriter(out)))
        return
    archivesave.replace(out, lambda fd: write(ns, chosen, TarWriter(fd)))


def load(
    ns: NamespaceStore, source: str | int, *, name: str | None = None, platform: Platform | None = None
) -> list[str]:
    """Bring the images of an archive in: an OCI layout (directory or tar) or a docker-archive, compressed or not.

    `source` is a path or an fd (a pipe, too). Returns the names of the image records that were set, in the
    archive's order; an image without a name becomes `masu-dangling@<digest>`. `name` ("example.com/app") is the
    repository for entries that have a tag alone; without it a layout's bare word `app` is read as `app:latest`.
    With `platform` only that platform's images are taken out of an index. Raises InvalidArgument for what is no
    such archive, DataLoss for blobs that are not what they are called, NotFound for missing ones, ResourceExhausted
    beyond the bounds.
    """
    base = reference.parse(name) if name else None
    archive = archiveload.open_archive(source)
    try:
        with ns.leases.hold("load") as lease:
            if archive.has("index.json") and archive.has(LAYOUT_FILE):
                found = archiveload.load_layout(ns, archive, lease.id, base, platform)
            elif archive.has("manifest.json"):
                found = archiveload.load_docker(ns, archive, lease.id)
            elif archive.has("repositories"):
                found = archiveload.load_docker_v1(ns, archive, lease.id)
            else:
                raise InvalidArgument(
                    "image archive",
                    archive.name,
                    detail="neither an OCI layout (index.json) nor a docker-archive (manifest.json)",
                    hint="a root file system is taken by import",
                )
            for image_name, target in found:
                graph.set_image(ns, image_name, target)
            return [image_name for image_name, _ in found]
    finally:
        archive.close()


def import_rootfs(
    ns: NamespaceStore,
    source: str | int,
    ref: str | None = None,
    *,
    changes: Sequence[str] = (),
    message: str = "",
    platform: Platform | None = None,
) -> str:
    """Make an image with one layer out of a tar of a root file system; returns its record's name.

    `source` is a path or an fd (a pipe, too), bare or compressed with gzip, zstd, bzip2 or xz. `ref` names the
    image; without it, it becomes `masu-dangling@<digest>`. `changes` are Dockerfile instructions
    (masu.engine.changes). Raises InvalidArgument, DataLoss for damaged compression, ResourceExhausted.
    """
    named = str(reference.parse(ref)) if ref else None
    defaults = instructions.apply({}, changes)
    where = platform or platforms.host()
    fd, label = open_file(source)
    try:
        with ns.leases.hold("import") as lease:
            layer, diff_id = _import_layer(ns, fd, label, lease.id)
            created = times.now()
            config: dict[str, object] = {"created": created, "architecture": where.architecture, "os": where.os}
            if where.variant:
                config["variant"] = where.variant
            config["config"] = defaults
            config["rootfs"] = {"type": "layers", "diff_ids": [diff_id]}
            config["history"] = [{"created": created, "comment": message or f"Imported from {label}"}]
            target = put_image(ns, jsontext.dumps(config).encode(), [layer], lease.id)
            name = named or f"{DANGLING}@{target.digest}"
            graph.set_image(ns, name, target)
            return name
    finally:
        os.close(fd)


def _import_layer(ns: NamespaceStore, fd: int, name: str, lease: str) -> tuple[Descriptor, str]:
    """The layer of a root file system's tar and its diff_id. gzip and zstd stay as they are."""
    import hashlib  # late, as above

    try:
        head, stream = with_head(read_all(fd))
        if not head:
            raise InvalidArgument("archive", name, detail="is empty")
        kind = kind_of(head)
        if kind not in ("gzip", "zstd"):
            # Bare, or in a compression that layers may not have.
            checked = _checked_tar(decompressed(stream, kind, name), name)
            digest = ingest(ns, checked, lease)
            return Descriptor(image.MEDIA_TYPE_LAYER, digest, ns.content.info(digest).size), digest
        digest = ingest(ns, stream, lease)
    except OSError as e:
        raise from_os_error(e, name) from e
    media_type = image.MEDIA_TYPE_LAYER_GZIP if kind == "gzip" else image.MEDIA_TYPE_LAYER_ZSTD
    size, chunks = blob_chunks(ns, digest)
    bare = hashlib.sha256()
    for piece in _checked_tar(decompressed(chunks, kind, name), name):
        bare.update(piece)
    return Descriptor(media_type, digest, size), f"sha256:{bare.hexdigest()}"


def _checked_tar(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """`chunks`, refused when they do not begin as a tar archive does."""
    head, stream = with_head(chunks)
    if head.strip(b"\0") and (len(head) < 512 or not checksum_ok(head)):
        raise InvalidArgument("archive", name, detail="is no tar archive of a root file system")
    return stream
