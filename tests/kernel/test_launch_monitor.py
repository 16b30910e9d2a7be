"""masu-launch as a container's monitor: output, log, clients, exit file, clean-up, and its own death."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from harness.engine import wait_until
from kernel.launchclient import (
    CLONE_NEWPID,
    DEADLINE_S,
    FIVE,
    base,
    contained,
    finish,
    index_of,
    op,
    wait_gone,
    wait_readable,
)
from kernel.monitorclient import EVENTS, RECORD, STDIN, STDOUT, Client, Monitored

from masu.plan import ops as o
from masu.plan.ops import Op

pytestmark = pytest.mark.root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    return made


# -- the whole life ---------------------------------------------------------------------------------------------------


def test_from_birth_to_exit_file(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "echo", "out", "--", "stderr", "err", "--", "stdin", "--", "exit", "3")
    with Monitored(plan, folder).ready() as container:
        wait_until((folder / "pid").exists)  # the container may be ready before its monitor has heard of it
        first, second = (line.split() for line in (folder / "pid").read_text().splitlines())
        assert int(first[0]) == container.launch.pid
        assert int(second[0]) == container.monitor
        for pid, start in (first, second):
            stat = Path(f"/proc/{pid}/stat").read_text()
            assert stat.rpartition(")")[2].split()[19] == start
        assert Path(f"/proc/{container.monitor}/comm").read_text() == "masu:[monitor]\n"
        assert f"PPid:\t{container.monitor}\n" in Path(f"/proc/{container.launch.pid}/status").read_text()
        client = container.client()
        container.go()
        assert client.until_exit() == (3, 3 << 8)
        assert client.said == {b"o": b"out\n", b"e": b"err\n"}
        # The truth is on disk before anybody is told.
        found = container.exit()
        assert {key: found[key] for key in ("status", "signal", "oom", "pid")} == {
            "status": 3, "signal": 0, "oom": False, "pid": container.launch.pid,
        }  # fmt: skip
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", str(found["exited_at"]))
        client.send(b"k")
        container.wait()
        assert sorted(container.log()) == [("stderr", "F", b"err"), ("stdout", "F", b"out")]
    assert sorted(os.listdir(folder)) == ["attach.sock", "exit", "log", "pid"]
    assert (folder / "exit").stat().st_mode & 0o777 == 0o600
    assert (folder / "log").stat().st_mode & 0o777 == 0o600


def test_the_monitor_is_detached(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "pause"), folder).ready() as container:
        container.go()
        pid = container.monitor
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert links.count("/dev/null") == 3
        assert not any("memfd" in link for link in links)
        # signalfd, log, listener, two pipes, the pidfd, and stdio; nothing of the host's
        assert len(links) <= 10, links
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"SigBlk:\tfffffffe7ffbfeff|SigBlk:\tfffffff", status)


def test_idle_memory(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "pause"), folder).ready() as container:
        container.go()
        rollup = Path(f"/proc/{container.monitor}/smaps_rollup").read_text()
        pss = int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)[1])  # type: ignore[index]
        assert pss < 512, rollup


def test_an_exit_by_signal(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "pause"), folder).ready() as container:
        client = container.client()
        container.go()
        client.until(b"ready")
        client.send(b"s" + struct.pack("<I", signal.SIGKILL))
        assert client.until_exit() == (137, 9)
        client.send(b"k")
        container.wait()
        assert (container.exit()["status"], container.exit()["signal"]) == (137, 9)


def test_sigterm_is_passed_on_and_others_are_ignored(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "wait", "15"), folder).ready() as container:
        client = container.client()
        container.go()
        client.until(b"ready")
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1, signal.SIGALRM):
            os.kill(container.monitor, number)
        os.kill(container.monitor, signal.SIGTERM)
        client.until(b"caught 15")
        assert client.until_exit() == (0, 0)


def test_nobody_attached_runs_the_exit_command(probe_rootfs: Path, folder: Path) -> None:
    script = f"cd {folder}; env > env; echo done > cleaned.tmp; mv cleaned.tmp cleaned"
    plan = contained(probe_rootfs, [], "exit", "0")
    with Monitored(plan, folder, exit_command=("/bin/sh", "-c", script)).ready() as container:
        container.go()
        container.wait()
        deadline = time.monotonic() + DEADLINE_S
        while not (folder / "cleaned").exists():
            assert time.monotonic() < deadline
            select.select([], [], [], 0.01)
        env = dict(line.split("=", 1) for line in (folder / "env").read_text().splitlines())
        assert set(env) <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}
        assert "/usr/bin" in env["PATH"]


def test_who_cleans_up_spares_the_exit_command(probe_rootfs: Path, folder: Path) -> None:
    command = ("/bin/touch", str(folder / "cleaned"))
    with Monitored(contained(probe_rootfs, [], "exit", "0"), folder, exit_command=command).ready() as container:
        client = container.client(0)
        client.send(b"k")  # promised early
        container.go()
        client.until_exit()
        container.wait()
    assert not (folder / "cleaned").exists()


def test_a_promise_after_the_exit_holds_though_its_client_hangs_up_at_once(probe_rootfs: Path, folder: Path) -> None:
    command = ("/bin/touch", str(folder / "cleaned"))
    flags = o.MONITOR_EPHEMERAL
    plan = contained(probe_rootfs, [], "exit", "0")
    with Monitored(plan, folder, flags=flags, exit_command=command).ready() as container:
        client = container.client(0)
        container.go()
        client.until_exit()
        client.send(b"k")
        client.close()
        container.wait()
        assert container.exit()["status"] == 0
    assert not (folder / "cleaned").exists()


def test_a_client_that_leaves_does_not_count_as_cleaning(probe_rootfs: Path, folder: Path) -> None:
    command = ("/bin/touch", str(folder / "cleaned"))
    with Monitored(contained(probe_rootfs, [], "stdin"), folder, exit_command=command,
                   flags=o.MONITOR_OPEN_STDIN).ready() as container:  # fmt: skip
        gone = container.client(0)
        gone.send(b"k")
        gone.close()
        other = container.client(STDIN)
        container.go()
        other.send(b"c")
        other.until_exit()
        other.close()
        container.wait()
        deadline = time.monotonic() + DEADLINE_S
        while not (folder / "cleaned").exists():
            assert time.monotonic() < deadline
            select.select([], [], [], 0.01)


def test_strays_of_the_container_go_with_it(probe_rootfs: Path, folder: Path) -> None:
    """Without a PID namespace the kernel does not do it; their cgroup is emptied and removed."""
    group = Path("/sys/fs/cgroup/freezer") / f"masu-test-{os.getpid()}"
    if not group.parent.is_dir():
        pytest.skip("there is no cgroup v1 here")
    group.mkdir()
    plan = [op("write", path=f"{group}/tasks", data=b"0"), op("clone", flags=0), op("setsid"),
            *finish("/bin/sh", "-c", "sleep 1000 > /dev/null 2>&1 & echo $!")]  # fmt: skip
    with Monitored(plan, folder, cgroups=(str(group), "/sys/fs/cgroup/freezer/masu-absent")).ready() as container:
        client = container.client()
        container.go()
        client.until(b"\n")
        stray = int(client.said[b"o"])
        client.until_exit()
        assert not group.exists()
        wait_gone(stray)
        client.send(b"k")


def test_leaving_the_callers_cgroup(probe_rootfs: Path, folder: Path) -> None:
    root = Path("/sys/fs/cgroup/freezer")
    if not root.is_dir():
        pytest.skip("there is no cgroup v1 here")
    group = root / f"masu-test-{os.getpid()}"
    group.mkdir()
    try:
        plan = contained(probe_rootfs, [], "pause")
        with Monitored(plan, folder, leave=(f"{group}/cgroup.procs", "/nowhere/cgroup.procs")).ready() as container:
            assert str(container.monitor) in (group / "cgroup.procs").read_text().split()
    finally:
        deadline = time.monotonic() + DEADLINE_S
        while (group / "cgroup.procs").read_text():
            assert time.monotonic() < deadline
            select.select([], [], [], 0.01)
        group.rmdir()


def test_killed_for_memory_is_noted(probe_rootfs: Path, folder: Path) -> None:
    group = Path("/sys/fs/cgroup/memory") / f"masu-test-{os.getpid()}"
    if not group.parent.is_dir():
        pytest.skip("there is no memory cgroup v1 here")
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(16 << 20))
    counter = os.open(group / "memory.oom_control", os.O_RDONLY)
    watch = os.eventfd(0, os.EFD_NONBLOCK)
    (group / "cgroup.event_control").write_text(f"{watch} {counter}")
    os.set_inheritable(counter, True)
    try:
        host = [op("write", path=f"{group}/tasks", data=b"0")]
        plan = contained(probe_rootfs, [], "memhog", "64", host=host)
        with Monitored(plan, folder, oom_fd=counter, oom_kind=o.OOM_CONTROL, oom_watch_fd=watch, cgroups=(str(group),),
                       pass_fds=(counter, watch)).ready() as container:  # fmt: skip
            client, other = container.client(EVENTS), container.client(STDOUT)
            container.go()
            assert client.receive() == b"m"  # at the time, and before the end
            assert client.until_exit() == (137, 9)
            assert other.until_exit() == (137, 9)
            assert other.others == []  # who has not asked is not told
            assert container.exit()["oom"] is True
            client.send(b"k")
        assert not group.exists()
    finally:
        os.close(counter)
        os.close(watch)


# -- births that fail -------------------------------------------------------------------------------------------------


def test_a_birth_that_fails_leaves_no_exit_file(probe_rootfs: Path, folder: Path) -> None:
    wrong = op("mount", fstype="tmpfs", source="t", target="/tmp", options=("bad",))
    plan = contained(probe_rootfs, [wrong], "exit", "0")
    with Monitored(plan, folder) as container:
        message = container.launch.failure()
        assert message.detail.startswith('option "bad"')
        assert container.launch.receive() is None
        wait_gone(container.launch.messages[0].value)
    assert sorted(os.listdir(folder)) == ["attach.sock", "log"]


def test_a_stage_that_fails(folder: Path) -> None:
    with Monitored([op("open", slot=0, path="/absent"), op("clone")], folder) as container:
        message = container.launch.failure()
        assert (message.index, message.detail) == (1, "/absent")
        assert container.launch.receive() is None
        wait_gone(container.launch.messages[0].value)
    assert sorted(os.listdir(folder)) == ["attach.sock", "log"]


def test_a_log_that_cannot_be_opened(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "exit", "0")
    with Monitored(plan, folder, log_path=str(folder / "absent/log")) as container:
        message = container.launch.failure()
        assert (message.index, message.detail) == (0, str(folder / "absent"))
        assert container.launch.receive() is None


def test_a_program_that_cannot_be_executed(own_probe_rootfs: Path, folder: Path) -> None:
    (own_probe_rootfs / "bin/broken").write_bytes(b"")
    (own_probe_rootfs / "bin/broken").chmod(0o755)
    plan = contained(own_probe_rootfs, [], "exit", "0")
    plan[index_of(plan, "find_program")] = op("find_program", program="broken", path="/bin")
    with Monitored(plan, folder).ready() as container:
        client = container.client()
        container.launch.go()
        message = container.launch.receive()
        assert message is not None
        assert (message.type, message.detail) == (o.MSG_ERROR, "/bin/broken: the file is empty")
        assert container.launch.receive() is None
        assert client.until_exit()[0] == 126
        client.send(b"k")
        container.wait()


@pytest.mark.parametrize("stop", ["sync", "ready"])
def test_kill_9_of_the_engine_before_the_start(probe_rootfs: Path, folder: Path, stop: str) -> None:
    plan = contained(probe_rootfs, [op("sync", name="x")], "pause")
    with Monitored(plan, folder) as container:
        container.launch.expect(o.MSG_SYNC)
        if stop == "ready":
            container.launch.go()
            container.launch.expect(o.MSG_READY)
        container.launch.control.close()  # as the end of the engine does
        wait_readable(container.launch.pidfd)
        wait_gone(container.launch.messages[0].value)
    assert sorted(os.listdir(folder)) == ["attach.sock", "log"]


def test_kill_9_of_the_engine_after_the_start(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "stdin", "--", "exit", "5"), folder,
                   flags=o.MONITOR_OPEN_STDIN).ready() as container:  # fmt: skip
        container.go()
        container.launch.control.close()
        client = container.client(STDIN)
        client.send(b"c")
        assert client.until_exit()[0] == 5


@pytest.mark.parametrize("when", ["sync", "ready", "running"])
@pytest.mark.parametrize("user", [0, 1000])
def test_kill_9_of_the_monitor_kills_the_container(probe_rootfs: Path, folder: Path, when: str, user: int) -> None:
    plan = contained(probe_rootfs, [op("sync", name="x")], "pause")
    at = index_of(plan, "find_program")
    # Bounded and permitted alike, as engines give them: an exec that gains capabilities would clear the signal
    # (prctl(2), PR_SET_PDEATHSIG); then only the cgroup is left to kill by.
    plan[at:at] = [op("bounding"), op("setuser", uid=user, gid=user), op("caps")]
    plan.insert(index_of(plan, "ready"), op("pdeathsig", signal=signal.SIGKILL))
    with Monitored(plan, folder) as container:
        container.launch.expect(o.MSG_SYNC)
        monitor = next(message.value for message in container.launch.messages if message.type == o.MSG_MONITOR)
        if when != "sync":
            container.launch.go()
            container.launch.expect(o.MSG_READY)
        if when == "running":
            client = container.client()
            container.go()
            client.until(b"ready")
        os.kill(monitor, signal.SIGKILL)
        wait_readable(container.launch.pidfd)
        assert not (folder / "exit").exists()


# -- output and log ---------------------------------------------------------------------------------------------------


def sh(script: str) -> list[Op]:
    """A container with the host's own root, for its shell."""
    return [*base("/"), op("pivot_root"), *finish("sh", "-c", script)]


