"""checkpoint and restore: what reaches CRIU, from flags, configuration and the machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.callers import document
from harness.callers.podman import Podman
from harness.checkpoints import COUNTER, Box, Talk, below_cgroups, dumped, free_port, running, served_later
from harness.engine import wait_until
from harness.oci import Runtime
from harness.programs import peer
from harness.servicemanager import Manager
from images.rootfs import rootfs

pytestmark = pytest.mark.root

SECTION = "Checkpoint and restore"  # of docs/oci-runtime.md


# Each line goes through what has to survive: a connection with oneself, and the lock is held.
HOLDER = """
import fcntl, socket, sys
server = socket.create_server(("127.0.0.1", 1234))
there = socket.create_connection(("127.0.0.1", 1234))
here = server.accept()[0]
file = open("/tmp/file", "w")
fcntl.flock(file, fcntl.LOCK_EX)
for number, line in enumerate(sys.stdin, 1):
    there.sendall(line.encode())
    print(number, here.recv(4096).decode().strip(), flush=True)
"""


def test_flags_reach_criu(masu_oci: Runtime, criu: str, talks: Callable[[], Talk]) -> None:
    """What CRIU refuses without a flag it takes with it. (runc leaves the loopback device down: nothing comes back.)"""
    peer("iptables")  # CRIU holds a connection still by it

    def holding(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
        config["process"].update(args=["/usr/local/bin/python3", "-c", HOLDER])

    box, talk, after = Box(masu_oci, rootfs("python"), holding), talks(), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    for number, flag in enumerate(["--link-remap", "--tcp-established", "--file-locks"], 2):
        assert box.checkpoint(flag, check=False).returncode != 0
        assert talk.say("still") == f"{number} still"
    flags = ["--tcp-established", "--file-locks"]
    box.checkpoint(*flags)
    box.restore(after, *flags)
    assert after.say("again") == "5 again"


# The same connection with oneself, whose end is news as well.
CONNECTED = """
import socket, sys
server = socket.create_server(("127.0.0.1", 1234))
there = socket.create_connection(("127.0.0.1", 1234))
here = server.accept()[0]
for number, line in enumerate(sys.stdin, 1):
    try:
        there.sendall(line.encode())
        print(number, here.recv(4096).decode().strip(), flush=True)
    except OSError as error:
        print(number, type(error).__name__, flush=True)
"""


def test_connections_held_and_closed(masu_oci: Runtime, criu: str, talks: Callable[[], Talk], tmp_path: Path) -> None:
    """crun's --network-lock and --tcp-close. CRIU looks for iptables-restore in PATH, unless it is not to lock."""

    def connected(config: dict[str, Any]) -> None:
        config["process"].update(args=["/usr/local/bin/python3", "-c", CONNECTED])

    (tmp_path / "bin").mkdir()
    for program in (criu, peer("tar"), peer("gzip")):
        (tmp_path / "bin" / Path(program).name).symlink_to(program)
    box, talk, after = Box(masu_oci, rootfs("python"), connected), talks(), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    words = ["checkpoint", "--leave-running", "--tcp-established", "--image-path", str(box.images)]
    for number, (method, status) in enumerate({"iptables": 1, "skip": 0}.items(), 2):
        env = {"PATH": str(tmp_path / "bin")}
        assert masu_oci(*words, "--network-lock", method, box.id, env=env, check=False).returncode == status
        assert talk.say("still") == f"{number} still"
    box.checkpoint("--tcp-established")
    box.restore(after, "--tcp-close")
    assert after.say("again") in ("4 BrokenPipeError", "4 ConnectionResetError")


