"""masu-oci features"""

from __future__ import annotations

import os

from masu.cli.options import Call, Command
from masu.runtime.features import features
from masu.spec import jsontext


def run(call: Call) -> int:
    os.write(1, jsontext.dumps(features(), indent=4).encode() + b"\n")
    return 0


COMMAND = Command(
    "features",
    "",
    "show the enabled features",
    description="The result is JSON, as described in features.md of the OCI runtime-spec.",
    arity=(0, 0),
    run=run,
)
