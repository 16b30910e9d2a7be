"""--systemd-cgroup, with systemd as PID 1: tests/vm/test_guest.py runs these in a guest.

systemctl says what systemd was told, the cgroup's files what the kernel was; both must be right, and stay so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime, wait_exited
from harness.units import launch, loaded, show, sleeping

MIB = 1 << 20
CGROUPS = Path("/sys/fs/cgroup")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="systemd is not PID 1"),
    pytest.mark.skipif(not (CGROUPS / "cgroup.procs").exists(), reason="cgroup v1: test_oci_systemd_v1.py"),
]


@pytest.fixture(params=["masu-oci", "runc"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    it = Runtime(request.param, tmp_path)
    it.command.append("--systemd-cgroup")
    yield it
    it.close()


@pytest.fixture
def masu_oci(tmp_path: Path) -> Iterator[Runtime]:
    it = Runtime("masu-oci", tmp_path)
    it.command.append("--systemd-cgroup")
    yield it
    it.close()


def cgroup_of(pid: int) -> Path:
    return CGROUPS / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")


def started(runtime: Runtime, rootfs: Path, **linux: Any) -> tuple[str, Path]:
    """A running container: its id, and its cgroup."""
    id = runtime.id()
    launch(runtime, id, sleeping(**linux), rootfs)
    return id, cgroup_of(runtime.state(id)["pid"])


def read(cgroup: Path, *names: str) -> list[str]:
    return [(cgroup / name).read_text().strip() for name in names]


def test_the_whole_life(runtime: Runtime, probe_rootfs: Path) -> None:
    id = runtime.id()
    bundle = runtime.bundle(probe_rootfs, sleeping())
    runtime("create", "--bundle", str(bundle), id)
    unit = f"runc-{id}.scope"
    pid = runtime.state(id)["pid"]
    cgroup = cgroup_of(pid)
    assert cgroup == CGROUPS / "system.slice" / unit
    found = show(unit, "ActiveState", "Slice", "Delegate", "Transient", "DefaultDependencies", "ControlGroup")
    assert found == {
        "ActiveState": "active", "Slice": "system.slice", "Delegate": "yes", "Transient": "yes",
        "DefaultDependencies": "no", "ControlGroup": f"/system.slice/{unit}",
    }  # fmt: skip
    assert set(show(unit, *(f"{name}Accounting" for name in ("CPU", "IO", "Memory", "Tasks"))).values()) == {"yes"}
    # Nobody but the container's own process is there.
    assert read(cgroup, "cgroup.procs") == [str(pid)]
    # What comes after it needs no flag: the container knows.
    runtime.command.remove("--systemd-cgroup")
    runtime("start", id)
    assert runtime("exec", id, "/bin/probe", "cat", "/proc/self/cgroup").stdout.strip() == "0::/"
    assert json.loads(runtime("ps", "-f", "json", id).stdout) == [pid]
    runtime("pause", id)
    assert runtime.state(id)["status"] == "paused"
    runtime("resume", id)
    runtime("kill", id, "KILL")
    wait_exited(pid)
    runtime("delete", id)
    assert not loaded(unit)
    assert not cgroup.exists()


def test_limits_and_their_changes(runtime: Runtime, probe_rootfs: Path) -> None:
    resources = {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
        "cpu": {"shares": 1024, "quota": 21000, "period": 100000},
        "pids": {"limit": 20},
        "unified": {"memory.high": str(60 * MIB)},
    }
    id, cgroup = started(runtime, probe_rootfs, resources=resources)
    names = ("MemoryMax", "MemoryLow", "MemorySwapMax", "MemoryHigh", "TasksMax", "CPUQuotaPerSecUSec")
    files = ("memory.max", "memory.low", "memory.swap.max", "memory.high", "pids.max", "cpu.max")
    numbers = [str(size * MIB) for size in (64, 32, 32, 60)]
    assert list(show(cgroup.name, *names).values()) == show_order(cgroup.name, names, [*numbers, "20", "210ms"])
    assert read(cgroup, *files) == [*numbers, "20", "21000 100000"]
    runtime("update", "--memory", str(48 * MIB), "--memory-swap", str(64 * MIB), "--pids-limit", "30", id)
    runtime("update", "--cpu-quota", "50000", id)
    numbers = [str(size * MIB) for size in (48, 32, 16, 60)]
    assert list(show(cgroup.name, *names).values()) == show_order(cgroup.name, names, [*numbers, "30", "500ms"])
    assert read(cgroup, *files) == [*numbers, "30", "50000 100000"]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert read(cgroup, *files) == [*numbers, "30", "50000 100000"]
    runtime("update", "--memory", "-1", "--pids-limit", "-1", id)
    assert show(cgroup.name, "MemoryMax", "TasksMax") == {"MemoryMax": "infinity", "TasksMax": "infinity"}
    assert read(cgroup, "memory.max", "pids.max") == ["max", "max"]


def show_order(unit: str, names: tuple[str, ...], values: list[str]) -> list[str]:
    """The values in the order in which systemctl prints the properties: its own."""
    wanted = dict(zip(names, values, strict=True))
    return [wanted[name] for name in show(unit, *names)]


def test_a_quota_of_whole_percents(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """systemd keeps no more; the file has what it would write there, and a restart of it changes nothing."""
    id, cgroup = started(masu_oci, probe_rootfs, resources={"cpu": {"quota": 20001, "period": 100000}})
    assert read(cgroup, "cpu.max") == ["21000 100000"]
    masu_oci("update", "--cpu-quota", "33333", id)
    for _ in range(2):
        assert read(cgroup, "cpu.max") == ["34000 100000"]
        subprocess.run(["systemctl", "daemon-reexec"], check=True)


def test_a_period_without_a_quota(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """systemd has no such thing and writes its own period, when it comes to it: ours must be later."""
    id, cgroup = started(masu_oci, probe_rootfs, resources={"cpu": {"period": 200000}, "pids": {"limit": 20}})
    assert read(cgroup, "cpu.max") == ["max 200000"]
    masu_oci("update", "--cpu-period", "300000", id)
    assert read(cgroup, "cpu.max") == ["max 300000"]
    masu_oci("update", "--pids-limit", "30", id)
    assert read(cgroup, "cpu.max") == ["max 300000"]


def test_weights(masu_oci: Runtime, probe_rootfs: Path) -> None:
    _, cgroup = started(masu_oci, probe_rootfs, resources={"cpu": {"shares": 512}})
    assert show(cgroup.name, "CPUWeight") == {"CPUWeight": "59"}
    assert read(cgroup, "cpu.weight") == ["59"]
    _, idle = started(masu_oci, probe_rootfs, resources={"cpu": {"idle": 1}})
    assert show(idle.name, "CPUWeight") == {"CPUWeight": "idle"}
    assert read(idle, "cpu.idle") == ["1"]


def test_a_change_that_is_refused_changes_nothing(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id, cgroup = started(masu_oci, probe_rootfs, resources={"pids": {"limit": 20}})
    changes = masu_oci.folder / "changes.json"
    changes.write_text(json.dumps({"pids": {"limit": 30}, "unified": {"memory.max": str(MIB), "cgroup.nothing": "1"}}))
    refused = masu_oci("update", "--resources", str(changes), id, check=False)
    assert refused.returncode == 1
    assert "cgroup.nothing" in refused.stderr
    assert show(cgroup.name, "TasksMax", "MemoryMax") == {"MemoryMax": "infinity", "TasksMax": "20"}
    assert read(cgroup, "pids.max", "memory.max") == ["20", "max"]
    changes.write_text(json.dumps({"memory": {"limit": 4096, "checkBeforeUpdate": True}}))
    refused = masu_oci("update", "--resources", str(changes), id, check=False)
    assert "rejecting memory limit 4096" in refused.stderr
    assert show(cgroup.name, "MemoryMax") == {"MemoryMax": "infinity"}


def test_a_container_that_manages_cgroups(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """config-linux.md, "Cgroup ownership"; runc 1.1.5 does the same. Whose it is when: test_runtime_placing.py."""
    mapping = [{"containerID": 0, "hostID": 0, "size": 6}, {"containerID": 6, "hostID": 100006, "size": 65530}]

    def change(config: dict[str, Any]) -> None:
        config["process"].update(args=["/bin/probe", "sleep"], user={"uid": 7, "gid": 7})
        config["linux"]["namespaces"] += [{"type": "user"}, {"type": "cgroup"}]
        config["linux"].update(uidMappings=mapping, gidMappings=mapping)
        config["mounts"] += [
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]},
        ]

    id = masu_oci.id()
    launch(masu_oci, id, change, probe_rootfs)
    cgroup = cgroup_of(masu_oci.state(id)["pid"])
    masu_oci("update", "--pids-limit", "50", id)
    uids = {name: (cgroup / name).stat().st_uid for name in ("", "cgroup.procs", "cgroup.subtree_control", "pids.max")}
    assert uids == {"": 100007, "cgroup.procs": 100007, "cgroup.subtree_control": 100007, "pids.max": 0}


def test_nested_slices(runtime: Runtime, probe_rootfs: Path) -> None:
    id, cgroup = started(runtime, probe_rootfs, cgroupsPath="masu-tests-deep.slice:box:one")
    assert cgroup == CGROUPS / "masu.slice/masu-tests.slice/masu-tests-deep.slice/box-one.scope"
    assert show("box-one.scope", "Slice") == {"Slice": "masu-tests-deep.slice"}
    runtime("delete", "--force", id)
    subprocess.run(["systemctl", "stop", "masu.slice"], check=True)


def test_a_container_that_is_a_slice(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id, cgroup = started(
        masu_oci, probe_rootfs, cgroupsPath="::masu-own.slice", resources={"memory": {"limit": 64 * MIB}}
    )
    assert cgroup == CGROUPS / "masu.slice/masu-own.slice"
    assert show("masu-own.slice", "MemoryMax", "ActiveState") == {"MemoryMax": str(64 * MIB), "ActiveState": "active"}
    masu_oci("delete", "--force", id)
    assert not cgroup.exists()
    subprocess.run(["systemctl", "stop", "masu.slice"], check=True)
    # One that is there is somebody else's: to stop it would stop all that is in it.
    refused = masu_oci(
        "run", "--bundle", str(masu_oci.bundle(probe_rootfs, sleeping(cgroupsPath="::system.slice"))),
        masu_oci.id(), check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "already exists" in refused.stderr
    assert show("system.slice", "ActiveState") == {"ActiveState": "active"}


@pytest.mark.parametrize(
    "path",
    ["/absolute", "a:b", "system:runc:x", "a--b.slice:runc:x", "a/b.slice:runc:x", "a b.slice:runc:x", ":runc:a b"],
)
def test_paths_that_are_refused(runtime: Runtime, probe_rootfs: Path, path: str) -> None:
    if runtime.name == "runc" and " " in path:
        return  # leaves it to systemd
    bundle = str(runtime.bundle(probe_rootfs, sleeping(cgroupsPath=path)))
    refused = runtime("create", "--bundle", bundle, runtime.id(), check=False)
    assert refused.returncode == 1
    assert any(words in refused.stderr for words in ("slice:prefix:name", "invalid slice name", "systemd unit name"))
    assert runtime("list", "-q", check=False).stdout == ""


def test_properties_by_annotation(runtime: Runtime, probe_rootfs: Path) -> None:
    prefix = "org.systemd.property."
    annotations = {
        f"{prefix}TimeoutStopUSec": "uint64 123456789",
        f"{prefix}RuntimeMaxSec": "3600",
        f"{prefix}CollectMode": "'inactive-or-failed'",
        f"{prefix}Documentation": "@as ['man:runc(8)']",
    }
    _, cgroup = started(runtime, probe_rootfs, annotations=annotations)
    assert show(cgroup.name, "TimeoutStopUSec", "RuntimeMaxUSec", "CollectMode", "Documentation") == {
        "TimeoutStopUSec": "2min 3.456789s", "RuntimeMaxUSec": "1h", "CollectMode": "inactive-or-failed",
        "Documentation": '"man:runc(8)"',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [("X", "1"), ("Memory.Max", "uint64 1"), ("MemoryMax", "lots"), ("NoSuchProperty", "true")]
)
def test_annotations_that_are_refused(runtime: Runtime, probe_rootfs: Path, name: str, value: str) -> None:
    annotations = {f"org.systemd.property.{name}": value}
    bundle = str(runtime.bundle(probe_rootfs, sleeping(annotations=annotations)))
    id = runtime.id()
    refused = runtime("create", "--bundle", bundle, id, check=False)
    assert refused.returncode == 1
    assert name in refused.stderr
    assert not loaded(f"runc-{id}.scope")
    assert runtime("list", "-q", check=False).stdout == ""


def with_kmsg(*rules: dict[str, Any]) -> Any:
    """The machine's /dev, and the capability that /dev/kmsg (1:11) asks for: what forbids it is the rules alone."""

    def change(config: dict[str, Any]) -> None:
        sleeping(resources={"devices": list(rules)})(config)
        config["mounts"][1:] = [{"destination": "/dev", "type": "bind", "source": "/dev", "options": ["bind"]}]
        for capabilities in config["process"]["capabilities"].values():
            capabilities.append("CAP_SYSLOG")

    return change


