"""What the verbs do with a container's resctrl groups, which its state names. The groups are directories laid out as
the kernel's: no machine of ours has any (tests/kernel/test_resctrl_real.py waits for one)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime

pytestmark = pytest.mark.root

FILES = {
    "info/L3/cbm_mask": "fff",
    "info/L3/min_cbm_bits": "1",
    "info/L3/num_closids": "4",
    "info/L3_MON/mon_features": "llc_occupancy",
    "info/last_cmd_status": "ok",
    "schemata": "L3:0=fff",
    "gold/schemata": "L3:0=00f",
    "gold/tasks": "",
    "gold/mon_groups/box/tasks": "",
    "gold/mon_groups/box/mon_data/mon_L3_00/llc_occupancy": "4096",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "resctrl" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "resctrl"


def in_groups(runtime: Runtime, rootfs: Path, tree: Path, own: str) -> str:
    """A running container that is in the class "gold" and its MON group "box"; `own` goes with it."""
    id = runtime.id()
    config = runtime.bundle(rootfs, lambda config: config["process"].update(args=["/bin/probe", "sleep"]))
    runtime("run", "-d", "--bundle", str(config), id)
    state = runtime.root / id / "state.json"
    facts: dict[str, Any] = json.loads(state.read_text())
    assert facts["resctrl"] == {}
    facts["resctrl"] = {
        "root": str(tree), "group": f"{tree}/gold", "monitor": f"{tree}/gold/mon_groups/box", "own": own,
    }  # fmt: skip
    state.write_text(json.dumps(facts))
    return id


def test_exec_goes_into_both(masu_oci: Runtime, probe_rootfs: Path, tree: Path) -> None:
    id = in_groups(masu_oci, probe_rootfs, tree, "")
    masu_oci("exec", id, "/bin/probe", "exit", "0")
    # The stage itself went, before it was cloned: what the kernel takes for whoever writes.
    assert (tree / "gold/tasks").read_text() == (tree / "gold/mon_groups/box/tasks").read_text() == "0"


def test_exec_where_a_group_refuses(masu_oci: Runtime, probe_rootfs: Path, tree: Path) -> None:
    id = in_groups(masu_oci, probe_rootfs, tree, "")
    (tree / "gold/tasks").unlink()
    (tree / "gold/tasks").mkdir()
    done = masu_oci("exec", id, "/bin/probe", "exit", "0", check=False)
    assert done.returncode == 255
    assert f"linux.intelRdt: write {tree}/gold/tasks: EISDIR" in done.stderr


def test_events(masu_oci: Runtime, probe_rootfs: Path, tree: Path) -> None:
    id = in_groups(masu_oci, probe_rootfs, tree, "")
    told = json.loads(masu_oci("events", "--stats", id).stdout)["data"]["intel_rdt"]
    assert told == {
        "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 1, "num_closids": 4},
        "l3_cache_schema_root": "L3:0=fff",
        "l3_cache_schema": "L3:0=00f",
        "schemata": ["L3:0=00f"],
        "cmt_stats": [{"llc_occupancy": 4096}],
    }


def test_delete_removes_what_is_the_containers_own(masu_oci: Runtime, probe_rootfs: Path, tree: Path) -> None:
    own = tree / "gold/mon_groups/own"
    own.mkdir()
    id = in_groups(masu_oci, probe_rootfs, tree, str(own))
    masu_oci("delete", "--force", id)
    assert not own.exists()
    assert (tree / "gold/tasks").exists()
    # One that went with its file system is nobody's sorrow.
    id = in_groups(masu_oci, probe_rootfs, tree, str(own))
    masu_oci("delete", "--force", id)
    assert list(masu_oci.root.iterdir()) == []


@pytest.mark.parametrize("facts", [7, {"root": "/x"}, {"root": "/x", "group": 7}, {"root": "/x", "group": "/\0"}])
def test_facts_that_are_none(masu_oci: Runtime, probe_rootfs: Path, tree: Path, facts: object) -> None:
    id = in_groups(masu_oci, probe_rootfs, tree, "")
    file = masu_oci.root / id / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "resctrl": facts}))
    assert "resctrl is missing or of a wrong type" in masu_oci("state", id, check=False).stderr
    masu_oci("delete", "--force", id)
    assert list(masu_oci.root.iterdir()) == []
