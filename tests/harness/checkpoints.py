"""A container to be checkpointed: a counter that answers through pipes, whose memory can be told from a new one."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.engine import wait_until
from harness.oci import Runtime

# Counts the lines that it has read: what it says next tells whether its memory is its own.
COUNTER = "n=0; while read line; do n=$((n + 1)); echo $n $line; done; exit 7"


# Counts on, and says who it is by what no other run of it would have in its memory. (A sleep that is written down ends
# when it is restored.)
RUNNER = "read id < /proc/sys/kernel/random/uuid; n=0; while :; do n=$((n + 1)); echo $id $n > /n; sleep 0.05; done"


def kept_and_restored(
    call: Callable[..., str], run: list[str], ref: str, *exec: str, between: Callable[[], object] = lambda: None
) -> None:
    """By a ctr: the container `first`, which `run` makes and RUNNER runs in, goes on as `second`; `call` runs ctr,
    with the options `exec` where it looks inside. `between` is called when it goes on."""

    def look(id: str) -> tuple[str, int]:
        said = call("tasks", "exec", *exec, "--exec-id", "look", id, "cat", "/n").split()
        return (said[0], int(said[1])) if len(said) == 2 else ("", 0)

    call(*run)
    try:
        wait_until(lambda: look("first")[1] > 2)
        call("containers", "checkpoint", "--rw", "--image", "--task", "first", ref)
        begun = look("first")
    finally:
        call("tasks", "rm", "-f", "first")
        call("containers", "rm", "first")
    try:
        call("containers", "restore", "--rw", "--live", "second", ref)
        wait_until(lambda: look("second")[1] > begun[1])
        assert look("second")[0] == begun[0]
        between()
        begun = look("second")
        wait_until(lambda: look("second")[1] > begun[1])
    finally:
        call("tasks", "rm", "-f", "second")
        call("containers", "rm", "second")
        call("images", "rm", ref)


class Talk:
    """Three pipes: what a container has as stdin, stdout and stderr, and our ends of them."""

    def __init__(self) -> None:
        self.stdin, self.to = os.pipe()
        self.answers, self.stdout = os.pipe()
        self.errors, self.stderr = os.pipe()

    def stdio(self) -> dict[str, Any]:
        return {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr}

    def given_away(self) -> None:
        """The container has its ends; ours of the same are closed, so that an end can be seen."""
        for name in ("stdin", "stdout", "stderr"):
            os.close(getattr(self, name))
            setattr(self, name, -1)

    def say(self, line: str) -> str:
        """The answer to a line."""
        os.write(self.to, f"{line}\n".encode())
        return self.read()

    def read(self) -> str:
        poll = select.poll()
        poll.register(self.answers, select.POLLIN)
        assert poll.poll(20_000), "no answer"
        return os.read(self.answers, 4096).decode().strip()

    def said_wrong(self) -> str:
        os.set_blocking(self.errors, False)
        try:
            return os.read(self.errors, 65536).decode()
        except BlockingIOError:
            return ""

    def hang_up(self) -> None:
        os.close(self.to)
        self.to = -1

    def close(self) -> None:
        for fd in (self.stdin, self.to, self.answers, self.stdout, self.errors, self.stderr):
            if fd >= 0:
                os.close(fd)


class Box:
    """A counting container of one runtime, its bundle, and where its checkpoint goes."""

    def __init__(
        self, runtime: Runtime, rootfs: Path, change: Callable[[dict[str, Any]], object] | None = None
    ) -> None:
        def counting(config: dict[str, Any]) -> None:
            config["process"]["args"] = ["/bin/sh", "-c", COUNTER]
            if change is not None:
                change(config)

        self.runtime = runtime
        self.bundle = str(runtime.bundle(rootfs, counting))
        self.id = runtime.id()
        self.images = runtime.folder / "images"
        self.work = runtime.folder / "work"

    def run(self, talk: Talk) -> None:
        self._with(talk, "run", "-d")

    def checkpoint(self, *flags: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        places = ("--image-path", str(self.images), "--work-path", str(self.work))
        return self.runtime("checkpoint", *places, *flags, self.id, check=check)

    def restore(self, talk: Talk, *flags: str) -> None:
        self._with(talk, *self.restoring(), *flags)

    def restoring(self) -> list[str]:
        return ["restore", "-d", "--image-path", str(self.images), "--work-path", str(self.work)]

    def refused(self, *flags: str) -> str:
        """A restore that has to fail; what it says."""
        done = self.runtime(*self.restoring(), "--bundle", self.bundle, *flags, self.id, check=False)
        assert done.returncode == 1
        assert not self.runtime.root.exists() or self.runtime("list", "-q").stdout == ""
        return done.stderr

    def _with(self, talk: Talk, *words: str) -> None:
        done = self.runtime(*words, "--bundle", self.bundle, self.id, check=False, **talk.stdio())
        assert done.returncode == 0, talk.said_wrong()
        talk.given_away()

    @property
    def pid(self) -> int:
        return int(self.runtime.state(self.id)["pid"])

    def cgroups(self) -> list[Path]:
        return below_cgroups(self.id)


def below_cgroups(path: str) -> list[Path]:
    """What has this path in the cgroup tree, or in those of v1."""
    top = Path("/sys/fs/cgroup")
    return [found for pattern in (path, f"*/{path}") for found in top.glob(pattern)]


def dumped(box: Box, talk: Talk) -> None:
    box.run(talk)
    assert talk.say("one") == "1 one"
    box.checkpoint()


def mounted(folder: Path) -> list[str]:
    """What is mounted below a folder of the host."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{folder}/")]


def full(config: dict[str, Any]) -> None:
    """Much of what a container can have."""
    config["root"]["readonly"] = True
    config["mounts"] += [
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        {"destination": "/home", "type": "bind", "source": "/usr/share", "options": ["rbind", "ro"]},
        {"destination": "/dev/file", "type": "bind", "source": "/etc/os-release", "options": ["bind"]},
    ]
    config["linux"]["maskedPaths"] += ["/proc/acpi", "/proc/timer_list", "/sys/firmware"]
    config["linux"]["readonlyPaths"] += ["/proc/bus", "/proc/irq"]
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["syslog"], "action": "SCMP_ACT_ERRNO"}],
    }


@contextlib.contextmanager
def running(command: list[str], *fds: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program beside the test, which does not outlive it."""
    process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def served_later(box: Box) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A checkpoint with --lazy-pages that has come as far as it goes alone: (port of its page server, the process)."""
    port = free_port()
    ready, status = os.pipe()
    places = ["--image-path", str(box.images), "--work-path", str(box.work)]
    flags = ["--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", str(status)]
    command = [*box.runtime.command, "checkpoint", *places, *flags, box.id]
    with os.fdopen(ready, "rb") as told, running(command, status) as it:
        os.close(status)
        assert told.read() == b"\0"
        yield port, it
