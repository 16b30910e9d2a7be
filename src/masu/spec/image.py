"""Image documents: descriptor, manifest, index and config of OCI image-spec 1.1 and of Docker v2 schema 2.

    manifest = parse_manifest(data, descriptor.media_type)

What comes from a registry is hostile until checked: sizes and counts are bounded, digests have the form of digests,
and a document that could be read both as a manifest and as an index is refused (CVE-2021-41190), as is one that
calls itself by another media type than the one it was served with.
"""

from __future__ import annotations

from masu.errors import InvalidArgument, Unimplemented
from masu.spec import digest as digests
from masu.spec import jsontext
from masu.spec.fields import (
    I64,
    Value,
    boolean,
    i64,
    invalid,
    many,
    missing,
    number,
    one,
    plain_map,
    read,
    shown,
    slots,
    string,
    string_map,
    strings,
    text,
    wrong_type,
)
from masu.spec.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from masu.spec.fields import Fields, Reader

MEDIA_TYPE_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_EMPTY = "application/vnd.oci.empty.v1+json"
MEDIA_TYPE_LAYOUT = "application/vnd.oci.layout.header.v1+json"
MEDIA_TYPE_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPE_LAYER_GZIP = MEDIA_TYPE_LAYER + "+gzip"
MEDIA_TYPE_LAYER_ZSTD = MEDIA_TYPE_LAYER + "+zstd"
MEDIA_TYPE_LAYER_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"

MEDIA_TYPE_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPE_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_TYPE_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MEDIA_TYPE_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
MEDIA_TYPE_DOCKER_LAYER_GZIP = MEDIA_TYPE_DOCKER_LAYER + ".gzip"
MEDIA_TYPE_DOCKER_LAYER_ZSTD = MEDIA_TYPE_DOCKER_LAYER + ".zstd"
MEDIA_TYPE_DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
# Schema 1, signed and not: no longer read by anybody.
MEDIA_TYPES_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

MANIFEST_TYPES = (MEDIA_TYPE_MANIFEST, MEDIA_TYPE_DOCKER_MANIFEST)
INDEX_TYPES = (MEDIA_TYPE_INDEX, MEDIA_TYPE_DOCKER_LIST)
CONFIG_TYPES = (MEDIA_TYPE_CONFIG, MEDIA_TYPE_DOCKER_CONFIG)

# Media type of a layer -> its compression.
_LAYERS = {
    base + suffix: compression
    for bases, separator in (
        ((MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_NONDISTRIBUTABLE), "+"),
        ((MEDIA_TYPE_DOCKER_LAYER, MEDIA_TYPE_DOCKER_FOREIGN), "."),
    )
    for base in bases
    for suffix, compression in (("", ""), (separator + "gzip", "gzip"), (separator + "zstd", "zstd"))
}

# Registries refuse larger manifests (distribution-spec: at least 4 MiB must be taken); configs are of the same kind.
MAX_DOCUMENT_BYTES = 8 << 20
MAX_LAYERS = 1024
MAX_MANIFESTS = 16384
MAX_HISTORY = 16384


class _ImageValue(Value):
    __slots__ = ()
    HINTS = False


def _digest(value: object, where: str, warnings: list[str]) -> str:
    return digests.check(string(value, where, warnings), where)


def _digests(value: object, where: str, warnings: list[str]) -> tuple[str, ...]:
    result = strings(value, where, warnings)
    for index, item in enumerate(result):
        digests.check(item, f"{where}[{index}]")
    return result


def _media_type(value: object, where: str, warnings: list[str]) -> str | None:
    result = string(value, where, warnings)
    # RFC 6838: type/subtype, 127 characters each; it travels in HTTP headers, where a line break would be another.
    if result and (len(result) > 255 or not result.isascii() or not result.isprintable() or " " in result):
        raise invalid("media type", result, where, "wanted is type/subtype")
    return result or None


