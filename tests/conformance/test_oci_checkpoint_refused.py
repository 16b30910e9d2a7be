"""checkpoint and restore: what is refused, what a failure leaves, and checkpoints that lie."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.checkpoints import Box, Talk, dumped, full, mounted, served_later
from harness.oci import Runtime, wait_exited
from harness.programs import peer

pytestmark = pytest.mark.root


@pytest.mark.parametrize("status", ["created", "stopped"])
def test_only_what_runs(runtime: Runtime, probe_rootfs: Path, status: str) -> None:
    id = runtime.id()
    bundle = runtime.bundle(probe_rootfs, lambda config: config["process"].update(args=["/bin/probe", "sleep"]))
    runtime("create", "--bundle", str(bundle), id)
    if status == "stopped":
        pid = runtime.state(id)["pid"]
        runtime("kill", id, "KILL")
        wait_exited(pid)
    refused = runtime("checkpoint", "--image-path", str(runtime.folder / "images"), id, check=False)
    assert refused.returncode == 1
    assert f"Container cannot be checkpointed in {status} state" in refused.stderr


BAD_FLAGS = [
    (["--parent-path", "/absolute"], "--parent-path must be relative"),
    (["--parent-path", "../nobody"], "invalid --parent-path"),
    (["--manage-cgroups-mode", "some"], "invalid manage-cgroups-mode value"),
    (["--page-server", "here"], "Use --page-server ADDRESS:PORT to specify page server"),
    (["--page-server", "127.0.0.1:http"], "Invalid port number"),
    (["--empty-ns", "pid"], 'namespace "pid" is not supported'),
]


@pytest.mark.parametrize(("flags", "text"), BAD_FLAGS, ids=[" ".join(flags) for flags, _ in BAD_FLAGS])
def test_flags_refused(runtime: Runtime, busybox: Path, talks: Callable[[], Talk], flags: list[str], text: str) -> None:
    peer("criu")
    box, talk = Box(runtime, busybox), talks()
    box.run(talk)
    refused = box.checkpoint(*flags, check=False)
    assert refused.returncode == 1
    if runtime.name == "masu-oci" or "cgroups" not in flags[0]:  # runc 1.1 says this one in other words
        assert text in refused.stderr.replace('\\"', '"')
    assert talk.say("one") == "1 one"


def test_a_dump_that_fails_leaves_it_running(
    masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]
) -> None:
    box, talk = Box(masu_oci, busybox), talks()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # The other end of a socket is outside, and --ext-unix-sk is not given.
        stdio = {**talk.stdio(), "stdin": theirs.fileno()}
        assert masu_oci("run", "-d", "--bundle", box.bundle, box.id, check=False, **stdio).returncode == 0
        talk.given_away()
        ours.send(b"one\n")
        assert talk.read() == "1 one"
        refused = box.checkpoint(check=False)
        assert refused.returncode == 1
        assert "criu failed: type DUMP errno 0: " in refused.stderr
        assert f"CRIU's log: {box.work}/dump.log" in refused.stderr
        assert masu_oci.state(box.id)["status"] == "running"
        ours.send(b"two\n")
        assert talk.read() == "2 two"


def test_a_restore_that_fails_leaves_nothing(
    masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]
) -> None:
    box = Box(masu_oci, busybox)
    dumped(box, talks())
    core = next(box.images.glob("mm-*.img"))
    core.write_bytes(core.read_bytes()[:64])
    said = box.refused()
    assert "criu failed: type RESTORE" in said
    assert f"CRIU's log: {box.work}/restore.log" in said
    assert box.cgroups() == []
    assert mounted(masu_oci.folder) == []


def test_criu_is_killed(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    """It had frozen the container."""
    box, talk = Box(masu_oci, busybox), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    with served_later(box) as (_, dumping):
        os.kill(only_child(dumping.pid), signal.SIGKILL)
        assert dumping.wait(20) == 1
    assert masu_oci.state(box.id)["status"] == "running"
    assert talk.say("two") == "2 two"


def test_killed_while_it_writes_down(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    """CRIU is alone then. Asked before or after it had its last answer from us, it lets the container run on, or ends
    what it has written down: either way the next look tells which."""
    box, talk = Box(masu_oci, busybox), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    with served_later(box) as (port, dumping):
        child = only_child(dumping.pid)
        dumping.kill()
        dumping.wait()
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        wait_exited(child)
    if masu_oci.state(box.id)["status"] == "running":
        assert talk.say("two") == "2 two"
    else:
        assert masu_oci.state(box.id)["status"] == "stopped"
    masu_oci("delete", "--force", box.id)
    assert box.cgroups() == []


def only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def test_killed_while_it_restores(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    """What is left is found and cleaned by the next one of the same name."""
    mark = masu_oci.folder / "killed"
    script = f"[ -e {mark} ] || {{ touch {mark}; kill -9 $PPID; }}"

    def with_hook(config: dict[str, Any]) -> None:
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}
        config["hooks"] = {"createRuntime": [hook]}

    box, first, second = Box(masu_oci, busybox, with_hook), talks(), talks()
    mark.touch()
    dumped(box, talks())
    mark.unlink()
    flags = ["--bundle", box.bundle, "--image-path", str(box.images), "--work-path", str(box.work)]
    killed = masu_oci("restore", "-d", *flags, box.id, check=False, **first.stdio())
    assert killed.returncode == -signal.SIGKILL
    assert mounted(masu_oci.folder) == []
    box.restore(second)
    assert second.say("two") == "2 two"


def test_nothing_to_restore(masu_oci: Runtime, busybox: Path) -> None:
    box = Box(masu_oci, busybox)
    assert str(box.images) in box.refused()
    assert not box.images.exists()
    box.images.mkdir()
    assert "no descriptors.json" in box.refused()


def linked(images: Path, secret: Path) -> None:
    (images / "pages-1.img").symlink_to(secret)


def linked_log(images: Path, secret: Path) -> None:
    (images / "restore.log").symlink_to(secret)


def linked_descriptors(images: Path, secret: Path) -> None:
    (images / "descriptors.json").unlink()
    (images / "descriptors.json").symlink_to(secret)


def fifo(images: Path, secret: Path) -> None:
    os.mkfifo(images / "core-1.img")


def folder(images: Path, secret: Path) -> None:
    (images / "core-1.img").mkdir()


def parent_elsewhere(images: Path, secret: Path) -> None:
    (images / "parent").symlink_to("/etc")


def parent_above(images: Path, secret: Path) -> None:
    (images / "parent").symlink_to("../..")


def parent_by_a_link(images: Path, secret: Path) -> None:
    (images.parent / "beside").symlink_to(secret.parent)
    (images / "parent").symlink_to("../beside")


def parent_itself(images: Path, secret: Path) -> None:
    (images / "parent").symlink_to(".")


def parent_with_a_link(images: Path, secret: Path) -> None:
    (images.parent / "before").mkdir()
    (images.parent / "before/pages-1.img").symlink_to(secret)
    (images / "parent").symlink_to("../before")


def long_descriptors(images: Path, secret: Path) -> None:
    (images / "descriptors.json").write_text(json.dumps(["pipe:[1]"] * 10_000))


def many_descriptors(images: Path, secret: Path) -> None:
    (images / "descriptors.json").write_text(json.dumps(["pipe:[1]"] * 4))


def odd_descriptors(images: Path, secret: Path) -> None:
    (images / "descriptors.json").write_text('{"0": "pipe:[1]"}')


HOSTILE = [
    (linked, "no regular file"),
    (linked_log, "no regular file"),
    (linked_descriptors, "no regular file"),
    (fifo, "no regular file"),
    (folder, "no regular file"),
    (parent_elsewhere, "leads elsewhere"),
    (parent_above, "leads elsewhere"),
    (parent_by_a_link, "leads elsewhere"),
    (parent_itself, "parents on each other"),
    (parent_with_a_link, "no regular file"),
    (long_descriptors, "longer than"),
    (many_descriptors, "at most three names"),
    (odd_descriptors, "at most three names"),
]


@pytest.mark.parametrize(("change", "text"), HOSTILE, ids=[change.__name__ for change, _ in HOSTILE])
def test_a_checkpoint_is_not_believed(
    masu_oci: Runtime, busybox: Path, tmp_path: Path, change: Callable[[Path, Path], None], text: str
) -> None:
    """sec/CVE-2026-119101 and its kin: nothing outside is read or written for a link in a checkpoint."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    box = Box(masu_oci, busybox)
    box.images.mkdir()
    (box.images / "descriptors.json").write_text('["pipe:[1]", "pipe:[2]", "pipe:[3]"]')
    change(box.images, secret / "file")
    assert text in box.refused()
    assert (secret / "file").read_text() == "secret"