def test_pages_that_are_taken_later(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    """--lazy-pages: the fd is told when the memory may be taken; when who took it hangs up, all is done."""
    box, talk = Box(masu_oci, busybox), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    with served_later(box) as (port, dumping):
        assert (box.images / "inventory.img").exists()
        socket.create_connection(("127.0.0.1", port)).close()
        assert dumping.wait(20) == 0
    assert masu_oci("list", "-q").stdout == ""


def test_pages_that_are_drawn_by_the_restored(
    masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]
) -> None:
    """--lazy-pages at both ends, with CRIU's own daemon between them: the memory comes when it is touched."""
    box, twin, before, after = Box(masu_oci, busybox), Box(masu_oci, busybox), talks(), talks()
    checked = subprocess.run([criu, "check", "--feature", "uffd-noncoop"], capture_output=True, check=False)
    if checked.returncode != 0:
        pytest.skip("this kernel has no userfaultfd that CRIU can use")
    box.run(before)
    assert before.say("one") == "1 one"
    twin.images, twin.work = box.images, box.images
    with served_later(box) as (port, dumping):
        listening, said = os.pipe()
        command = [criu, "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", str(port)]
        command += ["-D", str(box.images), "-W", str(box.images), "--status-fd", str(said)]
        with running(command, said) as daemon:
            os.close(said)
            with os.fdopen(listening, "rb") as told:
                assert told.read(1) == b"\0"
            twin.restore(after, "--lazy-pages")
            assert after.say("two") == "2 two"
            assert daemon.wait(30) == 0
        assert dumping.wait(30) == 0
    assert masu_oci("list", "-q").stdout == f"{twin.id}\n"
    assert after.say("three") == "3 three"