def test_lines_parts_and_flushes(folder: Path) -> None:
    long = 40_000
    script = (
        f"printf 'first\\nsecond\\n'; head -c {long} /dev/zero | tr '\\0' x; printf '\\n\\n'; printf unfinished; "
        "read answer; printf ' business\\n'; printf tail"
    )
    with Monitored(sh(script), folder, flags=o.MONITOR_OPEN_STDIN).ready() as container:
        client = container.client(STDOUT | STDIN)
        container.go()
        client.until(b"unfinished")
        deadline = time.monotonic() + DEADLINE_S
        while container.log()[-1] != ("stdout", "P", b"unfinished"):  # it is written after a tick
            assert time.monotonic() < deadline
            select.select([], [], [], 0.02)
        client.send(b"igo on\n")
        client.until_exit()
        log = container.log()
    assert log[:2] == [("stdout", "F", b"first"), ("stdout", "F", b"second")]
    sizes = [(tag, len(text)) for _, tag, text in log[2:-4]]
    assert all(size <= 16384 for _, size in sizes)
    assert [tag for tag, _ in sizes] == ["P"] * (len(sizes) - 1) + ["F"]
    assert sum(size for _, size in sizes) == long
    assert log[-4:] == [
        ("stdout", "F", b""), ("stdout", "P", b"unfinished"), ("stdout", "F", b" business"), ("stdout", "P", b"tail"),
    ]  # fmt: skip


