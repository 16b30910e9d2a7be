"""CVE-2019-5736: a container's root overwrites the program that enters the container, and waits for the next time."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from harness import programs
from harness.oci import Runtime
from kernel.security.staging import Config, Victim, attacker

pytestmark = pytest.mark.root

POWERS = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_FOWNER"]


def powerful(config: Config) -> None:
    # Without CAP_SYS_PTRACE it would not even see /proc/PID/exe of us, for we are not dumpable.
    for name in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][name] = POWERS


def own_copy(runtime: Runtime) -> Path:
    """Makes `runtime` run from a copy of the package, which an attack may ruin; its launcher."""
    package = runtime.folder / "masu"
    shutil.copytree(programs.ROOT / "src" / "masu", package, ignore=shutil.ignore_patterns("__pycache__"))
    runtime.command[:1] = [str(package / "libexec" / "masu-oci")]
    return package / "libexec" / "masu-launch"


def test_cve_2019_5736(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path) -> None:
    """The attacker is entered by `exec`, and shares its PID namespace with the next container, as in a pod."""
    launcher = own_copy(masu_oci)
    before = launcher.read_bytes()
    shutil.copy(attacker(), own_probe_rootfs / "bin/attacker")
    # Running the image's /bin/self runs the launcher again, without what it does first against being looked at.
    (own_probe_rootfs / "bin/self").symlink_to("/proc/self/exe")
    program = "/bin/attacker", "exe", "masu-launch"
    with Victim(masu_oci, own_probe_rootfs, *program, change=powerful) as attack:
        attack.wait_for("ready")

        def in_its_pid_namespace(config: Config) -> None:
            config["linux"]["namespaces"][0]["path"] = f"/proc/{attack.pid}/ns/pid"

        # `create`, paused: the launcher stands there as the container's process until it is told to start.
        created = masu_oci.id()
        masu_oci("create", "--bundle", str(masu_oci.bundle(own_probe_rootfs, in_its_pid_namespace)), created)
        assert attack.read_line().startswith("seen ")
        masu_oci("delete", "--force", created)
        # `exec`, raced: each time it is another process, so each time that it is seen is told.
        begin = time.monotonic()
        while not attack.has_more():
            attack.exec("/bin/self", check=False)
            attack.exec("/bin/probe", "exit", "0")
            assert time.monotonic() - begin < 20, "the attacker never saw an exec"
        # The same attack on a program that is not protected. When it has succeeded, the attacker has also tried all
        # that it had seen before.
        control = tmp_path / "control" / "masu-launch"
        control.parent.mkdir()
        shutil.copy("/bin/cat", control)
        enter = [programs.peer("nsenter"), f"--pid=/proc/{attack.pid}/ns/pid", str(control)]
        with subprocess.Popen(enter, stdin=subprocess.PIPE) as victim:
            earlier = attack.wait_for(f"seen {control}")
            assert victim.stdin is not None
            victim.stdin.close()
        earlier += attack.wait_for(f"wrote {control}")
        assert control.read_bytes().startswith(b"OVERWRITTEN")
        said = earlier + attack.finish()
    assert not [line for line in said if line.startswith("wrote")]
    refused = [line.split()[-1] for line in said if line.startswith("refused")]
    assert len(refused) >= 2
    assert set(refused) <= {"EROFS", "EPERM"}
    assert launcher.read_bytes() == before
