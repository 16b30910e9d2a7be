"""process.selinuxLabel and linux.mountLabel, under a tiny policy of the tests' own: box_t may read and run what is
file_t, other_t everything.

Where SELinux is off, tests/vm/test_guest.py runs these in a guest.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime
from harness.programs import peer
from images.rootfs import copy

pytestmark = pytest.mark.root

# In CIL (secilc). What it does not define, classes and permissions, is allowed. Every process begins as host_t, and
# every file is file_t that has no label.
POLICY = """
(handleunknown allow) (mls true) (policycap nnp_nosuid_transition)
(class process (transition dyntransition)) (class file (read entrypoint)) (class dir (reparent)) (class key (create))
(classorder (process file dir key))
(sid kernel) (sid security) (sid unlabeled) (sid file) (sid any_socket) (sid port) (sid netif) (sid netmsg) (sid node)
(sid devnull) (sidorder (kernel security unlabeled file any_socket port netif netmsg node devnull))
(sensitivity s0) (sensitivityorder (s0))
(category c1) (category c2) (categoryorder (c1 c2)) (sensitivitycategory s0 (range c1 c2))
(role masu_r) (role object_r) (user masu_u) (userrole masu_u masu_r) (userrole masu_u object_r)
(userlevel masu_u (s0)) (userrange masu_u ((s0) (s0 (range c1 c2))))
(type host_t) (type box_t) (type other_t) (type file_t) (type secret_t)
(typeattribute every) (typeattributeset every (host_t box_t other_t file_t secret_t))
(roletype masu_r every) (roletype object_r every)
(context host (masu_u masu_r host_t ((s0) (s0)))) (context plain (masu_u object_r file_t ((s0) (s0))))
(sidcontext kernel host) (sidcontext security plain) (sidcontext unlabeled plain) (sidcontext file plain)
(sidcontext any_socket plain) (sidcontext port plain) (sidcontext netif plain) (sidcontext netmsg plain)
(sidcontext node plain) (sidcontext devnull plain)
(fsuse trans tmpfs plain) (fsuse trans devtmpfs plain) (fsuse trans devpts plain) (fsuse trans mqueue plain)
(fsuse task pipefs plain) (fsuse task sockfs plain)
(genfscon proc / plain) (genfscon sysfs / plain) (genfscon cgroup2 / plain) (genfscon 9p / plain)
(allow host_t every (file (read entrypoint))) (allow other_t every (file (read entrypoint)))
(allow box_t file_t (file (read entrypoint))) (allow every self (file (read)))
(allow host_t every (process (transition dyntransition))) (allow every every (dir (reparent)))
(allow every every (key (create)))
"""
HOST, BOX, OTHER = "masu_u:masu_r:host_t:s0", "masu_u:masu_r:box_t:s0:c1,c2", "masu_u:masu_r:other_t:s0"
SECRET, PLAIN = "masu_u:object_r:secret_t:s0", "masu_u:object_r:file_t:s0"
CURRENT = "/proc/self/attr/current"


@pytest.fixture(scope="module", autouse=True)
def policy(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Loaded and enforced, which cannot be undone: only where there has been none."""
    files = Path("/sys/fs/selinux")
    if not (files / "load").exists():
        pytest.skip("no SELinux in this kernel, or off")
    current = Path(CURRENT).read_text().rstrip("\0\n")
    if current == "kernel":
        folder = tmp_path_factory.mktemp("selinux")
        (folder / "policy.cil").write_text(POLICY)
        command = [peer("secilc"), str(folder / "policy.cil"), "-o", str(folder / "policy"), "-f", os.devnull]
        subprocess.run(command, check=True)
        (files / "load").write_bytes((folder / "policy").read_bytes())
        (files / "enforce").write_text("1")
        current = Path(CURRENT).read_text().rstrip("\0\n")
    if current != HOST:
        pytest.skip(f"the machine has a policy of its own, which calls us {current}")


@pytest.fixture
def rootfs(probe_rootfs: Path, tmp_path: Path) -> Path:
    """With /etc/passwd for others than box_t."""
    root = copy(probe_rootfs, tmp_path / "labelled")
    os.setxattr(root / "etc/passwd", "security.selinux", SECRET.encode() + b"\0")
    return root


