"""The cgroup v2 tests once more in a guest that has nothing but cgroup v2: User-mode Linux (package user-mode-linux).

The guest's root is this machine's, read-only, through hostfs, with tmpfs where the tests write; so it runs this very
checkout with this very interpreter. It needs no KVM and takes some seconds.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness.programs import ROOT, peer

pytestmark = pytest.mark.root

SUITES = ("tests/kernel/test_cgroups_v2_controllers.py", "tests/kernel/test_cgroups_v2.py")
BOOT_AND_RUN_S = 240

INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME={scratch} TMPDIR={scratch} PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs tmp {scratch}
cd {root}
{python} -m pytest -q -p no:cacheprovider {suites} 2>&1
echo "status $?"
echo o > /proc/sysrq-trigger
read forever
"""


def test_everything_of_v2_in_a_pure_v2_guest(tmp_path: Path) -> None:
    kernel = peer("linux.uml")
    init = tmp_path / "init"
    # Where the tests write in the guest: a folder of the machine that does not hold the checkout or its interpreter.
    needed = (str(ROOT), os.path.realpath(sys.executable))
    scratch = next(
        folder
        for folder in ("/mnt", "/media", "/srv", "/run")
        if os.path.isdir(folder) and not any(path.startswith(folder + "/") for path in needed)
    )
    init.write_text(INIT.format(root=ROOT, python=sys.executable, suites=" ".join(SUITES), scratch=scratch))
    init.chmod(0o755)
    arguments = [
        "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
        "lpj=50000000",  # spares the calibration
        "con=null", "con0=fd:0,fd:1", f"init={init}",
    ]  # fmt: skip
    guest = subprocess.Popen(
        [kernel, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        output, _ = guest.communicate(timeout=BOOT_AND_RUN_S)
    except subprocess.TimeoutExpired:
        os.killpg(guest.pid, signal.SIGKILL)
        output, _ = guest.communicate()
        pytest.fail(f"the guest did not end in {BOOT_AND_RUN_S} s:\n{output}")
    assert "status 0" in output.split("\n"), output
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None, output
    assert int(passed[1]) > 20, output
