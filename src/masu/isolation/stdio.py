"""What a container's stdio is connected to, and by whom: named by a client, opened here, copied by the monitor.

    ""                    nowhere: stdin is empty, output goes to the log alone, if there is one
    /path, fifo:///path   a FIFO that the client has made and has open, or will open
    file:///path          a file that is appended to; made when missing, with its directories
    binary:///path?k=v    a program that reads stdout and stderr as its fds 3 and 4 (native/launch/monitor_logger.c)

These are containerd's words ("Shim docs: IO"). Nothing here waits for the client: a FIFO is opened for both directions,
or without blocking. stdin stays open when its writer goes, until `Attachment.close_stdin`, since the next one may come.
Not before a task's `start`, though: whoever pipes a few bytes into it may have gone by then, and have asked for the end
when there was no task yet to be asked of. Output that nobody reads is kept as far as the FIFO holds it, and lost
beyond, unless `patient`: then the container waits, as under containerd's own shim.
"""

from __future__ import annotations

import os

from masu.errors import InvalidArgument, KernelError, NotFound

_KIND_MASK, _FIFO = 0o170000, 0o010000


class StdioNames:
    """What a client wants a process's stdio to be, in its words (above)."""

    __slots__ = ("stderr", "stdin", "stdout", "terminal")

    def __init__(self, stdin: str = "", stdout: str = "", stderr: str = "", *, terminal: bool = False) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal

    def to_json(self) -> dict[str, object]:
        return {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr, "terminal": self.terminal}

    @classmethod
    def from_json(cls, data: object) -> StdioNames:
        if not isinstance(data, dict):
            return cls()
        names = (data.get(key) for key in ("stdin", "stdout", "stderr"))
        return cls(*(name if isinstance(name, str) else "" for name in names), terminal=data.get("terminal") is True)


class Stdio:
    """What the monitor does with stdin, stdout and stderr; `log_path` "" keeps no log; `ephemeral` containers
    need not leave an exit status that survives a power cut; without `hold_stdin` stdin may end with its writer until
    `namespaces.hold_stdin`. `stdin`, `stdout` and `stderr` are names as above;
    `owner` is (container id, namespace), which a logging program is told."""

    __slots__ = (
        "ephemeral", "hold_stdin", "log_max_bytes", "log_max_files", "log_path", "open_stdin", "owner", "patient",
        "stderr", "stdin", "stdin_once", "stdout", "terminal",
    )  # fmt: skip

    def __init__(
        self,
        *,
        ephemeral: bool = False,
        terminal: bool = False,
        open_stdin: bool = False,
        stdin_once: bool = False,
        log_path: str = "",
        log_max_bytes: int = 0,
        log_max_files: int = 1,
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        owner: tuple[str, str] = ("", ""),
        patient: bool = False,
        hold_stdin: bool = True,
    ) -> None:
        self.ephemeral = ephemeral
        self.terminal = terminal
        self.open_stdin = open_stdin
        self.stdin_once = stdin_once
        self.log_path = log_path
        self.log_max_bytes = log_max_bytes
        self.log_max_files = log_max_files
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.owner = owner
        self.patient = patient
        self.hold_stdin = hold_stdin

    @property
    def is_named(self) -> bool:
        return bool(self.stdin or self.stdout or self.stderr)


class Opened:
    """Descriptors for the monitor, -1 for none, and the logging program; `close` them when it has its own."""

    __slots__ = ("_open", "logger", "logger_env", "stderr", "stdin", "stdin_keep", "stdout")

    def __init__(self) -> None:
        self.stdin = self.stdin_keep = self.stdout = self.stderr = -1
        self.logger: tuple[str, ...] = ()
        self.logger_env: tuple[str, ...] = ()
        self._open: list[int] = []

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(self._open)

    def add(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)
        self._open = []


def open_named(stdio: Stdio) -> Opened:
    """Opens what a client has named. Raises InvalidArgument, NotFound, KernelError; then nothing is left open."""
    opened = Opened()
    try:
        if stdio.stdin:
            _open_stdin(opened, stdio.stdin, hold=stdio.hold_stdin)
        _open_output(opened, stdio)
    except BaseException:
        opened.close()
        raise
    return opened