def _base64(value: object, where: str, warnings: list[str]) -> bytes:
    import binascii  # hardly any descriptor carries data

    encoded = string(value, where, warnings)
    try:
        return binascii.a2b_base64(encoded.encode(), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise invalid("data", encoded, where, "is not base64") from None


class Descriptor(_ImageValue):
    """What, which and how large: the pointer from one document to the next."""

    FIELDS: ClassVar[Fields] = {
        "mediaType": ("media_type", _media_type, None),
        "digest": ("digest", _digest, None),
        "size": ("size", number(0, I64), None),
        "urls": ("urls", strings, ()),
        "annotations": ("annotations", string_map, {}),
        "data": ("data", _base64, None),
        "platform": ("platform", one(Platform), None),
        "artifactType": ("artifact_type", _media_type, None),
    }
    REQUIRED = ("mediaType", "digest", "size")
    __slots__ = slots(FIELDS)
    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...]
    annotations: dict[str, str]
    data: bytes | None
    platform: Platform | None
    artifact_type: str | None

    def check(self, where: str, warnings: list[str]) -> None:
        if self.data is not None and len(self.data) != self.size:
            raise invalid("size", self.size, f"{where}.size", f"data has {len(self.data)} bytes")

    def to_json(self) -> dict[str, object]:
        result = super().to_json()
        if self.data is not None:
            import binascii

            result["data"] = binascii.b2a_base64(self.data, newline=False).decode()
        return result


_read_descriptors = many(Descriptor)


def _descriptors(limit: int) -> Reader:
    def read_descriptors(value: object, where: str, warnings: list[str]) -> object:
        if isinstance(value, list) and len(value) > limit:
            raise InvalidArgument("list", where=where, detail=f"{len(value)} entries, allowed are {limit}")
        return _read_descriptors(value, where, warnings)

    return read_descriptors


class Manifest(_ImageValue):
    """One image for one platform, or an artifact (`artifact_type`)."""

    FIELDS: ClassVar[Fields] = {
        "schemaVersion": ("schema_version", number(2, 2), 2),
        "mediaType": ("media_type", _media_type, None),
        "artifactType": ("artifact_type", _media_type, None),
        "config": ("config", one(Descriptor), None),
        "layers": ("layers", _descriptors(MAX_LAYERS), ()),
        "subject": ("subject", one(Descriptor), None),
        "annotations": ("annotations", string_map, {}),
    }
    REQUIRED = ("schemaVersion", "config", "layers")
    __slots__ = slots(FIELDS)
    schema_version: int
    media_type: str | None
    artifact_type: str | None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None
    annotations: dict[str, str]


class Index(_ImageValue):
    """One image for many platforms: Docker's manifest list."""

    FIELDS: ClassVar[Fields] = {
        "schemaVersion": ("schema_version", number(2, 2), 2),
        "mediaType": ("media_type", _media_type, None),
        "artifactType": ("artifact_type", _media_type, None),
        "manifests": ("manifests", _descriptors(MAX_MANIFESTS), ()),
        "subject": ("subject", one(Descriptor), None),
        "annotations": ("annotations", string_map, {}),
    }
    REQUIRED = ("schemaVersion", "manifests")
    __slots__ = slots(FIELDS)
    schema_version: int
    media_type: str | None
    artifact_type: str | None
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    annotations: dict[str, str]


def _names(value: object, where: str, warnings: list[str]) -> tuple[str, ...]:
    # map[string]struct{}: a set, written as an object of empty objects.
    return strings(list(plain_map(value, where)), where, warnings)


class Healthcheck(_ImageValue):
    """Docker's HEALTHCHECK; times in nanoseconds, 0 inherits."""

    FIELDS: ClassVar[Fields] = {
        "Test": ("test", strings, ()),
        "Interval": ("interval", i64, 0),
        "Timeout": ("timeout", i64, 0),
        "StartPeriod": ("start_period", i64, 0),
        "StartInterval": ("start_interval", i64, 0),
        "Retries": ("retries", i64, 0),
    }
    __slots__ = slots(FIELDS)
    test: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int


