"""What the archives of images have in common: names in them, blobs in and out of the store, errors."""

from __future__ import annotations

import errno
import os

from masu.engine.tarindex import CHUNK_BYTES
from masu.errors import AlreadyExists, KernelError, MasuError, NotFound, ResourceExhausted
from masu.registry import graph
from masu.spec import digest as digests
from masu.spec import image, jsontext
from masu.spec.image import Descriptor, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from masu.store import NamespaceStore

# The name of an image without one: this and its digest, so that it is listed and kept until it is removed.
DANGLING = "masu-dangling"

LAYOUT_FILE = "oci-layout"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME = "org.opencontainers.image.ref.name"
# containerd's and Docker's: the whole name, where the specification's annotation has only a tag.
IMAGE_NAME = "io.containerd.image.name"

INDEX_LIMIT_BYTES = graph.MANIFEST_LIMIT_BYTES


def blob_chunks(ns: NamespaceStore, digest: str) -> tuple[int, Iterator[bytes]]:
    size = ns.content.info(digest).size

    def chunks() -> Iterator[bytes]:
        fd = ns.content.open(digest)
        try:
            while piece := os.read(fd, CHUNK_BYTES):
                yield piece
        finally:
            os.close(fd)

    return size, chunks()


def blob_path(digest: str) -> str:
    algorithm, encoded = digests.split(digest)
    return f"blobs/{algorithm}/{encoded}"


def from_os_error(error: OSError, path: str) -> MasuError:
    place = error.filename if isinstance(error.filename, str) else path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted("disk space", place, error.errno)
    if error.errno == errno.ENOENT:
        return NotFound("file", place)
    return KernelError("write" if error.errno == errno.EPIPE else "open", place, error.errno or 0)


def ingest(ns: NamespaceStore, chunks: Iterable[bytes], lease: str, *, expected: str | None = None) -> str:
    """Write a blob; returns its digest. Nothing partial stays."""
    ref = f"load-{os.urandom(8).hex()}"
    try:
        writer = ns.content.writer(ref, expected=expected, lease=lease)
    except AlreadyExists:
        assert expected is not None
        ns.leases.add_resource(lease, "content", expected)
        return expected
    try:
        for chunk in chunks:
            writer.write(chunk)
        digest = writer.digest()
        try:
            writer.commit()
        except AlreadyExists:
            pass
        return digest
    except BaseException:
        writer.close()
        try:
            ns.content.abort(ref)
        except NotFound:
            pass
        raise
    finally:
        writer.close()


def put_image(
    ns: NamespaceStore, raw_config: bytes, layers: list[Descriptor], lease: str, *, docker_types: bool = False
) -> Descriptor:
    """Store a config and the manifest over it and `layers`; the manifest's descriptor."""
    kinds = (image.MEDIA_TYPE_CONFIG, image.MEDIA_TYPE_MANIFEST)
    if docker_types:
        kinds = (image.MEDIA_TYPE_DOCKER_CONFIG, image.MEDIA_TYPE_DOCKER_MANIFEST)
    config = Descriptor(kinds[0], digests.of(raw_config), len(raw_config))
    graph.put(ns, raw_config, config, {}, lease)
    manifest = Manifest(schema_version=2, media_type=kinds[1], config=config, layers=tuple(layers), annotations={})
    raw = jsontext.dumps(manifest.to_json()).encode()
    target = Descriptor(kinds[1], digests.of(raw), len(raw))
    graph.put(ns, raw, target, graph.gc_labels(manifest), lease)
    return target


def with_head(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first 512 bytes (or fewer) of a stream, and the whole stream again."""
    head = b""
    while len(head) < 512 and (piece := next(chunks, b"")):
        head += piece

    def again() -> Iterator[bytes]:
        yield head
        yield from chunks

    return head[:512], again()


def read_all(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, CHUNK_BYTES):
        yield piece


def open_file(source: str | int, name: str = "") -> tuple[int, str]:
    """An fd of our own and what to call it: `name`, if there is one."""
    try:
        if isinstance(source, int):
            return os.dup(source), name or ("standard input" if source == 0 else f"fd {source}")
        return os.open(source, os.O_RDONLY | os.O_CLOEXEC), source
    except OSError as e:
        raise from_os_error(e, str(source)) from e