def whole(log: list[tuple[str, str, bytes]], stream: str = "stdout") -> bytes:
    return b"".join(text + (b"\n" if tag == "F" else b"") for name, tag, text in log if name == stream)


def test_bytes_arrive_unchanged_in_log_and_client(folder: Path, tmp_path: Path) -> None:
    data = b"\n".join(os.urandom(7 * n % 3000) for n in range(2000)) + os.urandom(70_000)
    (tmp_path / "data").write_bytes(data)
    with Monitored(sh(f"cat {tmp_path}/data; cat {tmp_path}/data >&2"), folder).ready() as container:
        client = container.client()
        container.go()
        client.until_exit()
        assert client.said == {b"o": data, b"e": data}
        assert whole(_records(folder / "log")) == data
        assert whole(_records(folder / "log"), "stderr") == data


def _records(path: Path) -> list[tuple[str, str, bytes]]:
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        match = RECORD.fullmatch(line, 0) or re.fullmatch(RECORD.pattern, line, re.S)
        assert match, line[:80]
        found.append((match[2].decode(), match[3].decode(), match[4]))
    return found


def test_rotation(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "spam", "300000")
    with Monitored(plan, folder, log_max_bytes=100_000, log_max_files=3).ready() as container:
        client = container.client()
        container.go()
        client.until_exit()
        names = sorted(name for name in os.listdir(folder) if name.startswith("log"))
        assert names == ["log", "log.1", "log.2"]
        said = b""
        for name in reversed(names):
            path = folder / name
            assert path.stat().st_size <= 100_000 + 65536 * 3
            said += whole(_records(path))
        assert client.said[b"o"].endswith(said)
        assert len(said) > 65536


