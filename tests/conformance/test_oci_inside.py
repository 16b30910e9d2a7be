"""What the contained process sees of itself: the same under masu-oci and under runc, field by field."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime

pytestmark = pytest.mark.root

Change = Callable[[dict[str, Any]], object]


def inside(name: str, folder: Path, rootfs: Path, args: list[str], change: Change | None) -> str:
    folder.mkdir()
    runtime = Runtime(name, folder)
    try:
        return runtime.run(rootfs, *args, change=change).stdout
    finally:
        runtime.close()


def compare(tmp_path: Path, rootfs: Path, args: list[str], change: Change | None = None) -> tuple[str, str]:
    ours, theirs = (inside(name, tmp_path / name, rootfs, args, change) for name in ("masu-oci", "runc"))
    return ours, theirs


def process(**fields: Any) -> Change:
    return lambda config: config["process"].update(fields)


def linux(**fields: Any) -> Change:
    return lambda config: config["linux"].update(fields)


def full_capabilities(config: dict[str, Any]) -> None:
    names = ["CAP_CHOWN", "CAP_SETUID", "CAP_NET_RAW", "CAP_KILL"]
    config["process"]["capabilities"] = {
        "bounding": names, "permitted": names, "effective": names[:3], "inheritable": names[:2], "ambient": names[:1],
    }  # fmt: skip
    config["process"]["noNewPrivileges"] = False


SEEN: dict[str, tuple[list[str], Change | None]] = {
    "id": (["id"], None),
    "user": (["id"], process(user={"uid": 1000, "gid": 1001, "additionalGids": [5, 2000], "umask": 0o027})),
    "capabilities": (["caps"], None),
    "five sets": (["caps"], full_capabilities),
    "no capabilities": (["caps"], process(capabilities={})),
    "environment": (["env"], process(env=["PATH=/bin", "A=b=c", "EMPTY="])),
    "environment without HOME": (["env"], process(user={"uid": 1000, "gid": 1000})),
    "fds": (["fds"], None),
    "cwd": (["cwd"], process(cwd="/etc")),
    "uname": (["uname"], None),
    "rlimits": (["rlimits"], process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}])),
    "null": (["mode", "/dev/null", "--", "mode", "/dev/full", "--", "mode", "/dev/tty"], None),
    "links": (["readlink", "/dev/fd", "--", "readlink", "/dev/ptmx", "--", "readlink", "/dev/stderr"], None),
    "dev": (["ls", "/dev"], None),
    "proc sys is read-only": (["write", "/proc/sys/kernel/domainname", "x"], None),
    "kcore is masked": (["mode", "/proc/kcore"], None),
    "shm": (["mode", "/dev/shm"], None),
    "hidden directory": (["ls", "/etc"], linux(maskedPaths=["/etc"])),
    "read-only path": (["mkdir", "/etc/x", "0755"], linux(readonlyPaths=["/etc"])),
    "sysctl": (["cat", "/proc/sys/net/ipv4/ip_forward"], linux(sysctl={"net.ipv4.ip_forward": "1"})),
    "oom score": (["cat", "/proc/self/oom_score_adj"], process(oomScoreAdj=500)),
    "personality": (["uname"], linux(personality={"domain": "LINUX32"})),
    "time offset": (["readlink", "/proc/self/ns/time_for_children"], None),
    "mknod": (["mknod", "/tmp/x", "c", "1", "3"], process(noNewPrivileges=True)),
}


@pytest.mark.parametrize("what", SEEN)
def test_same_as_runc(what: str, tmp_path: Path, probe_rootfs: Path) -> None:
    args, change = SEEN[what]
    ours, theirs = compare(tmp_path, probe_rootfs, args, change)
    if what == "fds":
        # Files of the test, named differently for each runtime; and what runc 1.1 leaks is not wanted.
        ours, theirs = (re.sub(r"^(\d+) \S+", r"\1", text, flags=re.M) for text in (ours, theirs))
    if what == "dev":
        # runc puts /dev/core there when the host has /proc/kcore.
        ours, theirs = (re.sub(r"^\S*core\S*.*\n", "", text, flags=re.M) for text in (ours, theirs))
    if "time" in what:
        ours, theirs = (re.sub(r"\d+", "N", text) for text in (ours, theirs))
    assert ours == theirs


def test_mounts(tmp_path: Path, probe_rootfs: Path) -> None:
    """The same mount points with the same types and options, in the same order but for what hides paths."""

    def points(text: str) -> dict[str, tuple[str, str]]:
        found = {}
        for line in text.splitlines():
            fields = line.split()
            if "-" not in fields:
                continue
            dash = fields.index("-")
            found[fields[4]] = (fields[dash + 1], ",".join(sorted(fields[5].split(","))))
        return found

    ours, theirs = (points(text) for text in compare(tmp_path, probe_rootfs, ["cat", "/proc/self/mountinfo"]))
    assert set(ours) == set(theirs)
    for point, (kind, options) in theirs.items():
        if point in ("/proc/kcore", "/proc/keys"):
            continue  # ours is a bind of the host's /dev/null, theirs of the container's
        assert (point, ours[point]) == (point, (kind, options))
