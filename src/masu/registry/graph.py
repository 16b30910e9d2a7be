"""Images as graphs of content: index -> manifests -> config and layers."""

from __future__ import annotations

import os

from masu.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unimplemented
from masu.spec import digest as digests
from masu.spec import image
from masu.spec.image import Descriptor, ImageConfig, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from masu.spec.platform import Platform
    from masu.store import NamespaceStore

# The distribution specification, "Pushing Manifests": a registry should accept at least 4 MB, so nobody has larger.
MANIFEST_LIMIT_BYTES = 4 << 20
CONFIG_LIMIT_BYTES = image.MAX_DOCUMENT_BYTES
# An index of indexes is allowed by the image specification; nobody needs many floors.
MAX_DEPTH = 4

# In the order of preference; a registry that knows several forms of an image sends the first.
DOCUMENT_TYPES = (
    image.MEDIA_TYPE_INDEX,
    image.MEDIA_TYPE_MANIFEST,
    image.MEDIA_TYPE_DOCKER_LIST,
    image.MEDIA_TYPE_DOCKER_MANIFEST,
)

GC_PREFIX = "containerd.io/gc.ref.content"
SOURCE_PREFIX = "containerd.io/distribution.source."
# Repositories remembered for one blob and one registry; each is a candidate for a mount at push.
_MAX_SOURCES = 8


def gc_labels(document: Index | Manifest) -> dict[str, str]:
    """The labels that keep what a document references, in containerd's words (docs/garbage-collection.md)."""
    if isinstance(document, Index):
        return {f"{GC_PREFIX}.m.{i}": d.digest for i, d in enumerate(document.manifests)}
    labels = {f"{GC_PREFIX}.config": document.config.digest}
    labels.update((f"{GC_PREFIX}.l.{i}", d.digest) for i, d in enumerate(document.layers))
    return labels


def below(document: Index | Manifest) -> tuple[Descriptor, ...]:
    """What it names."""
    return document.manifests if isinstance(document, Index) else (document.config, *document.layers)


def read_document(ns: NamespaceStore, descriptor: Descriptor) -> Index | Manifest:
    """The manifest or index that `descriptor` names, from the store. NotFound where it is not there."""
    raw = ns.content.read(descriptor.digest, MANIFEST_LIMIT_BYTES)
    return parse_document(raw, descriptor)


def parse_document(raw: bytes, descriptor: Descriptor) -> Index | Manifest:
    """Parse what `descriptor` names; its media type is binding (CVE-2021-41190)."""
    return image.parse_document(raw, descriptor.media_type, name=descriptor.digest)


def descriptor_of(raw: bytes, media_type: str = "", digest: str = "") -> Descriptor:
    """The descriptor of a manifest or index; without a media type the document must say or show which it is."""
    digest = digest or digests.of(raw)
    if media_type not in DOCUMENT_TYPES:
        # Static file servers do not know the types.
        document = image.parse_document(raw, media_type, name=digest)
        default = image.MEDIA_TYPE_INDEX if isinstance(document, Index) else image.MEDIA_TYPE_MANIFEST
        media_type = document.media_type if document.media_type in DOCUMENT_TYPES else default
    return Descriptor(media_type, digests.check(digest), len(raw))


def read_config(ns: NamespaceStore, manifest: Manifest) -> ImageConfig:
    """The image config of `manifest`, from the store. InvalidArgument for what is no image."""
    check_image(manifest)
    return image.parse_image_config(
        ns.content.read(manifest.config.digest, CONFIG_LIMIT_BYTES), name=manifest.config.digest
    )


def check_image(manifest: Manifest) -> None:
    """Refuse what cannot become a root file system: artifacts, encrypted layers, unknown compressions."""
    if manifest.config.media_type not in image.CONFIG_TYPES:
        kind = manifest.artifact_type or manifest.config.media_type
        raise InvalidArgument(
            "image", kind, detail="this is an artifact, not a container image", where="config.mediaType"
        )
    if manifest.config.size > CONFIG_LIMIT_BYTES:
        raise InvalidArgument(
            "image config",
            manifest.config.digest,
            detail=f"larger than {CONFIG_LIMIT_BYTES} bytes",
            where="config.size",
        )
    for i, layer in enumerate(manifest.layers):
        if not image.is_layer(layer.media_type):
            where = f"layers[{i}].mediaType"
            if "+encrypted" in layer.media_type:
                raise Unimplemented("layer", layer.media_type, detail="encrypted layers need a key", where=where)
            raise InvalidArgument("layer", layer.media_type, detail="not a layer's media type", where=where)


def manifests(ns: NamespaceStore, target: Descriptor, depth: int = 0) -> Iterator[tuple[Descriptor, Manifest]]:
    """Every image manifest below `target` that the store holds, in the index's order."""
    if depth > MAX_DEPTH:
        raise InvalidArgument("image index", target.digest, detail=f"more than {MAX_DEPTH} indexes in one another")
    try:
        document = read_document(ns, target)
    except NotFound:
        if depth == 0:
            raise
        return
    if isinstance(document, Manifest):
        yield target, document
        return
    for child in document.manifests:
        yield from manifests(ns, child, depth + 1)


