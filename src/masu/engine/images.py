"""Images: pull, list, look inside, name, remove. An image's id is the digest of its config, as `docker images` has it.

    reference ──images──► target (index or manifest) ──► manifest ──► config, layers ──unpack──► snapshots (chain ids)

Everything below the reference is named by digest and never changes, so what `run` needs of it (defaults, the topmost
snapshot) is kept in a small file once it was worked out (`cache/images`): a start reads one row and one file.
"""

from __future__ import annotations

import os

from masu.engine import machine
from masu.engine.compose import ImageDefaults
from masu.errors import FailedPrecondition, InvalidArgument, MasuError, NotFound
from masu.spec import jsontext, reference, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from masu.engine.engine import Engine
    from masu.registry.credentials import Credentials
    from masu.registry.progress import Progress
    from masu.snapshots import Snapshotter
    from masu.spec.image import Descriptor, ImageConfig, Manifest
    from masu.spec.platform import Platform
    from masu.store import Image as Row

    Json = dict[str, object]

CACHE_VERSION = 1
_MAX_CACHE_BYTES = 1 << 20


class LocalImage:
    """One platform of an image that is here. `name` is the record's, `chain` the topmost snapshot's name.

    `foreign` is the platform when it is not this machine's own, "" when it is.
    """

    __slots__ = ("chain", "defaults", "foreign", "id", "name", "target_digest")

    def __init__(
        self, name: str, id: str, chain: str, defaults: ImageDefaults, target_digest: str, foreign: str = ""
    ) -> None:
        self.name = name
        self.id = id
        self.chain = chain
        self.defaults = defaults
        self.target_digest = target_digest
        self.foreign = foreign


class Loaded:
    """The documents of one platform of an image."""

    __slots__ = ("config", "descriptor", "manifest", "row")

    def __init__(self, row: Row, descriptor: Descriptor, manifest: Manifest, config: ImageConfig) -> None:
        self.row = row
        self.descriptor = descriptor
        self.manifest = manifest
        self.config = config

    @property
    def id(self) -> str:
        return self.manifest.config.digest


class Removal:
    """What `remove` did, in order: names that were taken away, ids that went with the last of them."""

    __slots__ = ("deleted", "untagged")

    def __init__(self) -> None:
        self.untagged: list[str] = []
        self.deleted: list[str] = []


