"""Where third-party packages come from.

Both programs start without site, so only the standard library and masu itself can be imported. A command that
needs more (the registry client: aiohttp, isal, zstandard) calls `enable` first; all others never pay for it.
"""

from __future__ import annotations

import gc
import os
import sys

from masu.errors import Unavailable

_done = False


def enable(*needed: str) -> None:
    """Make third-party packages importable; raise Unavailable naming the first of `needed` that is not installed.

    In a checkout they are in its .venv, otherwise wherever the interpreter's own site module finds them (beside
    masu in site-packages, usually). Where site has run already (masu imported as a library) nothing changes.
    """
    global _done
    gc.enable()
    checkout = _checkout()
    if not _done and "site" not in sys.modules:
        import site  # the price of whoever needs third-party packages, see above

        if checkout:
            python = f"python{sys.version_info.major}.{sys.version_info.minor}"
            site.addsitedir(os.path.join(checkout, ".venv", "lib", python, "site-packages"))
        else:
            site.main()
    _done = True
    for name in needed:
        from importlib.util import find_spec

        if find_spec(name) is None:
            again = f"`{checkout}/tools/prepare run` tries again" if checkout else "pip install masu brings it"
            raise Unavailable("python package", name, detail="not installed", hint=again)


def _checkout() -> str:
    """The checkout that this package lies in, or an empty string when it is installed."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    root = os.path.dirname(os.path.dirname(package))
    return root if os.path.exists(os.path.join(root, "tools", "prepare")) else ""
