"""Reading images from archives that others made: OCI layouts and docker-archives, tar or directory. Untrusted."""

from __future__ import annotations

import errno
import os
import stat

from masu.engine.archiveparts import (
    DANGLING,
    IMAGE_NAME,
    INDEX_LIMIT_BYTES,
    LAYOUT_FILE,
    REF_NAME,
    blob_path,
    from_os_error,
    ingest,
    open_file,
    put_image,
    read_all,
    with_head,
)
from masu.engine.decompress import decompressed, kind_of
from masu.engine.tarindex import CHUNK_BYTES, TarIndex, write_all
from masu.errors import DataLoss, InvalidArgument, KernelError, NotFound, ResourceExhausted, Unimplemented
from masu.registry import graph
from masu.spec import image, jsontext, reference
from masu.spec import platform as platforms
from masu.spec.image import Descriptor, Index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from masu.spec.platform import Platform
    from masu.spec.reference import Reference
    from masu.store import NamespaceStore

    class Archive(Protocol):
        """Where a layout's or an archive's members come from."""

        name: str

        def read(self, name: str, limit: int) -> bytes: ...
        def member(self, name: str) -> tuple[int, Iterator[bytes]] | None: ...
        def has(self, name: str) -> bool: ...
        def close(self) -> None: ...


# Blobs of an archive that gets larger than this when unwrapped do not fit anywhere.
_SPOOL_LIMIT_BYTES = 1 << 40


class _TarArchive:
    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self._fd = fd
        self._index = TarIndex(fd, name)

    def read(self, name: str, limit: int) -> bytes:
        return self._index.read(name, limit)

    def member(self, name: str) -> tuple[int, Iterator[bytes]] | None:
        found = self._index.find(name)
        return None if found is None else (found[1], self._index.chunks(*found))

    def has(self, name: str) -> bool:
        return self._index.find(name) is not None

    def close(self) -> None:
        os.close(self._fd)


class _Directory:
    """An unpacked layout; what its names lead to cannot lie outside of it."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def read(self, name: str, limit: int) -> bytes:
        found = self.member(name)
        if found is None:
            raise NotFound("file", f"{self.name}/{name}")
        size, chunks = found
        if size > limit:
            raise ResourceExhausted("file", f"{self.name}/{name}", detail=f"{size} bytes, allowed are {limit}")
        return b"".join(chunks)

    def member(self, name: str) -> tuple[int, Iterator[bytes]] | None:
        fd = self._open(name)
        if fd is None:
            return None
        size = os.fstat(fd).st_size
        os.close(fd)

        def chunks() -> Iterator[bytes]:
            # Opened when it is read: a generator that nobody starts could not close it. What changes in between
            # is found out by the digest.
            fd = self._open(name)
            if fd is None:
                raise NotFound("file", f"{self.name}/{name}")
            left = size
            try:
                while left and (piece := os.read(fd, min(CHUNK_BYTES, left))):
                    left -= len(piece)
                    yield piece
            finally:
                os.close(fd)

        return size, chunks()

    def has(self, name: str) -> bool:
        fd = self._open(name)
        if fd is None:
            return False
        os.close(fd)
        return True

    def close(self) -> None:
        os.close(self._fd)

    def _open(self, name: str) -> int | None:
        # Late: an archive in a file needs no path resolution.
        from masu.linux import paths

        try:
            handle = paths.open_in_root(self._fd, name, os.O_PATH)
        except KernelError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        try:
            # Looked at before it is opened: a FIFO would hold us, a device would be touched.
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InvalidArgument("file", f"{self.name}/{name}", detail="not a regular file")
            return paths.reopen(handle, os.O_RDONLY)
        finally:
            os.close(handle)


def open_archive(source: str | int, name: str = "") -> Archive:
    """`name` is what an fd is called in errors."""
    if isinstance(source, str) and os.path.isdir(source):
        return _Directory(source)
    fd, name = open_file(source, name)
    try:
        seekable = stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0
        head = os.pread(fd, 8, 0) if seekable else b""
        if not seekable or kind_of(head):
            spooled = _spool(read_all(fd), name)
            os.close(fd)
            fd = spooled
        return _TarArchive(fd, name)
    except OSError as e:
        os.close(fd)
        raise from_os_error(e, name) from e
    except BaseException:
        os.close(fd)
        raise


def _spool(chunks: Iterator[bytes], name: str) -> int:
    """The bare archive in a file without a name: the manifest may be its last member."""
    head, stream = with_head(chunks)
    # /var/tmp, as Docker and podman do it: /tmp is memory on many machines.
    folder = os.environ.get("TMPDIR") or "/var/tmp"
    fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    written = 0
    try:
        for piece in decompressed(stream, kind_of(head), name):
            written += len(piece)
            if written > _SPOOL_LIMIT_BYTES:
                raise ResourceExhausted("archive", name, detail=f"more than {_SPOOL_LIMIT_BYTES} bytes unwrapped")
            try:
                write_all(fd, piece)
            except OSError as e:
                raise from_os_error(e, folder) from e
    except BaseException:
        os.close(fd)
        raise
    return fd


def load_layout(
    ns: NamespaceStore, archive: Archive, lease: str, base: Reference | None, wanted: Platform | None
) -> list[tuple[str, Descriptor]]:
    return [(_layout_name(entry, target, base), target) for entry, target in layout_entries(ns, archive, lease, wanted)]


def layout_entries(
    ns: NamespaceStore, archive: Archive, lease: str, wanted: Platform | None
) -> list[tuple[Descriptor, Descriptor]]:
    """What a layout's index names, with its annotations, and what of it was brought in."""
    layout = jsontext.loads(archive.read(LAYOUT_FILE, 4096), name=LAYOUT_FILE)
    version = layout.get("imageLayoutVersion") if isinstance(layout, dict) else None
    if not isinstance(version, str) or not version.startswith("1."):
        raise Unimplemented("OCI layout", archive.name, detail=f"version {version!r}", where=LAYOUT_FILE)
    index = image.parse_index(archive.read("index.json", INDEX_LIMIT_BYTES), name="index.json")
    found: list[tuple[Descriptor, Descriptor]] = []
    for entry in index.manifests:
        if entry.media_type not in graph.DOCUMENT_TYPES:
            continue  # the specification allows anything here; what we do not know is no image
        target = Descriptor(entry.media_type, entry.digest, entry.size, (), {}, None, entry.platform)
        if not _load_document(ns, archive, target, lease, 0):
            raise NotFound("blob", entry.digest, detail="the archive does not hold what its index names")
        if wanted is not None:
            target = graph.whole(ns, target, wanted, entry.digest)
        found.append((entry, target))
    if not found:
        raise InvalidArgument("OCI layout", archive.name, detail="its index names no image", where="index.json")
    return found


