"""What all programs but masud do first and last: standard fds, signals, the exit status."""

from __future__ import annotations

import _signal
import gc
import posix as os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from masu.cli.bytecode import Finder


def main(pack: str, finder: Finder | None) -> NoReturn:
    """`pack` is where the pack of our byte code belongs, `finder` what finds modules in it, if it is there."""
    # Nearly all that a short command makes lives until its end; looking for garbage costs 2 ms of its start.
    # `thirdparty.enable` switches it on again for the commands that work longer.
    gc.disable()
    _fill_standard_fds()
    program, args = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("masu", [])
    if program == "masu-brain":
        from masu.cli.brain.listener import serve

        status = serve(args[0], run)
    else:
        status = run(program, args)
    if finder is None or finder.outdated:
        _make(pack)
    # Nothing of ours waits for the interpreter to take itself apart, and that is a tenth of a short command's time.
    os._exit(status)


def run(program: str, args: list[str]) -> int:
    """Runs a command line of one of our programs; the exit status."""
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    try:
        status = _main_of(program)(args)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        # The reader of our output has gone (`masu ps | head -1`); Python ignores SIGPIPE, we end as if it did not.
        status = 128 + 13
    except KeyboardInterrupt:
        status = 128 + 2
    return status


def _main_of(program: str) -> Callable[[list[str]], int]:
    if program == "masu-oci":
        from masu.cli.oci import main
    elif program == "masu":
        from masu.cli.engine import main
    elif program == "containerd-shim-masu-v2":
        from masu.daemon.shim import main
    else:
        sys.exit(f'masu: no program "{program}" (masu, masu-oci, containerd-shim-masu-v2)')
    return main


def _make(pack: str) -> None:
    from masu.cli import packing  # once, for all the commands that come

    try:
        packing.make(pack)
    except OSError:
        pass  # not ours to write, as a rule: then it goes without


def _fill_standard_fds() -> None:
    # Called with `>&-`, the next file to be opened would get that number, and our words would be written into it.
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open("/dev/null", os.O_RDWR)
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, mode, closefd=False))
