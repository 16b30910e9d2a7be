"""Devices that are not on the list, cgroups of others, kernel settings, families of sockets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from harness.oci import Runtime
from kernel.security.staging import Config, Outside, Victim, mount, probe

from masu.linux import cgroups
from masu.linux.seccomp_default import default_profile

pytestmark = pytest.mark.root

KMSG = ("c", "1", "11")
LOOP = ("b", "7", "0")


def may_mknod(config: Config) -> None:
    for name in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][name] += ["CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_ADMIN"]


ASKED: dict[str, Any] = {
    "nothing": None,
    "no list": {},
    "an empty list": {"devices": []},
    "something else": {"devices": [{"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]},
    "only mknod": {"devices": [{"allow": True, "type": kind, "access": "m"} for kind in "bc"]},
    "other kind": {"devices": [{"allow": True, "type": "b", "major": 1, "minor": 11, "access": "rwm"}]},
    "a prefix": {"devices": [{"allow": True, "type": "c", "major": 1, "minor": 1, "access": "rwm"}]},
}


@pytest.mark.parametrize("what", ASKED)
def test_ghsa_g54h_m393_cpwq(masu_oci: Runtime, own_probe_rootfs: Path, what: str) -> None:
    """Devices are denied unless allowed: a node that the container makes itself, or finds in its image, opens not."""
    os.mknod(own_probe_rootfs / "kmsg", 0o020666, os.makedev(1, 11))
    os.mknod(own_probe_rootfs / "loop", 0o060666, os.makedev(7, 0))

    def change(config: Config) -> None:
        may_mknod(config)
        if ASKED[what] is not None:
            config["linux"]["resources"] = ASKED[what]

    look: list[str] = []
    for path in ("/kmsg", "/loop", "/tmp/kmsg", "/tmp/loop"):
        look += ["open", path, "r", "--", "open", path, "w", "--"]
    make = ["mknod", "/tmp/kmsg", *KMSG, "--", "mknod", "/tmp/loop", *LOOP, "--"]
    done = masu_oci.run(own_probe_rootfs, *make, *look, "open", "/dev/null", "rw", change=change)
    *refused, null = done.stdout.splitlines()[2:]
    assert set(refused) == {"ERROR EPERM"}
    assert len(refused) == 8
    assert null == "ok"
    with Victim(masu_oci, own_probe_rootfs, change=change) as victim:
        assert victim.exec("/bin/probe", "open", "/kmsg", "r").stdout == "ERROR EPERM\n"


def test_ghsa_g54h_m393_cpwq_allowed(masu_oci: Runtime, own_probe_rootfs: Path) -> None:
    """The same nodes with a rule for them: so it was the rules above that refused, and rules count in their order."""
    allow = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rwm"}
    deny = {"allow": False, "access": "rwm"}

    def run(*rules: Config) -> str:
        def change(config: Config) -> None:
            may_mknod(config)
            config["linux"]["resources"] = {"devices": list(rules)}

        (own_probe_rootfs / "kmsg").unlink(missing_ok=True)
        os.mknod(own_probe_rootfs / "kmsg", 0o020666, os.makedev(1, 11))
        return masu_oci.run(own_probe_rootfs, "open", "/kmsg", "r", change=change).stdout

    assert run(deny, allow) == "ok\n"
    assert run({"allow": True, "access": "rwm"}) == "ok\n"
    assert run(allow, deny) == "ERROR EPERM\n"


PATHS = ["..", "../..", "/..", "/", "//", ".", "./..", "a/../..", "/a/../../..", "../masu-test-sibling", "a\nb", "a\0b",
         "/" + "x/" * 3000]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_cgroup_paths_that_lead_out(masu_oci: Runtime, probe_rootfs: Path, path: str) -> None:
    """A cgroupsPath that climbs, or is nothing: the container would be limited, killed and removed as another."""

    def change(config: Config) -> None:
        config["linux"]["cgroupsPath"] = path

    done = masu_oci.run(probe_rootfs, "exit", "0", change=change, check=False)
    assert done.returncode == 1
    assert "linux.cgroupsPath" in done.stderr
    assert "Traceback" not in done.stderr


def test_cgroup_of_another_container(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """A cgroup where processes are belongs to somebody: a second container is refused, and the first lives on."""
    with Victim(masu_oci, probe_rootfs) as victim:

        def change(config: Config) -> None:
            config["linux"]["cgroupsPath"] = "/" + victim.id

        done = masu_oci.run(probe_rootfs, "exit", "0", change=change, check=False)
        assert done.returncode == 1
        assert masu_oci.state(victim.id)["status"] == "running"
        for option in ("../..", "/..", "a/../../..", "/etc"):
            done = victim.exec("/bin/probe", "exit", "0", options=("--cgroup", option), check=False)
            assert done.returncode == 255, done


def test_cve_2025_47291(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """Every process of a container is in its cgroup of every hierarchy, and its limits hold for it: with a user
    namespace, too, and in `exec`."""

    def mapped(config: Config) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        for name in ("uidMappings", "gidMappings"):
            config["linux"][name] = [{"containerID": 0, "hostID": 0, "size": 65536}]

    for change in (None, mapped):
        with Victim(masu_oci, probe_rootfs, change=change) as victim:
            pid_file = masu_oci.folder / "exec.pid"
            masu_oci("exec", "-d", "--pid-file", str(pid_file), victim.id, "/bin/probe", "sleep")
            for pid in (victim.pid, int(pid_file.read_text())):
                lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
                mounted = {name for mount in cgroups.detect().mounts for name in mount.split(",")}
                for line in lines:
                    _, names, path = line.split(":", 2)
                    if set(names.removeprefix("name=").split(",")) & mounted:
                        assert path.endswith("/" + victim.id), lines


def test_cve_2023_25809(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """The cgroup tree as a container sees it, without a cgroup namespace: its own part, and read-only if so asked."""

    def with_cgroups(config: Config) -> None:
        config["mounts"] += [mount("/sys", "sysfs", "sysfs", "ro"), mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")]
        may_mknod(config)

    attempts = []
    for folder in ("pids", "memory", "unified", ""):
        for file in ("release_agent", "../release_agent", "cgroup.procs", "../cgroup.procs", "notify_on_release"):
            attempts += ["write", f"/sys/fs/cgroup/{folder}/{file}", "1", "--"]
        attempts += ["mkdir", f"/sys/fs/cgroup/{folder}/made", "--"]
    done = masu_oci.run(probe_rootfs, *attempts[:-1], change=with_cgroups)
    assert "ok" not in done.stdout.split(), done.stdout
    assert "EROFS" in done.stdout  # they were there to be written to


# In the attacks it is core_pattern. Should one succeed here, the machine gets a value that it has already.
HOSTS = "kernel.printk_ratelimit_burst"
SYSCTLS = [
    HOSTS, HOSTS.replace(".", "/"), f"kernel.shm_rmid_forced+{HOSTS}", f"kernel.shm_rmid_forced\n{HOSTS}",
    "net/../kernel/printk_ratelimit_burst", "net.ipv4/../../kernel/printk_ratelimit_burst", f"net./../{HOSTS}",
    "net.ipv4.ip_forward\n", "net.ipv4.ip_forward\0", "../kernel/printk_ratelimit_burst",
    "/proc/sys/kernel/printk_ratelimit_burst", "net/ipv4/../../kernel/printk_ratelimit_burst", "net", "", ".", "..",
    "kernel.hostname", "user.max_user_namespaces",
]  # fmt: skip


@pytest.mark.parametrize("key", SYSCTLS)
def test_cve_2022_0811(masu_oci: Runtime, probe_rootfs: Path, key: str) -> None:
    """Keys that bring another setting along, climb out of /proc/sys, or are the whole machine's."""
    present = Path("/proc/sys/kernel/printk_ratelimit_burst").read_text().strip()

    def change(config: Config) -> None:
        config["linux"]["sysctl"] = {key: present}

    done = masu_oci.run(probe_rootfs, "exit", "0", change=change, check=False)
    assert done.returncode == 1
    assert "linux.sysctl" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("value", [f"1\n{HOSTS}=11", f"1+{HOSTS}=11", "1 2"])
