"""Lines of log on standard error, as containerd writes them: logfmt, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import time

LEVELS = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}
_NAMES = {logging.WARNING: "warning", logging.CRITICAL: "fatal"}


class Lines(logging.Formatter):
    """`form` is "text" or "json"."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        at = time.gmtime(record.created)
        nanoseconds = int(record.created % 1 * 1e9)
        facts = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', at)}.{nanoseconds:09d}Z",
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "msg": text,
        }
        if self._json:
            return json.dumps(facts, ensure_ascii=False)
        return f'time="{facts["time"]}" level={facts["level"]} msg={json.dumps(text, ensure_ascii=False)}'


def begin(level: str, form: str) -> None:
    """Level and form of everything that masud logs; again after a change."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(form))
    root = logging.getLogger("masud")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(LEVELS[level])
