"""runtime-tools' validation: a program a case, each of which makes a bundle and speaks TAP.

`PYTHONPATH=src:tests python -m peers.validation RUNTIME [CASE...]` runs it and prints the row for the table, counted by
programs: one has failed when any of its lines did.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TextIO

from peers.sources import source
from peers.tap import Case, cases, main
from peers.tidy import tidied

CASE_SECONDS = 60


def prepared() -> Path:
    folder = source("runtime-tools")
    if not list(folder.glob("validation/*/*.t")):
        subprocess.run(["make", "runtimetest", "validation-executables"], cwd=folder, check=True)
    return folder


def run(runtime: str, log: TextIO, *names: str) -> list[Case]:
    """Every program (all by default) with `runtime`, the path of one executable."""
    folder = prepared()
    found = []
    with tidied("testdir"):
        for program in sorted(folder.glob("validation/*/*.t")):
            if not names or program.stem in names:
                status, said = _run_program(program, folder, runtime)
                log.write(f"# {program.stem} (exit {status})\n{said}\n")
                log.flush()
                found.append(whole(program.stem, said, status))
    return found


def whole(name: str, said: str, status: int) -> Case:
    """A program, of what its lines and its exit status say."""
    verdicts = {case.verdict for case in cases(said)}
    return Case(name, "failed" if status or "failed" in verdicts else "skip" if verdicts <= {"skip"} else "ok", "")


def _run_program(program: Path, folder: Path, runtime: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            [str(program)], cwd=folder, env={**os.environ, "RUNTIME": runtime}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=CASE_SECONDS, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        return 1, (late.stdout or b"").decode(errors="replace") + "\nnot ok 0 - did not end\n"


if __name__ == "__main__":
    main("validation", run)
