"""Entry of both programs: `python -SIE …/masu/__main__.py PROGRAM ARGS`, PROGRAM being `masu` or `masu-oci`.

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

# Modules come from the pack of cli/bytecode.py where there is one.
pack = f"{folder}/masu/__pycache__/masu.{sys.implementation.cache_tag}.pack"
finder = None
try:
    fd = posix.open(pack, posix.O_RDONLY | posix.O_CLOEXEC)
except OSError:
    pass
else:
    length = int(posix.read(fd, 8))
    version, code, index = marshal.loads(posix.read(fd, length))
    posix.close(fd)
    if version == sys.hexversion:
        names = {"__name__": "masu.cli.bytecode"}
        exec(marshal.loads(code), names)
        finder = names["Finder"](folder, pack, 8 + length, index)  # type: ignore[operator]
        sys.meta_path.insert(0, finder)

from masu.cli.start import main  # noqa: E402

main(pack, finder)