def _load_document(ns: NamespaceStore, archive: Archive, target: Descriptor, lease: str, depth: int) -> bool:
    """Bring in a manifest or index and what is below it; False when the archive does not have all of it.

    Of an index one whole image is enough: an archive of one platform keeps the index of all.
    """
    if depth > graph.MAX_DEPTH:
        raise InvalidArgument("image index", target.digest, detail=f"more than {graph.MAX_DEPTH} in one another")
    path = blob_path(target.digest)
    if not archive.has(path):
        return False
    raw = archive.read(path, graph.MANIFEST_LIMIT_BYTES)
    graph.check_digest(raw, target.digest, "manifest")
    document = graph.parse_document(raw, target)
    if isinstance(document, Index):
        below = [_load_document(ns, archive, d, lease, depth + 1) for d in document.manifests if _is_known(d)]
        if below and not any(below):
            return False
    else:
        blobs = list({d.digest: d for d in (document.config, *document.layers)}.values())
        if not all(archive.has(blob_path(d.digest)) or graph.has(ns, d.digest) for d in blobs):
            return False
        for descriptor in blobs:
            found = archive.member(blob_path(descriptor.digest))
            if found is not None:
                _load_blob(ns, descriptor, found, lease)
            else:
                ns.leases.add_resource(lease, "content", descriptor.digest)
    graph.put(ns, raw, target, graph.gc_labels(document), lease)
    return True


def _is_known(descriptor: Descriptor) -> bool:
    return descriptor.media_type in graph.DOCUMENT_TYPES


def _load_blob(ns: NamespaceStore, descriptor: Descriptor, found: tuple[int, Iterator[bytes]], lease: str) -> None:
    size, chunks = found
    if size != descriptor.size:
        raise DataLoss("blob", descriptor.digest, detail=f"{size} bytes, the manifest says {descriptor.size}")
    ingest(ns, chunks, lease, expected=descriptor.digest)


def _layout_name(entry: Descriptor, target: Descriptor, base: Reference | None) -> str:
    """The name that a layout's annotations give, as far as they are names at all.

    The specification's ref.name comes first: tools that know it alone (umoci) copy the other one to new tags.
    """
    whole, short = entry.annotations.get(IMAGE_NAME, ""), entry.annotations.get(REF_NAME, "")
    named = _parsed(whole) or base
    # A bare word is a tag by the specification; with nothing to be a tag of it is taken as a name (podman does, too).
    if named and short and reference.is_tag(short):
        return str(named.with_tag(short))
    named = (_parsed(short) if short else None) or named
    return str(named) if named else f"{DANGLING}@{target.digest}"


