"""The byte that releases a container, and whoever looks at that moment."""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from masu.runtime import start
from masu.runtime.container import Container


@pytest.mark.parametrize("said", [b"", b"x" * 20])
def test_a_look_between_the_end_of_the_wait_and_the_answer(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for the status opens the FIFO for writing: then it is no longer at its end, but empty."""
    fifo = str(tmp_path / "exec.fifo")
    os.mkfifo(fifo)
    both = os.open(fifo, os.O_RDWR)
    looking = []

    def first_process() -> None:
        assert os.read(both, 1) == b"\0"
        os.write(both, said)
        os.close(both)

    class Poll:
        def __init__(self) -> None:
            self._poll = select.poll()
            self.register = self._poll.register

        def poll(self) -> Any:
            found = self._poll.poll()
            looking.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            return found

    monkeypatch.setattr(start, "select", SimpleNamespace(poll=Poll))
    process = threading.Thread(target=first_process)
    process.start()
    try:
        assert start._release(cast(Container, SimpleNamespace(fifo=fifo, id="box"))) == said
    finally:
        process.join()
        for fd in looking:
            os.close(fd)
    assert len(looking) == 1
