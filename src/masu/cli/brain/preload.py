"""What a brain has in memory before anybody calls: the modules of the common commands.

Not those of registry and compression, which bring a hundred others: a pull takes seconds, and memory is paid for
whether somebody pulls or not.
"""

from __future__ import annotations

from importlib import import_module

_ENGINE_VERBS = (
    "attach", "create", "exec", "inspect", "kill", "logs", "pause", "ps", "rename", "restart", "rm", "run", "start",
    "stop", "top", "unpause", "version", "wait",
)  # fmt: skip
_OCI_VERBS = (
    "create", "delete", "exec", "kill", "list", "pause", "ps", "resume", "run", "start", "state", "update",
)  # fmt: skip
# What they import when they get to it.
_LATER = ("masu.cli.oci.places",)


def everything() -> None:
    for verb in _OCI_VERBS:
        import_module(f"masu.cli.oci.{verb}_")
    for verb in _ENGINE_VERBS:
        import_module(f"masu.cli.engine.{verb}_")
    for name in _LATER:
        import_module(name)


def warm_up() -> None:
    """Does in a spare what most calls do and that has no effect, so that its memory is its own by then: after fork(2)
    each page is copied when it is first written, and Python writes wherever it looks."""
    from masu.cli import engine, oci
    from masu.plan import encode
    from masu.runtime import bundle, preview
    from masu.spec import jsontext
    from masu.spec import runtime as spec

    oci.PROGRAM.parse(["--log", "/dev/null", "run", "--bundle", "/", "nobody"])
    engine.PROGRAM.parse(["run", "--rm", "nothing"])
    document = {**spec.default_config(cgroup2=True), "root": {"path": "/"}}
    made = bundle.parse("/", jsontext.dumps(document).encode())
    encode.encode(preview.plan(made, "nobody"))
