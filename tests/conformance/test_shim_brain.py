"""containerd-shim-masu-v2 by a brain: what containerd sees and what is left of it, as without one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.callers import Premises
from harness.callers.containerd import Shims, is_shim
from harness.engine import wait_until
from harness.keepers import children_of, keepers_of
from harness.programs import ROOT

from masu.api.proto import small
from masu.api.shim.tasks import SERVICES
from masu.api.ttrpc.client import Client
from masu.linux import cgroups

pytestmark = pytest.mark.root

PROGRAM = str(ROOT / "containerd-shim-masu-v2")


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[Premises]:
    (tmp_path / "premises").mkdir()
    with Premises(tmp_path / "premises") as it:
        yield it


def keepers(premises: Premises) -> list[int]:
    here = premises.pids()
    return [pid for pid in keepers_of(ROOT / "src/masu") if pid in here]


def facts(pid: int) -> dict[str, object]:
    """What a process has from whoever started it."""
    proc = Path("/proc", str(pid))
    words = (proc / "cmdline").read_bytes().split(b"\0")
    environment = (proc / "environ").read_bytes().split(b"\0")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    numbers = {int(name): os.readlink(proc / "fd" / name) for name in os.listdir(proc / "fd")}
    return {
        "parent": status["PPid"],
        "limits": (proc / "limits").read_text(),
        "cgroup": (proc / "cgroup").read_text(),
        "oom_score_adj": (proc / "oom_score_adj").read_text(),
        "cwd": os.readlink(proc / "cwd"),
        "umask": status["Umask"],
        "signals": (status["SigIgn"], status["SigBlk"]),
        "leads a session": os.getsid(pid) == pid,
        "standard": [numbers[fd] for fd in range(3)],
        "strangers": [name for name in numbers.values() if name.startswith(("/tmp", str(ROOT)))],
        "words": [word for word in words if not word.isdigit()],
        "environment": sorted(text for text in environment if not text.startswith(b"MASU_BRAIN=")),
    }


def test_the_same_shim(premises: Premises, tmp_path: Path) -> None:
    """Whoever has decided: the process that serves has the caller's world, and the brain nothing of it."""
    place = f"/{premises.cgroup}/containerd"
    folders = set(cgroups.predict(place, "").values())
    for path in folders:
        os.makedirs(path)
        for folder in (Path(path).parent, Path(path)):
            for name in ("cpuset.cpus", "cpuset.mems"):  # of v1: without these nobody can be in it
                if (folder / name).exists():
                    (folder / name).write_text((folder.parent / name).read_text())
    (tmp_path / "config.json").write_text("{}")
    script = (
        'for at in $FOLDERS; do echo 0 > "$at/cgroup.procs"; done;'
        "ulimit -n 777; umask 027; echo 321 > /proc/self/oom_score_adj;"
        'cd "$1"; shift; exec 7<config.json; "$@"; exit $?'
    )
    words = ["-namespace", "brain", "-address", "/a"]
    seen = []
    for brain in ("off", "auto", "require"):
        done = subprocess.run(
            [*premises.prefix, "sh", "-c", script, "sh", str(tmp_path), PROGRAM, *words, "-id", brain, "start"],
            env={**premises.environment, "MASU_BRAIN": brain, "FOLDERS": " ".join(sorted(folders))},
            stdin=subprocess.DEVNULL, capture_output=True, check=True,
        )  # fmt: skip
        with Client(str(premises.path(done.stdout.decode().removeprefix("unix://")))) as client:
            client.call(SERVICES[1], "Shutdown", small.ShutdownRequest(id="nobody"), small.Empty)  # it serves
        (shim,) = [pid for pid in premises.pids() if is_shim(pid)]
        seen.append({name: value for name, value in facts(shim).items() if name != "words"})
        os.kill(shim, signal.SIGTERM)
        wait_until(lambda: not any(map(is_shim, premises.pids())))
        if brain == "auto":  # it has had one started
            wait_until(lambda: keepers(premises) and children_of(keepers(premises)[0]))
    assert seen[0]["oom_score_adj"] == "322\n"
    assert place in str(seen[0]["cgroup"])
    assert seen[0]["strangers"] == []
    for name, value in seen[0].items():
        assert [one[name] for one in seen] == [value] * 3, name
    (keeper,) = keepers(premises)
    about = facts(keeper)
    # By these a service manager ends what belongs to containerd.
    manager = [line for line in str(about["cgroup"]).splitlines() if line.startswith("0:") or "name=systemd" in line]
    assert manager
    assert not [line for line in manager if place in line]
    assert (about["cwd"], about["standard"], about["strangers"]) == ("/", ["/dev/null"] * 3, [])


def test_containerd_by_a_brain(tmp_path: Path) -> None:
    """Containers come and go; the brain is killed, and they neither notice nor are they kept from ending."""
    (tmp_path / "premises").mkdir()
    with Premises(tmp_path / "premises") as premises:
        premises.environment["MASU_BRAIN"] = "require"
        with Shims(premises) as shims:
            assert shims(*shims.own("first", "--rm"), "echo", "hello") == "hello\n"
            (keeper,) = keepers(premises)
            shims(*shims.own("stays", "--detach"), "sleep", "999")
            (shim,) = shims.shims()
            os.kill(keeper, signal.SIGKILL)
            wait_until(lambda: not keepers(premises))
            assert shims.status("stays") == "RUNNING"
            assert shims(*shims.own("next", "--rm"), "echo", "hello") == "hello\n"
            assert shims.shims() == [shim]
            os.kill(shim, signal.SIGKILL)  # `delete`, by the brain that has come
            wait_until(lambda: shims.runtime_states() == [] and shims.monitors() == [])
            assert keeper not in keepers(premises)