def _parsed(name: str) -> Reference | None:
    try:
        return reference.parse(name)
    except InvalidArgument:
        return None


class Making:
    """How an image is made of a docker-archive, which has no manifests: with Docker's media types or OCI's; whether
    bare layers are compressed."""

    __slots__ = ("compress", "docker_types", "known")

    def __init__(self, *, docker_types: bool = False, compress: bool = False) -> None:
        self.docker_types = docker_types
        self.compress = compress
        # Layers that are in the store: path in the archive -> what it has become, and its bare digest.
        self.known: dict[str, tuple[Descriptor, str]] = {}

    def media_type(self, compression: str) -> str:
        if self.docker_types:
            kinds = {"gzip": image.MEDIA_TYPE_DOCKER_LAYER_GZIP, "zstd": image.MEDIA_TYPE_DOCKER_LAYER_ZSTD}
            return kinds.get(compression, image.MEDIA_TYPE_DOCKER_LAYER)
        kinds = {"gzip": image.MEDIA_TYPE_LAYER_GZIP, "zstd": image.MEDIA_TYPE_LAYER_ZSTD}
        return kinds.get(compression, image.MEDIA_TYPE_LAYER)


def load_docker(
    ns: NamespaceStore, archive: Archive, lease: str, making: Making | None = None
) -> list[tuple[str, Descriptor]]:
    making = making or Making()
    data = jsontext.loads(archive.read("manifest.json", INDEX_LIMIT_BYTES), name="manifest.json")
    if not isinstance(data, list) or not data:
        raise InvalidArgument(
            "docker-archive", archive.name, detail="a list of images is wanted", where="manifest.json"
        )
    found: list[tuple[str, Descriptor]] = []
    for i, entry in enumerate(data):
        where = f"manifest.json: [{i}]"
        if not isinstance(entry, dict):
            raise InvalidArgument("docker-archive", archive.name, detail="an object is wanted", where=where)
        config_path = entry.get("Config")
        paths = _texts(entry.get("Layers"), f"{where}.Layers")
        if not isinstance(config_path, str):
            raise InvalidArgument("docker-archive", archive.name, detail="a text is wanted", where=f"{where}.Config")
        raw = archive.read(config_path, graph.CONFIG_LIMIT_BYTES)
        target = _docker_image(ns, archive, raw, paths, lease, making, config_path)
        names = [_docker_name(tag, where) for tag in _texts(entry.get("RepoTags"), f"{where}.RepoTags")]
        found += [(name, target) for name in names or [f"{DANGLING}@{target.digest}"]]
    return found


def _docker_image(
    ns: NamespaceStore,
    archive: Archive,
    raw_config: bytes,
    paths: list[str],
    lease: str,
    making: Making,
    config_name: str,
) -> Descriptor:
    config = image.parse_image_config(raw_config, name=config_name)
    if len(config.rootfs.diff_ids) != len(paths):
        raise InvalidArgument(
            "docker-archive",
            archive.name,
            detail=f"{len(paths)} layers, but {len(config.rootfs.diff_ids)} diff_ids in its config",
            where=config_name,
        )
    layers = []
    for path, diff_id in zip(paths, config.rootfs.diff_ids, strict=True):
        if path not in making.known:
            found = archive.member(path)
            if found is None:
                raise NotFound("layer", path, where=archive.name)
            making.known[path] = _docker_layer(ns, found[1], lease, making)
        layer, bare_digest = making.known[path]
        # Of compressed layers the unpacker finds out.
        if bare_digest and diff_id.startswith("sha256:") and bare_digest != diff_id:
            raise DataLoss("layer", path, detail=f"its digest is {bare_digest}, the config says {diff_id}")
        layers.append(layer)
    return put_image(ns, raw_config, layers, lease, docker_types=making.docker_types)


def _docker_layer(ns: NamespaceStore, chunks: Iterator[bytes], lease: str, making: Making) -> tuple[Descriptor, str]:
    """A layer's descriptor, and the digest of what came when that was not compressed."""
    head, stream = with_head(chunks)
    kind = kind_of(head)
    if kind not in ("", "gzip", "zstd"):
        stream, kind = decompressed(stream, kind, "layer"), ""
    if making.compress and not kind:
        bare, digest = _ingest_compressed(ns, stream, lease)
        kind = "gzip"
    else:
        digest = ingest(ns, stream, lease)
        bare = "" if kind else digest
    return Descriptor(making.media_type(kind), digest, ns.content.info(digest).size), bare