class ContainerConfig(_ImageValue):
    """`config` of an image: defaults for the containers made from it. Nothing here may control the host."""

    FIELDS: ClassVar[Fields] = {
        "User": ("user", text, None),
        "ExposedPorts": ("exposed_ports", _names, ()),
        "Env": ("env", strings, ()),
        "Entrypoint": ("entrypoint", strings, ()),
        "Cmd": ("cmd", strings, ()),
        "Volumes": ("volumes", _names, ()),
        "WorkingDir": ("working_dir", text, None),
        "Labels": ("labels", string_map, {}),
        "StopSignal": ("stop_signal", text, None),
        "StopTimeout": ("stop_timeout", i64, None),
        "ArgsEscaped": ("args_escaped", boolean, False),
        "Healthcheck": ("healthcheck", one(Healthcheck), None),
        "Shell": ("shell", strings, ()),
        "OnBuild": ("on_build", strings, ()),
    }
    __slots__ = slots(FIELDS)
    user: str | None
    exposed_ports: tuple[str, ...]
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    volumes: tuple[str, ...]
    working_dir: str | None
    labels: dict[str, str]
    stop_signal: str | None
    stop_timeout: int | None
    args_escaped: bool
    healthcheck: Healthcheck | None
    shell: tuple[str, ...]
    on_build: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        result = super().to_json()
        for name, names in (("ExposedPorts", self.exposed_ports), ("Volumes", self.volumes)):
            if names:
                result[name] = {key: {} for key in names}
        return result


class RootFS(_ImageValue):
    """`diff_ids`: digests of the uncompressed layers, lowest first."""

    FIELDS: ClassVar[Fields] = {"type": ("type", string, None), "diff_ids": ("diff_ids", _digests, ())}
    REQUIRED = ("type", "diff_ids")
    __slots__ = slots(FIELDS)
    type: str
    diff_ids: tuple[str, ...]

    def check(self, where: str, warnings: list[str]) -> None:
        if self.type != "layers":
            raise invalid("rootfs type", self.type, f"{where}.type", 'allowed is "layers"')
        if len(self.diff_ids) > MAX_LAYERS:
            raise InvalidArgument(
                "list", where=f"{where}.diff_ids", detail=f"{len(self.diff_ids)} layers, allowed are {MAX_LAYERS}"
            )


class History(_ImageValue):
    FIELDS: ClassVar[Fields] = {
        "created": ("created", text, None),
        "created_by": ("created_by", text, None),
        "author": ("author", text, None),
        "comment": ("comment", text, None),
        "empty_layer": ("empty_layer", boolean, False),
    }
    __slots__ = slots(FIELDS)
    created: str | None
    created_by: str | None
    author: str | None
    comment: str | None
    empty_layer: bool


_read_history = many(History)


def _history(value: object, where: str, warnings: list[str]) -> object:
    if isinstance(value, list) and len(value) > MAX_HISTORY:
        raise InvalidArgument("list", where=where, detail=f"{len(value)} entries, allowed are {MAX_HISTORY}")
    return _read_history(value, where, warnings)


class ImageConfig(_ImageValue):
    """An image's config; `config` is never None. Times are RFC 3339 strings as written."""

    FIELDS: ClassVar[Fields] = {
        "created": ("created", text, None),
        "author": ("author", text, None),
        "architecture": ("architecture", string, ""),
        "os": ("os", string, ""),
        "os.version": ("os_version", text, None),
        "os.features": ("os_features", strings, ()),
        "variant": ("variant", text, None),
        "config": ("config", one(ContainerConfig), ContainerConfig()),
        "rootfs": ("rootfs", one(RootFS), None),
        "history": ("history", _history, ()),
    }
    REQUIRED = ("architecture", "os", "rootfs")
    __slots__ = slots(FIELDS)
    created: str | None
    author: str | None
    architecture: str
    os: str
    os_version: str | None
    os_features: tuple[str, ...]
    variant: str | None
    config: ContainerConfig
    rootfs: RootFS
    history: tuple[History, ...]

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)


# --- reading documents


def parse_descriptor(data: object, where: str = "") -> Descriptor:
    """A descriptor out of a document that was read already; raises InvalidArgument."""
    return read(Descriptor, data, where, [])


