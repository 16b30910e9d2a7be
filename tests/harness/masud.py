"""masud with a state of its own, as its clients meet it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.programs import ROOT, peer

MASUD = str(ROOT / "masud")
_READY_S = 60


class Masud:
    """A daemon, and ctr at its socket. `config` is the text of its config.toml; a context.

    It is up when it has told its service manager so, which is this.
    """

    def __init__(
        self, folder: Path, config: str = "version = 3\n", *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.root, self.state = folder / "root", folder / "state"
        self.socket = self.state / "containerd.sock"
        self.config = folder / "config.toml"
        self.config.write_text(config)
        self.environment = {**os.environ, "MASU_REGISTRIES": "", **(environment or {})}
        self.process: subprocess.Popen[bytes]

    def start(self, *options: str) -> None:
        """Returns when it is ready."""
        manager = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(manager))
            try:
                told.settimeout(_READY_S)
                words = [MASUD, "--config", str(self.config), "--root", str(self.root), "--state", str(self.state)]
                with open(self.folder / "masud.log", "ab") as log:
                    self.process = subprocess.Popen(
                        [*words, *options],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env={**self.environment, "NOTIFY_SOCKET": str(manager)},
                    )
                pidfd = os.pidfd_open(self.process.pid)
                try:
                    self._wait_ready(told, pidfd)
                finally:
                    os.close(pidfd)
            finally:
                manager.unlink()

    def _wait_ready(self, told: socket.socket, pidfd: int) -> None:
        poll = select.poll()
        poll.register(told, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(_READY_S * 1000)]
        assert told.fileno() in ready, f"masud did not become ready:\n{self.log()}"
        assert b"READY=1" in told.recv(4096)

    def log(self) -> str:
        return (self.folder / "masud.log").read_text()

    def stop(self) -> None:
        """SIGTERM, and a clean end."""
        self.process.terminate()
        assert self.process.wait(30) == 0, self.log()
        assert not self.socket.exists()
        assert "Traceback" not in self.log(), self.log()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ctr(self, *words: str, namespace: str = "") -> list[str]:
        """The command line of Debian's ctr."""
        return [peer("ctr"), "--address", str(self.socket), *(["--namespace", namespace] if namespace else []), *words]

    def __call__(self, *words: str, namespace: str = "", input: bytes | None = None) -> str:
        """Standard output of a ctr that succeeds."""
        done = self.try_(*words, namespace=namespace, input=input)
        assert done.returncode == 0, (
            f"ctr {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        )
        return done.stdout

    def fails(self, *words: str, namespace: str = "", input: bytes | None = None) -> str:
        """Standard error of a ctr that fails."""
        done = self.try_(*words, namespace=namespace, input=input)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def try_(self, *words: str, namespace: str = "", input: bytes | None = None) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        words = tuple(self.ctr(*words, namespace=namespace))
        done = subprocess.run(words, capture_output=True, check=False, timeout=120, env=self.environment, **given)
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
