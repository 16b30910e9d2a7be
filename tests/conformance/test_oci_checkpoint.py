"""checkpoint and restore: a container goes on where it was, by CRIU."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.checkpoints import Box, Talk, dumped, full, mounted
from harness.oci import Runtime, wait_exited
from harness.pty import Terminal
from images.rootfs import copy

pytestmark = pytest.mark.root


def test_goes_on_where_it_was(runtime: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    box, before, after = Box(runtime, busybox), talks(), talks()
    box.run(before)
    assert before.say("one") == "1 one"
    pid = box.pid
    box.checkpoint()
    wait_exited(pid)
    assert runtime("list", "-q").stdout == ""
    assert box.cgroups() == []
    descriptors = json.loads((box.images / "descriptors.json").read_text())
    assert [name.partition("[")[0] for name in descriptors] == ["pipe:"] * 3
    assert (box.images / "inventory.img").exists()
    assert (box.work / "dump.log").exists()

    box.restore(after)
    state = runtime.state(box.id)
    assert (state["status"], state["bundle"], state["rootfs"]) == ("running", box.bundle, str(busybox))
    assert after.say("two") == "2 two"
    assert runtime("exec", box.id, "/bin/echo", "here").stdout == "here\n"
    if runtime.name == "masu-oci":
        assert mounted(runtime.folder) == []
    assert sorted(path.name for path in box.cgroups()) != []
    runtime("kill", box.id, "KILL")
    wait_exited(state["pid"])
    runtime("delete", box.id)
    assert box.cgroups() == []


def test_again_and_again(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    box, talk = Box(masu_oci, busybox), talks()
    box.run(talk)
    for number in range(1, 4):
        assert talk.say("x") == f"{number} x"
        box.checkpoint()
        talk = talks()
        box.restore(talk, "--pid-file", str(masu_oci.folder / "pid"))
        assert int((masu_oci.folder / "pid").read_text()) == box.pid
    assert talk.say("x") == "4 x"


def test_left_running(runtime: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    box, talk, other = Box(runtime, busybox), talks(), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    pid = box.pid
    box.checkpoint("--leave-running")
    assert (runtime.state(box.id)["status"], box.pid) == ("running", pid)
    assert talk.say("two") == "2 two"
    # And a second one out of the same checkpoint, as it was then.
    twin = Box(runtime, busybox)
    twin.restore(other)
    assert other.say("three") == "2 three"


def test_in_the_foreground(runtime: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    box, before, after = Box(runtime, busybox), talks(), talks()
    box.run(before)
    assert before.say("one") == "1 one"
    box.checkpoint()
    flags = ["--bundle", box.bundle, "--image-path", str(box.images), "--work-path", str(box.work)]
    waiting = subprocess.Popen([*runtime.command, "restore", *flags, box.id], **after.stdio())
    try:
        after.given_away()
        assert after.say("two") == "2 two"
        after.hang_up()
        assert waiting.wait(20) == 7
    finally:
        waiting.kill()
        waiting.wait()
    assert runtime("list", "-q").stdout == ""


def test_paused(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    box, before, after = Box(masu_oci, busybox), talks(), talks()
    box.run(before)
    assert before.say("one") == "1 one"
    masu_oci("pause", box.id)
    box.checkpoint()
    box.restore(after)
    assert after.say("two") == "2 two"


@pytest.mark.parametrize(("first", "second"), [("runc", "masu-oci"), ("masu-oci", "runc")])
def test_either_restores_what_the_other_wrote(
    criu: str, busybox: Path, tmp_path: Path, talks: Callable[[], Talk], first: str, second: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("from outside\n")
    for name in (first, second):
        (tmp_path / name).mkdir()
    runtimes = [Runtime(first, tmp_path / first), Runtime(second, tmp_path / second)]

    def with_bind(config: dict[str, Any]) -> None:
        bind = {"destination": "/tmp/there", "type": "bind", "source": str(source), "options": ["rbind", "ro"]}
        config["mounts"].append(bind)

    shared = copy(busybox, tmp_path / "rootfs")
    try:
        box, talk, other = Box(runtimes[0], shared, with_bind), talks(), talks()
        box.run(talk)
        assert talk.say("one") == "1 one"
        box.checkpoint()
        again = Box(runtimes[1], shared, with_bind)
        again.images = box.images
        again.restore(other)
        assert other.say("two") == "2 two"
        assert runtimes[1]("exec", again.id, "/bin/cat", "/tmp/there/file").stdout == "from outside\n"
    finally:
        for runtime in runtimes:
            runtime.close()


def test_a_bind_of_the_containers_own(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    """Its source is on a mount that an earlier line has made; another one names its destination by the host's path."""

    def own(config: dict[str, Any]) -> None:
        config["mounts"] += [
            {"destination": "/home", "type": "bind", "source": f"{busybox}/dev/shm", "options": ["bind"]},
            {"destination": f"{busybox}/root", "type": "bind", "source": "/usr/share", "options": ["bind", "ro"]},
        ]

    box, talk, after = Box(masu_oci, busybox, own), talks(), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    masu_oci("exec", box.id, "/bin/sh", "-c", "echo kept > /dev/shm/kept")
    box.checkpoint()
    box.restore(after)
    assert after.say("two") == "2 two"
    assert masu_oci("exec", box.id, "/bin/sh", "-c", "cat /home/kept; ls -d /root/doc").stdout == "kept\n/root/doc\n"


