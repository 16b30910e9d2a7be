"""A disk that is full, a state directory that cannot be written: one clear error, nothing half done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from registryfixture import FaultyRegistry, image, layer_tar, random_bytes

pytestmark = pytest.mark.root
SRC = str(Path(__file__).parents[2] / "src")

SCRIPT = """
import sys
import masu.registry
from masu.engine import archive
from masu.errors import MasuError
from masu.store import open_store

verb, state, what = sys.argv[1:]
store = open_store(state)
ns = store.namespace("default")
try:
    if verb == "pull":
        masu.registry.pull(ns, what)
    elif verb == "load":
        archive.load(ns, what)
    else:
        archive.import_rootfs(ns, what, "app")
except MasuError as e:
    print(e.kind, e)
print("images", len(ns.images.list()), "leases", len(ns.leases.list()))
"""


def run_in(mount: str, state: Path, *arguments: str, **environ: str) -> str:
    """Run SCRIPT in a mount namespace of its own, after `mount` was run there: it goes with the process."""
    state.mkdir(exist_ok=True)
    command = f'{mount} && exec "$0" -c "$1" "$2" {state} "$3"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": SRC, "MASU_REGISTRIES": "", **environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def small(tmp_path: Path) -> str:
    return f"mount -t tmpfs -o size=4m tmpfs {tmp_path}/state"


def test_a_pull(tmp_path: Path, small: str) -> None:
    with FaultyRegistry() as registry:
        registry.add("team/app", "1", image([{"big": random_bytes(16 << 20)}]))
        said = run_in(small, tmp_path / "state", "pull", f"{registry.host}/team/app:1")
        assert said.startswith("resource_exhausted")
        assert "ENOSPC" in said
        assert said.endswith("images 0 leases 0\n")
        # Asked once: another try would find the same disk.
        assert sum("/blobs/" in s.path for s in registry.requests) <= 2


def test_a_load(tmp_path: Path, small: str) -> None:
    file = tmp_path / "rootfs.tar"
    file.write_bytes(layer_tar({"big": random_bytes(16 << 20)}))
    said = run_in(small, tmp_path / "state", "import", str(file))
    assert said.startswith("resource_exhausted")
    assert said.endswith("images 0 leases 0\n")


def test_no_room_to_unwrap(tmp_path: Path) -> None:
    """A compressed archive is unwrapped into TMPDIR first."""
    import gzip

    file = tmp_path / "a.tar.gz"
    file.write_bytes(gzip.compress(layer_tar({"manifest.json": random_bytes(16 << 20)}), 1))
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o size=4m tmpfs {tmp_path}/small"
    said = run_in(mount, tmp_path / "state", "load", str(file), TMPDIR=str(tmp_path / "small"))
    assert said.startswith("resource_exhausted")
    assert "small" in said
