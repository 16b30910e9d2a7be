"""`masu` and `masu-oci` under ill treatment: killed at a moment of the test's choice, looked after for what they left.

    with Brood() as brood:                every orphan of what the test starts falls to this process
        masu = Chaos(folder)              its containers' cgroups are below one parent of its own
        victim = masu.start(*masu.run_words("--name", "a", "host", "true"))
        kill_after(victim, 0.02)          or kill_when(victim, lambda: path.exists())
        masu.check_consistent(brood)      `ps -a`, `rm`, and then nothing is there any more
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from harness.engine import Masu, wait_until
from harness.subreaper import PR_SET_CHILD_SUBREAPER, descendants

# What must not be in words for people: Python's own way to show things.
PYTHON_WORDS = ("Traceback", "[Errno", "object at 0x", "Error(", "<class", "<masu", " b'", "None", "assert")


class Brood:
    """This process as the subreaper of what a test starts, so that nothing escapes the count."""

    def __enter__(self) -> Self:
        self._set(1)
        self._before = set(descendants(os.getpid()))
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.pids())
        self._reap()
        self._set(0)

    def keep(self, pid: int) -> None:
        """This process belongs to the test, not to what is tested."""
        self._before.add(pid)

    def pids(self) -> list[int]:
        """What is alive of it, zombies left out."""
        # /proc is read one by one: who is born while its parent dies may be missed once, but not twice.
        found = set(descendants(os.getpid())) | set(descendants(os.getpid()))
        return sorted(pid for pid in found if pid not in self._before)

    def wait_gone(self, *, keep: Iterable[int] = (), timeout_s: float = 20) -> None:
        """Returns when everything has ended by itself but for `keep`."""
        kept = set(keep)
        deadline = time.monotonic() + timeout_s
        # No second look at each: who has ended since the first may have left a child that the first could not see.
        while left := [pid for pid in self.pids() if pid not in kept]:
            shown = [f"{pid} {comm_of(pid)}" for pid in left]
            assert time.monotonic() < deadline, f"still there: {shown}"
            time.sleep(0.005)
        self._reap()

    def _reap(self) -> None:
        # orphans that came to us; the test has waited for its own children by now
        for name in os.listdir("/proc/self/task"):
            for pid in Path(f"/proc/self/task/{name}/children").read_text().split():
                try:
                    os.waitpid(int(pid), os.WNOHANG)
                except ChildProcessError:
                    pass

    @staticmethod
    def _set(on: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, on, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def comm_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Chaos(Masu):
    """A masu whose leftovers can be told from everybody else's; `prefix` goes before every command."""

    def __init__(self, folder: Path, *, prefix: Iterable[str] = ()) -> None:
        super().__init__(folder)
        self.prefix = list(prefix)
        self.cgroup = f"/masu-chaos-{os.urandom(4).hex()}"

    @property
    def command(self) -> list[str]:
        return [*self.prefix, *super().command]

    def run_words(self, *args: str) -> list[str]:
        """`run` with its cgroup below this masu's own parent."""
        return ["run", "--cgroup-parent", self.cgroup, *args]

    def run_detached(self, name: str, *args: str) -> str:
        return self(*self.run_words("-d", "--name", name, *args)).strip()

    def pids_of(self, id: str) -> tuple[int, int]:
        """(first process, monitor) of a running container."""
        lines = (self.run / "containers/default" / id / "pid").read_text().splitlines()
        return int(lines[0].split()[0]), int(lines[1].split()[0])

    def ids(self) -> list[str]:
        return self("ps", "-aq", "--no-trunc").split()

    def cgroups(self) -> list[str]:
        """Cgroups of this masu's containers that exist."""
        return [
            os.path.join(folder, name)
            for parent in cgroup_roots()
            for folder, names, _ in os.walk(parent + self.cgroup)
            for name in names
        ]

    def check_consistent(self, brood: Brood, *, keep: Iterable[int] = ()) -> None:
        """The next commands find their way, and after them nothing is there any more."""
        ids = self.ids()
        for id in ids:
            assert self.inspect(id)["Id"] == id
        # a removal of nobody sweeps as well
        self("rm", "-f", "-v", *(ids or ["nobody"]))
        assert self.ids() == []
        brood.wait_gone(keep=keep)
        self.check_nothing_left()

    def check_nothing_left(self) -> None:
        left = [*self.files(self.root / "containers/default"), *self.files(self.run / "containers/default")]
        left += self.files(self.run / "execs")
        assert not [path for path in left if path.name != "default"], left
        cgroups = self.cgroups()
        for path in reversed(cgroups):
            os.rmdir(path)  # not to be blamed on the next test
        assert cgroups == []
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.folder) in line]
        assert not [line for line in mounts if line.split()[4] != str(self.folder / "disk")], mounts

    @staticmethod
    def files(folder: Path) -> list[Path]:
        return sorted(folder.iterdir()) if folder.exists() else []

    def close(self) -> None:
        super().close()
        for parent in cgroup_roots():
            if os.path.isdir(parent + self.cgroup):
                os.rmdir(parent + self.cgroup)


def cgroup_roots() -> list[str]:
    roots = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
            roots.append(fields[4])
    return roots


def one_error(text: str, *words: str, program: str = "masu: ") -> str:
    """Checks that `text` is one error as we want them, with `words` in it; returns it."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith(program), text
    for word in PYTHON_WORDS:
        assert word not in lines[0], text
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {text}"
    return lines[0]


def wait_exit(process: subprocess.Popen[Any], timeout_s: float) -> bool:
    """Whether it ends within the time; by its pidfd, so that milliseconds count."""
    if process.returncode is not None:
        return True
    fd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(fd)


def finish(process: subprocess.Popen[Any]) -> int:
    """Waits for its end and closes its pipes."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return process.wait(60)


def children_named(process: subprocess.Popen[Any], comm: str) -> list[int]:
    """A look that is quick enough for children that do not live long."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/children")]
    except OSError:  # a thread has ended meanwhile, or all of it
        return []
    return [pid for text in lists for pid in map(int, text.split()) if comm_of(pid) == comm]


def kill_after(process: subprocess.Popen[Any], delay_s: float) -> bool:
    """SIGKILL after `delay_s` unless it has ended by then; whether it was killed."""
    ended = wait_exit(process, delay_s)
    if not ended:
        process.kill()
    finish(process)
    return not ended


def kill_when(process: subprocess.Popen[Any], test: Callable[[], object], timeout_s: float = 20) -> None:
    """SIGKILL as soon as `test()` is true; fails when the process ends before."""
    deadline = time.monotonic() + timeout_s
    while not test():
        assert process.poll() is None, f"it ended with {process.returncode} before"
        assert time.monotonic() < deadline, "it did not come so far in time"
    process.kill()
    finish(process)


class PrivateDisk:
    """A file system that only the commands see that run behind `prefix`: in a mount namespace of its own.

    `mount` is a shell command that mounts it at $1. The test sees it through `inside`.
    """

    def __init__(self, brood: Brood, place: Path, mount: str) -> None:
        place.mkdir(exist_ok=True)
        script = f"{mount} && echo ready && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        brood.keep(self._holder.pid)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self.prefix = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]
        self.inside = Path(f"/proc/{self._holder.pid}/root{place}")
        self.place = place

    def sh(self, script: str, *args: str) -> None:
        subprocess.run([*self.prefix, "sh", "-c", script, "sh", *args], check=True, timeout=60)

    def close(self) -> None:
        finish(self._holder)
