"""containerd's restart monitor: containers that are to run are started again, by their labels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.callers.archives import archive
from harness.engine import wait_until
from harness.masud import Masud

pytestmark = pytest.mark.root

IMAGE = "docker.io/library/busybox:latest"
CONFIG = """version = 2
[plugins."io.containerd.internal.v1.restart"]
interval = "100ms"
"""


@pytest.fixture(scope="module")
def masud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masud]:
    with Masud(tmp_path_factory.mktemp("masud"), CONFIG) as it:
        it("images", "import", "--base-name", "docker.io/library/busybox", str(archive("busybox", it.folder)))
        yield it


def labelled(masud: Masud, id: str, *command: str, **labels: str) -> None:
    """A container with labels, which have no task yet."""
    given = [f"containerd.io/restart.{name}={value}" for name, value in labels.items()]
    words = [word for label in given for word in ("--label", label)]
    masud("containers", "create", *words, IMAGE, id, *command)


def count(masud: Masud, id: str) -> int:
    info = masud("containers", "info", id)
    return int(info.partition('restart.count": "')[2].partition('"')[0] or 0)


def status(masud: Masud, id: str) -> str:
    return next((line.split()[2] for line in masud("tasks", "ls").splitlines() if line.split()[0] == id), "")


def remove(masud: Masud, *ids: str) -> None:
    for id in ids:
        masud("containers", "label", id, "containerd.io/restart.status=")
        masud.try_("tasks", "rm", "-f", id)
        masud("containers", "rm", id)


def test_it_is_started_again_and_stopped(masud: Masud) -> None:
    log = masud.folder / "log"
    labelled(masud, "always", "echo", "once more", status="running", loguri=f"file://{log}")
    wait_until(lambda: log.exists() and log.read_text().count("once more") >= 3)
    assert count(masud, "always") >= 3
    masud("containers", "label", "always", "containerd.io/restart.status=stopped")
    wait_until(lambda: status(masud, "always") in ("", "STOPPED"))
    remove(masud, "always")


def test_policies(masud: Masud) -> None:
    labelled(masud, "twice", "false", status="running", policy="on-failure:3")
    masud("tasks", "start", "-d", "twice")
    labelled(masud, "well", "true", status="running", policy="on-failure")
    masud("tasks", "start", "-d", "well")
    labelled(masud, "left", "true", status="running", policy="unless-stopped", **{"explicitly-stopped": "true"})
    masud("tasks", "start", "-d", "left")
    labelled(masud, "never", "true", status="running", policy="no")
    wait_until(lambda: count(masud, "twice") == 3 and status(masud, "twice") == "STOPPED")
    assert [count(masud, id) for id in ("well", "left", "never")] == [0, 0, 0]
    remove(masud, "twice", "well", "left", "never")


def test_one_that_is_to_be_stopped_is(masud: Masud) -> None:
    labelled(masud, "runs", "sleep", "1000", status="stopped")
    masud("tasks", "start", "-d", "runs")
    wait_until(lambda: status(masud, "runs") == "")
    remove(masud, "runs")


def test_clients_find_it(masud: Masud) -> None:
    """nerdctl refuses --restart without."""
    said = masud("plugins", "ls", "-d", "id==restart")
    assert "always" in said
    assert "on-failure" in said
