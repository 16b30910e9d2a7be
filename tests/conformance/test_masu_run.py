"""`masu run` and its flags, as Docker's users type them: over the machine's own root, and over an image."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from harness.engine import SOURCE, Masu, cgroups_of, wait_until
from harness.programs import peer
from harness.pty import Terminal

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def masu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masu]:
    it = Masu(tmp_path_factory.mktemp("masu"))
    yield it
    it.close()


@pytest.fixture(scope="module")
def box(masu: Masu) -> str:
    return masu.image("busybox")


def sh(masu: Masu, *args: str, script: str, image: str = "busybox") -> str:
    return masu("run", "--rm", *args, image, "sh", "-c", script)


# --- the host image ---


def test_the_first_command_of_the_readme(masu: Masu) -> None:
    shown = masu("run", "--rm", "host", "sh", "-c", "id; ps aux; hostname")
    assert "uid=0(root) gid=0(root)" in shown
    assert shown.count("\n") == 5  # id; heading, sh, ps; hostname
    assert len(shown.splitlines()[-1]) == 12


def test_the_host_image_sees_the_machine_and_changes_nothing(masu: Masu, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    script = f"cat {file}; echo; echo theirs > {file}; cat {file}; rm -rf /etc/hostname /etc/apt"
    assert masu("run", "--rm", "host", "sh", "-c", script).split() == ["mine", "theirs"]
    assert file.read_text() == "mine"
    assert Path("/etc/hostname").exists()
    assert Path("/etc/apt").is_dir()


def test_changes_of_a_host_container_stay_with_it(masu: Masu) -> None:
    masu("run", "--name", "kept", "host", "sh", "-c", "echo one > /root/masu-test-kept")
    assert not Path("/root/masu-test-kept").exists()
    assert masu("start", "-a", "kept") == ""
    assert masu("cp", "kept:/root/masu-test-kept", "-")
    masu("rm", "kept")


def test_nothing_is_left_of_a_container_with_rm(masu: Masu) -> None:
    before = masu("ps", "-aq")
    masu("run", "--rm", "--cidfile", str(masu.folder / "cid"), "host", "true")
    id = (masu.folder / "cid").read_text()
    assert masu("ps", "-aq") == before
    assert cgroups_of(id) == []
    assert not (masu.root / "containers/default" / id).exists()
    assert not (masu.run / "containers/default" / id).exists()
    error = masu.fails("run", "--rm", "--cidfile", str(masu.folder / "cid"), "host", "true", status=125)
    assert "cid: invalid: it exists" in error
    assert masu("ps", "-aq") == before


def test_the_host_image_shows_what_is_mounted_below_the_root(masu: Masu, tmp_path: Path) -> None:
    # overlayfs does not cross into other file systems, so each gets an overlay of its own
    image, place = tmp_path / "disk.img", Path("/mnt/masu-test-disk")
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run([peer("mkfs.ext4"), "-q", str(image)], check=True)
    place.mkdir()
    try:
        subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
        try:
            (place / "file").write_text("on the disk")
            script = f"cat {place}/file; echo changed > {place}/file; cat {place}/file; mkdir {place}/made"
            assert masu("run", "--rm", "host", "sh", "-c", script) == "on the diskchanged\n"
            assert (place / "file").read_text() == "on the disk"
            assert not (place / "made").exists()
        finally:
            subprocess.run(["umount", str(place)], check=True)
    finally:
        place.rmdir()


# --- exit codes ---


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_the_programs_status_is_ours(masu: Masu, code: int) -> None:
    assert masu.try_("run", "--rm", "host", "sh", "-c", f"exit {code}").returncode == code


def test_statuses_of_what_does_not_run(masu: Masu) -> None:
    assert 'exec: "nosuch": executable file not found in $PATH' in masu.fails(
        "run", "--rm", "host", "nosuch", status=127
    )
    assert "/no/such" in masu.fails("run", "--rm", "host", "/no/such", status=127)
    assert "/etc/passwd" in masu.fails("run", "--rm", "host", "/etc/passwd", status=126)
    assert "is a directory" in masu.fails("run", "--rm", "host", "/etc", status=126)
    assert "--memory" in masu.fails("run", "--rm", "-m", "1k", "host", "true", status=125)
    assert "unknown flag: --memry" in masu.fails("run", "--memry", "1k", "host", "true", status=125)
    assert "requires at least 1 argument" in masu.fails("run", status=1)
    assert "--pull never: image nosuch: not found" in masu.fails("run", "--pull", "never", "nosuch", status=125)
    assert masu("ps", "-aq") == ""


def test_a_killed_program_ends_with_128_and_the_signal(masu: Masu) -> None:
    # a PID 1 cannot be killed from within (pid_namespaces(7)), so somebody else does it
    process = masu.start("run", "--name", "victim", "host", "sleep", "60")
    wait_until(lambda: "victim" in masu("ps", "--format", "{{.Names}}"))
    masu("kill", "victim")
    assert process.wait(20) == 137
    process.communicate()
    masu("rm", "victim")
    assert masu.try_("run", "--rm", "--init", "host", "sh", "-c", "kill -TERM $$").returncode == 143


# --- streams ---


def test_streams_are_apart_and_whole(masu: Masu) -> None:
    done = masu.try_(
        "run", "--rm", "host", "sh", "-c", "echo out; echo err >&2; head -c 3000000 /dev/zero | tr '\\0' x"
    )
    assert done.stderr == "err\n"
    assert done.stdout == "out\n" + "x" * 3_000_000


def test_stdin(masu: Masu) -> None:
    data = os.urandom(1 << 20)
    process = masu.start("run", "--rm", "-i", "host", "cat")
    out, err = process.communicate(data, timeout=60)
    assert err == b""
    assert out == data
    assert masu("run", "--rm", "host", "cat", input="unread") == ""


def test_attaching_to_some_streams(masu: Masu) -> None:
    done = masu.try_("run", "--rm", "-a", "stderr", "host", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("", "err\n")
    assert "conflicting options" in masu.fails("run", "-d", "-a", "stdout", "host", "true", status=125)


def test_a_terminal(masu: Masu, box: str) -> None:
    command = [*masu.command, "run", "--rm", "-it", box, "sh"]
    with Terminal(command, rows=31, columns=87, env=masu.environment) as terminal:
        terminal.wait_for("# ")
        terminal.type("stty size; tty; echo $TERM; echo $((6*7))\n")
        shown = terminal.wait_for("42")
        assert "31 87" in shown
        assert "/dev/pts/0" in shown
        assert "xterm" in shown
        terminal.type("exit 9\n")
        assert terminal.wait() == 9


def test_detaching_by_keys_and_attaching_again(masu: Masu, box: str) -> None:
    with Terminal([*masu.command, "run", "-it", "--name", "keys", box, "sh"], env=masu.environment) as terminal:
        terminal.wait_for("# ")
        terminal.type("\x10\x11")
        assert terminal.wait() == 0
    assert masu.status("keys") == "running"
    with Terminal([*masu.command, "attach", "keys"], env=masu.environment) as terminal:
        terminal.type("echo $((6*7))\n")
        terminal.wait_for("42")
        terminal.type("exit 3\n")
        assert terminal.wait() == 3
    assert masu.inspect("keys")["State"]["ExitCode"] == 3
    masu("rm", "keys")


def test_signals_are_passed_on(masu: Masu) -> None:
    script = "trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.1; done"
    process = masu.start("run", "--rm", "host", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=30)
    assert out == b"got\n"
    assert process.returncode == 4


# --- detached ---


def test_detached_and_removed_by_its_monitor(masu: Masu) -> None:
    id = masu("run", "-d", "--rm", "host", "sh", "-c", "sleep 0.2").strip()
    assert len(id) == 64
    wait_until(lambda: id[:12] not in masu("ps", "-a"))
    wait_until(lambda: not (masu.root / "containers/default" / id).exists())
    assert cgroups_of(id) == []


# --- what the program sees ---


def test_identity(masu: Masu, box: str) -> None:
    assert sh(masu, script="id -u; id -g; echo $HOME").split() == ["0", "0", "/root"]
    assert sh(masu, "-u", "1234:5678", script="id -u; id -g; pwd").split() == ["1234", "5678", "/"]
    assert sh(masu, "-u", "0", "--group-add", "77", script="id -G").split()[-1] == "77"
    assert "nosuch" in masu.fails("run", "--rm", "-u", "nosuch", box, "true", status=125)


def test_environment(masu: Masu, box: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# words\nFROM_FILE=1\nOWN\n")
    environment = {**masu.environment, "OWN": "mine"}
    shown = masu(
        "run", "--rm", "-e", "A=b c", "--env-file", str(file), "-e", "OWN", "-h", "name", box, "env", env=environment
    )
    lines = shown.splitlines()
    assert {"A=b c", "FROM_FILE=1", "OWN=mine", "HOSTNAME=name", "HOME=/root"} <= set(lines)
    assert not any(line.startswith("TERM=") for line in lines)


def test_workdir_is_made(masu: Masu, box: str) -> None:
    assert sh(masu, "-w", "/new/deep", "-u", "12:34", script="pwd; stat -c %u:%g .").split() == ["/new/deep", "12:34"]
    assert "absolute" in masu.fails("run", "--rm", "-w", "x", box, "true", status=125)


def test_entrypoint(masu: Masu, box: str) -> None:
    assert masu("run", "--rm", "--entrypoint", "echo", box, "a", "b") == "a b\n"


def test_names_of_the_machine(masu: Masu, box: str) -> None:
    shown = sh(masu, "--hostname", "box1", script="hostname; cat /etc/hostname; grep -c box1 /etc/hosts")
    assert shown.split() == ["box1", "box1", "1"]


def test_networks(masu: Masu, box: str) -> None:
    assert sh(masu, script="ls /sys/class/net").split() == ["lo"]
    assert sh(masu, script="cat /sys/class/net/lo/operstate; ping -c 1 -W 1 127.0.0.1 | grep -c '1 packets received'")
    here = sorted(os.listdir("/sys/class/net"))
    assert sh(masu, "--network", "host", script="ls /sys/class/net").split() == here
    assert "no bridges yet" in masu.fails("run", "--rm", "--network", "bridge", box, "true", status=125)
    assert "--network host" in masu.fails("run", "-p", "80:80", box, status=125)


def test_capabilities(masu: Masu, box: str) -> None:
    def effective(*args: str) -> int:
        return int(sh(masu, *args, script="grep CapEff /proc/self/status").split()[1], 16)

    assert effective() == 0xA80425FB  # what every Docker user has seen
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "NET_RAW") == 1 << 13
    assert effective("-u", "1000") == 0
    own = int(Path("/proc/self/status").read_text().partition("CapBnd:")[2].split()[0], 16)
    assert effective("--privileged") == own


def test_seccomp_and_no_new_privileges(masu: Masu, box: str, tmp_path: Path) -> None:
    script = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr -d '[:alpha:]:[:space:]'"
    assert sh(masu, script=script) == "02"
    assert (
        sh(masu, "--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges", script=script) == "10"
    )
    profile = tmp_path / "p.json"
    profile.write_text(
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}'
    )
    done = masu.try_("run", "--rm", "--security-opt", f"seccomp={profile}", box, "mkdir", "/x")
    assert "not supported" in done.stderr


def test_what_is_hidden(masu: Masu, box: str) -> None:
    script = "wc -c < /proc/keys; ls /sys/firmware | wc -l; echo 1 2>/dev/null > /proc/sys/kernel/domainname || echo no"
    shown = sh(masu, script=script)
    assert shown.split() == ["0", "0", "no"]


def test_root_read_only(masu: Masu, box: str) -> None:
    script = "touch /x 2>/dev/null && echo bad; touch /tmp/y && echo good; touch /dev/shm/z && echo good"
    assert sh(masu, "--read-only", "--tmpfs", "/tmp", script=script).split() == ["good", "good"]


def test_limits(masu: Masu, box: str) -> None:
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true"
    assert sh(masu, "-m", "64m", script=script).split() == [str(64 << 20)]
    script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true"
    assert sh(masu, "--pids-limit", "50", script=script).split() == ["50"]
    script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max"
    assert sh(masu, "--cpus", "0.5", script=script).split() == ["50000"]
    script = "grep Cpus_allowed_list /proc/self/status"
    assert sh(masu, "--cpuset-cpus", "0", script=script).split()[-1] == "0"


def test_running_out_of_memory_is_told(masu: Masu, box: str) -> None:
    script = "x=a; while :; do x=$x$x$x$x; done"
    done = masu.try_("run", "--name", "oom", "-m", "16m", "--memory-swap", "16m", box, "sh", "-c", script)
    assert done.returncode == 137
    assert masu.inspect("oom")["State"]["OOMKilled"] is True
    masu("rm", "oom")


def test_ulimits_beyond_ours_are_clamped_with_a_word(masu: Masu, box: str) -> None:
    assert sh(masu, "--ulimit", "nofile=500:600", script="ulimit -Sn; ulimit -Hn").split() == ["500", "600"]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    privileged = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16) >> 24 & 1
    done = masu.try_("run", "--rm", "--ulimit", f"nofile={hard + 1}", box, "sh", "-c", "ulimit -Hn")
    if privileged:
        assert done.stdout.split() == [str(hard + 1)]
    else:
        assert done.stdout.split() == [str(hard)]
        assert "needs CAP_SYS_RESOURCE" in done.stderr


def test_shm_and_tmpfs_sizes(masu: Masu, box: str) -> None:
    script = "df -k /dev/shm /t | awk 'NR>1 {print $2}'"
    assert sh(masu, "--shm-size", "1m", "--tmpfs", "/t:size=2m", script=script).split() == ["1024", "2048"]


def test_init_reaps(masu: Masu, box: str) -> None:
    script = "sh -c 'sleep 0.1 & exec true'; sleep 0.4; ps -o pid,stat,comm | grep -c ' Z '; cat /proc/1/comm"
    shown = sh(masu, "--init", script=script).split()
    assert shown[0] == "0"
    assert shown[1] != "sh"


def test_devices(masu: Masu, box: str, tmp_path: Path) -> None:
    node = tmp_path / "full"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    script = "ls -l /dev/mine | cut -c1; echo x > /dev/mine"
    done = masu.try_("run", "--rm", "--device", f"{node}:/dev/mine", box, "sh", "-c", script)
    assert done.stdout == "c\n"
    assert "No space left" in done.stderr
    assert "not a device node" in masu.fails("run", "--rm", "--device", "/etc/passwd", box, "true", status=125)
    # what is not given cannot be used, even by somebody who can make the node
    done = masu.try_("run", "--rm", box, "sh", "-c", "mknod /kmsg c 1 11 && cat /kmsg")
    assert "Operation not permitted" in done.stderr


def test_sysctls(masu: Masu, box: str) -> None:
    shown = sh(masu, "--sysctl", "net.ipv4.ip_forward=1", script="cat /proc/sys/net/ipv4/ip_forward")
    assert shown == "1\n"
    assert "whole machine" in masu.fails("run", "--rm", "--sysctl", "vm.swappiness=1", box, "true", status=125)


# --- mounts and volumes ---


def test_binds(masu: Masu, box: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("here")
    assert sh(masu, "-v", f"{tmp_path}/in:/data", script="cat /data/file; echo there > /data/new") == "here"
    assert (tmp_path / "in/new").read_text() == "there\n"
    assert "Read-only" in masu.fails("run", "--rm", "-v", f"{tmp_path}/in:/data:ro", box, "touch", "/data/x")
    shown = masu("run", "--rm", "--mount", "type=bind,src=./in,dst=/d,ro", box, "cat", "/d/file", cwd=tmp_path)
    assert shown == "here"
    error = masu.fails("run", "--rm", "--mount", f"type=bind,src={tmp_path}/no,dst=/d", box, "ls", status=125)
    assert "bind source path" in error
    assert not (tmp_path / "no").exists()
    masu("run", "--rm", "-v", f"{tmp_path}/made:/d", box, "true")
    assert (tmp_path / "made").is_dir()


def test_a_file_can_be_bound(masu: Masu, box: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("text")
    assert masu("run", "--rm", "-v", f"{tmp_path}/f:/etc/new-file", box, "cat", "/etc/new-file") == "text"


def test_named_volumes_keep_what_is_written_and_begin_with_the_image(masu: Masu, box: str) -> None:
    assert "passwd" in sh(masu, "-v", "conf:/etc", script="ls /etc; echo kept > /etc/kept")
    assert sh(masu, "-v", "conf:/mnt", script="cat /mnt/kept; stat -c %a:%u /mnt").split() == ["kept", "755:0"]
    assert sh(masu, "-v", "empty:/etc:nocopy", script="ls /etc/passwd 2>&1 | grep -c 'No such'") == "1\n"
    assert set(masu("volume", "ls", "-q").split()) >= {"conf", "empty"}
    masu("create", "--name", "user-of-it", "-v", "conf:/x", box)
    assert "in use by container user-of-it" in masu.fails("volume", "rm", "conf", status=1)
    masu("rm", "user-of-it")
    masu("volume", "rm", "conf", "empty")


def test_nameless_volumes_go_with_the_container(masu: Masu, box: str) -> None:
    before = set(masu("volume", "ls", "-q").split())
    masu("run", "--rm", "-v", "/data", box, "touch", "/data/x")
    assert set(masu("volume", "ls", "-q").split()) == before
    masu("run", "--name", "anon", "-v", "/data", box, "touch", "/data/x")
    (name,) = set(masu("volume", "ls", "-q").split()) - before
    assert len(name) == 64
    masu("rm", "-v", "anon")
    assert set(masu("volume", "ls", "-q").split()) == before


def test_a_volume_over_an_images_symlink_stays_inside(masu: Masu, tmp_path: Path) -> None:
    # CVE-2022-23648: what a new volume begins with must come from the image, whatever its symlinks say
    root = tmp_path / "rootfs"
    images.copy(images.rootfs("busybox"), root)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("host's")
    (root / "evil").symlink_to(secret)
    masu("create", "--name", "cve", "--rootfs", str(root), "-v", "vol-cve:/evil", "sh")
    volume = masu("volume", "inspect", "-f", "{{.Mountpoint}}", "vol-cve").strip()
    assert os.listdir(volume) == []
    masu("rm", "cve")
    masu("volume", "rm", "vol-cve")


def test_a_directory_as_root(masu: Masu, tmp_path: Path) -> None:
    root = tmp_path / "rootfs"
    images.copy(images.rootfs("busybox"), root)
    assert masu("run", "--rm", "--rootfs", str(root), "sh", "-c", "echo there > /new; ls /bin/sh") == "/bin/sh\n"
    assert (root / "new").read_text() == "there\n"
    assert "not a directory" in masu.fails("run", "--rm", "--rootfs", "/etc/passwd", "ls", status=125)


# --- names and labels ---


def test_names(masu: Masu) -> None:
    masu("create", "--name", "taken", "host")
    error = masu.fails("run", "--name", "taken", "host", "true", status=125)
    assert "container name taken: already exists: container" in error
    assert "allowed" in masu.fails("run", "--name", "-x", "host", "true", status=125)
    assert masu("ps", "-a", "--format", "{{.Names}}") == "taken\n"
    masu("rm", "taken")


def test_labels_do_not_become_annotations(masu: Masu) -> None:
    masu("create", "--name", "labelled", "-l", "a=b", "-l", "org.criu.config=/x", "--annotation", "note=yes", "host")
    assert masu.inspect("labelled")["Config"]["Labels"] == {"a": "b", "org.criu.config": "/x"}
    assert masu("ps", "-a", "--filter", "label=a=b", "--format", "{{.Labels}}") == "a=b,org.criu.config=/x\n"
    masu("rm", "labelled")


def test_errors_come_before_anything_is_made(masu: Masu, box: str) -> None:
    for args in (
        ("--cap-add", "NOSUCH", box),
        ("-v", "a:b:c:d", box),
        ("--ulimit", "x=1", box),
        ("--stop-signal", "SIGFOO", box),
        ("--security-opt", "nonsense", box),
        ("--hostname", "a b", box),
        ("--cpus", "9999", box),
        ("--device", "/dev/nosuch", box),
        ("--env-file", "/no/such", box),
        ("--network", "container:nobody", box),
    ):
        error = masu.fails("run", *args, "true", status=125)
        assert error.startswith("masu: "), args
    assert masu("ps", "-aq") == ""
    assert os.listdir(masu.root / "containers/default") == []


def test_help_is_dockers() -> None:

    done = subprocess.run(
        [sys.executable, "-SIE", SOURCE, "masu", "run", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(
        "Usage:  masu run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nCreate and run a new container"
    )
    assert "  -d, --detach" in done.stdout


def test_a_throw_away_container_can_be_restarted(masu: Masu) -> None:
    """Its overlay is mounted volatile, which leaves a mark that would refuse the second mount."""
    masu("run", "-d", "--rm", "--name", "again", "host", "sleep", "1000")
    first = masu.inspect("again")["State"]["Pid"]
    masu("restart", "-t", "0", "again")
    assert masu.inspect("again")["State"]["Pid"] != first
    masu("rm", "-f", "again")
