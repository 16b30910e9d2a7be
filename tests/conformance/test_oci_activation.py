"""What a service manager gives: sockets that it has opened (sd_listen_fds(3)), descriptors that are passed on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.oci import Runtime

pytestmark = pytest.mark.root

# The shell's pid is the runtime's own after exec; two files stand for the sockets.
GIVEN = 'export LISTEN_PID=$$; exec "$@" 3</etc/passwd 4</etc/group'
NAMES = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}


def said_inside(runtime: Runtime, rootfs: Path, script: str, env: dict[str, str], *options: str) -> list[str]:
    """The fds and the environment of a first process, whose runtime was called by `script`."""
    args = ["/bin/probe", "fds", "--", "env"]
    bundle = str(runtime.bundle(rootfs, lambda config: config["process"].update(args=args)))
    command = ["sh", "-c", script, "sh", *runtime.command, "run", *options, "--bundle", bundle, runtime.id()]
    return told(runtime.call(command, env={**os.environ, **env}).stdout)


def told(output: str) -> list[str]:
    return [line for line in output.splitlines() if line[0] in "3456789" or line.startswith("LISTEN_")]


def test_first_process_gets_the_sockets(runtime: Runtime, probe_rootfs: Path) -> None:
    said = said_inside(runtime, probe_rootfs, GIVEN, NAMES)
    assert [line.split()[0] for line in said if not line.startswith("LISTEN_")] == ["3"]
    assert {"LISTEN_FDS=1", "LISTEN_PID=1"} <= set(said)
    if runtime.name == "masu-oci":
        assert "LISTEN_FDNAMES=web" in said


def test_those_of_preserve_fds_come_after_the_sockets(runtime: Runtime, probe_rootfs: Path) -> None:
    said = said_inside(runtime, probe_rootfs, GIVEN, NAMES, "--preserve-fds", "1")
    assert [line.split()[1] for line in said[:2]] == ["/etc/passwd", "/etc/group"]
    assert "LISTEN_FDS=1" in said


@pytest.mark.parametrize("number", ["one", "", "0", "9" * 5000])
def test_no_number_of_sockets(runtime: Runtime, probe_rootfs: Path, number: str) -> None:
    assert said_inside(runtime, probe_rootfs, GIVEN, {"LISTEN_FDS": number}) == []


def test_less_than_no_sockets(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """runc 1.1 panics."""
    assert said_inside(masu_oci, probe_rootfs, GIVEN, {"LISTEN_FDS": "-1"}) == []


def test_sockets_meant_for_another_process(runtime: Runtime, probe_rootfs: Path) -> None:
    script = 'exec "$@" 3</etc/passwd'
    assert said_inside(runtime, probe_rootfs, script, {**NAMES, "LISTEN_PID": str(os.getpid())}) == []


def test_sockets_meant_for_nobody_in_particular(masu_oci: Runtime, probe_rootfs: Path) -> None:
    said = said_inside(masu_oci, probe_rootfs, 'unset LISTEN_PID; exec "$@" 3</etc/passwd', NAMES)
    assert said == ["3 /etc/passwd", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=web"]


def test_sockets_that_are_not_open(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """What the runtime itself opens at their numbers must not take their places."""
    env = {"LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"}
    said = said_inside(masu_oci, probe_rootfs, 'exec "$@" 3</etc/passwd 4<&- 5</etc/group', env)
    assert said == ["3 /etc/passwd", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=a"]
    assert "file descriptor 4 is not open" in (masu_oci.folder / "err").read_text()


def test_preserved_fds_that_are_not_open(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """In the foreground the runtime has a signalfd, the first that it opens."""
    bundle = str(masu_oci.bundle(probe_rootfs, lambda config: config["process"].update(args=["/bin/probe", "fds"])))
    run = [*masu_oci.command, "run", "--preserve-fds", "1", "--bundle", bundle]
    for env in ({}, {"LISTEN_FDS": "1"}):
        command = ["sh", "-c", 'exec "$@" 3<&-', "sh", *run, masu_oci.id()]
        refused = masu_oci.call(command, check=False, env={**os.environ, **env})
        assert refused.returncode == 1
        assert "file descriptor 3 is not open" in refused.stderr


def test_an_exec_gets_sockets(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id = masu_oci.id()
    bundle = masu_oci.bundle(probe_rootfs, lambda config: config["process"].update(args=["/bin/probe", "sleep"]))
    masu_oci("run", "-d", "--bundle", str(bundle), id)
    command = [*masu_oci.command, "exec", "--preserve-fds", "1", id, "/bin/probe", "fds", "--", "env"]
    said = told(masu_oci.call(["sh", "-c", GIVEN, "sh", *command], env={**os.environ, **NAMES}).stdout)
    assert said == ["3 /etc/passwd", "4 /etc/group", "LISTEN_FDS=1", "LISTEN_FDNAMES=web"]
    # The container's own are its first process's alone.
    assert told(masu_oci("exec", id, "/bin/probe", "fds", "--", "env").stdout) == []
