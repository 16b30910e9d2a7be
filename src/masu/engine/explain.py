"""What `run` would do, layer by layer, and nothing done: reference, manifest, layers, snapshot, config.json, plan.

Asks only what is on this machine: no registry is asked, no snapshot made, no file written. Where a later step depends
on one that was not done (an image that is not here), it says so.
"""

from __future__ import annotations

import os

from masu.engine import births, machine, names, roots
from masu.engine.compose import ImageDefaults, all_mounts, compose
from masu.engine.records import HOST
from masu.engine.request import ContainerRequest
from masu.errors import MasuError, NotFound
from masu.linux.passwd import User
from masu.plan import describe
from masu.plan.host import Rootfs
from masu.runtime import bundle as bundles
from masu.runtime import preview
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.engine import Engine
    from masu.engine.images import Loaded

    Json = dict[str, object]


class Stage:
    """One layer: what it is called, its words, the same as data."""

    __slots__ = ("data", "lines", "title")

    def __init__(self, title: str, lines: list[str], data: object) -> None:
        self.title = title
        self.lines = lines
        self.data = data


def explain(engine: Engine, image: str, request: ContainerRequest) -> list[Stage]:
    """The stages of `run IMAGE`, as far as they can be known. Raises InvalidArgument for a wrong request."""
    id = names.new_id()
    if request.rootfs:
        path = os.path.abspath(request.rootfs)
        first = [Stage("root file system", [f"the directory {path} itself"], {"rootfs": path})]
        return [*first, *_container(engine, request, ImageDefaults(), Rootfs(path), id, path)]
    if image == HOST:
        directory = engine.directory(id)
        words = ("lowerdir=/", f"upperdir={directory}/upper/root", f"workdir={directory}/work/root")
        lines = ["the machine's own root, written to in a place of the container's own", f"overlay {','.join(words)}"]
        root = Rootfs("/", ("overlay", "overlay", words))
        first = [Stage("root file system", lines, {"mount": ["overlay", "overlay", list(words)]})]
        return [*first, *_container(engine, request, roots.host_image().defaults, root, id, "/")]
    stages = [_reference(engine, image)]
    try:
        loaded = engine.images.load(engine.images.find(image), request.platform)
    except NotFound as error:
        reason = f"not here: {error.detail or 'it would be pulled first'}"
        return [*stages, Stage("manifest", [reason, "what follows depends on it"], None)]
    from masu.engine.images import defaults_of

    root, layers, snapshot = _layers(engine, loaded, id)
    defaults = defaults_of(loaded.config)
    return [*stages, _manifest(loaded), layers, snapshot, *_container(engine, request, defaults, root, id, "")]


def _reference(engine: Engine, image: str) -> Stage:
    from masu.spec import reference

    parsed = reference.parse(image)
    lines = [f"{image} -> {parsed}"]
    asked: list[str] = []
    try:
        from masu.registry.rules import load

        for endpoint in load().endpoints(parsed.domain, capability="resolve"):
            what = parsed.digest or parsed.tag
            asked.append(f"GET {endpoint}/v2/{endpoint.prefix}{parsed.path}/manifests/{what}")
        lines += [f"a pull would ask: {line}" for line in asked]
    except (MasuError, ImportError) as error:
        lines.append(f"a pull would fail: {error}")
    try:
        row = engine.ns.images.get(str(parsed))
        lines.append(f"recorded here: {row.target.digest} ({row.target.media_type}), since {row.created_at}")
    except NotFound:
        lines.append("not recorded here")
    return Stage("reference", lines, {"given": image, "full": str(parsed), "pull": asked})


def _manifest(loaded: Loaded) -> Stage:
    config = loaded.config
    lines = [
        f"target    {loaded.row.target.digest}  {loaded.row.target.media_type}",
        f"manifest  {loaded.descriptor.digest}  for {config.platform}",
        f"config    {loaded.id}  {loaded.manifest.config.size} bytes",
    ]
    data: Json = {
        "target": loaded.row.target.to_json(),
        "manifest": loaded.descriptor.to_json(),
        "config": loaded.manifest.config.to_json(),
    }
    return Stage("manifest", lines, data)


