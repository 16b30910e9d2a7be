"""Run by a user without root: his one id or subordinate ids, with a delegated cgroup or none."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.callers import document
from harness.oci import Runtime, wait_exited
from harness.programs import MASU_OCI
from harness.pty import Terminal
from harness.rootless import CHECKOUT, GID, NAME, SUBIDS, UID, RootlessRuntime, bind, map_ids, require
from images.rootfs import copy
from images.rootfs import rootfs as image

from masu.linux import mount

pytestmark = pytest.mark.root

HELPERS = ("/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid")


def sleeping(config: dict[str, Any]) -> None:
    config["process"]["args"] = ["/bin/probe", "sleep"]


def with_ranges(config: dict[str, Any]) -> None:
    require(*HELPERS)
    map_ids(config, ranges=True)


def sleeping_with_ranges(config: dict[str, Any]) -> None:
    sleeping(config)
    with_ranges(config)


def refusal(runtime: Runtime, rootfs: Path, change: Any) -> str:
    """What `run` says when it refuses; nothing of the container is left then."""
    done = runtime.run(rootfs, "exit", "0", change=change, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert not runtime.root.exists() or os.listdir(runtime.root) == []
    return str(done.stderr).replace('\\"', '"')  # as the log quotes it


# --- ids


@pytest.mark.parametrize("change", [sleeping, sleeping_with_ranges], ids=["single id", "ranges"])
def test_the_whole_life(runtime: Runtime, rootfs: Path, change: Any) -> None:
    id = runtime.id()
    runtime("create", "--bundle", str(runtime.bundle(rootfs, change)), id)
    state = runtime.state(id)
    assert state["status"] == "created"
    pid = state["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == UID  # its user may look at its namespaces, before it runs as well
    runtime("start", id)
    assert runtime.state(id)["status"] == "running"
    (entry,) = json.loads(runtime("list", "--format", "json").stdout)
    assert (entry["id"], entry["owner"]) == (id, NAME)
    assert runtime("exec", id, "/bin/probe", "echo", "inside").stdout == "inside\n"
    runtime("kill", id, "KILL")
    wait_exited(pid)
    assert runtime.state(id)["status"] == "stopped"
    runtime("delete", id)
    assert runtime("list", "-q").stdout == ""


def test_a_single_id(runtime: Runtime, rootfs: Path) -> None:
    said = runtime.run(rootfs, "id", "--", "cat", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups")
    who, uid_map, gid_map, setgroups = said.stdout.splitlines()
    assert who == "uid=0 euid=0 gid=0 egid=0 umask=0022 groups="
    assert (uid_map.split(), gid_map.split()) == (["0", str(UID), "1"], ["0", str(GID), "1"])
    assert setgroups == "deny"


def test_subordinate_ids(masu_oci: Runtime, rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        with_ranges(config)
        # runc gives no supplementary groups to a container of a user, though it could.
        config["process"]["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}

    said = masu_oci.run(rootfs, "id", "--", "cat", "/proc/self/uid_map", "/proc/self/setgroups", change=change)
    who, own, ranges, setgroups = said.stdout.splitlines()
    assert who == "uid=7 euid=7 gid=8 egid=8 umask=0022 groups=9"
    assert (own.split(), ranges.split()) == (["0", str(UID), "1"], ["1", str(SUBIDS[0]), str(SUBIDS[1])])
    assert setgroups == "allow"


def test_the_own_id_need_not_be_root(masu_oci: Runtime, rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        for name in ("uidMappings", "gidMappings"):
            config["linux"][name][0]["containerID"] = 1000
        config["process"]["user"] = {"uid": 1000, "gid": 1000}
        sleeping(config)

    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, change)), id)
    assert masu_oci("exec", id, "/bin/probe", "id").stdout.startswith("uid=1000 euid=1000 gid=1000 egid=1000 ")


def test_ids_that_are_not_the_users(masu_oci: Runtime, rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        with_ranges(config)
        config["linux"]["gidMappings"][1]["hostID"] = 400000

    said = refusal(masu_oci, rootfs, change)
    assert "newgidmap" in said
    assert f'/etc/subgid would need the line "{NAME}:400000:65536"' in said
    assert f"usermod --add-subgids 400000-465535 {NAME}" in said


def test_the_helpers_are_not_installed(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    require(*HELPERS)
    masu_oci.user.prepare.append(lambda: bind("/dev/null", "/usr/bin/newuidmap"))
    said = refusal(masu_oci, rootfs, with_ranges)
    assert "newuidmap" in said
    assert "install the package uidmap" in said


def test_groups_of_the_caller_cannot_be_dropped_nor_others_taken(masu_oci: Runtime, rootfs: Path) -> None:
    said = refusal(masu_oci, rootfs, lambda c: c["process"].update(user={"uid": 0, "gid": 0, "additionalGids": [0]}))
    assert "process.user" in said
    assert "setgroups" in said


def test_a_user_that_is_not_mapped(masu_oci: Runtime, rootfs: Path) -> None:
    said = refusal(masu_oci, rootfs, lambda c: c["process"].update(user={"uid": 5, "gid": 0}))
    assert "process.user" in said
    assert "not mapped" in said


REFUSED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "no user namespace": (
        lambda c: (c["linux"]["namespaces"].pop(), c["linux"].pop("uidMappings"), c["linux"].pop("gidMappings")),
        ("linux.namespaces", "rootless container requires user namespaces")),
    "no mapping": (
        lambda c: c["linux"].pop("gidMappings"), ("linux.gidMappings", "no gid mappings found")),
    "group of a devpts": (
        lambda c: c["mounts"][2]["options"].append("gid=5"),
        ("mounts[2].options[5]", "cannot specify gid= mount option for rootless container")),
    "sysfs of the host's network": (
        lambda c: (c["linux"]["namespaces"].pop(1),
                   c["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs"})),
        ("mounts[4]", "EPERM", "network namespace")),
    "queues of the host": (
        lambda c: (c["linux"]["namespaces"].pop(2),
                   c["mounts"].append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"})),
        ("mounts[4]", "EPERM", "ipc namespace")),
    "a hard limit": (
        lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_NPROC", "soft": 9, "hard": 1 << 40}]),
        ("process.rlimits[0]", "EPERM", "CAP_SYS_RESOURCE")),
    "a better chance": (
        lambda c: c["process"].update(oomScoreAdj=-999), ("process.oomScoreAdj", "EACCES", "CAP_SYS_RESOURCE")),
    "a limit of processes without a cgroup": (
        lambda c: c["linux"].update(resources={"pids": {"limit": 20}}),
        ("linux.resources", "cgroup", "delegated")),
    "a limit without a cgroup": (
        lambda c: c["linux"].update(resources={"memory": {"limit": 64 << 20}}),
        ("linux.resources", "cgroup", "delegated")),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(masu_oci: Runtime, rootfs: Path, what: str) -> None:
    change, words = REFUSED[what]
    said = refusal(masu_oci, rootfs, change)
    assert [word for word in words if word not in said] == [], said


# --- the starter configuration, the terminal


def test_what_spec_writes_runs_as_it_is(runtime: RootlessRuntime) -> None:
    runtime.user.own(copy(image("busybox"), runtime.folder / "rootfs"))
    spec, run = (words[1:] for words in document.commands("Without root"))
    runtime(*spec)
    runtime.ids.append(run[-1])
    command = [*runtime.command, *run]
    become = runtime.user.become
    with Terminal(command, become=become, env=runtime.user.environment, cwd=runtime.folder) as terminal:
        terminal.wait_for("# ")
        terminal.type("tty; stty size; id -u; ls -d /sys/fs/cgroup/*\r")
        said = terminal.wait_for("24 80")
        assert "/dev/pts/0" in said
        terminal.type("exit 4\r")
        terminal.rest()
        assert terminal.wait() == 4


# --- state


def test_the_state_is_the_users(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    default = [f"{CHECKOUT}/masu-oci"]
    masu_oci.command = default
    masu_oci("create", "--bundle", str(masu_oci.bundle(rootfs, sleeping)), masu_oci.id())
    folder = masu_oci.user.runtime_directory / "masu/oci"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1700
    assert (folder.stat().st_uid, os.listdir(folder)) == (UID, masu_oci.ids)


def test_without_a_runtime_directory(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    masu_oci.command = [f"{CHECKOUT}/masu-oci"]
    environment = {**masu_oci.user.environment, "XDG_RUNTIME_DIR": ""}
    bundle = str(masu_oci.bundle(rootfs))
    refused = masu_oci("create", "--bundle", bundle, "masu-test-nobody", env=environment, check=False)
    assert refused.returncode == 1
    assert "XDG_RUNTIME_DIR" in refused.stderr


def test_root_does_not_obey_a_users_files(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, sleeping)), id)
    for verb in (["delete", "--force"], ["kill"], ["state"]):
        command = [MASU_OCI, "--root", str(masu_oci.root), *verb, id]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert f"its state belongs to uid {UID}" in refused.stderr
    assert masu_oci.state(id)["status"] == "running"


# --- without a cgroup


def test_without_a_pid_namespace_as_well(masu_oci: Runtime, rootfs: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].pop(0)
        config["mounts"][0] = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
        config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []

    warned = masu_oci.run(rootfs, "exit", "0", change=change).stderr
    assert "Such configuration is strongly discouraged" in warned


def test_without_a_cgroup(masu_oci: Runtime, rootfs: Path) -> None:
    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, sleeping)), id)
    masu_oci("exec", "-d", id, "/bin/probe", "sleep")
    pids = json.loads(masu_oci("ps", "-f", "json", id).stdout)
    assert len(pids) == 2
    assert masu_oci.state(id)["pid"] in pids
    for verb in (["pause"], ["update", "--memory", "64000000"], ["events", "--stats"]):
        refused = masu_oci(verb[0], *verb[1:], id, check=False)
        assert refused.returncode == 1
        assert "cgroup" in refused.stderr, refused.stderr
    masu_oci("kill", "--all", id, "KILL")
    for pid in pids:
        wait_exited(pid)
    masu_oci("delete", id)


# --- mounts, devices


def test_attributes_that_the_host_has_locked(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    """They stay with a bind, whatever it says of others; what would take them back is refused (mount_namespaces(7))."""
    attr = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_RDONLY
    source = masu_oci.user.home / "locked"
    source.mkdir()

    def mount_it() -> None:
        fd = mount.new_mount("tmpfs", "tmpfs", ("mode=755",), attr=attr)
        mount.attach(fd, str(source))
        os.close(fd)

    masu_oci.user.prepare.append(mount_it)

    def change(*options: str) -> Any:
        entry = {"destination": "/locked", "type": "bind", "source": str(source), "options": ["bind", *options]}
        return lambda c: c["mounts"].append(entry)

    def options_inside(*options: str) -> set[str]:
        lines = masu_oci.run(rootfs, "mounts", change=change(*options)).stdout.splitlines()
        (line,) = (line.split() for line in lines if line.split()[4] == "/locked")
        return set(line[5].split(","))

    assert options_inside() >= {"ro", "nosuid", "nodev"}
    assert options_inside("noexec") >= {"ro", "nosuid", "nodev", "noexec"}
    for option in ("rw", "dev", "suid"):
        said = refusal(masu_oci, rootfs, change(option))
        assert "mounts[4].options" in said
        assert "EPERM" in said
        assert "the host has locked" in said


def test_a_tree_with_mounts_in_it_goes_as_a_whole(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    def change(option: str) -> Any:
        entry = {"destination": "/sys", "type": "bind", "source": "/sys", "options": [option, "ro"]}
        return lambda c: c["mounts"].append(entry)

    said = refusal(masu_oci, rootfs, change("bind"))
    assert "mounts[4].source" in said
    assert "use rbind" in said
    assert "cgroup" in masu_oci.run(rootfs, "ls", "/sys/fs", change=change("rbind")).stdout.split()


@pytest.mark.parametrize("rbind", [False, True])
def test_nothing_of_the_hosts_cgroups_can_be_changed(masu_oci: Runtime, rootfs: Path, rbind: bool) -> None:
    """CVE-2023-25809: below a /sys of the host they would be writable where they are delegated."""

    def change(config: dict[str, Any]) -> None:
        if rbind:
            entry = {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]}
            config["mounts"].append(entry)
        entry = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}
        config["mounts"].append(entry)

    said = masu_oci.run(rootfs, "ls", "/sys/fs/cgroup", "--", "create", "/sys/fs/cgroup/x", "x", change=change).stdout
    assert said.split()[-2:] == ["ERROR", "EROFS"]


def test_devices_are_the_hosts(runtime: Runtime, rootfs: Path) -> None:
    said = runtime.run(rootfs, "mode", "/dev/null", "/dev/zero", "/dev/tty", "--", "write", "/dev/null", "x").stdout
    null, zero, tty, written = said.splitlines()
    assert (null.split()[0], null.split()[-1]) == ("c", "1:3")
    assert (zero.split()[-1], tty.split()[-1], written) == ("1:5", "5:0", "ok")


def test_a_device_that_is_asked_for(masu_oci: Runtime, rootfs: Path) -> None:
    require("/dev/fuse")
    device = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}
    said = masu_oci.run(rootfs, "mode", "/dev/fuse", change=lambda c: c["linux"].update(devices=[device])).stdout
    assert said.split()[-1] == "10:229"
    device["path"] = "/dev/masu-nothing"
    said = refusal(masu_oci, rootfs, lambda c: c["linux"].update(devices=[device]))
    assert "linux.devices[0]" in said
    assert "ENOENT" in said


# --- what else a container has


def test_ptmx_is_the_containers_own(runtime: Runtime, rootfs: Path) -> None:
    device = {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}
    said = runtime.run(rootfs, "readlink", "/dev/ptmx", change=lambda c: c["linux"].update(devices=[device])).stdout
    assert said == "pts/ptmx\n"


def test_hooks(runtime: RootlessRuntime, rootfs: Path) -> None:
    """They are the user's; one that is called while the container is made may look into its namespaces."""
    log = runtime.folder / "log"
    script = (
        "state=$(tr -d ' \\n\\t'); pid=${state##*'\"pid\":'}; pid=${pid%%[!0-9]*}; "
        f"echo $0 $(id -u) $(readlink /proc/$pid/ns/uts) >> {log}"
    )

    def change(config: dict[str, Any]) -> None:
        names = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
        config["hooks"] = {name: [{"path": "/bin/sh", "args": ["sh", "-c", script, name]}] for name in names}
        # Its world is the container's, but for the root.
        config["hooks"]["createContainer"][0]["args"][2] = f"echo $0 $(id -u) >> {log}"

    runtime.run(rootfs, "exit", "0", change=change)
    said = [line.split() for line in log.read_text().splitlines()]
    assert [words[0] for words in said] == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    assert [words[1] for words in said] == [str(UID), str(UID), "0", str(UID), str(UID)]
    assert said[0][2] == said[1][2] != os.readlink("/proc/self/ns/uts")


