"""What attacks are staged with: a place on the host to reach, an accomplice that swaps names, long-lived victims."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import programs
from harness.oci import Runtime

Config = dict[str, Any]
Change = Callable[[Config], object]

UP = "../" * 24  # from anywhere to the top


def attacker() -> Path:
    return programs.compile_static(Path(__file__).parent / "attacker.c")


class Outside:
    """A small tree on the host; `check` fails when anything in it has changed: names, content, owners, modes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        (path / "folder").mkdir()
        (path / "file").write_text("the host's\n")
        (path / "file").chmod(0o640)
        (path / "empty").write_text("")
        self.before = self._state()

    def add(self, program: Path) -> Path:
        """A copy of a program in it."""
        path = self.path / program.name
        shutil.copy(program, path)
        self.before = self._state()
        return path

    def _state(self) -> dict[str, tuple[object, ...]]:
        state: dict[str, tuple[object, ...]] = {}
        for found in (self.path, *sorted(self.path.rglob("*"))):
            about = found.lstat()
            content = found.read_bytes() if found.is_file() else b""
            state[str(found)] = (about.st_mode, about.st_uid, about.st_gid, about.st_rdev, about.st_ctime_ns, content)
        return state

    def check(self) -> None:
        assert self._state() == self.before
        mounted = Path("/proc/self/mountinfo").read_text()
        assert str(self.path) not in mounted


def probe(config: Config, *args: str) -> None:
    config["process"]["args"] = ["/bin/probe", *args]


def mount(destination: str, kind: str, source: str = "", *options: str) -> Config:
    return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}


def bind(source: Path, destination: str, *options: str) -> Config:
    return mount(destination, "bind", str(source), "bind", *options)


def without_dev(config: Config) -> None:
    """The image's own /dev: no file system of ours over it, but for a devpts where a terminal is wanted."""
    config["mounts"] = [item for item in config["mounts"] if item["destination"] not in ("/dev", "/dev/shm")]


def mount_points(mountinfo: str) -> dict[str, str]:
    """{mount point: type of file system} of the text of /proc/PID/mountinfo, the topmost mount of each."""
    found = {}
    for line in mountinfo.splitlines():
        fields = line.split()
        if "-" in fields:
            found[fields[4]] = fields[fields.index("-") + 1]
    return found


@contextmanager
def swapping(first: Path, second: Path, *, least: int = 100) -> Iterator[None]:
    """Exchanges two names all the time, from another process; checks that it really did, more often than `least`."""
    with subprocess.Popen([attacker(), "swap", first, second], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.terminate()
            swaps = process.stdout.read()
    assert int(swaps) > least


def drive(once: Callable[[], str], wanted: set[str], *, least_s: float = 1.0, most_s: float = 60.0) -> None:
    """Repeats `once` for `least_s`, and until it has answered each of `wanted`; any other answer is a failure.

    A race in which only one side ever showed was not driven: then this fails, too.
    """
    seen: set[str] = set()
    begin = time.monotonic()
    while time.monotonic() - begin < least_s or seen != wanted:
        answer = once()
        assert answer in wanted, answer
        seen.add(answer)
        assert time.monotonic() - begin < most_s, f"only {seen} was ever seen"


class Victim:
    """A container that runs in the background, its output in a pipe."""

    def __init__(self, runtime: Runtime, rootfs: Path, *args: str, change: Change | None = None) -> None:
        def with_args(config: Config) -> None:
            config["process"]["args"] = list(args) or ["/bin/probe", "sleep"]
            if change is not None:
                change(config)

        self.runtime = runtime
        self.id = runtime.id()
        self._out, inner = os.pipe()
        try:
            runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, with_args)), self.id, stdout=inner)
        finally:
            os.close(inner)
        self.pid: int = runtime.state(self.id)["pid"]
        self._text = b""

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *exc: object) -> None:
        self.runtime("delete", "--force", self.id)
        os.close(self._out)

    def read_line(self, timeout_s: float = 20) -> str:
        """The next line; "" at the end of the output."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        while b"\n" not in self._text:
            assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), f"nothing more than {self._text!r}"
            chunk = os.read(self._out, 65536)
            if not chunk:
                break
            self._text += chunk
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def has_more(self) -> bool:
        """Whether there is output to read without waiting."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        return b"\n" in self._text or bool(poll.poll(0))

    def wait_for(self, line: str) -> list[str]:
        """Reads until `line`; the lines before it."""
        lines: list[str] = []
        while (text := self.read_line()) != line:
            assert text, f"the output ended without {line!r}: {lines}"
            lines.append(text)
        return lines

    def exec(
        self, *args: str, options: tuple[str, ...] = (), check: bool = True, **process: Any
    ) -> subprocess.CompletedProcess[str]:
        return self.runtime("exec", *options, self.id, *args, check=check, **process)

    def finish(self) -> list[str]:
        """SIGTERM, and what it still said."""
        os.kill(self.pid, signal.SIGTERM)
        lines = []
        while line := self.read_line():
            lines.append(line)
        return lines


@contextmanager
def console_socket(path: Path) -> Iterator[str]:
    """A console socket that takes what comes; terminals sent to it are closed with it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        yield str(path)
    path.unlink()