def test_stdio_that_has_moved(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    """What the shell was born with as 0 it holds at another number, while 0 is a file for a loop."""

    def moved(config: dict[str, Any]) -> None:
        script = "exec 5<&0; n=0; while read line <&5; do n=$((n + 1)); echo $n $line; done < /etc/passwd"
        config["process"]["args"] = ["/bin/sh", "-c", script]

    box, talk = Box(masu_oci, busybox, moved), talks()
    box.run(talk)
    for number in range(1, 4):
        assert talk.say("x") == f"{number} x"
        box.checkpoint()
        talk = talks()
        box.restore(talk)


def test_stdio_on_the_host(masu_oci: Runtime, criu: str, busybox: Path) -> None:
    """A log file and /dev/null, as `masu-oci run -d >log` gives them."""
    box = Box(masu_oci, busybox, lambda config: config["process"].update(args=["/bin/sleep", "1000"]))
    masu_oci("run", "-d", "--bundle", box.bundle, box.id)
    box.checkpoint()
    log = masu_oci.folder / "log"
    with log.open("wb") as file:
        masu_oci(
            "restore", "-d", "--bundle", box.bundle, "--image-path", str(box.images), box.id, stdout=file, stderr=file
        )
    assert os.readlink(f"/proc/{box.pid}/fd/1") == str(log)


def test_hooks_and_a_bind_below_a_bind(
    masu_oci: Runtime, criu: str, own_busybox: Path, tmp_path: Path, talks: Callable[[], Talk]
) -> None:
    outer, inner, seen = tmp_path / "outer", tmp_path / "inner", tmp_path / "seen"
    outer.mkdir()
    inner.mkdir()
    (own_busybox / "link").symlink_to("/real/place")

    def change(config: dict[str, Any]) -> None:
        for source, destination in ((outer, "/link"), (inner, "/link/for/nested")):
            bind = {"destination": destination, "type": "bind", "source": str(source), "options": ["bind"]}
            config["mounts"].append(bind)
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >> {seen}; echo >> {seen}"], "env": ["PATH=/bin"]}
        config["hooks"] = {"createRuntime": [hook]}

    (own_busybox / "real/place").mkdir(parents=True)
    box, after = Box(masu_oci, own_busybox, change), talks()
    dumped(box, talks())
    # Mount points that a create has made are made anew where they are missing.
    shutil.rmtree(outer / "for")
    shutil.rmtree(own_busybox / "sys")
    box.restore(after)
    assert after.say("two") == "2 two"
    (inner / "file").write_text("inside\n")
    assert masu_oci("exec", box.id, "/bin/cat", "/real/place/for/nested/file").stdout == "inside\n"
    states = [json.loads(line) for line in seen.read_text().splitlines()]
    assert [state["status"] for state in states] == ["creating", "creating"]
    assert states[1]["pid"] == box.pid


def test_all_that_a_container_can_have(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    box, after = Box(masu_oci, busybox, full), talks()
    before = talks()
    box.run(before)
    assert before.say("one") == "1 one"
    masu_oci("exec", box.id, "/bin/sh", "-c", "echo kept > /tmp/kept")
    shown = sorted(line.split(" ", 3)[3] for line in mounts_inside(box))
    box.checkpoint()
    box.restore(after)
    assert after.say("two") == "2 two"
    assert masu_oci("exec", box.id, "/bin/cat", "/tmp/kept").stdout == "kept\n"
    assert sorted(line.split(" ", 3)[3] for line in mounts_inside(box)) == shown
    assert "UP" in masu_oci("exec", box.id, "/bin/ip", "link", "show", "lo").stdout


def mounts_inside(box: Box) -> list[str]:
    return Path(f"/proc/{box.pid}/mountinfo").read_text().splitlines()


def receive_terminal(path: Path) -> tuple[socket.socket, Callable[[], int]]:
    """A console socket, and how to take the terminal that arrives there."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def take() -> int:
        server.settimeout(20)
        connection, _ = server.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        os.set_blocking(fds[0], True)
        return fds[0]

    return server, take


def shown(master: int, text: str) -> str:
    """What the terminal shows, once `text` is among it."""
    poll = select.poll()
    poll.register(master, select.POLLIN)
    seen = ""
    while text not in seen:
        assert poll.poll(20_000), f"only {seen!r}"
        seen += os.read(master, 4096).decode()
    return seen


def test_a_terminal(runtime: Runtime, criu: str, busybox: Path, tmp_path: Path) -> None:
    box = Box(runtime, busybox, lambda config: config["process"].update(terminal=True))
    server, take = receive_terminal(tmp_path / "console")
    with server:
        runtime("run", "-d", "--console-socket", str(tmp_path / "console"), "--bundle", box.bundle, box.id)
        master = take()
        os.write(master, b"one\n")
        shown(master, "1 one")
        box.checkpoint()
        os.close(master)
        for number in (2, 3):
            places = ("--image-path", str(box.images), "--work-path", str(box.work))
            flags = ("--console-socket", str(tmp_path / "console"), "--bundle", box.bundle)
            runtime("restore", "-d", *flags, *places, box.id)
            master = take()
            os.write(master, b"again\n")
            shown(master, f"{number} again")
            box.checkpoint()
            os.close(master)


def test_a_terminal_that_nobody_asked_for(masu_oci: Runtime, criu: str, busybox: Path, tmp_path: Path) -> None:
    box = Box(masu_oci, busybox, lambda config: config["process"].update(terminal=True))
    server, take = receive_terminal(tmp_path / "console")
    with server:
        masu_oci("run", "-d", "--console-socket", str(tmp_path / "console"), "--bundle", box.bundle, box.id)
        master = take()
        box.checkpoint()
        os.close(master)
    other = Box(masu_oci, busybox)
    other.images = box.images
    assert "the checkpoint is of a container with a terminal" in other.refused()


def test_a_terminal_in_the_foreground(masu_oci: Runtime, criu: str, busybox: Path, tmp_path: Path) -> None:
    box = Box(masu_oci, busybox, lambda config: config["process"].update(terminal=True))
    server, take = receive_terminal(tmp_path / "console")
    with server:
        masu_oci("run", "-d", "--console-socket", str(tmp_path / "console"), "--bundle", box.bundle, box.id)
        master = take()
        os.write(master, b"one\n")
        shown(master, "1 one")
        box.checkpoint()
        os.close(master)
    places = ["--image-path", str(box.images), "--work-path", str(box.work), "--bundle", box.bundle]
    with Terminal([*masu_oci.command, "restore", *places, box.id], rows=33, columns=77) as terminal:
        terminal.type("two\n")
        terminal.wait_for("2 two")
        size = masu_oci("exec", box.id, "/bin/sh", "-c", "stty size < /dev/pts/0")
        assert size.stdout.split() == ["33", "77"]
        terminal.type("\x04")
        assert terminal.wait() == 7
    assert masu_oci("list", "-q").stdout == ""


def test_an_external_network_namespace(runtime: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    # Kept by nothing but a process of ours: no name of it stays behind.
    command = ["unshare", "--net", "sh", "-c", "echo there; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"there\n"
        path = Path(f"/proc/{keeper.pid}/ns/net")
        inode = os.readlink(path)

        def change(config: dict[str, Any]) -> None:
            network = next(space for space in config["linux"]["namespaces"] if space["type"] == "network")
            network["path"] = str(path)

        try:
            box, after = Box(runtime, busybox, change), talks()
            dumped(box, talks())
            box.restore(after)
            assert after.say("two") == "2 two"
            assert os.readlink(f"/proc/{box.pid}/ns/net") == inode
        finally:
            keeper.kill()
