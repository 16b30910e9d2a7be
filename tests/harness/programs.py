"""Where the tests find programs: masu's own, the peers', the probe; and the cache of what they build."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MASU = str(ROOT / "masu")
MASU_OCI = str(ROOT / "masu-oci")


def cache() -> Path:
    """The folder outside the tree for what is costly to make: $MASU_TEST_CACHE or ~/.cache/masu-tests."""
    folder = Path(os.environ.get("MASU_TEST_CACHE") or Path.home() / ".cache" / "masu-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def peer(name: str) -> str:
    """The path of somebody else's program, or a skip that names it."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def probe() -> Path:
    """The static probe (tests/probe/probe.c), compiled once for each content of its source."""
    return compile_static(ROOT / "tests" / "probe" / "probe.c")


def compile_static(source: Path) -> Path:
    """A C file as a static program in the cache, keyed by content, made by rename (several runs at once are fine)."""
    key = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    program = cache() / "bin" / f"{source.stem}-{key}"
    if not program.exists():
        program.parent.mkdir(exist_ok=True)
        unfinished = program.with_suffix(f".{os.getpid()}")
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s"]
        subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", str(unfinished), str(source)], check=True)
        unfinished.rename(program)
    return program
