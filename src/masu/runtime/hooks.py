"""Hooks that the host runs: prestart, createRuntime, poststart, poststop (config.md, "POSIX-platform Hooks").

Those of the container (createContainer, startContainer) are operations of the plan.
"""

from __future__ import annotations

import os

from masu.errors import KernelError, MasuError
from masu.linux import pidfd, spawn
from masu.runtime.failure import hook_error, signal_words
from masu.spec import jsontext
from masu.spec import runtime as spec
from masu.spec.hooks import Hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.extras import Extras
    from masu.spec.hooks import Hook
    from masu.spec.runtime import Config

_MAX_OUTPUT = 4096


def run_all(config: Config, kind: str, state: dict[str, object]) -> None:
    """Runs the hooks of a kind ("createRuntime") in order; the first that fails ends it. Raises Unavailable with the
    hook's own words."""
    if hooks := _hooks(config, kind):
        extras = spec.extras_of(config)
        for index, hook in enumerate(hooks):
            _run(hook, kind, index, state, extras)


def run_creating(config: Config, state: dict[str, object]) -> None:
    """Those of the moment when the namespaces are there and the root has not been entered. prestart first: it is the
    older of its two names (config.md, "Prestart")."""
    run_all(config, "prestart", state)
    run_all(config, "createRuntime", state)


def run_all_warning(config: Config, kind: str, state: dict[str, object]) -> list[str]:
    """Runs them all, whatever happens; the failures as warnings (poststop: runtime.md, "Lifecycle")."""
    return [str(error) for error in _run_each(config, kind, state)]


def run_undoing(config: Config, state: dict[str, object]) -> None:
    """The poststop hooks of a container that could not be made: those of its creation have run, and what they did is
    to be undone (runtime.md, "Lifecycle": after a failure of theirs it goes on with the deletion). Raises the first
    failure, with the others, when all have run."""
    errors = _run_each(config, "poststop", state)
    if errors:
        errors[0].cleanup += errors[1:]
        raise errors[0]


def _run_each(config: Config, kind: str, state: dict[str, object]) -> list[MasuError]:
    errors: list[MasuError] = []
    hooks = _hooks(config, kind)
    if not hooks:
        return errors
    extras = spec.extras_of(config)
    for index, hook in enumerate(hooks):
        try:
            _run(hook, kind, index, state, extras)
        except MasuError as error:
            errors.append(error)
    return errors


def _hooks(config: Config, kind: str) -> tuple[Hook, ...]:
    found: tuple[Hook, ...] = getattr(config.hooks, Hooks.FIELDS[kind][0], ())
    return found


def open_output(path: str, where: str) -> int:
    """A file that hooks append to, made when missing. Raises KernelError."""
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    except OSError as error:
        raise KernelError("open", path, error.errno or 0, where=where) from error


def _run(hook: Hook, kind: str, index: int, state: dict[str, object], extras: Extras) -> None:
    # Without a word about it our own, as with runc and crun; never the container's (CVE-2025-23266).
    env = os.environ if hook.env is None else dict(item.partition("=")[::2] for item in hook.env)
    # State goes in through a memfd: a hook that does not read it cannot block us, as a full pipe could.
    stdin = os.memfd_create("state", os.MFD_CLOEXEC)
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    streams = [output, output]
    try:
        for number, path in enumerate((extras.hooks_stdout, extras.hooks_stderr)):
            if path:
                streams[number] = open_output(path, f"hooks.{kind}[{index}]")
        os.write(stdin, jsontext.dumps(state).encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        try:
            stdio = stdin, streams[0], streams[1]
            pid = spawn.spawn(hook.path, list(hook.args) or [hook.path], env, stdio=stdio, cwd=_directory(state))
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
        for fd in {stdin, output, *streams}:
            os.close(fd)


def _directory(state: dict[str, object]) -> str | None:
    """Where hooks begin: in the bundle, as crun's do, and of runc's create and run. It may be gone by poststop."""
    bundle = str(state["bundle"])
    return bundle if os.path.isdir(bundle) else None


def _wait(pid: int, timeout_s: int | None) -> int | None:
    fd = pidfd.open(pid)
    try:
        if not pidfd.wait_exited(fd, None if timeout_s is None else float(timeout_s)):
            pidfd.send_signal(fd, 9)
            spawn.wait(pid)
            return None
    finally:
        os.close(fd)
    return spawn.wait(pid)[1]
