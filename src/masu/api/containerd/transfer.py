"""Transfers: images from here to there, at the daemon's side of the socket.

    OCIRegistry       ─► ImageStore           pull, and unpack
    ImageStore        ─► OCIRegistry          push
    ImageStore        ─► ImageStore           tag
    ImageImportStream ─► ImageStore           import, and unpack
    ImageStore        ─► ImageExportStream    export
    ImageImportStream ─► ImageExportStream    the bytes as they are

What speaks to registries is loaded by the first transfer that needs it: a daemon whose clients pull by themselves goes
without (13 MB, half of its start).

How far it is goes to the client's progress stream, in containerd's events.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from masu.api.containerd import transfer_names, values
from masu.api.containerd.service import Call, Service
from masu.api.containerd.streams import Receiver, Sender, Stream
from masu.api.containerd.transfer_progress import Progress
from masu.api.containerd.transfer_registry import Registry
from masu.api.proto import transfer_pb2 as pb
from masu.api.proto import transfer_types_pb2 as types
from masu.engine import archiveload, archiveparts, archivesave
from masu.engine.tarindex import TarWriter
from masu.errors import InvalidArgument, NotFound, Unimplemented
from masu.registry import graph
from masu.snapshots import choose, unpack
from masu.spec import image, jsontext
from masu.spec import platform as platforms
from masu.spec.image import MEDIA_TYPE_INDEX, Descriptor, ImageConfig, Index, Manifest
from masu.spec.platform import Platform
from masu.store import NamespaceStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.registry.pulling import LayerHook
    from masu.snapshots import Snapshotter

_PIPE_READ = 256 << 10
_KINDS: dict[str, type[Message]] = {
    str(kind.DESCRIPTOR.full_name): kind
    for kind in (types.OCIRegistry, types.ImageStore, types.ImageImportStream, types.ImageExportStream)
}


class Transfer(Service):
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Transfer"]

    async def transfer(self, request: pb.TransferRequest, call: Call) -> Empty:
        source, destination = _opened(request.source), _opened(request.destination)
        watching: Stream | None = None
        if request.options.progress_stream:
            watching = self.site.streams.get(call.namespace, request.options.progress_stream)
        progress = Progress(watching)
        try:
            await self._way(source, destination)(source, destination, call, progress)
        finally:
            if watching is not None:
                await watching.close()
            self.site.collector.dirty()
        return Empty()

    def _way(self, source: Message, destination: Message) -> Callable[..., Awaitable[None]]:
        ways: dict[tuple[type, type], Callable[..., Awaitable[None]]] = {
            (types.OCIRegistry, types.ImageStore): self._pull,
            (types.ImageStore, types.OCIRegistry): self._push,
            (types.ImageStore, types.ImageStore): self._tag,
            (types.ImageImportStream, types.ImageStore): self._import,
            (types.ImageStore, types.ImageExportStream): self._export,
            (types.ImageImportStream, types.ImageExportStream): self._echo,
        }
        found = ways.get((type(source), type(destination)))
        if found is None:
            names = [str(each.DESCRIPTOR.full_name) for each in (source, destination)]
            raise Unimplemented("transfer", detail=f"from {names[0]} to {names[1]}")
        return found

    # ---- registries ----

    async def _pull(self, source: types.OCIRegistry, store: types.ImageStore, call: Call, progress: Progress) -> None:
        from masu.registry.pulling import Fetcher
        from masu.registry.resolving import transport_for

        registry, ns = self._registry(source, call), call.ns
        progress.say(f"Resolving from {registry}")
        wanted = [values.platform(each) for each in store.platforms]
        async with self._leased(call) as lease:
            async with transport_for(registry.rules, registry.ref, None, None, registry.credentials) as transport:
                progress.begin(registry.given, "downloading")
                progress.say(f"Pulling from {registry}")
                progress.say("fetching image content", registry.given)
                fetcher = Fetcher(ns, transport, registry.ref, progress, lease, insecure=False)
                target: Descriptor | None = None
                for each in wanted:
                    hook = self._unpacking(store, each, ns, progress)
                    target = (await fetcher.pull(each, self.site.downloads, hook, others=store.all_metadata)).target
                if target is None:
                    target = await fetcher.everything(self.site.downloads)
                    await call.run(self._unpack, store, target, ns, progress)
            names = transfer_names.plain(store, target.digest)
            await self._save(store, names, target, call, progress)
        progress.end(f"Completed pull from {registry}")

    async def _push(
        self, store: types.ImageStore, destination: types.OCIRegistry, call: Call, progress: Progress
    ) -> None:
        from masu.registry.pushing import push

        registry, ns = self._registry(destination, call), call.ns
        image = await call.run(ns.images.get, store.name)
        progress.say(f"Pushing to {registry}")
        progress.begin(store.name, "uploading")
        progress.say("pushing content", store.name, image.target)
        await push(
            ns,
            registry.ref,
            source=store.name,
            rules=registry.rules,
            wanted=values.platform(store.platforms[0]) if len(store.platforms) == 1 else None,
            progress=progress,
            credentials=registry.credentials,
        )
        progress.say("pushed content", store.name, image.target)
        progress.end(f"Completed push to {registry}", image.target)

    def _registry(self, message: types.OCIRegistry, call: Call) -> Registry:
        stream = message.resolver.auth_stream
        return Registry(message, self.site, self.site.streams.get(call.namespace, stream) if stream else None)

    # ---- names ----

    async def _tag(self, source: types.ImageStore, store: types.ImageStore, call: Call, progress: Progress) -> None:
        image = await call.run(call.ns.images.get, source.name)
        await self._save(store, transfer_names.plain(store, image.target.digest), image.target, call, progress)

    async def _save(
        self,
        store: types.ImageStore,
        names: list[tuple[str, bool]],
        target: Descriptor,
        call: Call,
        progress: Progress,
    ) -> None:
        for name in await call.run(transfer_names.save, call.ns, store, names, target):
            progress.say("saved", name, target)

    # ---- archives ----

    async def _import(
        self, source: types.ImageImportStream, store: types.ImageStore, call: Call, progress: Progress
    ) -> None:
        progress.say("Importing")
        fd = os.open("/var/tmp", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            receiver = Receiver(self.site.streams.get(call.namespace, source.stream))
            while data := await receiver.read():
                await call.run(_write_all, fd, data)
            await call.run(os.lseek, fd, 0, os.SEEK_SET)
            async with self._leased(call) as lease:
                index, entries = await call.run(self._load, fd, source, store, call.ns, lease)
                for target in entries:
                    await call.run(self._unpack, store, target, call.ns, progress)
                # What has no name is not kept, whatever else was in the archive.
                if names := transfer_names.plain(store, index.digest):
                    await self._save(store, names, index, call, progress)
                for target in entries:
                    if names := transfer_names.annotated(store, target):
                        await self._save(store, names, target, call, progress)
        finally:
            os.close(fd)
        progress.say("Completed import")

    def _load(
        self, fd: int, given: types.ImageImportStream, store: types.ImageStore, ns: NamespaceStore, lease: str
    ) -> tuple[Descriptor, list[Descriptor]]:
        """The archive's index, and what that names, with its annotations; in the store afterwards. Raises
        NotFound when nothing of it is for the platforms that the client wants."""
        source = archiveload.open_archive(fd, "of the client")
        try:
            if source.has("index.json") and source.has(archiveparts.LAYOUT_FILE):
                entries = [entry for entry, _ in archiveload.layout_entries(ns, source, lease, None)]
                raw = source.read("index.json", archiveparts.INDEX_LIMIT_BYTES)
            else:
                entries = self._load_docker(source, given, ns, lease)
                index = Index(schema_version=2, media_type=MEDIA_TYPE_INDEX, manifests=tuple(entries))
                raw = jsontext.dumps(index.to_json()).encode()
            found = graph.descriptor_of(raw, MEDIA_TYPE_INDEX)
            graph.put(ns, raw, found, graph.gc_labels(image.parse_index(raw)), lease)
        finally:
            source.close()
        _check_platforms(ns, entries, [values.platform(each) for each in store.platforms])
        return found, entries

    def _load_docker(
        self, source: archiveload.Archive, given: types.ImageImportStream, ns: NamespaceStore, lease: str
    ) -> list[Descriptor]:
        if source.has("manifest.json"):
            making = archiveload.Making(docker_types=True, compress=given.force_compress)
            named = archiveload.load_docker(ns, source, lease, making)
        elif source.has("repositories"):
            named = archiveload.load_docker_v1(ns, source, lease)
        else:
            raise InvalidArgument("image archive", detail="neither an OCI layout nor a docker-archive")
        entries = []
        for name, target in named:
            manifest = graph.read_document(ns, target)
            assert isinstance(manifest, Manifest)
            nameless = name.startswith(f"{archiveparts.DANGLING}@")
            annotations = {} if nameless else transfer_names.entry_annotations(name)
            platform = graph.read_config(ns, manifest).platform
            entries.append(Descriptor(target.media_type, target.digest, target.size, (), annotations, None, platform))
        return entries

    async def _export(
        self, store: types.ImageStore, destination: types.ImageExportStream, call: Call, progress: Progress
    ) -> None:
        progress.say("Exporting")
        stream = self.site.streams.get(call.namespace, destination.stream)
        names = [store.name] if store.name else []
        for ref in store.extra_references:
            if ref.is_prefix:
                raise Unimplemented("export", ref.name, detail="names by their prefix")
            names.append(ref.name)
        part = _part(destination)
        try:
            async with self._leased(call):
                chosen = await call.run(_chosen, call.ns, names)
                await self._through_pipe(
                    lambda fd: archivesave.write_oci(call.ns, chosen, TarWriter(fd), part), Sender(stream), call
                )
        finally:
            await stream.close()
        progress.say("Completed export")

    async def _echo(
        self, source: types.ImageImportStream, destination: types.ImageExportStream, call: Call, progress: Progress
    ) -> None:
        receiver = Receiver(self.site.streams.get(call.namespace, source.stream))
        stream = self.site.streams.get(call.namespace, destination.stream)
        sender = Sender(stream)
        try:
            while data := await receiver.read():
                await sender.write(data)
        finally:
            await stream.close()

    async def _through_pipe(self, write: Callable[[int], None], sender: Sender, call: Call) -> None:
        """What `write` writes in a thread goes to the client; when that has gone `write` gets EPIPE."""
        reading, writing = os.pipe2(os.O_CLOEXEC)

        def fill() -> None:
            try:
                write(writing)
            finally:
                os.close(writing)

        filling = asyncio.ensure_future(call.run(fill))
        try:
            while data := await call.run(os.read, reading, _PIPE_READ):
                await sender.write(data)
        finally:
            os.close(reading)
            await asyncio.wait({filling})
        filling.result()

    # ---- unpacking ----

    def _unpacking(
        self, store: types.ImageStore, wanted: Platform, ns: NamespaceStore, progress: Progress
    ) -> LayerHook | None:
        """Unpacks each layer of a pull while the next ones arrive, if the client wants that platform unpacked."""
        drivers = [each.snapshotter for each in store.unpacks if values.platform(each.platform) == wanted]
        if not drivers:
            return None
        snapshotters = [self._snapshotter(driver, ns) for driver in drivers]

        def unpack_layer(index: int, layer: Descriptor, manifest: Manifest, config: ImageConfig) -> None:
            # The image as far as it goes: what is there already is found again.
            rootfs = config.rootfs.replace(diff_ids=config.rootfs.diff_ids[: index + 1])
            below, known = manifest.replace(layers=manifest.layers[: index + 1]), config.replace(rootfs=rootfs)
            for snapshotter in snapshotters:
                unpack(ns, below, known, snapshotter, progress=progress)

        return unpack_layer

    def _unpack(self, store: types.ImageStore, target: Descriptor, ns: NamespaceStore, progress: Progress) -> None:
        for each in store.unpacks:
            try:
                chosen = graph.choose(ns, target, values.platform(each.platform))
                manifest = graph.read_document(ns, chosen)
            except NotFound:
                continue  # an image for other machines
            if isinstance(manifest, Manifest):
                config = graph.read_config(ns, manifest)
                if platforms.matches(config.platform, values.platform(each.platform)):
                    unpack(ns, manifest, config, self._snapshotter(each.snapshotter, ns), progress=progress)

    def _snapshotter(self, name: str, ns: NamespaceStore) -> Snapshotter:
        return choose(ns, name or self.site.snapshotter)

    @asynccontextmanager
    async def _leased(self, call: Call) -> AsyncIterator[str]:
        """The client's lease, or one of our own that ends with the block, or with this process."""
        if call.lease is not None:
            await call.run(call.ns.leases.get, call.lease)
            yield call.lease
            return
        held = await call.run(call.ns.leases.hold, "transfer")
        try:
            yield held.id
        finally:
            await call.run(held.end)


