"""A peer's suite in guests whose cgroups are laid out otherwise (tests/vm/guest.py), each file in a guest of its own.

    PYTHONPATH=tests python -m peers.guests FORM SUITE RUNTIME FILE...

FORM is "bare", "systemd" or "hybrid", SUITE "runc", "crun" or "runtime-tools". Variables that begin with RUNC_ go
along: RUNC_USE_SYSTEMD=1 has runc's suite use systemd's cgroups. What the suites say is shown, the row at the end.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from harness import programs
from vm import guest

from peers import crunsuite, runcsuite, validation
from peers.tap import Case, cases, report

SUITES = {"runc": runcsuite.run, "crun": crunsuite.run, "runtime-tools": validation.run}
FILE_SECONDS = 570


def run(form: str, suite: str, runtime: str, file: str) -> list[Case]:
    """One file of the suite in one guest."""
    command = ["python", "tests/harness/subreaper.py", "python", "-m", "peers.guests", "inside", suite, runtime, file]
    given = {name: value for name, value in os.environ.items() if name.startswith(("RUNC_", "MASU_PEER_"))}
    with tempfile.TemporaryDirectory(prefix="masu-guest-") as folder:
        try:
            output = guest.run(
                form, ["env", f"PATH={os.environ['PATH']}", *command], Path(folder), timeout_s=FILE_SECONDS,
                PYTHONPATH="tests", MASU_TEST_CACHE=str(programs.cache()), **given,
            ).output  # fmt: skip
        except TimeoutError as late:
            output = f"{late}\nnot ok 0 {file} did not end\n"
    print(f"# {file}\n{output}", flush=True)
    if suite == "runtime-tools":
        return [validation.whole(file, output, int("(exit 0)" not in output))]
    return cases(output, f"{file.removesuffix('.py')}: " if suite == "crun" else "")


def main() -> None:
    form, suite, runtime, *files = sys.argv[1:]
    if form == "inside":
        runcsuite.FILE_SECONDS = crunsuite.FILE_SECONDS = FILE_SECONDS - 60  # so that what has been said is told
        SUITES[suite](runtime, sys.stdout, *files)
        return
    found = [case for file in files for case in run(form, suite, os.path.abspath(runtime), file)]
    print(report(Path(runtime).name, found))


if __name__ == "__main__":
    main()
