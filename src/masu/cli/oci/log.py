"""The log that callers read: runc's, line by line (containerd and podman parse the JSON form and show `msg`).

    text   time="2026-11-21T06:01:56Z" level=error msg="container does not exist"
    json   {"level":"error","msg":"container does not exist","time":"2026-11-21T06:01:56Z"}

Our JSON lines carry one key more, `error`, with the error's facts. With a log file the message of an error goes to
standard error as well. As with crun the file may be `file:PATH`, or in its stead `journald:NAME` or `syslog:NAME`,
which get messages alone.
"""

from __future__ import annotations

import posix as os
import time
from errno import ENOENT

from masu.errors import InvalidArgument, KernelError, MasuError
from masu.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masu.cli.oci.syslog import Service

_LEVELS = ("error", "warning", "debug")


class Log:
    """`path` is --log; `level` the last of `_LEVELS` that is written. Raises InvalidArgument, and KernelError when
    nothing can be written there."""

    __slots__ = ("_format", "_levels", "_path", "_service")

    def __init__(self, path: str = "", format: str = "text", *, level: str = "warning") -> None:
        if format not in ("", "text", "json"):
            raise InvalidArgument("log format", format, where="--log-format", detail="allowed are text, json")
        self._path = "" if path == "/dev/stderr" else path.removeprefix("file:")
        self._format = format or "text"
        self._levels = _LEVELS[: _LEVELS.index(level) + 1]
        self._service: Service | None = None
        if path.startswith(("journald:", "syslog:")):
            from masu.cli.oci import syslog  # rarely asked for

            self._service = syslog.connect(path)
        elif self._path:
            # Now, not when there is something to say: nothing should have been done by then.
            os.close(self._open())

    def error(self, message: str, error: MasuError | None = None) -> None:
        self._write("error", message, error)
        if self._path:
            os.write(2, message.encode("utf-8", "surrogateescape") + b"\n")

    def warning(self, message: str) -> None:
        self._write("warning", message, None)

    def debug(self, message: str) -> None:
        self._write("debug", message, None)

    def tells(self, level: str) -> bool:
        return level in self._levels

    def _write(self, level: str, message: str, error: MasuError | None) -> None:
        if not self.tells(level):
            return
        if self._service is not None:
            self._service.send(level, message)
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._format == "json":
            record: dict[str, object] = {"level": level, "msg": message, "time": now}
            if error is not None:
                record["error"] = error.to_json()
            line = jsontext.dumps(record)
        else:
            line = f"time={jsontext.dumps(now)} level={level} msg={jsontext.dumps(message)}"
        data = line.encode("utf-8", "surrogateescape") + b"\n"
        if not self._path:
            os.write(2, data)
            return
        fd = self._open()
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        except OSError as error:
            hint = "create its directory first" if error.errno == ENOENT else ""
            raise KernelError("open", self._path, error.errno or 0, where="--log", hint=hint) from error