def test_of_a_service(
    masu_oci: Runtime,
    criu: str,
    own_busybox: Path,
    probe: Path,
    talks: Callable[[], Talk],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a NOTIFY_SOCKET: its directory, which config.json has not, goes along."""
    shutil.copy(probe, own_busybox / "bin/probe")

    def telling(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/bin/sh", "-c", f"/bin/probe notify READY=1; {COUNTER}"]

    box, before, after = Box(masu_oci, own_busybox, telling), talks(), talks()
    address = str(masu_oci.folder / "manager")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        heard = threading.Thread(target=hear_until_the_barrier, args=(manager,))
        heard.start()
        with monkeypatch.context() as environment:
            environment.setenv("NOTIFY_SOCKET", address)
            box.run(before)
        heard.join(20)
    assert before.read() == "ok"
    assert before.say("one") == "1 one"
    box.checkpoint()
    box.restore(after)
    assert after.say("two") == "2 two"
    assert masu_oci("exec", box.id, "/bin/ls", "/run/notify").stdout == ""
    box.checkpoint()
    again = talks()
    box.restore(again)
    assert again.say("three") == "3 three"


def hear_until_the_barrier(manager: socket.socket) -> None:
    word = b""
    while word != b"BARRIER=1":
        word, fds, _, _ = socket.recv_fds(manager, 4096, 4)
        for fd in fds:
            os.close(fd)


def test_sockets_from_outside_are_refused(
    masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]
) -> None:
    """LISTEN_FDS: what listens on the host is not the container's to be written down; it runs on."""
    box, talk = Box(masu_oci, busybox), talks()
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
        command = ["sh", "-c", script, "sh", *masu_oci.command, "run", "-d", "--bundle", box.bundle, box.id]
        subprocess.run(
            command, check=True, pass_fds=(3,), preexec_fn=lambda: os.dup2(server.fileno(), 3), **talk.stdio()
        )
        talk.given_away()
        assert talk.say("one") == "1 one"
        done = box.checkpoint(check=False)
    assert done.returncode == 1
    assert "criu failed: type DUMP" in done.stderr
    assert talk.say("two") == "2 two"


def test_a_page_server(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    box, talk, after = Box(masu_oci, busybox), talks(), talks()
    box.run(talk)
    assert talk.say("one") == "1 one"
    box.images.mkdir()
    port = free_port()
    listening, said = os.pipe()
    # It writes a byte to the fd when it listens.
    command = [criu, "page-server", "--address", "127.0.0.1", "--port", str(port), "-D", str(box.images)]
    command += ["--status-fd", str(said)]
    with running(command, said) as server:
        os.close(said)
        with os.fdopen(listening, "rb") as told:
            assert told.read(1) == b"\0"
        box.checkpoint("--page-server", f"127.0.0.1:{port}")
        assert server.wait(20) == 0
    box.restore(after)
    assert after.say("two") == "2 two"


def test_what_the_kernel_lacks_is_said(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    """A pre-dump needs the kernel to note which pages are written (CONFIG_MEM_SOFT_DIRTY)."""
    box, talk, after = Box(masu_oci, busybox), talks(), talks()
    box.run(talk)
    tracked = subprocess.run([criu, "check", "--feature", "mem_dirty_track"], capture_output=True, check=False)
    before = str(masu_oci.folder / "before")
    dumped_before = masu_oci("checkpoint", "--pre-dump", "--image-path", before, box.id, check=False)
    assert talk.say("one") == "1 one"
    if tracked.returncode != 0:
        assert "criu is missing features: [MemTrack]" in dumped_before.stderr
        return
    assert dumped_before.returncode == 0
    box.checkpoint("--parent-path", "../before")
    assert (box.images / "parent").is_symlink()
    box.restore(after)
    assert after.say("two") == "2 two"


def test_crius_own_configuration(runtime: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    file = runtime.folder / "criu.conf"
    file.write_text("log-file another.log\n")

    def annotated(config: dict[str, Any]) -> None:
        config["annotations"] = {"org.criu.config": str(file)}

    box, after = Box(runtime, busybox, annotated), talks()
    dumped(box, talks())
    assert (box.work / "another.log").exists()
    assert not (box.work / "dump.log").exists()
    (box.work / "another.log").unlink()
    box.restore(after)
    assert (box.work / "another.log").exists()


@pytest.mark.parametrize("mode", ["", "soft", "ignore"])
def test_into_another_cgroup(runtime: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk], mode: str) -> None:
    def placed(config: dict[str, Any]) -> None:
        config["linux"]["cgroupsPath"] = f"/masu-test-placed/{name}"
        config["linux"]["resources"] = {"pids": {"limit": 20}, "memory": {"limit": 64 << 20}}

    name = "first"
    first, after = Box(runtime, busybox, placed), talks()
    dumped(first, talks())
    name = "second"
    second = Box(runtime, busybox, placed)
    second.images = first.images
    second.restore(after, *(["--manage-cgroups-mode", mode] if mode else []))
    assert after.say("two") == "2 two"
    groups = Path(f"/proc/{second.pid}/cgroup").read_text().splitlines()
    its = next((line for line in groups if ":pids:" in line), groups[-1])  # v2 alone has but one line
    if runtime.name == "runc" and its.startswith("0::"):
        pytest.skip("runc 1.1 tells CRIU of no cgroup on v2: the container is where the first was")
    assert its.endswith(":/masu-test-placed/second")
    (limit,) = below_cgroups("masu-test-placed/second/pids.max")
    assert limit.read_text() == "20\n"
    runtime("delete", "--force", second.id)
    for folder in below_cgroups("masu-test-placed"):
        assert list(folder.glob("*/")) == []
        folder.rmdir()


def test_with_a_user_namespace(masu_oci: Runtime, criu: str, own_busybox: Path, talks: Callable[[], Talk]) -> None:
    def mapped(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uid", "gid"):
            config["linux"][f"{kind}Mappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]

    subprocess.run(["chown", "-R", "100000:100000", own_busybox], check=True)
    box, after = Box(masu_oci, own_busybox, mapped), talks()
    dumped(box, talks())
    assert "root of the container's user namespace must be able to read them" in box.refused()
    subprocess.run(["chmod", "-R", "a+rX", box.images], check=True)
    box.restore(after)
    assert after.say("two") == "2 two"
    assert Path(f"/proc/{box.pid}/uid_map").read_text().split() == ["0", "100000", "1000"]


def test_with_a_cgroup_namespace(masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk]) -> None:
    def spaced(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "cgroup"})
        config["mounts"].append(
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}
        )

    options: list[str] = []
    box, after = Box(masu_oci, busybox, spaced), talks()
    dumped(box, talks())
    box.restore(after)
    assert after.say("two") == "2 two"
    assert os.readlink(f"/proc/{box.pid}/ns/cgroup") != os.readlink("/proc/self/ns/cgroup")
    box.checkpoint()
    # Without managing cgroups CRIU makes no namespace for them, and mounts what the host has.
    ignore = ["--manage-cgroups-mode", "ignore"]
    assert "shows a cgroup that is not the container's" in box.refused(*ignore)
    options = ["ro"]
    box, after = Box(masu_oci, busybox, spaced), talks()
    dumped(box, talks())
    box.restore(after, *ignore)
    assert after.say("two") == "2 two"


def test_a_service_goes_on(
    masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk], tmp_path: Path
) -> None:
    """It has been ready before, and will not say so again: restore does. Sockets of LISTEN_FDS are not its."""
    box, talk, after = Box(masu_oci, busybox), talks(), talks()
    with Manager(str(tmp_path / "manager")) as manager:
        masu_oci("create", "--bundle", box.bundle, box.id, env=manager.env, **talk.stdio())
        masu_oci("start", box.id)
        talk.given_away()
        assert talk.say("one") == "1 one"
        box.checkpoint()
        assert "NOTIFY_SOCKET" in box.refused()
        restoring = subprocess.Popen(
            [*masu_oci.command, *box.restoring(), "--bundle", box.bundle, box.id],
            env={**manager.env, "LISTEN_FDS": "1"}, **after.stdio(),
        )  # fmt: skip
        assert manager.take_ready() == str(box.pid)
        barrier = manager.take_barrier()
        assert restoring.poll() is None
        os.close(barrier)
        assert restoring.wait(30) == 0
        assert "LISTEN_FDS: not passed on" in after.said_wrong()
        after.given_away()
        assert after.say("two") == "2 two"
        assert masu_oci("exec", box.id, "ls", "/run/notify").stdout == ""


def test_podman_container_checkpoint(criu: str, podman: Podman, tmp_path: Path) -> None:
    """Restored in place, and as another container out of an exported archive."""
    script = "n=0; while read line; do n=$((n + 1)); echo $n $line; done < /fifo"
    start = f"mkfifo /fifo; exec 3<>/fifo; {script}"
    podman(*podman.own("run", "-d", "--name", "counter"), "busybox", "sh", "-c", start)

    def say(name: str, line: str, answer: str) -> None:
        podman("exec", name, "sh", "-c", f"echo {line} > /fifo")
        wait_until(lambda: answer in podman("logs", name))

    say("counter", "one", "1 one")
    podman("container", "checkpoint", "counter")
    assert podman("inspect", "-f", "{{.State.Status}}", "counter").strip() == "exited"
    podman("container", "restore", "counter")
    say("counter", "two", "2 two")
    names = {"box.tar.gz": str(tmp_path / "box.tar.gz"), "box": "counter"}
    checkpoint, restore = ([names.get(word, word) for word in words] for words in document.commands(SECTION))
    podman(*checkpoint[1:])
    podman("rm", "-f", "-t", "0", "counter")
    podman(*restore[1:])
    say("again", "three", "3 three")
    podman("rm", "-f", "-t", "0", "again")


@pytest.mark.parametrize("kinds", [("network",), ("pid",), ("ipc", "uts"), ("network", "ipc", "uts")], ids="-".join)
def test_namespaces_of_a_pod(
    masu_oci: Runtime, criu: str, busybox: Path, talks: Callable[[], Talk], kinds: tuple[str, ...]
) -> None:
    """Joined by path, as a kubelet's containers join those of their sandbox: restored into the same."""
    sandbox = Box(masu_oci, busybox)
    idle = talks()
    sandbox.run(idle)
    files = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"}

    def joined(config: dict[str, Any]) -> None:
        del config["hostname"]
        for space in config["linux"]["namespaces"]:
            if space["type"] in kinds:
                space["path"] = f"/proc/{sandbox.pid}/ns/{files[space['type']]}"
        if "uts" not in kinds:
            config["hostname"] = "box"

    box, after = Box(masu_oci, busybox, joined), talks()
    dumped(box, talks())
    box.restore(after)
    assert after.say("two") == "2 two"
    for kind in kinds:
        link = f"ns/{files[kind]}"
        assert os.readlink(f"/proc/{box.pid}/{link}") == os.readlink(f"/proc/{sandbox.pid}/{link}")
    assert idle.say("still here") == "1 still here"
