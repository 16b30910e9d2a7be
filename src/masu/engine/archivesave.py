"""Writing images: OCI layouts as directory or tar, docker-archives."""

from __future__ import annotations

import os
import stat

from masu.engine.archiveparts import (
    DANGLING,
    IMAGE_NAME,
    INDEX_LIMIT_BYTES,
    LAYOUT,
    LAYOUT_FILE,
    REF_NAME,
    blob_chunks,
    blob_path,
    from_os_error,
)
from masu.engine.decompress import decompressed
from masu.engine.tarindex import TarWriter, write_all
from masu.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound
from masu.registry import graph
from masu.spec import digest as digests
from masu.spec import image, jsontext, reference
from masu.spec import platform as platforms
from masu.spec.image import Descriptor, Index, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from masu.spec.platform import Platform
    from masu.store import NamespaceStore


class Part:
    """What of its images an archive gets: the manifests for `platforms` (none given: all), `manifest.json` for those
    who know only Docker's archives, layers that are not to be distributed."""

    __slots__ = ("docker_view", "nondistributable", "platforms")

    def __init__(
        self, platforms: Sequence[Platform] = (), *, docker_view: bool = True, nondistributable: bool = True
    ) -> None:
        self.platforms = platforms
        self.docker_view = docker_view
        self.nondistributable = nondistributable

    def below(self, document: Index | Manifest) -> Sequence[Descriptor]:
        """What of what `document` names comes along. Raises NotFound for an index that has nothing for `platforms`."""
        if isinstance(document, Manifest):
            blobs = graph.below(document)
            return [d for d in blobs if self.nondistributable or not image.is_nondistributable(d.media_type)]
        if not self.platforms:
            return document.manifests
        found = [d for d in document.manifests if d.platform is None or self._matches(d.platform)]
        if not found:
            platforms.choose(document.manifests, self.platforms[0])  # which says what there is
        return found

    def _matches(self, platform: Platform) -> bool:
        return any(platforms.matches(platform, wanted) for wanted in self.platforms)


def one_manifest(ns: NamespaceStore, target: Descriptor, name: str, wanted: Platform | None = None) -> Descriptor:
    """Of an index the manifest for `wanted`, or for this machine, or any; what is here."""
    document = graph.read_document(ns, target)
    if isinstance(document, Manifest):
        return target
    here = [d for d, m in graph.manifests(ns, target) if _is_image(m) and not graph.missing(ns, d)]
    if not here:
        raise FailedPrecondition("image", name, detail="nothing of it is here", hint="pull it")
    try:
        return platforms.choose(here, wanted or platforms.host())
    except NotFound:
        return here[0]


def _is_image(manifest: Manifest) -> bool:
    return manifest.config.media_type in image.CONFIG_TYPES


def write_oci(
    ns: NamespaceStore, chosen: list[tuple[str, Descriptor]], tar: TarWriter, part: Part | None = None
) -> None:
    """Raises NotFound, before anything is written, where something is not here."""
    part = part or Part()
    found = [(digest, *blob_chunks(ns, digest)) for digest in _all_digests(ns, [d for _, d in chosen], part)]
    view = _docker_view(ns, chosen, part) if part.docker_view else None
    tar.add_bytes(LAYOUT_FILE, LAYOUT)
    entries = _index_entries(chosen)
    tar.add_bytes("index.json", _index_json(entries))
    if view is not None:
        tar.add_bytes("manifest.json", jsontext.dumps(view).encode())
    tar.add_directory("blobs/")
    tar.add_directory("blobs/sha256/")
    for digest, size, chunks in found:
        tar.add(blob_path(digest), size, chunks)
    tar.finish()


