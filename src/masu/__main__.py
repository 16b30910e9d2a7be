"""Entry of both programs: `python -SIE …/masu/__main__.py PROGRAM ARGS`, PROGRAM being `masu` or `masu-oci`.

Run as a file: without site, which would cost as much as the interpreter does itself; not as a directory or by -m,
which would load runpy, contextlib, collections and functools first (3 ms). What is here is compiled at every start,
so it is short.
"""

from __future__ import annotations

import _signal

# Until our own handling is there, ctrl-C ends us without a word.
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import gc  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def main() -> NoReturn:
    # Nearly all that a short command makes lives until its end; looking for garbage costs 2 ms of its start.
    # `thirdparty.enable` switches it on again for the commands that work longer.
    gc.disable()
    _fill_standard_fds()
    # -I gives only the standard library. __file__ may be relative to a cwd that will change.
    package = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.dirname(package))
    program, args = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("masu", [])
    if program == "masu-brain":
        from masu.brain.listener import serve

        os._exit(serve(args[0], run))
    # Nothing of ours waits for the interpreter to take itself apart, and that is a tenth of a short command's time.
    os._exit(run(program, args))


def run(program: str, args: list[str]) -> int:
    """Runs a command line of `masu` or `masu-oci`; the exit status."""
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
    else:
        sys.exit(f'masu: no program "{program}" (masu, masu-oci)')
    return main


def _fill_standard_fds() -> None:
    # Called with `>&-`, the next file to be opened would get that number, and our words would be written into it.
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open("/dev/null", os.O_RDWR)
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, mode, closefd=False))


if __name__ == "__main__":
    main()
