"""Pulling: a reference becomes content in the store and an image record.

        resolve      tag or digest -> target descriptor       one endpoint after the other until one has it
        manifest     index -> the platform's manifest
        blobs        config and layers, a few at a time       store.content.writer(ref), resumed where it stopped
        record       images.create / update                   only when everything is there

A lease protects what has arrived against a concurrent garbage collection until the record points to it; it
ends with this process. A partial blob stays in the store's ingest under a name made of its digest,
so any later pull goes on where this one stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from masu.errors import (
    AlreadyExists,
    DataLoss,
    InvalidArgument,
    MasuError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from masu.registry import graph
from masu.registry.credentials import Credentials
from masu.registry.download import Download, ref_of
from masu.registry.progress import Quiet
from masu.registry.resolving import Resolved, first_of, remotes_for, resolve, scope, transport_for
from masu.registry.rules import Rules
from masu.registry.threads import in_thread, one_of
from masu.registry.transport import Policy, Remote, Transport
from masu.spec import platform
from masu.spec.image import Descriptor, ImageConfig, Index, Manifest
from masu.spec.platform import Platform
from masu.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.registry.progress import Progress
    from masu.store import NamespaceStore, Writer

# Another process is writing the same blob; its lock goes with it, so we look now and then.
_LOOK_AGAIN_S = 0.2

LayerHook = Callable[[int, Descriptor, Manifest, ImageConfig], None]


@dataclass(frozen=True)
class Pulled:
    """An image that is in the store: `target` is what the record points to, the rest is the chosen platform's."""

    name: str
    target: Descriptor
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig


async def pull(
    ns: NamespaceStore,
    ref: Reference,
    *,
    rules: Rules,
    wanted: Platform | None = None,
    auth: Credentials | None = None,
    progress: Progress | None = None,
    concurrency: int = 3,
    insecure: bool = False,
    policy: Policy | None = None,
    on_layer: LayerHook | None = None,
) -> Pulled:
    """See masu.registry.pull; this is its coroutine."""
    watcher = progress or Quiet()
    lease = await in_thread(ns.leases.hold, "pull")
    try:
        async with transport_for(rules, ref, policy, auth) as transport:
            fetcher = Fetcher(ns, transport, ref, watcher, lease.id, insecure=insecure)
            pulled = await fetcher.pull(wanted, max(concurrency, 1), on_layer)
        await in_thread(graph.set_image, ns, pulled.name, pulled.target)
    except BaseException as error:
        try:
            await in_thread(lease.end)
        except MasuError as second:
            # The lease ends with this process at the latest.
            if isinstance(error, MasuError):
                error.cleanup.append(second)
        raise
    await in_thread(lease.end)
    return pulled