def test_seccomp_and_capabilities(runtime: Runtime, rootfs: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    said = runtime.run(rootfs, "mkdir", "/x", "--", "caps", change=lambda c: c["linux"].update(seccomp=profile)).stdout
    made, caps = said.splitlines()
    assert made == "ERROR EOPNOTSUPP"
    assert "bounding=20000420 effective=20000420 inheritable=0 permitted=20000420 ambient=0 nnp=1 seccomp=2" in caps


def test_preserved_fds(runtime: RootlessRuntime, rootfs: Path) -> None:
    bundle = str(runtime.bundle(rootfs, lambda c: c["process"].update(args=["/bin/probe", "fds"])))
    with open("/etc/passwd", "rb") as file:
        os.set_inheritable(file.fileno(), True)

        def become() -> None:
            os.dup2(file.fileno(), 3)
            runtime.user.become()

        said = runtime("run", "--preserve-fds", "1", "--bundle", bundle, runtime.id(),
                       preexec_fn=become, close_fds=False).stdout  # fmt: skip
    assert [line.split()[0] for line in said.splitlines()][:4] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("change", [sleeping, sleeping_with_ranges], ids=["single id", "ranges"])
def test_exec_with_a_terminal(runtime: RootlessRuntime, rootfs: Path, change: Any) -> None:
    id = runtime.id()
    runtime("run", "-d", "--bundle", str(runtime.bundle(rootfs, change)), id)
    command = [*runtime.command, "exec", "-t", id, "/bin/probe", "isatty", "--", "winsize", "--", "exit", "3"]
    become = runtime.user.become
    with Terminal(command, become=become, env=runtime.user.environment, cwd=runtime.folder) as terminal:
        said = terminal.rest()
        assert (terminal.wait(), said.split()[:3]) == (3, ["tty", "tty", "tty"])
        if runtime.name == "masu-oci":  # runc may set the size when the program has asked already
            assert said.split()[3] == "24"


# --- as root of a user namespace, which is how Podman and Buildah call a runtime


@pytest.mark.parametrize("ranges", [False, True], ids=["single id", "ranges"])
def test_inside_a_user_namespace(runtime: RootlessRuntime, rootfs: Path, ranges: bool) -> None:
    require(*HELPERS)

    def change(config: dict[str, Any]) -> None:
        sleeping(config)
        config["linux"]["namespaces"].pop()
        for name in ("uidMappings", "gidMappings"):
            del config["linux"][name]
        if ranges:
            config["process"]["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}
            config["mounts"][2]["options"].append("gid=5")

    bundle = runtime.bundle(rootfs, change)
    pid_file = runtime.folder / "pid"
    id = runtime.id()
    call = " ".join(runtime.command)
    script = (
        f"set -e; {call} create --bundle {bundle} --pid-file {pid_file} {id} > /dev/null; {call} start {id}\n"
        f"{call} exec {id} /bin/probe id; {call} kill {id} KILL; while kill -0 $(cat {pid_file}); do sleep 0.01; done\n"
        f"{call} delete {id}; {call} list -q"
    )
    enter = ["unshare", "--user", "--mount", "--map-root-user", *(["--map-auto"] if ranges else []), "--", "sh", "-c"]
    done = runtime.call([*enter, script])
    who = "uid=7 euid=7 gid=8 egid=8 umask=0022 groups=9" if ranges else "uid=0 euid=0 gid=0 egid=0 umask=0022 groups="
    assert done.stdout == who + "\n"


def test_checkpoint_is_refused(masu_oci: Runtime, rootfs: Path) -> None:
    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, sleeping)), id)
    for verb in ("checkpoint", "restore"):
        refused = masu_oci(verb, id, check=False)
        assert refused.returncode == 1
        assert "CRIU wants root" in refused.stderr
    assert masu_oci.state(id)["status"] == "running"