class Images:
    """The images of one engine. A `ref` is a reference, an id, or the beginning of an id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._snapshotter: Snapshotter | None = None

    @property
    def snapshotter(self) -> Snapshotter:
        if self._snapshotter is None:
            from masu.snapshots import choose

            self._snapshotter = choose(self._engine.ns)
        return self._snapshotter

    # --- finding ---

    def find(self, ref: str) -> Row:
        """The record that a name or an id means. Raises NotFound, InvalidArgument."""
        ns = self._engine.ns
        bare = ref.removeprefix("sha256:")
        looks_like_id = len(bare) >= 4 and all(c in "0123456789abcdef" for c in bare)
        if not ref.startswith("sha256:"):
            try:
                return ns.images.get(str(reference.parse(ref)))
            except NotFound:
                pass
            except InvalidArgument:
                if not looks_like_id:
                    return self._as_recorded(ref)
            try:
                return ns.images.get(ref)  # names that are no references: what has none
            except (NotFound, InvalidArgument):
                pass
        if looks_like_id:
            return self._by_id(ref, bare)
        raise NotFound("image", ref, detail="no such image", hint=f"masu pull {ref}" if ref.isprintable() else "")

    def _as_recorded(self, ref: str) -> Row:
        try:
            return self._engine.ns.images.get(ref)
        except NotFound:
            reference.parse(ref)  # says what is wrong with it
            raise

    def _by_id(self, ref: str, prefix: str) -> Row:
        found: dict[str, Row] = {}
        for row in self._engine.ns.images.list():
            if row.target.digest.removeprefix("sha256:").startswith(prefix):
                found.setdefault(row.target.digest, row)
                continue
            try:
                id = self.load(row).id
            except MasuError:
                continue
            if id.removeprefix("sha256:").startswith(prefix):
                found.setdefault(id, row)
        if len(found) > 1:
            shown = ", ".join(digest[7:19] for digest in sorted(found)[:3])
            raise InvalidArgument("image id prefix", ref, detail=f"matches {shown}")
        if not found:
            raise NotFound("image", ref, detail="no such image")
        return next(iter(found.values()))

    def load(self, row: Row, platform: str = "") -> Loaded:
        """The documents of a record, for `platform` or the machine's own, else the only one that is here.

        Raises NotFound for a platform that is not here, DataLoss for what is damaged.
        """
        from masu.registry import graph
        from masu.spec import image as spec
        from masu.spec import platform as platforms

        ns = self._engine.ns
        document = graph.read_document(ns, row.target)
        if isinstance(document, spec.Manifest):
            descriptor, manifest = row.target, document
        else:
            here = [
                (d, m)
                for d, m in graph.manifests(ns, row.target)
                if m.config.media_type in spec.CONFIG_TYPES and graph.has(ns, m.config.digest)
            ]
            wanted = platforms.parse(platform) if platform else platforms.host()
            try:
                descriptor = platforms.choose([d for d, _ in here], wanted)
            except NotFound:
                if platform or len(here) != 1:
                    raise NotFound(
                        "image",
                        row.name,
                        detail=f"not here for {wanted}",
                        hint=f"masu pull --platform {wanted} {row.name}",
                    ) from None
                descriptor = here[0][0]
            manifest = next(m for d, m in here if d.digest == descriptor.digest)
        config = graph.read_config(ns, manifest)
        if platform and not platforms.matches(config.platform, platforms.parse(platform)):
            raise NotFound("image", row.name, detail=f"here it is for {config.platform}, asked for {platform}")
        return Loaded(row, descriptor, manifest, config)

    def resolve(self, ref: str, *, platform: str = "") -> LocalImage:
        """What a container needs to know of a local image. Raises NotFound, InvalidArgument, DataLoss."""
        row = self.find(ref)
        cached = self._read_cache(row, platform)
        if cached is not None:
            return cached
        loaded = self.load(row, platform)
        self._check_runnable(loaded)
        from masu.spec.image import chain_ids

        chain = chain_ids(loaded.config.rootfs.diff_ids)
        return _local(loaded, chain[-1] if chain else "")

    def is_local(self, ref: str, *, platform: str = "") -> bool:
        """Whether the image is here, for the platform asked for."""
        try:
            self.resolve(ref, platform=platform)
        except NotFound:
            return False
        return True

    def _check_runnable(self, loaded: Loaded) -> None:
        config = loaded.config
        if config.os and config.os != "linux":
            raise FailedPrecondition("image", loaded.row.name, detail=f"is for {config.os}, not for Linux")

    def _cache_path(self, row: Row, platform: str) -> str:
        key = row.target.digest.removeprefix("sha256:") + ("-" + platform.replace("/", "-") if platform else "")
        return f"{self._engine.root}/cache/images/{key}"

    def _read_cache(self, row: Row, platform: str) -> LocalImage | None:
        path = self._cache_path(row, platform)
        try:
            with open(path, "rb") as file:
                data = jsontext.loads(file.read(_MAX_CACHE_BYTES), name=path)
            if not isinstance(data, dict) or data.get("version") != CACHE_VERSION:
                return None
            defaults = data["defaults"]
            return LocalImage(
                row.name,
                str(data["id"]),
                str(data["chain"]),
                ImageDefaults(**defaults),
                row.target.digest,
                str(data["foreign"]),
            )
        except (OSError, InvalidArgument, KeyError, TypeError):
            return None

    def _write_cache(self, row: Row, platform: str, image: LocalImage) -> None:
        path = self._cache_path(row, platform)
        data: Json = {
            "version": CACHE_VERSION,
            "id": image.id,
            "chain": image.chain,
            "foreign": image.foreign,
            "defaults": {name: getattr(image.defaults, name) for name in ImageDefaults.__slots__},
        }
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        temporary = f"{path}.{os.urandom(4).hex()}"
        with open(temporary, "wb") as file:
            file.write(jsontext.dumps(data).encode())
        os.rename(temporary, path)

    def _drop_cache(self, row: Row) -> None:
        key = row.target.digest.removeprefix("sha256:")
        folder = f"{self._engine.root}/cache/images"
        try:
            names = [name for name in os.listdir(folder) if name.startswith(key)]
        except FileNotFoundError:
            return
        for name in names:
            try:
                os.unlink(f"{folder}/{name}")
            except FileNotFoundError:
                continue

    # --- bringing in ---

    def pull(
        self,
        ref: str,
        *,
        platform: str = "",
        auth: Credentials | None = None,
        progress: Progress | None = None,
        insecure: bool = False,
    ) -> LocalImage:
        """Brings an image in and unpacks it, each layer while the next ones arrive. Raises as masu.registry.pull."""
        from masu import registry

        machine.require_power("unpacking an image")
        ns, snapshotter = self._engine.ns, self.snapshotter
        from masu.snapshots import unpack

        def unpack_layer(index: int, layer: Descriptor, manifest: Manifest, config: ImageConfig) -> None:
            # the image as far as it goes: what is there already is found again, so each call adds one layer
            diff_ids = config.rootfs.diff_ids[: index + 1]
            unpack(
                ns,
                manifest.replace(layers=manifest.layers[: index + 1]),
                config.replace(rootfs=config.rootfs.replace(diff_ids=diff_ids)),
                snapshotter,
                progress=progress,
            )

        pulled = registry.pull(
            ns,
            ref,
            platform=platform or None,
            auth=auth,
            progress=progress,
            insecure=insecure,
            on_layer=unpack_layer,
        )
        row = ns.images.get(pulled.name)
        return self._unpack(row, Loaded(row, pulled.descriptor, pulled.manifest, pulled.config), platform, progress)

    def unpack(self, image: LocalImage, *, platform: str = "") -> str:
        """Makes sure that the image's snapshots are there; returns the topmost one's name."""
        if image.chain:
            try:
                if self.snapshotter.stat(image.chain).kind == "committed":
                    return image.chain
            except NotFound:
                pass
        row = self._engine.ns.images.get(image.name)
        return self._unpack(row, self.load(row, platform), platform).chain

    def _unpack(self, row: Row, loaded: Loaded, platform: str, progress: Progress | None = None) -> LocalImage:
        from masu.snapshots import unpack

        chain = unpack(self._engine.ns, loaded.manifest, loaded.config, self.snapshotter, progress=progress)
        image = _local(loaded, chain)
        self._write_cache(row, platform, image)
        return image

    # --- names ---

    def tag(self, source: str, target: str) -> str:
        """Gives an image another name; returns it in full. Raises NotFound, InvalidArgument."""
        from masu.store import Image

        row = self.find(source)
        name = reference.parse(target)
        if name.digest:
            raise InvalidArgument("tag", target, detail="refusing to create a tag with a digest reference")
        self._engine.ns.images.put(Image(str(name), row.target, row.labels))
        return str(name)

    def remove(self, ref: str, *, force: bool = False) -> Removal:
        """Takes a name away, and the image with its last name. By an id all names go, several only with `force`.

        Raises FailedPrecondition while a container uses it (with `force` only while one runs), NotFound.
        """
        ns = self._engine.ns
        row = self.find(ref)
        done = Removal()
        by_id = not self._is_name(ref, row)
        id = self._id(row)
        siblings = [other for other in ns.images.list() if self._id(other) == id]
        if by_id and len(siblings) > 1 and not force:
            raise FailedPrecondition(
                "image", ref, detail="is referenced in multiple repositories", hint="--force removes all its names"
            )
        going = siblings if by_id else [row]
        if len(going) == len(siblings):
            self._check_unused(row.name, id, force=force)
        with ns.transaction():
            for each in going:
                ns.images.delete(each.name)
                done.untagged.append(each.name)
        if len(going) == len(siblings):
            self._engine.store.gc()
            self._drop_cache(row)
            done.deleted.append(id)
        return done

    def _is_name(self, ref: str, row: Row) -> bool:
        if ref == row.name:
            return True
        try:
            return str(reference.parse(ref)) == row.name
        except InvalidArgument:
            return False

    def _id(self, row: Row) -> str:
        try:
            return self.load(row).id
        except MasuError:
            return row.target.digest  # content is missing or damaged; it can be removed all the same

    def _check_unused(self, name: str, id: str, *, force: bool) -> None:
        for record in self._engine.containers.all():
            if record.image.id != id:
                continue
            running = self._engine.containers.state(record).is_up
            if running or not force:
                kind = "running" if running else "stopped"
                raise FailedPrecondition(
                    "image", _familiar(name), detail=f"{kind} container {record.id[:12]} ({record.name}) is using it",
                    hint="remove the container first" if running else "remove the container first, or use --force",
                )  # fmt: skip

    # --- looking ---

    def all(self) -> list[Row]:
        """Every record, by name."""
        return self._engine.ns.images.list()

    def size_bytes(self, loaded: Loaded) -> int:
        """What the image takes unpacked; compressed where it is not unpacked."""
        return sum(self.layer_sizes(loaded))

    def layer_sizes(self, loaded: Loaded) -> list[int]:
        """The same layer by layer, lowest first."""
        from masu.spec.image import chain_ids

        out = []
        for layer, chain in zip(loaded.manifest.layers, chain_ids(loaded.config.rootfs.diff_ids), strict=False):
            try:
                out.append(self.snapshotter.usage(chain)[0])
            except NotFound:
                out.append(layer.size)
        return out

    def names_of(self, id: str) -> list[str]:
        """All names of an image."""
        return [row.name for row in self._engine.ns.images.list() if self._id(row) == id]

    def inspect(self, ref: str, *, platform: str = "") -> Json:
        """docker image inspect's object. Raises NotFound."""
        loaded = self.load(self.find(ref), platform)
        config, defaults = loaded.config, loaded.config.config
        names = self.names_of(loaded.id)
        tags, digests = [], []
        for name in names:
            parsed = _parsed(name)
            if parsed is None:
                continue
            if parsed.tag and not parsed.digest:
                tags.append(parsed.familiar())
            digests.append(f"{parsed.familiar_name()}@{loaded.row.target.digest}")
        return {
            "Id": loaded.id,
            "RepoTags": tags,
            "RepoDigests": list(dict.fromkeys(digests)),
            "Parent": "",
            "Comment": config.history[-1].comment or "" if config.history else "",
            "Created": config.created or "",
            "Author": config.author or "",
            "Architecture": config.architecture,
            **({"Variant": config.variant} if config.variant else {}),
            "Os": config.os,
            "Size": self.size_bytes(loaded),
            "Config": {
                "User": defaults.user or "",
                "ExposedPorts": {port: {} for port in defaults.exposed_ports} or None,
                "Env": list(defaults.env) or None,
                "Entrypoint": list(defaults.entrypoint) or None,
                "Cmd": list(defaults.cmd) or None,
                "Volumes": {volume: {} for volume in defaults.volumes} or None,
                "WorkingDir": defaults.working_dir or "",
                "Labels": defaults.labels or None,
                "StopSignal": defaults.stop_signal or "",
                "Healthcheck": defaults.healthcheck.to_json() if defaults.healthcheck else None,
                "OnBuild": list(defaults.on_build) or None,
            },
            "GraphDriver": {"Name": self.snapshotter.name, "Data": {}},
            "RootFS": {"Type": "layers", "Layers": list(config.rootfs.diff_ids)},
            "Metadata": {"LastTagTime": loaded.row.updated_at},
            "Descriptor": loaded.row.target.to_json(),
            "Manifest": loaded.descriptor.to_json(),
        }

    def history(self, ref: str, *, platform: str = "") -> list[Json]:
        """The steps that made the image, newest first: created (RFC 3339), created_by, comment, size_bytes, empty."""
        loaded = self.load(self.find(ref), platform)
        sizes = iter(self.layer_sizes(loaded))
        steps: list[Json] = []
        for item in loaded.config.history:
            steps.append(
                {
                    "created": item.created or "",
                    "created_by": item.created_by or "",
                    "comment": item.comment or "",
                    "empty": item.empty_layer,
                    "size_bytes": 0 if item.empty_layer else next(sizes, 0),
                }
            )
        # an image may tell less than it has
        steps += [
            {
                "created": loaded.config.created or "",
                "created_by": "",
                "comment": "",
                "empty": False,
                "size_bytes": size,
            }
            for size in sizes
        ]
        steps.reverse()
        if steps:
            steps[0]["id"] = loaded.id
        return steps

    # --- files ---

    def save(self, refs: Sequence[str], out: str | int, *, format: str = "docker-archive", platform: str = "") -> None:
        """Writes images to a file, an fd or a directory; see `masu.engine.archive.save`."""
        from masu.engine import archive

        names = [self.find(ref).name for ref in refs]
        archive.save(self._engine.ns, names, out, format=format, platform=_platform(platform))

    def load_archive(self, source: str | int, *, platform: str = "") -> list[str]:
        """Brings the images of an archive or layout in and unpacks them; the names that were set."""
        from masu.engine import archive

        machine.require_power("unpacking an image")
        names = archive.load(self._engine.ns, source, platform=_platform(platform))
        for name in dict.fromkeys(names):
            row = self._engine.ns.images.get(name)
            try:
                loaded = self.load(row, platform)
            except NotFound:
                continue  # for other machines only
            self._unpack(row, loaded, platform)
        return names

    def import_archive(
        self, source: str | int, ref: str = "", *, changes: Sequence[str] = (), message: str = "", platform: str = ""
    ) -> LocalImage:
        """Makes an image of a tar of a root file system."""
        from masu.engine import archive

        machine.require_power("unpacking an image")
        name = archive.import_rootfs(
            self._engine.ns, source, ref or None, changes=changes, message=message, platform=_platform(platform)
        )
        row = self._engine.ns.images.get(name)
        return self._unpack(row, self.load(row), "")


