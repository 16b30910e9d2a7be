"""masu: a container stack, from the registry down to the kernel.

    import masu

    with masu.Engine() as engine:
        for record in engine.containers.all():
            print(record.name, engine.containers.state(record).status)

Importing the package loads nothing else; `masu.Engine` is fetched when it is first named.
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Engine", "__version__"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine import Engine


def __getattr__(name: str) -> object:
    if name == "Engine":
        # By its name, so that who imports a part of masu (the cold runtime above all) does not depend on the engine.
        return __import__("masu.engine", None, None, [name]).Engine
    raise AttributeError(f"module 'masu' has no attribute {name!r}")
