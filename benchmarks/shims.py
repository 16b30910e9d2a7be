"""containerd with its own shim and with ours: what a run takes, what is resident beside containers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines import IMAGE, Engine, containerd, pss_kb
from harness import programs
from harness.subreaper import descendants
from measure import Contender, command

RUNTIMES = {"containerd-shim-runc-v2": "io.containerd.runc.v2", "containerd-shim-masu-v2": "io.containerd.masu.v2"}
COUNTS = (1, 10, 50)


@contextmanager
def serving(folder: Path) -> Iterator[Engine | None]:
    """A containerd that finds our shim in its PATH."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{programs.ROOT}:{before}"
    try:
        with containerd(folder) as engine:
            yield engine
    finally:
        os.environ["PATH"] = before


def runs(engine: Engine, *, note: str = "") -> list[Contender]:
    """`ctr run --rm` by each."""
    words = [*engine.words, "run", "--rm", "--runtime"]
    return [
        Contender(name, command(*words, runtime, IMAGE, f"bench-{os.getpid()}", "/bin/true"), note=note)
        for name, runtime in RUNTIMES.items()
    ]


@contextmanager
def one_there(engine: Engine) -> Iterator[None]:
    """A container of each, so that no shim of ours has to be started for the next."""
    for name, runtime in RUNTIMES.items():
        engine.call("run", "-d", "--runtime", runtime, IMAGE, f"there-{name}", "sleep", "1000")
    try:
        yield
    finally:
        for name in RUNTIMES:
            _remove(engine, f"there-{name}")


def memory(engine: Engine) -> list[tuple[str, str, str]]:
    """(shim, containers, PSS of all shims and monitors together) as containers are added."""
    rows = []
    for name, runtime in RUNTIMES.items():
        before = set(descendants(os.getppid()))
        made: list[str] = []
        try:
            for count in COUNTS:
                while len(made) < count:
                    made.append(f"bench-{len(made)}")
                    engine.call("run", "-d", "--runtime", runtime, IMAGE, made[-1], "sleep", "1000")
                pids = [pid for pid in set(descendants(os.getppid())) - before if _is_beside(pid)]
                total = sum(pss_kb(pid) for pid in pids)
                rows.append((name, str(count), f"{total / 1024:.1f} MB"))
        finally:
            for id in made:
                _remove(engine, id)
    return rows


def _is_beside(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"containerd-shim" in words or Path(f"/proc/{pid}/comm").read_text() == "masu:[monitor]\n"
    except OSError:
        return False


def _remove(engine: Engine, id: str) -> None:
    for words in (["task", "rm", "-f", id], ["container", "rm", id]):
        subprocess.run([*engine.words, *words], env=os.environ | engine.env, capture_output=True, check=False)
