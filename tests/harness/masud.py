"""masud with a state of its own, as its clients meet it; Debian's containerd beside it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.engine import wait_until
from harness.programs import ROOT, peer

MASUD = str(ROOT / "masud")
_READY_S = 60
# For the configuration of either: else it depends on the moment what a collection finds that nobody refers to.
COLLECT_WHEN_ASKED = """
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "1h"
pause_threshold = 0.000001
"""


class Ctr:
    """Debian's ctr at a socket. `ctr("images", "ls")` wants success, `ctr.fails(…)` the opposite."""

    def __init__(self, socket: Path, environment: Mapping[str, str] | None = None) -> None:
        self.socket = socket
        self.environment = {**os.environ, **(environment or {})}

    def words(self, *words: str, namespace: str = "") -> list[str]:
        chosen = ["--namespace", namespace] if namespace else []
        return [peer("ctr"), "--connect-timeout", "10s", "--address", str(self.socket), *chosen, *words]

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        """One that goes on."""
        return subprocess.Popen(
            self.words(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self.environment
        )

    def __call__(self, *words: str, namespace: str = "", input: bytes | None = None) -> str:
        """Standard output of a command that succeeds."""
        done = self.try_(*words, namespace=namespace, input=input)
        assert done.returncode == 0, f"ctr {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def fails(self, *words: str, namespace: str = "", input: bytes | None = None) -> str:
        """Standard error of a command that fails."""
        done = self.try_(*words, namespace=namespace, input=input)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def try_(self, *words: str, namespace: str = "", input: bytes | None = None) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        command = self.words(*words, namespace=namespace)
        done = subprocess.run(command, capture_output=True, check=False, timeout=120, env=self.environment, **given)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


class Masud(Ctr):
    """A daemon, and ctr at its socket. `config` is the text of its config.toml; a context.

    It is up when it has told its service manager so, which is this.
    """

    def __init__(
        self, folder: Path, config: str = "version = 3\n", *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        # Where harness.engine.Masu has its own: masu and masud of one folder are one engine.
        self.root, self.state = folder / "root", folder / "run"
        super().__init__(self.state / "containerd.sock", {"MASU_REGISTRIES": "", **(environment or {})})
        self.config = folder / "config.toml"
        self.config.write_text(config)
        # What is put before its command line: nsenter(1) with its options.
        self.prefix: list[str] = []
        self.process: subprocess.Popen[bytes]

    def start(self, *options: str, inherit: int | None = None) -> None:
        """Returns when it is ready. `inherit`: a listening socket, as a service manager passes it."""
        manager = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(manager))
            words = [MASUD, "--config", str(self.config), "--root", str(self.root), "--state", str(self.state)]
            command = [*self.prefix, *words, *options]
            if inherit is not None:
                # Descriptor 3, and its reader's own pid in the environment: a shell is who execs it.
                script = f'exec 3<&{inherit}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
                command = ["bash", "-c", script, "bash", *command]
            with open(self.folder / "masud.log", "ab") as log:
                self.process = subprocess.Popen(
                    command,
                    pass_fds=() if inherit is None else (inherit,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**self.environment, "NOTIFY_SOCKET": str(manager)},
                )
            pidfd = os.pidfd_open(self.process.pid)
            poll = select.poll()
            poll.register(told, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            ready = [fd for fd, _ in poll.poll(_READY_S * 1000)]
            os.close(pidfd)
            manager.unlink()
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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()


class Containerd(Ctr):
    """Debian's containerd without CRI, to compare with; `more` goes into its config.toml. A context."""

    def __init__(self, folder: Path, more: str = "") -> None:
        super().__init__(folder / "containerd.sock")
        self.folder = folder
        self.root = folder / "root"
        self.config = folder / "config.toml"
        self.config.write_text(
            f'version = 2\nroot = "{self.root}"\nstate = "{folder}/state"\n'
            'disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self.socket}"\n{more}'
        )
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with open(self.folder / "containerd.log", "wb") as log:
            self.process = subprocess.Popen(
                [peer("containerd"), "--config", str(self.config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: self.try_("version").returncode == 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(30)
