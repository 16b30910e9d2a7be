"""Giving a cgroup of v2 to a user, who may then make cgroups below it and move processes among them.

The limits stay what they are: those files belong to whoever is above (cgroups(7), "Cgroups delegation").
"""

from __future__ import annotations

import os

from masu.errors import KernelError
from masu.linux.cgroups.files import open_directory, read

# When the kernel does not say (before 4.15, or without sysfs).
_FILES = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n"


def delegate(path: str, uid: int) -> None:
    """The directory and, of its files, those that the kernel lists for it become `uid`'s. Raises KernelError."""
    try:
        names = read(None, "/sys/kernel/cgroup/delegate")
    except OSError:
        names = _FILES
    try:
        directory = open_directory(path)
        try:
            for name in (".", *names.split()):
                try:
                    os.chown(name, uid, -1, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError:
                    pass  # of a controller that is not there
        finally:
            os.close(directory)
    except OSError as error:
        raise KernelError("chown", path, error.errno or 0, where="linux.cgroupsPath") from error
