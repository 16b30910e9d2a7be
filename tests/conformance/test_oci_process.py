"""The process: environment, limits, processors, capabilities, exit codes; the same for exec."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime
from harness.pty import Terminal

pytestmark = pytest.mark.root

Change = Callable[[dict[str, Any]], object]


def process(**fields: Any) -> Change:
    return lambda config: config["process"].update(fields)


def running(runtime: Runtime, rootfs: Path, change: Change | None = None) -> str:
    """The id of a container that sleeps."""

    def all_changes(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/bin/probe", "sleep"]
        if change is not None:
            change(config)

    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, all_changes)), id)
    return id


ENVIRONMENTS: list[tuple[list[str], int, list[str]]] = [
    ([], 0, ["HOME=/root"]),
    ([], 1000, ["HOME=/home"]),
    ([], 4242, ["HOME=/"]),
    (["HOME=/own"], 0, ["HOME=/own"]),
    (["HOME="], 0, ["HOME=/root"]),
    (["HOME=/own", "HOME="], 0, ["HOME=/root"]),
    (["ONE=two", "ONE=three"], 0, ["ONE=three", "HOME=/root"]),
]


@pytest.mark.parametrize(("given", "uid", "wanted"), ENVIRONMENTS, ids=[f"{e}-{u}" for e, u, _ in ENVIRONMENTS])
def test_environment(masu_oci: Runtime, probe_rootfs: Path, given: list[str], uid: int, wanted: list[str]) -> None:
    change = process(env=["PATH=/bin", *given], user={"uid": uid, "gid": uid})
    lines = masu_oci.run(probe_rootfs, "env", change=change).stdout.split()
    assert sorted(lines) == sorted(["PATH=/bin", *wanted])


@pytest.mark.parametrize("over", ["/etc/passwd", "/etc"])
def test_home_of_a_passwd_that_is_bound(runtime: Runtime, probe_rootfs: Path, tmp_path: Path, over: str) -> None:
    """It is the one that the container sees."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("own:x:0:0::/of/the/host:/bin/sh\n")
    (tmp_path / "link").symlink_to("etc/passwd")
    source = tmp_path / ("etc" if over == "/etc" else "link")

    def change(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": over, "type": "bind", "source": str(source), "options": ["rbind"]})

    assert "HOME=/of/the/host" in runtime.run(probe_rootfs, "env", change=change).stdout.split()


def test_environment_of_an_exec(runtime: Runtime, probe_rootfs: Path) -> None:
    id = running(runtime, probe_rootfs, process(env=["PATH=/bin", "A=1", "B=2"]))
    lines = runtime("exec", "-e", "B=3", "-e", "C=4", id, "/bin/probe", "env").stdout.split()
    assert {"A=1", "B=3", "C=4"} <= set(lines)
    assert "B=2" not in lines


def test_words_of_an_exec(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """As runc's: `--` ends the flags behind the id, too (since 1.5), and what is said to be false is false."""
    id = running(masu_oci, probe_rootfs)
    assert masu_oci("exec", id, "--", "/bin/probe", "echo", "said").stdout == "said\n"
    assert "nnp=1" in masu_oci("exec", id, "/bin/probe", "caps").stdout
    assert "nnp=0" in masu_oci("exec", "--no-new-privs=false", id, "/bin/probe", "caps").stdout


def first_cpu(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs the command bound to the first processor."""
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )  # fmt: skip


def cpus(text: str) -> set[int]:
    return {int(number) for number in text.split("cpus=")[1].split()[0].split(",")}


needs_two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor only")


@needs_two
def test_processors_are_those_of_the_cgroup(masu_oci: Runtime, probe_rootfs: Path) -> None:
    everything = os.sched_getaffinity(0)
    bundle = str(masu_oci.bundle(probe_rootfs, process(args=["/bin/probe", "sched"])))
    assert cpus(first_cpu(*masu_oci.command, "run", "--bundle", bundle, masu_oci.id()).stdout) == everything
    id = running(masu_oci, probe_rootfs)
    assert cpus(first_cpu(*masu_oci.command, "exec", id, "/bin/probe", "sched").stdout) == everything


@needs_two
def test_processors_of_an_exec(masu_oci: Runtime, probe_rootfs: Path) -> None:
    last = max(os.sched_getaffinity(0))
    id = running(masu_oci, probe_rootfs, process(execCPUAffinity={"initial": str(last), "final": str(last)}))
    assert cpus(masu_oci("exec", id, "/bin/probe", "sched").stdout) == {last}


def test_scheduling(masu_oci: Runtime, probe_rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
        config["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 3}
        config["linux"]["personality"] = {"domain": "LINUX32"}

    said = masu_oci.run(probe_rootfs, "sched", change=change).stdout.split()
    assert said[0] == "policy=3"
    assert "nice=7" in said
    assert "ioprio=3:3" in said
    assert "personality=8" in said
    # A personality is the container's, so it holds for what is executed in it.
    id = running(masu_oci, probe_rootfs, change)
    assert "personality=8" in masu_oci("exec", id, "/bin/probe", "sched").stdout.split()


def test_reset_on_fork(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Not lost to the clone between, where the host's power is needed for it."""

    def change(config: dict[str, Any]) -> None:
        config["process"]["scheduler"] = {
            "policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        }  # fmt: skip

    def mapped(config: dict[str, Any]) -> None:
        change(config)
        ids = [{"containerID": 0, "hostID": 0, "size": 1000}]
        config["linux"]["namespaces"] += [{"type": "user"}]
        config["linux"] |= {"uidMappings": ids, "gidMappings": ids}

    for each in (change, mapped):
        said = masu_oci.run(probe_rootfs, "sched", change=each).stdout.split()
        assert said[0] == f"policy={3 | os.SCHED_RESET_ON_FORK}"
        assert "nice=3" in said


def test_size_of_a_terminal_without_one(runtime: Runtime, probe_rootfs: Path) -> None:
    """To be ignored (config.md, "Process"), whatever it is."""
    runtime.run(probe_rootfs, "echo", change=process(consoleSize={"height": 70000, "width": 0}))


def test_lines_on_a_terminal_end_as_terminals_want_it(runtime: Runtime, probe_rootfs: Path) -> None:
    """With one carriage return each, of `run` and of `exec`; without any they would come out as a staircase."""
    change = process(terminal=True, args=["/bin/probe", "echo", "one", "--", "echo", "two"])
    bundle = str(runtime.bundle(probe_rootfs, change))
    with Terminal([*runtime.command, "run", "--bundle", bundle, runtime.id()]) as terminal:
        assert terminal.rest() == "one\r\ntwo\r\n"
        assert terminal.wait() == 0
    id = running(runtime, probe_rootfs)
    with Terminal([*runtime.command, "exec", "-t", id, "/bin/probe", "echo", "one", "--", "echo", "two"]) as terminal:
        assert terminal.rest() == "one\r\ntwo\r\n"
        assert terminal.wait() == 0


def test_limit_of_one_process(masu_oci: Runtime, probe_rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["resources"] = {"pids": {"limit": 1}}

    said = masu_oci.run(probe_rootfs, "forks", "2", change=change)
    assert "EAGAIN" in said.stdout


def capabilities(text: str) -> dict[str, str]:
    return dict(word.split("=") for word in text.split())


SETS = {
    "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"],
    "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"],
}  # fmt: skip


def test_capabilities_of_an_exec(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id = running(masu_oci, probe_rootfs, process(capabilities=SETS))
    plain = capabilities(masu_oci("exec", id, "/bin/probe", "caps").stdout)
    assert (int(plain["bounding"], 16), int(plain["ambient"], 16)) == (0x21, 0x1)
    more = capabilities(masu_oci("exec", "--cap", "CAP_FOWNER", id, "/bin/probe", "caps").stdout)
    assert int(more["bounding"], 16) == 0x29
    # Never inheritable (CVE-2022-29162), so it cannot become ambient either.
    assert (int(more["inheritable"], 16), int(more["ambient"], 16)) == (0x1, 0x1)


def test_ambient_capability_that_cannot_be_raised(masu_oci: Runtime, probe_rootfs: Path) -> None:
    change = process(capabilities={**SETS, "ambient": ["CAP_CHOWN", "CAP_KILL"]})
    done = masu_oci.run(probe_rootfs, "caps", change=change)
    assert "level=warning" in done.stderr
    assert "can't raise ambient capability CAP_KILL: " in done.stderr
    assert int(capabilities(done.stdout)["ambient"], 16) == 0x1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_exit_code_of_a_signal(runtime: Runtime, probe_rootfs: Path, number: int) -> None:
    """128 + n; the first process of a PID namespace cannot signal itself, so one that is executed does."""
    id = running(runtime, probe_rootfs)
    done = runtime("exec", id, "/bin/probe", "signal", str(int(number)), check=False)
    assert done.returncode == 128 + number


def test_exit_codes_of_what_cannot_be_run(masu_oci: Runtime, own_probe_rootfs: Path) -> None:
    script = own_probe_rootfs / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    plain = own_probe_rootfs / "plain"
    plain.write_text("x")
    plain.chmod(0o644)
    for args, text in (
        (["/script"], "interpreter /no/such/interpreter: not found"),
        (["/plain"], 'exec: "/plain"'),
        (["/etc"], 'exec: "/etc"'),
    ):
        refused = masu_oci(
            "run", "--bundle", str(masu_oci.bundle(own_probe_rootfs, process(args=args))), masu_oci.id(), check=False
        )
        assert refused.returncode == 1
        assert text in refused.stderr.replace("\\", "")
    id = running(masu_oci, own_probe_rootfs)
    assert masu_oci("exec", id, "/script", check=False).returncode == 255


def test_signals_go_to_the_program(runtime: Runtime, probe_rootfs: Path) -> None:
    """What a foreground `run` receives the container receives; its exit code comes back."""
    bundle = str(runtime.bundle(probe_rootfs, process(args=["/bin/probe", "wait", "15", "--", "exit", "42"])))
    command = [*runtime.command, "run", "--bundle", bundle, runtime.id()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as done:
        assert done.stdout is not None
        assert done.stdout.readline() == "ready\n"
        done.send_signal(signal.SIGTERM)
        assert done.stdout.readline() == "caught 15\n"
        assert done.wait(30) == 42


def test_log_json_of_an_error(masu_oci: Runtime, probe_rootfs: Path) -> None:
    log = masu_oci.folder / "log"
    bundle = str(masu_oci.bundle(probe_rootfs, lambda c: c["mounts"][3].update(options=["siz=1m"])))
    command = [*masu_oci.command, "--log", str(log), "--log-format", "json", "run", "--bundle", bundle, masu_oci.id()]
    assert subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 1
    record = json.loads(log.read_text().splitlines()[-1])
    assert record["level"] == "error"
    assert record["error"]["kind"]
    assert record["error"]["where"].startswith("mounts[3]")


def test_a_working_directory_that_is_missing_is_made(runtime: Runtime, own_probe_rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["cwd"] = "/srv/app"
        config["root"]["readonly"] = True

    assert runtime.run(own_probe_rootfs, "cwd", "--", "mode", "/srv/app", change=change).stdout.startswith("/srv/app\n")
    assert (own_probe_rootfs / "srv/app").stat().st_mode & 0o7777 == 0o755


def test_an_exec_comes_into_a_container_that_is_full(masu_oci: Runtime, probe_rootfs: Path) -> None:
    # runc mostly manages it, too: when its Go runtime wants no more threads in the meantime.
    def change(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["/bin/probe", "sleep"]
        config["linux"]["resources"] = {"pids": {"limit": 1}}

    id, pid_file = masu_oci.id(), masu_oci.folder / "pid"
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(probe_rootfs, change)), id)
    masu_oci("exec", "-d", "--pid-file", str(pid_file), id, "/bin/probe", "sleep")
    pids = str(masu_oci.state(id)["pid"]), pid_file.read_text()
    first, second = (Path("/proc", pid, "cgroup").read_text() for pid in pids)
    assert first == second
    assert id in first