def _ingest_compressed(ns: NamespaceStore, chunks: Iterator[bytes], lease: str) -> tuple[str, str]:
    """The digest of what comes, and that of its gzip in the store."""
    import hashlib  # late, as what compresses: nobody else needs it
    from io import BytesIO

    from masu.snapshots.compression import Compressor

    seen, made = hashlib.sha256(), BytesIO()
    compressor = Compressor(made, "gzip")

    def taken() -> bytes:
        data = made.getvalue()
        made.seek(0)
        made.truncate()
        return data

    def compressed() -> Iterator[bytes]:
        for chunk in chunks:
            seen.update(chunk)
            compressor.write(chunk)
            yield taken()
        compressor.end()
        yield taken()

    digest = ingest(ns, compressed(), lease)
    return f"sha256:{seen.hexdigest()}", digest


def load_docker_v1(ns: NamespaceStore, archive: Archive, lease: str) -> list[tuple[str, Descriptor]]:
    """Docker before 1.10: `repositories` names a layer, each layer's `json` its parent and the image's config."""
    data = jsontext.loads(archive.read("repositories", INDEX_LIMIT_BYTES), name="repositories")
    if not isinstance(data, dict):
        raise InvalidArgument("docker-archive", archive.name, detail="an object is wanted", where="repositories")
    found: list[tuple[str, Descriptor]] = []
    known: dict[str, tuple[Descriptor, str]] = {}
    for repository, tags in data.items():
        for tag, top in tags.items() if isinstance(tags, dict) else ():
            where = f"repositories: {repository}:{tag}"
            chain = _v1_chain(archive, top, where)
            layers = []
            for layer_id, _ in chain:
                path = f"{layer_id}/layer.tar"
                if path not in known:
                    member = archive.member(path)
                    if member is None:
                        raise NotFound("layer", path, where=archive.name)
                    known[path] = _docker_layer(ns, member[1], lease, Making())
                if not known[path][1]:
                    raise Unimplemented("layer", path, detail="compressed layers in a docker-archive of before 1.10")
                layers.append(known[path])
            raw = jsontext.dumps(_v1_config(chain, [bare for _, bare in layers])).encode()
            target = put_image(ns, raw, [layer for layer, _ in layers], lease)
            found.append((_docker_name(f"{repository}:{tag}", where), target))
    if not found:
        raise InvalidArgument("docker-archive", archive.name, detail="names no image", where="repositories")
    return found


def _v1_chain(archive: Archive, top: object, where: str) -> list[tuple[str, dict[str, object]]]:
    """The layers of an image, lowest first, each with its `json`."""
    chain: list[tuple[str, dict[str, object]]] = []
    current = top
    while current:
        if not isinstance(current, str) or len(current) != 64 or current.strip("0123456789abcdef"):
            raise InvalidArgument("layer id", str(current)[:80], detail="64 hexadecimal digits are wanted", where=where)
        if len(chain) >= image.MAX_LAYERS:
            raise ResourceExhausted("image", where=where, detail=f"more than {image.MAX_LAYERS} layers")
        facts = jsontext.loads(archive.read(f"{current}/json", graph.CONFIG_LIMIT_BYTES), name=f"{current}/json")
        if not isinstance(facts, dict):
            raise InvalidArgument("layer", current, detail="an object is wanted", where=f"{current}/json")
        chain.append((current, facts))
        current = facts.get("parent")
    if not chain:
        raise InvalidArgument("docker-archive", archive.name, detail="an image without layers", where=where)
    return chain[::-1]


def _v1_config(chain: list[tuple[str, dict[str, object]]], diff_ids: list[str]) -> dict[str, object]:
    top = chain[-1][1]
    config = {key: top[key] for key in ("architecture", "os", "variant", "created", "author", "config") if top.get(key)}
    config.setdefault("architecture", platforms.host().architecture)
    config.setdefault("os", "linux")
    history = []
    for _, facts in chain:
        entry = {key: facts[key] for key in ("created", "author", "comment") if facts.get(key)}
        container = facts.get("container_config")
        command = container.get("Cmd") if isinstance(container, dict) else None
        if isinstance(command, list):
            entry["created_by"] = " ".join(c for c in command if isinstance(c, str))
        history.append(entry)
    return {**config, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history}


def _docker_name(text: str, where: str) -> str:
    try:
        return str(reference.parse(text))
    except InvalidArgument as e:
        e.where = f"{where}.RepoTags"
        raise


def _texts(value: object, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > 16384 or not all(isinstance(v, str) for v in value):
        raise InvalidArgument("docker-archive", detail="a list of texts is wanted", where=where)
    return value
