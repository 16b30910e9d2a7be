"""An installation of masu of its own, so that its brain is nobody else's; and both sides of the protocol, by hand.

    masu = Installation(tmp_path / "masu")
    masu("masu-oci", "--version")              by its brain (MASU_BRAIN=require); brain="off" and "auto" otherwise
    masu.keeper()                              pid of the brain that is there, 0 without one
    masu.close()                               ends it
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from array import array
from pathlib import Path
from typing import Any, Self

from harness import programs
from harness.keepers import end, keepers_of, kill
from masu.cli.brain.listener import sweep
from masu.linux import front as protocol


class Installation:
    """A copy of the package below `folder`; `run` is where it keeps containers, `root` images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "masu"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(programs.ROOT / "src" / "masu", self.package, ignore=ignored)
        self.environment = {**os.environ, "MASU_ROOT": str(folder / "root"), "MASU_RUN": str(folder / "run")}

    def front(self, program: str) -> str:
        return str(self.package / "libexec" / program)

    def environ(self, brain: str) -> dict[str, str]:
        return {**self.environment, "MASU_BRAIN": brain}

    def try_(
        self, program: str, *args: str, brain: str = "require", timeout_s: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("env", self.environ(brain))
        command = [*options.pop("prefix", ()), self.front(program), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, **options)

    def __call__(self, program: str, *args: str, **options: Any) -> str:
        done = self.try_(program, *args, **options)
        assert done.returncode == 0, f"{program} {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, program: str, *args: str, brain: str = "require", **options: Any) -> subprocess.Popen[bytes]:
        for name in ("stdin", "stdout", "stderr"):
            options.setdefault(name, subprocess.PIPE)
        return subprocess.Popen([self.front(program), *args], env=self.environ(brain), **options)

    def keepers(self) -> list[int]:
        """Pids of the brains of this installation, whatever namespaces they are for."""
        return keepers_of(self.package)

    def keeper(self) -> int:
        pids = self.keepers()
        assert len(pids) < 2, pids
        return pids[0] if pids else 0

    def warm(self) -> int:
        """The brain's pid, once there is one."""
        self("masu", "--version")
        return self.keeper()

    def socket_path(self) -> str:
        return Path("/proc", str(self.warm()), "cmdline").read_bytes().split(b"\0")[-2].decode()

    def stop(self) -> None:
        """Asks it to leave, as init would; waits until it has gone."""
        end(self.package)

    def close(self) -> None:
        kill(self.package)
        sweep("/run/masu/brain")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Peer:
    """One end of a connection between a front and a brain."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(20)

    @classmethod
    def connect(cls, path: str) -> Self:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(path)
        return cls(sock)

    def say(self, kind: int, a: int = 0, b: int = 0, c: int = 0, rest: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        head = struct.pack("<Iiii", kind, a, b, c)
        self.sock.sendmsg([head + rest], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else [])

    def hear(self) -> tuple[int, int, int, int, bytes, list[int]]:
        """(type, three numbers, what follows, fds); type 0 at the end."""
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, protocol.MESSAGE_LIMIT, protocol.FDS_LIMIT)
        except ConnectionResetError:
            return 0, 0, 0, 0, b"", []
        if not data:
            return 0, 0, 0, 0, b"", []
        kind, a, b, c = struct.unpack_from("<Iiii", data)
        return kind, a, b, c, data[16:], fds

    def hello(self) -> bytes:
        """The brain's first word; the secret that it points at, b"" when it takes no call now."""
        kind, version, busy, where, _, _ = self.hear()
        assert (kind, version) == (protocol.SAY_HELLO, protocol.PROTOCOL_VERSION)
        if busy:
            return b""
        keeper = struct.unpack("=iII", self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        with open(f"/proc/{keeper}/fd/{where}", "rb") as file:
            return file.read()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def call_message(
    secret: bytes, argv: list[bytes], env: list[bytes], *, numbers: tuple[int, ...] = ()
) -> tuple[int, int, bytes, bytes]:
    """The parts of an ASK_CALL for `masu`: two of its numbers, what follows, and what its file of strings holds."""
    rest = secret + struct.pack("<qI", 0, len(numbers)) + struct.pack(f"<{len(numbers)}I", *numbers)
    return len(argv), len(env), rest, b"".join(text + b"\0" for text in (*argv, *env))
