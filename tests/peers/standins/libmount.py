"""What crun's test_mounts.py asks of util-linux' Python binding, which Debian does not package.

Without it the file says "1..0" and counts as passed. The lines are those of proc_pid_mountinfo(5).
"""

from __future__ import annotations

from pathlib import Path


class Mount:
    def __init__(self, line: str) -> None:
        fields = line.split()
        after = fields.index("-") + 1
        self.target = fields[4].encode().decode("unicode_escape")
        self.vfs_options = fields[5]
        self.fs_options = fields[after + 2]


class Table:
    def __init__(self, path: str) -> None:
        self._mounts = [Mount(line) for line in Path(path).read_text().splitlines()]

    def find_target(self, target: str) -> Mount | None:
        """The one on top."""
        return next((mount for mount in reversed(self._mounts) if mount.target == target), None)
