"""masud is killed at any moment of a `ctr run`: what is left is listed, ended and removed, and nothing else is left."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.test_masud_tasks import IMAGE, Tasks
from harness.engine import cgroups_of

pytestmark = pytest.mark.root

ROUNDS = 12


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    it = Tasks(tmp_path_factory.mktemp("killed"))
    it.begin()
    yield it
    it.stop()


def _seconds(masud: Tasks) -> float:
    """How long a run takes here."""
    began = time.monotonic()
    masud("run", "--rm", *masud.fifos, IMAGE, "measured", "true")
    return time.monotonic() - began


def _left(masud: Tasks) -> list[Path]:
    found = []
    for place in (masud.state / "containers", masud.root / "containers", masud.state / "execs"):
        found += [path for path in place.rglob("*") if path.is_file() or path.is_socket() or path.is_fifo()]
    return found


def test_killed_at_any_moment(masud: Tasks) -> None:
    chance = random.Random(4711)
    usual_s = max(_seconds(masud) for _ in range(2))
    seen = set()
    for number in range(ROUNDS):
        id = f"killed-{number}"
        client = masud.background("run", *masud.fifos, IMAGE, id, "sh", "-c", "echo up; exec sleep 1000")
        try:
            # the client goes before or after it, as it likes
            client.wait(chance.uniform(0, usual_s))
        except subprocess.TimeoutExpired:
            pass
        masud.kill()
        client.kill()
        client.communicate()
        masud.start()
        status = masud.status(id)
        seen.add(status)
        if status == "RUNNING":
            wait_status = masud.masu("exec", id, "cat", "/proc/1/comm")
            assert wait_status in ("sleep\n", "sh\n")
        masud.try_("tasks", "rm", "-f", id)
        assert masud.status(id) == ""
        masud.try_("containers", "rm", id)
        masud.try_("snapshots", "rm", id)
        assert id not in masud("containers", "ls", "-q")
        assert _left(masud) == []
        assert cgroups_of(id) == []
    assert len(seen) > 1, f"every kill met the same moment: {seen}"
