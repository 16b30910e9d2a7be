"""Tests of other folders in guests whose cgroups are laid out otherwise, and which have systemd (guest.py)."""

from __future__ import annotations

import re
from pathlib import Path

import images
import pytest
from harness import programs
from images.rootfs import rootfs
from vm import guest, qemu

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

CONTROLLERS = "tests/kernel/test_cgroups_v2_controllers.py"
DEBIAN = "cpuset or passed_down or apparmor or goes_on or all_that or want_of_memory"
DEBIAN_FILES = [
    CONTROLLERS, "tests/kernel/test_cgroups_v2.py",
    "tests/conformance/test_oci_apparmor.py", "tests/conformance/test_oci_checkpoint.py",
    "tests/conformance/test_masud_tasks.py",
]  # fmt: skip

# By the daemons that have monitors: masud, and containerd with our shim.
CHECKPOINTS = "not runc and not masu-oci and (without_its or written or (tasks and restored))"
CHECKPOINT_FILES = [
    "tests/kernel/test_isolation_contract.py",
    "tests/conformance/test_masud_tasks.py", "tests/conformance/test_shim_tasks.py",
]  # fmt: skip

# Fewer than these at hand would mean that the tests were not found or had nothing to run on: {name: (form, least
# number of tests, pytest's arguments)}.
JOBS: dict[str, tuple[str, int, list[str]]] = {
    "cgroups": ("bare", 25, [CONTROLLERS, "tests/kernel/test_cgroups_v2.py"]),
    # Without ps(1), which is at a loss with User-mode Linux's /proc/stat.
    "lifecycle": ("bare", 20, ["-k", "not (runc or test_ps)", "tests/conformance/test_oci_lifecycle.py"]),
    "processes": ("bare", 1, ["-k", "full", "tests/conformance/test_oci_process.py"]),
    "rootless": ("bare", 12, ["-k", "not runc and (cgroup or whole_life)", "tests/conformance/rootless"]),
    "callers": ("systemd", 6, ["tests/conformance/test_callers_systemd.py"]),
    "systemd": ("systemd", 40, ["tests/conformance/test_oci_systemd.py"]),
    "systemd-v1": ("hybrid", 2, ["tests/conformance/test_oci_systemd_v1.py"]),
    # What User-mode Linux lacks; of CRIU's tests a few, for they take long (docs/conformance.md).
    "debian": ("qemu", 16, ["-k", f"not (runc or restore_under or as_confined) and ({DEBIAN})", *DEBIAN_FILES]),
    "checkpoints": ("qemu", 4, ["-k", CHECKPOINTS, *CHECKPOINT_FILES]),
    "selinux": ("selinux", 7, ["-k", "not runc", "tests/conformance/test_oci_selinux.py"]),
}


@pytest.mark.parametrize("name", JOBS)
def test_in_a_guest(name: str, tmp_path: Path) -> None:
    form, least, arguments = JOBS[name]
    programs.peer(guest.FORMS[form])
    # Made here: a guest is slow in starting processes, and sees the cache read-only.
    programs.probe()
    rootfs("busybox")
    for image in ("busybox", "redis"):
        images.layout(image)
    command = ["python", "tests/harness/subreaper.py", "python", "-m", "pytest", "-q", "--color=no"]
    try:
        outcome = guest.run(
            form,
            [*command, "-p", "no:cacheprovider", *arguments],
            tmp_path,
            timeout_s=570,
            CI="true",
            MASU_TEST_LEFTOVERS="1",
            MASU_TEST_SKIPS=str(guest.HERE / "expected-skips.txt"),
        )
    except qemu.Missing as e:
        pytest.skip(str(e))
    passed = re.search(r"^(\d+) passed", outcome.output, re.MULTILINE)
    if outcome.status != 0 or passed is None or int(passed[1]) < least:
        pytest.fail(f"the guest's exit status is {outcome.status}, at least {least} wanted to pass:\n{outcome.output}")
