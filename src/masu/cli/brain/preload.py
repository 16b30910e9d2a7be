"""What a brain has in memory before anybody calls: the modules of the common commands.

Not those of registry and compression, which bring a hundred others: a pull takes seconds, and memory is paid for
whether somebody pulls or not.
"""

from __future__ import annotations

import os
from importlib import import_module

_ENGINE_VERBS = (
    "attach", "create", "exec", "inspect", "kill", "logs", "pause", "ps", "rename", "restart", "rm", "run", "start",
    "stop", "top", "unpause", "version", "wait",
)  # fmt: skip
_TIMES = 10
_OCI_VERBS = (
    "create", "delete", "exec", "kill", "list", "pause", "ps", "resume", "run", "start", "state", "update",
)  # fmt: skip
# What they import when they get to it; a test holds it against what they do.
_LATER = """
    _blake2 _functools _sqlite3 pwd termios
    masu.api.shim.bootstrap masu.api.shim.records masu.api.shim.remains masu.api.ttrpc.client
    masu.cli.engine.session masu.cli.help masu.cli.oci.places masu.cli.terminal
    masu.daemon.shim
    masu.engine.births masu.engine.compose masu.engine.containers masu.engine.execs masu.engine.inspection
    masu.engine.limits masu.engine.logs masu.engine.machine masu.engine.names masu.engine.records masu.engine.roots
    masu.engine.states
    masu.linux.cgroups.devices masu.linux.cgroups.tasks masu.linux.cgroups.v1 masu.linux.cgroups.v2
    masu.linux.cgroups.values masu.linux.mountinfo masu.linux.seccomp masu.linux.seccomp_default
    masu.runtime.failure
    masu.snapshots masu.snapshots.mounted masu.snapshots.mounts
    masu.store masu.store.checks masu.store.containers masu.store.db masu.store.events masu.store.images
    masu.store.trees
    """.split()  # noqa: SIM905


def everything() -> None:
    for verb in _OCI_VERBS:
        import_module(f"masu.cli.oci.{verb}_")
    for verb in _ENGINE_VERBS:
        import_module(f"masu.cli.engine.{verb}_")
    for name in _LATER:
        import_module(name)


def warm_up() -> None:
    """Does what most calls do and that has no effect, often enough for the interpreter to specialize its byte code
    (PEP 659)."""
    from masu.cli import engine, oci
    from masu.linux import powers
    from masu.plan import encode
    from masu.runtime import bundle, preview
    from masu.spec import jsontext
    from masu.spec import runtime as spec

    document = {**spec.default_config(rootless=os.geteuid() != 0, cgroup2=True), "root": {"path": "/"}}
    text = jsontext.dumps(document).encode()
    proc = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for _ in range(_TIMES):
        said = powers.status(proc)
        powers.difference(powers.of(proc, said), powers.of(proc, said))
        oci.PROGRAM.parse(["--log", "/dev/null", "run", "--bundle", "/", "nobody"])
        engine.PROGRAM.parse(["run", "--rm", "nothing"])
        encode.encode(preview.plan(bundle.parse("/", text), "nobody"))
    os.close(proc)
