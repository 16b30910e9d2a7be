"""Verbs that reach into a container that runs already: what is in there waits for them.

`mounts` walks through a root file system that changes under its feet; `mounts` and `exec` bring masu-launch into the
container's sight; `update` and `events` bring nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
from harness.oci import CAPABILITIES, Runtime
from harness.servicemanager import Manager
from kernel.security.staging import UP, Config, Outside, Victim, attacker, drive, mount_points
from kernel.security.test_cve_executable import own_copy, powerful

from masu.linux import capabilities, executable

pytestmark = pytest.mark.root


def mounts_file(runtime: Runtime, *mounts: Config) -> str:
    path = runtime.folder / "mounts.json"
    path.write_text(json.dumps(mounts))
    return str(path)


@pytest.mark.parametrize("kind", ["tmpfs", "directory", "file"])
def test_mounts_add_raced(
    masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside, tmp_path: Path, kind: str
) -> None:
    """The way to the destination is a directory and a symlink by turns: CVE-2021-30465 on a container that runs."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("")
    shutil.copy(attacker(), own_probe_rootfs / "bin/attacker")
    (own_probe_rootfs / "way").mkdir()
    (own_probe_rootfs / "other").symlink_to(UP + str(outside.path / "folder")[1:])
    (own_probe_rootfs / str(outside.path)[1:] / "folder").mkdir(parents=True)
    entries: dict[str, Config] = {
        "tmpfs": {"type": "tmpfs", "source": "tmpfs"},
        "directory": {"type": "bind", "source": str(source), "options": ["bind"]},
        "file": {"type": "bind", "source": str(source / "file"), "options": ["bind"]},
    }
    number = 0
    with Victim(masu_oci, own_probe_rootfs, "/bin/attacker", "swap", "/way", "/other") as victim:
        victim.wait_for("ready")
        own = Path("/proc/self/mountinfo").read_text()

        def once() -> str:
            nonlocal number
            number += 1
            file = mounts_file(masu_oci, {"destination": f"/way/x{number}", **entries[kind]})
            done = masu_oci("mounts", "add", victim.id, file, check=False)
            assert "Traceback" not in done.stderr
            assert done.returncode == 0, done.stderr
            inside = mount_points(Path(f"/proc/{victim.pid}/mountinfo").read_text())
            (added,) = [point for point in inside if point.endswith(f"/x{number}")]
            # The directory may have been renamed since: what counts is what is mounted in the container's root alone.
            return "by the link" if str(outside.path) in added else "by the directory"

        drive(once, {"by the link", "by the directory"})
        assert Path("/proc/self/mountinfo").read_text() == own
        outside.check()
        assert int(victim.finish()[-1]) > 100
    outside.check()


def test_mounts_remove_raced(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside) -> None:
    """What is unmounted is the container's, wherever the name leads by then."""
    shutil.copy(attacker(), own_probe_rootfs / "bin/attacker")
    for name in ("way", "other"):
        (own_probe_rootfs / name / "x").mkdir(parents=True)
    with Victim(masu_oci, own_probe_rootfs, "/bin/attacker", "swap", "/way", "/other") as victim:
        victim.wait_for("ready")
        own = Path("/proc/self/mountinfo").read_text()
        before = mount_points(Path(f"/proc/{victim.pid}/mountinfo").read_text())
        file = mounts_file(masu_oci, {"destination": "/way/x", "type": "tmpfs", "source": "tmpfs"})
        assert masu_oci("mounts", "add", victim.id, file).returncode == 0

        def once() -> str:
            done = masu_oci("mounts", "remove", victim.id, file, check=False)
            assert "Traceback" not in done.stderr
            if done.returncode != 0:
                assert "nothing is mounted on" in done.stderr, done.stderr
                return "nothing there"
            assert masu_oci("mounts", "add", victim.id, file).returncode == 0
            return "removed"

        drive(once, {"removed", "nothing there"})
        left = mount_points(Path(f"/proc/{victim.pid}/mountinfo").read_text())
        assert set(before) <= set(left)
        assert Path("/proc/self/mountinfo").read_text() == own
        victim.finish()
    outside.check()


