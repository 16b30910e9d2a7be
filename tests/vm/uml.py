"""The forms by User-mode Linux (package user-mode-linux): a kernel that is a program, needs no KVM and no image."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROGRAM = "linux.uml"
MEMORY_MB = 512


def command(init: Path, *arguments: str) -> list[str]:
    """The command line of a guest whose first program is `init`; its console is stdio."""
    return [
        PROGRAM, f"mem={MEMORY_MB}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
        "lpj=50000000",  # spares the calibration
        "con=null", "con0=fd:0,fd:1", "selinux=0", f"init={init}", *arguments,
    ]  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """What the kernel wants to have in its environment."""
    return {"TMPDIR": _memory_folder(folder), "LD_PRELOAD": str(_xstate(folder))}


def _memory_folder(folder: Path) -> str:
    """Where the file lives that is the guest's memory: a tmpfs, if there is room."""
    try:
        room = os.statvfs("/dev/shm")
    except OSError:
        return str(folder)
    return "/dev/shm" if room.f_bavail * room.f_frsize > 2 * MEMORY_MB << 20 else str(folder)


def _xstate(folder: Path) -> Path:
    """xstate.c as a library."""
    library = folder / "xstate.so"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = Path(__file__).with_name("xstate.c")
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", str(library), str(source)], check=True)
    return library
