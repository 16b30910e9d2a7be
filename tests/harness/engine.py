"""The `masu` command with a state of its own, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import images

from harness.programs import ROOT

# The command itself: no shell between it and the test.
MASU = str(ROOT / "src" / "masu" / "libexec" / "masu")


class Masu:
    """One state directory. `masu("ps", "-a")` runs a command and wants success; `masu.fails(…)` wants the opposite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.run = folder / "run"
        self.environment = {**os.environ, "MASU_REGISTRIES": str(folder / "registries.toml")}
        for name in ("MASU_ROOT", "MASU_RUN", "MASU_NAMESPACE"):
            self.environment.pop(name, None)
        (folder / "registries.toml").write_text("")
        self._images: set[str] = set()

    @property
    def command(self) -> list[str]:
        return [MASU, "--root", str(self.root), "--run", str(self.run)]

    def __call__(self, *args: str, input: str | bytes | None = None, timeout_s: float = 60, **options: Any) -> str:
        """Standard output of a command that succeeds."""
        done = self.try_(*args, input=input, timeout_s=timeout_s, **options)
        assert done.returncode == 0, f"masu {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def fails(self, *args: str, status: int | None = None, **options: Any) -> str:
        """Standard error of a command that fails, with `status` if given."""
        done = self.try_(*args, **options)
        assert done.returncode != 0, done.stdout
        assert status is None or done.returncode == status, f"{done.returncode}: {done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr

    def try_(
        self, *args: str, input: str | bytes | None = None, timeout_s: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        if input is None:
            options["stdin"] = subprocess.DEVNULL
        else:
            options["input"] = input.encode() if isinstance(input, str) else input
        options.setdefault("env", self.environment)
        done = subprocess.run([*self.command, *args], capture_output=True, timeout=timeout_s, check=False, **options)
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def start(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """A command that goes on; the caller waits for it."""
        options.setdefault("env", self.environment)
        for name in ("stdin", "stdout", "stderr"):
            options.setdefault(name, subprocess.PIPE)
        return subprocess.Popen([*self.command, *args], **options)

    def inspect(self, ref: str) -> dict[str, Any]:
        (found,) = json.loads(self("inspect", ref))
        assert isinstance(found, dict)
        return found

    def status(self, ref: str) -> str:
        return str(self.inspect(ref)["State"]["Status"])

    def image(self, name: str) -> str:
        """A test image, loaded once; its name here."""
        if name not in self._images:
            loaded = self("load", "-i", str(images.layout(name)))
            self("tag", loaded.rpartition(": ")[2].strip(), name)
            self._images.add(name)
        return name

    def close(self) -> None:
        """Everything goes: containers, then what this state kept."""
        ids = self("ps", "-aq", "--no-trunc").split()
        if ids:
            self("rm", "-f", "-v", *ids)
        left = [path for path in (self.run / "containers").rglob("*") if path.is_file()]
        assert not left, left


def wait_until(test: Callable[[], object], timeout_s: float = 20) -> None:
    """For what has no event to wait for; asks often and gives up loudly."""
    deadline = time.monotonic() + timeout_s
    while not test():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def cgroups_of(id: str) -> list[str]:
    """Cgroup directories that are named for a container."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
            for folder, _, _ in os.walk(fields[4]):
                if id in folder:
                    found.append(folder)
    return found
