"""`masu push`."""

from __future__ import annotations

from masu.cli import thirdparty
from masu.cli.engine.common import engine_of, out
from masu.cli.options import Call, Command, Flag


def run(call: Call) -> int:
    thirdparty.enable("aiohttp")
    from masu import registry
    from masu.cli.engine.progress import PullProgress
    from masu.spec import reference

    engine, options = engine_of(call), call.options
    parsed = reference.parse(call.args[0])
    progress = None
    if not options.on("quiet"):
        out(f"The push refers to repository [{parsed.name}]\n")
        progress = PullProgress(1)
    try:
        target = registry.push(
            engine.ns,
            parsed,
            platform=options.text("platform") or None,
            progress=progress,
            insecure=not options.on("tls-verify"),
        )
    finally:
        if progress is not None:
            progress.close()
    if not options.on("quiet"):
        out(f"{parsed.tag or parsed.digest}: digest: {target.digest} size: {target.size}\n")
    return 0


COMMAND = Command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    flags=(
        Flag("platform", value="string", help="Push a platform-specific manifest as a single-platform image"),
        Flag("quiet", "q", help="Suppress verbose output"),
        Flag("tls-verify", default=True, help="Require HTTPS and verify certificates of the registry"),
    ),
    run=run,
)
