"""The same resources given to runc: every file of every controller must say the same afterwards."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness.programs import peer
from kernel.cgroupfixture import MIB, Box, box, resources  # noqa: F401

pytestmark = pytest.mark.root

# What counts, or names processes, differs without meaning anything.
MOVING = ("usage", "stat", "peak", "events", "procs", "tasks", "threads", "pressure", "current", "reset", "io_service")

CASES: dict[str, dict[str, object]] = {
    "nothing": {},
    "what docker sends": {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
            {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "r"},
        ],
        "memory": {"limit": 64 * MIB, "swap": 128 * MIB, "disableOOMKiller": False},
        "cpu": {"shares": 512, "period": 100000, "quota": 20000},
        "pids": {"limit": 99},
        "blockIO": {},
    },
    "everything here": {
        "memory": {
            "limit": 64 * MIB,
            "reservation": 32 * MIB,
            "swap": 64 * MIB,
            "swappiness": 7,
            "disableOOMKiller": True,
        },
        "cpu": {"shares": 2, "period": 50000, "quota": -1, "cpus": "0", "mems": "0"},
        "pids": {"limit": -1},
    },
    "no limits": {"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}},
    "privileged": {"devices": [{"allow": True, "access": "rwm"}]},
}


def contents(box: Box, name: str) -> dict[str, list[str]]:  # noqa: F811
    found = {}
    for controller, mount in box.layout.mounts.items():
        folder = Path(mount.path + box.top, name)
        for file in folder.iterdir():
            if any(word in file.name for word in MOVING) or not os.access(file, os.R_OK):
                continue
            try:
                text = file.read_text()
            except OSError as e:
                text = str(e.errno)
            found[f"{controller}: {file.name}"] = sorted(text.splitlines())
    return found


@pytest.mark.parametrize("case", CASES)
def test_same_files(box: Box, tmp_path: Path, own_probe_rootfs: Path, case: str) -> None:  # noqa: F811
    runc = peer("runc")
    config = {
        "ociVersion": "1.0.2",
        "process": {"args": ["/bin/probe"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": True},
        "root": {"path": str(own_probe_rootfs)},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "cgroupsPath": f"{box.top}/runc",
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "resources": CASES[case],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [runc, "--root", str(tmp_path / "state")]
    id = f"masu-test-{os.getpid()}"
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(
            [*command, "create", "--bundle", str(tmp_path), id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            check=False,
        )
    assert done.returncode == 0, (tmp_path / "log").read_text()
    try:
        theirs = contents(box, "runc")
    finally:
        subprocess.run([*command, "delete", "--force", id], check=True, capture_output=True)
    group = box.make()
    group.apply(resources(**CASES[case]))
    ours = contents(box, "box")
    assert ours == theirs
    assert "devices: devices.list" in ours