@pytest.mark.parametrize("verb", ["mounts", "exec", "update"])
def test_cve_2019_5736_live(masu_oci: Runtime, own_probe_rootfs: Path, verb: str) -> None:
    """The launcher as the container's root sees it, by each verb that comes in; `update` does not come in at all."""
    launcher = own_copy(masu_oci)
    before = launcher.read_bytes()
    shutil.copy(attacker(), own_probe_rootfs / "bin/attacker")
    with Victim(masu_oci, own_probe_rootfs, "/bin/attacker", "exe", "masu-launch", change=powerful) as attack:
        attack.wait_for("ready")
        file = mounts_file(masu_oci, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
        calls = {
            "mounts": [["mounts", "add", attack.id, file], ["mounts", "remove", attack.id, file]],
            "exec": [["exec", attack.id, "/bin/probe", "exit", "0"]],
            "update": [["update", "--pids-limit", "100", attack.id], ["events", "--stats", attack.id]],
        }[verb]
        begin = time.monotonic()
        while not attack.has_more():
            for call in calls:
                masu_oci(*call)
            if verb == "update" and time.monotonic() - begin > 2:
                break
            assert time.monotonic() - begin < 30, "the attacker never saw it"
        said = attack.finish()
    assert not [line for line in said if line.startswith("wrote")]
    seen = {line.split()[0] for line in said}
    assert seen == (set() if verb == "update" else {"seen", "refused"}), said
    assert {line.split()[-1] for line in said if line.startswith("refused")} <= {"EROFS", "EPERM"}
    assert launcher.read_bytes() == before


HOSTILE_WORDS = ["MAINPID=1", "STOPPING=1\nWATCHDOG=trigger", "FDSTORE=1\nFDNAME=x", "READY=12", "XREADY=1", "x" * 9000]


def test_the_service_manager_hears_one_word(masu_oci: Runtime, own_probe_rootfs: Path, tmp_path: Path) -> None:
    """NOTIFY_SOCKET: a container that could speak for the service could have another process taken for its main one."""
    manager = Manager(str(tmp_path / "manager"))
    words = [
        argument for text in [*HOSTILE_WORDS, "MAINPID=1\nREADY=1\nSTOPPING=1"] for argument in ("notify", text, "--")
    ]

    def talkative(config: Config) -> None:
        config["process"]["args"] = ["/bin/probe", *words, "sleep"]

    id = masu_oci.id()
    command = [*masu_oci.command, "run", "--detach", "--bundle", str(masu_oci.bundle(own_probe_rootfs, talkative)), id]
    with subprocess.Popen(command, env=manager.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        pid = manager.take_ready()
        os.close(manager.take_barrier())
        assert run.wait(20) == 0
    assert pid == str(masu_oci.state(id)["pid"])
    assert manager.heard_nothing()
    manager.socket.close()


def test_programs_have_no_privilege_of_their_own() -> None:
    """No setuid bit, no file capability, nobody else may write: what they may do is what their caller may."""
    folder = Path(executable.launcher_path()).parent
    for program in folder.iterdir():
        about = program.stat()
        assert stat.S_IMODE(about.st_mode) & 0o7022 == 0, program
        assert os.listxattr(program) == [], program


def test_what_waits_has_what_the_program_will_have(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Between `create` and `start` masu-launch is in the container: with the identity and the powers that config.json
    gives the program, and with no more."""

    def limited(config: Config) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1001}
        config["process"]["args"] = ["/bin/probe", "sleep"]
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
        for names in config["process"]["capabilities"].values():
            names.remove("CAP_KILL")

    id = masu_oci.id()
    masu_oci("create", "--bundle", str(masu_oci.bundle(probe_rootfs, limited)), id)
    pid = masu_oci.state(id)["pid"]
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    wanted = sum(1 << capabilities.NUMBERS[name] for name in CAPABILITIES if name != "CAP_KILL")
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) & ~wanted == 0, (name, status[name])
    assert int(status["CapBnd"], 16) == wanted
    assert {int(status[name], 16) for name in ("CapInh", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert [status[name].split() for name in ("Uid", "Gid", "Groups")] == [["1000"] * 4, ["1001"] * 4, []]
    masu_oci("delete", "--force", id)