def test_rotation_with_one_file_begins_anew(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "spam", "500000")
    with Monitored(plan, folder, log_max_bytes=100_000, log_max_files=1).ready() as container:
        client = container.client()
        container.go()
        client.until_exit()
        assert [name for name in os.listdir(folder) if name.startswith("log")] == ["log"]
        assert (folder / "log").stat().st_size <= 200_000


def test_a_full_disk_does_not_stop_the_container(probe_rootfs: Path, folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(disk)], check=True)
    try:
        plan = contained(probe_rootfs, [], "spam", "2000000", "--", "exit", "4")
        with Monitored(plan, folder, log_path=str(disk / "log")).ready() as container:
            client = container.client()
            container.go()
            assert client.until_exit()[0] == 4
            assert len(client.said[b"o"]) >= 2_000_000
            client.send(b"k")
            container.wait()
        assert (disk / "log").stat().st_size <= 65536
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_no_log_when_none_is_wanted(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "echo", "x"), folder, log_path="").ready() as container:
        client = container.client()
        container.go()
        client.until_exit()
        assert client.said[b"o"] == b"x\n"
    assert "log" not in os.listdir(folder)


def test_output_of_who_outlives_the_container_does_not_hold_it(folder: Path) -> None:
    """A stray that holds the pipe open: what is there is delivered, then the exit is told."""
    plan = [op("clone", flags=0), op("setsid"), *finish("/bin/sh", "-c", "sleep 300 & echo $!; echo last")]
    with Monitored(plan, folder).ready() as container:
        client = container.client()
        container.go()
        assert client.until_exit()[0] == 0
        assert client.said[b"o"].endswith(b"last\n")
        stray = int(client.said[b"o"].split()[0])
        os.kill(stray, signal.SIGKILL)
        wait_gone(stray)


