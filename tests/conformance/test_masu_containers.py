"""The life of containers under `masu`: listing, logs, exec, stop and start, looking inside, copying."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.engine import Masu, alive, cgroups_of, wait_until
from harness.pty import Terminal

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masu]:
    it = Masu(tmp_path_factory.mktemp("masu"))
    it.image("busybox")
    yield it
    it.close()


@pytest.fixture
def masu(shared: Masu) -> Iterator[Masu]:
    """The shared state, without the containers of the test before."""
    yield shared
    shared.close()


def run(masu: Masu, name: str, script: str, *args: str) -> str:
    """A detached container that runs a script; its id."""
    return masu("run", "-d", "--name", name, *args, "busybox", "sh", "-c", script).strip()


SLEEP = "trap 'exit 5' TERM; while :; do sleep 0.05; done"


def wait_log(masu: Masu, name: str, text: str) -> None:
    wait_until(lambda: text in masu("logs", name))


# --- ps ---


def test_ps(masu: Masu) -> None:
    id = run(masu, "web", SLEEP, "-l", "tier=front")
    masu("create", "--name", "idle", "busybox", "true")
    run(masu, "done", "exit 3")
    masu("wait", "done")
    shown = masu("ps").splitlines()
    assert shown[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert len(shown) == 2
    assert shown[1].startswith(id[:12] + "   busybox   \"sh -c trap 'exit 5'…\"")
    table = masu("ps", "-a", "--format", "table {{.Names}}\t{{.Status}}\t{{.State}}\t{{.Image}}").splitlines()
    assert table[0].split() == ["NAMES", "STATUS", "STATE", "IMAGE"]
    by_name = {line.split()[0]: line for line in table[1:]}
    assert "Exited (3) Less than a second ago" in by_name["done"] or "Exited (3) 1 second ago" in by_name["done"]
    assert by_name["idle"].split()[1:3] == ["Created", "created"]
    assert "Up " in by_name["web"]
    assert masu("ps", "-aq").split() == masu("ps", "-a", "--format", "{{.ID}}").split()
    assert masu("ps", "-q", "--no-trunc").split() == [id]
    assert masu("ps", "-lq").split() == masu("ps", "-n", "1", "-q").split()
    row = json.loads(masu("ps", "--format", "json"))
    assert row["Names"] == "web"
    assert row["Labels"] == "tier=front"
    assert row["State"] == "running"
    for condition, names in {
        "name=we": ["web"], "status=exited": ["done"], "exited=3": ["done"], "label=tier": ["web"],
        "status=created": ["idle"], "ancestor=nosuch": [], f"id={id[:6]}": ["web"],
    }.items():  # fmt: skip
        assert masu("ps", "-a", "--filter", condition, "--format", "{{.Names}}").split() == names, condition
    assert 'did you mean "status"' in masu.fails("ps", "--filter", "statsu=x", status=1)
    assert "can't evaluate field Nope" in masu.fails("ps", "--format", "{{.Nope}}", status=1)
    masu("stop", "-t", "0", "web")


def test_prefixes_and_names(masu: Masu) -> None:
    id = masu("create", "busybox").strip()
    name = masu.inspect(id[:5])["Name"]
    assert masu.inspect(name)["Id"] == id
    assert masu.inspect(name[1:])["Id"] == id
    assert "no such container" in masu.fails("start", "nosuch", status=1)


# --- logs ---


def test_logs(masu: Masu) -> None:
    run(masu, "talker", "for i in 1 2 3; do echo line $i; echo err $i >&2; done; printf 'no end'")
    masu("wait", "talker")
    done = masu.try_("logs", "talker")
    assert done.stdout == "line 1\nline 2\nline 3\nno end"
    assert done.stderr == "err 1\nerr 2\nerr 3\n"
    assert masu("logs", "-n", "1", "talker") == "no end"
    stamped = masu("logs", "-t", "talker").splitlines()[0]
    stamp, _, text = stamped.partition(" ")
    assert text == "line 1"
    assert len(stamp) == 30
    assert masu("logs", "--since", stamp, "talker").startswith("line 1")
    assert masu("logs", "--until", "2001-01-01", "talker") == ""
    assert masu("logs", "--since", "1h", "talker").startswith("line 1")
    assert masu("logs", "--since", "0.000001s", "talker") == ""
    assert "neither a time" in masu.fails("logs", "--since", "x", "talker", status=125)


def test_logs_of_a_terminal_are_one_stream(masu: Masu) -> None:
    masu("run", "-dt", "--name", "tty", "busybox", "sh", "-c", "echo out; echo err >&2")
    masu("wait", "tty")
    done = masu.try_("logs", "tty")
    assert (done.stdout, done.stderr) == ("out\r\nerr\r\n", "")


def test_logs_are_followed_to_the_end(masu: Masu) -> None:
    os.mkfifo(masu.folder / "go")
    run(masu, "slow", "echo one; cat /go; echo three", "-v", f"{masu.folder}/go:/go")
    follower = masu.start("logs", "-f", "slow")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"one\n"
    (masu.folder / "go").write_text("two\n")
    out, _ = follower.communicate(timeout=20)
    assert out == b"two\nthree\n"
    assert follower.returncode == 0
    os.unlink(masu.folder / "go")


def test_logs_are_rotated(masu: Masu) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo $i aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; i=$((i+1)); done"
    id = run(masu, "much", script, "--log-opt", "max-size=32k", "--log-opt", "max-file=3")
    masu("wait", "much")
    folder = masu.root / "containers/default" / id
    assert sorted(path.name for path in folder.glob("log*")) == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size < 64 << 10 for path in folder.glob("log*"))
    numbers = [int(line.split()[0]) for line in masu("logs", "much").splitlines()]
    assert numbers == list(range(numbers[0], 3000))
    assert masu("logs", "-n", "2", "much").split()[::2] == ["2998", "2999"]


# --- exec, attach ---


def test_exec(masu: Masu) -> None:
    id = run(masu, "host-of-execs", SLEEP, "-e", "IN=container", "-h", "box")
    assert masu("exec", id, "sh", "-c", "echo $IN $MORE; hostname; id -u", input="").split() == [
        "container",
        "box",
        "0",
    ]
    assert masu("exec", "-e", "MORE=x", "-w", "/tmp", id, "sh", "-c", "echo $IN $MORE; pwd").split() == [
        "container", "x", "/tmp",
    ]  # fmt: skip
    assert masu("exec", "-u", "1000:7", id, "sh", "-c", "id -u; id -g").split() == ["1000", "7"]
    assert masu.try_("exec", id, "sh", "-c", "exit 42").returncode == 42
    assert masu.try_("exec", id, "nosuch").returncode == 127
    assert masu.try_("exec", id, "/etc").returncode == 126
    assert masu("exec", "-i", id, "cat", input="typed") == "typed"
    done = masu.try_("exec", id, "sh", "-c", "echo o; echo e >&2")
    assert (done.stdout, done.stderr) == ("o\n", "e\n")
    masu("exec", "-d", id, "touch", "/made")
    wait_until(lambda: masu.try_("exec", id, "test", "-e", "/made").returncode == 0)
    # no more rights than the container itself has
    for line in ("CapBnd", "Seccomp", "NoNewPrivs"):
        inside = masu("exec", id, "grep", line + ":", "/proc/1/status")
        assert masu("exec", id, "grep", line + ":", "/proc/self/status") == inside
    masu("pause", id)
    assert "is paused" in masu.fails("exec", id, "true", status=1)
    masu("unpause", id)
    masu("stop", "-t", "0", id)
    assert "is not running" in masu.fails("exec", id, "true", status=1)


def test_exec_at_a_terminal(masu: Masu) -> None:
    id = run(masu, "shell", SLEEP)
    with Terminal([*masu.command, "exec", "-it", id, "sh"], rows=40, columns=99, env=masu.environment) as terminal:
        terminal.wait_for("# ")
        terminal.type("stty size; echo $((6*7))\n")
        assert "40 99" in terminal.wait_for("42")
        terminal.type("exit 6\n")
        assert terminal.wait() == 6


def test_two_attached_at_once(masu: Masu) -> None:
    masu("run", "-di", "--name", "cat", "busybox", "cat")
    first, second = masu.start("attach", "cat"), masu.start("attach", "--no-stdin", "cat")
    assert first.stdin is not None
    assert first.stdout is not None
    assert second.stdout is not None
    first.stdin.write(b"ping\n")
    first.stdin.flush()
    assert first.stdout.readline() == b"ping\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert masu.status("cat") == "running"
    masu("kill", "cat")
    second.communicate(timeout=20)
    assert second.returncode == 137


# --- stop, start … ---


def test_stop_asks_then_kills(masu: Masu) -> None:
    run(masu, "polite", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    wait_log(masu, "polite", "ready")
    assert masu("stop", "polite") == "polite\n"
    state = masu.inspect("polite")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 5)
    assert masu("logs", "polite") == "ready\nbye\n"
    masu("stop", "polite")
    run(masu, "stubborn", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    wait_log(masu, "stubborn", "ready")
    masu("stop", "-t", "1", "stubborn")
    assert masu.inspect("stubborn")["State"]["ExitCode"] == 137


def test_stop_signal_of_the_request(masu: Masu) -> None:
    run(masu, "quit", "trap 'exit 9' QUIT; echo ready; while :; do sleep 0.05; done", "--stop-signal", "QUIT")
    wait_log(masu, "quit", "ready")
    masu("stop", "quit")
    assert masu.inspect("quit")["State"]["ExitCode"] == 9


def test_start_again_keeps_what_was_written(masu: Masu) -> None:
    run(masu, "twice", "echo x >> /file; wc -l < /file; exit 2")
    masu("wait", "twice")
    assert masu.try_("start", "-a", "twice").stdout == "2\n"
    assert masu("logs", "twice") == "1\n2\n"
    assert masu("wait", "twice") == "2\n"


def test_restart(masu: Masu) -> None:
    run(masu, "again", SLEEP)
    before = masu.inspect("again")["State"]
    masu("restart", "-t", "0", "again")
    after = masu.inspect("again")["State"]
    assert after["Status"] == "running"
    assert after["Pid"] != before["Pid"]
    assert after["StartedAt"] > before["StartedAt"]
    assert masu("start", "again") == "again\n"
    assert masu.inspect("again")["State"]["Pid"] == after["Pid"]


def test_kill(masu: Masu) -> None:
    id = run(masu, "target", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done")
    wait_log(masu, "target", "ready")
    masu("kill", "-s", "USR1", "target")
    wait_log(masu, "target", "usr1")
    assert "no such container" in masu.fails("kill", "nobody", "target", status=1)
    masu("wait", id)
    assert "is not running" in masu.fails("kill", "target", status=1)
    assert "invalid" in masu.fails("kill", "-s", "FOO", "target", status=1)


def test_pause(masu: Masu) -> None:
    id = run(masu, "frozen", "while :; do echo tick; sleep 0.02; done")
    wait_log(masu, "frozen", "tick")
    masu("pause", "frozen")
    assert masu.status("frozen") == "paused"
    assert "(Paused)" in masu("ps")
    size = (masu.root / "containers/default" / id / "log").stat().st_size
    time.sleep(0.2)
    assert (masu.root / "containers/default" / id / "log").stat().st_size - size < 200
    assert "already paused" in masu.fails("pause", "frozen", status=1)
    masu("unpause", "frozen")
    assert "is not paused" in masu.fails("unpause", "frozen", status=1)
    masu("pause", "frozen")
    masu("rm", "-f", "frozen")
    assert cgroups_of(id) == []


def test_rm(masu: Masu) -> None:
    id = run(masu, "busy", SLEEP)
    assert "stop the container before removing or force remove" in masu.fails("rm", "busy", status=1)
    pid = masu.inspect("busy")["State"]["Pid"]
    assert masu("rm", "-f", "busy") == "busy\n"
    assert not alive(pid)
    assert cgroups_of(id) == []
    assert "no such container" in masu.fails("rm", "busy", status=1)
    assert masu("rm", "-f", "busy") == "busy\n"


def test_rename(masu: Masu) -> None:
    masu("create", "--name", "old", "busybox")
    masu("create", "--name", "other", "busybox")
    masu("rename", "old", "new")
    assert masu.inspect("new")["Name"] == "/new"
    assert "already exists" in masu.fails("rename", "new", "other", status=1)


def test_wait_for_several(masu: Masu) -> None:
    run(masu, "w1", "exit 1")
    run(masu, "w2", "sleep 0.3; exit 2")
    assert masu("wait", "w1", "w2") == "1\n2\n"


# --- looking inside ---


def test_inspect(masu: Masu) -> None:
    run(masu, "seen", SLEEP, "-m", "32m", "-v", "/v", "-e", "A=1", "-u", "5", "--cap-add", "NET_ADMIN", "-h", "hh")
    found = masu.inspect("seen")
    assert found["State"]["Running"] is True
    assert alive(found["State"]["Pid"])
    assert found["HostConfig"]["Memory"] == 32 << 20
    assert found["HostConfig"]["CapAdd"] == ["NET_ADMIN"]
    assert found["Config"]["Hostname"] == "hh"
    assert found["Config"]["User"] == "5"
    assert "A=1" in found["Config"]["Env"]
    assert found["Config"]["Cmd"] == ["sh", "-c", SLEEP]
    assert found["Path"] == "sh"
    assert found["Mounts"][0]["Destination"] == "/v"
    assert masu("inspect", "-f", "{{.State.Status}} {{index .Config.Cmd 0}} {{json .State.Paused}}", "seen") == (
        "running sh false\n"
    )
    done = masu.try_("inspect", "seen", "nosuch")
    assert done.returncode == 1
    assert len(json.loads(done.stdout)) == 1
    assert "nosuch" in done.stderr


def test_top_and_stats(masu: Masu) -> None:
    run(masu, "shown", "sleep 300 & while :; do :; done")
    wait_until(lambda: masu("top", "shown").endswith("sleep 300\n"))  # the shell has come so far
    shown = masu("top", "shown").splitlines()
    assert shown[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    by_ps = masu("top", "shown", "-o", "pid,comm").splitlines()
    assert by_ps[0].split() == ["PID", "COMMAND"]
    assert len(by_ps) == 3
    assert "its output has no PID column" in masu.fails("top", "shown", "-o", "comm", status=1)
    row = json.loads(masu("stats", "--no-stream", "--format", "json", "shown"))
    assert row["Name"] == "shown"
    assert float(row["CPUPerc"].rstrip("%")) > 5
    assert row["PIDs"] == "2"
    assert row["MemUsage"].split(" / ")[0] != "--"
    assert masu("stats", "--no-stream").splitlines()[0].startswith("CONTAINER ID   NAME      CPU %")


def test_events(masu: Masu) -> None:
    start = time.time()
    id = (
        masu("run", "--rm", "--cidfile", str(masu.folder / "cid-e"), "busybox", "true")
        or (masu.folder / "cid-e").read_text()
    )
    os.unlink(masu.folder / "cid-e")
    lines = masu(
        "events", "--since", f"{start:.6f}", "--until", "0s", "--format", "json", "--filter", f"container={id}"
    )
    topics = [json.loads(line)["Topic"] for line in lines.splitlines()]
    wanted = [
        "/containers/create",
        "/tasks/create",
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
        "/containers/delete",
    ]
    assert [topic for topic in topics if topic in wanted] == wanted


# --- cp ---


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_cp(masu: Masu, tmp_path: Path, state: str) -> None:
    script = (
        "mkdir -p /d/sub; echo one > /d/one; ln -s one /d/link; ln -s /etc/passwd /out; echo s > /d/sub/s; " + SLEEP
    )
    run(masu, "files", script)
    wait_until(lambda: masu.try_("exec", "files", "test", "-e", "/d/sub/s").returncode == 0)
    if state == "stopped":
        masu("stop", "-t", "0", "files")
    masu("cp", "files:/d/one", str(tmp_path / "one"))
    assert (tmp_path / "one").read_text() == "one\n"
    masu("cp", "files:/d", str(tmp_path))
    assert (tmp_path / "d/sub/s").read_text() == "s\n"
    assert os.readlink(tmp_path / "d/link") == "one"
    masu("cp", "files:/d/.", str(tmp_path / "new"))
    assert sorted(os.listdir(tmp_path / "new")) == ["link", "one", "sub"]
    # into it
    (tmp_path / "file").write_text("mine")
    masu("cp", str(tmp_path / "file"), "files:/d/sub")
    masu("cp", str(tmp_path / "file"), "files:/d/named")
    masu("cp", str(tmp_path / "new"), "files:/tree")
    archive = subprocess.run(
        [*masu.command, "cp", "files:/", "-"], stdout=subprocess.PIPE, check=True, env=masu.environment
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = {name.removeprefix("./") for name in tar.getnames()}
        assert {"d/sub/file", "d/named", "tree/one", "tree/sub/s"} <= names
        assert next(m for m in tar.getmembers() if m.name.endswith("d/named")).uid == 0
    # a symlink of the container's is followed inside the container only
    masu("cp", "-L", "files:/out", str(tmp_path / "passwd"))
    assert (tmp_path / "passwd").read_text() != Path("/etc/passwd").read_text()
    assert "no such file" in masu.fails("cp", "files:/nosuch", str(tmp_path), status=1)
    assert "not supported" in masu.fails("cp", "files:/d", "files:/e", status=1)
    assert "must specify" in masu.fails("cp", "/a", "/b", status=1)
    assert "no such directory" in masu.fails("cp", str(tmp_path / "file"), "files:/no/way", status=1)


def test_cp_from_a_tar(masu: Masu) -> None:
    masu(
        "create",
        "--name",
        "untar",
        "busybox",
        "sh",
        "-c",
        "cat /in/a/b /in/hard; readlink /in/soft; stat -c %u /in/a/b",
    )
    link, hard = tarfile.TarInfo("soft"), tarfile.TarInfo("hard")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    hard.type, hard.linkname = tarfile.LNKTYPE, "a/b"
    masu("cp", "-", "untar:/", input=_tar(_directory("in")))
    owned = _file("a/b", b"content\n")
    owned[0].uid = 77
    masu("cp", "-", "untar:/in", input=_tar(owned, (link, b""), (hard, b"")))
    assert masu("start", "-a", "untar").split() == ["content", "content", "/etc", "0"]
    masu("cp", "-a", "-", "untar:/in", input=_tar(owned))
    assert masu("start", "-a", "untar").split()[-1] == "77"


def test_a_hostile_tar_stays_inside(masu: Masu, tmp_path: Path) -> None:
    masu("create", "--name", "hostile", "busybox", "ls", "/etc/masu-test-escape")
    link = tarfile.TarInfo("evil")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    masu("cp", "-", "hostile:/", input=_tar((link, b""), _file("evil/masu-test-escape", b"x")))
    assert not Path("/etc/masu-test-escape").exists()
    assert masu("start", "-a", "hostile") == "/etc/masu-test-escape\n"
    masu("cp", "-", "hostile:/tmp", input=_tar(_file("../../../../../tmp/masu-test-escape", b"x")))
    assert not Path("/tmp/masu-test-escape").exists()
    node = tarfile.TarInfo("node")
    node.type, node.devmajor, node.devminor = tarfile.CHRTYPE, 1, 11
    assert "devices are not unpacked" in masu.fails("cp", "-", "hostile:/", input=_tar((node, b"")), status=1)


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def _file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def _directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member, b""


def test_cp_cannot_be_led_outside(masu: Masu, tmp_path: Path) -> None:
    # CVE-2018-15664, CVE-2019-14271: absolute symlinks and `..` lead to the container's own root
    secret = tmp_path / "secret"
    secret.write_text("host's")
    run(masu, "evil", f"ln -s {tmp_path} /dir; ln -s {secret} /file; ln -s /../../../.. /up; echo ready; " + SLEEP)
    wait_log(masu, "evil", "ready")
    for path in ("/dir/secret", f"/up/{secret}", "/file/"):
        assert masu.try_("cp", "-L", f"evil:{path}", str(tmp_path / "got")).returncode != 0, path
    assert not (tmp_path / "got").exists()
    (tmp_path / "mine").write_text("mine")
    masu.try_("cp", str(tmp_path / "mine"), "evil:/dir/written")
    assert not (tmp_path / "written").exists()


# --- joined namespaces ---


def test_joining_another_containers_namespaces(masu: Masu) -> None:
    run(masu, "first", SLEEP, "-h", "first-host")
    script = "ls /proc | grep -c '^[0-9]'; readlink /proc/self/ns/net"
    shown = masu(
        "run", "--rm", "--network", "container:first", "--pid", "container:first", "busybox", "sh", "-c", script
    )
    assert int(shown.split()[0]) > 3
    assert masu("exec", "first", "readlink", "/proc/self/ns/net").split()[0] == shown.split()[1]
    masu("create", "--name", "second", "--network", "container:first", "busybox", "true")
    masu("stop", "-t", "0", "first")
    assert "is not running" in masu.fails("start", "second", status=1)


def test_dockers_longer_spellings(masu: Masu) -> None:
    masu("container", "create", "--name", "long", "busybox")
    assert masu("container", "ls", "-a", "--format", "{{.Names}}") == "long\n"
    assert masu("image", "ls", "-q") == masu("images", "-q")
    assert 'did you mean "ls"' in masu.fails("image", "lss", status=1)
    masu("container", "rm", "long")
