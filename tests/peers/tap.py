"""What a TAP document says (testanything.org), and its line in the table of docs/conformance.md."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """`verdict` is "ok", "skip" or "failed"; `said` what the suite gave as the reason for a skip."""

    title: str
    verdict: str
    said: str


def cases(tap: str, prefix: str = "") -> list[Case]:
    found = []
    for line in tap.splitlines():
        match = re.match(r"(not )?ok (?:\d+)? ?(?:- )?(.*?)(?: # ?(?:skip|SKIP) ?(.*))?$", line.strip())
        if match:
            bad, title, skipped = match.groups()
            title = re.sub(r" # [\d.]+s$", "", title)  # how long it took
            verdict = "failed" if bad else "ok" if skipped is None else "skip"
            found.append(Case(prefix + title, verdict, skipped or ""))
    return found


def row(name: str, found: Iterable[Case]) -> str:
    """A line of the table: cases, passed, skipped, failed."""
    verdicts = [case.verdict for case in found]
    counts = [len(verdicts), *(verdicts.count(verdict) for verdict in ("ok", "skip", "failed"))]
    return f"| {name} | {' | '.join(map(str, counts))} |"


def main(suite: str, run: Callable[..., list[Case]]) -> None:
    """RUNTIME [FILE...]: what the suite says goes to <suite>-suite-<runtime>.tap; row and failures are shown."""
    runtime, *files = sys.argv[1:]
    name = Path(runtime).name
    with Path(f"{suite}-suite-{name}.tap").open("w") as log:
        print(report(name, run(os.path.abspath(runtime), log, *files)))


def report(name: str, found: list[Case]) -> str:
    """The line, and what failed."""
    return "\n".join([row(name, found), *(case.title for case in found if case.verdict == "failed")])
