"""gVisor's runsc as BinaryName of masud's tasks: a runtime whose processes are not the machine's, and which stops them
without the freezer. Debian's, or whatever `runsc` is in PATH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.test_masud_tasks import IMAGE, Tasks
from harness.programs import peer

pytestmark = pytest.mark.root


@pytest.fixture
def masud(tmp_path: Path) -> Iterator[Tasks]:
    it = Tasks(tmp_path)
    it.begin()
    yield it
    it.stop()


@pytest.fixture
def runsc(tmp_path: Path) -> tuple[str, str]:
    """--runc-binary: with a platform that runs everywhere, and without a network of its own."""
    wrapper = tmp_path / "runsc"
    wrapper.write_text(f'#!/bin/sh\nexec {peer("runsc")} --platform=ptrace --network=none "$@"\n')
    wrapper.chmod(0o755)
    return "--runc-binary", str(wrapper)


def test_a_life(masud: Tasks, runsc: tuple[str, str]) -> None:
    done = masud.try_("run", "--rm", *masud.fifos, *runsc, IMAGE, "one", "sh", "-c", "dmesg | head -1; exit 3")
    assert (done.returncode, "gVisor" in done.stdout) == (3, True), done
    masud.run("two", "sleep", "1000", options=runsc)
    try:
        assert masud.status("two") == "RUNNING"
        assert masud("tasks", "exec", "--exec-id", "x", *masud.fifos, "two", "echo", "inside") == "inside\n"
        assert "memory.usage_in_bytes" in masud("tasks", "metrics", "two")
        masud("tasks", "pause", "two")
        assert masud.status("two") == "PAUSED"
        masud("tasks", "resume", "two")
        assert masud.status("two") == "RUNNING"
        masud("tasks", "kill", "--signal", "KILL", "two")
        assert "exit code 137" in masud.try_("tasks", "rm", "two").stderr
    finally:
        masud.remove("two")
    masud.run("three", "sleep", "1000", options=runsc)
    masud("tasks", "pause", "three")
    masud.remove("three")
    assert masud("tasks", "ls", "-q") == masud("containers", "ls", "-q") == ""
