"""Several commands at once on one container and one state directory; somebody who may not."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.chaos import PYTHON_WORDS, Brood, Chaos, finish, one_error, wait_exit
from harness.engine import wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def masu(loaded: Chaos, brood: Brood) -> Iterator[Chaos]:
    yield loaded
    loaded.check_consistent(brood)


def results(several: list[subprocess.Popen[bytes]]) -> list[tuple[int, str, str]]:
    """(status, stdout, stderr) of commands that run at the same time; each error is one line for people."""
    found = []
    for process in several:
        out, err = process.communicate(timeout=60)
        text = err.decode()
        assert text.count("\n") <= 1, text
        assert not [word for word in PYTHON_WORDS if word in text], text
        found.append((process.returncode, out.decode(), text))
    return found


def test_twenty_runs_at_once(masu: Chaos, brood: Brood) -> None:
    several = [masu.start(*masu.run_words("--rm", "busybox", "echo", str(i)), stdin=-3) for i in range(20)]
    assert results(several) == [(0, f"{i}\n", "") for i in range(20)]
    brood.wait_gone()
    assert masu.ids() == []
    masu.check_nothing_left()


def test_twenty_runs_of_the_host_at_once(tmp_path: Path, brood: Brood) -> None:
    """On a state directory that nobody has made yet."""
    masu = Chaos(tmp_path)
    several = [masu.start(*masu.run_words("--rm", "host", "echo", str(i)), stdin=-3) for i in range(20)]
    assert results(several) == [(0, f"{i}\n", "") for i in range(20)]
    masu.check_consistent(brood)
    masu.close()


def test_one_of_many_gets_the_name(masu: Chaos) -> None:
    found = results([masu.start(*masu.run_words("-d", "--name", "box", "busybox", "sleep", "600")) for _ in range(6)])
    assert sorted(status for status, _, _ in found) == [0, 125, 125, 125, 125, 125], found
    for status, _, text in found:
        assert status == 0 or "box: already exists" in text, text
    assert len(masu.ids()) == 1
    one_error(masu.fails("create", "--name", "box", "busybox"), "box", "already exists")
    masu("create", "--name", "other", "busybox")
    one_error(masu.fails("rename", "other", "box"), "box", "already exists")


def test_many_starts_of_one_container(masu: Chaos) -> None:
    masu("create", "--cgroup-parent", masu.cgroup, "--name", "box", "busybox", "sleep", "600")
    for _ in range(3):
        found = results([masu.start("start", "box") for _ in range(5)])
        assert [status for status, _, _ in found] == [0] * 5, found  # Docker's: starting what runs is no error
        assert masu("top", "box").count("\n") == 2
        found = results([masu.start("stop", "-t", "0", "box") for _ in range(5)])
        assert [status for status, _, _ in found] == [0] * 5, found
        assert masu.status("box") == "exited"


def test_many_removals_of_one_container(masu: Chaos, brood: Brood) -> None:
    for _ in range(3):
        masu.run_detached("box", "busybox", "sleep", "600")
        found = results([masu.start("rm", "-f", "box") for _ in range(6)])
        assert [status for status, _, _ in found] == [0] * 6, found
        brood.wait_gone()
        assert masu.ids() == []


def test_everybody_at_one_container(masu: Chaos, brood: Brood) -> None:
    """Whoever comes when, the container is in one state afterwards and every error is a sentence."""
    luck = random.Random(5)
    verbs = [
        ["start", "box"], ["stop", "-t", "0", "box"], ["restart", "-t", "0", "box"], ["kill", "box"], ["pause", "box"],
        ["unpause", "box"], ["exec", "box", "true"], ["ps", "-a"], ["inspect", "box"], ["logs", "box"],
        ["top", "box"], ["rename", "box", "box2"], ["rename", "box2", "box"], ["rm", "-f", "box"],
    ]  # fmt: skip
    for _ in range(6):
        masu.run_detached("box", "busybox", "sleep", "600")
        chosen = [luck.choice(verbs) for _ in range(10)]
        found = results([masu.start(*words, stdin=-3) for words in chosen])
        for words, (status, _, text) in zip(chosen, found, strict=True):
            assert status in (0, 1, 137), f"{words}: {status} {text}"
        masu.check_consistent(brood)


def test_rm_against_start(masu: Chaos, brood: Brood) -> None:
    for _ in range(8):
        masu("create", "--cgroup-parent", masu.cgroup, "--name", "box", "busybox", "sleep", "600")
        found = results([masu.start("start", "box"), masu.start("rm", "box")])
        ids = masu.ids()
        if ids:
            assert found[0][0] == 0, found
            assert masu.status("box") == "running", found
            masu("rm", "-f", "box")
        else:
            assert found[1][0] == 0, found
        brood.wait_gone()


def test_exec_into_a_container_that_ends(masu: Chaos, brood: Brood) -> None:
    for i in range(8):
        masu.run_detached("box", "busybox", "sleep", "600")
        session = masu.start("exec", "box", "sleep", "600")
        wait_exit(session, 0.012 * i)
        masu("kill", "box")
        ((status, _, text),) = results([session])
        assert status in (1, 137, 255), text
        if status == 1:
            assert "box" in text or "container" in text, text
        brood.wait_gone()
        masu("rm", "box")


def test_rm_while_somebody_is_attached(masu: Chaos, brood: Brood) -> None:
    running = masu.start(*masu.run_words("-i", "--name", "box", "busybox", "sh", "-c", "echo up; cat"))
    assert running.stdout
    assert running.stdout.readline() == b"up\n"
    following = masu.start("logs", "-f", "box")
    waiting = masu.start("wait", "box")
    assert following.stdout
    assert following.stdout.readline() == b"up\n"
    masu("rm", "-f", "box")
    for process in (running, following, waiting):
        process.communicate(timeout=30)
    assert running.returncode == 137
    brood.wait_gone()
    assert masu.ids() == []


def test_pulls_runs_and_removals_of_one_image(masu: Chaos) -> None:
    import images

    layout = str(images.layout("busybox"))
    several = [masu.start("load", "-i", layout) for _ in range(3)]
    several += [masu.start(*masu.run_words("--rm", "--pull", "never", "busybox", "true"), stdin=-3) for _ in range(3)]
    several += [masu.start("rmi", "busybox") for _ in range(2)]
    for process in several:
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err.decode(), err.decode()
        assert process.returncode in (0, 1, 125), err.decode()
    masu("load", "-i", layout)
    masu("tag", masu("images", "-q").split()[0], "busybox")
    assert masu(*masu.run_words("--rm", "busybox", "echo", "whole")) == "whole\n"


# --- not root ---

NOBODY = 65534


def test_not_root(tmp_path: Path, brood: Brood) -> None:
    """Rootless use comes later; until then every command says so in one sentence, and makes nothing."""
    masu = Chaos(tmp_path)
    tmp_path.chmod(0o755)
    masu("ps")
    before = sorted(tmp_path.rglob("*"))
    for words in (["ps"], ["images"], ["pull", "127.0.0.1:1/x"], ["rm", "-f", "box"]):
        said = masu.fails(*words, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
        one_error(said, "root", "permission denied")
    said = masu.fails("run", "--rm", "host", "true", status=125, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
    one_error(said, "root")
    assert sorted(tmp_path.rglob("*")) == before


def test_not_root_with_a_state_directory_of_ones_own(tmp_path: Path, brood: Brood) -> None:
    masu = Chaos(tmp_path)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    mine = tmp_path / "mine"
    mine.mkdir()
    os.chown(mine, NOBODY, NOBODY)
    masu.root, masu.run = mine / "root", mine / "run"
    done = masu.try_("run", "--rm", "host", "echo", "hi", user=NOBODY, group=NOBODY, extra_groups=[], cwd="/")
    if done.returncode:
        assert done.returncode == 125
        one_error(done.stderr, "root")
    else:
        assert done.stdout == "hi\n"
    brood.wait_gone()
    assert masu.try_("ps", "-aq", user=NOBODY, group=NOBODY, extra_groups=[], cwd="/").stdout == ""


# --- the outcome of a start that fails is no container that hangs about ---


def test_failed_start_leaves_a_container_that_says_why(masu: Chaos, brood: Brood) -> None:
    one_error(masu.fails(*masu.run_words("--name", "box", "busybox", "nosuch"), status=127), "nosuch")
    brood.wait_gone()
    state = masu.inspect("box")["State"]
    assert state["Status"] == "created"
    assert "nosuch" in state["Error"]
    assert masu.cgroups() == []
    one_error(masu.fails("start", "box"), "nosuch")
    masu("rm", "box")


def test_stdin_closed_and_reader_gone(masu: Chaos, brood: Brood) -> None:
    """A container that writes into a pipe whose reader is gone does not hang its monitor."""
    running = masu.start(*masu.run_words("--name", "box", "busybox", "sh", "-c", "yes | head -c 2000000; exit 4"))
    finish(running)
    wait_until(lambda: masu.status("box") == "exited")
    assert masu("wait", "box") == "4\n"
