"""Guests whose cgroups are laid out otherwise than the machine's, or whose kernel has what the machine's lacks.

    PYTHONPATH=tests python -m vm.guest FORM COMMAND...      runs COMMAND in a guest, exits with its status

A guest's root is this machine's, read-only: it runs this very checkout with this very interpreter and whatever else is
installed. /run and $TMPDIR are its own. The forms:

    bare      cgroup v2 alone; bare.sh is PID 1, its child has the top of the cgroup tree for itself
    systemd   cgroup v2 alone; systemd is PID 1, with the units in units/ and no others: the system bus and the job
    hybrid    the same with the controllers on cgroup v1
    qemu      as bare, with Debian's own kernel: cpuset, hugetlb, AppArmor, what CRIU needs, modules
    selinux   the same with SELinux in AppArmor's place, without a policy

The first three are by User-mode Linux (uml.py), the others by QEMU (qemu.py). What all have in common is the job, a
script written for each guest. Its output and its status come over the console.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import programs
from vm import qemu, uml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# {form: the program that has to be there}
FORMS = {
    "bare": uml.PROGRAM, "systemd": uml.PROGRAM, "hybrid": uml.PROGRAM,
    "qemu": qemu.PROGRAM, "selinux": qemu.PROGRAM,
}  # fmt: skip
# The guest's own. In a bare one tests may put something else onto /run; with systemd /tmp is the machine's, and /run
# itself forbids devices.
BARE_SCRATCH = "/tmp/guest"
SCRATCH = "/run/guest"

JOB = """#!/bin/sh
export PATH={path} HOME={scratch} TMPDIR={scratch} PYTHONDONTWRITEBYTECODE=1 {environment}
mkdir -p {scratch}
mount -t tmpfs guest {scratch}
cd {root}
exec {command}
"""


class Outcome:
    """How a guest's job ended: `status` is its exit status, None when the guest went down before."""

    def __init__(self, output: str) -> None:
        found = re.search(r"^guest: exit (\d+)$", output, re.MULTILINE)
        self.status = int(found[1]) if found else None
        self.output = output


def run(form: str, command: list[str], folder: Path, *, timeout_s: float, **environment: str) -> Outcome:
    """Runs `command` in a guest of that form, in the checkout's folder; `folder` is for files of the guest:
    `console` is what it says.

    Raises TimeoutError with the output so far; then the guest is gone, too. Raises qemu.Missing.
    """
    job = folder / "job"
    environment.setdefault("MASU_TEST_CACHE", str(programs.cache()))
    job.write_text(
        JOB.format(
            path=shlex.quote(f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"),
            scratch=SCRATCH if form in ("systemd", "hybrid") else BARE_SCRATCH,
            root=shlex.quote(str(ROOT)),
            environment=" ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items()),
            command=shlex.join(command),
        )
    )
    job.chmod(0o755)
    argv, own_environment = kernel(form, job, folder)
    console = folder / "console"
    with console.open("wb") as said:
        guest = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **own_environment},
            start_new_session=True,
        )
    try:
        guest.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"the guest did not end in {timeout_s:g} s:\n{_text(console)}") from None
    finally:
        if guest.returncode is None:
            os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()
    return Outcome(_text(console))


def _text(file: Path) -> str:
    return file.read_text(errors="replace").replace("\r\n", "\n")


def kernel(form: str, job: Path, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of the guest's kernel."""
    if form in ("bare", "qemu", "selinux"):
        needed = (folder, ROOT, programs.cache(), Path(sys.prefix))
        told = [f"job={job}", "keep=" + ":".join(str(path) for path in needed if Path("/tmp") in path.parents)]
        if form == "bare":
            return uml.command(HERE / "bare.sh", *told), uml.environment(folder)
        if form == "selinux":
            told += ["security=selinux", "selinux=1"]
        return qemu.command(folder, HERE / "bare.sh", *told), {}
    told = ["systemd.unified_cgroup_hierarchy=0"] if form == "hybrid" else []
    told += [
        "systemd.unit=job.service", f"systemd.setenv=job={job}",
        "systemd.show_status=false", "systemd.log_level=err", "systemd.log_target=console", "systemd.log_color=false",
    ]  # fmt: skip
    return uml.command(HERE / "systemd.sh", *told), uml.environment(folder)


def main() -> int:
    form, *command = sys.argv[1:]
    if form not in FORMS or not command:
        print(__doc__, file=sys.stderr)
        return 2
    # Ended from outside, we take the guest along.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="masu-guest-"))
    try:
        outcome = run(form, command, folder, timeout_s=3600)
    except qemu.Missing as e:
        print(f"guest: {e}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(folder)
    print(outcome.output, end="")
    return 1 if outcome.status is None else outcome.status


if __name__ == "__main__":
    sys.exit(main())