def _docker_view(ns: NamespaceStore, chosen: list[tuple[str, Descriptor]], part: Part) -> list[dict[str, object]]:
    """manifest.json over the layout's own blobs, as containerd and Docker 25 write it."""
    view: dict[str, dict[str, object]] = {}
    for name, target in chosen:
        wanted = part.platforms[0] if part.platforms else None
        manifest = graph.read_document(ns, one_manifest(ns, target, name, wanted))
        if not isinstance(manifest, Manifest) or not _is_image(manifest):
            continue
        path = blob_path(manifest.config.digest)
        layers = [blob_path(layer.digest) for layer in manifest.layers]
        entry = view.setdefault(path, {"Config": path, "RepoTags": [], "Layers": layers})
        tag = _familiar_tag(name)
        tags = entry["RepoTags"]
        if tag and isinstance(tags, list):
            tags.append(tag)
    return list(view.values())


def write_layout(ns: NamespaceStore, chosen: list[tuple[str, Descriptor]], folder: str) -> None:
    """Write into a directory; what an existing layout has stays, entries of the same name are replaced."""
    entries = _index_entries(chosen)
    names = {e.annotations.get(REF_NAME, e.annotations.get(IMAGE_NAME, e.digest)) for e in entries}

    def write() -> None:
        os.makedirs(f"{folder}/blobs/sha256", exist_ok=True)
        old: list[Descriptor] = []
        if os.path.exists(f"{folder}/index.json"):
            with open(f"{folder}/index.json", "rb") as file:
                raw = file.read(INDEX_LIMIT_BYTES + 1)
            old = [
                entry
                for entry in image.parse_index(raw, name=f"{folder}/index.json").manifests
                if entry.annotations.get(REF_NAME, entry.annotations.get(IMAGE_NAME, entry.digest)) not in names
            ]
        elif os.path.exists(f"{folder}/{LAYOUT_FILE}"):
            raise InvalidArgument("OCI layout", folder, detail="it has no index.json")
        for digest in _all_digests(ns, [target for _, target in chosen], Part()):
            path = f"{folder}/{blob_path(digest)}"
            size, chunks = blob_chunks(ns, digest)
            if not _is_file_of(path, size):
                _put_file(path, chunks)
        _put_file(f"{folder}/{LAYOUT_FILE}", [LAYOUT])
        _put_file(f"{folder}/index.json", [_index_json([*old, *entries])])

    as_errors(folder, write)


def write_docker(ns: NamespaceStore, chosen: list[tuple[str, Descriptor]], tar: TarWriter) -> None:
    images: dict[str, dict[str, object]] = {}
    repositories: dict[str, dict[str, str]] = {}
    written: set[str] = set()
    for name, target in chosen:
        manifest = graph.read_document(ns, target)
        assert isinstance(manifest, Manifest)
        config = graph.read_config(ns, manifest)
        if len(config.rootfs.diff_ids) != len(manifest.layers):
            raise DataLoss("image", name, detail="its config does not fit its layers")
        config_path = f"{digests.split(manifest.config.digest)[1]}.json"
        layers = [f"{digests.split(diff_id)[1]}.tar" for diff_id in config.rootfs.diff_ids]
        if config_path not in images:
            for layer, diff_id, path in zip(manifest.layers, config.rootfs.diff_ids, layers, strict=True):
                if path not in written:
                    _add_layer(ns, tar, layer, diff_id, path)
                    written.add(path)
            tar.add_bytes(config_path, ns.content.read(manifest.config.digest, graph.CONFIG_LIMIT_BYTES))
            images[config_path] = {"Config": config_path, "RepoTags": [], "Layers": layers}
        tag = _familiar_tag(name)
        tags = images[config_path]["RepoTags"]
        if tag and isinstance(tags, list):
            tags.append(tag)
            repository, _, word = tag.rpartition(":")
            # Docker before 1.10 looked its layers up by this; today it only shows which repositories there are.
            top = config.rootfs.diff_ids[-1] if config.rootfs.diff_ids else manifest.config.digest
            repositories.setdefault(repository, {})[word] = digests.split(top)[1]
    tar.add_bytes("manifest.json", jsontext.dumps(list(images.values())).encode())
    if repositories:
        tar.add_bytes("repositories", jsontext.dumps(repositories).encode())
    tar.finish()