# -- clients ----------------------------------------------------------------------------------------------------------


def test_stdin_and_its_end(probe_rootfs: Path, folder: Path) -> None:
    data = os.urandom(300_000)
    with Monitored(contained(probe_rootfs, [], "stdin"), folder, flags=o.MONITOR_OPEN_STDIN).ready() as container:
        client = container.client(STDOUT | STDIN)
        container.go()
        sent = 0
        poll = select.poll()
        poll.register(client.socket, select.POLLIN | select.POLLOUT)
        while sent < len(data):
            for _, events in poll.poll(DEADLINE_S * 1000):
                if events & select.POLLOUT:
                    client.send(b"i" + data[sent : sent + 30_000])
                    sent += 30_000
                elif events & select.POLLIN:
                    client.receive()
        client.send(b"c")
        assert client.until_exit()[0] == 0
        assert client.said[b"o"] == data


def test_stdin_stays_open_without_clients_unless_once(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "stdin"), folder, flags=o.MONITOR_OPEN_STDIN).ready() as container:
        one = container.client(STDIN)
        container.go()
        one.send(b"ifirst ")
        one.close()
        two = container.client(STDIN | STDOUT)
        two.send(b"isecond")
        two.until(b"second")
        two.send(b"c")
        two.until_exit()
    assert whole(container.log()) == b"first second"


def test_stdin_once(probe_rootfs: Path, folder: Path) -> None:
    flags = o.MONITOR_OPEN_STDIN | o.MONITOR_STDIN_ONCE
    with Monitored(contained(probe_rootfs, [], "stdin"), folder, flags=flags).ready() as container:
        watcher = container.client(STDOUT)
        one = container.client(STDIN)
        container.go()
        one.send(b"iall there is")
        one.close()
        assert watcher.until_exit()[0] == 0
        assert watcher.said[b"o"] == b"all there is"


