"""Who lives how long: the shim with its containers, the containers through the end of everything else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.callers.containerd import Shims
from harness.engine import cgroups_of, wait_until
from harness.programs import ROOT, peer

from masu.api.proto import small

pytestmark = pytest.mark.root

PROGRAM = str(ROOT / "containerd-shim-masu-v2")


@pytest.fixture(autouse=True)
def nothing_is_left(shims: Shims) -> Iterator[None]:
    """After each test no task, no shim, no monitor, no socket, no cgroup, no mount."""
    yield
    for id in shims("tasks", "ls", "-q").split():
        shims.try_("tasks", "rm", "-f", id)
    for id in shims("containers", "ls", "-q").split():
        shims("containers", "rm", id)
    wait_until(lambda: not shims.shims() and not shims.monitors())
    assert shims.runtime_states() == []
    assert shims.sockets() == []
    assert [path for path in cgroups_of(shims.premises.cgroup) if not path.endswith(shims.premises.cgroup)] == []
    assert shims.mounts() == []


def begin(shims: Shims, *ids: str, options: tuple[str, ...] = ()) -> None:
    for id in ids:
        shims(*shims.own(id, "--detach", *options), "sleep", "999")


def test_one_shim_for_all(shims: Shims) -> None:
    begin(shims, "one", "two", "three")
    (shim,) = shims.shims()
    assert len(shims.monitors()) == 3
    shims("tasks", "rm", "-f", "one")
    shims("tasks", "rm", "-f", "three")
    assert shims.shims() == [shim]
    assert shims.status("two") == "RUNNING"
    shims("tasks", "rm", "-f", "two")
    wait_until(lambda: shims.shims() == [])
    begin(shims, "four")
    assert shims.shims() != [shim]


def test_a_group_has_its_own(shims: Shims) -> None:
    """As containerd's shim groups, and Kubernetes' pods with it."""
    begin(shims, "alone")
    label = ("--annotation", "io.containerd.runc.v2.group=pod")
    begin(shims, "first", "second", options=label)
    assert len(shims.shims()) == 2


def test_many_at_once(shims: Shims) -> None:
    """Begun and ended together: the one that is the last to one is the first to another."""
    runs = [
        subprocess.Popen(
            [*shims.premises.prefix, *shims.words, *shims.own(f"many{number}", "--rm"), "sh", "-c", f"exit {number}"],
            env=shims.premises.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    ended = [(run.communicate(timeout=60)[1], run.returncode) for run in runs]
    assert ended == [("", number) for number in range(8)]


@pytest.mark.parametrize("kill", [False, True])
def test_containerd_is_started_anew(shims: Shims, kill: bool) -> None:
    """Tasks run on meanwhile, are there afterwards, and what happened to them is told."""
    begin(shims, "stays", "ends")
    waiting = subprocess.Popen(
        [*shims.premises.prefix, *shims.words, "tasks", "exec", "--exec-id", "e", "stays", "sleep", "999"],
        env=shims.premises.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(shims("tasks", "ps", "stays").splitlines()) == 3)
    pids = {line.split()[0]: line.split()[1] for line in shims("tasks", "ls").splitlines()[1:]}
    before = shims.shims()
    shims.end(kill=kill)
    waiting.wait(20)
    os.kill(int(pids["ends"]), signal.SIGKILL)
    shims.begin()
    assert shims.shims() == before
    assert shims.status("stays") == "RUNNING"
    # Newer ones than 1.6 take away at once what has ended while they were away.
    wait_until(lambda: shims.status("ends") in ("STOPPED", ""))
    if shims.status("ends"):
        assert pids == {line.split()[0]: line.split()[1] for line in shims("tasks", "ls").splitlines()[1:]}
        assert "exit code 137" in shims.try_("tasks", "rm", "ends").stderr
    assert shims("tasks", "exec", "--exec-id", "again", "stays", "echo", "alive") == "alive\n"
    # Ends are still heard of, on the new connection.
    shims("tasks", "kill", "-s", "KILL", "stays")
    wait_until(lambda: shims.status("stays") == "STOPPED")


def test_events_wait_for_containerd(shims: Shims) -> None:
    """What happens while it is away is told when it is back."""
    begin(shims, "ends", "stays")
    pid = shims("tasks", "ps", "ends").split()[-2]
    shims.end()
    os.kill(int(pid), signal.SIGKILL)
    shims.begin()
    listener = subprocess.Popen(
        [*shims.premises.prefix, *shims.words, "events"],
        stdout=subprocess.PIPE,
        text=True,
        env=shims.premises.environment,
    )
    try:
        assert listener.stdout is not None
        wait_until(lambda: shims.status("ends") in ("STOPPED", ""))
        shims("tasks", "pause", "stays")  # comes after it, if it is in order
        told = []
        while "/tasks/paused" not in (line := listener.stdout.readline()):
            told.append(line)
        # The exit may have arrived before the listener listened; it may not come later.
        shims("tasks", "resume", "stays")
        assert "/tasks/resumed" in listener.stdout.readline()
        assert all("/tasks/exit" in line or "/tasks/delete" in line for line in told)
    finally:
        listener.kill()
        listener.wait()
        assert listener.stdout is not None
        listener.stdout.close()


def test_killed_shim(shims: Shims) -> None:
    """containerd cleans up by `delete`: all of its containers are ended, with an exit, and nothing is left."""
    begin(shims, "one", "two")
    (shim,) = shims.shims()
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: shims.runtime_states() == [])
    wait_until(lambda: shims.status("one") in ("", "STOPPED") and shims.status("two") in ("", "STOPPED"))
    assert shims.monitors() == []
    begin(shims, "three")  # over the socket that the killed one has left
    assert len(shims.shims()) == 1


def test_killed_shim_of_another_runtimes_container(shims: Shims) -> None:
    """That one is asked to remove it."""
    shims(*shims.own("others", "--detach", binary=peer("runc")), "sleep", "999")
    runc = [peer("runc"), "--root", "/run/containerd/runc/default", "list", "-q"]
    assert shims.premises.run(runc).stdout == "others\n"
    (shim,) = shims.shims()
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: shims.runtime_states() == [] and shims.monitors() == [])
    assert shims.premises.run(runc).stdout == ""
    wait_until(lambda: shims.status("others") in ("", "STOPPED"))


def test_killed_while_it_makes_a_container(shims: Shims, tmp_path: Path) -> None:
    """In the middle of a create, while a hook keeps it: nothing of that is left either."""
    marker, config = tmp_path / "hooked", tmp_path / "config.json"
    spec = json.loads(shims("oci", "spec"))
    spec["root"], spec["process"]["args"] = {"path": str(tmp_path / "root")}, ["/nothing"]
    (tmp_path / "root").mkdir()
    spec["linux"]["cgroupsPath"] = f"/{shims.premises.cgroup}/halfway"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f": > {marker}; exec sleep 999"]}
    spec["hooks"] = {"createRuntime": [hook]}
    config.write_text(json.dumps(spec))
    words = [*shims.words, "run", "--runtime", shims.RUNTIME, "--config", str(config), "--detach", "halfway"]
    maker = subprocess.Popen(
        [*shims.premises.prefix, *words],
        env=shims.premises.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_until(marker.exists)
    (shim,) = shims.shims()
    os.kill(shim, signal.SIGKILL)
    assert b"ttrpc: closed" in maker.communicate(timeout=20)[1]
    wait_until(lambda: shims.runtime_states() == [] and shims.monitors() == [])
    # The hook is nobody's any more (with masu-oci it would be its caller's).
    for pid in shims.premises.pids():
        if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def test_killed_with_containerd(shims: Shims) -> None:
    """All of it at once, but for the containers and their monitors: the next containerd ends them."""
    begin(shims, "one", "two")
    (shim,) = shims.shims()
    shims.end(kill=True)
    os.kill(shim, signal.SIGKILL)
    assert len(shims.monitors()) == 2
    shims.begin()
    wait_until(lambda: shims.runtime_states() == [] and shims.monitors() == [])


def test_killed_again_and_again(shims: Shims) -> None:
    """At whatever it is while containers come and go: each of them ends, one way or the other, and nothing is left."""

    def run(number: int) -> None:
        words = [*shims.premises.prefix, *shims.words, *shims.own(f"hit{number}", "--rm"), "sleep", "0.2"]
        quiet = subprocess.DEVNULL
        environment = shims.premises.environment
        subprocess.run(words, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, timeout=60, check=False)

    kills = 0
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(run, number) for number in range(24)]
        while not all(future.done() for future in runs):
            done = sum(future.done() for future in runs)
            # Not before something has ended, with or without our help.
            for pid in shims.shims() if done >= 2 * kills else []:
                os.kill(pid, signal.SIGKILL)
                kills += 1
        for future in runs:
            future.result()
    assert kills > 3
    # What the last one that was killed has left beside its socket, the next one takes away when it leaves.
    shims(*shims.own("after", "--rm"), "true")


def test_killed_monitor(shims: Shims) -> None:
    """The container ends with it, and is told of as lost: status 255."""
    begin(shims, "lost")
    (monitor,) = shims.monitors()
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: shims.status("lost") == "STOPPED")
    assert "exit code 255" in shims.try_("tasks", "rm", "lost").stderr


def test_stopped_from_outside(shims: Shims) -> None:
    """SIGTERM to a shim, as at a shutdown: it leaves, and containerd cleans up after it."""
    begin(shims, "one")
    os.kill(shims.shims()[0], signal.SIGTERM)
    wait_until(lambda: shims.runtime_states() == [])


def test_start_by_a_brain_and_without_one(shims: Shims, tmp_path: Path) -> None:
    """They answer the same and find each other's shim; `delete` of what is not there says the same, too."""
    (tmp_path / "config.json").write_text("{}")
    options = small.Any(type_url="containerd.runc.v1.Options", value=small.Options(no_pivot_root=True).encode())
    sockets = str(shims.premises.folder / "s")
    params = small.BootstrapParams(
        instance_id="a",
        namespace="both",
        containerd_grpc_address="/elsewhere",
        socket_dir=sockets,
        extensions=[small.Extension(value=options)],
    )

    def call(brain: str, verb: str, stdin: bytes = b"") -> bytes:
        words = ["-namespace", "both", "-id", "a", "-address", "/a", "-bundle", str(tmp_path), verb]
        command = [
            *shims.premises.prefix,
            "sh",
            "-c",
            'cd "$1"; shift; exec "$@"',
            "sh",
            str(tmp_path),
            PROGRAM,
            *words,
        ]
        # Ours as it is told by a service manager, to which nothing is said here.
        environment = {**shims.premises.environment, "MASU_BRAIN": brain, "NOTIFY_SOCKET": "/nowhere"}
        return subprocess.run(command, input=stdin, env=environment, stdout=subprocess.PIPE, check=True).stdout

    for stdin, count in ((b"", 1), (options.encode(), 1), (params.encode(), 2)):
        answers = {call(brain, "start", stdin) for brain in ("require", "off", "require")}
        assert len(answers) == 1
        assert len(shims.shims()) == count
    assert small.BootstrapResult.decode(answers.pop()).address.startswith(f"unix://{sockets}/")
    for brain in ("require", "off"):
        assert small.DeleteResponse.decode(call(brain, "delete")).exit_status == 137
    for pid in shims.shims():  # they wait for what was announced
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: shims.shims() == [] and os.listdir(sockets) == [])


def test_words(shims: Shims) -> None:
    said = shims.premises.run([PROGRAM, "-v"]).stdout
    assert said.startswith("containerd-shim-masu-v2:\n  Version:")
    for words, complaint in (
        (["start"], "shim namespace cannot be empty"),
        (["-namespace", "default", "-nothing", "start"], "flag provided but not defined"),
        (["-namespace"], "flag needs an argument"),
        (["-namespace", "../x", "-id", "a", "start"], "invalid character"),
        (["-namespace", "default", "-id", "../x", "delete"], "invalid character"),
        (["-namespace", "default", "start"], "invalid container ID"),
        (["-namespace", "default", "-id", "a", "dance"], "start and delete are known"),
    ):
        done = shims.premises.run([PROGRAM, *words], check=False)
        assert done.returncode == 1
        assert complaint in done.stderr, done.stderr