def _layers(engine: Engine, loaded: Loaded, id: str) -> tuple[Rootfs, Stage, Stage]:
    from masu.spec.image import chain_ids

    snapshotter = engine.images.snapshotter
    lines: list[str] = []
    data: list[Json] = []
    chains = chain_ids(loaded.config.rootfs.diff_ids)
    for layer, chain in zip(loaded.manifest.layers, chains, strict=False):
        try:
            there = snapshotter.stat(chain).kind == "committed"
        except NotFound:
            there = False
        done = "unpacked already" if there else "would be unpacked by the confined worker"
        lines.append(f"{layer.digest[:19]} {layer.size:>12} bytes  -> snapshot {chain[:19]}  {done}")
        data.append({"descriptor": layer.to_json(), "chain_id": chain, "unpacked": there})
    top = chains[-1] if chains else ""
    below = ":".join(f"<{chain[7:19]}>" for chain in reversed(chains))
    options = (f"lowerdir={below}", f"upperdir=<new>/{id[:12]}", f"workdir=<new>/{id[:12]}")
    words = [f"{snapshotter.name}: prepare {id[:12]}… on {top[:19] or 'nothing'}", f"overlay {','.join(options)}"]
    root = Rootfs(loaded.row.name, ("overlay", "overlay", options))
    return (
        root,
        Stage("layers", lines or ["none"], data),
        Stage("snapshot", words, {"snapshotter": snapshotter.name, "key": id, "parent": top}),
    )


def _container(
    engine: Engine, request: ContainerRequest, defaults: ImageDefaults, root: Rootfs, id: str, look_in: str
) -> list[Stage]:
    """config.json and plan."""
    facts = machine.gather(request.ulimits)
    notes: list[str] = []
    user = _user(defaults, request, look_in, notes)
    sources: dict[str, str] = {}
    for mount in all_mounts(defaults, request):
        if mount.kind == "bind":
            sources[mount.target] = mount.source
        elif mount.kind == "volume":
            name = mount.source or "<new>"
            sources[mount.target] = f"{engine.root}/volumes/{name}/_data"
    composed = compose(
        defaults,
        request,
        facts,
        id=id,
        user=user,
        sources=sources,
        devices=machine.devices(request.devices, every=request.privileged),
        namespaces=births.joined(engine, request),
        seccomp=births.profile(request, facts.capabilities),
    )
    text = jsontext.dumps(composed.config).encode()
    shown = dict(composed.config)
    linux = shown.get("linux")
    if isinstance(linux, dict) and "seccomp" in linux:
        # four hundred lines that say the same every time
        shown["linux"] = {**linux, "seccomp": "(the default profile; --json shows it)"}
    notes += [f"warning: {text_}" for text_ in composed.warnings]
    config_lines = [*notes, *jsontext.dumps(shown, indent=2).splitlines()]
    warnings: list[str] = []
    bundle = bundles.Bundle("/", text, bundles.parse_config(text, warnings), warnings)
    ops = preview.plan(bundle, id, root)
    return [
        Stage("config.json", config_lines, composed.config),
        Stage("plan", describe.to_text(ops).splitlines(), describe.to_json(ops)),
    ]


def _user(defaults: ImageDefaults, request: ContainerRequest, look_in: str, notes: list[str]) -> User:
    from masu.linux import paths

    if look_in:
        root = paths.open_root(look_in)
        try:
            return roots.resolve_user(root, defaults, request)
        finally:
            os.close(root)
    word = request.user or defaults.user
    if word and word not in ("0", "root"):
        notes.append(
            f"note: the user {word} is looked up in the image's own /etc/passwd at the start; 0 stands for it here"
        )
    return User(home="/root", additional_gids=(0,))
