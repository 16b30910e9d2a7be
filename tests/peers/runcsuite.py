"""runc's integration suite (bats): its helpers built, its images made from Debian packages, its verdicts read.

`PYTHONPATH=src:tests python -m peers.runcsuite RUNTIME [FILE.bats...]` runs it and prints the row for the table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import images
from harness.pty import Terminal

from peers.sources import source
from peers.tap import Case, cases, main
from peers.tidy import tidied

# A file in which nothing happens any more must not hold up all others.
QUIET_SECONDS = 300


def prepared() -> Path:
    """The suite's folder, with everything it needs but the runtime; `runc` of the same commit is built beside it."""
    folder = source("runc")
    if not (folder / "runc").exists():
        # libpathrs is in no distribution yet.
        subprocess.run(["make", "BUILDTAGS=seccomp", "runc", "test-binaries"], cwd=folder, check=True)
    data = folder / "tests/integration/testdata"
    data.mkdir(exist_ok=True)
    arch = subprocess.run(["go", "env", "GOARCH"], capture_output=True, text=True, check=True).stdout.strip()
    busybox = data / f"busybox-{arch}.tar.xz"
    if not busybox.exists():
        with tarfile.open(busybox, "w:xz", preset=0) as archive:
            # Some cases put symlinks where these two are in ours.
            archive.add(
                images.rootfs("busybox"), ".", filter=lambda item: None if item.name in ("./proc", "./sys") else item
            )
    debian = data / f"debian-{arch}.tar.xz"
    if not debian.exists():
        tree = data / "debian"
        subprocess.run(["debootstrap", "--variant=minbase", "stable", str(tree)], check=True)
        subprocess.run(["tar", "-C", str(tree), "-I", "xz -0", "-cf", str(debian), "."], check=True)
    return folder


def run(runtime: str, log: TextIO, *files: str) -> list[Case]:
    """Every case of the files (all by default) with `runtime`, the path of one executable. What bats writes, with the
    output of the failed cases, goes to `log`."""
    folder = prepared() / "tests/integration"
    found = []
    with tidied("runc-cgroups-integration-test"), _false_hierarchies_removed():
        for name in files or sorted(path.name for path in folder.glob("*.bats")):
            found += cases(_run_file(folder / name, runtime, log))
    return found


@contextmanager
def _false_hierarchies_removed() -> Iterator[None]:
    """The suite makes directories for the controllers that a hybrid machine has elsewhere; they mislead others."""
    top = Path("/sys/fs/cgroup")
    before = set(top.iterdir())
    try:
        yield
    finally:
        for path in set(top.iterdir()) - before:
            if not path.is_mount() and top.is_mount() and not (top / "cgroup.controllers").exists():
                shutil.rmtree(path)


def _run_file(file: Path, runtime: str, log: TextIO) -> str:
    """What bats says of the file, which is told to `log` as it comes."""
    said = ""
    with tempfile.NamedTemporaryFile("r", suffix=".tap", errors="replace") as tap:
        # The cases with terminals want one that is theirs. (bats' own time limit is a background job, for which
        # those cases that `wait` would wait, too.)
        command = f"bats -t {file} > {tap.name} 2>&1 < /dev/tty"
        with Terminal(["sh", "-c", command], cwd=file.parents[2], env={**os.environ, "RUNC": runtime}) as terminal:
            told_at = time.monotonic()
            while True:
                terminal.rest(5)
                ended = terminal.process.poll() is not None
                if told := tap.read():
                    told_at = time.monotonic()
                late = not ended and time.monotonic() > told_at + QUIET_SECONDS
                if late:
                    told += f"not ok 0 {file.name} did not end\n"
                log.write(told)
                log.flush()
                said += told
                if ended or late:
                    return said


if __name__ == "__main__":
    main("runc", run)
