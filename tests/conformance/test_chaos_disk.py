"""Full, read-only, torn, wiped: what the disk can do to masu's state, and what the next command makes of it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from harness.chaos import Brood, Chaos, PrivateDisk, one_error
from harness.engine import alive, wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def masu(loaded: Chaos, brood: Brood) -> Iterator[Chaos]:
    yield loaded
    loaded.check_consistent(brood)


class Small:
    """A masu whose lasting state is on a small disk of its own."""

    def __init__(self, brood: Brood, folder: Path, mount: str) -> None:
        self.disk = PrivateDisk(brood, folder / "disk", mount)
        self.masu = Chaos(folder, prefix=self.disk.prefix)
        self.masu.root = self.disk.place / "root"

    def fill(self, leave_kb: int = 0) -> None:
        """Not a byte more than `leave_kb` fits afterwards."""
        self.disk.sh('dd if=/dev/zero of="$1"/filler bs=4k 2>/dev/null; true', str(self.disk.place))
        if leave_kb:
            filler = self.disk.inside / "filler"
            os.truncate(filler, max(0, filler.stat().st_size - (leave_kb << 10)))

    def free(self) -> None:
        (self.disk.inside / "filler").unlink()


KINDS = {
    "tmpfs": "mount -t tmpfs -o size=24m,mode=755 small $1",
    "ext4": "truncate -s 40m $1.img && mkfs.ext4 -q -F $1.img && mount -o loop $1.img $1",
}


@pytest.fixture(params=list(KINDS))
def small(request: pytest.FixtureRequest, brood: Brood, tmp_path: Path) -> Iterator[Small]:
    it = Small(brood, tmp_path, KINDS[request.param])
    yield it
    if (it.disk.inside / "filler").exists():
        it.free()
    it.masu.check_consistent(brood)
    it.masu.close()
    it.disk.close()


# --- full ---


def test_full_before_the_first_command(small: Small) -> None:
    small.fill()
    one_error(small.masu.fails("ps", "-a"), "disk space", "ENOSPC")
    one_error(small.masu.fails("run", "--rm", "host", "true", status=125), "ENOSPC")
    small.free()
    assert small.masu("run", "--rm", "host", "echo", "fine") == "fine\n"


def test_full_while_an_image_is_loaded(small: Small, brood: Brood) -> None:
    archive = str(images.layout("busybox"))
    small.masu("ps")
    for leave_kb in (1500, 700, 200, 0):
        small.fill(leave_kb)
        error = small.masu.fails("load", "-i", archive)
        one_error(error, "ENOSPC")
        small.free()
    brood.wait_gone()
    # Space that failures took is given back: it fits although it was begun several times.
    small.masu.image("busybox")
    assert small.masu(*small.masu.run_words("--rm", "busybox", "echo", "fine")) == "fine\n"


def test_full_while_a_container_is_made_started_and_removed(small: Small, brood: Brood) -> None:
    masu = small.masu
    masu.image("busybox")
    masu(*masu.run_words("--rm", "busybox", "true"))
    masu.run_detached("box", "busybox", "sleep", "600")
    for leave_kb in (300, 100, 40, 12, 4, 0):
        small.fill(leave_kb)
        for words in (["--rm", "busybox", "true"], ["--name", "more", "busybox", "true"]):
            done = masu.try_(*masu.run_words(*words))
            assert done.returncode in (0, 125), done.stderr
            if done.returncode:
                one_error(done.stderr, "ENOSPC")
        # What runs goes on and is seen.
        assert "box" in masu("ps")
        done = masu.try_("exec", "box", "echo", "alive")
        if done.returncode:
            one_error(done.stderr, "ENOSPC")
        if (removal := masu.try_("rm", "-f", "more")).returncode:
            one_error(removal.stderr, "ENOSPC")
        brood.wait_gone(keep=masu.pids_of(masu("ps", "-q", "--no-trunc").strip()))
        small.free()
        masu("rm", "-f", "more")
    small.fill()
    for words in (["stop", "-t", "0", "box"], ["ps", "-a"], ["rm", "-f", "box"]):
        if (done := masu.try_(*words)).returncode:
            one_error(done.stderr, "ENOSPC")
    small.free()
    masu("rm", "-f", "box", "more")
    masu.run_detached("box", "busybox", "true")


def test_end_on_a_full_disk(small: Small) -> None:
    """Who attached is told of it, and who looks, then and later: the monitor has another place to note it."""
    masu = small.masu
    masu.image("busybox")
    running = masu.start(*masu.run_words("-i", "--name", "box", "busybox", "sh", "-c", "read x; exit 3"))
    wait_until(lambda: "box" in masu("ps"))
    small.fill()
    out, err = running.communicate(b"go\n", timeout=60)
    assert (running.returncode, out, err) == (3, b"", b"")
    assert "Exited (3)" in masu("ps", "-a")
    small.free()
    assert "Exited (3)" in masu("ps", "-a")
    assert masu("wait", "box") == "3\n"


def test_log_on_a_full_disk(small: Small) -> None:
    """The log loses lines, the container does not notice, and the log goes on when there is room again."""
    masu = small.masu
    masu.image("busybox")
    script = "read x; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo over >&2; read x; echo end"
    running = masu.start(*masu.run_words("-i", "--name", "box", "busybox", "sh", "-c", script))
    assert running.stdin
    assert running.stderr
    wait_until(lambda: "box" in masu("ps"))
    small.fill()
    running.stdin.write(b"go\n")
    running.stdin.flush()
    assert running.stderr.readline() == b"over\n"
    small.free()
    running.stdin.write(b"go\n")
    running.stdin.flush()
    out, err = running.communicate(timeout=60)
    # Who is attached gets everything.
    assert out.decode().split("\n") == [*(f"line {i}" for i in range(2000)), "end", ""]
    assert (running.returncode, err) == (0, b"")
    shown = masu("logs", "box").splitlines()
    assert shown[-1] == "end"
    assert set(shown) <= {*(f"line {i}" for i in range(2000)), "over", "end"}


# --- read-only ---


def test_read_only_state(brood: Brood, tmp_path: Path) -> None:
    small = Small(brood, tmp_path, KINDS["tmpfs"])
    masu = small.masu
    masu.image("busybox")
    masu("create", "--name", "box", "busybox", "true")
    small.disk.sh('mount -o remount,ro "$1"', str(small.disk.place))
    for words in (["pull", "127.0.0.1:1/x"], ["rm", "box"], ["tag", "busybox", "other"], ["create", "busybox"]):
        one_error(masu.fails(*words), "EROFS", "--root" if words[0] != "rm" else "")
    one_error(masu.fails("run", "--rm", "busybox", "true", status=125), "EROFS", "--root")
    one_error(masu.fails("run", "--rm", "host", "true", status=125), "EROFS", "--root")
    small.disk.sh('mount -o remount,rw "$1"', str(small.disk.place))
    masu.check_consistent(brood)
    masu.close()
    small.disk.close()


def test_read_only_from_the_first_command_on(brood: Brood, tmp_path: Path) -> None:
    disk = PrivateDisk(brood, tmp_path / "disk", "mount -t tmpfs -o ro small $1")
    masu = Chaos(tmp_path, prefix=disk.prefix)
    masu.root = disk.place / "root"
    for words in (["ps"], ["images"], ["pull", "busybox"]):
        one_error(masu.fails(*words), "EROFS", "--root")
    one_error(masu.fails("run", "--rm", "host", "true", status=125), "EROFS", "--root")
    masu.root, masu.run = tmp_path / "root", disk.place / "run"
    one_error(masu.fails("run", "--rm", "host", "true", status=125), "EROFS", str(disk.place))
    assert masu.ids() == []
    disk.close()


def test_state_directory_that_is_none(masu: Chaos, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for root in (str(file), str(file / "below"), "/proc/masu"):
        one_error(masu.fails("--root", root, "ps"), root)
        one_error(masu.fails("--root", root, "run", "--rm", "host", "true", status=125), root)
        one_error(masu.fails("--run", root, "run", "--rm", "host", "true", status=125), root.removesuffix("/below"))
    assert masu.ids() == []


# --- torn, corrupt, too new ---


def test_database_newer_than_we_know(brood: Brood, tmp_path: Path) -> None:
    masu = Chaos(tmp_path)
    masu("ps")
    with sqlite3.connect(masu.root / "meta.db") as database:
        database.execute("PRAGMA user_version=9999")
    database.close()
    before = (masu.root / "meta.db").read_bytes()
    for words in (["ps"], ["images"], ["rm", "-f", "x"]):
        one_error(masu.fails(*words), "meta.db", "9999", "newer")
    one_error(masu.fails("run", "--rm", "host", "true", status=125), "meta.db", "newer")
    assert (masu.root / "meta.db").read_bytes() == before
    masu.check_nothing_left()


@pytest.mark.parametrize("damage", ["garbage", "truncated", "page", "directory"])
def test_database_damaged(brood: Brood, tmp_path: Path, damage: str) -> None:
    masu = Chaos(tmp_path)
    masu("create", "host", "true")
    path = masu.root / "meta.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    data = path.read_bytes()
    if damage == "directory":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {
                "garbage": b"garbage" * 1000,
                "truncated": data[:5000],
                "page": data[:4096] + b"\xa5" * (len(data) - 4096),
            }[damage]
        )
    for words in (["ps", "-a"], ["images"]):
        one_error(masu.fails(*words), "meta.db")
    one_error(masu.fails("run", "--rm", "host", "true", status=125), "meta.db")
    brood.wait_gone()


@pytest.mark.parametrize("damage", ["empty", "gone"])
def test_database_lost(brood: Brood, tmp_path: Path, damage: str) -> None:
    """A new one would know of nothing, and have everything collected."""
    masu = Chaos(tmp_path)
    masu.image("busybox")
    with sqlite3.connect(masu.root / "meta.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    data = (masu.root / "meta.db").read_bytes()
    for path in masu.root.glob("meta.db*"):
        path.unlink()
    if damage == "empty":
        (masu.root / "meta.db").touch()
    for words in (["ps", "-a"], ["images"], ["rmi", "busybox"]):
        one_error(masu.fails(*words), "meta.db", "it has been lost", "restore it")
    for path in masu.root.glob("meta.db*"):
        path.unlink()
    (masu.root / "meta.db").write_bytes(data)
    assert masu(*masu.run_words("--rm", "busybox", "echo", "there")) == "there\n"
    brood.wait_gone()
    masu.close()


@pytest.mark.parametrize("file", ["state.json", "config.json", "attach.sock", "pid"])
@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_files_of_a_running_container_damaged(masu: Chaos, brood: Brood, file: str, damage: str) -> None:
    id = masu.run_detached("box", "busybox", "sleep", "600")
    for path in (masu.run / "containers/default" / id / file, masu.root / "containers/default" / id / file):
        if path.exists():
            if damage == "torn" and path.is_file():
                path.write_bytes(path.read_bytes()[:20])
            else:
                path.unlink()
    assert "box" in masu("ps", "-a")
    assert masu("inspect", "--format", "{{.Name}}", "box").strip().strip("/") == "box"
    for words in (["logs", "box"], ["exec", "box", "true"], ["stop", "-t", "0", "box"]):
        done = masu.try_(*words)
        if done.returncode:
            one_error(done.stderr)
    masu("rm", "-f", "box")
    brood.wait_gone()
    assert masu.cgroups() == []
    assert masu(*masu.run_words("--rm", "--name", "box", "busybox", "echo", "again")) == "again\n"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "x"}', "\0\0\0\0"])
def test_exit_file_torn(masu: Chaos, brood: Brood, text: str) -> None:
    id = masu.run_detached("box", "busybox", "true")
    wait_until(lambda: (masu.root / "containers/default" / id / "exit").exists())
    brood.wait_gone()
    (masu.root / "containers/default" / id / "exit").write_text(text)
    assert "box" in masu("ps", "-a")
    assert masu.status("box") == "exited"
    masu("start", "box")
    masu("wait", "box")


# --- the reboot ---


def test_run_directory_gone_with_a_reboot(masu: Chaos, brood: Brood) -> None:
    id = masu.run_detached("box", "busybox", "sh", "-c", "echo up; sleep 600")
    masu("create", "--cgroup-parent", masu.cgroup, "--name", "fresh", "busybox", "echo", "fresh")
    masu.run_detached("done", "busybox", "sh", "-c", "exit 7")
    assert masu("wait", "done") == "7\n"
    _, monitor = masu.pids_of(id)
    wait_until(lambda: masu("logs", "box") == "up\n")
    os.kill(monitor, 9)
    brood.wait_gone()
    subprocess.run(["rm", "-r", str(masu.run)], check=True)
    listed = masu("ps", "-a", "--format", "{{.Names}} {{.Status}}")
    assert "done Exited (7)" in listed
    assert "fresh Created" in listed
    assert "box Exited (255)" in listed, listed
    assert masu("logs", "box") == "up\n"
    assert masu("start", "-a", "fresh") == "fresh\n"
    masu("start", "box")
    assert masu.status("box") == "running"


@pytest.mark.parametrize("verb", [["rm", "box"], ["start", "box"]])
def test_run_directory_wiped_while_a_container_runs(masu: Chaos, brood: Brood, verb: list[str]) -> None:
    id = masu.run_detached("box", "busybox", "sleep", "600")
    pid, _ = masu.pids_of(id)
    subprocess.run(["rm", "-r", str(masu.run)], check=True)
    assert "box Exited (255)" in masu("ps", "-a", "--format", "{{.Names}} {{.Status}}")
    masu(*verb)
    # Nothing but its cgroup told of it; it must be gone before another one may have its place.
    wait_until(lambda: not alive(pid))
    if verb[0] == "start":
        assert masu.status("box") == "running"
        masu("rm", "-f", "box")
    brood.wait_gone()
    assert masu.cgroups() == []