def test_without_stdin_the_container_reads_dev_null(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "readlink", "/proc/self/fd/0", "--", "stdin")
    with Monitored(plan, folder).ready() as container:
        client = container.client(STDOUT | STDIN)
        container.go()
        client.send(b"iinto the void")
        assert client.until_exit()[0] == 0
        assert client.said[b"o"] == b"/dev/null\n"


def test_each_gets_what_it_wants(probe_rootfs: Path, folder: Path) -> None:
    plan = contained(probe_rootfs, [], "echo", "out", "--", "stderr", "err")
    with Monitored(plan, folder).ready() as container:
        both, out, err, nothing = (container.client(flags) for flags in (3, 1, 2, 0))
        container.go()
        for client in (both, out, err, nothing):
            client.until_exit()
        assert both.said == {b"o": b"out\n", b"e": b"err\n"}
        assert out.said == {b"o": b"out\n", b"e": b""}
        assert err.said == {b"o": b"", b"e": b"err\n"}
        assert nothing.said == {b"o": b"", b"e": b""}


def test_a_slow_client_slows_the_container_and_loses_nothing(probe_rootfs: Path, folder: Path) -> None:
    size = 8_000_000
    with Monitored(contained(probe_rootfs, [], "spam", str(size)), folder, log_path="").ready() as container:
        slow, fast = container.client(), container.client()
        container.go()
        # The fast one gets only so much ahead: socket buffers and one batch.
        while select.select([fast.socket], [], [], 0.5)[0]:
            fast.receive()
        assert len(fast.said[b"o"]) < 2_000_000
        assert not (folder / "exit").exists()
        fast.socket.settimeout(DEADLINE_S)
        # Both go on in turn.
        poll = select.poll()
        for client in (slow, fast):
            poll.register(client.socket, select.POLLIN)
        by_fd = {client.socket.fileno(): client for client in (slow, fast)}
        while slow.exit is None or fast.exit is None:
            for fd, _ in poll.poll(DEADLINE_S * 1000):
                assert by_fd[fd].receive()
                if by_fd[fd].exit is not None:
                    poll.unregister(fd)
        assert slow.said[b"o"] == fast.said[b"o"]
        assert len(slow.said[b"o"]) >= size


def test_a_slow_client_that_leaves_lets_the_container_go_on(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "spam", "8000000"), folder, log_path="").ready() as container:
        slow = container.client()
        container.go()
        wait_readable(slow.socket.fileno())
        slow.close()
        container.wait()
        assert container.exit()["status"] == 0


def test_a_client_that_never_reads_does_not_hold_the_end(probe_rootfs: Path, folder: Path) -> None:
    """After the end it is given two seconds."""
    with Monitored(contained(probe_rootfs, [], "spam", "3000000", "--", "pause"), folder).ready() as container:
        container.client()
        container.go()
        os.kill(container.monitor, 0)
        signal.pidfd_send_signal(container.launch.pidfd, signal.SIGKILL)
        container.wait()
        assert container.exit()["signal"] == 9


@pytest.mark.parametrize(
    "wrong",
    [b"i not attached", b"a", b"a\x01\x01", b"z", b"s123", b"k"],
)
def test_who_does_not_keep_to_the_protocol_is_dropped(probe_rootfs: Path, folder: Path, wrong: bytes) -> None:
    with Monitored(contained(probe_rootfs, [], "pause"), folder).ready() as container:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(DEADLINE_S)
            client.connect(str(folder / "attach.sock"))
            client.send(wrong)
            assert client.recv(10) == b""
        attached = container.client(STDOUT)
        for message in (b"a\x01", b"i without the flag", b"r\x01", b"s\xff\xff\xff\xff", b"?", b"x" * 40_000):
            other = container.client(STDOUT)
            other.send(message)
            assert other.receive() == b""
        container.go()
        attached.until(b"ready")