def test_cve_2022_0811_values(masu_oci: Runtime, probe_rootfs: Path, value: str) -> None:
    """A value is written to one file, whatever is in it."""
    before = Path("/proc/sys/kernel/printk_ratelimit_burst").read_text()

    def change(config: Config) -> None:
        config["linux"]["sysctl"] = {"net.ipv4.ip_forward": value}

    assert masu_oci.run(probe_rootfs, "exit", "0", change=change, check=False).returncode == 1
    assert Path("/proc/sys/kernel/printk_ratelimit_burst").read_text() == before


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("net.ipv4.ip_default_ttl", "network"),
        ("kernel.shm_rmid_forced", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ],
)
def test_cve_2022_0532(masu_oci: Runtime, probe_rootfs: Path, key: str, kind: str) -> None:
    """A setting of a namespace that the container shares with the host is the host's."""

    def shared(config: Config) -> None:
        config["linux"]["namespaces"] = [item for item in config["linux"]["namespaces"] if item["type"] != kind]
        if kind == "uts":
            del config["hostname"]
        # The present value, so that a test that fails changes nothing.
        config["linux"]["sysctl"] = {key: Path("/proc/sys", key.replace(".", "/")).read_text().strip()}

    done = masu_oci.run(probe_rootfs, "exit", "0", change=shared, check=False)
    assert done.returncode == 1
    assert "linux.sysctl" in done.stderr

    def by_path(config: Config) -> None:
        shared(config)
        path = "/proc/self/ns/" + ("net" if kind == "network" else kind)
        config["linux"]["namespaces"].append({"type": kind, "path": path})

    done = masu_oci.run(probe_rootfs, "exit", "0", change=by_path, check=False)
    assert done.returncode == 1, "the host's own namespace, named by its path"
    assert "linux.sysctl" in done.stderr


