"""CVE-2024-21626 ("Leaky Vessels"): a descriptor of the host that is open while the container's own words are obeyed.

Three ways lead out through one: the working directory, the way to the program, and /proc/PID/fd of a process that
waits. Each is tried with what we have open ourselves and with what our caller left open.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from harness.oci import Runtime
from kernel.security.staging import UP, Config, Outside, Victim, probe

pytestmark = pytest.mark.root

NUMBERS = range(3, 13)
CONTENT = ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp"]


def test_cve_2024_21626_cwd(masu_oci: Runtime, own_probe_rootfs: Path) -> None:
    """process.cwd = /proc/self/fd/N: from wherever that leads, the top must be the container's."""
    with Victim(masu_oci, own_probe_rootfs) as victim:
        for number in NUMBERS:
            place = f"/proc/self/fd/{number}"

            def there(config: Config, place: str = place) -> None:
                config["process"]["cwd"] = place

            results = [
                masu_oci.run(own_probe_rootfs, "ls", UP, change=there, check=False),
                victim.exec("/bin/probe", "ls", UP, options=("--cwd", place), check=False),
            ]
            for done in results:
                assert done.returncode != 0 or done.stdout.split() == CONTENT, (number, done)


def test_cve_2024_21626_cwd_of_the_image(masu_oci: Runtime, own_probe_rootfs: Path) -> None:
    """The same, when the config is harmless and the image turns its directory into a symlink."""
    for number in NUMBERS:
        (own_probe_rootfs / "work").unlink(missing_ok=True)
        (own_probe_rootfs / "work").symlink_to(f"/proc/self/fd/{number}")
        done = masu_oci.run(
            own_probe_rootfs, "ls", UP, change=lambda config: config["process"].update(cwd="/work"), check=False
        )
        assert done.returncode != 0 or done.stdout.split() == [*CONTENT, "work"], (number, done)


def test_cve_2024_21626_left_open_by_the_caller(masu_oci: Runtime, probe_rootfs: Path, outside: Outside) -> None:
    """A directory of the host that is passed on on purpose is reachable; a working directory it is not for all that."""
    masu_oci.command = ["sh", "-c", 'exec 3<"$0" 4<"$0"; exec "$@"', str(outside.path), *masu_oci.command]

    def there(config: Config) -> None:
        probe(config, "ls", UP)
        config["process"]["cwd"] = "/proc/self/fd/4"

    looking = str(masu_oci.bundle(probe_rootfs, lambda config: probe(config, "ls", "/proc/self/fd/4")))
    going = str(masu_oci.bundle(probe_rootfs, there))
    passed = ("--preserve-fds", "2")
    done = masu_oci("run", *passed, "--bundle", looking, masu_oci.id())
    assert done.stdout.split() == ["empty", "file", "folder"]
    refused = masu_oci("run", *passed, "--bundle", going, masu_oci.id(), check=False)
    assert refused.returncode != 0
    assert "outside of the container's root" in refused.stderr
    # Not passed on, but open in masu-oci itself: it is another descriptor in there, or none.
    done = masu_oci("run", "--bundle", going, masu_oci.id(), check=False)
    assert done.returncode != 0 or done.stdout.split() == CONTENT
    done = masu_oci("run", "--bundle", looking, masu_oci.id(), check=False)
    assert "folder" not in done.stdout


def test_cve_2024_21626_program(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside) -> None:
    """The way to the program goes up from an open descriptor: a program of the host would run in the container."""
    program = outside.add(own_probe_rootfs / "bin/probe")
    link = own_probe_rootfs / "bin/program"
    bundle = masu_oci.bundle(own_probe_rootfs, lambda config: config["process"].update(args=["program", "echo", "OUT"]))
    with Victim(masu_oci, own_probe_rootfs) as victim:
        for number in NUMBERS:
            link.unlink(missing_ok=True)
            link.symlink_to(f"/proc/self/fd/{number}/{UP}{str(program)[1:]}")
            # Looked for in PATH, and by its path.
            for done in (
                masu_oci("run", "--bundle", str(bundle), masu_oci.id(), check=False),
                victim.exec("/bin/program", "echo", "OUT", check=False),
            ):
                assert done.returncode != 0, (number, done)
                assert "OUT" not in done.stdout, (number, done)
    outside.check()


def test_cve_2024_21626_program_of_a_hook(masu_oci: Runtime, own_probe_rootfs: Path, outside: Outside) -> None:
    """startContainer hooks run in the container, by paths of the container."""
    program = outside.add(own_probe_rootfs / "bin/probe")
    for number in NUMBERS:
        path = f"/proc/self/fd/{number}/{UP}{str(program)[1:]}"

        def hooked(config: Config, path: str = path) -> None:
            config["hooks"] = {"startContainer": [{"path": path, "args": ["program", "create", "/tmp/out", "x"]}]}

        masu_oci.run(own_probe_rootfs, "exit", "0", change=hooked, check=False)
        assert not (own_probe_rootfs / "tmp/out").exists(), number


@pytest.mark.parametrize("passed", [False, True])
def test_cve_2024_21626_waiting(masu_oci: Runtime, probe_rootfs: Path, outside: Outside, passed: bool) -> None:
    """A container that is created but not started can be entered; its process must not hold anything of the host."""
    folder = os.open(outside.path, os.O_RDONLY | os.O_DIRECTORY)
    id = masu_oci.id()
    try:
        bundle = str(masu_oci.bundle(probe_rootfs, lambda config: probe_sleep(config, outside.path)))
        masu_oci("create", "--bundle", bundle, id, pass_fds=(folder,) if passed else ())
    finally:
        os.close(folder)
    pid = masu_oci.state(id)["pid"]
    root = os.stat(f"/proc/{pid}/root")
    for number in os.listdir(f"/proc/{pid}/fd"):
        about = os.stat(f"/proc/{pid}/fd/{number}")
        if stat.S_ISDIR(about.st_mode):
            assert (about.st_dev, about.st_ino) == (root.st_dev, root.st_ino), os.readlink(f"/proc/{pid}/fd/{number}")
    masu_oci("delete", "--force", id)


def probe_sleep(config: Config, source: Path) -> None:
    probe(config, "sleep")
    config["mounts"].append(
        {"destination": "/volume", "type": "bind", "source": str(source), "options": ["bind", "ro"]}
    )


def test_cve_2024_21626_nothing_crosses(masu_oci: Runtime, own_probe_rootfs: Path) -> None:
    """The program itself finds its three streams and nothing else."""
    fds = os.pipe()
    os.set_inheritable(fds[0], True)
    try:
        done = masu_oci.run(own_probe_rootfs, "fds")
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["0", "1", "2"]
        with Victim(masu_oci, own_probe_rootfs) as victim:
            done = victim.exec("/bin/probe", "fds", pass_fds=(fds[0],))
            assert [line.split()[0] for line in done.stdout.splitlines()] == ["0", "1", "2"]
    finally:
        os.close(fds[0])
        os.close(fds[1])
