"""`masu pull`, also used by `run` and `create` for images that are not here."""

from __future__ import annotations

from masu.cli import thirdparty
from masu.cli.engine.common import engine_of, out, say
from masu.cli.options import Call, Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine import Engine
    from masu.engine.images import LocalImage


def run(call: Call) -> int:
    options = call.options
    pull(
        engine_of(call),
        call.args[0],
        platform=options.text("platform"),
        quiet=options.on("quiet"),
        insecure=not options.on("tls-verify"),
    )
    return 0


def pull(
    engine: Engine,
    ref: str,
    *,
    platform: str = "",
    quiet: bool = False,
    insecure: bool = False,
    to_stderr: bool = False,
) -> LocalImage:
    """Pulls with Docker's words; on a terminal each layer has a line that moves."""
    thirdparty.enable("aiohttp")
    from masu.cli.engine.progress import PullProgress
    from masu.spec import reference

    parsed = reference.parse(ref)
    tell = say if to_stderr else lambda text: out(text + "\n")
    before = _target(engine, str(parsed))
    progress = None
    if not quiet:
        if parsed.tag == reference.DEFAULT_TAG and not parsed.digest and not ref.endswith(":latest"):
            tell("Using default tag: latest")
        where = parsed.path if parsed.domain == reference.DEFAULT_DOMAIN else parsed.name
        tell(f"{parsed.tag or parsed.digest}: Pulling from {where}")
        progress = PullProgress(2 if to_stderr else 1)
    try:
        image = engine.images.pull(str(parsed), platform=platform, progress=progress, insecure=insecure)
    finally:
        if progress is not None:
            progress.close()
    if quiet:
        if not to_stderr:
            out(f"{parsed}\n")
        return image
    tell(f"Digest: {image.target_digest}")
    fresh = "Image is up to date for" if before == image.target_digest else "Downloaded newer image for"
    tell(f"Status: {fresh} {parsed.familiar()}")
    if not to_stderr:
        tell(str(parsed))
    return image


def _target(engine: Engine, name: str) -> str:
    from masu.errors import NotFound

    try:
        return engine.ns.images.get(name).target.digest
    except NotFound:
        return ""


COMMAND = Command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    flags=(
        Flag("platform", value="string", help="Set platform if server is multi-platform capable"),
        Flag("quiet", "q", help="Suppress verbose output"),
        Flag("tls-verify", default=True, help="Require HTTPS and verify certificates of the registry"),
    ),
    run=run,
)
