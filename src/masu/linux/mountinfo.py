"""The mounts of a mount namespace, as /proc/PID/mountinfo lists them (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os

from masu.errors import KernelError
from masu.linux import fds

# fs.mount-max is 100,000 by default; a line is a few hundred bytes.
_LIMIT_BYTES = 64 << 20


class MountInfo:
    """One line, text unescaped.

    `id` and `parent` are mount ids, `device` is (major, minor), `root` the directory of the file system that is
    mounted, `options` those of the mount, `super_options` those of the file system. `shared` and `master` are peer
    group numbers or 0.
    """

    __slots__ = (
        "device",
        "fstype",
        "id",
        "master",
        "mount_point",
        "options",
        "parent",
        "root",
        "shared",
        "source",
        "super_options",
        "unbindable",
    )

    def __init__(self, line: str) -> None:
        left, separator, right = line.partition(" - ")
        words, kind = left.split(" "), right.split(" ")
        if not separator or len(words) < 6 or len(kind) < 3:
            raise ValueError(line)
        major, _, minor = words[2].partition(":")
        self.id = int(words[0])
        self.parent = int(words[1])
        self.device = (int(major), int(minor))
        self.root = _unescape(words[3])
        self.mount_point = _unescape(words[4])
        self.options = words[5]
        self.shared = self.master = 0
        self.unbindable = False
        for field in words[6:]:
            if field.startswith("shared:"):
                self.shared = int(field[7:])
            elif field.startswith("master:"):
                self.master = int(field[7:])
            elif field == "unbindable":
                self.unbindable = True
        self.fstype = _unescape(kind[0])
        self.source = _unescape(kind[1])
        self.super_options = _unescape(" ".join(kind[2:]))

    def __repr__(self) -> str:
        return f"MountInfo({self.id}: {self.fstype} {self.source} on {self.mount_point})"


def read(pid: int | str = "self") -> list[MountInfo]:
    """Those below the root of the process, in the kernel's order.

    Raises KernelError (no such process), ResourceExhausted beyond 64 MiB of text.
    """
    path = f"/proc/{pid}/mountinfo"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise KernelError("open", path, e.errno or 0) from e
    try:
        return parse(fds.read_all(fd, _LIMIT_BYTES, path))
    finally:
        os.close(fd)


def parse(text: bytes) -> list[MountInfo]:
    """Lines that are not a mountinfo line (a kernel newer than this page) are left out."""
    found = []
    for line in os.fsdecode(text).split("\n"):
        try:
            found.append(MountInfo(line))
        except ValueError:
            continue
    return found


def _unescape(text: str) -> str:
    # The kernel writes space, tab, newline, backslash and "#" as three octal digits (seq_path, mangle).
    if "\\" not in text:
        return text
    head, *rest = text.split("\\")
    parts = [head]
    for part in rest:
        digits = part[:3]
        if len(digits) == 3 and all(char in "01234567" for char in digits) and digits < "400":
            parts.append(chr(int(digits, 8)) + part[3:])
        else:
            parts.append("\\" + part)
    return "".join(parts)