def under(label: str, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["process"].update(selinuxLabel=label, **fields)


LOOK = ("cat", CURRENT, "/etc/group", "/etc/passwd")


def seen(label: str, output: str) -> None:
    """That this is what LOOK says under a label: only box_t is denied the one file."""
    assert label in output
    assert "extra:x:2000:user" in output
    assert ("user:x:1000:1000" in output, "EACCES" in output) == (label != BOX, label == BOX)


@pytest.mark.parametrize("bound", [True, False], ids=["no_new_privileges", "free"])
def test_the_program_runs_under_it(runtime: Runtime, rootfs: Path, bound: bool) -> None:
    seen(BOX, runtime.run(rootfs, *LOOK, change=under(BOX, noNewPrivileges=bound)).stdout)


def test_without_a_label(runtime: Runtime, rootfs: Path) -> None:
    seen(HOST, runtime.run(rootfs, *LOOK).stdout)


def test_an_exec(runtime: Runtime, rootfs: Path, tmp_path: Path) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, under(BOX, args=["/bin/probe", "sleep"]))), id)
    seen(BOX, runtime("exec", id, "/bin/probe", *LOOK).stdout)
    seen(OTHER, runtime("exec", "--process-label", OTHER, id, "/bin/probe", *LOOK).stdout)
    process = {"args": ["/bin/probe", *LOOK], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    for label, wanted in ((None, BOX), (OTHER, OTHER)):
        (tmp_path / "process.json").write_text(json.dumps(process | ({"selinuxLabel": label} if label else {})))
        seen(wanted, runtime("exec", "--process", str(tmp_path / "process.json"), id).stdout)


def test_one_that_the_policy_has_not(runtime: Runtime, rootfs: Path) -> None:
    done = runtime.run(rootfs, *LOOK, change=under("masu_u:masu_r:none_t:s0"), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    if runtime.name == "masu-oci":
        assert "masu_u:masu_r:none_t:s0 (the SELinux policy knows no such label)" in done.stderr
    assert runtime("list", "-q").stdout == ""


def test_the_session_keyring(runtime: Runtime, rootfs: Path) -> None:
    """It has the process's label, so that one container does not get at the keys of another."""
    assert runtime.run(rootfs, "keylabel", change=under(BOX)).stdout == f"{BOX}\n"
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, under(BOX, args=["/bin/probe", "sleep"]))), id)
    # An exec joins the container's.
    assert runtime("exec", "--process-label", OTHER, id, "/bin/probe", "keylabel").stdout == f"{BOX}\n"


LABELLED = ["/dev", "/dev/null", "/dev/shm", "/dev/pts", "/dev/mqueue", "/tmp", "/home", "/proc", "/sys"]


def test_mounts(runtime: Runtime, rootfs: Path) -> None:
    """All that is mounted for the container has linux.mountLabel, but what has labels by the policy alone, a bind, and
    a mount that brings a label of its own (runc then asks for both, and the kernel refuses)."""
    own = [f"context={PLAIN}"] if runtime.name == "masu-oci" else []

    def labelled(config: dict[str, Any]) -> None:
        under(OTHER)(config)
        config["linux"]["mountLabel"] = SECRET
        config["mounts"] += [
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": own},
            {"destination": "/home", "type": "bind", "source": str(rootfs / "etc"), "options": ["bind"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        ]

    words = [word for path in LABELLED for word in ("getxattr", path, "security.selinux", "--")]
    found = runtime.run(rootfs, *words, change=labelled).stdout.split()
    labels = {path: bytes.fromhex(value).decode().rstrip("\0") for path, value in zip(LABELLED, found, strict=True)}
    secret = {"/dev", "/dev/null", "/dev/shm", "/dev/pts", "/dev/mqueue", *([] if own else ["/tmp"])}
    assert labels == {path: SECRET if path in secret else PLAIN for path in LABELLED}
    assert f"context={SECRET}" in runtime.run(rootfs, "mounts", change=labelled).stdout