def test_root_that_cannot_walk_to_the_bundle(masu_oci: Runtime, rootfs: Path) -> None:
    """All ids are subordinate ones: the container's root is nobody to the user's own 0700 directories."""

    def change(config: dict[str, Any]) -> None:
        with_ranges(config)
        for name in ("uidMappings", "gidMappings"):
            config["linux"][name] = [{"containerID": 0, "hostID": SUBIDS[0], "size": 1000}]
        config["process"].update(args=["/bin/probe", "sleep"], user={"uid": 7, "gid": 8})
        entry = {"destination": "/tmp", "type": "bind", "source": str(masu_oci.folder), "options": ["bind", "ro"]}
        config["mounts"].append(entry)

    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, change)), id)
    pid = masu_oci.state(id)["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == SUBIDS[0] + 7
    assert masu_oci("exec", "-u", "0:0", id, "/bin/probe", "id", "--", "ls", "/tmp").stdout == (
        "uid=0 euid=0 gid=0 egid=0 umask=0022 groups=\nERROR EACCES\n"
    )
    masu_oci("kill", id, "KILL")
    wait_exited(pid)
    masu_oci("delete", id)


def test_mounts_that_come_later(masu_oci: RootlessRuntime, rootfs: Path) -> None:
    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(masu_oci.bundle(rootfs, sleeping)), id)
    source = masu_oci.user.home / "volume"
    source.mkdir()
    (source / "file").write_text("from the host\n")
    (masu_oci.folder / "mounts.json").write_text(json.dumps([
        {"destination": "/home", "type": "bind", "source": str(source), "options": ["bind", "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
    ]))  # fmt: skip
    masu_oci.user.own(masu_oci.folder)
    masu_oci("mounts", "add", id, "mounts.json")
    look = ["cat", "/home/file", "--", "create", "/home/x", "x", "--", "create", "/tmp/x", "x"]
    assert masu_oci("exec", id, "/bin/probe", *look).stdout == "from the host\nERROR EROFS\nok\n"
    masu_oci("mounts", "remove", id, "mounts.json")
    assert masu_oci("exec", id, "/bin/probe", "ls", "/home").stdout == ""