def parse_document(data: bytes | str, media_type: str = "", *, name: str = "") -> Manifest | Index:
    """A manifest or an index, whichever `media_type` says; without one, whichever the document is.

    `name` is the `where` of errors. Raises InvalidArgument, ResourceExhausted (too large), Unimplemented (schema 1).
    """
    document = jsontext.loads(data, name=name, max_bytes=MAX_DOCUMENT_BYTES)
    if not isinstance(document, dict):
        raise wrong_type("an object", document, name)
    stated = document.get("mediaType")
    if stated is not None and not isinstance(stated, str):
        raise wrong_type("a string", stated, "mediaType")
    if document.get("fsLayers") is not None or document.get("schemaVersion") == 1 or media_type in MEDIA_TYPES_SCHEMA1:
        raise Unimplemented(
            "image manifest schema 1", where=name, detail="obsolete since 2017", hint="push the image again"
        )
    known = (*MANIFEST_TYPES, *INDEX_TYPES)
    if media_type in known and stated and stated != media_type:
        raise InvalidArgument(
            "media type", shown(stated), where=name, detail=f"the document was served as {media_type} (CVE-2021-41190)"
        )
    kind = media_type if media_type in known else stated
    is_manifest = document.get("config") is not None or document.get("layers") is not None
    is_index = document.get("manifests") is not None
    if is_manifest and is_index:
        raise InvalidArgument(
            "document",
            where=name,
            detail="has both manifests and layers: neither an index nor a manifest (CVE-2021-41190)",
        )
    if kind in MANIFEST_TYPES and is_index:
        raise InvalidArgument("document", where=name, detail=f"expected manifest but found index ({kind})")
    if kind in INDEX_TYPES and is_manifest:
        raise InvalidArgument("document", where=name, detail=f"expected index but found manifest ({kind})")
    if kind not in known and not (is_manifest or is_index):
        raise InvalidArgument("document", shown(kind or ""), where=name, detail="is neither a manifest nor an index")
    if document.get("schemaVersion") is None:
        raise missing("schemaVersion")
    if kind in INDEX_TYPES or is_index:
        return read(Index, document, "", [])
    # Go writes an empty list as null; a document that has not even that is no manifest.
    if "layers" not in document:
        raise missing("layers")
    return read(Manifest, document, "", [])


def parse_manifest(data: bytes | str, media_type: str = "", *, name: str = "") -> Manifest:
    """A manifest; raises InvalidArgument for anything else, an index too."""
    document = parse_document(data, media_type, name=name)
    if not isinstance(document, Manifest):
        raise InvalidArgument("document", where=name, detail="expected manifest but found index")
    return document


def parse_index(data: bytes | str, media_type: str = "", *, name: str = "") -> Index:
    """An index; raises InvalidArgument for anything else, a manifest too."""
    document = parse_document(data, media_type, name=name)
    if not isinstance(document, Index):
        raise InvalidArgument("document", where=name, detail="expected index but found manifest")
    return document


def parse_image_config(data: bytes | str, *, name: str = "") -> ImageConfig:
    """An image's config, OCI's or Docker's. Raises InvalidArgument, ResourceExhausted."""
    return read(ImageConfig, jsontext.loads(data, name=name, max_bytes=MAX_DOCUMENT_BYTES), "", [])


def layer_compression(media_type: str) -> str:
    """ "gzip", "zstd" or "" for a layer's media type; raises InvalidArgument for what is no layer."""
    compression = _LAYERS.get(media_type)
    if compression is None:
        raise InvalidArgument("layer media type", shown(media_type), detail="is not a tar layer of OCI or Docker")
    return compression


def is_layer(media_type: str) -> bool:
    return media_type in _LAYERS


def is_nondistributable(media_type: str) -> bool:
    """Layers that are not pushed, and pulled from their `urls` (Windows base images)."""
    return media_type.startswith((MEDIA_TYPE_LAYER_NONDISTRIBUTABLE, MEDIA_TYPE_DOCKER_FOREIGN))


def chain_ids(diff_ids: tuple[str, ...]) -> list[str]:
    """The ChainID of each layer over those below it (image-spec, config.md "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digests.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain
