"""resctrl, where the machine has it: a class of service with a process in it, from its making to its end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from masu.errors import FailedPrecondition, KernelError
from masu.linux import resctrl
from masu.linux.resctrl import Group
from masu.spec.runtime import LinuxIntelRdt

pytestmark = pytest.mark.root


@pytest.fixture
def root() -> str:
    try:
        return resctrl.find_root()
    except FailedPrecondition as error:
        pytest.skip(str(error))


@pytest.fixture
def group(root: str) -> Iterator[Group]:
    wanted = LinuxIntelRdt(enable_monitoring=True)
    group = Group.of(root, "masu-test-resctrl", wanted)
    assert group.own == group.path
    group.make(wanted)
    yield group
    group.remove()
    assert not Path(group.path).exists()


def test_a_process_in_its_groups(group: Group) -> None:
    files = group.join_files()
    joined = " && ".join(f"echo 0 > {file}" for file in files)
    with subprocess.Popen(["/bin/sh", "-c", f"{joined} && echo in && read end"], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        for file in files:
            assert str(process.pid) in Path(file).read_text().split()
        assert group.stats()["schemata"]
        process.communicate(b"\n")
    assert process.returncode == 0


def test_refused_shares(group: Group) -> None:
    before = group.schemata()
    with pytest.raises(KernelError) as caught:
        group.write([f"{before[0].partition(':')[0]}:0=nonsense"])
    assert resctrl.last_status(group.root) in caught.value.detail
    assert group.schemata() == before
