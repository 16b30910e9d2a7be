"""A test body in a forked child, with namespaces of its own: whatever it mounts or makes ends with it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

import pytest

from masu.linux import _sys, mount, namespaces

_SKIPPED = 77


def run(body: Callable[[], None], *, unshare: int = 0) -> None:
    """Run `body` in a child that has made the namespaces in `unshare`; a mount namespace is made private.

    What it raises is raised here as AssertionError with its traceback; its return value is lost.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read_end)
            if unshare:
                _sys.unshare(unshare)
            if unshare & namespaces.CLONE_NEWNS:
                mount.set_propagation("/", mount.MS_REC | mount.MS_PRIVATE)
            body()
            status = 0
        except pytest.skip.Exception as e:
            os.write(write_end, str(e).encode())
            status = _SKIPPED
        except BaseException:
            os.write(write_end, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == _SKIPPED:
        pytest.skip(said)
    if status:
        raise AssertionError(said or f"the child ended with {status}")
