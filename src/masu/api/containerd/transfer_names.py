"""Under which names a transfer leaves an image: those that the client gives, and those that archives bring."""

from __future__ import annotations

from collections.abc import Mapping

from masu.api.proto import transfer_types_pb2 as types
from masu.errors import NotFound
from masu.spec import reference, times
from masu.spec.image import Descriptor
from masu.store import Image, NamespaceStore

# An archive's names: containerd's annotation for a whole one, the specification's for what may be a tag alone.
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"


def plain(store: types.ImageStore, digest: str) -> list[tuple[str, bool]]:
    """The names of an image that has none of its own (a pull, a tag): (name, whether it goes with the first one)."""
    found = [(store.name, False)] if store.name else []
    for ref in store.extra_references:
        if not ref.is_prefix:
            found.append((ref.name, bool(store.name)))
        elif ref.add_digest:
            found.append((f"{ref.name}@{digest}", bool(store.name)))
    return found


def entry_annotations(name: str) -> dict[str, str]:
    """What an entry of an archive's index says of its name."""
    return {IMAGE_NAME: name, REF_NAME: reference.parse(name, default_tag=False).tag or name}


def annotated(store: types.ImageStore, entry: Descriptor) -> list[tuple[str, bool]]:
    """Those of an archive's entry, as far as the client's prefixes take them."""
    found = []
    for ref in store.extra_references:
        if not ref.is_prefix:
            continue
        name = _translated(entry.annotations, ref)
        if name:
            found.append((name, bool(store.name)))
        if ref.add_digest and not (name and ref.skip_named_digest):
            found.append((f"{ref.name}@{entry.digest}", bool(store.name)))
    return found


def _translated(annotations: Mapping[str, str], ref: types.ImageReference) -> str:
    whole = annotations.get(IMAGE_NAME, "")
    if whole:
        return whole if ref.allow_overwrite or _has_prefix(whole, ref.name) else ""
    short = annotations.get(REF_NAME, "")
    if not short:
        return ""
    if any(mark in short for mark in "/:@"):
        return short if ref.allow_overwrite or _has_prefix(short, ref.name) else ""
    return f"{ref.name}:{short}"


def _has_prefix(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] in ("", "/", ":", "@")


def save(ns: NamespaceStore, store: types.ImageStore, names: list[tuple[str, bool]], target: Descriptor) -> list[str]:
    """Makes or changes the records; returns their names. Raises NotFound when there is none to be made."""
    if not names:
        raise NotFound("image name", detail="none was given and none was found")
    bare = Descriptor(target.media_type, target.digest, target.size, (), target.annotations, None, None)
    for name, follows in names:
        labels = dict(store.labels)
        if follows:
            # It goes when the first name does, and at once when nobody has that.
            labels["containerd.io/gc.bref.image"] = store.name
            labels["containerd.io/gc.expire"] = times.now()
        ns.images.put(Image(name, bare, labels))
    return [name for name, _ in names]
