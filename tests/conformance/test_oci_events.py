"""events: usage at intervals, OOM kills, the end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, wait_exited

pytestmark = pytest.mark.root

MIB = 1 << 20


def sleeping(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]
    config["linux"]["resources"] = {"memory": {"limit": 32 * MIB}, "pids": {"limit": 20}}


def started(runtime: Runtime, rootfs: Path) -> str:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, sleeping)), id)
    return id


def following(runtime: Runtime, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*runtime.command, "events", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def shape(value: object) -> object:
    """The names in a document, without what grows with the machine or the kernel."""
    if isinstance(value, dict):
        free = ("raw", "hugetlb")
        return {key: shape(item) if key not in free else None for key, item in value.items()}
    return type(value).__name__ if not isinstance(value, list) else "list"


def test_stats(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id = started(masu_oci, probe_rootfs)
    text = masu_oci("events", "--stats", id).stdout
    assert text.startswith(f'{{"type":"stats","id":"{id}","data":')
    data = json.loads(text)["data"]
    assert data["pids"] == {"current": 1, "limit": 20}
    assert data["memory"]["usage"]["limit"] == 32 * MIB
    assert 0 < data["memory"]["usage"]["usage"] < 32 * MIB
    assert data["cpu"]["usage"]["total"] > 0


def test_stats_are_the_peers(masu_oci: Runtime, probe_rootfs: Path) -> None:
    runc = Runtime("runc", masu_oci.folder)
    shapes = []
    try:
        for runtime in (masu_oci, runc):
            id = started(runtime, probe_rootfs)
            shapes.append(shape(json.loads(runtime("events", "--stats", id).stdout)["data"]))
    finally:
        runc.close()
    ours, theirs = shapes
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)
    for part in theirs:
        missing = set(theirs[part] or ()) - set(ours[part] or ())
        assert not missing, part


def test_one_after_another_until_the_end(runtime: Runtime, probe_rootfs: Path) -> None:
    id = started(runtime, probe_rootfs)
    with following(runtime, "--interval", "50ms", id) as events:
        assert events.stdout is not None
        for _ in range(3):
            event = json.loads(events.stdout.readline())
            assert (event["type"], event["id"]) == ("stats", id)
        runtime("delete", "--force", id)
        assert all(json.loads(line)["type"] in ("stats", "oom") for line in events.stdout)
        assert events.wait(20) == 0


def test_ends_with_the_first_process(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id = started(masu_oci, probe_rootfs)
    with following(masu_oci, "--interval", "50ms", id) as events:
        assert events.stdout is not None
        assert json.loads(events.stdout.readline())["type"] == "stats"
        masu_oci("kill", id, "KILL")
        events.stdout.read()
        assert events.wait(20) == 0
    assert masu_oci.state(id)["status"] == "stopped"


def test_a_kill_for_memory(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id = started(masu_oci, probe_rootfs)
    with following(masu_oci, "--interval", "50ms", id) as events:
        assert events.stdout is not None
        assert json.loads(events.stdout.readline())["type"] == "stats"
        masu_oci("exec", id, "/bin/probe", "memhog", "200", check=False)
        for line in events.stdout:
            if json.loads(line)["type"] == "oom":
                assert line == f'{{"type":"oom","id":"{id}"}}\n'
                break
        else:
            raise AssertionError("no oom event before the end")
        masu_oci("delete", "--force", id)
        events.stdout.read()


def test_nobody_listens_any_more(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id = started(masu_oci, probe_rootfs)
    with following(masu_oci, "--interval", "20ms", id) as events:
        assert events.stdout is not None
        events.stdout.readline()
        events.stdout.close()
        assert events.wait(20) != 0
        assert events.stderr is not None
        assert "Traceback" not in events.stderr.read()


def test_refusals(runtime: Runtime, probe_rootfs: Path) -> None:
    id = started(runtime, probe_rootfs)
    refused = runtime("events", "--interval", "0s", id, check=False)
    assert refused.returncode == 1
    assert "duration interval must be greater than 0" in refused.stderr
    pid = runtime.state(id)["pid"]
    runtime("kill", id, "KILL")
    wait_exited(pid)
    refused = runtime("events", id, check=False)
    assert refused.returncode == 1
    assert f"container with id {id} is not running" in refused.stderr
