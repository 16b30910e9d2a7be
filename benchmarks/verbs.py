"""Each verb of the OCI runtimes, on containers that are there; and how the cost of `list` grows with their number."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engines import pss_kb
from harness import programs
from measure import Contender, Work, command, race, sequence
from runtimes import RUNTIMES, call, needs_v2, on_v2_alone, own, runtime, slug

# Verbs that leave the container as they found it, the ones that undo each other in one row.
VERBS: dict[str, tuple[tuple[str, ...], ...]] = {
    "state": (("state", "ID"),),
    "list": (("list",),),
    "ps": (("ps", "ID"),),
    "kill": (("kill", "ID", "CONT"),),
    "exec": (("exec", "ID", "/bin/true"),),
    "pause, resume": (("pause", "ID"), ("resume", "ID")),
    "update": (("update", "--pids-limit", "1000", "ID"),),
    "features": (("features",),),
    "spec": (("spec", "--bundle", "EMPTY"),),
}


class Peer:
    """One runtime with a state directory of its own. What it does goes through `do`: see `on_v2_alone`."""

    def __init__(self, name: str, words: Sequence[str], note: str, bundle: Path) -> None:
        self.name = name
        self.words = words
        self.note = note
        self.bundle = bundle

    def work(self, *arguments: str) -> Work:
        one = call(self.name, *self.words, *arguments)
        return on_v2_alone(one) if needs_v2(self.name) else one

    def create(self, id: str) -> None:
        self.work("create", "--bundle", os.fspath(self.bundle), id)()

    def delete(self, ids: Sequence[str]) -> None:
        for id in ids:
            try:
                self.work("delete", "--force", id)()
            except RuntimeError as error:
                print(f"{self.name}: {id} was not removed: {error}")

    def pid(self, id: str) -> int:
        state = subprocess.run([*self.words, "state", id], capture_output=True, text=True, check=True).stdout
        pid = json.loads(state)["pid"]
        assert isinstance(pid, int)
        return pid


@contextmanager
def peers(folder: Path, bundle: Path) -> Iterator[list[Peer]]:
    """The runtimes that are installed, with a bundle whose program waits."""
    found = []
    for name in RUNTIMES:
        if command_and_note := runtime(name, folder):
            place = folder / f"bundle-{name}"
            place.mkdir(parents=True)
            config = json.loads((own(name, bundle) / "config.json").read_text())
            config["process"]["args"] = ["/bin/sleep", "100000"]
            config["root"]["path"] = str(bundle / "rootfs")
            (place / "config.json").write_text(json.dumps(config))
            found.append(Peer(name, *command_and_note, place))
    yield found


def each_verb(found: list[Peer], folder: Path, rounds: int) -> Iterator[tuple[str, list[Contender]]]:
    """(verb, contenders with their times), one after the other."""
    ids = {peer.name: f"bench-{slug(peer.name)}" for peer in found}
    try:
        for peer in found:
            peer.create(ids[peer.name])
            peer.work("start", ids[peer.name])()
        for title, steps in VERBS.items():
            contenders = []
            for peer in found:
                empty = folder / f"empty-{peer.name}"
                empty.mkdir(exist_ok=True)
                names = {"ID": ids[peer.name], "EMPTY": str(empty)}
                works = [peer.work(*(names.get(word, word) for word in step)) for step in steps]
                before = remover(empty / "config.json")
                contenders.append(Contender(peer.name, sequence(*works), before=before, note=peer.note))
            bare = str(Path(programs.ROOT, "build/ready").read_text().strip())
            contenders.append(Contender("python -SIE -c ''", command(bare, "-SIEc", ""), note="the interpreter alone"))
            race(contenders, rounds)
            yield title, contenders
    finally:
        for peer in found:
            peer.delete([ids[peer.name]])


def remover(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)


def many(found: list[Peer], count: int, rounds: int) -> list[Contender]:
    """`list` and `state` with `count` containers that wait for `start`."""
    contenders = []
    for peer in found:
        ids = [f"bench-{slug(peer.name)}-{number}" for number in range(count)]
        made = []
        try:
            for id in ids:
                peer.create(id)
                made.append(id)
            own_jobs = [
                Contender(f"{peer.name} {verb}", peer.work(verb, *arguments), note=peer.note)
                for verb, arguments in (("list", ()), ("state", (ids[0],)))
            ]
            race(own_jobs, rounds)
            contenders += own_jobs
        finally:
            peer.delete(made)
    return contenders


def memory(found: list[Peer]) -> list[tuple[str, str, str]]:
    """PSS of the process that waits for `start`."""
    rows = []
    for peer in found:
        if needs_v2(peer.name):
            continue
        id = f"bench-{slug(peer.name)}"
        peer.create(id)
        try:
            rows.append((peer.name, "created", f"{pss_kb(peer.pid(id)) / 1024:.2f} MB"))
        finally:
            peer.delete([id])
    return rows
