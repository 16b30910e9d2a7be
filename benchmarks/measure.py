"""Times of several contenders for one job, taken in turn (A B C A B C …), so that the machine's moods hit all alike.

A job that is made of `command` tells its CPU time too: user and system, of the program and of what it waited for.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Does the job once; the CPU seconds it took, where they are known.
Work = Callable[[], float | None]


@dataclass
class Contender:
    """One way to do the job. `work` does it once; `before` and `after` each time around it, untimed."""

    name: str
    work: Work
    before: Work = lambda: None
    after: Work = lambda: None
    note: str = ""
    times_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def median_s(self) -> float:
        return statistics.median(self.times_s)


def race(contenders: Sequence[Contender], rounds: int, warm_up: int = 2) -> None:
    """Fill in the times. Who fails is out, with the reason; the others go on."""
    for round_number in range(-warm_up, rounds):
        for contender in contenders:
            if contender.failure:
                continue
            try:
                contender.before()
                begun = time.perf_counter()
                cpu = contender.work()
                took = time.perf_counter() - begun
                contender.after()
            except (OSError, RuntimeError) as error:
                contender.failure = str(error)
                continue
            if round_number >= 0:
                contender.times_s.append(took)
                if cpu is not None:
                    contender.cpu_s.append(cpu)


def command(*words: str | os.PathLike[str], env: dict[str, str] | None = None) -> Callable[[], float]:
    """A program run to its end with nothing on its stdio; the cheapest start Python has, so little is ours."""
    argv = [os.fspath(word) for word in words]
    # One environment for all: what a shell happened to export costs the same parse nowhere.
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root")} | (env or {})
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]

    def work() -> float:
        pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise RuntimeError(why(argv, environment, os.waitstatus_to_exitcode(status)))
        return usage.ru_utime + usage.ru_stime

    return work


def why(argv: list[str], environment: dict[str, str], status: int) -> str:
    """Once more with its words kept, to say what is wrong."""
    again = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    words = (again.stderr or again.stdout).strip().splitlines()
    return f"exit status {status}: {words[-1] if words else '(silent)'}"


def sequence(*works: Work) -> Work:
    return lambda: sum(work() or 0.0 for work in works)


def table(title: str, contenders: Sequence[Contender], reference: str, *, markdown: bool) -> str:
    """Median, spread and ratio to `reference` (or to the first that ran, where that could not)."""
    ran = [contender for contender in contenders if contender.times_s and not contender.failure]
    base = next((one for one in ran if one.name == reference), ran[0] if ran else None)
    rows = [("", "median", "min", "max", "CPU", f"× {base.name}" if base else "")]
    for one in contenders:
        label = f"{one.name} ({one.note})" if one.note else one.name
        if one.failure or not one.times_s:
            rows.append((label, "-", "-", "-", "-", "-"))
        else:
            ratio = one.median_s / base.median_s if base else 1
            cpu = ms(statistics.median(one.cpu_s)) if one.cpu_s else "-"
            rows.append((label, ms(one.median_s), ms(min(one.times_s)), ms(max(one.times_s)), cpu, f"{ratio:.2f}"))
    failures = [f"{one.name} failed: {one.failure}" for one in contenders if one.failure]
    return "\n".join([render(title, rows, markdown=markdown), *failures, *([""] if failures else [])])


def render(title: str, rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    if markdown:
        head, *body = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([f"**{title}**", "", head, "|" + " --- |" * len(rows[0]), *body, ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join([title, *lines, ""])


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