class Fetcher:
    """Brings the content of one image into one namespace."""

    def __init__(
        self,
        ns: NamespaceStore,
        transport: Transport,
        ref: Reference,
        progress: Progress,
        lease: str | None,
        *,
        insecure: bool,
    ) -> None:
        self._ns = ns
        self._transport = transport
        self._ref = ref
        self._progress = progress
        self._lease = lease
        self._insecure = insecure
        self._source_label = {f"{graph.SOURCE_PREFIX}{ref.domain}": ref.path}

    async def pull(
        self, wanted: Platform | None, concurrency: int, on_layer: LayerHook | None, *, others: bool = False
    ) -> Pulled:
        """The image for `wanted`; with `others` manifests and configs of the other platforms, too."""
        resolved = await self._resolve()
        target = resolved.descriptor
        host = wanted or platform.host()
        descriptor, raw = target, resolved.raw
        besides: list[Descriptor] = []
        for _ in range(graph.MAX_DEPTH + 1):
            document = await self._document(descriptor, raw, resolved.remotes)
            if isinstance(document, Manifest):
                break
            descriptor, raw = platform.choose(document.manifests, host), None
            besides += [child for child in document.manifests if child.digest != descriptor.digest]
        else:
            raise InvalidArgument("image", self._ref, detail=f"more than {graph.MAX_DEPTH} indexes in one another")
        graph.check_image(document)
        slots = asyncio.Semaphore(concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                for child in besides if others else ():
                    group.create_task(self._metadata(child, resolved.remotes, slots, group))
                config = await self._blobs(document, resolved.remotes, concurrency, on_layer, wanted)
        except BaseExceptionGroup as errors:
            raise one_of(errors) from None
        assert config is not None
        return Pulled(str(self._ref), target, descriptor, document, config)

    async def _metadata(
        self,
        descriptor: Descriptor,
        remotes: Sequence[Remote],
        slots: asyncio.Semaphore,
        group: asyncio.TaskGroup,
        depth: int = 1,
    ) -> None:
        """A manifest and its config, or an index and what is below. An index may name what its registry never got:
        that is left out."""
        if descriptor.media_type not in graph.DOCUMENT_TYPES or depth > graph.MAX_DEPTH:
            return
        try:
            async with slots:
                document = await self._document(descriptor, None, remotes)
                if isinstance(document, Manifest):
                    if document.config.size <= graph.CONFIG_LIMIT_BYTES:
                        await self._config(document.config, remotes)
                    return
        except NotFound:
            return
        for child in document.manifests:
            group.create_task(self._metadata(child, remotes, slots, group, depth + 1))

    async def everything(self, concurrency: int) -> Descriptor:
        """All that the reference names, for every platform, attestations too; returns what it names."""
        resolved = await self._resolve()
        waiting: list[tuple[Descriptor, bytes | None, int]] = [(resolved.descriptor, resolved.raw, 0)]
        while waiting:
            descriptor, raw, depth = waiting.pop()
            if depth > graph.MAX_DEPTH:
                raise InvalidArgument("image", self._ref, detail=f"more than {graph.MAX_DEPTH} indexes in one another")
            document = await self._document(descriptor, raw, resolved.remotes)
            if isinstance(document, Index):
                waiting += [(child, None, depth + 1) for child in document.manifests]
            else:
                await self._blobs(document, resolved.remotes, concurrency, None, None, is_image=False)
        return resolved.descriptor

    async def _resolve(self) -> Resolved:
        note = self._note("")
        if self._ref.digest:
            # What a digest names cannot have changed: with the document here no question is needed.
            raw = await in_thread(self._local, self._ref.digest)
            if raw is not None:
                remotes = remotes_for(self._transport, self._ref, "pull", insecure=self._insecure)
                return Resolved(graph.descriptor_of(raw, "", self._ref.digest), raw, remotes)
        known: Callable[[str], bool] | None = None
        if await in_thread(self._is_here):
            known = self._has
        return await resolve(self._transport, self._ref, note, insecure=self._insecure, known=known)

    def _is_here(self) -> bool:
        try:
            self._ns.images.get(str(self._ref))
        except NotFound:
            return False
        return True

    def _has(self, digest: str) -> bool:
        return graph.has(self._ns, digest)

    def _local(self, digest: str) -> bytes | None:
        try:
            return self._ns.content.read(digest, graph.MANIFEST_LIMIT_BYTES)
        except NotFound:
            return None
        except DataLoss:
            # The file was lost or changed under its record: a pull is how that is mended.
            self._ns.content.delete(digest)
            return None

    def _note(self, digest: str) -> Callable[[str], None]:
        return partial(self._progress.status, digest)

    async def _document(self, descriptor: Descriptor, raw: bytes | None, remotes: Sequence[Remote]) -> Index | Manifest:
        """The manifest or index of `descriptor`, in the store afterwards."""
        if descriptor.media_type not in graph.DOCUMENT_TYPES:
            raise InvalidArgument(
                "manifest", descriptor.media_type, detail="no image manifest or index", where=descriptor.digest
            )
        local = await in_thread(self._local, descriptor.digest)
        if local is not None:
            document = graph.parse_document(local, descriptor)
            await in_thread(self._keep, descriptor.digest, graph.gc_labels(document))
            self._progress.document(descriptor, graph.below(document), "Already exists")
            return document
        if raw is None:
            raw = await self._get_document(descriptor, remotes)
        document = graph.parse_document(raw, descriptor)
        await in_thread(
            graph.put, self._ns, raw, descriptor, {**graph.gc_labels(document), **self._source_label}, self._lease
        )
        self._progress.document(descriptor, graph.below(document), "Download complete")
        return document

    async def _config(self, descriptor: Descriptor, remotes: Sequence[Remote]) -> None:
        # It comes along silently: nobody who watches layers knows what it is.
        was_here = await in_thread(self._has, descriptor.digest)
        await self._blob(descriptor, remotes, Quiet())
        self._progress.document(descriptor, (), "Already exists" if was_here else "Download complete")

    async def _get_document(self, descriptor: Descriptor, remotes: Sequence[Remote]) -> bytes:
        if descriptor.size > graph.MANIFEST_LIMIT_BYTES:
            raise InvalidArgument(
                "manifest",
                descriptor.digest,
                detail=f"{descriptor.size} bytes, {graph.MANIFEST_LIMIT_BYTES} are allowed",
            )
        subject = ("manifest", descriptor.digest)

        async def ask(remote: Remote) -> bytes:
            answer = await remote.document(
                "GET",
                f"manifests/{descriptor.digest}",
                limit_bytes=descriptor.size,
                headers={"Accept": descriptor.media_type},
                scopes=scope(remote, "pull"),
                note=self._note(""),
                subject=subject,
            )
            if len(answer.body) != descriptor.size:
                raise DataLoss(*subject, detail=f"{len(answer.body)} bytes, {descriptor.size} were announced")
            graph.check_digest(answer.body, descriptor.digest, "manifest")
            return answer.body

        return (await first_of(remotes, ask, self._note("")))[1]

    def _keep(self, digest: str, labels: dict[str, str]) -> None:
        """Protect and label content that was here before us."""
        if self._lease is not None:
            self._ns.leases.add_resource(self._lease, "content", digest)
        graph.add_labels(self._ns, digest, {**labels, **self._source_label})

    async def _blobs(
        self,
        manifest: Manifest,
        remotes: Sequence[Remote],
        concurrency: int,
        on_layer: LayerHook | None,
        wanted: Platform | None,
        *,
        is_image: bool = True,
    ) -> ImageConfig | None:
        """Config and layers. Of what need not be an image the config is not read."""
        slots = asyncio.Semaphore(concurrency)
        first: dict[str, Descriptor] = {}
        for descriptor in (manifest.config, *manifest.layers):
            if first.setdefault(descriptor.digest, descriptor).size != descriptor.size:
                raise InvalidArgument(
                    "manifest", descriptor.digest, detail="named twice with different sizes", where="layers"
                )
        for descriptor in list(first.values())[1:]:
            self._progress.layer(descriptor.digest, descriptor.size)

        async def fetch(descriptor: Descriptor) -> None:
            async with slots:
                if descriptor.digest == manifest.config.digest:
                    await self._config(descriptor, remotes)
                else:
                    await self._blob(descriptor, remotes, self._progress)

        async def get_config() -> ImageConfig | None:
            await tasks[manifest.config.digest]
            if not is_image:
                return None
            config = await in_thread(graph.read_config, self._ns, manifest)
            self._check_config(manifest, config, wanted)
            return config

        async def unpack() -> None:
            assert on_layer is not None
            config = await configuring
            assert config is not None
            for i, layer in enumerate(manifest.layers):
                await tasks[layer.digest]
                await in_thread(on_layer, i, layer, manifest, config)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {digest: group.create_task(fetch(d)) for digest, d in first.items()}
                configuring = group.create_task(get_config())
                if on_layer is not None:
                    group.create_task(unpack())
        except BaseExceptionGroup as errors:
            raise one_of(errors) from None
        return configuring.result()

    def _check_config(self, manifest: Manifest, config: ImageConfig, wanted: Platform | None) -> None:
        if len(config.rootfs.diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                "image",
                self._ref,
                detail=f"{len(manifest.layers)} layers, but {len(config.rootfs.diff_ids)} diff_ids in its config",
                where="rootfs.diff_ids",
            )
        # An image without an index is what it is; only somebody who asked for another platform is told here.
        if wanted is not None and config.architecture and not platform.matches(config.platform, wanted):
            raise NotFound("image", self._ref, detail=f"only for {config.platform}, asked for {wanted}")

    async def _blob(self, descriptor: Descriptor, remotes: Sequence[Remote], progress: Progress) -> None:
        digest = descriptor.digest
        note = partial(progress.status, digest)
        writer = await self._writer(descriptor, note)
        if writer is None:
            await in_thread(self._keep, digest, {})
            progress.advance(digest, descriptor.size)
            note("Already exists")
            return
        download = Download(writer, descriptor, progress)
        ruined = False

        async def ask(remote: Remote) -> None:
            nonlocal ruined
            try:
                await download.run(remote, note)
                ruined = False
            except DataLoss:
                ruined = True
                await download.restart()
                raise

        try:
            if writer.offset:
                progress.advance(digest, writer.offset)
                note(f"Resuming at {writer.offset} bytes")
            await first_of(remotes, ask, note)
        except ResourceExhausted:
            # What is left of a disk is more use to everybody else than half a layer.
            ruined = True
            raise
        finally:
            await in_thread(writer.close)
            if ruined:
                await in_thread(self._abort, ref_of(descriptor))
        note("Download complete")

    def _abort(self, ref: str) -> None:
        try:
            self._ns.content.abort(ref)
        except (NotFound, Unavailable):
            pass  # another process has taken it up already, and truncated it

    async def _writer(self, descriptor: Descriptor, note: Callable[[str], None]) -> Writer | None:
        """The store's writer for a blob, or None when it is there already; waits for another process' one."""
        told = False
        while True:
            try:
                return await in_thread(
                    self._ns.content.writer,
                    ref_of(descriptor),
                    total=descriptor.size,
                    expected=descriptor.digest,
                    labels=self._source_label,
                    lease=self._lease,
                )
            except AlreadyExists:
                return None
            except Unavailable as error:
                if error.what != "ingest":
                    raise
                if not told:
                    note("Waiting for another download of it")
                    told = True
                await asyncio.sleep(_LOOK_AGAIN_S)
