"""masu-oci plan"""

from __future__ import annotations

import os

from masu.cli.oci import log_of
from masu.cli.oci.create_ import BUNDLE, CONFIG, cgroup_manager_of
from masu.cli.options import Call, Command, Flag
from masu.plan import describe
from masu.runtime import bundle as bundles
from masu.runtime import preview
from masu.spec import jsontext


def run(call: Call) -> int:
    bundle = bundles.read(call.options.text("bundle"), call.options.text("config"), to_run=False)
    id = call.args[0] if call.args else os.path.basename(bundle.path) or "container"
    ops = preview.plan(bundle, id, systemd=cgroup_manager_of(call) == "systemd")
    if call.options.on("json"):
        document = {"warnings": bundle.warnings, "operations": describe.to_json(ops)}
        os.write(1, jsontext.dumps(document, indent=2).encode() + b"\n")
        return 0
    for warning in bundle.warnings:
        log_of(call).warning(warning)
    os.write(1, describe.to_text(ops).encode())
    return 0


COMMAND = Command(
    "plan",
    "[command options] [container-id]",
    "shows each operation that creating the container would ask of the kernel, in order; does nothing",
    flags=(BUNDLE, CONFIG, Flag("json", help="the plan as data")),
    arity=(0, 1),
    run=run,
)
