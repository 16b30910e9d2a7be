"""--log, --log-format, --log-level: where messages go, and which."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.oci import Runtime
from harness.programs import peer

pytestmark = pytest.mark.root

# The machine's own places for logs are covered: what listens there is the test.
COVERED = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


class Listener:
    """A log service in a folder that is seen at `place` by the runtime alone."""

    def __init__(self, folder: Path, name: str, place: str) -> None:
        folder.mkdir()
        os.mknod(folder / "null", 0o020666, os.makedev(1, 3))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / name))
        self.socket.settimeout(10)
        self.prefix = [peer("unshare"), "--mount", "--propagation", "private", "sh", "-c", COVERED, "sh", folder, place]

    def hear(self, runtime: Runtime, *args: str) -> tuple[bytes, subprocess.CompletedProcess[str]]:
        done = runtime.call([*map(str, self.prefix), *runtime.command, *args], check=False)
        return self.socket.recv(65536), done


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[Listener]:
    it = Listener(tmp_path / "dev", "log", "/dev")
    yield it
    it.socket.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Listener]:
    it = Listener(tmp_path / "run", "socket", "/run")
    (tmp_path / "run/systemd/journal").mkdir(parents=True)
    (tmp_path / "run/socket").rename(tmp_path / "run/systemd/journal/socket")
    yield it
    it.socket.close()


def test_syslog(masu_oci: Runtime, syslog: Listener) -> None:
    said, done = syslog.hear(masu_oci, "--log", "syslog:box", "state", "nobody")
    assert re.fullmatch(
        rb"<11>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d box\[\d+\]: container nobody: not found: .*", said
    ), said
    assert done.returncode == 1
    # Our caller hears of it as well, as with a file.
    assert done.stderr.startswith("container nobody: not found")


def test_journal(masu_oci: Runtime, journal: Listener) -> None:
    said, _ = journal.hear(masu_oci, "--log", "journald:box", "state", "nobody")
    fields = {}
    while said:
        name, _, rest = said.partition(b"\n")
        length = int.from_bytes(rest[:8], "little")
        fields[name.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        said = rest[9 + length :]
    assert fields.pop("MESSAGE").startswith("container nobody: not found")
    assert fields == {"PRIORITY": "3", "SYSLOG_IDENTIFIER": "box"}


@pytest.mark.parametrize("place", ["syslog:", "journald:", "syslog:" + "x" * 65, "journald:a\nb"])
def test_nobody_to_speak_as(masu_oci: Runtime, place: str) -> None:
    done = masu_oci("--log", place, "list", check=False)
    assert done.returncode == 1
    assert "--log: log" in done.stderr


def test_nobody_listens(masu_oci: Runtime, syslog: Listener) -> None:
    syslog.socket.close()
    done = masu_oci.call([*map(str, syslog.prefix), *masu_oci.command, "--log", "syslog:box", "list"], check=False)
    assert done.returncode == 1
    assert "--log: connect /dev/log: ECONNREFUSED" in done.stderr


def test_a_file_by_its_scheme(masu_oci: Runtime) -> None:
    file = masu_oci.folder / "log"
    masu_oci("--log", f"file:{file}", "--log-format", "json", "state", "nobody", check=False)
    assert json.loads(file.read_text())["level"] == "error"


def test_behind_the_verb(masu_oci: Runtime) -> None:
    """As runc since 1.4."""
    file = masu_oci.folder / "log"
    masu_oci("state", "--log", str(file), "nobody", "--log-format=json", check=False)
    assert json.loads(file.read_text())["level"] == "error"


@pytest.mark.parametrize(
    ("level", "told"), [("error", set()), ("warning", {"warning"}), ("debug", {"warning", "debug"})]
)
def test_levels(masu_oci: Runtime, probe_rootfs: Path, level: str, told: set[str]) -> None:
    bundle = masu_oci.bundle(
        probe_rootfs, lambda config: config["linux"].update(personality={"domain": "LINUX", "flags": ["X"]})
    )
    done = masu_oci("--log-level", level, "run", "--bundle", str(bundle), masu_oci.id())
    assert set(re.findall(r"level=(\w+)", done.stderr)) == told
