"""crun's --regex of kill and delete: many containers by one expression."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.oci import Runtime, wait_exited

pytestmark = pytest.mark.root


@pytest.fixture
def pids(masu_oci: Runtime, probe_rootfs: Path) -> dict[str, int]:
    """Three containers that run."""
    bundle = masu_oci.bundle(probe_rootfs, lambda config: config["process"].update(args=["/bin/probe", "sleep"]))
    ids = [f"{word}-{masu_oci.id()}" for word in ("web1", "web2", "db1")]
    masu_oci.ids += ids
    for id in ids:
        masu_oci("run", "-d", "--bundle", str(bundle), id)
    return {id[: id.index("-")]: masu_oci.state(id)["pid"] for id in ids}


def known(runtime: Runtime) -> list[str]:
    return sorted(id[: id.index("-")] for id in runtime("list", "-q").stdout.split())


def test_kill_and_delete(masu_oci: Runtime, pids: dict[str, int]) -> None:
    masu_oci("kill", "--regex", "^web[[:digit:]]", "KILL")
    wait_exited(pids["web1"])
    wait_exited(pids["web2"])
    # The one that runs is told, and keeps nobody else from being removed.
    done = masu_oci("delete", "-r", "^(db|web)1-", check=False)
    assert done.returncode == 1
    assert "db1-" in done.stderr
    assert "not stopped: running" in done.stderr
    assert known(masu_oci) == ["db1", "web2"]
    assert masu_oci("delete", "--force", "--regex", "1-|2-masu").stderr == ""
    assert known(masu_oci) == []
    wait_exited(pids["db1"])


def test_nothing_matches(masu_oci: Runtime, pids: dict[str, int]) -> None:
    for verb in ("kill", "delete"):
        assert masu_oci(verb, "--regex", "^b1").stderr == ""
    assert len(known(masu_oci)) == len(pids)


@pytest.mark.parametrize("expression", ["(", "*", "[z-a]"])
def test_no_regular_expression(masu_oci: Runtime, expression: str) -> None:
    done = masu_oci("delete", "--regex", expression, check=False)
    assert done.returncode == 1
    assert "regular expression" in done.stderr
    assert "--regex" in done.stderr


def test_a_state_that_cannot_be_read(masu_oci: Runtime, pids: dict[str, int]) -> None:
    (torn,) = (folder for folder in masu_oci.root.iterdir() if folder.name.startswith("web2"))
    (torn / "state.json").write_text("{")
    masu_oci("delete", "--force", "--regex", "^web")
    assert known(masu_oci) == ["db1"]
    assert not torn.exists()
    wait_exited(pids["web2"])
