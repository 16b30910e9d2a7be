"""A plan while it is being written: lists that end up one after the other.

prepare   on the host, before any namespace is entered: files are opened, cgroups joined
trees     mounts of the host are cloned, file systems made
enter     still on the host: namespaces joined and made
cross     the identity of the container's root is taken on, then `clone`
inside    in the container

Trees want CAP_SYS_ADMIN over the mount namespace that they come from. Who has it clones them on the host. Who has it
only in the container's user namespace (`trees_late`) clones them from a mount namespace made there, a copy of the
host's: before becoming the container's root, who may be somebody that cannot walk to them.
"""

from __future__ import annotations

from masu.linux.namespaces import CLONE_NEWNS
from masu.plan.ops import Op


class Draft:
    __slots__ = ("_slots", "cross", "enter", "inside", "prepare", "trees", "trees_late")

    def __init__(self, *, trees_late: bool = False) -> None:
        self.trees_late = trees_late
        self.prepare: list[Op] = []
        self.trees: list[Op] = []
        self.enter: list[Op] = []
        self.cross: list[Op] = []
        self.inside: list[Op] = []
        self._slots = 0

    def slot(self) -> int:
        """A slot number nobody else has."""
        self._slots += 1
        return self._slots - 1

    def ops(self) -> list[Op]:
        entered = self.trees + self.enter
        if self.trees_late:
            entered = [*self.enter, Op("unshare", "linux.namespaces", flags=CLONE_NEWNS), *self.trees]
        return self.prepare + entered + self.cross + self.inside