def _add_layer(ns: NamespaceStore, tar: TarWriter, layer: Descriptor, diff_id: str, path: str) -> None:
    """A layer without its compression. A tar header names the size before the data, so it is unwrapped twice:
    the first time only to count. A pipe cannot be gone back in, and disk space may not be there."""
    if not image.layer_compression(layer.media_type):
        size, chunks = blob_chunks(ns, layer.digest)
        tar.add(path, size, chunks)
        return
    import hashlib  # late: a listing imports this module's neighbours

    size, seen = 0, hashlib.new(digests.split(diff_id)[0])
    for piece in _unwrapped(ns, layer):
        size += len(piece)
        seen.update(piece)
    if seen.hexdigest() != digests.split(diff_id)[1]:
        raise DataLoss("layer", layer.digest, detail=f"unwrapped it is not the {diff_id} of the config")
    tar.add(path, size, _unwrapped(ns, layer))


def _unwrapped(ns: NamespaceStore, layer: Descriptor) -> Iterator[bytes]:
    _, chunks = blob_chunks(ns, layer.digest)
    return decompressed(chunks, image.layer_compression(layer.media_type), layer.digest)


def _index_entries(chosen: list[tuple[str, Descriptor]]) -> list[Descriptor]:
    tags = [_tag_of(name) for name, _ in chosen]
    entries = []
    for (name, target), tag in zip(chosen, tags, strict=True):
        annotations = {} if name.startswith(f"{DANGLING}@") else {IMAGE_NAME: name}
        if tag:
            # A tag tells readers that know only this annotation apart as long as no two images share it.
            annotations[REF_NAME] = tag if tags.count(tag) == 1 else name
        entries.append(
            Descriptor(target.media_type, target.digest, target.size, (), annotations, None, target.platform)
        )
    return entries


def _index_json(entries: list[Descriptor]) -> bytes:
    index = Index(schema_version=2, media_type=image.MEDIA_TYPE_INDEX, manifests=tuple(entries))
    return jsontext.dumps(index.to_json()).encode()


def _all_digests(ns: NamespaceStore, targets: list[Descriptor], part: Part) -> list[str]:
    """Every blob below `targets` that is of `part`, each once, documents before what they name."""
    found: dict[str, None] = {}
    waiting = list(reversed(targets))
    while waiting:
        descriptor = waiting.pop()
        if descriptor.digest in found:
            continue
        found[descriptor.digest] = None
        if descriptor.media_type in graph.DOCUMENT_TYPES:
            waiting.extend(reversed(part.below(graph.read_document(ns, descriptor))))
    return list(found)


def _tag_of(name: str) -> str:
    try:
        return reference.parse(name, default_tag=False).tag or ""
    except InvalidArgument:
        return ""


def _familiar_tag(name: str) -> str:
    """`redis:7` as docker save writes it, or "" for a name without a tag."""
    try:
        ref = reference.parse(name, default_tag=False)
    except InvalidArgument:
        return ""
    return f"{ref.familiar_name()}:{ref.tag}" if ref.tag else ""


def replace(path: str, write: Callable[[int], None]) -> None:
    """Let `write` fill a new file that takes the place of `path` when it is complete."""

    def run() -> None:
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            # A FIFO, /dev/stdout, a tape: nothing to replace.
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                write(fd)
            finally:
                os.close(fd)
            return
        temporary = f"{path}.{os.urandom(4).hex()}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            try:
                write(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    as_errors(path, run)


def _put_file(path: str, chunks: Iterable[bytes]) -> None:
    def write(fd: int) -> None:
        for chunk in chunks:
            write_all(fd, chunk)

    replace(path, write)


def _is_file_of(path: str, size: int) -> bool:
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def as_errors(path: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as e:
        raise from_os_error(e, path) from e