def test_more_clients_than_there_is_room_for(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(contained(probe_rootfs, [], "stdin"), folder, flags=o.MONITOR_OPEN_STDIN).ready() as container:
        many = [container.client(STDOUT) for _ in range(63)]
        last = container.client(STDIN)
        assert not _is_taken(container)
        many.pop().close()
        deadline = time.monotonic() + DEADLINE_S
        while not _is_taken(container):  # the monitor sees the hang-up in its own time
            assert time.monotonic() < deadline
        again = container.clients[-1]
        container.go()
        last.send(b"ihello")
        last.send(b"c")
        for client in (*many, again):
            client.until_exit()
            assert client.said[b"o"] == b"hello"


def _is_taken(container: Monitored) -> bool:
    """Whether one more client is let in."""
    try:
        client = Client(container.folder / "attach.sock", STDOUT)
    except OSError:
        return False
    container.clients.append(client)
    try:
        return client.receive() == b"A"
    except OSError:
        return False


def test_another_user_may_not_attach(probe_rootfs: Path, folder: Path) -> None:
    for path in (folder, *folder.parents):
        if not os.stat(path).st_mode & 1 and path != Path("/"):
            os.chmod(path, os.stat(path).st_mode | 1)
    os.chmod(folder / "..", 0o711)
    with Monitored(contained(probe_rootfs, [], "pause"), folder).ready() as container:
        os.chmod(folder / "attach.sock", 0o666)
        code = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            "s.settimeout(20)\n"
            f"s.connect({str(folder / 'attach.sock')!r})\n"
            "try:\n    s.send(b'a\\x01'); answer = s.recv(10)\n"
            "except (BrokenPipeError, ConnectionResetError): answer = b''\n"
            "sys.exit(0 if answer == b'' else 1)\n"
        )
        command = ["/usr/bin/python3", "-c", code]
        done = subprocess.run(command, user=1000, group=1000, extra_groups=[], cwd="/", check=False)
        assert done.returncode == 0
        assert container.client() is not None


def test_attaching_late_gets_what_comes_later(folder: Path) -> None:
    with Monitored(sh("echo early; read x; echo late"), folder, flags=o.MONITOR_OPEN_STDIN).ready() as container:
        first = container.client(STDOUT)
        container.go()
        first.until(b"early")
        second = container.client(STDOUT | STDIN)
        second.send(b"i\n")
        second.until_exit()
        assert second.said[b"o"] == b"late\n"
        first.until_exit()
        assert first.said[b"o"] == b"early\nlate\n"


# -- terminal ---------------------------------------------------------------------------------------------------------


def with_console(root: Path, *probe: str) -> list[Op]:
    plan = contained(root, [], *probe)
    at = index_of(plan, "pivot_root") + 1
    plan.insert(at, op("console", slot=o.NONE, rows=24, columns=80, flags=o.CONSOLE_BIND | o.CONSOLE_CTTY))
    return plan


def test_terminal(probe_rootfs: Path, folder: Path) -> None:
    flags = o.MONITOR_TERMINAL | o.MONITOR_OPEN_STDIN
    plan = with_console(probe_rootfs, "isatty", "--", "winsize", "--", "wait", "28", "--", "winsize")
    with Monitored(plan, folder, flags=flags).ready() as container:
        client = container.client(STDOUT | STDIN)
        container.go()
        client.until(b"tty tty tty\r\n24 80\r\nready\r\n")
        client.send(b"r" + struct.pack("<HH", 50, 132))
        assert client.until_exit()[0] == 0
        assert client.said[b"o"].endswith(b"caught 28\r\n50 132\r\n")
    assert (folder / "log").read_bytes().count(b" stdout F ") == 5


def test_terminal_keys(probe_rootfs: Path, folder: Path) -> None:
    flags = o.MONITOR_TERMINAL | o.MONITOR_OPEN_STDIN
    with Monitored(with_console(probe_rootfs, "wait", "2"), folder, flags=flags).ready() as container:
        client = container.client(STDOUT | STDIN)
        container.go()
        client.until(b"ready\r\n")
        client.send(b"i\x03")
        assert client.until_exit()[0] == 0
        assert client.said[b"o"].endswith(b"caught 2\r\n")


def test_terminal_output_to_the_last_byte(probe_rootfs: Path, folder: Path) -> None:
    with Monitored(with_console(probe_rootfs, "spam", "400000", "--", "echo", "the end"), folder,
                   flags=o.MONITOR_TERMINAL).ready() as container:  # fmt: skip
        client = container.client(STDOUT)
        container.go()
        client.until_exit()
        assert client.said[b"o"].endswith(b"the end\r\n")
        assert len(client.said[b"o"]) > 400_000


