"""process.apparmorProfile: what runs under it, and who refuses when it is not there.

Where AppArmor is missing, tests/vm/test_guest.py runs these in a guest.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.checkpoints import Box, Talk, dumped
from harness.oci import Runtime
from harness.programs import peer

pytestmark = pytest.mark.root

# Two that allow all but one file each, to be told apart by what they deny.
PROFILES = """
profile masu-test-first flags=(attach_disconnected,mediate_deleted) {
  file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,
  deny /etc/passwd rw,
}
profile masu-test-second flags=(attach_disconnected,mediate_deleted) {
  file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,
  deny /etc/group rw,
}
"""
FIRST, SECOND = "masu-test-first", "masu-test-second"
CURRENT = "/proc/self/attr/current"


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both loaded into the kernel for the time of these tests."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    if not enabled.exists() or enabled.read_text().strip() != "Y" or not Path("/sys/kernel/security/apparmor").exists():
        pytest.skip("no AppArmor in this kernel, or off")
    parser = [peer("apparmor_parser"), "--skip-cache", "--skip-read-cache"]
    file = tmp_path_factory.mktemp("apparmor") / "profiles"
    file.write_text(PROFILES)
    subprocess.run([*parser, "--replace", file], check=True)
    yield
    subprocess.run([*parser, "--remove", file], check=True)


def under(profile: str, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["process"].update(apparmorProfile=profile, **fields)


LOOK = ("cat", CURRENT, "/etc/group", "/etc/passwd")


def seen(profile: str, output: str) -> None:
    """That this is what LOOK says under a profile: the one file, and of the other that it is denied."""
    group, passwd = "extra:x:2000:user", "user:x:1000:1000"
    assert f"{profile} (enforce)\n" in output
    assert ((group in output), (passwd in output)) == (profile == FIRST, profile == SECOND)
    assert "EACCES" in output


def asleep(runtime: Runtime, rootfs: Path, profile: str, **fields: Any) -> str:
    """The id of a container that sleeps under a profile."""
    id = runtime.id()
    change = under(profile, args=["/bin/probe", "sleep"], **fields)
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, change)), id)
    return id


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("bound", [True, False], ids=["no_new_privileges", "free"])
def test_the_program_runs_under_it(profiles: None, runtime: Runtime, probe_rootfs: Path, bound: bool, uid: int) -> None:
    change = under(FIRST, noNewPrivileges=bound, user={"uid": uid, "gid": uid})
    seen(FIRST, runtime.run(probe_rootfs, *LOOK, change=change).stdout)


def test_in_a_user_namespace(profiles: None, runtime: Runtime, own_probe_rootfs: Path) -> None:
    def mapped(config: dict[str, Any]) -> None:
        under(FIRST)(config)
        config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uid", "gid"):
            config["linux"][f"{kind}Mappings"] = [{"containerID": 0, "hostID": 100000, "size": 10000}]

    subprocess.run(["chown", "-R", "100000:100000", own_probe_rootfs], check=True)
    for folder in (runtime.folder, *runtime.folder.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    seen(FIRST, runtime.run(own_probe_rootfs, *LOOK, change=mapped).stdout)


def test_an_exec_runs_under_the_containers(profiles: None, runtime: Runtime, probe_rootfs: Path) -> None:
    id = asleep(runtime, probe_rootfs, FIRST)
    seen(FIRST, runtime("exec", id, "/bin/probe", *LOOK).stdout)


def test_an_exec_with_another(profiles: None, runtime: Runtime, probe_rootfs: Path, tmp_path: Path) -> None:
    id = asleep(runtime, probe_rootfs, FIRST, noNewPrivileges=False)
    seen(SECOND, runtime("exec", "--apparmor", SECOND, id, "/bin/probe", *LOOK).stdout)
    process = {"args": ["/bin/probe", *LOOK], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    # Without one it is as confined as the container; with runc 1.1 not at all.
    for profile, wanted in ((None, FIRST), (SECOND, SECOND))[runtime.name != "masu-oci" :]:
        (tmp_path / "process.json").write_text(json.dumps(process | ({"apparmorProfile": profile} if profile else {})))
        seen(wanted, runtime("exec", "--process", str(tmp_path / "process.json"), id).stdout)


def test_one_that_is_not_loaded(profiles: None, runtime: Runtime, probe_rootfs: Path) -> None:
    done = runtime.run(probe_rootfs, *LOOK, change=under("masu-test-none"), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    if runtime.name == "masu-oci":
        assert "masu-test-none (no such profile is loaded" in done.stderr
    assert runtime("list", "-q").stdout == ""
    id = asleep(runtime, probe_rootfs, FIRST)
    done = runtime("exec", "--apparmor", "masu-test-none", id, "/bin/probe", *LOOK, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert runtime.state(id)["status"] == "running"


def test_a_checkpoint_keeps_it(
    profiles: None, runtime: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]
) -> None:
    box, before, after = Box(runtime, busybox, under(FIRST)), talks(), talks()
    dumped(box, before)
    box.restore(after)
    assert after.say("two") == "2 two"
    assert Path(f"/proc/{box.pid}/attr/current").read_text() == f"{FIRST} (enforce)\n"
    assert runtime("exec", box.id, "/bin/cat", CURRENT).stdout == f"{FIRST} (enforce)\n"


def test_a_restore_under_another(
    profiles: None, masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]
) -> None:
    """--lsm-profile; and a checkpoint of a container that was less confined than this one is to be."""
    box, before, after = Box(masu_oci, busybox, under(FIRST)), talks(), talks()
    dumped(box, before)
    box.restore(after, "--lsm-profile", f"apparmor:{SECOND}")
    assert after.say("two") == "2 two"
    assert Path(f"/proc/{box.pid}/attr/current").read_text() == f"{SECOND} (enforce)\n"


@pytest.mark.parametrize("other", ["", SECOND], ids=["unconfined", "another"])
def test_a_checkpoint_is_as_confined_as_the_configuration_says(
    profiles: None, masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk], other: str
) -> None:
    box, twin = Box(masu_oci, busybox, under(other)), Box(masu_oci, busybox, under(FIRST))
    dumped(box, talks())
    twin.images = box.images
    said = twin.refused()
    assert "process.apparmorProfile" in said
    assert f"it is under {other or 'no profile'}" in said
