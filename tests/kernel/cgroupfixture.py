"""Cgroups with names of their own for a test, processes that live in them, and their end."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from masu.linux.cgroups import Cgroup, Layout, Mount, detect
from masu.spec.runtime import Resources, parse_resources

MIB = 1 << 20
_numbers = itertools.count()


def resources(**sections: object) -> Resources:
    return parse_resources(sections)


class Box:
    """Makes cgroups below one directory, starts processes in them, ends both."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.top = f"/masu-test-{os.getpid()}-{next(_numbers)}"
        self.groups: list[Cgroup] = []
        self.processes: list[subprocess.Popen[str]] = []

    def make(self, name: str = "box", **options: object) -> Cgroup:
        group = Cgroup.create(f"{self.top}/{name}", name, layout=self.layout, **options)  # type: ignore[arg-type]
        self.groups.append(group)
        return group

    def start(self, group: Cgroup, *command: str, script: str = "") -> subprocess.Popen[str]:
        """A process that has joined the group and said so; `cat` unless told otherwise, which ends with its stdin.
        `script` is Python, with its output after the first line."""
        if script:
            command = (sys.executable, "-Sc", script)
        joining = (
            'n=$1; shift; while [ $n -gt 0 ]; do echo 0 > "$1" || exit 9; shift; n=$((n-1)); done; echo in; exec "$@"'
        )
        files = group.join_files()
        process = subprocess.Popen(
            ["sh", "-c", joining, "sh", str(len(files)), *files, *(command or ("cat",))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        if process.stdout.readline() != "in\n":
            assert process.stderr is not None
            raise AssertionError(process.stderr.read())
        return process

    def start_busy(self, group: Cgroup) -> subprocess.Popen[str]:
        """A process that has used 0.15 s of CPU time since it joined, and waits now for a line."""
        script = (
            "import time\nend = time.process_time() + 0.15\nwhile time.process_time() < end: pass\n"
            "print('done', flush=True); input()"
        )
        process = self.start(group, script=script)
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        return process

    def output(self, group: Cgroup, script: str) -> str:
        """What a Python script prints that runs in the group."""
        process = self.start(group, script=script)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        return out

    def end(self) -> None:
        for group in self.groups:
            group.kill()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        pass  # it had not read everything
            process.wait()
        for group in self.groups:
            group.delete(5.0)
        for mount in self.layout.hierarchies().values():
            path = mount.path + self.top
            for folder, _, _ in os.walk(path, topdown=False):
                os.rmdir(folder)

    def directories(self) -> list[str]:
        """What there is of this test's in all hierarchies."""
        return [path for mount in self.layout.hierarchies().values() if os.path.isdir(path := mount.path + self.top)]


@pytest.fixture
def box() -> Iterator[Box]:
    """On the machine's own layout, which must have v1 controllers."""
    layout = detect()
    if not layout.mounts:
        pytest.skip("the machine has no cgroup v1")
    made = Box(layout)
    yield made
    made.end()


@pytest.fixture
def box2() -> Iterator[Box]:
    """On the machine's cgroup2 tree alone, as if there were nothing else; it is left passing on the controllers that it
    passed on before."""
    layout = detect()
    if layout.unified is None:
        pytest.skip("the machine has no cgroup2 tree")
    control = Path(layout.unified.path, "cgroup.subtree_control")
    before = control.read_text().split()
    made = Box(Layout("v2", {}, Mount(layout.unified.path), layout.own))
    yield made
    made.end()
    for name in control.read_text().split():
        if name not in before:
            try:
                control.write_text(f"-{name}")
            except OSError:
                pass  # somebody else uses it by now
