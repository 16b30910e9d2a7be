"""One bundle on masu-oci, runc and crun: what differs in `state` and inside the container is in docs/conformance.md.

The table there, below "Beside runc and crun", has a line for each difference, with the values (as patterns) and the
reason. A difference that is not in it fails this test, and so does a line that is not true any more.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.engine import wait_until
from harness.oci import Runtime, wait_exited
from harness.programs import ROOT, peer

pytestmark = pytest.mark.root

PAGE = ROOT / "docs" / "conformance.md"
PEERS = {"runc": "1.1.5+ds1", "crun": "1.8.1"}
# With cgroups as the machine has them (False), and where v2 alone is to be seen: crun refuses v1 beside v2.
MODES = {"runc": (False, True), "crun": (True,)}
MASKED = {
    "/proc/acpi": "masked directory", "/sys/firmware": "masked directory",
    "/proc/keys": "masked file", "/proc/timer_list": "masked file",
}  # fmt: skip
FILES = (
    "status", "mountinfo", "cgroup", "limits", "oom_score_adj", "uid_map", "gid_map", "setgroups", "cmdline", "comm",
    "loginuid", "timerslack_ns", "coredump_filter",
)  # fmt: skip
# What no two runs have in common; the mounts' numbers, and with them their order, which is that of the numbers.
VOLATILE = (
    "Vm*",
    "Rss*",
    "HugetlbPages",
    "*ctxt_switches",
    "SigQ",
    "*Pid",
    "*Tgid",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
)
CGROUP = f"/masu-compare-{os.urandom(4).hex()}"
Facts = dict[str, str]


def inside() -> list[str]:
    """The probe's command line that tells all."""
    words = ["/bin/probe"]
    for name in FILES:
        words += ["echo", f"=={name}", "--", "cat", f"/proc/self/{name}", "--"]
    for command in (["env"], ["fds"], ["cwd"], ["id"], ["sched"], ["ls", "/dev"]):
        words += ["echo", f"=={command[0]}", "--", *command, "--"]
    return [*words, "echo", "==end"]


def config(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    """A container like those that engines ask for."""

    def apply(config: dict[str, Any]) -> None:
        process, linux = config["process"], config["linux"]
        process["args"] = [*inside(), "--", "sleep"]
        process["user"] = {"uid": 0, "gid": 0, "additionalGids": [5, 10]}
        process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1000, "hard": 1000}]
        process["oomScoreAdj"] = 100
        for destination, kind, more in (
            ("/sys", "sysfs", ["ro"]), ("/dev/mqueue", "mqueue", []), ("/sys/fs/cgroup", "cgroup", ["ro"]),
        ):  # fmt: skip
            options = ["nosuid", "noexec", "nodev", *more]
            config["mounts"].append({"destination": destination, "type": kind, "source": kind, "options": options})
        linux["cgroupsPath"] = CGROUP
        linux["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}],
        }  # fmt: skip
        linux["maskedPaths"] = ["/proc/acpi", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
        linux["readonlyPaths"] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]
        config["annotations"] = {"org.example.note": "kept"}
        change(config)

    return apply


def mapped(config: dict[str, Any]) -> None:
    ids = [{"containerID": 0, "hostID": 0, "size": 4000}]
    config["linux"]["namespaces"] += [{"type": "user"}, {"type": "cgroup"}]
    config["linux"] |= {"uidMappings": ids, "gidMappings": ids}


def unprivileged(config: dict[str, Any]) -> None:
    config["process"] |= {"user": {"uid": 1000, "gid": 1000, "umask": 0o077}, "cwd": "/tmp", "noNewPrivileges": False}
    config["process"]["env"] = ["PATH=/bin", "EMPTY=", "A=b c"]


VARIANTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "plain": lambda config: None,
    "user namespace": mapped,
    "unprivileged": unprivileged,
}


def on_v2_alone() -> list[str]:
    """Words before a command that give it a mount namespace where cgroup2 is all there is to see of cgroups."""
    script = 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'
    return [peer("unshare"), "--mount", "--propagation", "slave", "sh", "-c", script, "sh"]


def facts(name: str, folder: Path, rootfs: Path, change: Callable[[dict[str, Any]], object], *, v2: bool) -> Facts:
    """Everything about one container's life on a runtime, by name."""
    folder.mkdir()
    runtime = Runtime(name, folder)
    if v2:
        words = [word for word in runtime.command if not word.startswith("--cgroup-manager")]
        runtime.command = [*on_v2_alone(), *words]
    bundle = folder.parent / "bundle"
    if not bundle.exists():
        runtime.bundle(rootfs, config(change)).rename(bundle)
    id = runtime.id()
    said, nothing = folder / "said", folder / "nothing"
    nothing.touch()  # not /dev/null: crun gives its standard input, the machine's own, to the container's user
    found: Facts = {}
    try:
        with said.open("wb") as out, nothing.open("rb") as stdin:
            runtime("create", "--bundle", str(bundle), id, stdin=stdin, stdout=out, stderr=out)
        created = runtime.state(id)
        opened = sorted(Path(f"/proc/{created['pid']}/fd").iterdir(), key=lambda fd: int(fd.name))
        found["created: open files"] = " ".join(kind_of(str(fd.readlink())) for fd in opened)
        runtime("start", id)
        wait_until(lambda: "==end\n" in said.read_text())
        found |= of_process("", said.read_text())
        # As the callers do it: they write down all of the process.
        process = json.loads((bundle / "config.json").read_text())["process"]
        (folder / "process.json").write_text(json.dumps(process | {"args": inside()}))
        with nothing.open("rb") as stdin:
            done = runtime("exec", "--process", str(folder / "process.json"), id, stdin=stdin)
        found |= of_process("exec: ", done.stdout)
        running = runtime.state(id)
        runtime("kill", id, "KILL")
        wait_exited(created["pid"])
        for state in (created, running, runtime.state(id)):
            found |= of_state(state, id, running["pid"])
    finally:
        runtime.close()
    return {key: value.replace(id, "ID").replace(str(folder), "FOLDER") for key, value in found.items()}


