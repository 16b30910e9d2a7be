"""`masu cp`."""

from __future__ import annotations

import sys

from masu.cli.engine.common import engine_of, say
from masu.cli.options import Call, Command, Flag
from masu.errors import InvalidArgument


def run(call: Call) -> int:
    from masu.engine import copying

    engine, options = engine_of(call), call.options
    source, target = call.args
    source_ref, source_path = _split(source)
    target_ref, target_path = _split(target)
    if bool(source_ref) == bool(target_ref):
        which = (
            "copying between containers is not supported"
            if source_ref
            else "must specify at least one container source"
        )
        raise InvalidArgument("cp", f"{source} {target}", detail=which)
    archive, follow = options.on("archive"), options.on("follow-link")
    if source_ref:
        with copying.container_side(engine, engine.containers.find(source_ref)) as side:
            if target == "-":
                import tarfile

                with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
                    copying.write_tar(side, source_path, tar, follow=follow)
                return 0
            copying.copy(side, source_path, copying.Side(), target_path, archive=archive, follow=follow)
        told = target
    else:
        with copying.container_side(engine, engine.containers.find(target_ref)) as side:
            if source == "-":
                import tarfile

                with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*") as tar:
                    copying.read_tar(tar, side, target_path, archive=archive)
                return 0
            copying.copy(copying.Side(), source_path, side, target_path, archive=archive, follow=follow)
        told = target
    if not options.on("quiet") and sys.stderr.isatty():
        say(f"Successfully copied {source} to {told}")
    return 0


def _split(text: str) -> tuple[str, str]:
    """(container, path); a path that begins with / or . is local, whatever colons it has."""
    if text == "-" or text.startswith(("/", ".")):
        return "", text
    ref, colon, path = text.partition(":")
    return (ref, path or "/") if colon else ("", text)


COMMAND = Command(
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH|SRC_PATH|- DEST_PATH|CONTAINER:DEST_PATH|-",
    "Copy files/folders between a container and the local filesystem",
    description="'-' as the source reads a tar archive from STDIN, as the destination it writes one to STDOUT.",
    flags=(
        Flag("archive", "a", help="Archive mode (copy all uid/gid information)"),
        Flag("follow-link", "L", help="Always follow symbol link in SRC_PATH"),
        Flag("quiet", "q", help="Suppress progress output during copy"),
    ),
    arity=(2, 2),
    run=run,
)
