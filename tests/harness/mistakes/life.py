"""Verbs at the wrong time, terminals, hooks, and the runtime's own files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from harness.mistakes import Change, Done, Mistake, Scene, both, create, of, put, run

_TERMINAL = put("process.terminal", True)


def _hook(kind: str, script: str, **fields: object) -> Change:
    return put(f"hooks.{kind}", [{"path": "/bin/sh", "args": ["sh", "-c", script], **fields}])


def _taken(scene: Scene) -> Done:
    id = scene.container("created")
    return scene("create", "--bundle", str(scene.bundle), id)


def _wrong(verb: str, state: str, *words: str) -> Callable[[Scene], Done]:
    return of(state, verb, "ID", *words)


def _nobody(*words: str) -> Callable[[Scene], Done]:
    return lambda scene: scene(*words)


def _bad_id(id: str) -> Callable[[Scene], Done]:
    def make(scene: Scene) -> Done:
        scene.write()
        return scene("create", "--bundle", str(scene.bundle), id)

    return make


def _socket_without_terminal(scene: Scene) -> Done:
    path = scene.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        return scene.born("create", "--console-socket", str(path))


def _nobody_listens(scene: Scene) -> Done:
    path = scene.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return scene.born("create", "--console-socket", str(path), change=_TERMINAL)


def _full_disk(scene: Scene, room: int = 0) -> Done:
    root = scene.folder / "small"
    root.mkdir()
    scene.mount("-t", "tmpfs", "-o", "size=16k,mode=700", "small", str(root))
    with (root / "filling").open("wb", buffering=0) as filling:
        try:
            while filling.write(bytes(1024)):
                pass
        except OSError:
            pass
    if room:
        os.truncate(root / "filling", (root / "filling").stat().st_size - room)
    return scene.under(root)


def _root_that_is_a_file(scene: Scene) -> Done:
    (scene.folder / "file").touch()
    return scene.under(scene.folder / "file")


def _read_only_root(scene: Scene) -> Done:
    root = scene.folder / "readonly"
    root.mkdir()
    scene.mount("-t", "tmpfs", "-o", "ro,mode=700", "none", str(root))
    return scene.under(root)


def _torn(scene: Scene) -> Done:
    id = scene.container("created")
    path = scene.runtime.root / id / "state.json"
    whole = path.read_text()
    path.write_text(whole[:5])
    try:
        return scene("state", id)
    finally:
        path.write_text(whole)


def _log(place: str) -> Callable[[Scene], Done]:
    def make(scene: Scene) -> Done:
        return scene.born("create", before=("--log", str(scene.folder / place)))

    return make


def _pid_file(scene: Scene) -> Done:
    return scene.born("create", "--pid-file", str(scene.folder / "none/pid"))


MISTAKES = (
    Mistake(
        "a terminal without console socket",
        create(_TERMINAL),
        "process.terminal",
        "cannot allocate tty if runc will detach without setting console socket",
        "give --console-socket",
    ),
    Mistake(
        "the same with run -d",
        run(_TERMINAL, "-d"),
        "process.terminal",
        "cannot allocate tty if runc will detach without setting console socket",
        "give --console-socket",
    ),
    Mistake(
        "exec -t -d without console socket",
        of("running", "exec", "-t", "-d", "ID", "/bin/probe", "exit", "0"),
        "--tty",
        "cannot allocate tty if runc will detach without setting console socket",
        "give --console-socket",
        status=255,
    ),
    Mistake(
        "a console socket without terminal",
        _socket_without_terminal,
        "--console-socket",
        "cannot use console socket if runc will not detach or allocate tty",
        "process.terminal",
    ),
    Mistake(
        "a console socket that is not there",
        lambda scene: scene.born("create", "--console-socket", str(scene.folder / "none.sock"), change=_TERMINAL),
        "--console-socket",
        "connect",
        "/tmp/none.sock",
        "ENOENT",
        "listen",
    ),
    Mistake(
        "a console socket to which nobody listens",
        _nobody_listens,
        "--console-socket",
        "connect",
        "/tmp/console.sock",
        "ECONNREFUSED",
        "listen",
    ),
    Mistake(
        "a socket's path that is too long",
        lambda scene: scene.born("create", "--console-socket", str(scene.folder / ("s" * 108)), change=_TERMINAL),
        "--console-socket",
        "connect",
        "ENAMETOOLONG",
        "107 bytes",
    ),
    Mistake(
        "a terminal without devpts",
        run(both(_TERMINAL, lambda config, scene: config["mounts"].pop(2))),
        "process.terminal",
        "/dev/pts",
    ),
    Mistake(
        "an id that is taken",
        _taken,
        "container box",
        "container with given ID already exists",
        "delete it first",
    ),
    Mistake(
        "a bad id",
        _bad_id("web/1"),
        "container ID",
        "web/1",
        "invalid container ID format",
        "letters, digits",
    ),
    Mistake("an empty id", _bad_id(""), "container ID", "invalid container ID format"),
    Mistake("no id", _nobody("create"), "create", "exactly 1 argument"),
    *(
        Mistake(
            f"{words[0]} of a container that does not exist",
            _nobody(*words),
            "container nobody",
            "container does not exist",
            "masu-oci --root /run/oci list",
            status=255 if words[0] == "exec" else 1,
        )
        for words in (
            ("state", "nobody"),
            ("start", "nobody"),
            ("kill", "nobody"),
            ("delete", "nobody"),
            ("exec", "nobody", "true"),
            ("ps", "nobody"),
            ("pause", "nobody"),
            ("resume", "nobody"),
            ("events", "--stats", "nobody"),
            ("update", "--memory", "9999999", "nobody"),
            ("checkpoint", "nobody"),
        )
    ),
    Mistake(
        "start of a running container",
        _wrong("start", "running"),
        "cannot start an already running container",
        "container box is running",
    ),
    Mistake(
        "start of a stopped container",
        _wrong("start", "stopped"),
        "cannot start a container that has stopped",
        "container box is stopped",
        "create it anew",
    ),
    Mistake(
        "start of a paused container",
        _wrong("start", "paused"),
        "cannot start a container in the paused state",
        "container box is paused",
        "resume",
    ),
    Mistake(
        "kill of a stopped container",
        _wrong("kill", "stopped"),
        "container not running",
        "container box is stopped",
        "delete",
    ),
    Mistake(
        "kill with an unknown signal", _wrong("kill", "running", "SIGSTOPP"), "SIGSTOPP", 'did you mean "SIGSTOP"?'
    ),
    Mistake(
        "exec in a stopped container",
        _wrong("exec", "stopped", "/bin/probe", "exit", "0"),
        "cannot exec in a stopped container",
        "container box is stopped",
        "first process has exited",
        status=255,
    ),
    Mistake(
        "exec in a paused container",
        _wrong("exec", "paused", "/bin/probe", "exit", "0"),
        "cannot exec in a paused container",
        "--ignore-paused",
        "container box is paused",
        status=255,
    ),
    Mistake(
        "exec without a command",
        _wrong("exec", "running"),
        "process args cannot be empty",
        "masu-oci exec ID COMMAND",
        status=255,
    ),
    Mistake(
        "delete of a running container",
        _wrong("delete", "running"),
        "cannot delete container box that is not stopped: running",
        "kill it first, or use --force",
    ),
    Mistake(
        "delete of a paused container",
        _wrong("delete", "paused"),
        "cannot delete container box that is not stopped: paused",
        "resume and kill it first, or use --force",
    ),
    Mistake(
        "pause of a stopped container", _wrong("pause", "stopped"), "container not running", "container box is stopped"
    ),
    Mistake(
        "pause of a paused container", _wrong("pause", "paused"), "container not running", "container box is paused"
    ),
    Mistake(
        "resume of a running container", _wrong("resume", "running"), "container not paused", "container box is running"
    ),
    Mistake(
        "resume of a stopped container", _wrong("resume", "stopped"), "container not paused", "container box is stopped"
    ),
    Mistake(
        "resume of a created container",
        _wrong("resume", "created"),
        "container not paused",
        "container box is created",
    ),
    Mistake(
        "checkpoint of a stopped container",
        _wrong("checkpoint", "stopped"),
        "Container cannot be checkpointed in stopped state",
        "container box is stopped",
    ),
    Mistake(
        "restore from an image that is not there",
        lambda scene: scene.born("restore", "--image-path", str(scene.folder / "none")),
        "--image-path",
        "directory /tmp/none",
        "not found",
    ),
    Mistake("ps of a stopped container", _wrong("ps", "stopped"), status=0),
    Mistake(
        "events of a stopped container", _wrong("events", "stopped", "--stats"), "container with id box is not running"
    ),
    Mistake(
        "update of a stopped container",
        of("stopped", "update", "--memory", "99999999", "ID"),
        "container not running",
        "container box is stopped",
    ),
    Mistake(
        "a hook that is not there",
        run(put("hooks.createRuntime", [{"path": "/usr/bin/no-hook"}])),
        "hooks.createRuntime[0]",
        "error running createRuntime hook #0: /usr/bin/no-hook",
        "ENOENT: No such file or directory",
        "on the host",
    ),
    Mistake(
        "a hook in the container that is not there",
        run(put("hooks.startContainer", [{"path": "/no-hook"}])),
        "hooks.startContainer[0]",
        "error running startContainer hook #0: /no-hook",
        "ENOENT: No such file or directory",
        "in the container",
    ),
    Mistake(
        "a hook that fails",
        run(_hook("prestart", "echo no address left >&2; exit 3")),
        "hooks.prestart[0]",
        "error running prestart hook #0",
        "exit status 3",
        "no address left",
    ),
    Mistake(
        "a hook that is killed",
        run(_hook("createContainer", "kill -9 $$")),
        "hooks.createContainer[0]",
        "error running createContainer hook #0",
        "SIGKILL",
    ),
    Mistake(
        "a hook that takes too long",
        run(_hook("createRuntime", "exec sleep 1000", timeout=1)),
        "hooks.createRuntime[0]",
        "error running createRuntime hook #0",
        "not done after 1 seconds",
        "raise hooks.createRuntime[0].timeout",
    ),
    Mistake(
        "a hook by a relative path",
        run(put("hooks.poststop", [{"path": "hook"}])),
        "hooks.poststop[0].path",
        "hook",
        "absolute",
    ),
    Mistake(
        "a pid file in a directory that is not there",
        _pid_file,
        "--pid-file",
        "write /tmp/none/pid",
        "ENOENT: No such file or directory",
        "create its directory",
    ),
    Mistake(
        "a log file that cannot be written",
        _log("none/log"),
        "--log",
        "open /tmp/none/log",
        "ENOENT: No such file or directory",
        "create its directory",
    ),
    Mistake(
        "an unknown log format",
        _nobody("--log-format", "xml", "list"),
        "--log-format",
        "xml",
        "text, json",
    ),
    Mistake(
        "a state directory on a full disk",
        _full_disk,
        "--root",
        "ENOSPC: No space left on device",
        "/tmp/small",
        "another --root",
    ),
    Mistake(
        "a state directory on a disk that becomes full",
        lambda scene: _full_disk(scene, 4096),
        "--root",
        "ENOSPC: No space left on device",
        "/tmp/small",
        "another --root",
    ),
    Mistake(
        "a state file that is torn",
        _torn,
        "state /run/oci/box/state.json",
        "corrupt",
        "line 1, column 2",
        "a forced removal",
    ),
    Mistake(
        "a state directory that is a file",
        _root_that_is_a_file,
        "--root",
        "/tmp/file",
        "ENOTDIR",
    ),
    Mistake(
        "a state directory on a read-only file system",
        _read_only_root,
        "--root",
        "/tmp/readonly",
        "EROFS",
    ),
    Mistake(
        "file descriptors to pass on that are not open",
        create(None, "--preserve-fds", "2"),
        "--preserve-fds",
        "file descriptor 3 is not open",
    ),
    Mistake(
        "an unknown flag",
        _nobody("list", "--fromat", "json"),
        "flag provided but not defined: -fromat",
        'did you mean "--format"?',
    ),
    Mistake("an unknown verb", _nobody("strat", "box"), "strat", 'did you mean "start"?', status=3),
    Mistake(
        "exec with a process file that is not there",
        lambda scene: scene("exec", "--process", str(scene.folder / "none.json"), scene.container("running")),
        "--process",
        "open /tmp/none.json",
        "ENOENT: No such file or directory",
        status=255,
    ),
    Mistake(
        "ps in an unknown format",
        of("running", "ps", "--format", "xml", "ID"),
        "--format",
        "invalid format option xml",
        "table, json",
    ),
    Mistake(
        "spec where there is a config.json",
        lambda scene: scene("spec", "--bundle", _with_config(scene)),
        "File config.json",
        "Remove it first",
    ),
    Mistake(
        "update with a file that is not JSON",
        lambda scene: scene("update", "-r", _bad_json(scene), scene.container("running")),
        "/tmp/limits.json",
        "line 1, column",
        "JSON",
    ),
)


def _bad_json(scene: Scene) -> str:
    path = scene.folder / "limits.json"
    path.write_text('{"memory": }')
    return str(path)


def _with_config(scene: Scene) -> str:
    scene.write()
    return str(scene.bundle)