def of_state(state: dict[str, Any], id: str, pid: int) -> Facts:
    when = state["status"]
    found = {f"state, {when}: {key}": json.dumps(value) for key, value in state.items()}
    found[f"state, {when}: pid"] = found[f"state, {when}: pid"].replace(str(pid), "PID")
    # Go leaves out zeros at the end of the fraction.
    created = re.sub(r"\.\d+Z", ".NZ", found[f"state, {when}: created"])
    found[f"state, {when}: created"] = re.sub(r"\d", "N", created)
    return found


def of_process(prefix: str, said: str) -> Facts:
    found: Facts = {}
    sections = dict(re.findall(r"^==(\w+)\n(.*?)(?=^==)", said, re.MULTILINE | re.DOTALL))
    for line in sections.pop("status").splitlines():
        name, _, value = line.partition(":")
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in VOLATILE):
            found[f"status: {name}"] = " ".join(value.split())
    for line in sections.pop("mountinfo").splitlines():
        _, _, _, root, point, options, *more = line.split()
        dash = more.index("-")
        kind, source, super_options = more[dash + 1 :]
        what = f"{MASKED.get(point, 'mount')} {point}"
        found[f"{what}: root"] = root
        found[f"{what}: options"] = ",".join(sorted(options.split(",")))
        found[f"{what}: propagation"] = " ".join(word.partition(":")[0] for word in more[:dash])
        found[f"{what}: file system"] = f"{kind} {source} {super_options}"
    for line in sections.pop("cgroup").splitlines():
        _, controllers, path = line.split(":")
        found[f"cgroup: {controllers}"] = path
    for line in sections.pop("limits").splitlines()[1:]:
        name, *values = re.split(r"\s{2,}", line.strip())
        found[f"limit: {name}"] = " ".join(values)
    found["open files"] = " ".join(kind_of(line.split()[1]) for line in sections.pop("fds").splitlines())
    found |= {name: " ".join(text.replace("\0", " ").split()) for name, text in sections.items()}
    # A link to /proc/kcore, which the peers make where the machine has that file, and which every caller masks.
    found["ls"] = found["ls"].removeprefix("core ")
    return {prefix + name: value for name, value in found.items()}


def kind_of(target: str) -> str:
    """What an open file is, without what differs in each run."""
    return target.partition(":")[0] if ":[" in target else Path(target).name


def listed(name: str) -> dict[str, tuple[str, str]]:
    """The table's lines where that peer differs: what -> (pattern for ours, pattern for theirs)."""
    section = PAGE.read_text().partition("## Beside runc and crun\n")[2].partition("\n## ")[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| `") else []
        if cells:
            what, ours, *theirs, why = cells
            assert why
            theirs_here = theirs[list(PEERS).index(name)]
            if theirs_here != "same":
                found[what.strip("`")] = ours.strip("`"), theirs_here.strip("`")
    return found


@pytest.mark.parametrize("name", PEERS)
def test_differences_are_those_of_the_document(name: str, tmp_path: Path, probe_rootfs: Path) -> None:
    expected = listed(name)
    seen: set[str] = set()
    wrong: list[str] = []
    for v2, (variant, change) in itertools.product(MODES[name], VARIANTS.items()):
        folder = tmp_path / f"{variant.replace(' ', '-')}{'-v2' if v2 else ''}"
        folder.mkdir()
        ours, theirs = (facts(which, folder / which, probe_rootfs, change, v2=v2) for which in ("masu-oci", name))
        for what in sorted(ours.keys() | theirs.keys()):
            pair = ours.get(what, "(none)"), theirs.get(what, "(none)")
            if pair[0] == pair[1]:
                continue
            lines = [line for line in expected if fnmatch.fnmatchcase(what, line)]
            seen.update(lines)
            if not any(all(map(fnmatch.fnmatchcase, pair, expected[line])) for line in lines):
                wrong.append(f"{folder.name}: {what}: ours {pair[0]!r}, {name} {pair[1]!r}")
    assert not wrong, "\n".join(wrong)
    version = subprocess.run([peer(name), "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    # Some lines are about v1.
    if version == PEERS[name] and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        assert not expected.keys() - seen, "not true any more"