def test_a_terminal_that_is_closed_and_opened_again(folder: Path) -> None:
    script = "exec 0<&- 1>/dev/null 2>&1; sleep 0.3; echo again > /dev/console; sleep 0.1"
    plan = [
        *base("/"),
        op("mount", fstype="tmpfs", source="tmpfs", options=("mode=755",), target="/dev"),
        op("mount", fstype="devpts", source="devpts", options=("newinstance", "ptmxmode=0666"), target="/dev/pts"),
        op("mknod", path="/dev/null", mode=0o020666, rdev=os.makedev(1, 3)),
        op("pivot_root"),
        op("console", slot=o.NONE, flags=o.CONSOLE_BIND | o.CONSOLE_CTTY),
        *finish("sh", "-c", script),
    ]
    with Monitored(plan, folder, flags=o.MONITOR_TERMINAL).ready() as container:
        client = container.client(STDOUT)
        container.go()
        assert client.until_exit()[0] == 0
        assert client.said[b"o"] == b"again\r\n"


# -- stdio of somebody else's ---------------------------------------------------------------------------------------


def test_given_stdio(probe_rootfs: Path, folder: Path) -> None:
    for name in ("in", "out", "err"):
        os.mkfifo(folder / name)
    fds = {name: os.open(folder / name, os.O_RDWR) for name in ("in", "out", "err")}
    for fd in fds.values():
        os.set_inheritable(fd, True)
    try:
        plan = contained(probe_rootfs, [], "stderr", "to err", "--", "echo", "to out")
        with Monitored(plan, folder, stdin_fd=fds["in"], stdout_fd=fds["out"], stderr_fd=fds["err"],
                       pass_fds=tuple(fds.values())).ready() as container:  # fmt: skip
            client = container.client()
            container.go()
            client.until_exit()
            assert client.said == {b"o": b"", b"e": b""}
            assert os.read(fds["out"], 100) == b"to out\n"
            assert os.read(fds["err"], 100) == b"to err\n"
    finally:
        for fd in fds.values():
            os.close(fd)


def test_given_stdio_of_a_terminal(probe_rootfs: Path, folder: Path) -> None:
    for name in ("in", "out"):
        os.mkfifo(folder / name)
    fds = {name: os.open(folder / name, os.O_RDWR) for name in ("in", "out")}
    for fd in fds.values():
        os.set_inheritable(fd, True)
    try:
        plan = with_console(probe_rootfs, "wait", "2")
        with Monitored(plan, folder, flags=o.MONITOR_TERMINAL, stdin_fd=fds["in"], stdout_fd=fds["out"],
                       pass_fds=tuple(fds.values())).ready() as container:  # fmt: skip
            container.go()
            wait_readable(fds["out"])
            assert os.read(fds["out"], 100) == b"ready\r\n"
            os.write(fds["in"], b"\x03")
            said = b""
            while b"caught 2" not in said:
                wait_readable(fds["out"])
                said += os.read(fds["out"], 100)
            container.wait()
            assert container.exit()["status"] == 0
            assert b"ready" in (folder / "log").read_bytes()
    finally:
        for fd in fds.values():
            os.close(fd)


def test_a_second_process_with_its_own_monitor(probe_rootfs: Path, folder: Path, tmp_path: Path) -> None:
    """As exec does: it joins the namespaces of the first."""
    second = tmp_path / "exec"
    second.mkdir()
    with Monitored(contained(probe_rootfs, [op("hostname", name="first")], "pause"), folder).ready() as container:
        client = container.client()
        container.go()
        client.until(b"ready")
        pidfd = os.pidfd_open(container.launch.pid)
        os.set_inheritable(pidfd, True)
        plan = [op("adopt", slot=0, fd=pidfd), op("setns", slot=0, nstype=FIVE), op("clone", flags=0), op("setsid"),
                op("chdir", path="/"), *finish("probe", "uname", "--", "pids", "--", "exit", "12")]  # fmt: skip
        with Monitored(plan, second, pass_fds=(pidfd,)).ready() as session:
            inner = session.client()
            session.go()
            assert inner.until_exit()[0] == 12
            assert b"first" in inner.said[b"o"]
            inner.send(b"k")
            session.wait()
        os.close(pidfd)
        assert not (folder / "exit").exists()
    assert FIVE & CLONE_NEWPID