def missing(ns: NamespaceStore, target: Descriptor, depth: int = 0) -> list[Descriptor]:
    """What belongs to `target` and is not in the store; [] says that the image is whole."""
    if depth > MAX_DEPTH:
        raise InvalidArgument("image index", target.digest, detail=f"more than {MAX_DEPTH} indexes in one another")
    try:
        document = read_document(ns, target)
    except NotFound:
        return [target]
    if isinstance(document, Manifest):
        return [d for d in (document.config, *document.layers) if not has(ns, d.digest)]
    return [d for child in document.manifests for d in missing(ns, child, depth + 1)]


def has(ns: NamespaceStore, digest: str) -> bool:
    try:
        ns.content.info(digest)
    except NotFound:
        return False
    return True


def whole(ns: NamespaceStore, target: Descriptor, wanted: Platform | None, name: str) -> Descriptor:
    """What of an image can be sent or saved: all of it, or one platform's manifest.

    With `wanted` that platform's. Without: `target` when everything of it is here, else the only manifest that
    is (a pull brings one platform's content and the whole index). Raises NotFound for a platform that the image
    does not have, FailedPrecondition when content is missing.
    """
    document = read_document(ns, target)
    if wanted is not None:
        target = choose(ns, target, wanted)
    elif isinstance(document, Index) and missing(ns, target):
        here = [d for d, m in manifests(ns, target) if not missing(ns, d) and m.config.media_type in image.CONFIG_TYPES]
        if len(here) == 1:
            return here[0]
    lost = missing(ns, target)
    if lost:
        raise FailedPrecondition(
            "image",
            name,
            detail=f"{len(lost)} of its blobs are not here, the first is {lost[0].digest}",
            hint="pull it for that platform, or name one that was pulled",
        )
    return target


def choose(ns: NamespaceStore, target: Descriptor, wanted: Platform) -> Descriptor:
    """The manifest for `wanted` below `target`; its own content need not be in the store, the indexes' must."""
    from masu.spec import platform

    for depth in range(MAX_DEPTH + 1):
        if depth and not has(ns, target.digest):
            return target
        document = read_document(ns, target)
        if isinstance(document, Manifest):
            return target
        target = platform.choose(document.manifests, wanted)
    raise InvalidArgument("image index", target.digest, detail=f"more than {MAX_DEPTH} indexes in one another")


def check_digest(raw: bytes, digest: str, what: str) -> None:
    """DataLoss unless `raw` is what `digest` (checked syntax) names."""
    import hashlib  # late: listings read manifests, too, and check nothing

    algorithm, _, wanted = digest.partition(":")
    seen = hashlib.new(algorithm, raw).hexdigest()
    if seen != wanted:
        raise DataLoss(what, digest, detail=f"what came has the digest {algorithm}:{seen}")


def set_image(ns: NamespaceStore, name: str, target: Descriptor) -> None:
    """Let the image `name` point to `target`, whether it was there before or not; its labels stay."""
    from masu.store.images import Image

    try:
        labels = ns.images.get(name).labels
    except NotFound:
        labels = {}
    ns.images.put(Image(name, target, labels))


def put(ns: NamespaceStore, raw: bytes, descriptor: Descriptor, labels: dict[str, str], lease: str | None) -> None:
    """Put a small document, already checked, into the store."""
    # Its own name each time: two writers of a few kilobytes need not wait for one another.
    ref = f"document-{descriptor.digest}-{os.urandom(4).hex()}"
    try:
        writer = ns.content.writer(ref, total=len(raw), expected=descriptor.digest, labels=labels, lease=lease)
    except AlreadyExists:
        if lease is not None:
            ns.leases.add_resource(lease, "content", descriptor.digest)
        add_labels(ns, descriptor.digest, labels)
        return
    try:
        writer.write(raw)
        writer.commit(len(raw), descriptor.digest)
    except AlreadyExists:
        add_labels(ns, descriptor.digest, labels)
    except BaseException:
        writer.close()
        ns.content.abort(ref)
        raise
    finally:
        writer.close()


def add_labels(ns: NamespaceStore, digest: str, labels: dict[str, str]) -> None:
    """Add labels to content; a distribution source is added to those known."""
    have = ns.content.info(digest).labels
    new: dict[str, str] = {}
    for key, value in labels.items():
        if key.startswith(SOURCE_PREFIX):
            sources = [s for s in have.get(key, "").split(",") if s]
            if value in sources:
                continue
            value = ",".join([*sources, value][-_MAX_SOURCES:])
        if have.get(key) != value:
            new[key] = value
    if new:
        ns.content.update(digest, new)