def test_cve_2026_31431(masu_oci: Runtime, probe_rootfs: Path) -> None:
    """AF_ALG ("Copy Fail") and AF_VSOCK under the default profile; the families beside them are not meant."""

    def confined(config: Config) -> None:
        profile = default_profile({"CAP_NET_RAW"})
        config["linux"]["seccomp"] = json.loads(json.dumps(profile))

    families = ((38, 5), (40, 1), (38, 2), (1, 1), (2, 1), (16, 3))
    look = " -- ".join(f"socket {family} {kind}" for family, kind in families).split()
    assert masu_oci.run(probe_rootfs, *look, change=confined).stdout.split("\n") == [
        "ERROR EPERM", "ERROR EPERM", "ERROR EPERM", "ok", "ok", "ok", "",
    ]  # fmt: skip
    # Without the filter it is not EPERM: the kernel's own answer, whether or not it has these families.
    assert "EPERM" not in masu_oci.run(probe_rootfs, *look).stdout


def test_ghsa_7ww5_powercap(masu_oci: Runtime, probe_rootfs: Path, outside: Outside) -> None:
    """Energy counters tell what others compute: the engine's list of masks has them."""
    from masu.engine.compose import MASKED_PATHS

    assert "/sys/devices/virtual/powercap" in MASKED_PATHS

    assert os.listdir("/sys/devices/virtual/workqueue")  # a directory that every machine has, hidden the same way

    def masked(config: Config) -> None:
        probe(config, "ls", "/sys/devices/virtual/workqueue")
        config["mounts"].append(mount("/sys", "sysfs", "sysfs", "ro"))
        config["linux"]["maskedPaths"] = [*MASKED_PATHS, "/sys/devices/virtual/workqueue"]

    done = masu_oci("run", "--bundle", str(masu_oci.bundle(probe_rootfs, masked)), masu_oci.id())
    assert done.stdout == ""
