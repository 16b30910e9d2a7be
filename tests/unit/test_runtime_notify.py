"""What a service manager is told, by a real socket."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest
from harness.servicemanager import Manager

from masu.runtime import notify


@pytest.mark.parametrize("wait", [True, False])
def test_announce(tmp_path: Path, wait: bool) -> None:
    warnings: list[str] = []
    with Manager(str(tmp_path / "manager")) as manager:
        telling = Thread(
            target=notify.announce, args=(manager.env["NOTIFY_SOCKET"], 4242, warnings), kwargs={"wait": wait}
        )
        telling.start()
        assert manager.take_ready() == "4242"
        barrier = manager.take_barrier()
        if wait:
            assert telling.is_alive()
        else:
            telling.join()
        os.close(barrier)
        telling.join()
    assert warnings == []
    notify.announce(manager.env["NOTIFY_SOCKET"], 4242, warnings, wait=wait)
    assert "ECONNREFUSED" in warnings[0]
