"""Entry of the programs: `python -SIE …/masu/__main__.py PROGRAM ARGS`, PROGRAM being `masu`, `masu-oci` or
`containerd-shim-masu-v2`.

Run as a file: without site, which would cost as much as the interpreter does itself; not as a directory or by -m,
which would load runpy, contextlib, collections and functools first (3 ms). What is here is compiled at every start,
so it is a few lines; cli/start.py goes on.
"""

import _signal
import marshal
import posix
import sys

# Until our own handling is there, ctrl-C ends us without a word.
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)
if "interrupt" in sys._xoptions:  # the front has held it back (native/front/cold.c)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))
# -I gives only the standard library. __file__ is absolute, whatever was typed (Python 3.9).
folder, _, _ = __file__.rsplit("/", 2)
sys.path.insert(0, folder)

# Modules come from the pack of cli/bytecode.py, if there is one and it is of this interpreter and of these two files.
pack = f"{folder}/masu/__pycache__/masu.{sys.implementation.cache_tag}.pack"
finder = None
try:
    with open(pack, "rb", buffering=0) as file:
        facts = posix.fstat(file.fileno())
        stamp, code, index = marshal.loads(file.read(int(file.read(8))))
        begin = file.tell()
    own = posix.stat(__file__).st_mtime_ns, posix.stat(f"{folder}/masu/cli/bytecode.py").st_mtime_ns
    if stamp == (sys.hexversion, *own):
        names = {"__name__": "masu.cli.bytecode"}
        exec(marshal.loads(code), names)
        finder = names["Finder"](folder, pack, facts, begin, index)  # type: ignore[operator]
        sys.meta_path.insert(0, finder)
except (OSError, EOFError, ValueError, TypeError):
    pass

from masu.cli.start import main  # noqa: E402

main(pack, finder)
