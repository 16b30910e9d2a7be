"""crun's test suite (Python scripts that speak TAP).

`PYTHONPATH=tests python -m peers.crunsuite RUNTIME [FILE.py...]` runs it and prints the row for the table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from peers.sources import source
from peers.tap import Case, cases, main
from peers.tidy import tidied

FILE_SECONDS = 120
# The suite gives every runtime crun's options, which runc does not know.
WRAPPER = """#!/bin/sh
for word do
  shift
  case $word in
    --debug) continue ;;
    --cgroup-manager | --config) skip=1; continue ;;
  esac
  if [ -n "${{skip:-}}" ]; then skip=; continue; fi
  set -- "$@" "$word"
done
exec {runtime} "$@"
"""


def prepared() -> Path:
    """The suite's folder with the program that its containers run."""
    folder = source("crun") / "tests"
    program = folder / "init"
    if not program.exists():
        # It wants no more of config.h than that it is there.
        with tempfile.TemporaryDirectory() as include:
            Path(include, "config.h").write_text("")
            command = ["cc", "-O2", "-static", "-I", include, "-o", str(program), str(folder / "init.c")]
            subprocess.run(command, check=True)
    return folder


def run(runtime: str, log: TextIO, *files: str) -> list[Case]:
    """Every case of the files (all by default) with `runtime`, the path of one executable."""
    folder = prepared()
    found: list[Case] = []
    with tempfile.TemporaryDirectory() as place, tidied("test*", "frozen"):
        called = Path(runtime)
        if called.name == "runc":
            called = Path(place, "runtime")
            called.write_text(WRAPPER.format(runtime=runtime))
            called.chmod(0o755)
        environment = {**os.environ, "OCI_RUNTIME": str(called), "INIT": str(folder / "init"), "TMPDIR": place}
        for name in files or sorted(path.name for path in folder.glob("test_*.py")):
            tap = _run_file(folder / name, environment, place)
            log.write(f"# {name}\n{tap}\n")
            log.flush()
            found += cases(tap, f"{name.removesuffix('.py')}: ")
    return found


def _run_file(file: Path, environment: dict[str, str], place: str) -> str:
    with tempfile.TemporaryFile("w+", errors="replace") as tap:
        try:
            subprocess.run(
                [sys.executable, "-u", str(file)], cwd=place, env=environment, stdin=subprocess.DEVNULL,
                stdout=tap, stderr=tap, timeout=FILE_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            tap.write("\nnot ok 0 - did not end\n")
        tap.seek(0)
        return tap.read()


if __name__ == "__main__":
    main("crun", run)
