"""`masu images`."""

from __future__ import annotations

import time

from masu.cli import units
from masu.cli.engine.common import engine_of, filters, labels_match, out
from masu.cli.options import Call, Command, Flag
from masu.cli.table import Listing
from masu.errors import InvalidArgument, MasuError
from masu.spec import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine import Engine
    from masu.engine.images import Loaded
    from masu.store import Image

_NONE = "<none>"
_COLUMNS = (
    ("Repository", "REPOSITORY"), ("Tag", "TAG"), ("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("Size", "SIZE"),
)  # fmt: skip
_EXTRA = (("Digest", "DIGEST"), ("CreatedAt", "CREATED AT"), ("Containers", "CONTAINERS"))
_LISTING = Listing(_COLUMNS, _EXTRA)
_WITH_DIGESTS = Listing((*_COLUMNS[:2], ("Digest", "DIGEST"), *_COLUMNS[2:]), _EXTRA)
_FILTERS = ("reference", "dangling", "label")


def run(call: Call) -> int:
    engine, options = engine_of(call), call.options
    wanted = filters(options.all("filter"), _FILTERS)
    if call.args:
        wanted.setdefault("reference", []).append(call.args[0])
    found: list[tuple[int, Image, Loaded | None]] = []
    for image in engine.images.all():
        if not _matches(image, wanted):
            continue
        try:
            loaded = engine.images.load(image)
        except MasuError:
            loaded = None  # other machines' only, or damaged: it is listed, so that it can be removed
        if "label" in wanted and (loaded is None or not labels_match(loaded.config.config.labels, wanted["label"])):
            continue
        found.append((_created(loaded), image, loaded))
    found.sort(key=lambda item: -item[0])
    full = options.on("no-trunc")
    if options.on("quiet"):
        ids = [_id(image, loaded, full=full) for _, image, loaded in found]
        out("".join(f"{id}\n" for id in dict.fromkeys(ids)))
        return 0
    now_ns = time.time_ns()
    rows = [_row(engine, image, loaded, now_ns, full=full) for _, image, loaded in found]
    out((_WITH_DIGESTS if options.on("digests") else _LISTING).render(rows, options.text("format")))
    return 0


def _created(loaded: Loaded | None) -> int:
    from masu.engine.images import created_ns

    return created_ns(loaded.config) if loaded else 0


def _id(image: Image, loaded: Loaded | None, *, full: bool) -> str:
    id = loaded.id if loaded else image.target.digest
    return id if full else id.removeprefix("sha256:")[:12]


def names(image: str) -> tuple[str, str]:
    """(repository, tag) as `docker images` shows a recorded name."""
    from masu.spec import reference

    try:
        parsed = reference.parse(image)
    except InvalidArgument:
        return _NONE, _NONE
    if parsed.name.startswith("docker.io/library/masu-dangling"):
        return _NONE, _NONE
    return parsed.familiar_name(), (parsed.tag or _NONE) if not parsed.digest else _NONE


def _matches(image: Image, wanted: dict[str, list[str]]) -> bool:
    repository, tag = names(image.name)
    if "dangling" in wanted and (repository == _NONE) != (wanted["dangling"][-1] in ("true", "1")):
        return False
    patterns = wanted.get("reference")
    if patterns is None:
        return True
    from fnmatch import fnmatchcase  # imports re; only for this filter

    shown = (repository, f"{repository}:{tag}", image.name, image.name.rpartition("@")[0])
    return any(fnmatchcase(text, pattern) for text in shown for pattern in patterns)


def _row(engine: Engine, image: Image, loaded: Loaded | None, now_ns: int, *, full: bool) -> dict[str, object]:
    repository, tag = names(image.name)
    created = _created(loaded)
    return {
        "Repository": repository,
        "Tag": tag,
        "Digest": image.target.digest,
        "ID": _id(image, loaded, full=full),
        "CreatedSince": units.ago(created, now_ns) if created else "N/A",
        "CreatedAt": times.local(created) if created else "N/A",
        "Size": units.human_size(engine.images.size_bytes(loaded), 3) if loaded else "N/A",
        "Containers": "N/A",
    }


COMMAND = Command(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    flags=(
        Flag("all", "a", help="Show all images (there are no hidden intermediate ones here)"),
        Flag("digests", help="Show digests"),
        Flag("filter", "f", value="filter", repeated=True, help="Filter output: " + ", ".join(_FILTERS)),
        Flag("format", value="string", help="Format output: 'table', 'table TEMPLATE', 'json', or a Go template"),
        Flag("no-trunc", help="Don't truncate output"),
        Flag("quiet", "q", help="Only show image IDs"),
    ),
    run=run,
)
