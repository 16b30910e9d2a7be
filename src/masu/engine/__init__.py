"""The engine: images, containers, volumes, and what one does with them. A library; `masu` and `masud` stand on it.

    from masu.engine import ContainerRequest, Engine

    engine = Engine()                                  # /var/lib/masu, or the user's own directory
    engine.images.pull("redis:7")
    container = engine.containers.create("redis:7", ContainerRequest(network="host"), name="cache")
    engine.containers.start(container.id)
    engine.containers.stop(container.id)
    engine.containers.remove(container.id)

Synchronous, no daemon, safe from many threads and processes at once: what is true is on disk and in the kernel, and any
of them may be killed at any moment. Errors are the kinds of `masu.errors`. Nothing here prints.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.engine.engine import Engine as Engine
    from masu.engine.request import ContainerRequest as ContainerRequest

__all__ = ["ContainerRequest", "Engine"]


def __getattr__(name: str) -> object:
    # imported when asked for: `masu --help` and pure parts need none of it
    if name == "Engine":
        from masu.engine.engine import Engine

        return Engine
    if name == "ContainerRequest":
        from masu.engine.request import ContainerRequest

        return ContainerRequest
    raise AttributeError(name)
