"""What all callers of a runtime have in common: a command line, in premises of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar

import pytest

from harness.callers.premises import Premises
from harness.programs import peer
from harness.pty import Terminal


class Caller:
    """A program called with `words` in front, and `environment` added. A context, which removes what was made by it."""

    # What has to be installed.
    PROGRAMS: ClassVar[tuple[str, ...]] = ()
    words: list[str]

    def __init__(self, premises: Premises) -> None:
        self.premises = premises
        self.environment: dict[str, str] = {}

    @classmethod
    def skip_unless_installed(cls) -> None:
        for name in (*cls.PROGRAMS, "unshare", "nsenter", "ip"):
            peer(name)
        if os.geteuid() != 0:
            pytest.skip("needs root")

    def __call__(self, *args: str, **options: Any) -> str:
        """Standard output of a command that succeeds."""
        return self.try_(*args, check=True, **options).stdout

    def try_(self, *args: str, check: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
        env = self.environment | options.pop("env", {})
        return self.premises.run([*self.words, *args], env=env, check=check, **options)

    def terminal(self, *args: str) -> Terminal:
        return Terminal([*self.premises.prefix, *self.words, *args], env=self.premises.environment | self.environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError


Kind = TypeVar("Kind", bound=Caller)


@contextmanager
def at_work(kind: type[Kind], folders: pytest.TempPathFactory) -> Iterator[Kind]:
    """A caller in new premises; a skip where it is not installed."""
    kind.skip_unless_installed()
    with Premises(folders.mktemp(kind.__name__.lower())) as premises, kind(premises) as it:
        yield it


def check_shell(terminal: Terminal, prompt: str = "# ") -> None:
    """A shell at the terminal has one of the right size, and its exit status comes through."""
    with terminal:
        terminal.wait_for(prompt)
        terminal.type("tty; stty size\r")
        assert "/dev/pts/" in terminal.wait_for("24 80")
        terminal.type("exit 4\r")
        terminal.rest()
        assert terminal.wait() == 4