def writable(config: dict[str, Any]) -> None:
    config["mounts"][-2]["options"] = ["rbind"]


def writable_root(config: dict[str, Any]) -> None:
    config["root"]["readonly"] = False


def not_masked(config: dict[str, Any]) -> None:
    config["linux"]["maskedPaths"].remove("/proc/keys")


def not_readonly(config: dict[str, Any]) -> None:
    config["linux"]["readonlyPaths"].remove("/proc/irq")


def one_mount_more(config: dict[str, Any]) -> None:
    config["mounts"].append({"destination": "/var", "type": "debugfs", "source": "debugfs"})


def capable(config: dict[str, Any]) -> None:
    for names in config["process"]["capabilities"].values():
        names.append("CAP_NET_RAW")


def unfiltered(config: dict[str, Any]) -> None:
    del config["linux"]["seccomp"]


def may_gain(config: dict[str, Any]) -> None:
    config["process"]["noNewPrivileges"] = False


def on_the_hosts_network(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"].remove({"type": "network"})


def with_the_hosts_name(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"].remove({"type": "uts"})
    del config["hostname"]


GREEDY = [
    (writable, "/home is writable"),
    (not_masked, "/proc/keys is not so"),
    (not_readonly, "/proc/irq is not so"),
    (one_mount_more, "/var is a mount (debugfs)"),
    (capable, "CAP_NET_RAW"),
    (unfiltered, "it has no filter"),
    (on_the_hosts_network, "the host's network namespace"),
    (with_the_hosts_name, "the host's uts namespace"),
]


@pytest.mark.parametrize(("change", "text"), GREEDY, ids=[change.__name__ for change, _ in GREEDY])
def test_a_checkpoint_gets_no_more_than_the_configuration_gives(
    masu_oci: Runtime,
    criu: str,
    own_busybox: Path,
    tmp_path: Path,
    talks: Callable[[], Talk],
    change: Callable[[dict[str, Any]], None],
    text: str,
) -> None:
    """sec/CVE-2026-119101, sec/CVE-2026-115520: the images decide in which namespaces and mounts the processes are and
    what they may do; config.json says what they may be."""

    def modestly(config: dict[str, Any]) -> None:
        full(config)
        config["mounts"][-2]["source"] = str(source)  # on a file system that may be written to, as the root is

    source = tmp_path / "source"
    source.mkdir()

    def greedily(config: dict[str, Any]) -> None:
        modestly(config)
        change(config)

    greedy = Box(masu_oci, own_busybox, greedily)
    dumped(greedy, talks())
    box = Box(masu_oci, own_busybox, modestly)
    box.images = greedy.images
    said = box.refused()
    assert "does not fit config.json" in said
    assert text in said
    assert box.cgroups() == []


def test_a_root_is_read_only_where_the_configuration_says_so(
    masu_oci: Runtime, criu: str, own_busybox: Path, talks: Callable[[], Talk]
) -> None:
    """CRIU 3.17 forgets it; a later one does what the images say, and is refused when that is too much."""

    def readonly(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = True

    for images_say in (readonly, writable_root):
        first, box, after = Box(masu_oci, own_busybox, images_say), Box(masu_oci, own_busybox, readonly), talks()
        first.images = box.images = masu_oci.folder / images_say.__name__
        dumped(first, talks())
        places = ("--bundle", box.bundle, "--image-path", str(box.images))
        done = masu_oci("restore", "-d", *places, box.id, check=False, **after.stdio())
        if images_say is writable_root and done.returncode != 0:
            assert "/ is writable" in after.said_wrong()
            continue
        after.given_away()
        assert after.say("two") == "2 two"
        assert "Read-only file system" in masu_oci("exec", box.id, "/bin/touch", "/x", check=False).stderr


def test_none_may_gain_privileges_where_the_configuration_says_so(
    masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]
) -> None:
    """Whatever the images say, and a CRIU before 3.19 lets them say nothing."""
    greedy, after = Box(masu_oci, busybox, may_gain), talks()
    dumped(greedy, talks())
    box = Box(masu_oci, busybox)
    box.images = greedy.images
    box.restore(after)
    assert after.say("two") == "2 two"
    assert "NoNewPrivs:\t1\n" in Path(f"/proc/{box.pid}/status").read_text()


def test_mount_points_exchanged_by_links(
    masu_oci: Runtime, criu: str, own_busybox: Path, tmp_path: Path, talks: Callable[[], Talk]
) -> None:
    """sec/CVE-2026-119101: the name of one bind leads, in the root file system, to where another one is."""
    readable, precious = tmp_path / "readable", tmp_path / "precious"

    def change(config: dict[str, Any]) -> None:
        for source, destination, option in ((precious, "/a", "ro"), (readable, "/b/x", "rw")):
            source.mkdir(exist_ok=True)
            bind = {"destination": destination, "type": "bind", "source": str(source), "options": ["bind", option]}
            config["mounts"].append(bind)

    box = Box(masu_oci, own_busybox, change)
    dumped(box, talks())
    shutil.rmtree(own_busybox / "b")
    (own_busybox / "c").mkdir()
    (own_busybox / "c/x").symlink_to("/a")
    (own_busybox / "b").symlink_to("/c")
    assert "leads there too" in box.refused()


def test_a_container_that_moves_a_mount_point(
    masu_oci: Runtime, criu: str, own_busybox: Path, tmp_path: Path, talks: Callable[[], Talk]
) -> None:
    """The same from inside, before the dump: CRIU is not told of a mount that is not where it was put."""
    source = tmp_path / "source"
    source.mkdir()
    bind = {"destination": "/b/x", "type": "bind", "source": str(source), "options": ["bind"]}
    box, talk = Box(masu_oci, own_busybox, lambda config: config["mounts"].append(bind)), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    masu_oci("exec", box.id, "/bin/sh", "-c", "mv /b /old && mkdir -p /c/x && ln -s /c /b")
    refused = box.checkpoint(check=False)
    assert refused.returncode == 1
    assert "criu failed: type DUMP" in refused.stderr
    assert talk.say("two") == "2 two"
