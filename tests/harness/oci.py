"""OCI runtimes as the tests use them: one bundle, one command line, several runtimes.

The same test runs on masu-oci and on the peers that are installed; where they disagree, we are probably wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.programs import MASU_OCI, peer

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def base_config() -> dict[str, Any]:
    """A small container: new namespaces, the usual mounts, no limits, an empty seccomp section."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/probe", "exit", "0"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


class Runtime:
    """One runtime with a --root of its own below `folder`; `close` ends what the test left."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.root = folder / "root"
        if name == "masu-oci":
            self.command = [MASU_OCI, "--root", str(self.root)]
        elif name == "crun":
            # crun refuses cgroups in hybrid mode altogether.
            self.command = [peer("crun"), "--cgroup-manager=disabled", "--root", str(self.root)]
        else:
            self.command = [peer(name), "--root", str(self.root)]
        self.ids: list[str] = []

    def bundle(self, rootfs: Path, change: Callable[[dict[str, Any]], object] | None = None) -> Path:
        """A new bundle directory over `rootfs` (by its absolute path, not copied)."""
        folder = self.folder / f"bundle-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        config = base_config()
        config["root"]["path"] = str(rootfs)
        if change is not None:
            change(config)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def id(self) -> str:
        name = f"masu-test-{uuid.uuid4().hex[:10]}"
        self.ids.append(name)
        return name

    def __call__(self, *args: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.call([*self.command, *args], check=check, **options)

    def call(self, command: list[str], *, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("timeout", 60)
        # Files, not pipes: a container that lives on keeps its stdout, and a pipe would never end.
        # New ones each time: a container that lives on may still write to those of its birth.
        for name in ("out", "err"):
            (self.folder / name).unlink(missing_ok=True)
        with (self.folder / "out").open("w+b") as out, (self.folder / "err").open("w+b") as err:
            options.setdefault("stdout", out)
            options.setdefault("stderr", err)
            done = subprocess.run(command, check=False, **options)
            out.seek(0)
            err.seek(0)
            result = subprocess.CompletedProcess(
                done.args, done.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace")
            )
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(result.args)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def run(
        self, rootfs: Path, *args: str, change: Callable[[dict[str, Any]], object] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs the probe with `args` in the foreground and returns what it said."""

        def with_args(config: dict[str, Any]) -> None:
            config["process"]["args"] = ["/bin/probe", *args]
            if change is not None:
                change(config)

        return self("run", "--bundle", str(self.bundle(rootfs, with_args)), self.id(), check=check)

    def state(self, id: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self("state", id).stdout)
        return state

    def close(self) -> None:
        for name in self.ids:
            self("delete", "--force", name, check=False)


def wait_exited(pid: int, timeout_s: float = 20) -> None:
    """Waits for the end of any process by its pidfd."""
    import select

    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(timeout_s * 1000), f"process {pid} still runs"
    finally:
        os.close(fd)