def _open_stdin(opened: Opened, name: str, *, hold: bool) -> None:
    scheme, path, _ = parse(name, "stdin")
    if scheme != "fifo":
        raise InvalidArgument("stdin", name, detail="a FIFO is wanted")
    opened.stdin = opened.add(_open(path, os.O_RDONLY | os.O_NONBLOCK, "stdin"))
    if hold and _is_fifo(opened.stdin):
        opened.stdin_keep = opened.add(_open(f"/proc/self/fd/{opened.stdin}", os.O_WRONLY | os.O_NONBLOCK, "stdin"))


def _open_output(opened: Opened, stdio: Stdio) -> None:
    scheme, path, words = parse(stdio.stdout, "stdout")
    if scheme in ("binary", "binary-v2"):
        id, namespace = stdio.owner
        opened.logger = (path, *words)
        opened.logger_env = (f"CONTAINER_ID={id}", f"CONTAINER_NAMESPACE={namespace}")
        return
    if stdio.stdout:
        opened.stdout = _open_stream(opened, scheme, path, "stdout", patient=stdio.patient)
    if stdio.terminal or not stdio.stderr:
        return
    if stdio.stderr == stdio.stdout:
        opened.stderr = opened.stdout
        return
    scheme, path, _ = parse(stdio.stderr, "stderr")
    if scheme not in ("fifo", "file"):
        raise InvalidArgument("stderr", stdio.stderr, detail=f"a {scheme} takes stdout as well: name the same for both")
    opened.stderr = _open_stream(opened, scheme, path, "stderr", patient=stdio.patient)


def _open_stream(opened: Opened, scheme: str, path: str, where: str, *, patient: bool) -> int:
    if scheme == "file":
        try:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        except OSError as error:
            raise KernelError("mkdir", os.path.dirname(path), error.errno or 0, where=where) from error
        return opened.add(_open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, where))
    # O_RDWR of a FIFO never waits, and needs no reader (fifo(7)).
    both = _open(path, os.O_RDWR | os.O_NONBLOCK, where)
    if not _is_fifo(both):
        os.close(both)
        return opened.add(_open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK, where))
    if patient:
        return opened.add(both)
    try:
        return opened.add(_open(f"/proc/self/fd/{both}", os.O_WRONLY | os.O_NONBLOCK, where))
    finally:
        os.close(both)


def _open(path: str, flags: int, where: str) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o644)
    except FileNotFoundError as error:
        raise NotFound(where, path, error.errno or 0) from error
    except OSError as error:
        raise KernelError("open", path, error.errno or 0, where=where) from error


def _is_fifo(fd: int) -> bool:
    return os.fstat(fd).st_mode & _KIND_MASK == _FIFO


def parse(name: str, where: str) -> tuple[str, str, list[str]]:
    """(scheme, path, the words of the query in their order). Raises InvalidArgument."""
    scheme, colon, rest = name.partition("://")
    if not colon:
        return "fifo", name, []
    if scheme not in ("fifo", "file", "binary", "binary-v2"):
        raise InvalidArgument(where, name, detail=f'unknown scheme "{scheme}"', hint="known are fifo, file and binary")
    path, _, query = rest.partition("?")
    path = _unquote(path)
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgument(where, name, detail="an absolute path is wanted")
    words = []
    for pair in query.split("&") if query else []:
        key, equals, value = pair.partition("=")
        words.append(_unquote(key.replace("+", " ")))
        if equals:
            words.append(_unquote(value.replace("+", " ")))
    return scheme, path, words


def _unquote(text: str) -> str:
    """RFC 3986, percent-encoding; what is none is left as it is."""
    first, *rest = text.encode().split(b"%")
    out = [first]
    for part in rest:
        try:
            out.append(bytes((int(part[:2], 16),)) + part[2:] if len(part) >= 2 else b"%" + part)
        except ValueError:
            out.append(b"%" + part)
    return b"".join(out).decode("utf-8", "surrogateescape")