def _local(loaded: Loaded, chain: str) -> LocalImage:
    from masu.spec import platform as platforms

    own = platforms.host()
    foreign = "" if platforms.matches(loaded.config.platform, own) else str(loaded.config.platform)
    row = loaded.row
    return LocalImage(row.name, loaded.id, chain, defaults_of(loaded.config), row.target.digest, foreign)


def _platform(text: str) -> Platform | None:
    if not text:
        return None
    from masu.spec import platform

    return platform.parse(text)


def _parsed(name: str) -> reference.Reference | None:
    try:
        return reference.parse(name)
    except InvalidArgument:
        return None


def _familiar(name: str) -> str:
    parsed = _parsed(name)
    return parsed.familiar() if parsed else name


def defaults_of(config: ImageConfig) -> ImageDefaults:
    """What an image's config says about running it, in the engine's words."""
    said = config.config
    return ImageDefaults(
        entrypoint=said.entrypoint,
        cmd=said.cmd,
        env=said.env,
        user=said.user or "",
        workdir=said.working_dir or "",
        volumes=said.volumes,
        stop_signal=said.stop_signal or "",
        labels=said.labels,
        exposed_ports=said.exposed_ports,
    )


def created_ns(config: ImageConfig) -> int:
    """When the image was made, 0 when it does not say."""
    try:
        return times.parse(config.created) if config.created else 0
    except InvalidArgument:
        return 0
