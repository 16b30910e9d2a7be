"""Hooks that the host runs: prestart, createRuntime, poststart, poststop (config.md, "POSIX-platform Hooks").

Those of the container (createContainer, startContainer) are operations of the plan.
"""

from __future__ import annotations

import os

from masu.errors import KernelError, MasuError
from masu.linux import pidfd, spawn
from masu.runtime.failure import hook_error, signal_words
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import Hook

_MAX_OUTPUT = 4096


def run_all(hooks: tuple[Hook, ...], kind: str, state: dict[str, object]) -> None:
    """Runs them in order; the first that fails ends it. Raises Unavailable with the hook's own words."""
    for index, hook in enumerate(hooks):
        _run(hook, kind, index, state)


def run_all_warning(hooks: tuple[Hook, ...], kind: str, state: dict[str, object]) -> list[str]:
    """Runs them all, whatever happens; the failures as warnings (poststop: runtime.md, "Lifecycle")."""
    warnings = []
    for index, hook in enumerate(hooks):
        try:
            _run(hook, kind, index, state)
        except MasuError as error:
            warnings.append(str(error))
    return warnings


def _run(hook: Hook, kind: str, index: int, state: dict[str, object]) -> None:
    env = dict(item.partition("=")[::2] for item in hook.env)
    # State goes in through a memfd: a hook that does not read it cannot block us, as a full pipe could.
    stdin = os.memfd_create("state", os.MFD_CLOEXEC)
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    try:
        os.write(stdin, jsontext.dumps(state).encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        try:
            pid = spawn.spawn(hook.path, list(hook.args) or [hook.path], env, stdio=(stdin, output, output))
        except KernelError as error:
            raise hook_error(kind, index, hook.path, error.errno) from error
        status = _wait(pid, hook.timeout)
        if status is None:
            raise hook_error(kind, index, hook.path, detail=f"not done after {hook.timeout} seconds; killed")
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            end = f"exit status {code}" if code >= 0 else f"signal {-code} ({signal_words(-code)})"
            said = os.pread(output, _MAX_OUTPUT, 0).decode("utf-8", "replace").strip()
            raise hook_error(kind, index, hook.path, detail=f"{end}, output: {said!r}" if said else end)
    finally:
        os.close(stdin)
        os.close(output)


def _wait(pid: int, timeout_s: int | None) -> int | None:
    fd = pidfd.open(pid)
    try:
        if not pidfd.wait_exited(fd, None if timeout_s is None else float(timeout_s)):
            pidfd.send_signal(fd, 9)
            os.waitpid(pid, 0)
            return None
    finally:
        os.close(fd)
    return os.waitpid(pid, 0)[1]