def test_devices_stay_as_they_are(runtime: Runtime, probe_rootfs: Path) -> None:
    nothing = {"allow": False, "access": "rwm"}
    reading = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}
    id = runtime.id()
    launch(runtime, id, with_kmsg(nothing, reading), probe_rootfs)
    unit = f"runc-{id}.scope"

    def opens() -> list[str]:
        wanted = ("/dev/kmsg", "r"), ("/dev/kmsg", "w"), ("/dev/null", "rw")
        words = [word for path, how in wanted for word in ("open", path, how, "--")]
        return runtime("exec", id, "/bin/probe", *words[:-1]).stdout.split("\n")[:3]

    assert opens() == ["ok", "ERROR EPERM", "ok"]
    assert show(unit, "DevicePolicy") == {"DevicePolicy": "strict"}
    assert "/dev/char/1:11 r" in show(unit, "DeviceAllow")["DeviceAllow"].splitlines()
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert opens() == ["ok", "ERROR EPERM", "ok"]
    runtime("update", "--pids-limit", "50", id)
    assert opens() == ["ok", "ERROR EPERM", "ok"]


def test_all_devices_but_one(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """systemd has no word for it; it must not make less of it when it writes all anew."""
    all_but_one = {"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 11,
                                                     "access": "rwm"}  # fmt: skip
    id = masu_oci.id()
    launch(masu_oci, id, with_kmsg(*all_but_one), probe_rootfs)
    for _ in range(2):
        done = masu_oci("exec", id, "/bin/probe", "open", "/dev/kmsg", "r", "--", "open", "/dev/zero", "r")
        assert done.stdout == "ERROR EPERM\nok\n"
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def test_a_unit_of_that_name_is_there(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Debian's runc starts a container beside the other, outside of any limit."""
    runtime = masu_oci
    _, cgroup = started(runtime, probe_rootfs, cgroupsPath=":box:twice")
    before = read(cgroup, "cgroup.procs")
    bundle = str(runtime.bundle(probe_rootfs, sleeping(cgroupsPath=":box:twice")))
    refused = runtime("create", "--bundle", bundle, runtime.id(), check=False)
    assert refused.returncode == 1
    assert "box-twice.scope" in refused.stderr
    assert "container's cgroup is not empty" in refused.stderr
    # The first one goes on as it was.
    assert read(cgroup, "cgroup.procs") == before
    assert show("box-twice.scope", "ActiveState") == {"ActiveState": "active"}


def test_a_unit_of_that_name_has_failed(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Kept for somebody to look at, if that is asked for; the name is free all the same."""
    runtime = masu_oci
    prefix = "org.systemd.property."
    short = {f"{prefix}RuntimeMaxUSec": "uint64 1000000", f"{prefix}CollectMode": "'inactive'"}
    id = runtime.id()
    bundle = runtime.bundle(probe_rootfs, sleeping(cgroupsPath=":box:failed", annotations=short))
    runtime("create", "--bundle", str(bundle), id)
    wait_exited(runtime.state(id)["pid"])
    wait_failed("box-failed.scope")
    again, cgroup = started(runtime, probe_rootfs, cgroupsPath=":box:failed")
    assert cgroup.name == "box-failed.scope"
    assert show("box-failed.scope", "ActiveState") == {"ActiveState": "active"}
    runtime("delete", "--force", again)
    assert not loaded("box-failed.scope")


def test_a_cgroup_of_that_name_is_frozen(masu_oci: Runtime, probe_rootfs: Path) -> None:
    cgroup = CGROUPS / "system.slice/box-cold.scope"
    cgroup.mkdir()
    (cgroup / "cgroup.freeze").write_text("1")
    bundle = str(masu_oci.bundle(probe_rootfs, sleeping(cgroupsPath=":box:cold")))
    refused = masu_oci("create", "--bundle", bundle, masu_oci.id(), check=False)
    assert refused.returncode == 1
    assert "container's cgroup unexpectedly frozen" in refused.stderr
    cgroup.rmdir()


def wait_failed(unit: str) -> None:
    # Stopped by its own time: systemd says so a moment after the last process has gone.
    deadline = time.monotonic() + 20
    while show(unit, "ActiveState")["ActiveState"] != "failed":
        assert time.monotonic() < deadline


def wait_unloaded(unit: str) -> None:
    """systemd takes an empty scope away by itself, when it comes to it."""
    deadline = time.monotonic() + 20
    while loaded(unit):
        assert time.monotonic() < deadline, show(unit, "ActiveState", "SubState", "Result", "ControlGroup")


def test_a_create_that_is_killed_leaves_nothing(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Wherever it is hit: systemd takes the scope away, and the next create has the id and the name."""
    id = masu_oci.id()
    bundle = str(masu_oci.bundle(probe_rootfs, sleeping()))
    unit = f"runc-{id}.scope"
    for delay_ms in range(60, 360, 50):
        # Not a wait for luck: each time is another place to be hit at, and all must do.
        subprocess.run(
            ["timeout", "--signal=KILL", f"{delay_ms / 1000}", *masu_oci.command, "create", "--bundle", bundle, id],
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        masu_oci("delete", "--force", id)
        wait_unloaded(unit)
        assert not (CGROUPS / "system.slice" / unit).exists()
    masu_oci("run", "-d", "--bundle", bundle, id)
    assert masu_oci.state(id)["status"] == "running"


def test_a_create_that_fails_late_leaves_nothing(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """When the container's process is in the scope already: systemd would take it for active for ever."""
    id = masu_oci.id()
    bundle = str(masu_oci.bundle(probe_rootfs, sleeping()))
    failed = masu_oci("create", "--pid-file", "/nowhere/pid", "--bundle", bundle, id, check=False)
    assert failed.returncode == 1
    assert "cleaning up" not in failed.stderr
    assert not loaded(f"runc-{id}.scope")
    masu_oci("run", "-d", "--bundle", bundle, id)
    assert masu_oci.state(id)["status"] == "running"


def test_a_container_whose_state_is_lost(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id, cgroup = started(masu_oci, probe_rootfs)
    pid = masu_oci.state(id)["pid"]
    (masu_oci.root / id / "state.json").write_text("{")
    masu_oci("delete", "--force", id)
    wait_exited(pid)
    assert not cgroup.exists()


def test_systemd_stops_it(runtime: Runtime, probe_rootfs: Path) -> None:
    id, cgroup = started(runtime, probe_rootfs)
    pid = runtime.state(id)["pid"]
    subprocess.run(["systemctl", "kill", "--signal=KILL", cgroup.name], check=True)
    wait_exited(pid)
    assert runtime.state(id)["status"] == "stopped"
    runtime("delete", id)
    assert not cgroup.exists()


def test_without_the_bus(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """systemd's own socket does where there is no bus, or none that answers."""
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/nowhere"
    try:
        id, cgroup = started(masu_oci, probe_rootfs)
        masu_oci("update", "--pids-limit", "9", id)
        assert show(cgroup.name, "TasksMax") == {"TasksMax": "9"}
        masu_oci("delete", "--force", id)
        assert not loaded(cgroup.name)
    finally:
        del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]


def test_run_in_the_foreground(runtime: Runtime, probe_rootfs: Path) -> None:
    done = runtime.run(probe_rootfs, "exit", "7", check=False)
    assert done.returncode == 7
    assert not loaded(f"runc-{runtime.ids[-1]}.scope")


def test_interrupted_in_the_foreground(masu_oci: Runtime, probe_rootfs: Path) -> None:
    id = masu_oci.id()
    pid_file = masu_oci.folder / "pid"
    command = ["run", "--pid-file", str(pid_file), "--bundle", str(masu_oci.bundle(probe_rootfs, sleeping())), id]
    with subprocess.Popen([*masu_oci.command, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 30
        while not pid_file.exists() and time.monotonic() < deadline:
            os.sched_yield()
        run.send_signal(signal.SIGKILL)
    # Its container lives on, as a detached one does.
    assert masu_oci.state(id)["status"] == "running"
    masu_oci("delete", "--force", id)
    assert not loaded(f"runc-{id}.scope")


# --- a user's own systemd ------------------------------------------------------------------------------------------


@pytest.fixture
def user_manager() -> Iterator[None]:
    """uid 1000 has a systemd of their own."""
    subprocess.run(["systemctl", "start", "user-manager.service"], check=True)
    yield
    subprocess.run(["systemctl", "stop", "user-manager.service", "user-1000.slice", "user.slice"], check=True)


@pytest.fixture
def namespace() -> Iterator[list[str]]:
    """What puts a command into a user namespace of uid 1000, as root there: so Podman calls a runtime, rootless."""
    holder = subprocess.Popen(
        ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "unshare", "--user", "--mount", "cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(b"there\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == b"there\n"
    for kind in ("uid", "gid"):
        Path(f"/proc/{holder.pid}/{kind}_map").write_text("0 1000 1\n1 100000 65536\n")
    yield ["nsenter", "--target", str(holder.pid), "--user", "--mount", "--setuid=0", "--setgid=0"]
    holder.communicate()


@pytest.mark.usefixtures("user_manager")
def test_a_users_own_systemd(masu_oci: Runtime, probe_rootfs: Path, namespace: list[str]) -> None:
    """It moves processes into the scope that we have no right to move there: ours are in the session's cgroup."""
    for folder in (masu_oci.folder, *masu_oci.folder.parents[:2], *probe_rootfs.parents[:2]):
        folder.chmod(0o755)
    masu_oci.root.mkdir()
    os.chown(masu_oci.root, 1000, 1000)
    masu_oci.command[:0] = [*namespace, "env", "XDG_RUNTIME_DIR=/run/user/1000"]
    resources = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}
    bundle = masu_oci.bundle(probe_rootfs, sleeping(resources=resources))
    id = masu_oci.id()
    masu_oci("run", "-d", "--bundle", str(bundle), id, stdout=subprocess.DEVNULL)
    pid = masu_oci.state(id)["pid"]
    cgroup = cgroup_of(pid)
    manager = "user.slice/user-1000.slice/user-manager.service"
    assert cgroup == CGROUPS / manager / f"user.slice/runc-{id}.scope"
    assert read(cgroup, "cgroup.procs", "memory.max", "pids.max") == [str(pid), str(64 * MIB), "20"]
    # Its cgroup namespace was made in its cgroup, and what joins it later is there, too.
    assert masu_oci("exec", id, "/bin/probe", "cat", "/proc/self/cgroup").stdout.strip() == "0::/"
    masu_oci("update", "--pids-limit", "30", id)
    assert read(cgroup, "pids.max") == ["30"]
    masu_oci("delete", "--force", id)
    assert not cgroup.exists()
    # Without the way to it the user is told what is missing.
    masu_oci.command[len(namespace) + 1] = "XDG_RUNTIME_DIR="
    refused = masu_oci("run", "--bundle", str(bundle), masu_oci.id(), check=False)
    assert "$XDG_RUNTIME_DIR" in refused.stderr