def _opened(message: Any) -> Message:
    kind = _KINDS.get(message.type_url.rpartition("/")[2])
    if kind is None:
        raise Unimplemented("transfer", message.type_url[:128], detail="a kind that is not known here")
    return kind.FromString(message.value)


def _check_platforms(ns: NamespaceStore, entries: list[Descriptor], wanted: list[Platform]) -> None:
    """Raises NotFound when none of `entries` has an image for any of the platforms."""
    missing: NotFound | None = None
    for entry in entries:
        for each in wanted:
            try:
                graph.choose(ns, entry, each)
            except NotFound as error:
                missing = error
            else:
                return
    if missing is not None:
        raise missing


def _chosen(ns: NamespaceStore, names: list[str]) -> list[tuple[str, Descriptor]]:
    if not names:
        raise InvalidArgument("image", detail="at least one is wanted")
    return [(name, ns.images.get(name).target) for name in names]


def _part(destination: types.ImageExportStream) -> archivesave.Part:
    """This machine's part, when the client does not say which."""
    wanted = [values.platform(each) for each in destination.platforms] or [platforms.host()]
    return archivesave.Part(
        () if destination.all_platforms else wanted,
        docker_view=not destination.skip_compatibility_manifest,
        nondistributable=not destination.skip_non_distributable,
    )


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
