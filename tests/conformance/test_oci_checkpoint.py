"""checkpoint and restore: a container goes on where it was, by CRIU; and what is refused of a checkpoint that lies."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, wait_exited
from harness.programs import peer
from images.rootfs import copy, rootfs

pytestmark = pytest.mark.root

# Counts the lines that it has read: what it says next tells whether its memory is its own.
COUNTER = "n=0; while read line; do n=$((n + 1)); echo $n $line; done; exit 7"


@pytest.fixture(scope="session")
def criu() -> str:
    """A CRIU that works on this kernel."""
    program = peer("criu")
    checked = subprocess.run([program, "check"], capture_output=True, text=True, check=False)
    if checked.returncode != 0:
        pytest.skip(f"criu check: {(checked.stdout + checked.stderr).strip().splitlines()[-1]}")
    return program


@pytest.fixture(scope="session")
def busybox() -> Path:
    return rootfs("busybox")


@pytest.fixture
def own_busybox(busybox: Path, tmp_path: Path) -> Path:
    return copy(busybox, tmp_path / "own-rootfs")


class Talk:
    """Three pipes: what a container has as stdin, stdout and stderr, and our ends of them."""

    def __init__(self) -> None:
        self.stdin, self.to = os.pipe()
        self.answers, self.stdout = os.pipe()
        self.errors, self.stderr = os.pipe()

    def stdio(self) -> dict[str, Any]:
        return {"stdin": self.stdin, "stdout": self.stdout, "stderr": self.stderr}

    def given_away(self) -> None:
        """The container has its ends; ours of the same are closed, so that an end can be seen."""
        for name in ("stdin", "stdout", "stderr"):
            os.close(getattr(self, name))
            setattr(self, name, -1)

    def say(self, line: str) -> str:
        """The answer to a line."""
        os.write(self.to, f"{line}\n".encode())
        return self.read()

    def read(self) -> str:
        poll = select.poll()
        poll.register(self.answers, select.POLLIN)
        assert poll.poll(20_000), "no answer"
        return os.read(self.answers, 4096).decode().strip()

    def said_wrong(self) -> str:
        os.set_blocking(self.errors, False)
        try:
            return os.read(self.errors, 65536).decode()
        except BlockingIOError:
            return ""

    def hang_up(self) -> None:
        os.close(self.to)
        self.to = -1

    def close(self) -> None:
        for fd in (self.stdin, self.to, self.answers, self.stdout, self.errors, self.stderr):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def talks() -> Iterator[Callable[[], Talk]]:
    made: list[Talk] = []

    def make() -> Talk:
        made.append(Talk())
        return made[-1]

    yield make
    for talk in made:
        talk.close()


class Box:
    """A counting container of one runtime, its bundle, and where its checkpoint goes."""

    def __init__(
        self, runtime: Runtime, rootfs: Path, change: Callable[[dict[str, Any]], object] | None = None
    ) -> None:
        def counting(config: dict[str, Any]) -> None:
            config["process"]["args"] = ["/bin/sh", "-c", COUNTER]
            if change is not None:
                change(config)

        self.runtime = runtime
        self.bundle = str(runtime.bundle(rootfs, counting))
        self.id = runtime.id()
        self.images = runtime.folder / "images"
        self.work = runtime.folder / "work"

    def run(self, talk: Talk) -> None:
        self._with(talk, "run", "-d")

    def checkpoint(self, *flags: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        places = ("--image-path", str(self.images), "--work-path", str(self.work))
        return self.runtime("checkpoint", *places, *flags, self.id, check=check)

    def restore(self, talk: Talk, *flags: str) -> None:
        self._with(talk, "restore", "-d", "--image-path", str(self.images), "--work-path", str(self.work), *flags)

    def refused(self, *flags: str) -> str:
        """A restore that has to fail; what it says."""
        done = self.runtime(
            "restore", "-d", "--bundle", self.bundle, "--image-path", str(self.images), "--work-path", str(self.work),
            *flags, self.id, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert not self.runtime.root.exists() or self.runtime("list", "-q").stdout == ""
        return done.stderr

    def _with(self, talk: Talk, verb: str, *flags: str) -> None:
        done = self.runtime(verb, *flags, "--bundle", self.bundle, self.id, check=False, **talk.stdio())
        assert done.returncode == 0, talk.said_wrong()
        talk.given_away()

    @property
    def pid(self) -> int:
        return int(self.runtime.state(self.id)["pid"])

    def cgroups(self) -> list[Path]:
        return list(Path("/sys/fs/cgroup").glob(f"*/{self.id}"))


def mounted(folder: Path) -> list[str]:
    """What is mounted below a folder of the host."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{folder}/")]


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
    with subprocess.Popen([*runtime.command, "restore", *flags, box.id], **after.stdio()) as waiting:
        after.given_away()
        assert after.say("two") == "2 two"
        after.hang_up()
        assert waiting.wait(20) == 7
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


def dumped(box: Box, talk: Talk) -> None:
    box.run(talk)
    assert talk.say("one") == "1 one"
    box.checkpoint()


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


def full(config: dict[str, Any]) -> None:
    """Much of what a container can have."""
    config["root"]["readonly"] = True
    config["mounts"] += [
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        {"destination": "/home", "type": "bind", "source": "/usr/share", "options": ["rbind", "ro"]},
        {"destination": "/dev/file", "type": "bind", "source": "/etc/os-release", "options": ["bind"]},
    ]
    config["linux"]["maskedPaths"] += ["/proc/acpi", "/proc/timer_list", "/sys/firmware"]
    config["linux"]["readonlyPaths"] += ["/proc/bus", "/proc/irq"]
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["syslog"], "action": "SCMP_ACT_ERRNO"}],
    }


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


def mounts_inside(box: Box) -> list[str]:
    return Path(f"/proc/{box.pid}/mountinfo").read_text().splitlines()


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
    (writable_root, "/ is writable"),
    (not_masked, "/proc/keys is not so"),
    (not_readonly, "/proc/irq is not so"),
    (one_mount_more, "/var is a mount (debugfs)"),
    (capable, "CAP_NET_RAW"),
    (unfiltered, "it has no filter"),
    (may_gain, "it may gain privileges"),
    (on_the_hosts_network, "the host's network namespace"),
    (with_the_hosts_name, "the host's uts namespace"),
]


@pytest.mark.parametrize(("change", "text"), GREEDY, ids=[change.__name__ for change, _ in GREEDY])
def test_a_checkpoint_gets_no_more_than_the_configuration_gives(
    masu_oci: Runtime,
    criu: str,
    busybox: Path,
    talks: Callable[[], Talk],
    change: Callable[[dict[str, Any]], None],
    text: str,
) -> None:
    """sec/CVE-2026-119101, sec/CVE-2026-115520: the images decide in which namespaces and mounts the processes are and
    what they may do; config.json says what they may be."""

    def greedily(config: dict[str, Any]) -> None:
        full(config)
        change(config)

    greedy = Box(masu_oci, busybox, greedily)
    dumped(greedy, talks())
    box = Box(masu_oci, busybox, full)
    box.images = greedy.images
    said = box.refused()
    assert "does not fit config.json" in said
    assert text in said
    assert box.cgroups() == []


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
