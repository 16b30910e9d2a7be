"""Where a caller of the runtime lives: away from the machine's own mounts, network, /run and cgroups."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from harness.engine import cgroups_of, wait_until
from harness.programs import peer

# A daemon keeps more on a machine than it can be told to put elsewhere: sockets of shims, keys, addresses given out.
# The empty directories hide the machine's own where there are such.
HIDDEN = ("/run", "/etc/docker", "/etc/containers/networks", "/etc/cni/net.d", "/var/lib/cni")
# Where the machine lacks a hierarchy, podman makes directories in its stead in the tmpfs above them all. Here that
# one is read-only, as it is on a machine with systemd.
SCRIPT = """
for place do if [ -d "$place" ]; then mount -t tmpfs -o mode=755 masu-test "$place" || exit; fi; done
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then mount -o remount,bind,ro /sys/fs/cgroup || exit; fi
if [ "$keep" ]; then
  # All of /run is hidden but what systemd and the bus have there, and the tests of a guest (tests/vm).
  for name in systemd dbus guest; do
    if [ -d "/run/$name" ]; then mkdir -p "/var/tmp/$name" && mount --rbind "/run/$name" "/var/tmp/$name" || exit; fi
  done
  mount --rbind /var/tmp /run || exit
fi
ip link set lo up && echo ready && exec cat
"""


class Premises:
    """A mount namespace (with /run of its own), a network namespace with loopback only, a cgroup parent, a folder.

    The namespaces live as long as their holder and whatever runs in them; `close` ends all of it, also what a failed
    test left paused or without its daemon.

    With `systemd` the cgroup is a slice, and systemd and the bus are to be spoken to: for a guest (tests/vm), whose
    kernel knows neither overlays nor bridges.
    """

    def __init__(self, folder: Path, *, systemd: bool = False) -> None:
        self.folder = folder
        self.systemd = systemd
        # Dashes would be slices within slices.
        self.cgroup = f"masucaller{os.urandom(4).hex()}.slice" if systemd else f"masu-caller-{os.urandom(4).hex()}"
        hidden = ["/var/tmp" if systemd and place == "/run" else place for place in HIDDEN]
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self._holder = subprocess.Popen(
            [peer("unshare"), "--mount", "--net", "--propagation", "private", "sh", "-c", SCRIPT, "sh", *hidden],
            env=os.environ | {"keep": "systemd" if systemd else ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        kinds = ("mnt", "net")
        self._namespaces = {kind: os.readlink(f"/proc/{self._holder.pid}/ns/{kind}") for kind in kinds}
        self.prefix = [peer("nsenter"), f"--target={self._holder.pid}", "--mount", "--net", "--"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        words: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float = 60,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """A command in here. Its output goes through files, for what it leaves behind may hold a pipe open."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        # New ones each time: what the last one left behind may still write to its own.
        for name in ("out", "err"):
            (self.folder / name).unlink(missing_ok=True)
        with (self.folder / "out").open("w+b") as out, (self.folder / "err").open("w+b") as err:
            options |= {"env": self.environment | dict(env or {}), "stdout": out, "stderr": err, "timeout": timeout_s}
            status = subprocess.run([*self.prefix, *words], check=False, **options).returncode
            out.seek(0)
            err.seek(0)
            said, complained = (stream.read().decode(errors="replace") for stream in (out, err))
        done = subprocess.CompletedProcess([str(word) for word in words], status, said, complained)
        assert not check or status == 0, f"{' '.join(done.args)}: exit {status}\n{said}{complained}"
        return done

    @contextmanager
    def daemon(
        self, words: Sequence[str | Path], ready: Sequence[str | Path], *, env: Mapping[str, str] | None = None
    ) -> Iterator[int]:
        """A daemon until the block ends, up when the command `ready` works; its pid."""
        name = Path(words[0]).name
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.prefix, *words],
                env=self.environment | dict(env or {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while self.run(ready, env=env, check=False).returncode:
                assert process.poll() is None, f"{name} ended:\n{self.log(name)}"
                assert time.monotonic() < deadline, f"{name} does not come up:\n{self.log(name)}"
                time.sleep(0.05)  # it has no other way to say that it serves
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str, *, lines: int = 30) -> str:
        """The end of what a daemon said."""
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def path(self, inside: str) -> Path:
        """A file as it is seen in here: /run is not the machine's."""
        return Path(f"/proc/{self._holder.pid}/root{inside}")

    def pids(self) -> list[int]:
        """Everything that lives in the namespaces or below the cgroup parent, but for the holder."""
        found = set()
        for folder in cgroups_of(self.cgroup):
            try:
                found |= {int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()}
            except OSError:  # it has gone meanwhile
                pass
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    here = {kind: os.readlink(f"/proc/{name}/ns/{kind}") for kind in self._namespaces}
                    state = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if state not in "ZX" and here.items() & self._namespaces.items():
                    found.add(int(name))
        return sorted(found - {self._holder.pid})

    def close(self) -> None:
        for folder in cgroups_of(self.cgroup):
            frozen = Path(folder, "freezer.state")
            if frozen.exists():
                frozen.write_text("THAWED")
        wait_until(self._ended)
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        if self.systemd:
            subprocess.run(["systemctl", "stop", self.cgroup], check=True, timeout=60)
        for folder in sorted(cgroups_of(self.cgroup), reverse=True):
            os.rmdir(folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ended(self) -> bool:
        left = self.pids()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return not left
