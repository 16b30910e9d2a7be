"""Entry of both programs: `python -SIE …/masu/__main__.py PROGRAM ARGS`, PROGRAM being `masu` or `masu-oci`.

Run as a file: without site, which would cost as much as the interpreter does itself; not as a directory or by -m,
which would load runpy, contextlib, collections and functools first (3 ms). What is here is compiled at every start,
so it is a few lines; cli/start.py goes on.
"""

import _signal
import sys

# Until our own handling is there, ctrl-C ends us without a word.
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)
# -I gives only the standard library. __file__ is absolute, whatever was typed (Python 3.9).
sys.path.insert(0, __file__.rsplit("/", 2)[0])

from masu.cli.start import main  # noqa: E402

main()
