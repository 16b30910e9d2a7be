"""A plan while it is being written: three lists that end up one after the other.

prepare   on the host, before any namespace is entered: paths are opened, trees cloned, cgroups joined
enter     still on the host: namespaces joined and made, then `clone`
inside    in the container
"""

from __future__ import annotations

from masu.plan.ops import Op


class Draft:
    __slots__ = ("_slots", "enter", "inside", "prepare")

    def __init__(self) -> None:
        self.prepare: list[Op] = []
        self.enter: list[Op] = []
        self.inside: list[Op] = []
        self._slots = 0

    def slot(self) -> int:
        """A slot number nobody else has."""
        self._slots += 1
        return self._slots - 1

    def ops(self) -> list[Op]:
        return self.prepare + self.enter + self.inside
