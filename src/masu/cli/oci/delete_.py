"""masu-oci delete"""

from __future__ import annotations

from masu.cli.oci import log_of, root_of
from masu.cli.options import Call, Command, Flag
from masu.errors import DataLoss, NotFound
from masu.runtime.container import Container
from masu.runtime.delete import delete


def run(call: Call) -> int:
    if call.options.on("regex"):
        from masu.cli.oci import matching

        return matching.each(call, lambda id: _delete(call, id))
    return _delete(call, call.args[0])


def _delete(call: Call, id: str) -> int:
    force = call.options.on("force")
    try:
        warnings = delete(_open(root_of(call), id, force=force), force=force)
    except NotFound:
        # As runc: what is not there any more need not be removed by force.
        if force:
            return 0
        raise
    for warning in warnings:
        log_of(call).warning(warning)
    return 0


def _open(root: str, id: str, *, force: bool) -> Container:
    try:
        return Container.open(root, id)
    except (DataLoss, NotFound):
        if force:
            return Container.salvage(root, id)
        raise


COMMAND = Command(
    "delete",
    "[command options] <container-id>",
    "delete any resources held by the container, often used with a detached container",
    flags=(
        Flag("force", "f", help="forcibly deletes the container if it is still running (uses SIGKILL)"),
        Flag("regex", "r", help="take the id for a regular expression: every container that matches is deleted"),
    ),
    arity=(1, 1),
    run=run,
)
