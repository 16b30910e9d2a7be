"""`plan`, --debug: what would be asked of the kernel, shown without doing it, to anybody."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime
from harness.programs import MASU_OCI

NOBODY = 65534


def as_nobody(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs masu-oci as a user without any rights; as whoever we are when that is not root."""
    identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    return subprocess.run(
        [MASU_OCI, *args], check=False, capture_output=True, text=True, timeout=60, cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "MASU_BRAIN": "off"},
        **identity,
    )  # fmt: skip


@pytest.fixture
def bundle() -> Iterator[Path]:
    """What `spec` writes, in a place that anybody can read; pytest keeps its own to itself."""
    with tempfile.TemporaryDirectory(prefix="masu-plan-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "rootfs").mkdir()
        subprocess.run([MASU_OCI, "spec"], check=True, cwd=folder, timeout=60)
        (folder / "config.json").chmod(0o644)
        yield folder


def test_text(bundle: Path) -> None:
    done = as_nobody("plan", "--bundle", str(bundle))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
    sides = [line.split()[1] for line in lines]
    assert sides == sorted(sides, reverse=True)  # the host's, then the container's
    text = done.stdout
    assert "clone3(" in text
    assert "CLONE_NEWPID" in text
    assert text.index("clone3(") < text.index("pivot_root(") < text.index("execve(")
    assert "# mounts[0]" in text
    assert "# process.args" in text
    assert not (bundle / "rootfs/proc").exists()


def test_json(bundle: Path) -> None:
    done = as_nobody("plan", "--json", cwd=bundle)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)["operations"]
    assert [op["index"] for op in plan] == list(range(len(plan)))
    assert {"index", "op", "side", "calls", "where", "fields"} <= set(plan[0])
    names = [op["op"] for op in plan]
    assert names.count("clone") == 1
    assert names[-1] == "exec"
    (exec_op,) = [op for op in plan if op["op"] == "exec"]
    assert exec_op["fields"]["args"] == ["sh"]
    assert exec_op["where"] == "process.args"
    assert {op["side"] for op in plan} == {"host", "container"}


def test_broken_configuration(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text())
    config["mounts"][2]["options"].append("nosiud")
    (bundle / "config.json").write_text(json.dumps(config))
    done = as_nobody("plan", "--bundle", str(bundle))
    assert done.returncode == 1
    assert "mounts[2].options[" in done.stderr
    assert "did you mean" in done.stderr
    assert "nosuid" in done.stderr


def test_with_a_user_namespace(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text())
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": NOBODY, "size": 1}]
    (bundle / "config.json").write_text(json.dumps(config))
    text = as_nobody("plan", "--bundle", str(bundle)).stdout
    assert text.index("unshare(CLONE_NEWUSER)") < text.index("clone3(")


@pytest.mark.root
def test_debug_shows_the_plan(masu_oci: Runtime, probe_rootfs: Path) -> None:
    bundle = str(masu_oci.bundle(probe_rootfs))
    said = masu_oci("--debug", "run", "--bundle", bundle, masu_oci.id()).stderr
    assert all("level=debug" in line for line in said.splitlines())
    assert "clone3(" in said
    assert "execve(" in said
    assert masu_oci("run", "--bundle", bundle, masu_oci.id()).stderr == ""


@pytest.mark.root
def test_debug_tells_how_far_it_came_in_words_of_runc(masu_oci: Runtime, probe_rootfs: Path) -> None:
    processor = min(os.sched_getaffinity(0))

    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/bin/probe", "sleep"]
        config["process"]["execCPUAffinity"] = {"initial": str(processor)}
        config["hooks"] = {"createRuntime": [{"path": "/bin/true"}]}

    def told(*arguments: str) -> list[str]:
        """What is said behind the plan, whose lines begin with a number."""
        said = masu_oci("--debug", *arguments).stderr
        messages = [line.partition('msg="')[2].removesuffix('"') for line in said.splitlines()]
        return [text for text in messages if not text.split()[0].isdecimal()]

    id = masu_oci.id()
    steps = told("create", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), id)
    pid = masu_oci.state(id)["pid"]
    assert steps == [
        "nsexec container setup: masu-launch begins",
        f"child process in init(): pid {pid}",
        f"pid {pid} waits for the host: createRuntime",
        "init: closing the pipe to signal completion",
    ]
    masu_oci("start", id)
    affinity, begins, born, ends = told("exec", id, "/bin/probe", "exit", "0")
    assert affinity == f"nsexec: affinity: {1 << processor:#x}"
    assert begins == steps[0]
    assert born.startswith("child process in init(): pid ")
    assert ends == "setns_init: about to exec"


@pytest.mark.root
def test_debug_in_a_json_log(masu_oci: Runtime, probe_rootfs: Path) -> None:
    log = masu_oci.folder / "log"
    bundle = str(masu_oci.bundle(probe_rootfs))
    masu_oci("--debug", "--log", str(log), "--log-format", "json", "run", "--bundle", bundle, masu_oci.id())
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert {record["level"] for record in records} == {"debug"}
    assert any("pivot_root(" in record["msg"] for record in records)


def test_systemd_names_the_cgroup(bundle: Path) -> None:
    document = json.loads(as_nobody("--systemd-cgroup", "plan", "--json", "--bundle", str(bundle), "box").stdout)
    text = json.dumps(document["operations"])
    assert "/system.slice/runc-box.scope" in text
    (bundle / "config.json").write_text(
        (bundle / "config.json").read_text().replace('"linux": {', '"linux": {"cgroupsPath": "a-b.slice:x:y",', 1)
    )
    document = json.loads(as_nobody("--systemd-cgroup", "plan", "--json", "--bundle", str(bundle), "box").stdout)
    assert "/a.slice/a-b.slice/x-y.scope" in json.dumps(document["operations"])
