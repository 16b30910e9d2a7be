"""A peer's suite in guests whose cgroups are laid out otherwise (tests/vm/guest.py).

    PYTHONPATH=src:tests python -m peers.guests FORM SUITE RUNTIME FILE...

FORM is a form of guest ("bare", "systemd", "hybrid", "qemu"), SUITE "runc", "crun" or "runtime-tools". Variables that
begin with RUNC_ go along, and CGROUP_MANAGER: RUNC_USE_SYSTEMD=1 and CGROUP_MANAGER=systemd have the suites of runc and
crun use systemd's cgroups. What the suites say is shown, the rows at the end. The files share a guest; what it has not
told of when it is over goes on in the next.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from harness import programs
from vm import guest

from peers import crunsuite, runcsuite, validation
from peers.tap import Case, cases, report

SUITES = {"runc": runcsuite.run, "crun": crunsuite.run, "runtime-tools": validation.run}
FILE_SECONDS = 570  # a guest is slow
GUEST_SECONDS = 3000
GIVEN = ("RUNC_", "CGROUP_MANAGER", "MASU_PEER_")
TOLD = "# end of "


def run(form: str, suite: str, runtime: str, files: list[str]) -> dict[str, list[Case]]:
    """The files in one guest: each that came to its end there, and the one in which the guest was lost."""
    command = ["python", "tests/harness/subreaper.py", "python", "-m", "peers.guests", "inside", suite, runtime, *files]
    given = {name: value for name, value in os.environ.items() if name.startswith(GIVEN)}
    with tempfile.TemporaryDirectory(prefix="masu-guest-") as folder:
        try:
            output = guest.run(
                form, ["env", f"PATH={os.environ['PATH']}", *command], Path(folder), timeout_s=GUEST_SECONDS,
                PYTHONPATH="src:tests", MASU_TEST_CACHE=str(programs.cache()), **given,
            ).output  # fmt: skip
        except TimeoutError as late:
            output = str(late)
    print(output, flush=True)
    if TOLD not in output and re.search(r"^guest: exit", output, re.MULTILINE):
        sys.exit(f"{suite}: not to be run there")
    found: dict[str, list[Case]] = {}
    *told, rest = re.split(rf"^{TOLD}.*\n", output, flags=re.MULTILINE)
    for file, said in zip(files, told, strict=False):
        found[file] = verdicts(suite, file, said)
    if len(told) < len(files):
        file = files[len(told)]
        found[file] = [*verdicts(suite, file, rest), Case(f"{file} did not end", "failed", "")]
    return found


def verdicts(suite: str, file: str, said: str) -> list[Case]:
    if suite == "runtime-tools":
        return [validation.whole(file, said, int("(exit 0)" not in said))]
    return cases(said, f"{file.removesuffix('.py')}: " if suite == "crun" else "")


def inside(suite: str, runtime: str, files: list[str]) -> None:
    for file in files:
        SUITES[suite](runtime, sys.stdout, file)
        print(f"\n{TOLD}{file}", flush=True)


def main() -> None:
    form, suite, runtime, *files = sys.argv[1:]
    if form == "inside":
        runcsuite.QUIET_SECONDS = crunsuite.FILE_SECONDS = FILE_SECONDS
        inside(suite, runtime, files)
        return
    found: dict[str, list[Case]] = {}
    while left := [file for file in files if file not in found]:
        found |= run(form, suite, os.path.abspath(runtime), left)
    for file, said in found.items():
        print(report(file, said).splitlines()[0])
    print(report(Path(runtime).name, [case for said in found.values() for case in said]))


if __name__ == "__main__":
    main()
