"""What a collection must keep, said anew in the plainest way: a graph of names, for tests that make random histories
of a store or of its clients and compare."""

from __future__ import annotations

from collections.abc import Iterable

from masu.spec import times

DRIVER = "overlayfs"
Ref = tuple[str, str]  # kind ("content", "snapshot", "image", "container", "ingest", "sandbox"), name
Key = tuple[str, str, str]  # namespace, kind, name

_LABEL_KINDS = {"snapshot": f"snapshot.{DRIVER}"}


class Node:
    """One object. `parts` it keeps by being what it is (a snapshot its parent, an image its target), `refs` by labels;
    `brefs` are those that keep it, by its own labels; `expires_ns` is when it is no root any more, None for never."""

    def __init__(
        self,
        *,
        parts: Iterable[Ref] = (),
        refs: Iterable[Ref] = (),
        brefs: Iterable[Ref] = (),
        root: bool = False,
        expires_ns: int | None = None,
    ) -> None:
        self.parts = list(parts)
        self.refs = list(refs)
        self.brefs = list(brefs)
        self.root = root
        self.expires_ns = expires_ns

    def labels(self) -> dict[str, str]:
        """All of that which is said by labels, `root` among it: whoever is one by birth leaves it out."""
        found: dict[str, str] = {}
        for word, names in (("ref", self.refs), ("bref", self.brefs)):
            for i, (kind, name) in enumerate(names):
                found[f"containerd.io/gc.{word}.{_LABEL_KINDS.get(kind, kind)}/{i}"] = name
        if self.root:
            found["containerd.io/gc.root"] = "yes"
        if self.expires_ns is not None:
            found["containerd.io/gc.expire"] = times.text(self.expires_ns)
        return found

    def is_root(self, now_ns: int) -> bool:
        return self.root and (self.expires_ns is None or self.expires_ns > now_ns)


class Held:
    """A lease."""

    def __init__(self, *, flat: bool = False, resources: Iterable[Ref] = (), expires_ns: int | None = None) -> None:
        self.flat = flat
        self.resources = set(resources)
        self.expires_ns = expires_ns

    def labels(self) -> dict[str, str]:
        found = {} if self.expires_ns is None else {"containerd.io/gc.expire": times.text(self.expires_ns)}
        if self.flat:
            found["containerd.io/gc.flat"] = "yes"
        return found


class Model:
    def __init__(self) -> None:
        self.nodes: dict[Key, Node] = {}
        self.leases: dict[tuple[str, str], Held] = {}

    def names(self, namespace: str, kind: str) -> set[str]:
        return {name for ns, each, name in self.nodes if (ns, each) == (namespace, kind)}

    def remove(self, key: Key) -> None:
        """By a client's word: no lease holds it any more."""
        del self.nodes[key]
        for (ns, _), held in self.leases.items():
            if ns == key[0]:
                held.resources.discard(key[1:])

    def collect(self, now_ns: int) -> None:
        self.leases = {
            key: held for key, held in self.leases.items() if held.expires_ns is None or held.expires_ns > now_ns
        }
        kept = self._reachable(now_ns)
        self.nodes = {key: node for key, node in self.nodes.items() if key in kept}

    def _reachable(self, now_ns: int) -> set[Key]:
        kept_by: dict[Key, list[Key]] = {}
        for key, node in self.nodes.items():
            for kind, name in node.brefs:
                kept_by.setdefault((key[0], kind, name), []).append(key)
        todo = [key for key, node in self.nodes.items() if node.is_root(now_ns)]
        flat: list[Key] = []
        for (ns, _), held in self.leases.items():
            for kind, name in held.resources:
                # An unfinished write is held with what it is to become, by any lease.
                (flat if held.flat and kind != "ingest" else todo).append((ns, kind, name))
        seen: set[Key] = set()
        while todo:
            key = todo.pop()
            if key not in seen:
                seen.add(key)
                todo += kept_by.get(key, [])
                if (found := self.nodes.get(key)) is not None:
                    todo += [(key[0], kind, name) for kind, name in found.parts + found.refs]
        # A flat lease keeps what it names and what that cannot do without, whatever the labels say.
        while flat:
            key = flat.pop()
            seen.add(key)
            if (found := self.nodes.get(key)) is not None:
                flat += [(key[0], kind, name) for kind, name in found.parts]
        return seen
