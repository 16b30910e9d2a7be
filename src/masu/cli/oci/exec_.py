"""masu-oci exec"""

from __future__ import annotations

import os
from errno import ENOENT

from masu.cli.oci import log_of, place, root_of
from masu.cli.oci.create_ import (
    CONSOLE_SOCKET,
    PRESERVE_FDS,
    connect_console,
    new_console,
    passed_fds,
    plan_teller,
    seccomp_cache,
)
from masu.cli.oci.foreground import wait
from masu.cli.options import Call, Command, Flag
from masu.cli.signals import Signals
from masu.errors import FailedPrecondition, InvalidArgument, KernelError, MasuError
from masu.linux import fds, process
from masu.runtime.container import Container
from masu.runtime.execute import ExecOptions, completed, execute
from masu.spec import jsontext
from masu.spec import runtime as spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.spec.runtime import Process

# What runc answers when the exec itself fails, so that it differs from what a program may answer (255).
_EXEC_FAILED = 255


def run(call: Call) -> int:
    log = log_of(call)
    try:
        return _run(call)
    except MasuError as error:
        place(error, call)
        log.error(f"exec failed: {error}", error)
        return _EXEC_FAILED


def _run(call: Call) -> int:
    passed = passed_fds(call, first_process=False)
    options, log = call.options, log_of(call)
    container = Container.open(root_of(call), call.args[0])
    wanted = process_of(call, container)
    if passed.env:
        wanted = wanted.replace(env=(*wanted.env, *passed.env))
    detached = options.on("detach")
    console = connect_console(call, wanted.terminal, detached=detached)
    ours = new_console() if wanted.terminal and not detached else None
    if ours is not None:
        console = ours.theirs
    signals = None if detached else Signals()
    if not detached and not options.on("no-subreaper"):
        process.become_subreaper()
    warnings: list[str] = []
    launched = execute(
        container,
        wanted,
        ExecOptions(
            cgroups=tuple(options.all("cgroup")),
            console_fd=console,
            on_plan=plan_teller(call),
            on_step=log.debug,
            on_ready=(lambda _: ours.prepare()) if ours is not None else None,
            ignore_paused=options.on("ignore-paused"),
            pid_file=options.text("pid-file"),
            pidfd_socket=options.text("pidfd-socket"),
            preserve_fds=passed.count,
            seccomp_cache=seccomp_cache(root_of(call)),
        ),
        warnings,
    )
    if console is not None:
        os.close(console)
    for warning in warnings:
        log.warning(warning)
    if signals is None:
        launched.close()
        return 0
    return wait(launched, signals, ours)


def process_of(call: Call, container: Container) -> Process:
    """--process FILE, or the container's own process with the words of the command line in their places."""
    options = call.options
    if path := options.maybe("process"):
        try:
            data = jsontext.loads(fds.read_bounded(path, 1 << 20), name=path)
        except FileNotFoundError:
            raise KernelError("open", path, ENOENT, where="--process") from None
        return completed(spec.parse_process(data, "process"), container)
    words = list(call.args[1:])
    if words[:1] == ["--"]:  # runc takes it for the end of the flags, there too
        del words[0]
    if not words:
        raise InvalidArgument("command", detail="process args cannot be empty", hint="masu-oci exec ID COMMAND")
    config = container.config()
    if config.process is None:
        raise FailedPrecondition("container", container.id, detail="its config.json has no process to take after")
    base = config.process.to_json()
    base["args"] = words
    base["terminal"] = options.on("tty")
    if cwd := options.maybe("cwd"):
        base["cwd"] = cwd
    base["env"] = [*config.process.env, *options.all("env")]
    if options.given("no-new-privs"):
        base["noNewPrivileges"] = options.on("no-new-privs")
    if label := options.maybe("process-label"):
        base["selinuxLabel"] = label
    if profile := options.maybe("apparmor"):
        base["apparmorProfile"] = profile
    _change_user(base, options.maybe("user"), options.all("additional-gids"))
    _add_capabilities(base, options.all("cap"))
    return spec.parse_process(base, "process")


def _change_user(base: dict[str, object], user: str | None, groups: list[str]) -> None:
    current = base.get("user")
    assert isinstance(current, dict)
    if user is not None:
        uid, colon, gid = user.partition(":")
        # Fail closed: a word that is no number must never come out as 0 (CVE-2026-30892).
        current["uid"] = _id(uid, "--user")
        if colon:
            current["gid"] = _id(gid, "--user")
    if groups:
        current["additionalGids"] = [
            *current.get("additionalGids", []),
            *(_id(gid, "--additional-gids") for gid in groups),
        ]


def _id(text: str, where: str) -> int:
    # Ten digits at most: int() refuses thousands of them with an error of its own.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10) or int(text) > 0xFFFFFFFE:
        raise InvalidArgument("id", text or '""', where=where, detail="a number from 0 to 4294967294 is wanted")
    return int(text)


def _add_capabilities(base: dict[str, object], names: list[str]) -> None:
    if not names:
        return
    sets = base.setdefault("capabilities", {})
    assert isinstance(sets, dict)
    # As runc: not the inheritable set (CVE-2022-29162), and the ambient one only where there is an inheritable set,
    # without which nothing of it could be raised.
    for name in ("bounding", "effective", "permitted", *(("ambient",) if sets.get("inheritable") else ())):
        sets[name] = [*sets.get(name, []), *(item for item in names if item not in sets.get(name, []))]


COMMAND = Command(
    "exec",
    "[command options] <container-id> <command> [command options]  || -p process.json <container-id>",
    "execute new process inside the container",
    flags=(
        CONSOLE_SOCKET,
        Flag("pidfd-socket", value="value", help="path to an AF_UNIX socket which will receive the process's pidfd"),
        Flag("cwd", value="value", help="current working directory in the container"),
        Flag("env", "e", value="value", repeated=True, help="set environment variables"),
        Flag("tty", "t", help="allocate a pseudo-TTY"),
        Flag("user", "u", value="value", help="UID (format: <uid>[:<gid>])"),
        Flag("additional-gids", "g", value="value", repeated=True, help="additional gids"),
        Flag("process", "p", value="value", help="path to the process.json"),
        Flag("detach", "d", help="detach from the container's process"),
        Flag("pid-file", value="value", help="specify the file to write the process id to"),
        Flag("process-label", value="value", help="set the asm process label for the process"),
        Flag("apparmor", value="value", help="set the apparmor profile for the process"),
        Flag("no-new-privs", help="set the no new privileges value for the process"),
        Flag("cap", "c", value="value", repeated=True, help="add a capability to the bounding set for the process"),
        PRESERVE_FDS,
        Flag("cgroup", value="value", repeated=True, help="run the process in an (existing) sub-cgroup(s)"),
        Flag("ignore-paused", help="allow exec in a paused container"),
        Flag("no-subreaper", hidden=True, help="disable the use of the subreaper used to reap reparented processes"),
    ),
    arity=(1, None),
    interspersed=False,
    run=run,
)
