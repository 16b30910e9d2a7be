"""crun's test suite (Python scripts that speak TAP).

`PYTHONPATH=src:tests python -m peers.crunsuite RUNTIME [FILE.py...]` runs it and prints the row for the table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from peers.sources import source
from peers.tap import Case, cases, main
from peers.tidy import tidied

FILE_SECONDS = 120
# Where tests_utils.py adds a namespace to a configuration.
NAMESPACE = """            conf['linux']['namespaces'].append({"type" : i})\n"""
MAPPINGS = """\
            if i == 'user':
                for ids in ('uidMappings', 'gidMappings'):
                    conf['linux'].setdefault(ids, [{'containerID': 0, 'hostID': 0, 'size': 4294967295}])
"""
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
    with tempfile.TemporaryDirectory() as place, tidied("test", "test-*", "frozen"):
        called = Path(runtime)
        if called.name == "runc":
            called = Path(place, "runtime")
            called.write_text(WRAPPER.format(runtime=runtime))
            called.chmod(0o755)
        environment = {
            **os.environ, "OCI_RUNTIME": str(called), "INIT": str(folder / "init"), "TMPDIR": place,
            "PYTHONPATH": str(Path(__file__).parent / "standins"),
        }  # fmt: skip
        suite = _copy(folder, Path(place))
        for name in files or sorted(path.name for path in suite.glob("test_*.py")):
            tap = _run_file(suite / name, environment, place)
            log.write(f"# {name}\n{tap}\n")
            log.flush()
            found += cases(tap, f"{name.removesuffix('.py')}: ")
    return found


def _copy(folder: Path, place: Path) -> Path:
    """The suite where it may write, with mappings for its user namespaces: without any crun takes all ids, where runc
    and masu-oci want them said."""
    suite = place / "tests"
    shutil.copytree(folder, suite, ignore=lambda _, names: [name for name in names if not name.endswith(".py")])
    utils = suite / "tests_utils.py"
    before = utils.read_text()
    utils.write_text(before.replace(NAMESPACE, NAMESPACE + MAPPINGS))
    assert utils.read_text() != before
    return suite


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
